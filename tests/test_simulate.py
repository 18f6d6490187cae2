"""Flows of smooth κ: against matrix exponentials, by order of convergence, and on all that goes wrong."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from systems import A2, B2, IDS, SYSTEMS

import lionode as ln
from lionode.flow import smooth

SOLVERS = list(smooth.SOLVERS)
RTOL, ATOL = 1e-9, 1e-11
GLOBAL_FACTOR = 300.0
"""Global error over local tolerance: the systems contract, a run has at most a few hundred steps."""

SYSTEM = SYSTEMS[0].system


def linear_flow(system: ln.LionK, a: np.ndarray, b: np.ndarray, y0: np.ndarray, t: float) -> np.ndarray:
    """Quadratic f and κ make one linear system y' = My + w: its exponential is exact."""
    d = len(b)
    alpha, gamma, epsilon, lam = system.alpha, system.gamma, system.epsilon, system.lam
    eye = np.eye(d)
    matrix = np.block(
        [[-epsilon * alpha * a - lam * eye, (1 - epsilon * gamma) * eye], [-alpha * a, -gamma * eye]]
    )
    offset = np.concatenate([epsilon * alpha * b, alpha * b])
    rest = -np.linalg.solve(matrix, offset)
    return rest + scipy.linalg.expm(matrix * t) @ (y0 - rest)


@pytest.fixture
def linear() -> ln.LionK:
    return ln.LionK(ln.objectives.quadratic(A2, B2), ln.kappas.Quadratic(), 0.7, 1.3, 0.4, 1.6)


@pytest.mark.parametrize("method", SOLVERS)
def test_linear_flow_is_the_matrix_exponential(linear: ln.LionK, method: str) -> None:
    x0, m0 = np.array([2.0, -3.0]), np.array([0.5, 0.7])
    flow = ln.simulate(linear, x0, 4.0, m0=m0, method=method, rtol=RTOL, atol=ATOL)
    assert flow.success
    assert flow.method == method
    assert flow.t[-1] == 4.0
    # Between the accepted points too: a dense output of lower order would show here.
    for t in (0.0, 0.37, 1.81, 4.0):
        expected = linear_flow(linear, A2, B2, np.concatenate([x0, m0]), t)
        np.testing.assert_allclose(np.concatenate(flow(t)), expected, atol=GLOBAL_FACTOR * RTOL)


@pytest.mark.parametrize("method", SOLVERS)
def test_tighter_tolerance_is_a_smaller_error(linear: ln.LionK, method: str) -> None:
    y0 = np.array([2.0, -3.0, 0.5, 0.7])
    expected = linear_flow(linear, A2, B2, y0, 3.0)
    tolerances = np.array([1e-4, 1e-6, 1e-8])
    errors = []
    for rtol in tolerances:
        flow = ln.simulate(linear, y0[:2], 3.0, m0=y0[2:], method=method, rtol=rtol, atol=rtol)
        errors.append(np.abs(np.concatenate([flow.x[-1], flow.m[-1]]) - expected).max())
    slope = np.polyfit(np.log10(tolerances), np.log10(errors), 1)[0]
    assert 0.6 < slope < 1.4


@pytest.mark.parametrize("row", SYSTEMS, ids=IDS)
def test_solvers_agree(row) -> None:
    ends = []
    for method in ("DOP853", "Radau", "LSODA"):
        flow = ln.simulate(row.system, row.x0, 3.0, m0=row.m0, method=method, rtol=RTOL, atol=ATOL)
        assert flow.success, flow.message
        ends.append(np.concatenate([flow.x[-1], flow.m[-1]]))
    np.testing.assert_allclose(ends[1], ends[0], atol=GLOBAL_FACTOR * RTOL * 10)
    np.testing.assert_allclose(ends[2], ends[0], atol=GLOBAL_FACTOR * RTOL * 10)


@pytest.mark.parametrize("row", SYSTEMS, ids=IDS)
def test_jacobian_is_the_derivative_of_the_velocity(row) -> None:
    rng = np.random.default_rng(3)
    d, step = row.system.dim, 1e-6
    for _ in range(5):
        y = rng.normal(size=2 * d)
        jacobian = row.system.jacobian(y[:d], y[d:])
        columns = []
        for i in range(2 * d):
            shift = step * np.eye(2 * d)[i]
            ahead = np.concatenate(row.system.velocity((y + shift)[:d], (y + shift)[d:]))
            behind = np.concatenate(row.system.velocity((y - shift)[:d], (y - shift)[d:]))
            columns.append((ahead - behind) / (2 * step))
        np.testing.assert_allclose(jacobian, np.array(columns).T, rtol=1e-5, atol=1e-6)


