"""What is claimed of flows between their accepted points: H never rises, and falls by what is dissipated."""

from __future__ import annotations

import numpy as np

from lionode._validate import Array
from lionode.lyapunov.allowance import STEP_EQUATION, snap
from lionode.lyapunov.checks import FEW, Check, Verdict, open_check, worst_check
from lionode.lyapunov.function import dissipation
from lionode.trajectory import Trajectory

__all__ = ["balance_checks", "monotone_check", "step_check"]

INTERPOLATION = 30.0
"""Inside a step the solvers' interpolants are of lower order than the step: their error is several times what
the tolerance allows at its ends (at most 14 times over six solvers, twelve systems and two tolerances)."""

QUADRATURE_SHARE = 0.1
"""The quadrature may use this share of what the run's tolerances allow in the whole balance."""

MAX_HALVINGS = 12
"""How often the quadrature halves a piece: at a singular end of the integrand it would never stop."""


def monotone_check(rises: Array, allowed: Array) -> Check:
    """H at an accepted point is no more than at the one before, up to what the tolerances allow."""
    claim = "H never rises"
    if rises.size == 0:
        return open_check(claim, FEW)
    excess = rises - allowed[1:]
    worst = int(np.nanargmax(excess))
    bad = bool(np.isnan(rises).any()) or excess[worst] > 0
    return Check(
        claim, Verdict.VIOLATED if bad else Verdict.HELD, float(rises[worst]), float(allowed[1:][worst])
    )


def balance_checks(
    run: Trajectory, t: Array, energies: Array, allowed: Array, slack: float, size: float
) -> list[Check]:
    """H(T) − H(t₀) + ∫Δ dt = 0 over phase 2 and over each of its steps; `size` is that of the terms of H."""
    whole, each = "H(T) − H(0) + ∫Δ = 0", "the same on every step"
    if run.dense is not None and run.dense.nodes.shape[1] == 2:
        return [open_check(claim, "piecewise linear: closes only to O(step)") for claim in (whole, each)]
    if len(t) < 2 or run.dense is None:
        return [open_check(claim, FEW) for claim in (whole, each)]
    bound = float(allowed.sum())
    if bound > size:
        why = "the tolerances allow more than H itself"
        return [open_check(claim, why, bound=bound) for claim in (whole, each)]
    integrals, errors = _integrate_dissipation(run, t, QUADRATURE_SHARE * bound, slack)
    if not (np.isfinite(integrals).all() and np.isfinite(energies).all()):
        return [open_check(claim, "λx met the edge of dom κ*, where ∂κ* is empty") for claim in (whole, each)]
    error = float(errors.sum())
    note = f"quadrature error {error:.0e}" if error > QUADRATURE_SHARE * bound else ""
    defects = np.diff(energies) + integrals
    residual = float(abs(defects.sum()))
    limits = INTERPOLATION * (allowed[:-1] + allowed[1:]) + errors
    verdict = Verdict.HELD if residual <= bound else Verdict.VIOLATED
    return [Check(whole, verdict, residual, bound, note), worst_check(each, np.abs(defects), limits)]


def _integrate_dissipation(run: Trajectory, t: Array, target: float, slack: float) -> tuple[Array, Array]:
    """∫ −dH/dt between consecutive times by Gauss–Legendre, and the estimated error of each.

    Pieces whose two orders disagree are halved until each meets its share, by length, of the target.
    """
    d, system = run.system.dim, run.system
    coarse, fine = np.polynomial.legendre.leggauss(4), np.polynomial.legendre.leggauss(9)

    def integrals(low: Array, high: Array, rule: tuple[Array, Array]) -> Array:
        points = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * rule[0]
        y = run.evaluate(points)
        x = snap(system, y[..., :d].reshape(-1, d), slack).reshape(y[..., :d].shape)
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
