"""Hard starts, coefficients and losses, for every integrator that `auto` may pick, as a user meets them.

Each run must end with a status that is right for it, a certificate that holds, in bounded time and memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from systems import A2, B2

import lionode as ln
from lionode.trajectory import Status

SECONDS = 20.0
"""No case takes a fifth of this on one core; a run that hangs ends there, with the wrong status."""

STEPS = 3000
"""Steps that a run may keep in memory."""

f, k = ln.objectives, ln.kappas


class Case(NamedTuple):
    """A loss, (α, γ, ε, λ), a start, an end, and how the run may end."""

    objective: ln.Objective
    coefficients: tuple[float, float, float, float]
    x0: tuple[float, ...]
    m0: tuple[float, ...]
    t_end: float
    ends: frozenset[Status] = frozenset({Status.FINISHED})


TAIL = frozenset({Status.FINISHED, Status.TAIL_UNRESOLVED})
BROKEN = frozenset({Status.NON_FINITE, Status.DIVERGED, Status.FAILED})

BOWL = f.quadratic(A2, B2)
VALLEY = f.quadratic([[1.0, 1.0], [1.0, 1.0]], [1.0, 1.0])
LINEAR = f.linear([1.0, -2.0])


def at(lam: float, epsilon: float = 0.4) -> tuple[float, float, float, float]:
    return (0.7, 1.3, epsilon, lam)


CASES = {
    "one component": Case(f.quadratic([[2.0]], [1.0]), at(1.6), (2.0,), (0.5,), 20.0),
    "linear": Case(LINEAR, at(1.6), (2.0, 0.1), (3.0, -3.0), 20.0),
    "linear without a box": Case(LINEAR, at(0.0), (2.0, 0.1), (3.0, 3.0), 20.0),
    "singular Hessian": Case(VALLEY, at(0.6), (2.0, 0.1), (3.0, 1.0), 20.0),
    "duplicated coordinates": Case(VALLEY, at(0.3), (2.0, 2.0), (0.0, 0.0), 20.0, TAIL),
    "on a switching surface": Case(f.quadratic(A2), at(0.6), (1.2, -4.5), (0.0, 0.0), 20.0),
    "at the minimum": Case(f.quadratic(A2), at(0.6), (0.0, 0.0), (0.0, 0.0), 1e4),
    "at a corner": Case(BOWL, at(1.6), (1 / 1.6, -1 / 1.6), (0.0, 0.0), 20.0),
    "on a face": Case(BOWL, at(1.6), (1 / 1.6, 0.2), (0.0, 0.0), 20.0),
    "lam 0": Case(BOWL, at(0.0), (2.0, -3.0), (0.0, 0.0), 50.0),
    "lam 1e-6": Case(BOWL, at(1e-6), (2.0, -3.0), (0.0, 0.0), 50.0),
    "lam 1e6": Case(BOWL, at(1e6), (2.0, -3.0), (0.0, 0.0), 5.0),
    "long": Case(BOWL, at(0.3), (2.0, -3.0), (0.0, 0.0), 1e4),
    "m0 huge": Case(BOWL, at(0.3), (2.0, -3.0), (1e8, -3e7), 60.0),
    "epsilon 0": Case(BOWL, at(0.3, 0.0), (2.0, -3.0), (0.0, 0.0), 20.0, TAIL),
    "epsilon 1e-5": Case(BOWL, at(0.3, 1e-5), (2.0, -3.0), (0.0, 0.0), 20.0),
    "epsilon*gamma 1": Case(BOWL, at(0.3, 1 / 1.3), (2.0, -3.0), (0.0, 0.0), 20.0),
    "overflows at once": Case(
        f.from_expression("exp(x1**2) + x2**2"), at(0.01), (30.0, 1.0), (1.0, 0.0), 20.0, BROKEN
    ),
    "unbounded below": Case(
        f.from_expression("-x1**4 + x2**2"),
        at(0.1),
        (3.0, 1.0),
        (1.0, 0.0),
        5.0,
        BROKEN | frozenset({Status.FINISHED}),
    ),
}

PICKED: dict[str, tuple[k.Potential, str]] = {
    "L1": (k.L1(), "event"),
    "SoftThreshold": (k.SoftThreshold(0.3), "event"),
    "Scaled L1": (k.Scaled(k.L1(), 2.5), "event"),
    "Huber": (k.Huber(0.3), "LSODA"),
    "PseudoHuber": (k.PseudoHuber(0.2), "LSODA"),
    "Quadratic": (k.Quadratic(), "LSODA"),
}


def judge(run: ln.Trajectory, case: Case) -> None:
    assert run.status in case.ends, run.message
    assert run.success == (run.status in TAIL)
    assert run.message
    assert run.dense is None or len(run.dense.breaks) <= STEPS
    assert np.isfinite(run.x).all()
    assert np.isfinite(run.m).all()
    if run.status in TAIL:
        assert run.t[-1] == pytest.approx(case.t_end)
    certified = ln.certify(run)
    assert certified.holds, certified


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("row", PICKED)
def test_auto_ends_right(row, name):
    kappa, method = PICKED[row]
    case = CASES[name]
    system = ln.LionK(case.objective, kappa, *case.coefficients)
    run = ln.simulate(system, case.x0, case.t_end, m0=case.m0, max_seconds=SECONDS)
    assert run.method == method
    judge(run, case)


COARSE = (
    "one component", "linear", "singular Hessian", "duplicated coordinates", "on a face", "lam 0",
    "epsilon 0", "overflows at once",
)  # fmt: skip
"""What the methods of order 1 and 2 in their parameter are asked, at a tolerance that suits them."""


@pytest.mark.parametrize("name", COARSE)
@pytest.mark.parametrize("method", ["moreau", "backward-euler"])
@pytest.mark.parametrize("kappa", [k.Lp(2.0), k.LInf(), k.Scaled(k.L1(), 2.5)], ids=repr)
def test_the_other_methods_end_right(kappa, method, name):
    case = CASES[name]
    system = ln.LionK(case.objective, kappa, *case.coefficients)
    end = 0.2 * case.t_end
    run = ln.simulate(
        system, case.x0, end, m0=case.m0, method=method, rtol=1e-3, atol=1e-3, max_seconds=SECONDS
    )
    judge(run, case._replace(t_end=end))


def test_a_spent_budget_of_events_is_a_status():
    system = ln.LionK(BOWL, k.L1(), *at(0.3, 0.01))
    run = ln.simulate(system, (1.9, -1.4), 20.0, m0=(0.3, -0.2), max_events=4)
    assert run.status is Status.TAIL_UNRESOLVED
    assert len(run.events) == 4
    assert "max_events" in run.message
    assert ln.certify(run).holds


@pytest.mark.parametrize("row", PICKED)
def test_the_balance_closes_where_auto_is_exact(row):
    """|H(T) − H(0) + ∫Δ| ≤ 1e-8 on the default tolerances, through slides and crossings."""
    kappa, _ = PICKED[row]
    run = ln.simulate(ln.LionK(BOWL, kappa, *at(0.45)), (1.1, -1.4), 20.0, m0=(0.3, -0.2))
    assert ln.certify(run).balance_residual <= 1e-8


def test_a_run_that_was_bent_is_refused_in_each_hard_case():
    """The certificates above say something: an edit by 1e-4 of the size of x is noticed."""
    for name in ("linear", "on a face", "lam 0", "m0 huge"):
        case = CASES[name]
        run = ln.simulate(
            ln.LionK(case.objective, k.L1(), *case.coefficients), case.x0, case.t_end, m0=case.m0
        )
        run.x[len(run.x) // 2] *= 1 + 1e-4
        assert not ln.certify(run).holds, name
