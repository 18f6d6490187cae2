"""What is claimed of flows between their accepted points: H never rises, and falls by what is dissipated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial.legendre import Legendre

from lionode._validate import Array
from lionode.lyapunov.allowance import EPS, ROUNDINGS, STEP_EQUATION, Allowance, snap
from lionode.lyapunov.checks import FEW, Check, Verdict, open_check, worst_check
from lionode.lyapunov.function import dissipation
from lionode.trajectory import Trajectory

__all__ = [
    "balance_checks",
    "combination_check",
    "follow_check",
    "monotone_check",
    "selection_check",
    "step_check",
]

WITHIN = np.linspace(0.0, 1.0, 5)
"""Where in a step, as fractions of it, ∇H is looked at."""

QUADRATURE_SHARE = 0.1
"""The quadrature may use this share of what the run's tolerances allow in the whole balance."""

MAX_HALVINGS = 30
"""How often the quadrature halves a piece: to 1e-9 of a step where ∂κ* jumps, at a singular end for ever."""

CROWD = 16
"""Jumps leave a piece or a few of each step to halve. Where there are more, it is rounding that is halved."""

INWARD = 1e-9
"""By this share the ends of a piece are taken from within it: u may jump there."""

BEND = 300.0
"""A step over a bend of κ's gradient may be off by this many times the tolerance: the solver's estimate of
its error expects smoothness. In some 2000 random runs by all methods it was 260 times at most, but for six
of RK45, DOP853 and Radau from far starts, 500 to 7000 times; for implicit methods otherwise, 20 times."""

DRIFT = 10.0
"""The same on average over many steps; at most 4 was seen, by RK23."""

BEND_AT_EVENTS, DRIFT_AT_EVENTS = 10.0, 1.0
"""The same for flows by events, which step over no bend: in 600 random runs a step was off by 1 at most."""

SHAKES = 2
"""How often the state is moved at a point to see what its velocity does."""


def monotone_check(rises: Array, allowed: Array) -> Check:
    """H at an accepted point is no more than at the one before, up to what the tolerances allow."""
    claim = "H never rises"
    if rises.size == 0:
        return open_check(claim, FEW)
    limits = np.maximum(allowed[:-1], allowed[1:])
    excess = rises - limits
    worst = int(np.nanargmax(excess))
    bad = bool(np.isnan(rises).any()) or excess[worst] > 0
    return Check(claim, Verdict.VIOLATED if bad else Verdict.HELD, float(rises[worst]), float(limits[worst]))


def balance_checks(
    run: Trajectory, allowance: Allowance, t: Array, energies: Array, slack: float, size: float
) -> list[Check]:
    """H(T) − H(t₀) + ∫Δ dt = 0 over phase 2 and over each of its steps; `size` is that of the terms of H.

    Where ẏ = F(y) + r holds along the dense output y, the balance of a step is off by exactly ∫⟨∇H, r⟩dt.
    What the tolerances allow in it is therefore read off the largest ∇H *within* the step: at its ends ∇H may
    vanish by chance, and near rest it does. As in `follow_check` a step may be off by `BEND` times that, and
    the whole by as much beyond the sum over all.
    """
    whole, each = "H(T) − H(0) + ∫Δ = 0", "the same on every step"
    if run.dense is not None and run.dense.nodes.shape[1] == 2:
        return [open_check(claim, "piecewise linear: closes only to O(step)") for claim in (whole, each)]
    if len(t) < 2 or run.dense is None:
        return [open_check(claim, FEW) for claim in (whole, each)]
    allowed = _energy_within(run, allowance, t, slack)
    limits = BEND * allowed
    bound = float(allowed.sum() + limits.max())
    if bound > size:
        why = "the tolerances allow more than H itself"
        return [open_check(claim, why, bound=bound) for claim in (whole, each)]
    targets = QUADRATURE_SHARE * np.minimum(limits, bound * np.diff(t) / (t[-1] - t[0]))
    integrals, errors = _integrate_dissipation(run, t, targets, slack)
    if not (np.isfinite(integrals).all() and np.isfinite(energies).all()):
        return [open_check(claim, "λx met the edge of dom κ*, where ∂κ* is empty") for claim in (whole, each)]
    error = float(errors.sum())
    note = f"quadrature error {error:.0e}" if error > QUADRATURE_SHARE * bound else ""
    defects = np.diff(energies) + integrals
    residual = float(abs(defects.sum()))
    verdict = Verdict.HELD if residual <= bound + error else Verdict.VIOLATED
    return [
        Check(whole, verdict, residual, bound + error, note),
        worst_check(each, np.abs(defects), limits + errors),
    ]


def _energy_within(run: Trajectory, allowance: Allowance, t: Array, slack: float) -> Array:
    """What the tolerances allow H to be off by in each step, by the largest of its points at `WITHIN`.

    Where x was moved onto dom κ*, it is that much further off.
    """
    d = run.system.dim
    y = run.evaluate(t[:-1, None] + np.diff(t)[:, None] * WITHIN)[..., : 2 * d]
    off = np.repeat(_allowed_within(run, allowance, t)[:, None], WITHIN.size, axis=1)
    x = snap(run.system, y[..., :d].reshape(-1, d), slack).reshape(y[..., :d].shape)
    off[..., :d] += np.abs(x - y[..., :d])
    return np.asarray(allowance.energy(run, x, y[..., d:], off).max(axis=1))


