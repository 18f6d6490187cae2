from __future__ import annotations

import platform
import re
import subprocess
import sys
import time

import numba
import numpy as np
import pytest

import lionode as ln
from lionode.ensemble import ensemble
from lionode.ensemble.compile import kernel
from lionode.ensemble.rodas5p import RODAS5P

GRID = np.linspace(0.0, 6.0, 61)
ROSENBROCK = ln.objectives.from_expression("(1 - x1)**2 + 10*(x2 - x1**2)**2")
GENERAL = {"alpha": 0.7, "gamma": 1.3, "epsilon": 0.4, "lam": 0.6}
SLACK = 100.0
"""Global over local error: T/h ≈ 100 steps at most, each within atol + rtol·|y|."""


def starts(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-2, 2, (count, 2)), rng.uniform(-0.5, 0.5, (count, 2))


def assert_same_paths(result, rtol: float, atol: float) -> None:
    """Every trajectory along its whole path against scipy at a far tighter tolerance."""
    assert result.success.all()
    for i, system in enumerate(result.systems):
        run = ln.simulate(
            system, result.x[i, 0], GRID[-1], result.m[i, 0], "DOP853", 1e-11, 1e-12, t_eval=GRID
        )
        allowed = SLACK * (atol + rtol * max(np.abs(run.x).max(), np.abs(run.m).max()))
        assert np.abs(result.x[i] - run.x).max() <= allowed
        assert np.abs(result.m[i] - run.m).max() <= allowed


@pytest.fixture(scope="module")
def rosenbrock():
    system = ln.LionK(ROSENBROCK, ln.kappas.PseudoHuber(0.3), **GENERAL)
    x0s, m0s = starts(11)
    return ensemble(system, x0s, 6.0, m0s, 1e-8, 1e-10, GRID, method="lanes", workers=1)


def test_every_path_is_scipys(rosenbrock) -> None:
    assert (rosenbrock.method == "lanes").all()
    assert_same_paths(rosenbrock, 1e-8, 1e-10)


def test_the_certificate_on_the_fly_is_that_of_the_run(rosenbrock) -> None:
    entered = 0
    for i in range(len(rosenbrock)):
        run = ln.simulate(rosenbrock.systems[i], rosenbrock.x[i, 0], 6.0, rosenbrock.m[i, 0], "DOP853", 1e-10)
        cert = ln.certify(run)
        assert rosenbrock.entry_time[i] == pytest.approx(cert.entry_time, rel=1e-5)
        entered += 0 < cert.entry_time < np.inf
        assert rosenbrock.max_increase[i] <= 1e-9
        h = ln.lyapunov(rosenbrock.systems[i], rosenbrock.x[i], rosenbrock.m[i])
        assert (np.diff(h[np.isfinite(h)]) <= 1e-9).all()
    assert entered > 0


def test_h_falls_by_what_is_dissipated(rosenbrock) -> None:
    """Away from the edge of dom κ*, where ∇κ* is steep, the quadrature converges with the tolerance."""
    x0s, m0s = rosenbrock.x[:, 0], rosenbrock.m[:, 0]
    tight = ensemble(rosenbrock.systems, x0s, 6.0, m0s, 1e-12, 1e-14, workers=1)
    tame = 0.6 * np.abs(rosenbrock.x).max(axis=(1, 2)) < 0.9
    assert tame.sum() >= 3
    assert tight.balance[tame].max() <= 1e-7
    assert tight.max_increase.max() <= 1e-12


def test_tighter_tolerance_converges_with_order_five() -> None:
    """Work against accuracy: with an error per step of order h⁵ ten times the steps give 1e-4 or better."""
    system = ln.LionK(ROSENBROCK, ln.kappas.PseudoHuber(0.3), **GENERAL)
    x0s, m0s = starts(4, seed=3)
    runs = [ensemble(system, x0s, 6.0, m0s, tol, tol, GRID, workers=1) for tol in (1e-6, 1e-8, 1e-10, 1e-12)]
    errors = [np.abs(run.x - runs[-1].x).max() for run in runs[:-1]]
    steps = [run.nfev.sum() for run in runs[:-1]]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 4.0 <= slope <= 6.5


def test_coefficients_per_lane_and_refills_do_not_mix() -> None:
    x0s, m0s = starts(11, seed=1)
    systems = [
        ln.LionK(ROSENBROCK, ln.kappas.PseudoHuber(0.3), 0.5 + 0.04 * i, 1.0 + 0.1 * i, 0.4, 0.1 * (i % 3))
        for i in range(11)
    ]
    result = ensemble(systems, x0s, 6.0, m0s, 1e-8, 1e-10, GRID, workers=1)
    assert_same_paths(result, 1e-8, 1e-10)
    alone = ensemble(systems[10], x0s[10:], 6.0, m0s[10:], 1e-8, 1e-10, GRID, workers=1)
    np.testing.assert_allclose(alone.x[0], result.x[10], rtol=1e-12, atol=1e-13)


