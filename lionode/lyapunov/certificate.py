"""Certificates: what the theorems promise about a run, checked on that run, each line able to say no.

Nothing here trusts the integrator: H, the dissipation and the distances are recomputed from the states, and
every tolerance is derived from the tolerances that the run was made with (`Allowance`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass

import numpy as np

from lionode._validate import Array
from lionode.lyapunov.allowance import EPS, ROUNDINGS, Allowance, magnitude, snap
from lionode.lyapunov.checks import Check, Verdict, open_check, worst_check
from lionode.lyapunov.flow_claims import (
    balance_checks,
    combination_check,
    follow_check,
    monotone_check,
    selection_check,
    step_check,
)
from lionode.lyapunov.function import lyapunov
from lionode.lyapunov.update_claims import bound_checks, recurrence_check
from lionode.lyapunov.updates import implicit_twin
from lionode.optimum import composite_optimum, optimality_gap
from lionode.system import EG_SLACK, LionK
from lionode.trajectory import Trajectory

__all__ = ["Certificate", "Check", "Verdict", "certify"]

OPTIMUM_DIM = 200
"""Up to this many parameters `certify` finds the composite optimum unasked: that takes milliseconds."""


@dataclass(frozen=True)
class Certificate:
    """What was claimed of a run, and what was found.

    Attributes
    ----------
    checks : tuple of Check
        One per claim.
    max_increase : float
        Largest rise of H between two consecutive accepted points in phase 2 (≤ 0 if it never rose). For
        updates with explicit decay H is that of the implicit ones they equal, which is what cannot rise.
    balance_residual : float
        |H(T) − H(t₀) + ∫Δ dt| over phase 2 (NaN for updates).
    entry_time : float
        When λx entered dom κ*: 0 if it started there, inf if it had not by the end, or came as near as the
        tolerance tells only because the distance decays like e^{−λt}.
    phase1_ratio : float
        Worst dist(λx(t)) / e^{−λ(t−s)} dist(λx(s)) over all s < t in phase 1 (NaN without phase 1).
    stationarity : float
        Residual of the stationarity conditions at the end, relative.
    """

    checks: tuple[Check, ...]
    max_increase: float
    balance_residual: float
    entry_time: float
    phase1_ratio: float
    stationarity: float

    @property
    def holds(self) -> bool:
        """Whether no claim was violated."""
        return all(check.verdict is not Verdict.VIOLATED for check in self.checks)

    @property
    def monotone(self) -> bool:
        """Whether H never rose beyond what the tolerances of the run explain."""
        return self["H never rises"].verdict is not Verdict.VIOLATED

    def __getitem__(self, claim: str) -> Check:
        for check in self.checks:
            if check.claim == claim:
                return check
        raise KeyError(claim)

    def __str__(self) -> str:
        width = max(len(check.claim) for check in self.checks)
        lines = [f"certificate: {'holds' if self.holds else 'DOES NOT HOLD'}"]
        for check in self.checks:
            number = "" if math.isnan(check.value) else f"{check.value:10.3e}"
            limit = "" if math.isnan(check.bound) else f"≤ {check.bound:.1e}"
            line = f"  {check.claim:<{width}}  {check.verdict:<14}  {number:>10}  {limit:<10}  {check.note}"
            lines.append(line.rstrip())
        return "\n".join(lines)

    def to_json(self) -> str:
        """The certificate as JSON; NaN and inf become null and "inf"."""

        def clean(value: object) -> object:
            if isinstance(value, float) and not math.isfinite(value):
                return None if math.isnan(value) else "inf" if value > 0 else "-inf"
            return value

        numbers = {
            f.name: clean(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "checks"
        }
        checks = [{k: clean(v) for k, v in dataclasses.asdict(check).items()} for check in self.checks]
        return json.dumps({"holds": self.holds, **numbers, "checks": checks}, indent=2)


def certify(run: Trajectory, *, optimum: bool | None = None) -> Certificate:
    """Check what the theorems promise about a run, on that run.

    For a flow: the states follow it (`follow_check` says how small a forgery that finds), H never rises
    between consecutive accepted points, H(T) − H(t₀) + ∫Δ dt = 0, the distance of λx to dom κ* decays at
    least like e^{−λt}, λx stays in dom κ* once there. For updates and backward Euler the factor of phase 1 is
    that of the scheme. Each update has to follow from the one before, and H may rise by no more than the
    discrete theorem allows. Where f is μ-strongly convex the end lies within
    √(2·gap/(αμ)) of the composite optimum, gap = `optimality_gap`. A run that broke down is judged up to its
    last finite state, an unresolved tail is not judged.

    Parameters
    ----------
    run : Trajectory
        From `simulate` or `iterate`.
    optimum : bool, optional
        Whether to find the composite optimum and measure the distance to it; by default for d ≤ 200.

    Returns
    -------
    Certificate
        ``print`` shows it line by line.

    Raises
    ------
    TypeError
        If `run` is not a Trajectory.
    """
    if not isinstance(run, Trajectory):
        raise TypeError(f"certify needs a Trajectory from simulate or iterate, got {type(run).__name__}")
    # A smoothed flow has an exact H of its own: the one of the smoothed potential.
    given, run = run, run.info.get("certified", run)
    updates = "lr" in run.info
    t, x, m, left_out = _accepted(run, updates)
    allowance = Allowance(run)
    decay = _log_decay(run, t, updates)
    slack = allowance.accumulated(run.system.lam * x, decay)
    distance = run.system.kappa.distance(run.system.lam * x)
    inside = distance <= slack
    first = int(np.argmax(inside)) if inside.any() else len(x)
    entry = _entry_time(run, t, distance, slack, decay, first)
    phase1 = slice(0, first + 1)
    checks = [
        _phase1(run, distance[phase1], slack[phase1], decay[phase1], entry),
        _feasible(distance[first:], slack[first:]),
        _within_theory(run.system),
        _consistent(given, Allowance(given)),
    ]
    if given is not run:
        checks.append(combination_check(given, run))
    loose = float(slack.max())
    x_in, m_in = snap(run.system, x[first:], loose), m[first:]
    twin = implicit_twin(run) if updates else run.system
    energies = np.zeros(0)
    if len(x_in):
        energies = lyapunov(twin if isinstance(twin, LionK) else run.system, x_in, m_in)
    rises = np.diff(energies)
    max_increase = float(rises.max()) if rises.size else math.nan
    if run.method == "backward-euler":
        checks.append(step_check(run, float(t[-1])))
    elif not updates:
        checks += [follow_check(run, allowance, float(t[-1])), selection_check(run, allowance, float(t[-1]))]
    if updates:
        checks.append(recurrence_check(run, x, m))
        checks += bound_checks(run, twin, x_in, m_in, rises)
        balance = math.nan
    else:
        allowed = allowance.energy(run, x_in, m_in)
        checks.append(monotone_check(rises, allowed))
        size = float(magnitude(run.system, x_in, m_in)[:1].sum())
        balances = balance_checks(run, allowance, t[first:], energies, loose, size)
        checks += balances
        balance = balances[0].value
    stationarity = _stationarity(run, x[-1], m[-1])
    tolerance = max(float(allowance.distance(np.concatenate([x[-1], m[-1]]))), ROUNDINGS * EPS)
    if stationarity <= tolerance:
        checks.append(Check("at a stationary point", Verdict.HELD, stationarity, tolerance))
    else:
        checks.append(
            open_check("at a stationary point", "the end is still on its way", stationarity, tolerance)
        )
    if optimum if optimum is not None else run.system.dim <= OPTIMUM_DIM:
        checks.append(_distance(run, x[-1], loose))
    if left_out:
        checks.append(open_check(*left_out))
    return Certificate(tuple(checks), max_increase, balance, entry, checks[0].value, stationarity)


def _accepted(run: Trajectory, updates: bool) -> tuple[Array, Array, Array, tuple[str, str] | None]:
    """The states the claims are about, in order of time, and what had to be left out.

    They are the accepted ones, and any saved one that differs from them.
    """
    d = run.system.dim
    if updates or run.dense is None:
        t, x, m = run.t, run.x, run.m
    else:
        # What the user holds is the saved states: where one was edited, it is the edited one that is judged.
        saved = np.concatenate([run.x, run.m], axis=1)
        own = np.flatnonzero((run.dense(run.t)[:, : 2 * d] != saved).any(axis=1))
        states = run.dense(run.dense.breaks)
        t = np.concatenate([run.dense.breaks, run.t[own]])
        order = np.argsort(t, kind="stable")
        t = t[order]
        x = np.concatenate([states[:, :d], run.x[own]])[order]
        m = np.concatenate([states[:, d : 2 * d], run.m[own]])[order]
    handover = run.info.get("handover")
    if handover is not None:
        keep = max(1, int(np.searchsorted(t, handover, side="right")))
        why = "from there on the tail is damped by the scheme, and nothing is claimed"
        return t[:keep], x[:keep], m[:keep], (f"judged up to t = {handover:g}", why)
    if run.success:
        return t, x, m, None
    with np.errstate(all="ignore"):
        finite = np.asarray(np.isfinite(x).all(axis=1) & np.isfinite(m).all(axis=1))
        at = np.where(finite[:, None], x, x[0])
        finite &= np.isfinite(run.system.objective.value(at))
        # H and the distances are sums of products of these: past their squares nothing can be said.
        sizes = np.concatenate([x, m, run.system.objective.gradient(at)], axis=1)
        finite &= np.isfinite(np.sum(sizes**2, axis=1) ** 2)
    keep = max(1, int(np.argmin(finite)) if not finite.all() else len(t))
    return t[:keep], x[:keep], m[:keep], (f"judged up to t = {t[keep - 1]:g}", f"the run ended: {run.status}")


def _entry_time(run: Trajectory, t: Array, distance: Array, slack: Array, decay: Array, first: int) -> float:
    """When λx entered, by the run's own event or the accepted times; inf where it never truly did."""
    known = [event.t for event in run.events if event.kind == "entry"]
    if first == 0:
        return 0.0
    if known or first == len(t):
        return known[0] if known else math.inf
    # Where mere decay would have come as near, nothing tells an entry from an approach.
    decayed = distance[first - 1] * math.exp(decay[first] - decay[first - 1])
    return float(t[first]) if decayed > slack[first] else math.inf


