"""The event-driven integrator against matrix exponentials, scalar closed forms and the balance of H."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_l1 import Flow
from scipy.optimize import brentq

import lionode as ln
from lionode.flow.base import Budget, Options, Unsuitable
from lionode.flow.event import integrate
from lionode.trajectory import Status

POINTWISE = 1e-9
"""The accuracy promised at rtol = 1e-10, relative to 1 for states of order 1."""

A2, B2 = np.array([[3.0, 0.8], [0.8, 1.2]]), np.array([2.5, -1.7])
KAPPAS = {"l1": ln.kappas.L1(), "soft": ln.kappas.SoftThreshold(0.3)}


def run(system, x0, m0=None, t_end=20.0, tol=1e-10, steps=100_000, seconds=20.0, **extra):
    x0 = np.asarray(x0, float)
    m0 = np.zeros_like(x0) if m0 is None else np.asarray(m0, float)
    return integrate(system, x0, m0, t_end, Options(tol, tol, extra=extra), Budget(steps, seconds))


def random_quadratic(d, seed):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return (q * rng.uniform(0.4, 3.0, d)) @ q.T, rng.normal(size=d) * 2, rng


def compare(A, b, kappa, coefficients, x0, m0, t_end):
    A = (A + A.T) / 2
    oracle = Flow(A, b, *coefficients, x0, m0, t_end, kappa.kinks, kappa.slopes)
    found = run(ln.LionK(ln.objectives.quadratic(A, b), kappa, *coefficients), x0, m0, t_end)
    assert found.status == Status.FINISHED, found.message
    assert [(e.kind, e.components) for e in found.events] == [e[1:] for e in oracle.events]
    np.testing.assert_allclose([e.t for e in found.events], [e[0] for e in oracle.events], rtol=0, atol=1e-8)
    times = np.linspace(0, t_end, 61)
    d = len(b)
    gap = np.abs(found.dense(times) - oracle(times))
    error = gap[:, : 2 * d].max()
    scale = max(1.0, np.abs(x0).max(), np.abs(m0).max())
    assert error <= POINTWISE * scale
    # The selection, on sliding arcs too; at an event it jumps, and sliding it is m's rate over ε.
    apart = [np.abs(t - np.array([e[0] for e in oracle.events] or [np.inf])).min() > 1e-3 for t in times]
    assert gap[apart, 2 * d :].max() <= POINTWISE * scale / max(coefficients[2], 1e-2)
    return found


TABLE = [
    pytest.param(d, kappa, epsilon, lam, id=f"{d}-{kappa}-{epsilon:g}-{lam:g}")
    for d in (2, 5)
    for kappa in KAPPAS
    for epsilon in (1e-3, 0.1, 0.4, 1 / 1.3)
    for lam in (0.2, 1.6)
]


@pytest.mark.parametrize(("d", "kappa", "epsilon", "lam"), TABLE)
def test_states_and_events_are_those_of_the_matrix_exponential(d, kappa, epsilon, lam):
    A, b, rng = random_quadratic(d, d)
    x0, m0 = rng.normal(size=d) / lam, rng.normal(size=d)
    compare(A, b, KAPPAS[kappa], (0.7, 1.3, epsilon, lam), x0, m0, 3.0)


@pytest.mark.parametrize("lam", [0.3, 1.6])
def test_fifty_components(lam):
    A, b, rng = random_quadratic(50, 50)
    found = compare(
        A, b, KAPPAS["l1"], (0.7, 1.3, 0.3, lam), rng.normal(size=50) / lam, rng.normal(size=50), 0.7
    )
    assert len(found.events) >= 10


@pytest.mark.parametrize("lam", [0.3, 1.6])
def test_without_look_ahead_every_event_is_a_crossing_until_the_tail(lam):
    found = compare(
        A2, B2, KAPPAS["l1"], (0.7, 1.3, 0.0, lam), np.array([1.9, -1.4]), np.array([0.3, -0.2]), 5.0
    )
    assert {e.kind for e in found.events} == {"crossing"}


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    st.integers(1, 3),
    st.integers(0, 10**6),
    st.floats(0.02, 0.75),
    st.floats(0.1, 2.0),
    st.sampled_from(["l1", "soft"]),
)
def test_random_quadratics(d, seed, epsilon, lam, kappa):
    A, b, rng = random_quadratic(d, seed)
    x0, m0 = rng.normal(size=d), rng.normal(size=d)
    compare(A, b, KAPPAS[kappa], (0.7, 1.3, epsilon, lam), x0, m0, 4.0)


def test_a_scalar_crosses_at_the_known_time_and_slides_in_closed_form():
    """α = 1, γ = 0, f = x²/2, λ = 1, x(0) = 2, m(0) = 3."""
    epsilon = 0.5
    system = ln.LionK(ln.objectives.quadratic([[1.0]]), ln.kappas.L1(), 1.0, 0.0, epsilon, 1.0)
    found = run(system, [2.0], [3.0])
    # m̃ starts positive: x = 1 + e^{−t}, m = 3 − t − (1 − e^{−t}), m̃ = 2 − t + e^{−t} − ε(1 + e^{−t}).

    time = brentq(lambda t: 2 - t + math.exp(-t) - epsilon * (1 + math.exp(-t)), 0, 5, xtol=1e-14)
    first = found.events[0]
    assert abs(first.t - time) < 1e-11
    # There m̃' = −x − ε(u − x) < 0 for u = ±1 both: it crosses.
    assert first.kind == "crossing"
    last = found.events[-1]
    assert last.kind == "slide-in"
    t = np.linspace(last.t, 20.0, 9)[1:]
    x_in, m_in = found.dense(last.t)[:2]
    np.testing.assert_allclose(found.dense(t)[:, 1], m_in * np.exp(-(t - last.t) / epsilon), atol=1e-12)
    np.testing.assert_allclose(found.dense(t)[:, 0], x_in * np.exp(-(t - last.t) / epsilon), atol=1e-12)
    np.testing.assert_allclose(found.dense(t)[:, 2], (1 - 1 / epsilon) * found.dense(t)[:, 0], atol=1e-11)


@pytest.mark.parametrize("kappa", KAPPAS)
@pytest.mark.parametrize("epsilon", [0.05, 0.4, 1 / 1.3])
def test_the_dissipation_balance_closes_on_sliding_arcs(kappa, epsilon):
    alpha, gamma, lam, e = 0.7, 1.3, 0.45, 0.0 if kappa == "l1" else 0.3
    system = ln.LionK(ln.objectives.quadratic(A2, B2), KAPPAS[kappa], alpha, gamma, epsilon, lam)
    found = run(system, [1.1, -1.4], [0.3, -0.2])
    assert any(event.kind == "slide-in" for event in found.events)
    c = (1 - epsilon * gamma) / (1 + epsilon * lam)

    def energy(x, m):
        penalty, potential = e * np.abs(lam * x).sum(-1), np.maximum(np.abs(m) - e, 0).sum(-1)
        f = np.einsum("...i,ij,...j", x, A2, x) / 2 - x @ B2
        return alpha * f + gamma / lam * penalty + c * (penalty + potential - lam * (m * x).sum(-1))

    nodes, weights = np.polynomial.legendre.leggauss(8)
    total, breaks = 0.0, found.dense.breaks
    for low, high in itertools.pairwise(breaks):
        # s and z jump where m_i or x_i changes sign inside a step: split there.
        fine = np.linspace(low, high, 400)
        values = found.dense(fine)
        marks = np.concatenate([values[:, :2], values[:, 2:4] - e, values[:, 2:4] + e], axis=1)
        cuts = [low, high]
        for k, j in zip(*np.nonzero(marks[:-1] * marks[1:] < 0), strict=True):
            a, b = fine[k], fine[k + 1]
            pick = (
                (lambda t, j=j: found.dense(t)[j])
                if j < 2
                else (lambda t, j=j: found.dense(t)[2 + j % 2] + (e if j >= 4 else -e))
            )

            cuts.append(brentq(pick, a, b, xtol=1e-15))
        cuts = np.sort(cuts)
        for a, b in itertools.pairwise(cuts):
            y = found.dense((a + b) / 2 + (b - a) / 2 * nodes)
            x, m, u = y[:, :2], y[:, 2:4], y[:, 4:]
            m_dot = -alpha * (x @ A2 - B2) - gamma * m
            s, z = np.sign(m) * (np.abs(m) > e), e * np.sign(x)
            delta = ((m + epsilon * m_dot - z) * (u - lam * x)).sum(1)
            rate = (lam + gamma) / (1 + epsilon * lam) * delta + c * (m_dot * (u - s)).sum(1)
            total += (b - a) / 2 * weights @ rate
    start, end = found.dense(breaks[[0, -1]])
    assert abs(energy(end[:2], end[2:4]) - energy(start[:2], start[2:4]) + total) <= 1e-8


def test_stiffness_in_epsilon_is_gone():
    counts = {}
    for epsilon in (0.1, 1e-5):
        system = ln.LionK(ln.objectives.quadratic(A2, B2), ln.kappas.L1(), 0.7, 1.3, epsilon, 0.3)
        found = run(system, [1.9, -1.4], [0.3, -0.2])
        assert found.status == Status.FINISHED
        counts[epsilon] = found.nfev / (1 + len(found.events))
    assert counts[1e-5] <= 2 * counts[0.1]


def test_a_dozen_events_cost_less_than_5000_gradients():
    system = ln.LionK(ln.objectives.quadratic(A2, B2), ln.kappas.L1(), 0.7, 1.3, 0.01, 0.3)
    found = run(system, [1.9, -1.4], [0.3, -0.2])
    assert len(found.events) >= 12
    assert found.nfev <= 5000


HARD = {
    "one component": (ln.objectives.quadratic([[2.0]], [1.0]), (0.7, 1.3, 0.4, 1.6), [2.0], [0.5], 20.0),
    "linear": (ln.objectives.linear([1.0, -2.0]), (0.7, 1.3, 0.4, 1.6), [2.0, 0.1], [3.0, -3.0], 20.0),
    "linear, lam 0": (ln.objectives.linear([1.0, -2.0]), (0.7, 1.3, 0.4, 0.0), [2.0, 0.1], [3.0, 3.0], 20.0),
    "singular": (
        ln.objectives.quadratic([[1.0, 1.0], [1.0, 1.0]]),
        (0.7, 1.3, 0.4, 0.6),
        [2.0, 0.1],
        [3.0, 1.0],
        20.0,
    ),
    "on a surface": (
        ln.objectives.quadratic(A2),
        (0.7, 1.3, 0.4, 0.6),
        [1.2, -3.0 * 1.2 / 0.8],
        [0.0, 0.0],
        20.0,
    ),
    "at the minimum": (ln.objectives.quadratic(A2), (0.7, 1.3, 0.4, 0.6), [0.0, 0.0], [0.0, 0.0], 1e4),
    "at a corner": (
        ln.objectives.quadratic(A2, B2),
        (0.7, 1.3, 0.4, 1.6),
        [1 / 1.6, -1 / 1.6],
        [0.0, 0.0],
        20.0,
    ),
    "on a face": (ln.objectives.quadratic(A2, B2), (0.7, 1.3, 0.4, 1.6), [1 / 1.6, 0.2], [0.0, 0.0], 20.0),
    "lam 0": (ln.objectives.quadratic(A2, B2), (0.7, 1.3, 0.4, 0.0), [2.0, -3.0], [0.0, 0.0], 50.0),
    "lam tiny": (ln.objectives.quadratic(A2, B2), (0.7, 1.3, 0.4, 1e-6), [2.0, -3.0], [0.0, 0.0], 50.0),
    "lam huge": (ln.objectives.quadratic(A2, B2), (0.7, 1.3, 0.4, 1e6), [2.0, -3.0], [0.0, 0.0], 5.0),
    "long": (ln.objectives.quadratic(A2, B2), (0.7, 1.3, 0.4, 0.3), [2.0, -3.0], [0.0, 0.0], 1e4),
    "m0 huge": (ln.objectives.quadratic(A2, B2), (0.7, 1.3, 0.4, 0.3), [2.0, -3.0], [1e8, -1e8], 60.0),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_cases_end_right_in_few_gradients(name):
    objective, coefficients, x0, m0, t_end = HARD[name]
    system = ln.LionK(objective, ln.kappas.L1(), *coefficients)
    found = run(system, x0, m0, t_end)
    assert found.status == Status.FINISHED, found.message
    assert found.nfev <= 10_000
    d = len(x0)
    # Every node satisfies the inclusion u ∈ ∂κ(m̃).
    y = found.dense.nodes.reshape(-1, 3 * d)
    x, m, u = y[:, :d], y[:, d : 2 * d], y[:, 2 * d :]
    g = objective.gradient(x)
    m_tilde = system.look_ahead(x, m, g)
    noise = 1e-9 * (1 + np.abs(m) + np.abs(g))
    assert (np.abs(u) <= 1 + 1e-8).all()
    assert ((np.abs(m_tilde) <= noise) | (np.abs(u - np.sign(m_tilde)) < 1e-8)).all()
    # And ẋ = u − λx, ṁ = −α∇f − γm, tested by the integral over each step.
    k = found.dense.nodes.shape[1]
    theta = found.dense.points(k)
    weights = np.linalg.solve(np.vander(theta, increasing=True).T, 1 / np.arange(1, k + 1))
    h = np.diff(found.dense.breaks)[:, None]
    shaped = lambda v: np.einsum("k,nkd->nd", weights, v.reshape(-1, k, d))  # noqa: E731
    node = found.dense.nodes
    scale = 1e-8 * (1 + np.abs(node).max(axis=(1, 2)))[:, None] * (1 + h * system.lam)
    moved = node[:, -1, :d] - node[:, 0, :d]
    assert (np.abs(moved - h * shaped(u - system.lam * x)) <= scale).all()
    moved = node[:, -1, d : 2 * d] - node[:, 0, d : 2 * d]
    assert (np.abs(moved - h * shaped(-system.alpha * g - system.gamma * m)) <= scale * (1 + h)).all()


def test_an_objective_that_overflows_ends_with_a_status():
    def gradient(x):
        return np.array([math.exp(x[0]) if x[0] < 5 else math.inf])

    objective = ln.Objective(lambda x: math.exp(x[0]), gradient, lambda x: np.array([gradient(x)]), dim=1)
    found = run(ln.LionK(objective, ln.kappas.L1(), 0.7, 0.3, 0.0, 0.0), [0.0], [1e4], t_end=50.0)
    assert found.status == Status.NON_FINITE
    assert found.dense.breaks[-1] == pytest.approx(5.0, abs=1e-6)


def test_the_step_budget_ends_the_run():
    system = ln.LionK(ln.objectives.quadratic(A2, B2), ln.kappas.L1(), 0.7, 1.3, 0.4, 0.3)
    found = run(system, [1.9, -1.4], steps=5)
    assert found.status == Status.BUDGET
    assert 0 < found.dense.breaks[-1] < 20


@pytest.mark.parametrize(
    ("objective", "kappa"),
    [
        (ln.objectives.quadratic(A2), ln.kappas.Huber(0.3)),
        (ln.Objective(lambda x: x @ x, lambda x: 2 * x, dim=2), ln.kappas.L1()),
    ],
)
def test_what_it_cannot_integrate_is_refused(objective, kappa):
    with pytest.raises(Unsuitable, match="event"):
        run(ln.LionK(objective, kappa), [1.0, 2.0])


class TestHandover:
    """Where no exact mode goes on, backward Euler does, and the run says so."""

    @pytest.fixture
    def found(self):
        pytest.importorskip("lionode.flow.backward_euler")
        system = ln.LionK(ln.objectives.quadratic(A2, B2), ln.kappas.L1(), 0.7, 1.3, 0.0, 0.3)
        return run(system, [1.9, -1.4], [0.3, -0.2])

    def test_status_time_and_bound(self, found):
        assert found.status == Status.TAIL_UNRESOLVED
        handover = found.info["handover"]
        assert 0 < handover < 20
        assert f"{handover:g}" in found.message
        assert found.dense.breaks[-1] == pytest.approx(20.0)
        tail = found.dense(np.linspace(handover, 20.0, 50))[:, :2]
        distance = np.linalg.norm(tail - np.linalg.solve(A2, B2), axis=1)
        assert (distance <= found.info["bound"]).all()

    def test_max_events(self):
        pytest.importorskip("lionode.flow.backward_euler")
        system = ln.LionK(ln.objectives.quadratic(A2, B2), ln.kappas.L1(), 0.7, 1.3, 0.01, 0.3)
        found = run(system, [1.9, -1.4], [0.3, -0.2], max_events=5)
        assert found.status == Status.TAIL_UNRESOLVED
        assert len(found.events) == 5
        assert "max_events" in found.message

    def test_exact_ties_of_duplicated_coordinates(self):
        pytest.importorskip("lionode.flow.backward_euler")
        f = ln.objectives.quadratic([[1.0, 1.0], [1.0, 1.0]], [1.0, 1.0])
        found = run(ln.LionK(f, ln.kappas.L1(), 0.7, 1.3, 0.4, 0.3), [2.0, 2.0])
        assert found.status == Status.TAIL_UNRESOLVED
        assert "singular" in found.message