def test_threads_give_what_one_gives() -> None:
    system = ln.LionK(ROSENBROCK, ln.kappas.PseudoHuber(0.3), **GENERAL)
    x0s, _ = starts(300, seed=2)
    one, two = (ensemble(system, x0s, 2.0, workers=k) for k in (1, 2))
    np.testing.assert_array_equal(one.x, two.x)
    assert one.x.shape == (300, 1, 2)


def test_mixed_potentials_are_grouped_and_callables_take_simulate() -> None:
    plain = ln.Objective(lambda x: float(x @ x), lambda x: 2 * x, lambda x: 2 * np.eye(2), dim=2)
    x0s, m0s = starts(4, seed=4)
    systems = [
        ln.LionK(ROSENBROCK, ln.kappas.PseudoHuber(0.3), **GENERAL),
        ln.LionK(plain, ln.kappas.Quadratic(), **GENERAL),
        ln.LionK(ROSENBROCK, ln.kappas.PseudoHuber(0.3), **GENERAL),
        ln.LionK(plain, ln.kappas.Quadratic(), **GENERAL),
    ]
    for workers in (1, 2):
        result = ensemble(systems, x0s, 6.0, m0s, 1e-8, 1e-10, GRID, workers=workers)
        assert (result.method == "lanes").tolist() == [True, False, True, False]
        assert_same_paths(result, 1e-8, 1e-10)
        assert np.isfinite(result.balance).all()


def test_a_diverging_lane_leaves_its_neighbours_alone() -> None:
    """−x⁴ with κ = ½‖·‖² blows up in finite time from far out, and not from 0.1."""
    f = ln.objectives.from_expression("-x1**4")
    system = ln.LionK(f, ln.kappas.Quadratic(), **GENERAL)
    x0s = np.full((12, 1), 0.1)
    x0s[::3] = 4.0
    result = ensemble(system, x0s, 5.0, t_eval=np.linspace(0, 5, 11), workers=1)
    bad = np.arange(12) % 3 == 0
    assert not result.success[bad].any()
    assert result.success[~bad].all()
    assert (result.reached[bad] < 5).all()
    assert np.isnan(result.x[bad, -1]).all()
    assert np.isfinite(result.x[~bad]).all()
    alone = ensemble(system, x0s[1:2], 5.0, t_eval=np.linspace(0, 5, 11), workers=1)
    np.testing.assert_allclose(result.x[1], alone.x[0], rtol=1e-13)


def test_the_budget_ends_a_trajectory_with_its_status() -> None:
    system = ln.LionK(ROSENBROCK, ln.kappas.PseudoHuber(0.3), **GENERAL)
    result = ensemble(system, [[1.5, -1.0]], 6.0, max_steps=5, workers=1)
    assert result.status[0] == "budget reached"
    assert 0 < result.reached[0] < 6


def test_the_kernel_is_kept_on_disk_whole() -> None:
    system = ln.LionK(ROSENBROCK, ln.kappas.PseudoHuber(0.3), **GENERAL)
    ensemble(system, [[1.0, 2.0]], 1.0, workers=1)
    code = (
        "import lionode as ln\n"
        "from lionode.ensemble.compile import kernel\n"
        "from lionode.ensemble.rodas5p import RODAS5P\n"
        "f = ln.objectives.from_expression('(1 - x1)**2 + 10*(x2 - x1**2)**2')\n"
        "k = kernel(f, ln.kappas.PseudoHuber(0.3), RODAS5P)\n"
        "from lionode.ensemble import ensemble\n"
        "ensemble(ln.LionK(f, ln.kappas.PseudoHuber(0.3)), [[1.0, 2.0]], 1.0, workers=1)\n"
        "print(sum(k.stats.cache_hits.values()), sum(k.stats.cache_misses.values()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"x0s": [0.0, 1.0]}, ValueError, "x0s must have shape"),
        ({"x0s": [[0.0, 1.0, 2.0]]}, ValueError, "x0s must have 2"),
        ({"x0s": [[0.0, np.nan]]}, ValueError, "x0s must be finite"),
        ({"m0s": [[0.0]]}, ValueError, "m0s must have the shape"),
        ({"t_end": 0.0}, ValueError, "t_end must be > 0"),
        ({"rtol": -1.0}, ValueError, "rtol must be > 0"),
        ({"t_eval": [0.0, 2.0]}, ValueError, "t_eval must be increasing"),
        ({"method": "euler"}, ValueError, "method must be one of"),
        ({"workers": 0}, ValueError, "workers must be"),
        ({"system": []}, ValueError, "one for each of the 1 starts"),
        ({"system": [3]}, TypeError, "system must be a LionK"),
    ],
)
def test_bad_input_is_named(change, error, says) -> None:
    system = ln.LionK(ROSENBROCK, ln.kappas.PseudoHuber(0.3), **GENERAL)
    with pytest.raises(error, match=says):
        ensemble(**{"system": system, "x0s": [[0.0, 1.0]], "t_end": 1.0, **change})


