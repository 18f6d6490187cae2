"""What a phase portrait shows, as numbers: switching lines, sliding segments, the kind of an equilibrium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lionode import _validate
from lionode._validate import Array
from lionode.optimum import composite_optimum
from lionode.rates import local_rate
from lionode.system import LionK

__all__ = ["Equilibrium", "SwitchingLine", "equilibrium", "switching_lines"]

CENTRE = 1e-9
"""Relative to the largest eigenvalue, a real part below this is none."""


@dataclass(frozen=True)
class SwitchingLine:
    """Where m̃ is at a kink of κ, for one parameter: m as a function of x, and where the flow slides on it."""

    kink: float
    x: Array
    m: Array
    slides: NDArray[np.bool_]


@dataclass(frozen=True)
class Equilibrium:
    """A stationary point of the flow, its eigenvalues and what they make of it.

    ``kind`` is "stable node", "stable focus", "saddle", "unstable", "centre" or "degenerate"; "at a kink of
    κ" where components slide, with the eigenvalues on the sliding subspace, or none where κ is not separable.
    """

    x: Array
    m: Array
    kind: str
    eigenvalues: NDArray[np.complex128]


def switching_lines(system: LionK, x: ArrayLike) -> list[SwitchingLine]:
    """The lines m̃ = k of a system of one parameter, one for each kink k of κ.

    On m̃ = (1−εγ)m − εαf'(x) = k the flow slides where both sides lead to the line: with
    dm̃/dt = (1−εγ)ṁ − εαf''(x)(u − λx), it is > 0 for the u below the kink and < 0 for the one above.

    Parameters
    ----------
    system : LionK
        Of one parameter, with a Hessian.
    x : array_like, shape (n,)
        Where to look.

    Returns
    -------
    list of SwitchingLine
        Empty where κ has no kinks, or εγ = 1 and the lines are vertical.

    Raises
    ------
    ValueError
        If the system has more than one parameter.
    """
    if system.dim != 1:
        raise ValueError(f"switching lines in the plane need 1 parameter, the objective has {system.dim}")
    x = _validate.vector("x", x)
    kappa, keep = system.kappa, 1 - system.epsilon * system.gamma
    if kappa.kinks is None or kappa.slopes is None or keep <= 0:
        return []
    slope = system.objective.gradient(x[:, None])[:, 0]
    bend = np.asarray(system.objective.hessian(x[:, None]))[:, 0, 0]
    lines = []
    for kink, below, above in zip(kappa.kinks, kappa.slopes, kappa.slopes[1:], strict=False):
        m = (kink + system.epsilon * system.alpha * slope) / keep
        drift = keep * (-system.alpha * slope - system.gamma * m)
        pull = system.epsilon * system.alpha * bend
        slides = (drift - pull * (below - system.lam * x) > 0) & (drift - pull * (above - system.lam * x) < 0)
        lines.append(SwitchingLine(float(kink), x, m, slides))
    return lines


def equilibrium(system: LionK, near: ArrayLike | None = None) -> Equilibrium:
    """The stationary point of the flow that is found from `near`, and its kind.

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
    if not system.kappa.smooth and system.kappa.kinks is None:
        best = composite_optimum(system, near)
        if not best.success or system.gamma == 0:
            raise ValueError(f"no equilibrium of (x, m) was found: {best.message}; gamma = {system.gamma:g}")
        m = -system.alpha / system.gamma * system.objective.gradient(best.x)
        return Equilibrium(best.x, m, "at a kink of κ", np.zeros(0, np.complex128))
    local = local_rate(system, near)
    kind = "at a kink of κ" if local.sliding else _kind(local.eigenvalues)
    return Equilibrium(local.x, local.m, kind, local.eigenvalues)


def _kind(values: NDArray[np.complex128]) -> str:
    size = max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
    real, turning = values.real / size, (np.abs(values.imag) > CENTRE * size).any()
    if (np.abs(real) <= CENTRE).any():
        return "centre" if turning and (np.abs(real) <= CENTRE).all() else "degenerate"
    if (real < 0).all():
        return "stable focus" if turning else "stable node"
    return "saddle" if (real < 0).any() else "unstable"
