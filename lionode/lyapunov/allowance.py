"""How far the tolerances of a run, and rounding, may have moved its states and its H."""

from __future__ import annotations

import math

import numpy as np

from lionode._validate import Array
from lionode.lyapunov.function import lyapunov_gradient
from lionode.system import LionK
from lionode.trajectory import Trajectory

__all__ = ["EPS", "ROUNDINGS", "STEP_EQUATION", "Allowance", "magnitude", "snap"]

EPS = float(np.finfo(np.float64).eps)

ROUNDINGS = 64.0
"""Roundings allowed in one difference of two values of H, relative to its largest term: sums over
d components and the cancellation in the Fenchel–Young gap cost tens, not thousands."""

STEP_EQUATION = 1e-10
"""To this, relative, backward Euler solves its step equation. What is claimed of its steps holds whatever
their truncation error: the tolerances of the run excuse nothing."""


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
        """The allowed error of each component in one step."""
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

    def energy(self, run: Trajectory, x: Array, m: Array, off: Array | None = None) -> Array:
        """The allowed change of H at each state, which may be off by `off`, by default as in one step."""
        off = self.of(np.concatenate([x, m], axis=-1)) if off is None else off
        pieces = np.concatenate(lyapunov_gradient(run.system, x, m), axis=-1) * off
        # An infinite slope of κ* at the edge of its domain allows nothing in particular.
        pieces = np.where(np.isfinite(pieces), pieces, 0.0)
        rounding = ROUNDINGS * EPS * magnitude(run.system, x, m)
        return np.asarray(np.linalg.norm(pieces, axis=-1) * math.sqrt(2 * run.system.dim) + rounding)


def magnitude(system: LionK, x: Array, m: Array) -> Array:
    """The size of the terms that H is summed from: rounding is relative to it, not to H."""
    conjugate = system.kappa.conjugate(system.lam * x)
    conjugate = np.abs(np.where(np.isfinite(conjugate), conjugate, 0.0))
    share = 1 + (system.gamma / system.lam if system.lam else 0.0)
    inner = system.lam * np.sum(np.abs(x * m), axis=-1)
    f = system.alpha * np.abs(system.objective.value(x))
    return np.asarray(1 + f + share * conjugate + np.abs(system.kappa.value(m)) + inner)


def snap(system: LionK, x: Array, slack: float) -> Array:
    """Move states that are outside dom κ* by no more than the slack onto it, where H is finite."""
    if system.lam == 0 or len(x) == 0:
        return x
    y = system.lam * x
    close = system.kappa.distance(y) <= slack
    return np.where(close[:, None], system.kappa.project(y) / system.lam, x)