def test_saved_states_and_dense_output_agree() -> None:
    row = SYSTEMS[0]
    times = np.linspace(0, 5, 23)
    flow = ln.simulate(row.system, row.x0, 5.0, m0=row.m0, t_eval=times)
    free = ln.simulate(row.system, row.x0, 5.0, m0=row.m0)
    np.testing.assert_array_equal(flow.t, times)
    assert flow.x.shape == flow.m.shape == flow.u.shape == (23, 2)
    x, m = free(times)
    np.testing.assert_array_equal(flow.x, x)
    np.testing.assert_array_equal(flow.m, m)
    np.testing.assert_allclose(flow.u, row.system.kappa.subgradient(row.system.look_ahead(x, m)))
    assert [part.shape for part in free(1.0)] == [(2,), (2,)]
    assert [part.shape for part in free(np.zeros((3, 4)))] == [(3, 4, 2), (3, 4, 2)]


def test_momentum_starts_at_zero_and_the_start_is_saved() -> None:
    flow = ln.simulate(SYSTEM, [1.9, -1.4], 1.0)
    np.testing.assert_array_equal(flow.x[0], [1.9, -1.4])
    np.testing.assert_array_equal(flow.m[0], [0.0, 0.0])


def test_entry_time_of_a_component_that_decays_freely() -> None:
    # f is flat in x2, m2 = 0 and κ'(0) = 0: then ẋ2 = −λx2, and |x2| ≤ 1/λ is reached at a known time.
    f = ln.objectives.from_expression("(x1 - 0.1)**2 + 0*x2", symbols=["x1", "x2"])
    system = ln.LionK(f, ln.kappas.PseudoHuber(0.3), lam=1.6)
    flow = ln.simulate(system, [0.1, 4.0], 5.0, rtol=1e-10, atol=1e-12)
    (entry,) = flow.events
    assert entry.kind == "entry"
    assert entry.t == pytest.approx(np.log(4.0 * 1.6) / 1.6, abs=1e-8)


def test_no_entry_for_a_start_inside_nor_when_it_has_not_come() -> None:
    assert ln.simulate(SYSTEM, [0.1, 0.1], 3.0).events == ()
    assert ln.simulate(SYSTEM, [50.0, 0.1], 0.5).events == ()


