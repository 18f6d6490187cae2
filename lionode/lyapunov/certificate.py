"""Certificates: what the theorems promise about a run, checked on that run, each line able to say no.

Nothing here trusts the integrator: H, the dissipation and the distances are recomputed from the states, and
every tolerance is derived from the tolerances that the run was made with (`Allowance`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from lionode._validate import Array
from lionode.lyapunov.function import dissipation, lyapunov, lyapunov_gradient
from lionode.lyapunov.updates import implicit_twin, monotone_lr, update_defect, update_excess
from lionode.optimum import composite_optimum, optimality_gap
from lionode.system import EG_SLACK, LionK
from lionode.trajectory import Trajectory

__all__ = ["Certificate", "Check", "Verdict", "certify"]

EPS = float(np.finfo(np.float64).eps)

ROUNDINGS = 64.0
"""Roundings allowed in one difference of two values of H, relative to its largest term: sums over
d components and the cancellation in the Fenchel–Young gap cost tens, not thousands."""

INTERPOLATION = 30.0
"""Inside a step the solvers' interpolants are of lower order than the step: their error is several times what
the tolerance allows at its ends (at most 14 times over six solvers, twelve systems and two tolerances)."""

QUADRATURE_SHARE = 0.1
"""The quadrature may use this share of what the run's tolerances allow in the whole balance."""

MAX_HALVINGS = 12
"""How often the quadrature halves a piece: at a singular end of the integrand it would never stop."""

STEP_EQUATION = 1e-10
"""To this, relative, backward Euler solves its step equation. What is claimed of its steps holds whatever
their truncation error: the tolerances of the run excuse nothing."""

FEW = "fewer than two points in dom κ*"

OPTIMUM_DIM = 200
"""Up to this many parameters `certify` finds the composite optimum unasked: that takes milliseconds."""


class Verdict(StrEnum):
    """What a line of a certificate says."""

    HELD = "held"
    VIOLATED = "violated"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Check:
    """One line of a certificate: a claim, the verdict, the measured number, the bound it was held against."""

    claim: str
    verdict: Verdict
    value: float
    bound: float
    note: str = ""


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


class Allowance:
    """How far each state may be off: atol + rtol·|y| a component and step, in scipy's RMS norm.

    By Cauchy–Schwarz a step may then change H by ‖(atol + rtol|y|)·∂H‖₂·√(2d) plus rounding.
    """

    def __init__(self, run: Trajectory) -> None:
        if run.method == "backward-euler":
            self.rtol = self.atol = STEP_EQUATION
        else:
            self.rtol, self.atol = float(run.info.get("rtol", 0.0)), float(run.info.get("atol", 0.0))

    def of(self, y: Array) -> Array:
        return self.atol + self.rtol * np.abs(y)

    def distance(self, y: Array) -> Array:
        """Euclidean norm of the allowed error of y in one step, with the roundings that made it.

        Those are more than of y itself: u ∈ ∂κ_τ is a difference of numbers larger than u, divided by τ.
        """
        return np.asarray(np.linalg.norm(self.of(y) + ROUNDINGS * EPS * np.abs(y), axis=-1) * math.sqrt(2))

    def accumulated(self, y: Array, log_decay: Array) -> Array:
        """The same over all steps so far, each decaying like the distance to dom κ*: aₖ = aₖ₋₁δₖ + tolₖ."""
        result = self.distance(y)
        for k in range(1, len(result)):
            result[k] += result[k - 1] * math.exp(log_decay[k] - log_decay[k - 1])
        return result

    def energy(self, run: Trajectory, x: Array, m: Array) -> Array:
        """The allowed change of H at each state."""
        in_x, in_m = lyapunov_gradient(run.system, x, m)
        pieces = np.concatenate([in_x * self.of(x), in_m * self.of(m)], axis=-1)
        # An infinite slope of κ* at the edge of its domain allows nothing in particular.
        pieces = np.where(np.isfinite(pieces), pieces, 0.0)
        rounding = ROUNDINGS * EPS * _magnitude(run, x, m)
        return np.asarray(np.linalg.norm(pieces, axis=-1) * math.sqrt(2 * run.system.dim) + rounding)