@pytest.mark.parametrize(
    ("method", "kappa", "says"),
    [
        ("lanes", ln.kappas.MoreauEnvelope(ln.kappas.LogCosh(0.3), 0.1), "not piecewise linear"),
        ("lanes", ln.kappas.Power(1.5), "not piecewise linear"),
        ("exact", ln.kappas.Huber(0.3), "not piecewise linear"),
        ("exact", ln.kappas.TopK(1), "not piecewise linear"),
    ],
)
def test_compiled_code_says_why_there_is_none(method, kappa, says) -> None:
    with pytest.raises(ValueError, match=says):
        ensemble(ln.LionK(ROSENBROCK, kappa), [[0.0, 1.0]], 1.0, method=method)


def test_nothing_slides_without_look_ahead_so_the_ordinary_path_is_taken() -> None:
    systems = [ln.LionK(QUADRATIC, ln.kappas.L1(), epsilon=e, lam=0.6) for e in (0.0, 0.4)]
    result = ensemble(systems, [[2.0, -1.0]] * 2, 1.0, workers=1)
    assert result.method.tolist() == ["event", "exact"]
    with pytest.raises(ValueError, match="nothing slides at ε = 0"):
        ensemble(systems[0], [[2.0, -1.0]], 1.0, method="exact")


QUADRATIC = ln.objectives.from_expression("(x1 - 1.5)**2 + x2**2 + 0.8*x1*x2")
CUBIC = ln.objectives.from_expression("x1**4/4 + (x2 - x1)**2 + x3**2 - x2*x3 + exp(0.3*x3)")
KINKED = [
    (QUADRATIC, ln.kappas.L1(), 0.6),
    (QUADRATIC, ln.kappas.L1(), 1.5),
    (ROSENBROCK, ln.kappas.L1(), 0.6),
    (QUADRATIC, ln.kappas.SoftThreshold(0.3), 0.9),
    (ROSENBROCK, ln.kappas.L1(), 0.9),
    (CUBIC, ln.kappas.Scaled(ln.kappas.L1(), 1.4), 0.8),
    (QUADRATIC, ln.kappas.L1(), 0.0),
    (ROSENBROCK, ln.kappas.SoftThreshold(0.3), 0.0),
]
"""f, κ, λ; those with λ = 0.9 have εγ = 1."""


@pytest.fixture(scope="module", params=KINKED, ids=lambda row: f"{row[0].name} {row[1]} {row[2]}")
def kinked(request):
    """A piecewise linear system, starts, and their paths by the event method of `simulate`."""
    f, kappa, lam = request.param
    epsilon = 1 / 1.3 if lam == 0.9 else 0.4
    system = ln.LionK(f, kappa, alpha=0.7, gamma=1.3, epsilon=epsilon, lam=lam)
    rng = np.random.default_rng(7)
    x0s, m0s = rng.uniform(-2, 2, (16, f.dim)), rng.uniform(-0.5, 0.5, (16, f.dim))
    runs = [
        ln.simulate(system, x, 8.0, m, "event", 1e-11, 1e-12, np.linspace(0, 8, 81))
        for x, m in zip(x0s, m0s, strict=True)
    ]
    return system, x0s, m0s, runs


def path_errors(result, runs) -> np.ndarray:
    ours = np.concatenate([result.x, result.m], axis=2)
    return np.array([
        np.abs(path - np.concatenate([run.x, run.m], axis=1)).max()
        for path, run in zip(ours, runs, strict=True)
    ])  # fmt: skip


