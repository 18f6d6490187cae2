"""The Lyapunov function H of the flow and of the updates, and the rate at which it dissipates.

Source: Chen, Liu, Liang & Liu (ICLR 2024), theorems 3.1 (flow) and 4.1 (updates).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.system import LionK

__all__ = ["SMALLEST_LAM", "Dissipation", "dissipation", "lyapunov", "lyapunov_gradient", "weight"]


SMALLEST_LAM = 1e-100
"""Below it (γ/λ)κ*(λx) is its limit at λ = 0, beside a constant (γ/λ)κ*(0) that may overflow."""


class Dissipation(NamedTuple):
    """Δ₁, Δ₂ and the rate −dH/dt = (λ+γ)/(1+ελ)·Δ₁ + (c/ε)·Δ₂; shapes ``(...)``."""

    delta1: Array
    delta2: Array
    rate: Array


def weight(system: LionK) -> float:
    """c = (1−εγ)/(1+ελ), the weight of the Fenchel–Young gap in H."""
    return max(0.0, 1 - system.epsilon * system.gamma) / (1 + system.epsilon * system.lam)


def lyapunov(system: LionK, x: ArrayLike, m: ArrayLike) -> Array:
    """H(x, m) = αf(x) + (γ/λ)κ*(λx) + c·(κ*(λx) + κ(m) − λ⟨m, x⟩), with c = (1−εγ)/(1+ελ).

    At λ = 0, and below 1e-100, the second term is its limit γ⟨∇κ*(0), x⟩. The updates' Lyapunov function is
    this one divided by γ, for the ε, γ of their dictionary.

    Parameters
    ----------
    system : LionK
        f, κ and the coefficients.
    x, m : array_like, shape (..., d)
        States; leading axes broadcast.

    Returns
    -------
    ndarray, shape (...)
        H, +inf where λx is outside dom κ*.
    """
    x, m = _states(system, x, m)
    kappa, lam, gamma = system.kappa, system.lam, system.gamma
    conjugate = kappa.conjugate(lam * x)
    inside = np.isfinite(conjugate)
    conjugate = np.where(inside, conjugate, 0.0)
    if lam > SMALLEST_LAM:
        penalty = (gamma / lam) * conjugate
    else:
        penalty = gamma * _inner(kappa.conjugate_subgradient(np.zeros(system.dim)), x)
    gap = conjugate + kappa.value(m) - lam * _inner(m, x)
    result = system.alpha * system.objective.value(x) + penalty + weight(system) * gap
    return np.asarray(np.where(inside, result, np.inf))


def dissipation(system: LionK, x: ArrayLike, m: ArrayLike, u: ArrayLike | None = None) -> Dissipation:
    """Δ₁ = ⟨m̃ − z, u − λx⟩, Δ₂ = ⟨m̃ − m, u − s⟩ and −dH/dt, where z ∈ ∂κ*(λx), s ∈ ∂κ(m), u ∈ ∂κ(m̃).

    All three are ≥ 0. At ε = 0 the Δ₂ term is 0.

    Parameters
    ----------
    system : LionK
        f, κ and the coefficients.
    x, m : array_like, shape (..., d)
        States; leading axes broadcast.
    u : array_like, shape (..., d), optional
        The selection that the solution uses; κ's own by default. On a sliding arc only the one really used
        makes the rate equal −dH/dt.

    Returns
    -------
    Dissipation
        Where λx is outside dom κ*, H is +inf and so are Δ₁ and the rate.
    """
    x, m = _states(system, x, m)
    kappa, lam, epsilon = system.kappa, system.lam, system.epsilon
    g = system.objective.gradient(x)
    m_tilde = system.look_ahead(x, m, g)
    u = kappa.subgradient(m_tilde) if u is None else _validate.array("u", u, last=system.dim)
    z, s = kappa.conjugate_subgradient(lam * x), kappa.subgradient(m)
    push = u - lam * x
    # Where κ* is steep at the edge of its domain z is infinite, and harmless if u = λx there.
    with np.errstate(invalid="ignore"):
        delta1 = np.sum(np.where(push == 0, 0.0, (m_tilde - z) * push), axis=-1)
    delta1 = np.where(kappa.contains(lam * x), delta1, np.inf)
    velocity = -system.alpha * g - system.gamma * m
    turn = _inner(velocity, u - s) if epsilon > 0 else np.zeros(np.shape(delta1))
    rate = (lam + system.gamma) / (1 + epsilon * lam) * delta1 + weight(system) * turn
    return Dissipation(delta1, np.asarray(epsilon * turn), np.asarray(rate))


def lyapunov_gradient(system: LionK, x: ArrayLike, m: ArrayLike) -> tuple[Array, Array]:
    """A subgradient of H in x and in m: (α∇f + γz + cλ(z − m), c(s − λx)). Shapes ``(..., d)``."""
    x, m = _states(system, x, m)
    c, lam = weight(system), system.lam
    z = system.kappa.conjugate_subgradient(lam * x)
    in_x = system.alpha * system.objective.gradient(x) + system.gamma * z + c * lam * (z - m)
    return in_x, c * (system.kappa.subgradient(m) - lam * x)


def _states(system: LionK, x: ArrayLike, m: ArrayLike) -> tuple[Array, Array]:
    return _validate.array("x", x, last=system.dim), _validate.array("m", m, last=system.dim)


def _inner(a: Array, b: Array) -> Array:
    return np.asarray(np.sum(a * b, axis=-1))