def test_interruption_keeps_what_was_done() -> None:
    calls = 0

    def gradient(x: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 60:
            raise KeyboardInterrupt
        return x

    f = ln.Objective(lambda x: x @ x / 2, gradient, dim=2)
    flow = ln.simulate(ln.LionK(f, ln.kappas.Quadratic()), [1.0, 2.0], 50.0, method="RK45")
    assert flow.status == "interrupted"
    assert not flow.success
    assert 0 < flow.t[-1] < 50


def test_budgets_end_a_run_with_what_it_has() -> None:
    steps = ln.simulate(SYSTEM, [1.0, 2.0], 50.0, max_steps=7)
    assert steps.status == "budget reached"
    assert not steps.success
    assert 0 < steps.t[-1] < 50
    seconds = ln.simulate(SYSTEM, [1.0, 2.0], 50.0, max_seconds=0.0)
    assert seconds.status == "budget reached"


def test_progress_is_reported() -> None:
    seen: list[float] = []
    ln.simulate(SYSTEM, [1.0, 2.0], 5.0, progress=seen.append)
    assert seen
    assert 0 < seen[0] <= 5


@pytest.mark.parametrize("method", SOLVERS)
def test_a_gradient_that_becomes_nan_is_a_status(method: str) -> None:
    def gradient(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0.5, x - 0.1, np.nan)

    f = ln.Objective(lambda x: float(x @ x), gradient, lambda x: np.eye(1), dim=1)
    flow = ln.simulate(ln.LionK(f, ln.kappas.Quadratic()), [2.0], 50.0, method=method, max_steps=10_000)
    assert flow.status == "non-finite"
    assert "∇f" in flow.message
    assert not flow.success
    assert flow.x[-1, 0] > 0.4
    assert np.isfinite(flow.x).all()


BAD_GRADIENTS = {
    "nan at the start": lambda x: np.full(2, np.nan),
    "wrong shape": lambda x: np.zeros(3),
    "a number": lambda x: 0.0,
}


@pytest.mark.parametrize("name", BAD_GRADIENTS)
def test_a_bad_gradient_is_a_status_not_a_crash(name: str) -> None:
    f = ln.Objective(lambda x: 0.0, BAD_GRADIENTS[name], dim=2)
    flow = ln.simulate(ln.LionK(f, ln.kappas.Quadratic()), [1.0, 2.0], 5.0)
    assert flow.status == "non-finite"
    assert not flow.success
    np.testing.assert_array_equal(flow.x, [[1.0, 2.0]])


def test_divergence_is_a_status() -> None:
    f = ln.objectives.from_expression("-x1**2", symbols=["x1"])
    flow = ln.simulate(ln.LionK(f, ln.kappas.Quadratic(), lam=0.1), [1.0], 1e4, method="DOP853")
    assert flow.status in ("diverged", "non-finite")
    assert not flow.success
    assert np.isfinite(flow.x).all()


GOOD = {"system": SYSTEM, "x0": [1.0, 2.0], "t_end": 1.0}
BAD = [
    ({"t_end": 0}, ValueError, "t_end must be > 0"),
    ({"t_end": -1.0}, ValueError, "t_end"),
    ({"t_end": float("nan")}, ValueError, "t_end"),
    ({"x0": [1.0]}, ValueError, "x0 must have shape"),
    ({"x0": [1.0, np.nan]}, ValueError, "x0 must be finite"),
    ({"x0": [1.0, np.inf]}, ValueError, "x0 must be finite"),
    ({"x0": [1.0, 1j]}, TypeError, "x0 must be real"),
    ({"x0": ["a", "b"]}, TypeError, "x0"),
    ({"m0": [1.0, 2.0, 3.0]}, ValueError, "m0 must have shape"),
    ({"m0": [[1.0, 2.0]]}, ValueError, "m0 must have shape"),
    ({"t_eval": [0.0, 2.0]}, ValueError, "t_eval"),
    ({"t_eval": [-0.1, 0.5]}, ValueError, "t_eval"),
    ({"t_eval": [0.5, 0.4]}, ValueError, "t_eval"),
    ({"t_eval": []}, ValueError, "t_eval"),
    ({"method": "euler"}, ValueError, "method must be one of"),
    ({"method": "RK45", "step": 0.1}, ValueError, "adapts its step"),
    ({"rtol": 0.0}, ValueError, "rtol"),
    ({"atol": -1.0}, ValueError, "atol"),
    ({"max_steps": 0}, ValueError, "max_steps"),
    ({"method": "RK45", "tau": 0.1}, TypeError, "no option tau"),
    ({"system": 3}, TypeError, "system must be a LionK"),
]


@pytest.mark.parametrize(("change", "error", "text"), BAD, ids=[str(list(row[0].items())) for row in BAD])
def test_bad_input_is_refused_in_one_line(change, error, text) -> None:
    with pytest.raises(error, match=text) as caught:
        ln.simulate(**{**GOOD, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", SOLVERS)
def test_a_plain_solver_refuses_a_set_valued_potential(method: str) -> None:
    system = ln.LionK(ln.objectives.quadratic(A2, B2), ln.kappas.L1())
    with pytest.raises(ValueError, match="Lipschitz gradient"):
        ln.simulate(system, [1.0, 2.0], 1.0, method=method)


def test_times_outside_the_run_are_refused() -> None:
    flow = ln.simulate(SYSTEM, [1.0, 2.0], 1.0)
    for t in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="within the run"):
            flow(t)


@pytest.mark.parametrize(
    ("kappa", "method", "passed"),
    [
        (ln.kappas.PseudoHuber(0.3), "LSODA", []),
        (ln.kappas.SoftThreshold(0.3), "event", ["LSODA"]),
        (ln.kappas.LInf(), "moreau", ["LSODA", "event"]),
    ],
)
def test_auto_says_what_it_took_and_why(kappa, method, passed):
    run = ln.simulate(ln.LionK(ln.objectives.quadratic(np.diag([2.0, 0.7])), kappa), [1.2, -2.0], 0.5)
    assert run.method == method
    assert f"auto: {method}" in run.message
    for name in passed:
        assert f"{name} needs" in run.message
    named = ln.simulate(run.system, [1.2, -2.0], 0.5, method=method)
    assert "auto" not in named.message