def test_the_exact_flow_is_that_of_the_event_method(kinked) -> None:
    system, x0s, m0s, runs = kinked
    grid = np.linspace(0, 8, 81)
    result = ensemble(system, x0s, 8.0, m0s, 1e-8, 1e-10, grid, workers=1)
    assert (result.method == "exact").all()
    assert result.success.all()
    resolved = np.array([run.status == "finished" for run in runs])
    assert resolved.sum() >= 14
    size = max(1.0, np.abs(result.x).max(), np.abs(result.m).max())
    assert path_errors(result, runs)[resolved].max() <= SLACK * 1e-8 * size
    for i in np.flatnonzero(resolved):
        cert = ln.certify(runs[i], optimum=False)
        assert result.entry_time[i] == pytest.approx(cert.entry_time, rel=1e-6)
    assert result.max_increase[np.isfinite(result.max_increase)].max() <= 1e-8
    assert result.balance.max() <= 1e-6


def test_a_short_visit_beyond_a_kink_is_not_stepped_over() -> None:
    """m̃₂ crosses 0 at t = 0.650 and again at 0.669, inside what would be one step if it did not."""
    f = ln.objectives.from_expression("(x1**2 + x2 - 11)**2 + (x1 + x2**2 - 7)**2")
    system = ln.LionK(f, ln.kappas.L1(), gamma=2.0, epsilon=0.5, lam=1.1)
    x0, m0, grid = [0.91550819, -3.7471928], [-0.48709804, -0.13789575], np.linspace(0, 8, 81)
    run = ln.simulate(system, x0, 8.0, m0, "event", 1e-11, 1e-12, grid)
    assert [event.kind for event in run.events] == ["crossing", "crossing"]
    result = ensemble(system, [x0], 8.0, [m0], 1e-7, 1e-9, grid, method="exact", workers=1)
    assert path_errors(result, [run])[0] <= SLACK * 1e-7 * np.abs(run.m).max()


@pytest.mark.parametrize("kappa", [ln.kappas.L1(), ln.kappas.SoftThreshold(0.3)], ids=str)
def test_h_never_rises_along_the_exact_flow(kappa) -> None:
    """Also at rest, where steps are as long as the pair is stable, and whatever the tolerance."""
    system = ln.LionK(QUADRATIC, kappa, **GENERAL)
    x0s, m0s = starts(200, seed=8)
    for rtol in (1e-4, 1e-7):
        result = ensemble(system, x0s, 40.0, m0s, rtol, rtol / 100, method="exact", workers=1)
        assert result.max_increase.max() <= 1e-13


def test_the_balance_is_kept_while_a_momentum_decays_to_the_smallest_numbers() -> None:
    """m₂ ~ e^{−t/ε} changes its sign by rounding at 1e-300, where products of it are 0."""
    f = ln.objectives.from_expression("(x1 - 1.5)**2 + x2**2")
    system = ln.LionK(f, ln.kappas.L1(), epsilon=2e-3, lam=1.5)
    result = ensemble(system, starts(30, seed=5)[0], 10.0, method="exact", workers=1)
    assert result.success.all()
    assert result.balance.max() <= 1e-5


def test_the_exact_flow_converges_with_its_tolerance(kinked) -> None:
    """Each hundredth of the tolerance takes at least a tenth of the error off."""
    system, x0s, m0s, runs = kinked
    resolved = np.array([run.status == "finished" for run in runs])
    worst = [
        path_errors(ensemble(system, x0s, 8.0, m0s, tol, tol / 100, np.linspace(0, 8, 81), workers=1), runs)
        for tol in (1e-5, 1e-7, 1e-9)
    ]
    medians = [np.median(errors[resolved]) for errors in worst]
    assert medians[1] < 0.1 * medians[0]
    assert medians[2] < 0.1 * medians[1]


def test_smoothed_lanes_tend_to_the_exact_flow_and_say_how_far_they_are(kinked) -> None:
    system, x0s, m0s, runs = kinked
    if system.dim > 2:
        pytest.skip("two variables show it, and compile in half of the time")
    resolved = np.array([run.status == "finished" for run in runs])
    result = ensemble(system, x0s, 8.0, m0s, 1e-8, 1e-10, np.linspace(0, 8, 81), method="lanes", workers=1)
    assert (result.method == "lanes").all()
    assert result.success.all()
    errors = path_errors(result, runs)[resolved]
    estimates = result.error_estimate[resolved]
    assert (estimates > 0).all()
    assert (errors <= 2 * estimates + SLACK * 1e-8).all()
    assert np.median(errors) <= 1e-5


