"""The equilibria of the flow, minima of F and others, and their kinds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lionode import _validate
from lionode._validate import Array
from lionode.optimum import composite_optimum, kkt_residual
from lionode.rates import linearise, local_rate
from lionode.system import LionK

__all__ = ["Equilibrium", "equilibria", "equilibrium", "needs"]

CENTRE = 1e-9
"""Relative to the largest eigenvalue, a real part below this is none."""

NEWTON_STEPS = 60
"""A semismooth Newton iteration that finds a root takes about ten steps; most of the rest wander for ever."""

STATIONARY = 1e-8
"""The residual of a root relative to 1 + |x|: Newton's method ends at rounding, or does not end."""

SAME = 1e-6
"""Two roots nearer than this, relative to 1 + |x|, are one: each is known to about `STATIONARY`."""


@dataclass(frozen=True)
class Equilibrium:
    """A stationary point of the flow, its eigenvalues and what they make of it.

    Attributes
    ----------
    x, m : ndarray, shape (d,)
        The point; m = −(α/γ)∇f(x).
    kind : str
        "stable node", "stable focus", "saddle", "unstable", "centre" or "degenerate", by the eigenvalues.
        Where components S of m are at a kink of κ: "stable at a kink" if ∇²f_SS is positive definite (the
        flow slides into the point, or at ε = 0 crosses ever faster), "saddle at a kink" if it has an
        eigenvalue < 0 (the kink then repels), "degenerate at a kink" between them. "not linearised" where κ
        has kinks and is not separable.
    eigenvalues : ndarray, complex
        Of the linearisation; at a kink on the subspace that the flow slides in; empty where there is none.
    """

    x: Array
    m: Array
    kind: str
    eigenvalues: NDArray[np.complex128]


def equilibrium(system: LionK, near: ArrayLike | None = None) -> Equilibrium:
    """The equilibrium at the composite optimum that is found from `near`, and its kind.

    Parameters
    ----------
    system : LionK
        f, κ and the coefficients.
    near : array_like, shape (d,), optional
        Where to start the search; zeros by default.

    Raises
    ------
    ValueError
        If no stationary point was found, or the flow has no linearisation there (`local_rate`).
    """
    if system.kappa.smooth or system.kappa.kinks is not None:
        return _classified(system, local_rate(system, near).x)
    best = composite_optimum(system, near)
    if not best.success or system.gamma == 0:
        raise ValueError(f"no equilibrium of (x, m) was found: {best.message}; gamma = {system.gamma:g}")
    return _classified(system, best.x)


def equilibria(system: LionK, starts: ArrayLike) -> tuple[Equilibrium, ...]:
    """The equilibria that Newton's method finds from many starts, minima of F and others, and their kinds.

    They are the roots of x − prox_{tP}(x − tα∇f(x)), P = (γ/λ)κ*(λ·), for any t > 0: those with λx ∈
    ∂κ(−(α/γ)∇f(x)). The steps are semismooth Newton's (Qi & Sun 1993), for t = 1 and t = 1/max ‖α∇²f‖ over
    the starts. None is missed only if a start lies near each.

    Parameters
    ----------
    system : LionK
        With a Hessian and γ > 0.
    starts : array_like, shape (..., d)
        Where the iterations start, for example a grid.

    Returns
    -------
    tuple of Equilibrium
        In lexicographic order of x.

    Raises
    ------
    ValueError
        If γ = 0 or f has no Hessian.
    """
    starts = _validate.array("starts", starts, last=system.dim).reshape(-1, system.dim)
    needs(system)
    size = float(np.max(system.alpha * np.linalg.norm(_hessians(system, starts), axis=(1, 2)), initial=0.0))
    found = [_newton(system, starts, step) for step in (1.0, 1 / size if size > 0 else 1.0)]
    distinct: list[Array] = []
    for x in np.unique(np.concatenate(found), axis=0):
        close = SAME * (1 + float(np.abs(x).max()))
        if not any(np.abs(x - other).max() <= close for other in distinct) and (
            kkt_residual(system, x) <= STATIONARY * (1 + float(np.abs(x).max()))
        ):
            distinct.append(x)
    return tuple(_classified(system, x) for x in distinct)