def certify(run: Trajectory, *, optimum: bool | None = None) -> Certificate:
    """Check what the theorems promise about a run, on that run.

    For a flow: H never rises between consecutive accepted points, H(T) − H(t₀) + ∫Δ dt = 0, the distance of
    λx to dom κ* decays at least like e^{−λt}, λx stays in dom κ* once there. For updates and backward Euler
    the factor of phase 1 is that of the scheme. Each update has to follow from the one before, and H may rise
    by no more than the discrete theorem allows. Where f is μ-strongly convex the end lies within
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
    run = run.info.get("certified", run)
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
    checks = [_phase1(run, distance[phase1], slack[phase1], decay[phase1], entry)]
    checks += [
        _feasible(distance[first:], slack[first:]), _within_theory(run.system), _consistent(run, allowance),
    ]  # fmt: skip
    loose = float(slack.max())
    x_in, m_in = _snap(run.system, x[first:], loose), m[first:]
    twin = implicit_twin(run) if updates else run.system
    energies = np.zeros(0)
    if len(x_in):
        energies = lyapunov(twin if isinstance(twin, LionK) else run.system, x_in, m_in)
    rises = np.diff(energies)
    max_increase = float(rises.max()) if rises.size else math.nan
    if run.method == "backward-euler":
        checks.append(_step_equation(run, float(t[-1])))
    if updates:
        checks.append(_recurrence(run, x, m))
        checks += _discrete(run, twin, x_in, m_in, rises)
        balance = math.nan
    else:
        allowed = allowance.energy(run, x_in, m_in)
        checks.append(_monotone(rises, allowed))
        size = float(_magnitude(run, x_in, m_in)[:1].sum())
        balances = _balance(run, t[first:], energies, allowed, loose, size)
        checks += balances
        balance = balances[0].value
    stationarity = _stationarity(run, x[-1], m[-1])
    tolerance = max(float(allowance.distance(np.concatenate([x[-1], m[-1]]))), ROUNDINGS * EPS)
    if stationarity <= tolerance:
        checks.append(Check("at a stationary point", Verdict.HELD, stationarity, tolerance))
    else:
        checks.append(_open("at a stationary point", "the end is still on its way", stationarity, tolerance))
    if optimum if optimum is not None else run.system.dim <= OPTIMUM_DIM:
        checks.append(_distance(run, x[-1], loose))
    if left_out:
        checks.append(_open(*left_out))
    return Certificate(tuple(checks), max_increase, balance, entry, checks[0].value, stationarity)


def _open(claim: str, why: str, value: float = math.nan, bound: float = math.nan) -> Check:
    """A line on which nothing is claimed, and why."""
    return Check(claim, Verdict.NOT_APPLICABLE, value, bound, why)


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
        return _open(claim, f"no optimum was found: {best.message}")
    if best.local:
        return _open(claim, "to a local one: f is not known to be convex", value)
    mu = system.objective.strong_convexity
    if not mu or mu < 0:
        return _open(claim, "f is not known to be strongly convex", value)
    (inside,) = _snap(system, x[None], slack)
    gap = optimality_gap(system, inside)
    if not math.isfinite(gap):
        return _open(claim, "needs γ, λ > 0 and λx in dom κ*", value)
    rounding = ROUNDINGS * EPS * float(_magnitude(run, inside, -system.objective.gradient(inside)))
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
        return _open(claim, "a single point")
    saved, own = np.concatenate([run.x, run.m, run.u], axis=1), run.evaluate(run.t)
    # Next to where a run broke down there is no u to compare with.
    known = np.isfinite(own)
    own = np.where(known, own, 0.0)
    gap = np.linalg.norm(np.where(known, saved - own, 0.0), axis=1)
    limit = allowance.distance(own)
    worst = int(np.argmax(gap - limit))
    verdict = Verdict.HELD if gap[worst] <= limit[worst] else Verdict.VIOLATED
    return Check(claim, verdict, float(gap[worst]), float(limit[worst]))


def _recurrence(run: Trajectory, x: Array, m: Array) -> Check:
    """The states are those of the optimizer, up to rounding."""
    claim = "each update follows from the last"
    if run.info["stochastic"] or run.info["record_every"] != 1:
        return _open(claim, "needs exact gradients and record_every=1")
    if len(x) < 2:
        return _open(claim, "a single point")
    defect, size = update_defect(run, x, m)
    limit = ROUNDINGS * EPS * size
    worst = int(np.argmax(defect - limit))
    verdict = Verdict.HELD if defect[worst] <= limit[worst] else Verdict.VIOLATED
    return Check(claim, verdict, float(defect[worst]), float(limit[worst]))


def _step_equation(run: Trajectory, end: float) -> Check:
    """x⁺ = x + h(u − λx⁺) with u ∈ ∂κ(m̃⁺), and m⁺ = m − h(α∇f(x⁺) + γm⁺), on every step up to the end."""
    claim = "each step solves its equation"
    if run.dense is None:
        return _open(claim, "a single point")
    system, d = run.system, run.system.dim
    t = run.dense.breaks[run.dense.breaks <= end]
    if len(t) < 2:
        return _open(claim, "a single point")
    y, h = run.dense(t), np.diff(t)[:, None]
    x, m = y[:, :d], y[:, d : 2 * d]
    force = system.alpha * system.objective.gradient(x[1:]) + system.gamma * m[1:]
    m_tilde = m[1:] - system.epsilon * force
    u = np.diff(x, axis=0) / h + system.lam * x[1:]
    # As for updates: u ∈ ∂κ(m̃) iff m̃ = prox_κ(m̃ + u).
    parts = [np.diff(m, axis=0) + h * force, h * (m_tilde - system.kappa.prox(m_tilde + u))]
    defect = np.linalg.norm(np.concatenate(parts, axis=-1), axis=-1)
    sizes = [x[1:], x[:-1], m[1:], m[:-1], h * force, h * m_tilde, h * u]
    limit = STEP_EQUATION * np.linalg.norm(np.concatenate(sizes, axis=-1), axis=-1)
    worst = int(np.argmax(defect - limit))
    verdict = Verdict.HELD if defect[worst] <= limit[worst] else Verdict.VIOLATED
    return Check(claim, verdict, float(defect[worst]), float(limit[worst]))


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


def _snap(system: LionK, x: Array, slack: float) -> Array:
    """Move states that are outside dom κ* by no more than the slack onto it, where H is finite."""
    if system.lam == 0 or len(x) == 0:
        return x
    y = system.lam * x
    close = system.kappa.distance(y) <= slack
    return np.where(close[:, None], system.kappa.project(y) / system.lam, x)


def _phase1(run: Trajectory, distance: Array, slack: Array, decay: Array, entry: float) -> Check:
    claim = "distance to dom κ* decays"
    if len(distance) < 2:
        return _open(claim, "started inside" if entry == 0 else "a single point")
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
        return _open(claim, "never entered")
    worst = int(np.argmax(distance - slack))
    verdict = Verdict.HELD if distance[worst] <= slack[worst] else Verdict.VIOLATED
    return Check(claim, verdict, float(distance[worst]), float(slack[worst]))


def _monotone(rises: Array, allowed: Array) -> Check:
    claim = "H never rises"
    if rises.size == 0:
        return _open(claim, FEW)
    excess = rises - allowed[1:]
    worst = int(np.nanargmax(excess))
    bad = bool(np.isnan(rises).any()) or excess[worst] > 0
    return Check(
        claim, Verdict.VIOLATED if bad else Verdict.HELD, float(rises[worst]), float(allowed[1:][worst])
    )


def _balance(
    run: Trajectory, t: Array, energies: Array, allowed: Array, slack: float, size: float
) -> list[Check]:
    whole, each = "H(T) − H(0) + ∫Δ = 0", "the same on every step"
    if run.dense is not None and run.dense.nodes.shape[1] == 2:
        return [_open(claim, "piecewise linear: closes only to O(step)") for claim in (whole, each)]
    if len(t) < 2 or run.dense is None:
        return [_open(claim, FEW) for claim in (whole, each)]
    bound = float(allowed.sum())
    if bound > size:
        return [
            _open(claim, "the tolerances allow more than H itself", bound=bound) for claim in (whole, each)
        ]
    integrals, errors = _integrate_dissipation(run, t, QUADRATURE_SHARE * bound, slack)
    if not (np.isfinite(integrals).all() and np.isfinite(energies).all()):
        return [_open(claim, "λx met the edge of dom κ*, where ∂κ* is empty") for claim in (whole, each)]
    error = float(errors.sum())
    note = f"quadrature error {error:.0e}" if error > QUADRATURE_SHARE * bound else ""
    defects = np.diff(energies) + integrals
    residual = float(abs(defects.sum()))
    limits = INTERPOLATION * (allowed[:-1] + allowed[1:]) + errors
    worst = int(np.argmax(np.abs(defects) - limits))
    held = [residual <= bound, bool((np.abs(defects) <= limits).all())]
    verdicts = [Verdict.HELD if ok else Verdict.VIOLATED for ok in held]
    return [
        Check(whole, verdicts[0], residual, bound, note),
        Check(each, verdicts[1], float(abs(defects[worst])), float(limits[worst])),
    ]


def _integrate_dissipation(run: Trajectory, t: Array, target: float, slack: float) -> tuple[Array, Array]:
    """∫ −dH/dt between consecutive times by Gauss–Legendre, and the estimated error of each.

    Pieces whose two orders disagree are halved until each meets its share, by length, of the target.
    """
    d, system = run.system.dim, run.system
    coarse, fine = np.polynomial.legendre.leggauss(4), np.polynomial.legendre.leggauss(9)

    def integrals(low: Array, high: Array, rule: tuple[Array, Array]) -> Array:
        points = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * rule[0]
        y = run.evaluate(points)
        x = _snap(system, y[..., :d].reshape(-1, d), slack).reshape(y[..., :d].shape)
        rate = dissipation(system, x, y[..., d : 2 * d], y[..., 2 * d :]).rate
        return np.asarray((high - low) / 2 * (rate @ rule[1]))

    owner = np.flatnonzero(np.diff(t) > 0)
    low, high = t[owner], t[owner + 1]
    result, errors = np.zeros((2, len(t) - 1))
    for last in (*(False,) * MAX_HALVINGS, True):
        rough, good = integrals(low, high, coarse), integrals(low, high, fine)
        with np.errstate(invalid="ignore"):  # infinite on both sides: left as it is, and seen above
            gap = np.abs(rough - good)
        done = (gap <= target * (high - low) / (t[-1] - t[0])) | last
        np.add.at(result, owner[done], good[done])
        np.add.at(errors, owner[done], gap[done])
        low, high, owner = low[~done], high[~done], owner[~done]
        if low.size == 0:
            break
        middle = (low + high) / 2
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        owner = np.concatenate([owner, owner])
    return result, errors


def _discrete(run: Trajectory, twin: LionK | str, x: Array, m: Array, rises: Array) -> list[Check]:
    if len(x) < 2:
        return [_open(claim, FEW) for claim in ("H never rises", "discrete bound on H")]
    scale = float(np.abs(_magnitude(run, x, m)).max())
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
        return _open(claim, "updates may rise by (L/2)η²‖V‖² a step", value, rounding)
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


def _magnitude(run: Trajectory, x: Array, m: Array) -> Array:
    """The size of the terms that H is summed from: rounding is relative to it, not to H."""
    system = run.system
    conjugate = system.kappa.conjugate(system.lam * x)
    conjugate = np.abs(np.where(np.isfinite(conjugate), conjugate, 0.0))
    share = 1 + (system.gamma / system.lam if system.lam else 0.0)
    inner = system.lam * np.sum(np.abs(x * m), axis=-1)
    f = system.alpha * np.abs(system.objective.value(x))
    return np.asarray(1 + f + share * conjugate + np.abs(system.kappa.value(m)) + inner)