def _allowed_within(run: Trajectory, allowance: Allowance, t: Array) -> Array:
    """How far ∫F(y)dt along the dense output y may be from y(b) − y(a) in each step, ``(n, 2d)``.

    By tol = atol + rtol·|y|, and by h times what F changes by where the state is moved by tol: of a stiff
    system the dense output is near the flow, not so its velocity.
    """
    states = run.evaluate(np.stack([t[:-1], (t[:-1] + t[1:]) / 2, t[1:]]))
    velocity = _velocity(run, states)
    size = np.abs(states[..., : velocity.shape[-1]]).max(axis=0)
    # A time is known to a rounding only, which tells in a state that runs away.
    rounding = size + t[1:, None] * np.abs(velocity).max(axis=0)
    tol = allowance.of(size) + ROUNDINGS * EPS * rounding
    return np.asarray(tol + np.diff(t)[:, None] * _response(run, states, velocity, tol))


def _integrate_dissipation(run: Trajectory, t: Array, targets: Array, slack: float) -> tuple[Array, Array]:
    """∫ −dH/dt between consecutive times, and the estimated error of each, which is to meet its target."""
    d, system = run.system.dim, run.system

    def rate(times: Array) -> Array:
        y = run.evaluate(times)
        x = snap(system, y[..., :d].reshape(-1, d), slack).reshape(y[..., :d].shape)
        return dissipation(system, x, y[..., d : 2 * d], y[..., 2 * d :]).rate[..., None]

    integrals, errors = _integrate(rate, t, targets[:, None])
    return integrals[:, 0], errors[:, 0]


def _integrate(function: Callable[[Array], Array], t: Array, targets: Array) -> tuple[Array, Array]:
    """∫ function dt between consecutive times by Gauss–Lobatto, and the estimated error of each.

    Pieces whose two orders disagree are halved until each meets its share, by length, of the target of its
    interval. Both look at the ends of a piece: of a jump next to an end inner points alone would know
    nothing. Shapes: ``(k, l)`` to ``(k, l, q)`` for the function, ``(n, q)`` for targets and results.
    """
    coarse, fine = _lobatto(5), _lobatto(10)

    def integrals(low: Array, high: Array, rule: tuple[Array, Array]) -> Array:
        points = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * rule[0]
        return np.asarray((high - low)[:, None] / 2 * np.einsum("klq,l->kq", function(points), rule[1]))

    owner = np.flatnonzero(np.diff(t) > 0)
    low, high = t[owner], t[owner + 1]
    result, errors = np.zeros((2, *targets.shape))
    for last in (*(False,) * MAX_HALVINGS, True):
        rough, good = integrals(low, high, coarse), integrals(low, high, fine)
        with np.errstate(invalid="ignore"):  # infinite on both sides: left as it is, and seen above
            gap = np.abs(rough - good)
        share = (high - low) / (t[owner + 1] - t[owner])
        done = (gap <= targets[owner] * share[:, None]).all(axis=1) | last | (low.size > CROWD * len(t))
        np.add.at(result, owner[done], good[done])
        np.add.at(errors, owner[done], gap[done])
        low, high, owner = low[~done], high[~done], owner[~done]
        if low.size == 0:
            break
        middle = (low + high) / 2
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        owner = np.concatenate([owner, owner])
    return result, errors


def _lobatto(n: int) -> tuple[Array, Array]:
    """Nodes and weights on [−1, 1], exact to degree 2n − 3 but for the shift of the ends."""
    last = Legendre.basis(n - 1)
    nodes = np.concatenate([[-1.0], last.deriv().roots(), [1.0]])
    return nodes.clip(INWARD - 1, 1 - INWARD), 2 / (n * (n - 1) * last(nodes) ** 2)


def step_check(run: Trajectory, end: float) -> Check:
    """x⁺ = x + h(u − λx⁺) with u ∈ ∂κ(m̃⁺), and m⁺ = m − h(α∇f(x⁺) + γm⁺), on every step up to the end."""
    claim = "each step solves its equation"
    if run.dense is None:
        return open_check(claim, "a single point")
    system, d = run.system, run.system.dim
    t = run.dense.breaks[run.dense.breaks <= end]
    if len(t) < 2:
        return open_check(claim, "a single point")
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
    return worst_check(claim, defect, limit)