def needs(system: LionK) -> None:
    """Raise a ValueError unless the flow of a system has equilibria that Newton's method can find."""
    if system.gamma == 0:
        raise ValueError("gamma must be > 0 for an equilibrium of (x, m): at γ = 0 m has none of its own")
    if not system.objective.has_hessian:
        raise ValueError(f"equilibria need the Hessian of {system.objective.name}: pass hessian=...")


def _newton(system: LionK, x: Array, step: float) -> Array:
    """Where semismooth Newton steps from each row of x lead, without those that left the finite numbers."""
    eye = np.eye(system.dim)
    reach = 1 + float(np.ptp(x, axis=0).max(initial=0.0))
    for _ in range(NEWTON_STEPS):
        argument = x - step * system.alpha * system.objective.gradient(x)
        hessian = step * system.alpha * _hessians(system, x)
        keep = np.isfinite(argument).all(axis=1) & np.isfinite(hessian).all(axis=(1, 2))
        x, argument, hessian = x[keep], argument[keep], hessian[keep]
        if not x.size:
            break
        prox, slope = _prox(system, argument, step)
        matrix = eye - slope + slope @ hessian
        move = (np.linalg.pinv(matrix) @ (prox - x)[..., None])[..., 0]
        # A step across the whole of the starts leads nowhere that they are not.
        longest = np.linalg.norm(move, axis=1, keepdims=True)
        x = x + move * np.minimum(1, reach / np.maximum(longest, reach))
    return x


def _hessians(system: LionK, x: Array) -> Array:
    """∇²f at the rows of x, dense."""
    if system.objective.vectorized:
        return np.asarray(system.objective.hessian(x))
    values = [system.objective.hessian(row) for row in x]
    return np.array([v.toarray() if hasattr(v, "toarray") else v for v in values]).reshape(*x.shape, -1)


def _prox(system: LionK, x: Array, step: float) -> tuple[Array, Array]:
    """prox of step·(γ/λ)κ*(λ·) at the rows of x, and its Jacobian."""
    eye = np.broadcast_to(np.eye(system.dim), (*x.shape, system.dim))
    kappa, weight = system.kappa, step * system.gamma * system.lam
    if weight == 0:
        return x - step * system.gamma * kappa.conjugate_subgradient(np.zeros(system.dim)), eye
    y = system.lam * x
    slope = eye - kappa.prox_jacobian(y / weight, 1 / weight)
    return kappa.conjugate_prox(y, weight) / system.lam, slope


def _classified(system: LionK, x: Array) -> Equilibrium:
    m = -system.alpha / system.gamma * system.objective.gradient(x)
    none = np.zeros(0, np.complex128)
    if not system.kappa.smooth and system.kappa.kinks is None:
        return Equilibrium(x, m, "not linearised", none)
    try:
        local = linearise(system, x)
    except np.linalg.LinAlgError:
        return Equilibrium(x, m, "degenerate at a kink", none)
    if not local.sliding:
        return Equilibrium(x, m, _kind(local.eigenvalues), local.eigenvalues)
    (hessian,) = _hessians(system, x[None])
    curvature = np.linalg.eigvalsh(hessian[np.ix_(local.sliding, local.sliding)])
    lowest = float(curvature[0] / max(np.abs(curvature).max(), np.finfo(np.float64).tiny))
    kind = "degenerate" if abs(lowest) <= CENTRE else "stable" if lowest > 0 else "saddle"
    return Equilibrium(x, m, f"{kind} at a kink", local.eigenvalues)


def _kind(values: NDArray[np.complex128]) -> str:
    size = max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
    real, turning = values.real / size, (np.abs(values.imag) > CENTRE * size).any()
    if (np.abs(real) <= CENTRE).any():
        return "centre" if turning and (np.abs(real) <= CENTRE).all() else "degenerate"
    if (real < 0).all():
        return "stable focus" if turning else "stable node"
    return "saddle" if (real < 0).any() else "unstable"