def _distance(run: Trajectory, x: Array, slack: float) -> Check:
    """How far the end is from the composite optimum, against what its duality gap allows."""
    claim, system = "distance to the optimum", run.system
    best = composite_optimum(system, x0=x)
    value = float(np.linalg.norm(x - best.x))
    if not best.success:
        return open_check(claim, f"no optimum was found: {best.message}")
    if best.local:
        return open_check(claim, "to a local one: f is not known to be convex", value)
    mu = system.objective.strong_convexity
    if not mu or mu < 0:
        return open_check(claim, "f is not known to be strongly convex", value)
    (inside,) = snap(system, x[None], slack)
    gap = optimality_gap(system, inside)
    if not math.isfinite(gap):
        return open_check(claim, "needs γ, λ > 0 and λx in dom κ*", value)
    rounding = ROUNDINGS * EPS * float(magnitude(run.system, inside, -system.objective.gradient(inside)))
    moved = float(np.linalg.norm(inside - x))
    bound = math.sqrt(2 * (max(gap, 0.0) + rounding) / (system.alpha * mu)) + moved
    return Check(claim, Verdict.HELD if value <= bound else Verdict.VIOLATED, value, bound)


def _within_theory(system: LionK) -> Check:
    """A `LionK` cannot be made otherwise; where it was changed afterwards nothing is promised."""
    product = system.epsilon * system.gamma
    verdict = Verdict.HELD if product <= 1 + EG_SLACK else Verdict.VIOLATED
    return Check("εγ ≤ 1, as the theorems ask", verdict, product, 1.0)


