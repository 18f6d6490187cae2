"""One update, pure or in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.kappas.base import Separable
from lionode.system import LionK
from lionode.updates import kernels
from lionode.updates.kernels import Scheme

__all__ = ["DECAYS", "LOOK_AHEADS", "Pass", "apply", "passes", "scheme", "step"]

DECAYS = ("explicit", "implicit")
LOOK_AHEADS = ("current", "next")

THREADED = 100_000
"""From this many components on a pass gains more from threads than starting them costs."""


def scheme(system: LionK, lr: float | None, decay: str, look_ahead: str) -> Scheme:
    """The numbers of the update of `system` with step size η."""
    if not isinstance(system, LionK):
        raise TypeError(f"system must be a LionK, got {_validate.describe(system)}")
    _validate.choice("decay", decay, DECAYS)
    _validate.choice("look_ahead", look_ahead, LOOK_AHEADS)
    eta, beta1, beta2, lam = system.to_optimizer(lr)
    plain = system.alpha == system.gamma
    return Scheme(
        eta,
        beta1,
        beta2,
        lam,
        1 - beta1 if plain else system.epsilon * system.alpha,
        1 - beta2 if plain else eta * system.alpha,
        decay == "implicit",
        look_ahead == "next",
    )


def step(
    system: LionK,
    x: ArrayLike,
    m: ArrayLike,
    gradient: ArrayLike | None = None,
    *,
    lr: float | None = None,
    decay: str = "explicit",
    look_ahead: str = "current",
) -> tuple[Array, Array, Array]:
    """One update: m̃ = β₁m − (1−β₁)(α/γ)∇f,  m⁺ = β₂m − (1−β₂)(α/γ)∇f,  x⁺ = x + η(u − λx), u ∈ ∂κ(m̃).

    Source: Chen, Liu, Liang & Liu (ICLR 2024), eqs. (2) and (8).

    Parameters
    ----------
    system : LionK
        f, κ and the coefficients; β₁ = 1 − εγ, β₂ = 1 − ηγ.
    x, m : array_like, shape (..., d)
        The state; leading axes broadcast.
    gradient : array_like, shape (..., d), optional
        ∇f(x), or an estimate of it; f's own by default.
    lr : float, optional
        η; by default the system's own if an optimizer made it, else 0.01.
    decay : {"explicit", "implicit"}
        λx at the old point, as in optimizer libraries, or at the new one: x⁺ = (x + ηu)/(1 + ηλ).
    look_ahead : {"current", "next"}
        Whether m̃ is built from m or from m⁺.

    Returns
    -------
    x_next, m_next, u : ndarray, shape (..., d)

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is named above, or η gives no 0 ≤ β₁ ≤ β₂.
    """
    numbers = scheme(system, lr, decay, look_ahead)
    x = _validate.array("x", x, last=system.dim)
    m = _validate.array("m", m, last=system.dim)
    if gradient is None:
        g = system.objective.gradient(x)
    else:
        g = _validate.array("gradient", gradient, last=system.dim)
    u = passes(system, compiled=False).select(m, g, numbers)
    return np.asarray(kernels.move(x, u, numbers)), np.asarray(kernels.momentum(m, g, numbers)), u


def apply(
    system: LionK,
    x: Array,
    m: Array,
    gradient: Array,
    *,
    lr: float | None = None,
    decay: str = "explicit",
    look_ahead: str = "current",
) -> None:
    """The update of `step` in place: x and m are overwritten.

    For separable κ it is one compiled pass that reads x, m, ∇f and writes x, m, on threads for large d
    (``NUMBA_NUM_THREADS`` bounds them). It checks shapes and types, not finiteness.

    Parameters
    ----------
    system, lr, decay, look_ahead :
        As in `step`.
    x, m : ndarray, shape (d,)
        float64, contiguous, writable; changed.
    gradient : ndarray, shape (d,)
        ∇f(x), float64, contiguous.

    Raises
    ------
    TypeError, ValueError
        If an array cannot be updated in place as it is.
    """
    numbers = scheme(system, lr, decay, look_ahead)
    for name, value in (("x", x), ("m", m), ("gradient", gradient)):
        if not isinstance(value, np.ndarray) or value.dtype != np.float64:
            raise TypeError(
                f"{name} must be a float64 ndarray to be updated in place, got {_kind(value)}; use step"
            )
        if value.shape != (system.dim,) or not value.flags.c_contiguous:
            raise ValueError(f"{name} must be contiguous with shape ({system.dim},), got shape {value.shape}")
    for name, value in (("x", x), ("m", m)):
        if not value.flags.writeable:
            raise ValueError(f"{name} must be writable: it is updated in place; use step")
    passes(system, isinstance(system.kappa, Separable)).advance(x, m, gradient, numbers)


class Pass(NamedTuple):
    """One update of clean arrays: ``select(m, g, scheme)`` is u, ``advance(x, m, g, scheme)`` overwrites."""

    select: Callable[[Array, Array, Scheme], Array]
    advance: Callable[[Array, Array, Array, Scheme], None]


def passes(system: LionK, compiled: bool) -> Pass:
    """The update in numpy, for every κ, or compiled for a separable one."""
    kappa = system.kappa
    if compiled:
        if not isinstance(kappa, Separable):
            raise ValueError(f"compiled=True needs a separable kappa, got {kappa}; leave compiled out")
        dphi, constants = kappa.compiled_dphi()
        fused, selected = kernels.fused(dphi, system.dim >= THREADED), kernels.select(dphi)

        def select_compiled(m: Array, g: Array, numbers: Scheme) -> Array:
            u = np.empty_like(m)
            selected(m, g, u, numbers, constants)
            return u

        def advance_compiled(x: Array, m: Array, g: Array, numbers: Scheme) -> None:
            fused(x, m, g, numbers, constants)

        return Pass(select_compiled, advance_compiled)

    def select(m: Array, g: Array, numbers: Scheme) -> Array:
        return kappa._subgradient(np.asarray(kernels.look_ahead(m, g, numbers)))

    def advance(x: Array, m: Array, g: Array, numbers: Scheme) -> None:
        x[:] = kernels.move(x, select(m, g, numbers), numbers)
        m[:] = kernels.momentum(m, g, numbers)

    return Pass(select, advance)


def _kind(value: Any) -> str:
    return f"dtype {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
