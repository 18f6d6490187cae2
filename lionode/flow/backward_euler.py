"""Backward Euler for every κ through its prox: H never rises, at any step, for convex f.

One step is x⁺ = x + h(u − λx⁺), m⁺ = m − h(α∇f(x⁺) + γm⁺) with u ∈ ∂κ(m̃⁺), that is

    0 ∈ ∂Φ(u),   Φ(u) = κ*(u) − a⟨m, u⟩ + β(1+hλ)/h · f(x⁺(u)),   x⁺(u) = (x + hu)/(1 + hλ),

with a = (1−εγ)/(1+hγ) and β = α(h+ε)/(1+hγ). Theorem and proof: docs/backward_euler.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lionode import _validate
from lionode._validate import Array
from lionode.flow.base import Budget, BudgetReached, Options, Solution
from lionode.objectives.base import NonFiniteError
from lionode.system import LionK
from lionode.trajectory import Dense, Status

__all__ = ["NotConverged", "Step", "Work", "backward_euler_step", "integrate"]

Rows = NDArray[np.intp]

EPS = float(np.finfo(np.float64).eps)

ROUNDINGS = 32.0
"""The step equation is solved to this many roundings of its largest term."""

STAGNATED = 1e4
"""Where no step lowers the residual any more, this many times the target still counts as solved: f may
be evaluated with cancellation of its own (1e-11 relative, far below any step's truncation error)."""

MAX_ITERATIONS = 300
"""Newton takes about 3; the rest is for proximal-gradient steps where Newton does not help."""

TOGETHER = 40
"""Iterations that the rows of a batch share; those still open are then solved one by one."""

HALVINGS = 20

EXPLODES = 4.0
"""A Newton step that lowers Φ may raise ‖F‖ by this factor: it crosses kinks on its way."""

PATIENCE = 8
"""Iterations before other τ are tried."""

TRIES = ((1.0, 1e-4), (1.0, 1.0), (1e-2, 1e-4), (1e-2, 1.0), (30.0, 1e-4), (1e-4, 1.0))
"""Multiples of τ and of the damping, in turn. F depends on neither, but Newton's path does: a small τ widens
the kinks it has to find, a large one passes them; damping bounds the way along flat directions of f."""

STEEPEST = 1e4
"""τ is raised to at most this many times the curvature and size found."""

SMALLEST_STEP = 1e-14
"""The adaptive step gives up below this fraction of t_end: t would no longer move."""


class NotConverged(ArithmeticError):
    """The equation of a step was not solved; the text says how far it came."""


class Step(NamedTuple):
    """x⁺, m⁺, u ∈ ∂κ(m̃⁺), each ``(..., d)``, and the Newton or proximal-gradient iterations it took."""

    x: Array
    m: Array
    u: Array
    iterations: int


@dataclass
class Work:
    """Gradient and Hessian evaluations, one a row of a batch."""

    nfev: int = 0
    njev: int = 0


class _Point(NamedTuple):
    """u and q with u ∈ ∂κ(q); the residual q + β∇f(x⁺) − am is then an element of ∂Φ(u)."""

    u: Array
    q: Array
    x: Array
    g: Array
    residual: Array
    norm: Array
    merit: Array
    """Φ(u), with κ*(u) = ⟨q, u⟩ − κ(q)."""
    rounding: Array
    """What rounding may do to Φ."""

    def take(self, rows: Rows) -> _Point:
        return _Point(*(a[rows] for a in self))

    def put(self, rows: Rows, other: _Point) -> None:
        for mine, theirs in zip(self, other, strict=True):
            mine[rows] = theirs


class _Equation:
    """The step equation of n rows at once."""

    def __init__(self, system: LionK, x: Array, m: Array, h: float, work: Work) -> None:
        self.system, self.x, self.m, self.h, self.work = system, x, m, h, work
        self.shrink = 1 + h * system.lam
        self.a = max(0.0, 1 - system.epsilon * system.gamma) / (1 + h * system.gamma)
        self.beta = system.alpha * (h + system.epsilon) / (1 + h * system.gamma)
        self.scale = self.beta * h / self.shrink
        """The curvature of the smooth part of Φ is this times ∇²f."""

    def rows(self, rows: Rows) -> _Equation:
        return _Equation(self.system, self.x[rows], self.m[rows], self.h, self.work)

    def at(self, p: Array, tau: float) -> _Point:
        """The point with q = prox_{τκ}(p), u = (p − q)/τ."""
        kappa, f = self.system.kappa, self.system.objective
        q = kappa._prox(p, tau)
        u = (p - q) / tau
        x = (self.x + self.h * u) / self.shrink
        g = np.array(f.gradient(x))  # the user's own array may be read-only, and points are updated by rows
        self.work.nfev += len(x)
        residual = q + self.beta * g - self.a * self.m
        loss = self.beta * self.shrink / self.h * f.value(x)
        terms = np.array(
            [np.sum(q * u, axis=-1), -kappa._value(q), -self.a * np.sum(self.m * u, axis=-1), loss]
        )
        blurred = np.sum(np.abs(q) * (np.abs(p) + np.abs(q)), axis=-1) / tau
        rounding = ROUNDINGS * EPS * (np.abs(terms).sum(axis=0) + blurred)
        return _Point(u, q, x, g, residual, np.max(np.abs(residual), axis=-1), terms.sum(axis=0), rounding)

    def target(self, point: _Point, curvature: float) -> Array:
        """A few roundings of the terms of the residual, ∇f taken as accurate to L‖x‖ roundings."""
        size = np.abs(point.q) + self.a * np.abs(self.m) + self.beta * np.abs(point.g)
        moved = curvature * (
            self.beta * np.max(np.abs(point.x), axis=-1) + self.scale * np.max(np.abs(point.u), axis=-1)
        )
        return np.asarray(ROUNDINGS * EPS * (np.max(size, axis=-1) + moved) + np.finfo(np.float64).tiny)


class _Curvature:
    """∇²f at the iterates of a batch; BFGS estimates of it where f has none."""

    def __init__(self, equation: _Equation) -> None:
        f = equation.system.objective
        self.f, self.work, self.exact = f, equation.work, f.has_hessian
        self.estimate = np.zeros((*equation.x.shape, equation.x.shape[-1]))
        if not self.exact:
            self.estimate += self._first_guess(equation) * np.eye(equation.x.shape[-1])

    def _first_guess(self, equation: _Equation) -> float:
        if self.f.smoothness is not None:
            return self.f.smoothness
        system, x = equation.system, equation.x
        g = self.f.gradient(x)
        u = system.kappa._subgradient(system.look_ahead(x, equation.m, g))
        move = equation.h / equation.shrink * (u - system.lam * x)
        bend = self.f.gradient(x + move) - g
        self.work.nfev += 2 * len(x)
        length, turn = np.linalg.norm(move, axis=-1), np.linalg.norm(bend, axis=-1)
        secants = turn[length > 0] / length[length > 0]
        return float(np.max(secants, initial=0.0)) or 1.0

    def at(self, x: Array, rows: Rows) -> Array:
        if not self.exact:
            return self.estimate[rows]
        self.work.njev += len(x)
        if len(x) > 1:
            return np.asarray(self.f.hessian(x))
        hessian = self.f.hessian(x[0])
        return np.asarray(hessian.toarray() if hasattr(hessian, "toarray") else hessian)[None]

    def learn(self, rows: Rows, move: Array, turn: Array) -> None:
        """The BFGS update from Δx and Δ∇f, where they show positive curvature."""
        if self.exact:
            return
        product = np.sum(move * turn, axis=-1)
        good = product > EPS * np.linalg.norm(move, axis=-1) * np.linalg.norm(turn, axis=-1)
        rows, move, turn, product = rows[good], move[good], turn[good], product[good]
        old = self.estimate[rows]
        image = np.einsum("nij,nj->ni", old, move)
        weight = np.sum(move * image, axis=-1)
        self.estimate[rows] = (
            old
            + turn[:, :, None] * turn[:, None, :] / product[:, None, None]
            - image[:, :, None] * image[:, None, :] / weight[:, None, None]
        )


def backward_euler_step(
    system: LionK, x: ArrayLike, m: ArrayLike, h: float, u: ArrayLike | None = None, work: Work | None = None
) -> Step:
    """One step of length h: x⁺ = x + h(u − λx⁺), m⁺ = m − h(α∇f(x⁺) + γm⁺), u ∈ ∂κ(m̃⁺).

    With p = q + τu, q = prox_{τκ}(p), the equation is F(p) = q + β∇f(x⁺(u)) − am = 0, and F(p) ∈ ∂Φ(u).
    Semismooth Newton with Jacobian P + (βh/τ(1+hλ))∇²f·(I − P), P that of the prox, is kept where it lowers
    both ‖F‖ and Φ; else p − F(p), which is a proximal-gradient step on Φ of length 1/τ. So for non-convex f
    the step descends on Φ from the u it is given.

    Parameters
    ----------
    system : LionK
        f, κ and the coefficients.
    x, m : array_like, shape (..., d)
        States; leading axes are independent rows, solved together.
    h : float
        The step, > 0.
    u : array_like, shape (..., d), optional
        Where to start, such as the u of the previous step; κ's selection at m̃ by default.
    work : Work, optional
        Receives the evaluation counts.

    Returns
    -------
    Step
        For convex f, H(x⁺, m⁺) ≤ H(x, m) at every h (docs/backward_euler.md).

    Raises
    ------
    NonFiniteError
        If ∇f is not finite at the start.
    NotConverged
        If the equation could not be solved.
    """
    h = _validate.positive("h", h)
    x = _validate.array("x", x, last=system.dim)
    m = _validate.array("m", m, last=system.dim)
    x, m = np.broadcast_arrays(x, m)
    lead = x.shape
    x, m = x.reshape(-1, system.dim), m.reshape(-1, system.dim)
    equation = _Equation(system, x, m, h, Work() if work is None else work)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        look_ahead = system.look_ahead(x, m)
        equation.work.nfev += len(x)
        if not np.isfinite(look_ahead).all():
            raise NonFiniteError(f"∇f is not finite at x = {np.array2string(x, threshold=6)}")
        if u is None:
            q, start = _start(equation, look_ahead)
        else:
            q, start = look_ahead, _validate.array("u", u, last=system.dim).reshape(x.shape)
        point, iterations = _solve(equation, q, start)
    m_next = (m - h * system.alpha * point.g) / (1 + h * system.gamma)
    return Step(point.x.reshape(lead), m_next.reshape(lead), point.u.reshape(lead), iterations)


def _start(equation: _Equation, look_ahead: Array) -> tuple[Array, Array]:
    """The best pair u ∈ ∂κ(q) at hand, by Φ: at m̃, at am, and staying where x is.

    Far from the solution ∂κ(m̃) may be astronomically large where κ grows fast, and staying cannot be.
    """
    kappa, system = equation.system.kappa, equation.system
    stay = kappa._project(system.lam * equation.x)
    pairs = [(q, kappa._subgradient(q)) for q in (look_ahead, equation.a * equation.m)]
    pairs.append((kappa._conjugate_subgradient(stay), stay))
    merits = []
    for q, u in pairs:
        x = (equation.x + equation.h * u) / equation.shrink
        loss = equation.beta * equation.shrink / equation.h * system.objective.value(x)
        merit = np.sum((q - equation.a * equation.m) * u, axis=-1) - kappa._value(q) + loss
        usable = np.isfinite(merit) & np.isfinite(q).all(axis=-1) & np.isfinite(u).all(axis=-1)
        merits.append(np.where(usable, merit, np.inf))
    best = np.argmin(merits, axis=0)
    rows = np.arange(len(best))
    chosen = [np.stack(side)[best, rows] for side in zip(*pairs, strict=True)]
    return chosen[0], chosen[1]


def _solve(equation: _Equation, q: Array, u: Array) -> tuple[_Point, int]:
    curvature = _Curvature(equation)
    # τu at the size of q keeps (p − q)/τ free of cancellation; τ ≥ the curvature makes p − F(p) descend.
    size = max(float(np.max(np.abs(equation.a * equation.m))), float(np.max(np.abs(q))), EPS)
    least = tau = size / max(1.0, float(np.max(np.abs(u))))
    point = equation.at(q + tau * u, tau)
    steepest, raised = 0.0, 1.0
    done: NDArray[np.bool_] = np.zeros(len(u), dtype=bool)
    for iteration in range(MAX_ITERATIONS if len(u) == 1 else TOGETHER):
        done |= point.norm <= equation.target(point, steepest)
        if done.all():
            return point, iteration
        open_rows = np.flatnonzero(np.logical_not(done))
        current, local = point.take(open_rows), equation.rows(open_rows)
        hessian = curvature.at(current.x, open_rows)
        steepest = max(steepest, float(np.max(np.abs(hessian).sum(axis=-1))))
        least = max(least, equation.scale * steepest)
        detour, damping = TRIES[iteration % len(TRIES) if iteration >= PATIENCE else iteration % 2]
        tau = least * raised * detour
        moved, better = _improve(local, current, hessian, tau, damping)
        curvature.learn(open_rows, better.x - current.x, better.g - current.g)
        point.put(open_rows[moved], better.take(np.flatnonzero(moved)))
        stuck = np.flatnonzero(~moved)
        bound = STAGNATED * local.rows(stuck).target(current.take(stuck), steepest)
        rest = current.norm[stuck] <= bound
        done[open_rows[stuck[rest]]] = True
        raised = max(1.0, raised / 2)
        if not rest.all() and detour == 1.0:
            raised = min(4 * raised, STEEPEST)
    done |= point.norm <= STAGNATED * equation.target(point, steepest)
    if done.all():
        return point, iteration + 1
    if len(u) > 1:
        return _one_by_one(equation, point, np.flatnonzero(np.logical_not(done)), q, u)
    raise NotConverged(
        f"the step equation with h = {equation.h:g} kept a residual of {point.norm[0]:.1e} "
        f"after {MAX_ITERATIONS} iterations"
    )


def _one_by_one(equation: _Equation, point: _Point, rows: Rows, q: Array, u: Array) -> tuple[_Point, int]:
    """The rows that the shared τ does not suit, from their start, each with its own."""
    most = TOGETHER
    for row in rows:
        alone = np.array([row])
        solved, iterations = _solve(equation.rows(alone), q[alone], u[alone])
        point.put(alone, solved)
        most = max(most, TOGETHER + iterations)
    return point, most


def _improve(
    equation: _Equation, current: _Point, hessian: Array, tau: float, damping: float
) -> tuple[NDArray[np.bool_], _Point]:
    """Newton with a line search, then a proximal-gradient step for the rows where that did not help."""
    p = current.q + tau * current.u
    best = _Point(*(a.copy() for a in current))
    moved = np.zeros(len(p), dtype=bool)
    direction = _newton_direction(equation, p, current, hessian, tau, damping)
    for halving in range(HALVINGS):
        rows = np.flatnonzero(~moved)
        if rows.size == 0:
            return moved, best
        length = 0.5**halving
        trial = equation.rows(rows).at(p[rows] + length * direction[rows], tau)
        fall = current.merit[rows] - trial.merit
        nearer = trial.norm <= (1 - 1e-4 * length) * current.norm[rows]
        slack = np.maximum(trial.rounding, current.rounding[rows])
        # Φ does not see how far out in the normal cone of a corner q lies, so ‖F‖ may not explode either.
        falls = (fall > slack) & (trial.norm <= EXPLODES * current.norm[rows])
        lower = falls | ((fall >= -slack) & nearer)
        best.put(rows[lower], trial.take(np.flatnonzero(lower)))
        moved[rows[lower]] = True
    rows = np.flatnonzero(~moved)
    if rows.size:
        trial = equation.rows(rows).at(p[rows] - current.residual[rows], tau)
        slack = np.maximum(trial.rounding, current.rounding[rows])
        lower = (trial.merit <= current.merit[rows] + slack) & np.isfinite(trial.norm)
        # Without a change of u the residual cannot fall either.
        lower &= (trial.u != current.u[rows]).any(axis=-1) | (trial.norm < current.norm[rows])
        best.put(rows[lower], trial.take(np.flatnonzero(lower)))
        moved[rows[lower]] = True
    return moved, best


def _newton_direction(
    equation: _Equation, p: Array, current: _Point, hessian: Array, tau: float, damping: float
) -> Array:
    """−J⁻¹F, J = P + (A + μI)(I − P), A = (βh/τ(1+hλ))∇²f made ⪰ 0; μ → 0 with F keeps J regular."""
    jacobian = equation.system.kappa._prox_jacobian(p, tau)
    eye = np.eye(p.shape[-1])
    model = equation.scale / tau * hessian
    if equation.system.objective.convex is not True:
        values, vectors = np.linalg.eigh(np.nan_to_num(model))
        model = (vectors * np.abs(values)[:, None, :]) @ np.swapaxes(vectors, -1, -2)
    size = tau * np.maximum(1.0, np.max(np.abs(current.u), axis=-1))
    shift = np.maximum(EPS, damping * np.minimum(1.0, current.norm / size))
    matrix = jacobian + (model + shift[:, None, None] * eye) @ (eye - jacobian)
    try:
        direction = np.linalg.solve(np.nan_to_num(matrix), -current.residual[..., None])[..., 0]
    except np.linalg.LinAlgError:
        direction = -current.residual
    return np.where(np.isfinite(direction), direction, 0.0)


def integrate(
    system: LionK, x0: Array, m0: Array, t_end: float, options: Options, budget: Budget
) -> Solution:
    """Backward Euler with the fixed step ``options.step``, or with steps chosen by an error estimate.

    The estimate of a step's error is (h/2)‖ẏ⁺ − ẏ‖, the leading term of the truncation error, in scipy's
    RMS norm of error/(atol + rtol·|y|). The order is 1: a tolerance tol costs about tol^(−1/2) steps.
    Between the accepted times (x, m) is linear and u is that of the step.
    """
    d, work = system.dim, Work()
    y = np.concatenate([x0, m0])
    breaks, nodes, newton = [0.0], [], 0
    status, message = Status.FINISHED, ""
    rejected = 0
    h = t_end * 1e-4 if options.step is None else options.step
    u: Array | None = None
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            slope = np.concatenate(system.velocity(x0, m0))
        while (t := breaks[-1]) < t_end:
            # A last step shorter than rounding of t is not taken; the one before reaches t_end.
            end = t_end if t_end - t <= h * (1 + 1e-9) else t + h
            budget.tick(t)
            try:
                step = backward_euler_step(system, y[:d], y[d:], end - t, u, work)
            except NotConverged as trouble:
                if options.step is not None or h < SMALLEST_STEP * t_end:
                    status, message = Status.FAILED, f"stopped at t = {t:g}: {trouble}"
                    break
                h, rejected = h / 4, rejected + 1
                continue
            newton += step.iterations
            following = np.concatenate([step.x, step.m])
            next_slope = (following - y) / (end - t)
            if options.step is None:
                allowed = options.atol + options.rtol * np.maximum(np.abs(y), np.abs(following))
                error = float(np.sqrt(np.mean(((end - t) / 2 * (next_slope - slope) / allowed) ** 2)))
                factor = min(5.0, max(0.2, 0.9 / np.sqrt(max(error, EPS))))
                h = factor * (end - t)
                if error > 1 and h > SMALLEST_STEP * t_end:
                    rejected += 1
                    continue
            nodes.append([np.concatenate([y, step.u]), np.concatenate([following, step.u])])
            breaks.append(float(end))
            y, u, slope = following, step.u, next_slope
    except BudgetReached as reached:
        status, message = Status.BUDGET, str(reached)
    except KeyboardInterrupt:
        status, message = Status.INTERRUPTED, f"interrupted at t = {breaks[-1]:g}"
    except (ArithmeticError, np.linalg.LinAlgError, ValueError) as trouble:
        status, message = Status.NON_FINITE, f"stopped at t = {breaks[-1]:g}: {trouble}"
    if not message:
        message = f"backward Euler (order 1) reached t = {t_end:g} in {len(nodes)} steps"
        if not system.objective.has_hessian:
            message += "; f has no Hessian, so BFGS estimates served"
    info = {"newton_mean": newton / max(1, len(nodes)), "rejected": rejected}
    dense = Dense(np.array(breaks), np.array(nodes)) if nodes else None
    return Solution(dense, status, message, "backward-euler", nfev=work.nfev, njev=work.njev, info=info)
