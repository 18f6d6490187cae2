"""Where κ switches in the (x, m) plane, and where the flow slides there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lionode import _validate
from lionode._validate import Array
from lionode.system import LionK

__all__ = ["SwitchingLine", "switching_lines"]


@dataclass(frozen=True)
class SwitchingLine:
    """Where m̃ is at a kink of κ, for one parameter: m as a function of x, and where the flow slides on it."""

    kink: float
    x: Array
    m: Array
    slides: NDArray[np.bool_]


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
