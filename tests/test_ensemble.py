from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import lionode as ln
from lionode.ensemble import compile as compiler
from lionode.ensemble import ensemble

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
    compiler.kernel(system)
    code = (
        "import lionode as ln\n"
        "from lionode.ensemble import compile as c\n"
        "f = ln.objectives.from_expression('(1 - x1)**2 + 10*(x2 - x1**2)**2')\n"
        "k = c.kernel(ln.LionK(f, ln.kappas.PseudoHuber(0.3)))\n"
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


def test_lanes_say_why_they_cannot() -> None:
    with pytest.raises(ValueError, match="has kinks"):
        ensemble(ln.LionK(ROSENBROCK, ln.kappas.L1()), [[0.0, 1.0]], 1.0, method="lanes")
