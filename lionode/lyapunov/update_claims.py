"""What is claimed of discrete updates: each follows from the last, and H rises by no more than it may."""

from __future__ import annotations

import math

import numpy as np

from lionode._validate import Array
from lionode.lyapunov.allowance import EPS, ROUNDINGS, magnitude
from lionode.lyapunov.checks import FEW, Check, Verdict, open_check, worst_check
from lionode.lyapunov.updates import monotone_lr, update_defect, update_excess
from lionode.system import LionK
from lionode.trajectory import Trajectory

__all__ = ["bound_checks", "recurrence_check"]


def recurrence_check(run: Trajectory, x: Array, m: Array) -> Check:
    """The states are those of the optimizer, up to rounding."""
    claim = "each update follows from the last"
    if run.info["stochastic"] or run.info["record_every"] != 1:
        return open_check(claim, "needs exact gradients and record_every=1")
    if len(x) < 2:
        return open_check(claim, "a single point")
    defect, size = update_defect(run, x, m)
    limit = ROUNDINGS * EPS * size
    return worst_check(claim, defect, limit)


def bound_checks(run: Trajectory, twin: LionK | str, x: Array, m: Array, rises: Array) -> list[Check]:
    """H rises nowhere where it cannot, and by no more than the discrete theorem allows elsewhere."""
    if len(x) < 2:
        return [open_check(claim, FEW) for claim in ("H never rises", "discrete bound on H")]
    scale = float(np.abs(magnitude(run.system, x, m)).max())
    rise = _updates_monotone(run, twin, x, rises, ROUNDINGS * EPS * scale)
    claim = "discrete bound on H"
    if isinstance(twin, str):
        verdict = Verdict.VIOLATED if run.info["lr"] * run.system.lam > 1 else Verdict.NOT_APPLICABLE
        return [rise, Check(claim, verdict, math.nan, math.nan, twin)]
    excess, smoothness = update_excess(run, twin, x, m)
    worst = float(excess.max())
    bound = ROUNDINGS * EPS * scale / max(run.system.gamma, EPS)
    return [
        rise,
        Check(claim, Verdict.HELD if worst <= bound else Verdict.VIOLATED, worst, bound, smoothness),
    ]


def _updates_monotone(run: Trajectory, twin: LionK | str, x: Array, rises: Array, rounding: float) -> Check:
    """H must not rise for η ≤ `monotone_lr`; a run that took more must not be seen to."""
    claim, lr, system = "H never rises", run.info["lr"], run.system
    worst = int(np.argmax(rises))
    value = float(rises[worst])
    if isinstance(twin, str) or math.isinf(system.kappa.lipschitz):
        if value <= rounding:
            return Check(claim, Verdict.HELD, value, rounding)
        return open_check(claim, "updates may rise by (L/2)η²‖V‖² a step", value, rounding)
    smoothness, known = system.objective.smoothness, "L"
    if smoothness is None:
        # The theorem asks no more of L than that the descent lemma holds on the step.
        smoothness, known = _realised_smoothness(system, x[worst : worst + 2]), "L realised there"
    limit = monotone_lr(
        run.info["beta1"], run.info["beta2"], system.lam, decay=run.method,
        smoothness=system.alpha / system.gamma * smoothness, kappa_smoothness=system.kappa.lipschitz,
    )  # fmt: skip
    verdict = Verdict.HELD if value <= rounding else Verdict.VIOLATED
    sign = "≤" if lr <= limit else ">"
    note = f"η = {lr:g} {sign} {limit:.3g}, up to which it cannot ({known} = {smoothness:.3g})"
    return Check(claim, verdict, value, rounding, note)


def _realised_smoothness(system: LionK, pair: Array) -> float:
    """The least L > 0 with f(x⁺) ≤ f(x) + ⟨∇f(x), x⁺ − x⟩ + (L/2)‖x⁺ − x‖² for one pair of points."""
    step, f = pair[1] - pair[0], system.objective
    bend = float(np.diff(f.value(pair))[0] - f.gradient(pair[0]) @ step)
    tiny = np.finfo(np.float64).tiny
    return max(2 * bend / max(float(step @ step), tiny), tiny)
