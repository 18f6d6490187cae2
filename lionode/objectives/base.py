"""The contract of a loss f: value, gradient and Hessian, with what is known of its curvature."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import numpy as np
import scipy.sparse
import sympy as sp
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.objectives.formulas import numba_gradient

__all__ = ["FACTORIES", "NonFiniteError", "Objective", "factory", "from_spec"]

P = ParamSpec("P")

FACTORIES: dict[str, Callable[..., Objective]] = {}
"""Every function that builds an objective, by name; a saved run rebuilds its objective through it."""


class NonFiniteError(ArithmeticError):
    """f, ∇f or ∇²f had a NaN, an inf or a wrong shape: a run ends there, with a status."""


class Objective:
    """A differentiable loss f on R^d, bounded below.

    Parameters
    ----------
    value : callable
        f: ``(d,)`` to a float; with ``vectorized=True`` ``(..., d)`` to ``(...)``.
    gradient : callable
        ∇f: ``(d,)`` to ``(d,)``; with ``vectorized=True`` ``(..., d)`` to ``(..., d)``.
    hessian : callable, "finite-difference" or None
        ∇²f: ``(d,)`` to ``(d, d)``, dense or scipy sparse; with ``vectorized=True`` ``(..., d)`` to
        ``(..., d, d)`` (sparse only for a single point). ``"finite-difference"`` asks for central differences
        of the gradient, which have an error of about 1e-10 relative: it is never chosen silently.
    dim : int
        d.
    vectorized : bool
        Whether the callables broadcast over leading axes. If not, they are called point by point.
    smoothness : float, optional
        L, a Lipschitz constant of ∇f on all of R^d; None when unknown or infinite.
    strong_convexity : float, optional
        μ with ∇²f ⪰ μI everywhere; 0 for convex, negative for weakly convex, None when unknown.
    minimum : float, optional
        inf f, where known exactly (or a lower bound of it).
    minimizer : array_like, optional
        A point where the minimum is attained.
    stochastic : callable, optional
        ``(x, rng)`` to an unbiased estimate of ∇f(x), such as a minibatch gradient.
    expression, symbols : sympy expression and its symbols, optional
        f in closed form, in the order of the components of x.
    name : str
        What messages and figures call it.

    Raises
    ------
    TypeError
        If a callable is not callable.
    ValueError
        If ``dim`` is not a positive integer.
    """

    spec: tuple[str, dict[str, Any]] | None = None
    """Factory name and arguments that rebuild this objective; None for plain callables."""

    def __init__(
        self,
        value: Callable[[Array], Any],
        gradient: Callable[[Array], Any],
        hessian: Callable[[Array], Any] | str | None = None,
        dim: int | None = None,
        *,
        vectorized: bool = False,
        smoothness: float | None = None,
        strong_convexity: float | None = None,
        minimum: float | None = None,
        minimizer: ArrayLike | None = None,
        stochastic: Callable[[Array, np.random.Generator], Any] | None = None,
        expression: sp.Expr | None = None,
        symbols: Sequence[sp.Symbol] = (),
        name: str = "objective",
    ) -> None:
        if dim is None:
            raise ValueError(
                "dim must be given: the number of components of x, e.g. Objective(f, grad, dim=2)"
            )
        for label, function in (("value", value), ("gradient", gradient)):
            if not callable(function):
                raise TypeError(f"{label} must be callable, got {function!r}")
        if stochastic is not None and not callable(stochastic):
            raise TypeError(f"stochastic must be callable or None, got {stochastic!r}")
        if isinstance(hessian, str):
            _validate.choice("hessian", hessian, ("finite-difference",))
        elif hessian is not None and not callable(hessian):
            raise TypeError(f"hessian must be callable, 'finite-difference' or None, got {hessian!r}")
        self.dim = _validate.count("dim", dim)
        self.vectorized = vectorized
        self._value, self._gradient = value, gradient
        self.stochastic = stochastic
        self._hessian = self._difference_hessian if isinstance(hessian, str) else hessian
        self.smoothness = None if smoothness is None else _validate.nonnegative("smoothness", smoothness)
        self.strong_convexity = (
            None if strong_convexity is None else _validate.real("strong_convexity", strong_convexity)
        )
        self.minimum = None if minimum is None else _validate.real("minimum", minimum)
        self.minimizer = None if minimizer is None else _validate.vector("minimizer", minimizer, dim=dim)
        self.expression, self.symbols = expression, tuple(symbols)
        self.name = name

    @property
    def convex(self) -> bool | None:
        """Whether f is known to be convex; None when nothing is known."""
        return None if self.strong_convexity is None else self.strong_convexity >= 0

    @property
    def has_hessian(self) -> bool:
        """Whether ∇²f can be asked for."""
        return self._hessian is not None

    def value(self, x: ArrayLike) -> Array:
        """f(x). Shape ``(..., d)`` to ``(...)``."""
        return self._apply("value", self._value, x, ())

    def gradient(self, x: ArrayLike) -> Array:
        """∇f(x). Shape ``(..., d)`` to ``(..., d)``."""
        return self._apply("gradient", self._gradient, x, (self.dim,))

    def hessian(self, x: ArrayLike) -> Any:
        """∇²f(x). Shape ``(..., d)`` to ``(..., d, d)``; a scipy sparse matrix if the callable returns one.

        Raises
        ------
        ValueError
            If the objective was given no Hessian.
        """
        if self._hessian is None:
            raise ValueError(
                f"{self.name} has no Hessian: pass hessian=..., "
                "or hessian='finite-difference' to accept differences"
            )
        point = _validate.array("x", x, last=self.dim, finite=False)
        if point.ndim == 1:
            result = self._hessian(point)
            if scipy.sparse.issparse(result):
                return result
            return self._checked("hessian", result, (self.dim, self.dim))
        return self._apply("hessian", self._hessian, point, (self.dim, self.dim))

    def compiled_gradient(self) -> Callable[[Array, Array], None] | None:
        """A numba function ``g(x, out)`` that writes ∇f(x) into ``out``; None without an expression."""
        return self._numba_gradient

    @functools.cached_property
    def _numba_gradient(self) -> Callable[[Array, Array], None] | None:
        return None if self.expression is None else numba_gradient(self.expression, self.symbols)

    def _apply(
        self, what: str, function: Callable[[Array], Any], x: ArrayLike, tail: tuple[int, ...]
    ) -> Array:
        point = _validate.array("x", x, last=self.dim, finite=False)
        lead = point.shape[:-1]
        if self.vectorized or point.ndim == 1:
            return self._checked(what, function(point), lead + tail)
        rows = point.reshape(-1, self.dim)
        values = [self._checked(what, function(row), tail) for row in rows]
        return np.array(values, dtype=np.float64).reshape(lead + tail)

    def _checked(self, what: str, result: Any, shape: tuple[int, ...]) -> Array:
        values = np.asarray(result, dtype=np.float64)
        if values.shape != shape:
            raise NonFiniteError(f"{what} of {self.name} returned shape {values.shape}, needed {shape}")
        return values

    def _difference_hessian(self, x: Array) -> Array:
        if x.ndim > 1:
            return np.stack([self._difference_hessian(row) for row in x.reshape(-1, self.dim)]).reshape(
                *x.shape, self.dim
            )
        step = np.cbrt(np.finfo(float).eps) * np.maximum(1.0, np.abs(x))
        shifts = np.diag(step)
        columns = (self.gradient(x + shifts) - self.gradient(x - shifts)) / (2 * step[:, None])
        return np.asarray((columns + columns.T) / 2)

    def __repr__(self) -> str:
        return f"Objective({self.name}, dim={self.dim})"


def factory(build: Callable[P, Objective]) -> Callable[P, Objective]:
    """Register a function that builds an objective, and note on its result how it was called."""

    @functools.wraps(build)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Objective:
        objective = build(*args, **kwargs)
        if objective.spec is None:
            objective.spec = (build.__name__, dict(inspect.signature(build).bind(*args, **kwargs).arguments))
        return objective

    FACTORIES[build.__name__] = wrapper
    return wrapper


def from_spec(name: str, arguments: dict[str, Any]) -> Objective:
    """Rebuild an objective from its ``spec``."""
    return FACTORIES[_validate.choice("objective", name, FACTORIES)](**arguments)