def _consistent(run: Trajectory, allowance: Allowance) -> Check:
    """The saved (x, m, u) are those of the run: an edited or mixed-up one is not."""
    claim = "saved states lie on the run"
    if run.dense is None or len(run.t) == 0:
        return open_check(claim, "a single point")
    saved, own = np.concatenate([run.x, run.m, run.u], axis=1), run.evaluate(run.t)
    # Next to where a run broke down there is no u to compare with.
    known = np.isfinite(own)
    own = np.where(known, own, 0.0)
    gap = np.linalg.norm(np.where(known, saved - own, 0.0), axis=1)
    limit = allowance.distance(own)
    return worst_check(claim, gap, limit)


def _log_decay(run: Trajectory, t: Array, updates: bool) -> Array:
    """The logarithm of the factor by which the distance to dom κ* has to shrink from 0 to each t."""
    lam = run.system.lam
    if run.method == "backward-euler" and run.dense is not None:
        steps = np.log1p(lam * np.diff(run.dense.breaks))
        return np.asarray(np.interp(t, run.dense.breaks, -np.append(0.0, np.cumsum(steps))))
    if not updates:
        return -lam * t
    lr = run.info["lr"]
    factor = 1 / (1 + lr * lam) if run.method == "implicit" else max(0.0, 1 - lr * lam)
    return t / lr * math.log(factor) if factor > 0 else np.where(t > 0, -np.inf, 0.0)


