"""The composite optimum min αf(x) + (γ/λ)κ*(λx), found without the flow: what the flow must end at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.kappas.base import Separable
from lionode.objectives.base import NonFiniteError
from lionode.system import LionK

__all__ = ["CompositeOptimum", "composite_optimum", "composite_value", "kkt_residual", "optimality_gap"]

DENSE_LIMIT = 2000
"""Above this dimension a Newton step needs a separable κ: a full d × d matrix is no longer formed."""

NEWTON_EVERY = 25
"""Gradient steps between two attempts to finish by Newton steps."""

NEWTON_STEPS = 50
"""Newton steps in one attempt: the active set changes in most of them."""

UNBOUNDED = 1e12
"""F below −UNBOUNDED·(1 + |F(x0)|) counts as unbounded below."""

PROJECTION_SCALE = 1e-8
"""At γ = 0 the projection's Jacobian is read from prox_{sκ*} at this s; only Newton's speed depends on it."""

RESTING = 1e-14
"""Relative step below which gradient steps no longer move x."""


@dataclass(frozen=True)
class CompositeOptimum:
    """The result of `composite_optimum`.

    Attributes
    ----------
    x : ndarray, shape (d,)
        The point.
    value : float
        F(x) = αf(x) + (γ/λ)κ*(λx).
    residual : float
        `kkt_residual` at x.
    gap : float
        `optimality_gap` at x: for convex f a bound of F(x) − min F; NaN where γ = 0
        or λ = 0, or where no minimum was met.
    active : ndarray of bool, shape (d,)
        The components that κ* holds in place: those on which the prox is locally constant.
    success : bool
        Whether the residual is at most ``tol``.
    status : str
        "converged", "budget", "unbounded", "infeasible" or "not finite".
    message : str
        The status in words.
    iterations, nfev : int
        Gradient and Newton steps, and evaluations of f or ∇f, over all starts.
    local : bool
        True unless f is known to be convex: then x is the best of the stationary points found, no more.
    """

    x: Array
    value: float
    residual: float
    gap: float
    active: Array
    success: bool
    status: str
    message: str
    iterations: int
    nfev: int
    local: bool


def composite_value(system: LionK, x: ArrayLike) -> Array:
    """F(x) = αf(x) + (γ/λ)κ*(λx). Shape ``(..., d)`` to ``(...)``; +inf where λx ∉ dom κ*.

    At λ = 0 the second term is γ⟨z, x⟩, z ∈ ∂κ*(0); at γ = 0 it is the indicator of dom κ*.
    """
    x = _validate.array("x", x, last=system.dim)
    smooth = system.alpha * system.objective.value(x)
    if system.lam == 0:
        return np.asarray(smooth + x @ _tilt(system))
    conjugate = system.kappa.conjugate(system.lam * x)
    if system.gamma == 0:
        return np.where(np.isfinite(conjugate), smooth, np.inf)
    return np.asarray(smooth + system.gamma / system.lam * conjugate)


def kkt_residual(system: LionK, x: ArrayLike) -> float:
    """‖x − prox_P(x − α∇f(x))‖∞ with P = (γ/λ)κ*(λ·): 0 iff λx ∈ ∂κ(−(α/γ)∇f(x)).

    Parameters
    ----------
    system : LionK
        f, κ and the coefficients.
    x : array_like, shape (d,)
        The point.

    Raises
    ------
    ValueError
        If x is not a finite vector of d components.
    """
    x = _validate.vector("x", x, dim=system.dim)
    return _residual(system, x, system.alpha * system.objective.gradient(x))


def optimality_gap(system: LionK, x: ArrayLike) -> float:
    """(γ/λ)[κ(p) + κ*(λx) − ⟨p, λx⟩] with p = −(α/γ)∇f(x): for convex f at least F(x) − min F.

    It is 0 exactly at a stationary point. For κ = ‖·‖₁ it is α(‖∇f‖₁ + ⟨λx, ∇f⟩)/λ, the residual of the
    paper's condition ⟨−λx, ∇f⟩ = ‖∇f‖₁; it is the duality gap of the Frank–Wolfe method.

    Parameters
    ----------
    system : LionK
        f, κ and the coefficients.
    x : array_like, shape (d,)
        The point.

    Returns
    -------
    float
        NaN where γ = 0 or λ = 0, +inf outside dom κ*.
    """
    x = _validate.vector("x", x, dim=system.dim)
    if system.gamma == 0 or system.lam == 0:
        return float("nan")
    p = -system.alpha / system.gamma * system.objective.gradient(x)
    y = system.lam * x
    fenchel = system.kappa.value(p) + system.kappa.conjugate(y) - p @ y
    return float(system.gamma / system.lam * fenchel)


def composite_optimum(
    system: LionK,
    x0: ArrayLike | None = None,
    *,
    tol: float = 1e-10,
    starts: int = 1,
    seed: int | np.random.Generator = 0,
    max_iterations: int = 20_000,
) -> CompositeOptimum:
    """Minimise F(x) = αf(x) + (γ/λ)κ*(λx) by accelerated proximal gradient and semismooth Newton steps.

    The prox of t(γ/λ)κ*(λ·) at x is that of tγλκ* at λx, divided by λ. At λ = 0 this is min f (plus
    γ⟨∇κ*(0), x⟩ where 0 does not minimise κ); at γ = 0 it is min f over λx ∈ dom κ*.
    Sources: Beck & Teboulle (2009); O'Donoghue & Candès (2015) for the restart; Qi & Sun (1993).

    Parameters
    ----------
    system : LionK
        f, κ and the coefficients. f may have a sparse Hessian; with none, only gradient steps are taken.
    x0 : array_like, shape (d,), optional
        The first start, zeros by default.
    tol : float
        The `kkt_residual` to reach, > 0.
    starts : int
        How many starts; those after the first are x0 plus a normal draw of scale 1 + |x0|.
    seed : int or Generator
        Where the draws come from.
    max_iterations : int
        The budget of gradient steps a start.

    Returns
    -------
    CompositeOptimum
        The best point found, with ``success`` and a ``status``; ``local`` says whether it is only that.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is named above.
    """
    if not isinstance(system, LionK):
        raise TypeError(f"system must be a LionK, got {_validate.describe(system)}")
    x0 = np.zeros(system.dim) if x0 is None else _validate.vector("x0", x0, dim=system.dim)
    tol = _validate.positive("tol", tol)
    budget = _validate.count("max_iterations", max_iterations)
    rng = np.random.default_rng(seed)
    points = [x0]
    for _ in range(_validate.count("starts", starts) - 1):
        points.append(x0 + (1 + np.abs(x0)) * rng.normal(size=system.dim))
    if system.lam == 0 and not system.kappa.contains(np.zeros(system.dim)):
        return _infeasible(system, x0)
    descents = [_Descent(system, tol) for _ in points]
    for descent, point in zip(descents, points, strict=True):
        descent.run(point, budget)
    best = min(descents, key=lambda d: (not np.isfinite(d.value) and d.status != "unbounded", d.value))
    return CompositeOptimum(
        best.x,
        best.value,
        best.residual,
        best.gap(),
        best.active(),
        best.status == "converged",
        best.status,
        best.message,
        sum(d.iterations for d in descents),
        sum(d.nfev for d in descents),
        system.objective.convex is not True,
    )


class _Descent:
    """One start: FISTA with backtracking and restart, interrupted by attempts of Newton to finish."""

    def __init__(self, system: LionK, tol: float) -> None:
        self.system, self.tol = system, tol
        self.iterations = self.nfev = 0
        self.status = self.message = ""
        self.value = self.residual = np.inf
        self.floor = -np.inf

    def run(self, x0: Array, budget: int) -> None:
        self.x = _prox(self.system, x0, 0.0)
        try:
            self._run(budget)
        except NonFiniteError as error:
            # On the way down F may overflow before it is looked at.
            if self.value < self.floor:
                self._end_unbounded()
            else:
                self._end("not finite", str(error))

    def _run(self, budget: int) -> None:
        self._move(self.x)
        self.floor = -UNBOUNDED * (1 + abs(self.value))
        step, y, momentum = 1.0, self.x, 1.0
        while not self.status:
            if self.value < self.floor:
                self._end_unbounded()
            elif not np.isfinite(self.value):
                self._end("not finite", f"F is not finite at {_validate.describe(self.x)}")
            elif self.residual <= self.tol or (self._newton_is_due() and self._newton(step)):
                self._end("converged", f"residual {self.residual:.2g} ≤ {self.tol:g}")
            elif self.iterations >= budget:
                self._end("budget", f"residual {self.residual:.2g} > {self.tol:g} after {budget} steps")
            else:
                step, y, momentum = self._accelerate(step, y, momentum)

    def _accelerate(self, step: float, y: Array, momentum: float) -> tuple[float, Array, float]:
        old, new, step = self.x, *self._backtrack(y, 1.3 * step)
        self._move(new)
        if (y - new) @ (new - old) > 0:
            return step, self.x, 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        return step, new + (momentum - 1) / following * (new - old), following

    def _backtrack(self, y: Array, step: float) -> tuple[Array, float]:
        """A proximal gradient step from y on which f lies below its quadratic model of curvature 1/step."""
        alpha, f = self.system.alpha, self.system.objective
        value, gradient = alpha * float(f.value(y)), alpha * f.gradient(y)
        self.nfev += 2
        while True:
            new = _prox(self.system, y - step * gradient, step)
            move = new - y
            size = float(move @ move)
            rounding = RESTING * (1 + abs(value))
            trial = alpha * float(f.value(new))
            self.nfev += 1
            if trial <= value + gradient @ move + size / (2 * step) + rounding or step < np.finfo(float).tiny:
                return new, step
            step /= 2

    def _newton_is_due(self) -> bool:
        return self.iterations % NEWTON_EVERY == 0 and self._newton_possible()

    def _newton_possible(self) -> bool:
        system = self.system
        small = system.dim <= DENSE_LIMIT or isinstance(system.kappa, Separable)
        return system.objective.has_hessian and small

    def _newton(self, step: float) -> bool:
        """Newton steps on x = prox(x − tα∇f(x)), each of which must lower F, or the residual at equal F."""
        if self.iterations == 0:
            return False
        for _ in range(NEWTON_STEPS):
            if self.residual <= self.tol:
                return True
            if not self._newton_step(step):
                return False
        return self.residual <= self.tol

    def _newton_step(self, step: float) -> bool:
        system, x = self.system, self.x
        argument = x - step * self.gradient
        defect = x - _prox(system, argument, step)
        hessian = system.alpha * system.objective.hessian(x)
        direction = _newton_direction(_prox_jacobian(system, argument, step), step * hessian, defect)
        if not np.all(np.isfinite(direction)):
            return False
        value, residual = self.value, self.residual
        for damping in (1.0, 0.5, 0.1):
            target = x + damping * direction
            gradient = system.alpha * system.objective.gradient(target)
            self._move(_prox(system, target - step * gradient, step))
            slack = RESTING * (1 + abs(value))
            if self.value < value - slack or (self.value <= value + slack and self.residual < residual / 2):
                return True
        self._move(x)
        return False

    def _move(self, x: Array) -> None:
        system = self.system
        self.x, self.value = x, float(composite_value(system, x))
        self.gradient = system.alpha * system.objective.gradient(x)
        self.residual = _residual(system, x, self.gradient)
        self.iterations += 1
        self.nfev += 2

    def _end_unbounded(self) -> None:
        self._end("unbounded", f"F fell to {self.value:.3g}: no lower bound was met")

    def _end(self, status: str, message: str) -> None:
        self.status, self.message = status, message

    def gap(self) -> float:
        return optimality_gap(self.system, self.x) if self._at_a_point() else float("nan")

    def active(self) -> Array:
        separable = isinstance(self.system.kappa, Separable)
        if not self._at_a_point() or (self.system.dim > DENSE_LIMIT and not separable):
            return np.zeros(self.system.dim, dtype=bool)
        jacobian = _prox_jacobian(self.system, self.x - self.gradient, 1.0)
        return np.asarray(jacobian == 0 if jacobian.ndim == 1 else ~np.any(jacobian, axis=-1))

    def _at_a_point(self) -> bool:
        """Whether f and ∇f are numbers at x, and x is not on its way to infinity."""
        return self.status in ("converged", "budget")


def _infeasible(system: LionK, x0: Array) -> CompositeOptimum:
    return CompositeOptimum(
        x0,
        np.inf,
        np.inf,
        np.nan,
        np.zeros(system.dim, dtype=bool),
        False,
        "infeasible",
        f"lam = 0 asks for 0 ∈ dom κ*, which {system.kappa} does not have: no point is stationary",
        0,
        0,
        system.objective.convex is not True,
    )


def _tilt(system: LionK) -> Array:
    """γ∇κ*(0), the gradient of the limit of (γ/λ)κ*(λx) as λ → 0."""
    return np.asarray(system.gamma * system.kappa.conjugate_subgradient(np.zeros(system.dim)))


def _residual(system: LionK, x: Array, gradient: Array) -> float:
    if system.lam == 0:
        # The same without its rounding, which hides small gradients where x is large.
        return float(np.max(np.abs(gradient + _tilt(system))))
    return float(np.max(np.abs(x - _prox(system, x - gradient, 1.0))))


def _prox(system: LionK, x: Array, step: float) -> Array:
    """prox of step·(γ/λ)κ*(λ·) at x; the projection where the weight is 0."""
    if not np.all(np.isfinite(x)):
        raise NonFiniteError("the iteration left the finite numbers")
    if system.lam == 0:
        return x - step * _tilt(system)
    weight = step * system.gamma * system.lam
    y = system.lam * x
    return (system.kappa.conjugate_prox(y, weight) if weight > 0 else system.kappa.project(y)) / system.lam


def _prox_jacobian(system: LionK, x: Array, step: float) -> Array:
    """An element of the Jacobian of `_prox`, I − ∂prox_{κ/s}(λx/s) by Moreau; as a vector if diagonal."""
    if system.lam == 0:
        return np.ones(system.dim)
    kappa = system.kappa
    weight = step * system.gamma * system.lam or PROJECTION_SCALE
    argument = system.lam * x / weight
    if isinstance(kappa, Separable):
        return np.asarray(1 - kappa.dprox_phi(argument, 1 / weight, *kappa.constants), dtype=np.float64)
    return np.asarray(np.eye(system.dim) - kappa.prox_jacobian(argument, 1 / weight))


def _newton_direction(jacobian: Array, hessian: ArrayLike, defect: Array) -> Array:
    """The solution v of (I − P(I − H))v = −defect; NaN where the system is singular."""
    if jacobian.ndim == 1:
        return _reduced_direction(jacobian, hessian, defect)
    dense = hessian.toarray() if scipy.sparse.issparse(hessian) else np.asarray(hessian)  # type: ignore[union-attr]
    matrix = np.eye(defect.size) - jacobian + jacobian @ dense
    return _solve(matrix, -defect)


def _reduced_direction(diagonal: Array, hessian: ArrayLike, defect: Array) -> Array:
    """The same for diagonal P: known where P is 0, a symmetric system on the rest."""
    free = diagonal > 0
    direction = np.where(free, 0.0, -defect)
    if not np.any(free):
        return direction
    rows = (
        scipy.sparse.csr_matrix(hessian)[free]
        if scipy.sparse.issparse(hessian)
        else np.asarray(hessian)[free]
    )
    matrix, p = rows[:, free], diagonal[free]
    target = -defect[free] / p - rows @ direction
    shift = (1 - p) / p
    if scipy.sparse.issparse(matrix):
        direction[free] = scipy.sparse.linalg.spsolve((matrix + scipy.sparse.diags(shift)).tocsc(), target)
    else:
        direction[free] = _solve(matrix + np.diag(shift), target)
    return direction


def _solve(matrix: Array, target: Array) -> Array:
    try:
        return np.asarray(np.linalg.solve(matrix, target))
    except np.linalg.LinAlgError:
        return np.full_like(target, np.nan)
