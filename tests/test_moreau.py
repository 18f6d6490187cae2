"""The Moreau integrator: error in τ, what Richardson gains, every set-valued κ, the exact H_τ."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.optimize import brentq
from tables import KAPPAS

import lionode as ln
from lionode.flow.base import Budget, Options
from lionode.flow.moreau import integrate
from lionode.trajectory import Status


def _run(system, x0, m0, t_end, tau=1e-3, rtol=1e-9, atol=1e-11, max_steps=10**6):
    extra = {} if tau is None else {"tau": tau}
    options = Options(rtol, atol, extra=extra)
    return integrate(system, np.array(x0), np.array(m0), t_end, options, Budget(max_steps, math.inf))


def _scalar_l1(after):
    """f = x², κ = |·|: exact until m̃ = 0, and then for a time `after` of sliding, m = m_s·e^{−t/ε}."""
    f = ln.objectives.quadratic(np.array([[2.0]]), np.array([0.0]))
    s = ln.LionK(f, ln.kappas.L1(), 0.7, 1.3, 0.3, 0.6)
    matrix = np.array([[-0.6, 0.0, 1.0], [-1.4, -1.3, 0.0], [0.0, 0.0, 0.0]])
    look = np.array([-0.42, 0.61, 0.0])
    y = np.array([-0.8, 0.9, 1.0])
    switch = brentq(lambda t: look @ expm(matrix * t) @ y, 0.0, 5.0, xtol=1e-15)
    x, m, _ = expm(matrix * switch) @ y
    assert abs((0.6 - 1 / 0.3) * x) < 1, "the point must slide"
    return s, switch + after, np.array([x, m]) * math.exp(-after / 0.3)


def test_error_is_proportional_to_tau_and_richardson_gains():
    s, t_end, exact = _scalar_l1(0.2)
    taus = np.array([4e-3, 2e-3, 1e-3, 5e-4])
    single, combined = [], []
    for tau in taus:
        solution = _run(s, (-0.8,), (0.9,), t_end, tau, 1e-11, 1e-13)
        assert solution.status is Status.FINISHED
        certified = solution.info["certified"]
        single.append(np.abs(np.concatenate([certified.x[-1], certified.m[-1]]) - exact).max())
        combined.append(np.abs(solution.dense(t_end)[:2] - exact).max())
        assert single[-1] <= solution.info["error_estimate"] * 1.1
    assert np.polyfit(np.log(taus), np.log(single), 1)[0] == pytest.approx(1, abs=0.1)
    assert max(np.array(combined) / np.array(single)) < 0.1


NON_SMOOTH = [row for row in KAPPAS if row.kappa.smoothness == 0]


@pytest.mark.parametrize("row", NON_SMOOTH, ids=[row.id for row in NON_SMOOTH])
def test_every_set_valued_kappa_reaches_its_optimum(row):
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(row.dim, row.dim))
    f = ln.objectives.quadratic(factor @ factor.T + np.eye(row.dim), rng.normal(size=row.dim))
    s = ln.LionK(f, row.kappa, 0.7, 1.3, 0.4, 1.6)
    solution = _run(s, np.zeros(row.dim), 0.3 * rng.normal(size=row.dim), 12.0, 1e-2, 1e-5, 1e-7)
    assert solution.status is Status.FINISHED
    best = ln.composite_optimum(s).x
    assert np.abs(solution.dense(12.0)[: row.dim] - best).max() < 2e-2
    certificate = ln.certify(solution.info["certified"])
    assert certificate.monotone, str(certificate)


def test_tau_is_checked_and_defaults_to_the_root_of_rtol():
    s, t_end, _ = _scalar_l1(0.2)
    assert _run(s, (-0.8,), (0.9,), t_end, None, 1e-6).info["tau"] == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="tau must be > 0"):
        _run(s, (-0.8,), (0.9,), t_end, -1.0)


def test_a_spent_budget_keeps_what_both_runs_reached():
    s, t_end, _ = _scalar_l1(0.2)
    solution = _run(s, (-0.8,), (0.9,), t_end, max_steps=5)
    assert solution.status is Status.BUDGET


def test_the_certificate_has_the_time_of_entry_not_the_end_of_its_step() -> None:
    f = ln.objectives.from_expression("(1 - x1)**2 + 3*(x2 - x1**2)**2")
    system = ln.LionK(f, ln.kappas.LInf(), lam=0.6)
    run = ln.simulate(system, [-0.86, 0.93], 1.0, method="moreau", rtol=1e-6, atol=1e-8)
    (entry,) = (event.t for event in run.events if event.kind == "entry")
    assert entry > 0
    assert min(abs(run.info["certified"].t - entry)) > 1e-3
    assert ln.certify(run, optimum=False).entry_time == pytest.approx(entry, rel=1e-4)
