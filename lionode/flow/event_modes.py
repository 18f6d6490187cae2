"""The smooth flow inside one mode of a piecewise linear separable κ, and the choice of the next mode.

A mode says for every component in which interval between kinks m̃_i lies, or on which kink it slides. Inside
a mode x_N = u_N/λ + Ce^{−λt}; on the sliding components S, m̃_S = k gives m_S = k + (m_S(0) − k)e^{−t/ε} and
α∇_S f(x) = ce^{−t/ε} − γk, which x_S solves; m_N is a quadrature. None of this is stiff in 1/ε.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from lionode._validate import Array
from lionode.objectives.base import NonFiniteError
from lionode.system import LionK
from lionode.trajectory import Dense

__all__ = ["Arc", "Field", "Growth", "K", "Mode", "State", "Tie", "Unresolved", "box_qp"]

Ints = NDArray[np.int64]

K = 13
"""Chebyshev points of a step: degree 12 resolves a decay by e² over a step to 1e-12."""

THETA = Dense.points(K)


class Level(NamedTuple):
    """Every second point of a step, or all of them: a short step is resolved by half of the gradients."""

    stride: int
    coefficients: Array
    """From values at the points of this level to Chebyshev coefficients."""
    integral: Array
    """From values at the points of this level to the integrals from 0 to each."""
    fill: Array
    """From values at the points of this level to all points."""

    @classmethod
    def of(cls, stride: int) -> Level:
        """The level of one stride."""
        points = 2 * THETA[::stride] - 1
        coefficients = np.asarray(np.linalg.inv(chebyshev.chebvander(points, points.size - 1)))
        primitive = chebyshev.chebint(coefficients, lbnd=-1) / 2
        return cls(
            stride,
            coefficients,
            np.asarray(chebyshev.chebvander(points, points.size) @ primitive),
            np.asarray(chebyshev.chebvander(2 * THETA - 1, points.size - 1) @ coefficients),
        )


LEVELS = Level.of(2), Level.of(1)
COEFFICIENTS: Array = LEVELS[-1].coefficients

NEWTON_STEPS = 8
NEWTON_TOL = 1e-12
"""Size of the last Newton correction, relative to 1 + ‖x‖∞; the one before it was its square root or less."""

NEWTON_FLOOR = 1e-8
"""Below this a correction that no longer shrinks is the rounding of ∇f, not divergence."""

QP_TOL = 1e-12
"""Slack of the signs in the box QP, relative to the size of its data."""

RANK_TOL = 1e-11
"""A sliding block with a smaller reciprocal condition number determines no u."""

ROUNDING = 1e-15
"""What a step adds to the error of a state at least, relative."""


MOST_TRIED = 6
"""Up to this many components all 3^n combinations of their sides are tried where pivoting fails."""


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

    def part(self, low: float, high: float) -> Arc:
        """The part of the step between two fractions of it."""
        to_points = chebyshev.chebvander(2 * (low + (high - low) * THETA) - 1, K - 1) @ COEFFICIENTS
        parts = (to_points @ values for values in (self.x, self.m, self.u, self.g))
        return Arc(self.t + low * self.h, (high - low) * self.h, *parts)


class Field:
    """The system as the event-driven method reads it: f with counts, κ by its kinks and slopes."""

    def __init__(self, system: LionK, rtol: float, atol: float) -> None:
        self.system, self.rtol, self.atol = system, rtol, atol
        self.kinks = np.asarray(system.kappa.kinks, dtype=np.float64)
        self.slopes = np.asarray(system.kappa.slopes, dtype=np.float64)
        self.edges = np.concatenate([[-np.inf], self.kinks, [np.inf]])
        self.nfev = self.njev = 0
        self._last: tuple[Array, Array] = np.zeros(0), np.zeros(0)
        """The last single x and its ∇²f: a switch and the step after it ask at the same point."""

    def gradient(self, x: Array) -> Array:
        """∇f in an array of its own, counted. Shape ``(..., d)``."""
        self.nfev += x.size // x.shape[-1]
        return self.system.objective.gradient(x).copy()

    def hessian(self, x: Array) -> Array:
        """∇²f as a dense array, counted. Shape ``(..., d)`` to ``(..., d, d)``."""
        if x.ndim > 1 and self._sparse:
            return np.stack([self.hessian(row) for row in x])
        if np.array_equal(x, self._last[0]):
            return self._last[1]
        self.njev += x.size // x.shape[-1]
        result: Any = self.system.objective.hessian(x)
        self._sparse = scipy.sparse.issparse(result)
        dense = np.asarray(result.toarray() if self._sparse else result, dtype=np.float64)
        if not np.isfinite(dense).all():
            raise NonFiniteError("∇²f is not finite")
        if x.ndim == 1:
            self._last = x.copy(), dense
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

    def arc(self, mode: Mode, state: State, h: float) -> tuple[Arc, float]:
        """One step of length h inside a mode, and its error relative to the tolerance.

        Raises
        ------
        Unresolved
            If x_S is not found, or ∇f is not finite on the way.
        Tie
            If ∇²_SS f is singular, so that no u_S is determined.
        """
        s, on, tau = self.system, mode.sliding, h * THETA
        u = np.tile(self.slopes[mode.piece], (K, 1))
        decay = np.exp(-s.lam * tau)
        reach = -np.expm1(-s.lam * tau) / s.lam if s.lam > 0 else tau
        x = decay[:, None] * state.x + reach[:, None] * u
        g = np.tile(state.g, (K, 1))
        slide = _Slide(self, mode, state, tau, x) if on.size else None
        known = np.zeros(K, dtype=bool)
        known[0] = slide is None
        for level in LEVELS:
            new = np.flatnonzero(~known)
            new = new[new % level.stride == 0]
            if slide is None:
                g[new] = self.gradient(x[new])
            else:
                slide.solve(new, x, u, g)
            known[new] = True
            if not np.isfinite(g[known]).all():
                raise Unresolved(f"∇f is not finite within {h:g} of t = {state.t:g}")
            at = np.s_[:: level.stride]
            quadrature = np.eye(len(g[at])) + s.gamma * h * level.integral
            m = np.asarray(np.linalg.solve(quadrature, state.m - s.alpha * h * (level.integral @ g[at])))
            if slide is not None:
                m[:, on] = slide.m[at]
            error = self._error(level, x[at], m, u[at], s.alpha * h * g[at])
            if error <= 1:
                break
        x[:, on], u[:, on] = level.fill @ x[at][:, on], level.fill @ u[at][:, on]
        g, m = level.fill @ g[at], level.fill @ m
        if slide is not None:
            m[:, on] = slide.m
        x[0], m[0], g[0] = state.x, state.m, state.g
        return Arc(state.t, h, x, m, u, g), error

    def _error(self, level: Level, *series: Array) -> float:
        """Size of the last two Chebyshev coefficients against the tolerance."""
        worst = 0.0
        for values in series:
            tail = np.abs(level.coefficients[-2:] @ values).max(axis=0)
            worst = max(worst, float(np.max(tail / (self.atol + self.rtol * np.abs(values).max(axis=0)))))
        return worst

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

    def kink_gaps(self, mode: Mode, arc: Arc) -> Array:
        """Distances of m to the kinks of κ and of λx to those of κ*, where the rate −dH/dt may jump.

        On a sliding component m decays towards its kink and never crosses it. Shape ``(K, ...)``.
        """
        m = arc.m[:, :, None] - self.kinks
        stays = mode.slide[:, None] == np.arange(self.kinks.size)
        y = self.system.lam * arc.x[:, :, None] - self.slopes
        return np.concatenate([np.where(stays, 0.0, m).reshape(K, -1), y.reshape(K, -1)], axis=1)

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


class _Slide:
    """The sliding components of a step: α∇_S f(x) = target for x_S, and u_S from its derivative."""

    def __init__(self, field: Field, mode: Mode, state: State, tau: Array, x: Array) -> None:
        """Fill x_S with a first guess: exact if ∇f is affine."""
        s = field.system
        self.field, self.on = field, mode.sliding
        kink = field.kinks[mode.slide[self.on]]
        c = s.alpha * state.g[self.on] + s.gamma * kink
        fade = np.exp(-tau / s.epsilon)[:, None]
        self.m = kink + fade * (state.m[self.on] - kink)
        self.target = (fade * c - s.gamma * kink) / s.alpha
        self.drive = -fade * c / (s.epsilon * s.alpha)
        hessian = field.hessian(state.x)[self.on]
        x[:, self.on] = state.x[self.on]
        change = self.target - state.g[self.on] - (x - state.x) @ hessian.T
        x[:, self.on] += _solve_rows(hessian[:, self.on], change.T).T

    def solve(self, at: Ints, x: Array, u: Array, g: Array) -> None:
        """Set x_S, u_S and ∇f at some of the points, by Newton at all of them at once."""
        field, on, y = self.field, self.on, x[at]
        previous = np.inf
        for _ in range(NEWTON_STEPS):
            slope = field.gradient(y)
            if not np.isfinite(slope).all():
                break
            hessian = field.hessian(y)
            block = hessian[:, on[:, None], on]
            correction = _solve_rows(block, (self.target[at] - slope[:, on])[..., None])[..., 0]
            size = float(np.abs(correction).max() / (1 + np.abs(y).max()))
            y[:, on] += correction
            if size <= NEWTON_TOL or previous / 2 <= size <= NEWTON_FLOOR:
                # The residual of the solve is far above rounding, and 1/ε would carry it into the next u.
                slope[:, on] = self.target[at]
                velocity = u[at] - field.system.lam * y
                velocity[:, on] = 0.0
                drive = self.drive[at] - np.einsum("kij,kj->ki", hessian[:, on], velocity)
                x[at], g[at] = y, slope
                u[np.ix_(at, on)] = field.system.lam * y[:, on] + _solve_rows(block, drive[..., None])[..., 0]
                return
            previous = size
        raise Unresolved("x_S was not found")


class Growth:
    """How far the errors of the steps may have grown: one error (δx, δm) carried along the solution.

    ``worst`` is its largest size so far, relative to 1 + the state's.

    Inside a mode it follows the linearised flow, at an event it jumps with u (the saltation matrix): with
    n·(x, m) = m̃_i on the surface, δx⁺ = δx + (u⁺ − u⁻)·⟨n, δ⟩/⟨n, ẏ⁻⟩. Dense crossings multiply it.
    """

    def __init__(self, field: Field, d: int) -> None:
        self.field, self.worst, self.random = field, 0.0, np.random.default_rng(0)
        self.dx, self.dm = np.zeros((2, d))
        self.u: Array | None = None

    def follow(self, mode: Mode, arc: Arc, hit: int, share: float) -> None:
        """Carry the error over a step that began with the switch of component `hit` (−1: with none).

        The step itself made the error ``share`` times the tolerance, or a few roundings.
        """
        s, on, off = self.field.system, mode.slide >= 0, mode.slide < 0
        x, m, g, h = arc.x[0], arc.m[0], arc.g[0], arc.h
        hessian = self.field.hessian(x)
        keep = 1 - s.epsilon * s.gamma
        if hit >= 0 and self.u is not None:
            drift = keep * (-s.alpha * g[hit] - s.gamma * m[hit])
            speed = drift - s.epsilon * s.alpha * hessian[hit] @ (self.u - s.lam * x)
            ahead = keep * self.dm[hit] - s.epsilon * s.alpha * hessian[hit] @ self.dx
            if speed != 0:
                self.dx = self.dx + (arc.u[0] - self.u) * ahead / speed
        before = self.dx
        self.dx = np.exp(-s.lam * h) * before
        reach = -np.expm1(-s.gamma * h) / s.gamma if s.gamma > 0 else h
        if on.any():
            self.dm[on] *= np.exp(-h / s.epsilon)
            right = keep / (s.epsilon * s.alpha) * self.dm[on] - hessian[np.ix_(on, off)] @ self.dx[off]
            self.dx[on] = _solve_rows(hessian[np.ix_(on, on)], right)
        pushed = np.exp(-s.gamma * h) * self.dm - s.alpha * reach * hessian @ (before + self.dx) / 2
        self.dm[off] = pushed[off]
        self.u = arc.u[-1]
        size = max(float(np.abs(arc.x[-1]).max()), float(np.abs(arc.m[-1]).max()))
        own = max(share * (self.field.atol + self.field.rtol * size), ROUNDING * size)
        added = own * self.random.normal(size=(2, self.dx.size))
        self.dx, self.dm = np.nan_to_num(self.dx + added[0]), np.nan_to_num(self.dm + added[1])
        self.worst = max(self.worst, float(np.abs([self.dx, self.dm]).max()) / (1 + size))


def box_qp(matrix: Array, force: Array, low: Array, high: Array, side: Ints) -> Ints:
    """Which bounds are active in min ½uᵀMu − bᵀu, low ≤ u ≤ high: −1 lower, 0 none, 1 upper.

    Block principal pivoting; when the number of wrong signs stops falling, one index at a time, which ends
    for every positive definite M (Júdice & Pires 1994). For others all combinations are tried.

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
    return _only_side(matrix, force, low, high)


