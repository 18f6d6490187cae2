"""The smooth flow inside one mode of a piecewise linear separable κ, and the choice of the next mode.

A mode says for every component in which interval between kinks m̃_i lies, or on which kink it slides. Inside
a mode x_N = u_N/λ + Ce^{−λt}; on the sliding components S, m̃_S = k gives m_S = k + (m_S(0) − k)e^{−t/ε} and
α∇_S f(x) = ce^{−t/ε} − γk, which x_S solves; m_N is a quadrature. None of this is stiff in 1/ε.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from lionode._validate import Array
from lionode.objectives.base import NonFiniteError
from lionode.system import LionK
from lionode.trajectory import Dense

__all__ = ["Arc", "Field", "K", "Mode", "State", "Tie", "Unresolved", "box_qp"]

Ints = NDArray[np.int64]

K = 12
"""Chebyshev points of a step: degree 11 resolves a decay by e² over a step to 1e-12."""

THETA = Dense.points(K)
COEFFICIENTS: Array = np.asarray(np.linalg.inv(chebyshev.chebvander(2 * THETA - 1, K - 1)))
"""From values at the points to Chebyshev coefficients."""

INTEGRAL: Array = chebyshev.chebvander(2 * THETA - 1, K) @ chebyshev.chebint(COEFFICIENTS, lbnd=-1) / 2
"""From values at the points to the integrals from 0 to each point."""

NEWTON_STEPS = 8
NEWTON_TOL = 1e-12
"""Size of the last Newton correction, relative to 1 + ‖x‖∞; the one before it was its square root or less."""

NEWTON_FLOOR = 1e-8
"""Below this a correction that no longer shrinks is the rounding of ∇f, not divergence."""

QP_TOL = 1e-12
"""Slack of the signs in the box QP, relative to the size of its data."""

RANK_TOL = 1e-11
"""A sliding block with a smaller reciprocal condition number determines no u."""


class Tie(Exception):
    """No unique mode continues the solution."""


class Unresolved(Exception):
    """The step is too long."""


@dataclass(frozen=True)
class State:
    """A point of the solution with its gradient."""

    t: float
    x: Array
    m: Array
    g: Array


@dataclass(frozen=True)
class Mode:
    """``piece[i]`` numbers the interval between kinks, ``slide[i]`` the kink that i slides on, or is −1."""

    piece: Ints
    slide: Ints

    @property
    def sliding(self) -> Ints:
        """The sliding components."""
        return np.flatnonzero(self.slide >= 0)


@dataclass(frozen=True)
class Arc:
    """One step inside a mode, by its values at the Chebyshev points; shapes ``(K, d)``."""

    t: float
    h: float
    x: Array
    m: Array
    u: Array
    g: Array

    @property
    def end(self) -> State:
        """The last point."""
        return State(self.t + self.h, self.x[-1], self.m[-1], self.g[-1])

    def restrict(self, theta: float) -> Arc:
        """The first part of the step."""
        to_points = chebyshev.chebvander(2 * theta * THETA - 1, K - 1) @ COEFFICIENTS
        parts = (to_points @ values for values in (self.x, self.m, self.u, self.g))
        return Arc(self.t, theta * self.h, *parts)

    def error(self, alpha: float, rtol: float, atol: float) -> float:
        """Size of the last two Chebyshev coefficients against the tolerance."""
        worst = 0.0
        for values in (self.x, self.m, self.u, alpha * self.h * self.g):
            tail = np.abs(COEFFICIENTS[-2:] @ values).max(axis=0)
            worst = max(worst, float(np.max(tail / (atol + rtol * np.abs(values).max(axis=0)))))
        return worst


class Field:
    """The system as the event-driven method reads it: f with counts, κ by its kinks and slopes."""

    def __init__(self, system: LionK) -> None:
        self.system = system
        self.kinks = np.asarray(system.kappa.kinks, dtype=np.float64)
        self.slopes = np.asarray(system.kappa.slopes, dtype=np.float64)
        self.edges = np.concatenate([[-np.inf], self.kinks, [np.inf]])
        self.nfev = self.njev = 0

    def gradient(self, x: Array) -> Array:
        """∇f in an array of its own, counted. Shape ``(..., d)``."""
        self.nfev += x.size // x.shape[-1]
        return self.system.objective.gradient(x).copy()

    def hessian(self, x: Array) -> Array:
        """∇²f as a dense array, counted. Shape ``(..., d)`` to ``(..., d, d)``."""
        if x.ndim > 1 and self._sparse:
            return np.stack([self.hessian(row) for row in x])
        self.njev += x.size // x.shape[-1]
        result: Any = self.system.objective.hessian(x)
        self._sparse = scipy.sparse.issparse(result)
        dense = np.asarray(result.toarray() if self._sparse else result, dtype=np.float64)
        if not np.isfinite(dense).all():
            raise NonFiniteError("∇²f is not finite")
        return dense

    _sparse = False

    def state(self, t: float, x: Array, m: Array) -> State:
        """The state with its gradient."""
        g = self.gradient(x)
        if not np.isfinite(g).all():
            raise NonFiniteError(f"∇f is not finite at t = {t:g}, x = {np.array2string(x, threshold=6)}")
        return State(t, x, m, g)

    def scale(self, m: Array, g: Array) -> Array:
        """The size of the terms that m̃ is made of: its rounding error is a multiple of this."""
        return np.abs(m) + self.system.epsilon * self.system.alpha * np.abs(g)

    def arc(self, mode: Mode, state: State, h: float) -> Arc:
        """One step of length h inside a mode.

        Raises
        ------
        Unresolved
            If x_S is not found, or ∇f is not finite on the way.
        Tie
            If ∇²_SS f is singular, so that no u_S is determined.
        """
        s = self.system
        tau = h * THETA
        on = mode.sliding
        u = np.tile(self.slopes[mode.piece], (K, 1))
        decay = np.exp(-s.lam * tau)
        reach = -np.expm1(-s.lam * tau) / s.lam if s.lam > 0 else tau
        x = decay[:, None] * state.x + reach[:, None] * u
        if on.size:
            fade = np.exp(-tau / s.epsilon)[:, None]
            kink = self.kinks[mode.slide[on]]
            c = s.alpha * state.g[on] + s.gamma * kink
            x[:, on] = state.x[on]
            target = fade * c - s.gamma * kink
            g, hessian = self._solve(x, on, target)
            # The residual of the solve is far above rounding, and c/ε would carry it into the next step's u.
            g[:, on] = target / s.alpha
            velocity = u - s.lam * x
            velocity[:, on] = 0.0
            drive = -fade * c / (s.epsilon * s.alpha) - np.einsum("kij,kj->ki", hessian[:, on], velocity)
            u[:, on] = s.lam * x[:, on] + _solve_rows(hessian[:, on[:, None], on], drive)
        else:
            g = self.gradient(x)
        if not np.isfinite(g).all():
            raise Unresolved(f"∇f is not finite within {h:g} of t = {state.t:g}")
        quadrature = np.eye(K) + s.gamma * h * INTEGRAL
        m = np.asarray(np.linalg.solve(quadrature, state.m - s.alpha * h * (INTEGRAL @ g)))
        if on.size:
            m[:, on] = kink + fade * (state.m[on] - kink)
        x[0], m[0], g[0] = state.x, state.m, state.g
        return Arc(state.t, h, x, m, u, g)

    def _solve(self, x: Array, on: Ints, target: Array) -> tuple[Array, Array]:
        """Solve α∇_S f(x) = target for x_S in place, by Newton at all points at once."""
        previous = np.inf
        for _ in range(NEWTON_STEPS):
            g = self.gradient(x)
            if not np.isfinite(g).all():
                break
            hessian = self.hessian(x)
            block = hessian[:, on[:, None], on]
            correction = _solve_rows(block, target / self.system.alpha - g[:, on])
            size = float(np.abs(correction).max() / (1 + np.abs(x).max()))
            x[:, on] += correction
            if size <= NEWTON_TOL or previous / 2 <= size <= NEWTON_FLOOR:
                return g, hessian
            previous = size
        raise Unresolved("x_S was not found")

    def gaps(self, mode: Mode, arc: Arc) -> tuple[Array, Array]:
        """What must stay ≥ 0 in this mode and the noise of each: distances to the lower ends, the upper ends.

        For a sliding component the distances of u_i to its two slopes; otherwise of m̃_i to its two kinks.
        Shapes ``(K, 2d)`` and ``(2d,)``.
        """
        on = mode.slide >= 0
        value = np.where(on, arc.u, self.system.look_ahead(arc.x, arc.m, arc.g))
        low = np.where(on, self.slopes[mode.slide], self.edges[mode.piece])
        high = np.where(on, self.slopes[mode.slide + 1], self.edges[mode.piece + 1])
        rounding = 1e-13 * self.scale(arc.m, arc.g).max(axis=0)
        noise = np.where(on, 1e-9 * np.abs(self.slopes).max(), rounding)
        return np.concatenate([value - low, high - value], axis=1), np.concatenate([noise, noise])

    def begin(self, state: State) -> Mode:
        """The mode in which a solution starts."""
        m_tilde = self.system.look_ahead(state.x, state.m, state.g)
        piece = np.searchsorted(self.kinks, m_tilde)
        mode = Mode(piece, np.full(piece.shape, -1))
        at, kink = self.touching(mode, state)
        return self.choose(mode, state, at, kink) if at.size else mode

    def touching(self, mode: Mode, state: State, hit: int = -1) -> tuple[Ints, Ints]:
        """The components on a kink, `hit` among them, and which kink each is on."""
        m_tilde = self.system.look_ahead(state.x, state.m, state.g)
        gap = np.abs(m_tilde[:, None] - self.kinks)
        nearest = np.where(mode.slide >= 0, mode.slide, np.argmin(gap, axis=1))
        close = gap.min(axis=1) <= QP_TOL * self.scale(state.m, state.g)
        close |= mode.slide >= 0
        if hit >= 0:
            close[hit] = True
        at = np.flatnonzero(close)
        return at, nearest[at]

    def choose(self, mode: Mode, state: State, at: Ints, kink: Ints) -> Mode:
        """The mode that continues the solution when the components `at` are on a kink.

        d/dt m̃ = b − Mu with M = εα∇²f, so that u ∈ ∂κ(m̃) along the continuation is the optimality condition
        of min ½uᵀMu − bᵀu over the slopes' intervals.

        Raises
        ------
        Tie
            If the sliding part of M is singular.
        """
        s = self.system
        low, high = self.slopes[kink], self.slopes[kink + 1]
        u = self.slopes[mode.piece]
        u[at] = 0.0
        push = u - s.lam * state.x
        force = (1 - s.epsilon * s.gamma) * (-s.alpha * state.g - s.gamma * state.m)[at]
        if s.epsilon > 0:
            hessian = self.hessian(state.x)
            matrix = s.epsilon * s.alpha * hessian[np.ix_(at, at)]
            force = force - s.epsilon * s.alpha * hessian[at] @ push
        else:
            matrix = np.zeros((at.size, at.size))
        was = mode.slide[at] >= 0
        speed = force - matrix @ np.where(was, (low + high) / 2, self.slopes[mode.piece[at]])
        guess = np.where(was, 0, np.sign(speed)).astype(np.int64)
        side = box_qp(matrix, force, low, high, guess)
        piece, slide = mode.piece.copy(), mode.slide.copy()
        piece[at] = kink + (side > 0)
        slide[at] = np.where(side == 0, kink, -1)
        return Mode(piece, slide)

    def release(self, mode: Mode, component: int, upper: bool) -> Mode:
        """The mode after one component stops sliding through the lower or upper slope."""
        piece, slide = mode.piece.copy(), mode.slide.copy()
        piece[component] = slide[component] + upper
        slide[component] = -1
        return Mode(piece, slide)


def box_qp(matrix: Array, force: Array, low: Array, high: Array, side: Ints) -> Ints:
    """Which bounds are active in min ½uᵀMu − bᵀu, low ≤ u ≤ high: −1 lower, 0 none, 1 upper.

    Block principal pivoting; when the number of wrong signs stops falling, one index at a time, which ends
    for every positive definite M (Júdice & Pires 1994).

    Raises
    ------
    Tie
        If M is singular on the free indices, or the pivoting does not end.
    """
    side = side.copy()
    fewest, patience = side.size + 1, 3
    for _ in range(50 + 20 * side.size):
        free = np.flatnonzero(side == 0)
        u = np.where(side < 0, low, high)
        u[free] = 0.0
        if free.size:
            u[free] = _regular_solve(matrix[np.ix_(free, free)], force[free] - matrix[free] @ u)
        speed = force - matrix @ u
        slack = QP_TOL * (np.abs(force) + np.abs(matrix) @ np.maximum(np.abs(low), np.abs(high)))
        below, above = (side == 0) & (u < low), (side == 0) & (u > high)
        inward = ((side < 0) & (speed > slack)) | ((side > 0) & (speed < -slack))
        wrong = np.flatnonzero(below | above | inward)
        if wrong.size == 0:
            return side
        if wrong.size < fewest:
            fewest, patience = wrong.size, 3
        elif patience > 0:
            patience -= 1
        else:
            wrong = wrong[-1:]
        side[wrong] = np.where(inward[wrong], 0, np.where(below[wrong], -1, 1))
    raise Tie("the box QP for u has no unique solution")


def _regular_solve(matrix: Array, right: Array) -> Array:
    if not np.linalg.cond(matrix) * RANK_TOL < 1:
        raise Tie("∇²f is singular on the components that meet their kinks together")
    return np.asarray(np.linalg.solve(matrix, right))


def _solve_rows(matrices: Array, right: Array) -> Array:
    try:
        return np.asarray(np.linalg.solve(matrices, right[..., None])[..., 0])
    except np.linalg.LinAlgError:
        raise Tie("∇²f became singular on the sliding components") from None