def follow_check(run: Trajectory, allowance: Allowance, end: float) -> Check:
    """x(b) − x(a) = ∫(u − λx)dt and m(b) − m(a) = −∫(α∇f + γm)dt on every step, and every 2, 4, 8 … steps.

    The integrals are those of the dense output. The sum over a stretch may be off by `BEND` times what the
    tolerances allow in the worst of its steps, and by `DRIFT` times what they allow in all of them; the line
    gives the largest share of that, in the RMS norm of the solvers. The event method ends its steps at every
    bend, and has limits of its own.

    A dense output that is forged together with the states, by δ in each component within n steps, is refused
    from about δ = (BEND + DRIFT·n)·tol on, 2e-6 to 1e-5 at rtol = 1e-8. A run that is off by as much where
    its solver stepped over a bend is refused too, and rightly: it is no flow to its tolerance.
    """
    claim = "the states follow the flow"
    if run.dense is None or (t := run.dense.breaks[run.dense.breaks <= end]).size < 2:
        return open_check(claim, "a single point")
    d = run.system.dim
    allowed = _allowed_within(run, allowance, t)
    integrals, errors = _integrate(lambda at: _velocity(run, run.evaluate(at)), t, QUADRATURE_SHARE * allowed)
    allowed += errors
    bend, drift = (BEND_AT_EVENTS, DRIFT_AT_EVENTS) if run.method == "event" else (BEND, DRIFT)
    sums, largest, total = np.diff(run.dense(t)[:, : 2 * d], axis=0) - integrals, allowed, allowed
    worst, stretch, width = 0.0, t[:2], 1
    while True:
        shares = np.sqrt(np.mean((sums / (bend * largest + drift * total)) ** 2, axis=1))
        if not shares.max() <= worst:
            first = int(np.argmax(shares))
            worst, stretch = float(shares[first]), t[[first, first + width]]
        if len(sums) <= width:
            break
        sums, total = (values[:-width] + values[width:] for values in (sums, total))
        largest = np.maximum(largest[:-width], largest[width:])
        width *= 2
    verdict = Verdict.HELD if worst <= 1 else Verdict.VIOLATED
    return Check(claim, verdict, worst, 1.0, f"worst from t = {stretch[0]:.6g} to {stretch[1]:.6g}")


def _velocity(run: Trajectory, y: Array) -> Array:
    """(ẋ, ṁ) at (x, m, u)."""
    d = run.system.dim
    return np.concatenate(run.system.velocity(y[..., :d], y[..., d : 2 * d], y[..., 2 * d :]), axis=-1)


def _response(run: Trajectory, states: Array, velocity: Array, tol: Array) -> Array:
    """What each component of the velocity changes by, at most, where the states are moved by tol.

    Moved to both sides at random: that asks nothing of f but ∇f.
    """
    d, signs, largest = run.system.dim, np.random.default_rng(0), np.zeros_like(tol)
    for _ in range(SHAKES):
        moved = states.copy()
        moved[..., : 2 * d] += tol * signs.choice([-1.0, 1.0], size=velocity.shape)
        if run.dense is not None and run.dense.nodes.shape[-1] == 2 * d:
            x, m = moved[..., :d], moved[..., d : 2 * d]
            moved[..., 2 * d :] = run.system.kappa.subgradient(run.system.look_ahead(x, m))
        change = np.abs(_velocity(run, moved) - velocity)
        # Where f ends next to the state, its gradient says nothing.
        largest = np.maximum(largest, np.nan_to_num(change, nan=0.0, posinf=0.0).max(axis=0))
    return largest


def selection_check(run: Trajectory, allowance: Allowance, end: float) -> Check:
    """u ∈ ∂κ(m̃), that is m̃ = prox_κ(m̃ + u), at every point that holds the dense output, where that holds u.

    A dense output without u has it computed from (x, m), in ∂κ(m̃).
    """
    claim, d = "u ∈ ∂κ(m̃) throughout", run.system.dim
    if run.dense is None:
        return open_check(claim, "a single point")
    y = run.dense.nodes[run.dense.breaks[1:] <= end].reshape(-1, run.dense.nodes.shape[-1])
    if y.shape[-1] == 2 * d:
        return open_check(claim, "u is computed from (x, m)")
    if len(y) == 0:
        return open_check(claim, "a single point")
    system = run.system
    x, m, u = y[:, :d], y[:, d : 2 * d], y[:, 2 * d :]
    force = system.alpha * system.objective.gradient(x)
    m_tilde = system.look_ahead(x, m)
    defect = np.linalg.norm(m_tilde - system.kappa.prox(m_tilde + u), axis=-1)
    parts = [u, m, system.epsilon * force, system.epsilon * system.gamma * m]
    return worst_check(claim, defect, np.sum([allowance.distance(part) for part in parts], axis=0))


def combination_check(given: Trajectory, certified: Trajectory) -> Check:
    """The Richardson combination is as far from the run of κ_{τ/2} as its error estimate says.

    Of the combination itself nothing is known beyond that: it is the smoothed run that is judged.
    """
    claim, d = "within its error estimate of κ_{τ/2}", given.system.dim
    if given.dense is None or certified.dense is None:
        return open_check(claim, "a single point")
    dense = given.dense
    times = dense.breaks[:-1, None] + np.diff(dense.breaks)[:, None] * dense.points(dense.nodes.shape[1])
    own = certified.dense(np.minimum(times, dense.breaks[-1]))
    gap = np.abs(dense.nodes[..., : 2 * d] - own).max(axis=-1).ravel()
    limit = given.info["error_estimate"] + ROUNDINGS * EPS * np.abs(own).max(axis=-1).ravel()
    return worst_check(claim, gap, limit)