def _only_side(matrix: Array, force: Array, low: Array, high: Array) -> Ints:
    """The only sides that satisfy the optimality conditions, by trying all: M need not be positive definite.

    Raises
    ------
    Tie
        If there are none, several, or too many to try.
    """
    if low.size <= MOST_TRIED:
        slack = QP_TOL * (np.abs(force) + np.abs(matrix) @ np.maximum(np.abs(low), np.abs(high)))
        found = []
        for sides in itertools.product((0, -1, 1), repeat=low.size):
            side = np.array(sides, dtype=np.int64)
            free, u = side == 0, np.where(side < 0, low, high)
            u[free] = 0.0
            try:
                if free.any():
                    u[free] = _regular_solve(matrix[np.ix_(free, free)], force[free] - matrix[free] @ u)
            except Tie:
                continue
            speed = force - matrix @ u
            leads = np.where(side < 0, speed <= slack, speed >= -slack)
            if np.where(free, (low <= u) & (u <= high), leads).all():
                found.append(side)
        if len(found) == 1:
            return found[0]
    raise Tie("the box QP for u has no unique solution")


def _regular_solve(matrix: Array, right: Array) -> Array:
    if not np.linalg.cond(matrix) * RANK_TOL < 1:
        raise Tie("∇²f is singular on the components that meet their kinks together")
    return np.asarray(np.linalg.solve(matrix, right))


def _solve_rows(matrices: Array, right: Array) -> Array:
    try:
        return np.asarray(np.linalg.solve(matrices, right))
    except np.linalg.LinAlgError:
        raise Tie("∇²f became singular on the sliding components") from None