def test_a_norm_is_smoothed_in_lanes_as_simulate_smooths_it() -> None:
    system = ln.LionK(ROSENBROCK, ln.kappas.LInf(), **GENERAL)
    x0s, m0s = starts(6)
    result = ensemble(system, x0s, 6.0, m0s, 1e-6, 1e-8, GRID, workers=1)
    assert (result.method == "lanes").all()
    assert result.success.all()
    assert np.isfinite(result.entry_time).sum() >= 5
    runs = [
        ln.simulate(system, x, 6.0, m, "moreau", 1e-8, 1e-10, GRID) for x, m in zip(x0s, m0s, strict=True)
    ]
    assert (path_errors(result, runs) <= result.error_estimate).all()
    for entry, run in zip(result.entry_time, runs, strict=True):
        assert entry == pytest.approx(ln.certify(run, optimum=False).entry_time, rel=1e-4)


def test_flow_without_a_unique_mode_goes_to_simulate() -> None:
    """κ = L1 at a maximum of f in x2: M is indefinite and both sides of the kink lead away."""
    f = ln.objectives.from_expression("x1**2 - x2**2")
    system = ln.LionK(f, ln.kappas.L1(), epsilon=0.5, lam=0.6)
    result = ensemble(system, [[1.0, 0.0], [1.0, 0.5]], 2.0, workers=1)
    assert result.method.tolist() == ["event", "exact"]
    assert result.success.all()


def test_a_mild_flow_at_a_tight_tolerance_takes_the_explicit_scheme() -> None:
    mild = ln.LionK(QUADRATIC, ln.kappas.PseudoHuber(1.0), **GENERAL)
    x0s, m0s = starts(6, seed=5)
    grid = np.linspace(0, 6, 61)
    tight = ensemble(mild, x0s, 6.0, m0s, 1e-10, 1e-12, grid, workers=1)
    assert "DOP853" in tight.message[0]
    assert_same_paths(tight, 1e-10, 1e-12)
    assert "Rodas5P" in ensemble(mild, x0s, 6.0, m0s, 1e-6, workers=1).message[0]
    named = ensemble(mild, x0s, 6.0, m0s, 1e-10, 1e-12, grid, method="lanes:Rodas5P", workers=1)
    assert np.abs(named.x - tight.x).max() <= SLACK * 1e-10 * 2
    # ∇κ* is steep at the edge of dom κ*, where no quadrature converges.
    tame = 0.6 * np.abs(tight.x).max(axis=(1, 2)) < 0.9
    assert tame.sum() >= 3
    assert tight.balance[tame].max() <= 1e-7


def test_decay_towards_the_face_is_not_an_entry() -> None:
    """u = 1 from the start: λx falls to 1 like e^{−λt} for ever, and comes inside by rounding only."""
    f = ln.objectives.from_expression("(x1 - 0.8)**2")
    for kappa in (ln.kappas.L1(), ln.kappas.Huber(0.01)):
        system = ln.LionK(f, kappa, epsilon=0.5, lam=1.5)
        result = ensemble(system, [[0.75]], 40.0, workers=1)
        assert result.entry_time[0] == np.inf
        assert np.isinf(ln.certify(ln.simulate(system, [0.75], 40.0)).entry_time)


@pytest.mark.parametrize("kappa", [ln.kappas.PseudoHuber(0.3), ln.kappas.L1()], ids=str)
def test_the_cost_of_a_trajectory_does_not_depend_on_their_number(kappa) -> None:
    """Gradients to a few percent; seconds to a factor of 3, since other work runs on the same cores."""
    system = ln.LionK(QUADRATIC, kappa, **GENERAL)
    gradients, seconds = [], []
    for count in (500, 20_000):
        x0s, _ = starts(count, seed=6)
        times = []
        for _ in range(3):
            before = time.perf_counter()
            result = ensemble(system, x0s, 6.0, workers=1)
            times.append(time.perf_counter() - before)
        gradients.append(result.nfev.mean())
        seconds.append(min(times) / count)
    assert gradients[1] == pytest.approx(gradients[0], rel=0.1)
    assert seconds[1] <= 3 * seconds[0]


def test_a_step_fills_simd_registers() -> None:
    """Where the compiler gives up on one line of the step, all lanes are computed one by one."""
    if platform.machine() != "x86_64":
        pytest.skip("reads x86-64 assembly")
    for kappa in (ln.kappas.PseudoHuber(0.3), ln.kappas.L1()):
        module = sys.modules[kernel(ROSENBROCK, kappa, RODAS5P).__module__]
        fresh = numba.njit(**module.OPTIONS | {"cache": False})(module.step.py_func)
        fresh(np.ones(module.PLACES * module.LANES), 1e-6, 1e-6, 1.0, 10)
        (text,) = fresh.inspect_asm().values()
        packed = len(re.findall(r"\bv?mulpd\b", text))
        assert packed > 50
        assert len(re.findall(r"\bv?mulsd\b", text)) < packed / 10