def _phase1(run: Trajectory, distance: Array, slack: Array, decay: Array, entry: float) -> Check:
    claim = "distance to dom κ* decays"
    if len(distance) < 2:
        return open_check(claim, "started inside" if entry == 0 else "a single point")
    if "lr" in run.info and run.method == "explicit" and run.info["lr"] * run.system.lam > 1:
        note = f"η·λ = {run.info['lr'] * run.system.lam:g} > 1 overshoots"
        return Check(claim, Verdict.VIOLATED, math.inf, 1.0, note)
    with np.errstate(divide="ignore", invalid="ignore"):
        # best[k] = min over s ≤ t_k of dist(s)·e^{λs}: the sharpest of all the bounds on dist(t).
        best = np.minimum.accumulate(np.log(distance) - decay)
        ratio = distance[1:] / (np.exp(best[:-1] + decay[1:]) + slack[1:])
    worst = float(np.nanmax(ratio))
    verdict = Verdict.HELD if worst <= 1 + ROUNDINGS * EPS else Verdict.VIOLATED
    return Check(claim, verdict, worst, 1.0, "" if math.isfinite(entry) else "asymptotic: never entered")


def _feasible(distance: Array, slack: Array) -> Check:
    claim = "stays in dom κ* once there"
    if len(distance) == 0:
        return open_check(claim, "never entered")
    return worst_check(claim, distance, slack)


def _stationarity(run: Trajectory, x: Array, m: Array) -> float:
    """max(‖λx − u‖, ‖αg + γm‖) with u ∈ ∂κ(m̃) nearest to λx, relative to 1 + ‖λx‖ + ‖αg‖.

    λx ∈ ∂κ(m̃) iff m̃ = prox_κ(m̃ + λx); at rest m̃ = m.
    """
    system = run.system
    with np.errstate(over="ignore", invalid="ignore"):
        g = system.alpha * system.objective.gradient(x)
        velocity = -g - system.gamma * m
        m_tilde = m + system.epsilon * velocity
        y = system.lam * x
        scale = float(1 + np.linalg.norm(y) + np.linalg.norm(g))
        if not (np.isfinite(m_tilde).all() and math.isfinite(scale)):  # such a run has ended with that status
            return math.inf
        gap = m_tilde - system.kappa.prox(m_tilde + y, 1.0)
        return float(max(np.linalg.norm(gap), np.linalg.norm(velocity)) / scale)
