"""Backward Euler: the theorem that H never rises, the order, the refusals, bad input and hard cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.sparse import csr_array
from tables import KAPPAS

import lionode as ln
from lionode.flow.backward_euler import NotConverged, Work, backward_euler_step, integrate
from lionode.flow.base import Budget, Options
from lionode.trajectory import Status

STEPS_IN_TOTAL = 50_000
BATCH = 60
RISE = 1e-12
"""Relative to the largest term of H: the step equation is solved to 32 roundings of its largest term."""


def _convex(rng, d):
    """A random quadratic, singular in one case of three, or a logistic loss."""
    kind = rng.integers(3)
    if kind < 2:
        rank = d if kind == 0 else max(1, d - 1)
        factor = rng.normal(size=(rank, d)) * 10 ** rng.uniform(-1, 0.5)
        hessian, linear = factor.T @ factor, factor.T @ rng.normal(size=rank)
        return ln.Objective(
            lambda x: 0.5 * np.sum(x @ hessian * x, axis=-1) - x @ linear,
            lambda x: x @ hessian - linear,
            lambda x: np.broadcast_to(hessian, (*x.shape, d)),
            dim=d,
            vectorized=True,
            strong_convexity=0.0,
        )
    data = rng.normal(size=(6, d)) * 3

    def sigmoid(x):
        return 0.5 * (1 + np.tanh(x @ data.T / 2))

    def curvature(x):
        s = sigmoid(x)
        return np.einsum("...k,ki,kj->...ij", s * (1 - s), data, data)

    return ln.Objective(
        lambda x: np.logaddexp(0, x @ data.T).sum(axis=-1),
        lambda x: sigmoid(x) @ data,
        curvature,
        dim=d,
        vectorized=True,
        strong_convexity=0.0,
    )


def _explodes(kappa, d):
    """Whether κ leaves the floats at arguments that a harsh draw reaches."""
    with np.errstate(over="ignore"):
        return not kappa.value(np.full(d, 1e3)) < 1e100


def _system(rng, kappa, d):
    if _explodes(kappa, d):
        gamma = 10 ** rng.uniform(-0.5, 0.5)
        epsilon = rng.choice([0.0, rng.uniform(), 1.0]) / gamma
        lam = 10 ** rng.uniform(-0.5, 0.5)
        return ln.LionK(_convex(rng, d), kappa, 10 ** rng.uniform(-1.5, -0.5), gamma, epsilon, lam)
    gamma = 10 ** rng.uniform(-2, 1)
    epsilon = rng.choice([0.0, rng.uniform(), 1.0]) / gamma
    lam = 0.0 if rng.uniform() < 0.1 else 10 ** rng.uniform(-1.5, 1)
    return ln.LionK(_convex(rng, d), kappa, 10 ** rng.uniform(-1, 1), gamma, epsilon, lam)


def _starts(rng, system, n):
    most = 0 if _explodes(system.kappa, system.dim) else 1
    x = rng.normal(size=(n, system.dim)) * 10 ** rng.uniform(-1, most)
    if system.lam > 0:
        # A tenth of them exactly on the boundary of dom κ*, where a projection puts them.
        x = system.kappa.project(system.lam * x) * rng.choice([1.0, 0.5], size=(n, 1)) / system.lam
        x = system.kappa.project(system.lam * x) / system.lam
    return x, rng.normal(size=(n, system.dim)) * 10 ** rng.uniform(-1, most)


def _energy(system, x, m):
    """H and the size of its largest term, from mathematics.md's formula, not from the library's."""
    kappa, lam = system.kappa, system.lam
    c = (1 - system.epsilon * system.gamma) / (1 + system.epsilon * lam)
    conjugate, value = kappa.conjugate(lam * x), kappa.value(m)
    if lam > 0:
        penalty = system.gamma / lam * conjugate
    else:
        penalty = system.gamma * np.sum(kappa.conjugate_subgradient(np.zeros_like(x)) * x, axis=-1)
    loss, inner = system.alpha * system.objective.value(x), lam * np.sum(m * x, axis=-1)
    terms = [loss, penalty, c * conjugate, c * value, -c * inner]
    return sum(terms), sum(np.abs(t) for t in terms)


def _worst_rise(rng, row, count, step):
    """The largest relative rise of H over `count` steps, and how many of them rose beyond RISE."""
    worst, rose, done = -math.inf, 0, 0
    while done < count:
        system = _system(rng, row.kappa, row.dim)
        x, m = _starts(rng, system, BATCH)
        for _ in range(2):
            h = 10 ** rng.uniform(-3, 3)
            before, size = _energy(system, x, m)
            x, m = step(system, x, m, h)
            after, size_after = _energy(system, x, m)
            rise = (after - before) / np.maximum(1e-300, np.maximum(size, size_after))
            worst, rose = max(worst, float(rise.max())), rose + int((rise > RISE).sum())
            done += BATCH
    return worst, rose


def _implicit(system, x, m, h):
    """One step of each row; a row whose equation is not solved stays where it is, and is counted."""
    try:
        return backward_euler_step(system, x, m, h)[:2]
    except NotConverged:
        pairs = [_alone(system, a, b, h) for a, b in zip(x, m, strict=True)]
        return np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])


UNSOLVED: list[float] = []


def _alone(system, x, m, h):
    try:
        return backward_euler_step(system, x, m, h)[:2]
    except NotConverged:
        UNSOLVED.append(h)
        return x, m


def _explicit(system, x, m, h):
    dx, dm = system.velocity(x, m)
    x, m = x + h * dx, m + h * dm
    return (system.kappa.project(system.lam * x) / system.lam if system.lam > 0 else x), m


def _crank_nicolson(system, x, m, h):
    """θ = 1/2: half a step explicit, half a step implicit."""
    return _implicit(system, *_explicit(system, x, m, h / 2), h / 2)


def _seed(row):
    return np.random.default_rng(list(row.id.encode()))


@pytest.mark.parametrize("row", KAPPAS, ids=[row.id for row in KAPPAS])
def test_h_never_rises_for_convex_f(row):
    UNSOLVED.clear()
    count = math.ceil(STEPS_IN_TOTAL / len(KAPPAS))
    worst, rose = _worst_rise(_seed(row), row, count, _implicit)
    assert rose == 0, worst
    # A refusal says so and moves nothing; 5 of 50 000 were refused when this was written, all of one system.
    assert len(UNSOLVED) <= count / 200


@pytest.mark.parametrize("step", [_explicit, _crank_nicolson])
def test_the_same_harness_sees_other_schemes_rise(step):
    rose = [_worst_rise(_seed(row), row, 600, step)[1] for row in KAPPAS if row.id in ("L1()", "Lp(2)")]
    assert min(rose) > 20


@pytest.mark.parametrize("seed", range(4))
def test_non_convex_f_rises_by_no_more_than_its_curvature_allows(seed):
    rng = np.random.default_rng(seed)
    f, rho = ln.objectives.from_expression("cos(2*x1) + cos(x2 - x1) + x1**2/8 + x2**2/8"), 6.0
    for row in KAPPAS:
        if row.id not in ("L1()", "Lp(2)", "PseudoHuber(0.3)", "Quadratic()"):
            continue
        s = ln.LionK(f, row.kappa, 0.7, 1.3, rng.uniform(0, 0.7), 0.4)
        x, m = _starts(rng, s, 40)
        h = 10 ** rng.uniform(-2, 1)
        before, size = _energy(s, x, m)
        x_next, m_next, _, _ = backward_euler_step(s, x, m, h)
        after, size_after = _energy(s, x_next, m_next)
        allowed = s.alpha * rho / 2 * np.sum((x_next - x) ** 2, axis=-1)
        assert (after <= before + allowed + RISE * np.maximum(size, size_after)).all()


def _solve(system, x0, m0, t_end, step=None, rtol=1e-4, atol=1e-6, max_steps=10**6):
    x0, m0 = np.array(x0), np.array(m0)
    return integrate(system, x0, m0, t_end, Options(rtol, atol, step), Budget(max_steps, math.inf))


A, B = np.array([[3.0, 0.8], [0.8, 1.2]]), np.array([2.5, -1.7])


def _linear():
    """Quadratic f and κ: one linear system, whose exact flow is a matrix exponential."""
    s = ln.LionK(ln.objectives.quadratic(A, B), ln.kappas.Quadratic(), 0.7, 1.3, 0.4, 0.6)
    eye, a, eg = np.eye(2), s.alpha, s.epsilon * s.gamma
    matrix = np.block([[-s.epsilon * a * A - s.lam * eye, (1 - eg) * eye], [-a * A, -s.gamma * eye]])
    rest = np.linalg.solve(matrix, -np.concatenate([s.epsilon * a * B, a * B]))
    y0 = np.array([1.0, -0.5, 0.3, 0.2])
    return s, y0, rest + expm(matrix * 2.0) @ (y0 - rest)


def test_order_one():
    s, y0, exact = _linear()
    steps = 2.0 / np.array([40, 80, 160, 320])
    errors = [np.abs(_solve(s, y0[:2], y0[2:], 2.0, h).dense(2.0)[:4] - exact).max() for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(1, abs=0.05)


def test_the_adaptive_step_follows_its_tolerance():
    s, y0, exact = _linear()
    solutions = [_solve(s, y0[:2], y0[2:], 2.0, rtol=tol, atol=tol) for tol in (1e-4, 1e-6)]
    errors = [np.abs(solution.dense(2.0)[:4] - exact).max() for solution in solutions]
    assert errors[0] < 1e-2
    assert errors[1] < errors[0] / 5


def test_a_fixed_step_is_kept_and_u_is_the_selection_of_the_step():
    s = ln.LionK(ln.objectives.quadratic(A, B), ln.kappas.L1(), 0.7, 1.3, 0.4, 1.6)
    solution = _solve(s, (0.3, -0.2), (0.3, 0.8), 1.0, 0.3)
    assert np.allclose(solution.dense.breaks, [0, 0.3, 0.6, 0.9, 1.0])
    x, m, u = solution.dense.nodes[:, 1, :2], solution.dense.nodes[:, 1, 2:4], solution.dense.nodes[:, 1, 4:]
    h = np.diff(solution.dense.breaks)[:, None]
    before = solution.dense.nodes[:, 0]
    assert np.allclose(x, before[:, :2] + h * (u - s.lam * x), atol=1e-13)
    assert np.allclose(m, before[:, 2:4] - h * (0.7 * (x @ A - B) + 1.3 * m), atol=1e-13)
    m_tilde = s.look_ahead(x, m)
    gap = s.kappa.value(m_tilde) + s.kappa.conjugate(u) - np.sum(m_tilde * u, axis=-1)
    assert np.abs(gap).max() < 1e-12


def test_without_a_hessian_bfgs_finds_the_same_step():
    f = ln.objectives.quadratic(A, B)
    bare = ln.Objective(f.value, f.gradient, dim=2, strong_convexity=0.5)
    sparse = ln.Objective(f.value, f.gradient, lambda x: csr_array(A), dim=2, strong_convexity=0.5)
    for kappa in (ln.kappas.L1(), ln.kappas.PseudoHuber(0.3)):
        found = []
        for objective in (f, bare, sparse):
            s, work = ln.LionK(objective, kappa, 0.7, 1.3, 0.4, 1.6), Work()
            found.append(backward_euler_step(s, [0.3, -0.2], [0.3, 0.8], 0.5, work=work))
            assert (work.njev > 0) == objective.has_hessian
        for other in found[1:]:
            assert np.allclose(found[0].x, other.x, atol=1e-10)
    assert "BFGS" in _solve(ln.LionK(bare, ln.kappas.L1()), (0.3, -0.2), (0.0, 0.0), 1.0, 0.1).message


def test_what_cannot_go_on_stops_with_a_status():
    s = ln.LionK(ln.objectives.quadratic(A, B), ln.kappas.L1())
    assert _solve(s, (0.3, -0.2), (0.0, 0.0), 1.0, 0.01, max_steps=5).status is Status.BUDGET
    broken = ln.Objective(lambda x: np.nan, lambda x: x * np.nan, dim=2)
    solution = _solve(ln.LionK(broken, ln.kappas.L1()), (0.3, -0.2), (0.0, 0.0), 1.0)
    assert (solution.status, solution.dense) == (Status.NON_FINITE, None)
    # A gradient of random numbers is no gradient: no step equation has a solution.
    rng = np.random.default_rng(1)
    noise = ln.Objective(lambda x: rng.normal(), lambda x: rng.normal(size=2), dim=2)
    with pytest.raises(NotConverged, match="residual"):
        backward_euler_step(ln.LionK(noise, ln.kappas.Quadratic()), [0.3, -0.2], [0.0, 0.0], 1.0)
    assert _solve(ln.LionK(noise, ln.kappas.Quadratic()), (0.3, 0.2), (0.0, 0.0), 1.0, 0.5).status is (
        Status.FAILED
    )


@pytest.mark.parametrize("h", [0.0, -1.0, math.nan, math.inf])
def test_a_bad_step_is_refused(h):
    s = ln.LionK(ln.objectives.quadratic(A, B), ln.kappas.L1())
    with pytest.raises(ValueError, match="h must be"):
        backward_euler_step(s, [0.0, 0.0], [0.0, 0.0], h)
