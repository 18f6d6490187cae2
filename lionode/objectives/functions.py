"""Test functions in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import sympy as sp
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.objectives.base import Objective, factory
from lionode.objectives.expression import _Compiled
from lionode.objectives.formulas import exact

__all__ = ["double_well", "himmelblau", "linear", "quadratic", "rosenbrock"]

SYMBOLIC_DIM = 10
"""Up to this many components the closed forms also carry their sympy expression."""

DENSE_SPECTRUM = 500
"""Up to this size all eigenvalues are cheaper than a reliable sparse iteration for the two extreme ones."""


def _symbols(d: int) -> list[sp.Symbol]:
    return [sp.Symbol(f"x{i + 1}", real=True) for i in range(d)]


@factory
def quadratic(A: Any, b: ArrayLike | None = None) -> Objective:
    """½xᵀAx − bᵀx.

    Parameters
    ----------
    A : array_like or scipy sparse, shape (d, d)
        Symmetric; indefinite is allowed (f is then not bounded below).
    b : array_like, shape (d,), optional
        Zero by default.

    Raises
    ------
    ValueError
        If A is not square and symmetric, or b has another length.
    """
    sparse = scipy.sparse.issparse(A)
    matrix: Any = A.tocsr().astype(np.float64) if sparse else _validate.array("A", np.atleast_2d(A))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"A must be square, got shape {matrix.shape}")
    d = matrix.shape[0]
    if abs(matrix - matrix.T).max() > 1e-12 * max(1.0, abs(matrix).max()):
        raise ValueError("A must be symmetric; (A + A.T)/2 has the same quadratic form")
    shift = np.zeros(d) if b is None else _validate.vector("b", b, dim=d)
    low, high = _extreme_eigenvalues(matrix)
    known: dict[str, Any] = {"smoothness": max(abs(low), abs(high)), "strong_convexity": low}
    if low > 0:
        solve = scipy.sparse.linalg.spsolve if sparse else np.linalg.solve
        minimizer = solve(matrix.tocsc() if sparse else matrix, shift)
        known |= {"minimizer": minimizer, "minimum": float(-shift @ minimizer / 2)}
    formula, symbols = None, []
    if d <= SYMBOLIC_DIM and not sparse:
        symbols = _symbols(d)
        x = sp.Matrix(symbols)
        linear_part = sp.Matrix([exact(v) for v in shift]).dot(x)
        formula = sp.expand((x.T * sp.Matrix(d, d, [exact(v) for v in matrix.flat]) * x)[0] / 2 - linear_part)

    def product(x: Array) -> Array:
        return np.asarray((matrix @ x.reshape(-1, d).T).T.reshape(x.shape) if sparse else x @ matrix)

    def hessian(x: Array) -> Any:
        if sparse and x.ndim == 1:
            return matrix
        dense = matrix.toarray() if sparse else matrix
        return np.broadcast_to(dense, (*x.shape, d))

    return Objective(
        lambda x: np.sum(x * (product(x) / 2 - shift), axis=-1),
        lambda x: product(x) - shift,
        hessian,
        d,
        vectorized=True,
        expression=formula,
        symbols=symbols,
        name="quadratic",
        **known,
    )


def _extreme_eigenvalues(matrix: Any) -> tuple[float, float]:
    if matrix.shape[0] <= DENSE_SPECTRUM:
        dense: Any = matrix.toarray() if scipy.sparse.issparse(matrix) else matrix
        spectrum = np.linalg.eigvalsh(dense)
    else:
        ends = scipy.sparse.linalg.eigsh(matrix, k=2, which="BE", return_eigenvectors=False)
        spectrum = np.sort(ends)
    # A singular matrix has eigenvalues of rounding size: f is then convex with μ = 0, not −1e-17.
    rounding = matrix.shape[0] * np.finfo(float).eps * max(abs(spectrum[0]), abs(spectrum[-1]))
    low, high = (0.0 if abs(v) <= rounding else float(v) for v in (spectrum[0], spectrum[-1]))
    return low, high


@factory
def linear(c: ArrayLike) -> Objective:
    """⟨c, x⟩: convex, not bounded below, bounded on every box."""
    slope = _validate.vector("c", c)
    d = slope.size
    formula, symbols = None, []
    if d <= SYMBOLIC_DIM:
        symbols = _symbols(d)
        formula = sp.Add(*(exact(v) * s for v, s in zip(slope, symbols, strict=True)))
    return Objective(
        lambda x: x @ slope,
        lambda x: np.broadcast_to(slope, x.shape),
        lambda x: np.zeros((*x.shape, d)),
        d,
        vectorized=True,
        smoothness=0.0,
        strong_convexity=0.0,
        expression=formula,
        symbols=symbols,
        name="linear",
    )


@factory
def rosenbrock(d: int = 2, a: float = 1.0, b: float = 100.0) -> Objective:
    """Σ (a − xᵢ)² + b(xᵢ₊₁ − xᵢ²)² over i < d (Rosenbrock 1960); for a = 1 the minimum 0 is at (1, …, 1)."""
    d = _validate.count("d", d, minimum=2)
    a, b = _validate.real("a", a), _validate.positive("b", b)

    def value(x: Array) -> Array:
        head, tail = x[..., :-1], x[..., 1:]
        return np.asarray(np.sum((a - head) ** 2 + b * (tail - head**2) ** 2, axis=-1))

    def gradient(x: Array) -> Array:
        head, tail = x[..., :-1], x[..., 1:]
        g = np.zeros_like(x)
        g[..., :-1] = -2 * (a - head) - 4 * b * head * (tail - head**2)
        g[..., 1:] += 2 * b * (tail - head**2)
        return g

    def hessian(x: Array) -> Array:
        head, tail = x[..., :-1], x[..., 1:]
        result = np.zeros((*x.shape, d))
        i = np.arange(d - 1)
        result[..., i, i] = 2 - 4 * b * (tail - 3 * head**2)
        result[..., i + 1, i + 1] += 2 * b
        result[..., i, i + 1] = result[..., i + 1, i] = -4 * b * head
        return result

    known: dict[str, Any] = {}
    if a == 1 or d == 2:
        known = {"minimum": 0.0, "minimizer": a ** (2.0 ** np.arange(d)) if d == 2 else np.ones(d)}
    formula, symbols = None, []
    if d <= SYMBOLIC_DIM:
        symbols = s = _symbols(d)
        ra, rb = exact(a), exact(b)
        formula = sp.Add(*((ra - s[i]) ** 2 + rb * (s[i + 1] - s[i] ** 2) ** 2 for i in range(d - 1)))
    return Objective(
        value, gradient, hessian, d, vectorized=True, expression=formula, symbols=symbols,
        name="rosenbrock", **known,
    )  # fmt: skip


@factory
def himmelblau() -> Objective:
    """(x₁² + x₂ − 11)² + (x₁ + x₂² − 7)² (Himmelblau 1972): four minima of value 0, one of them at (3, 2)."""
    x1, x2 = symbols = _symbols(2)
    formula = (x1**2 + x2 - 11) ** 2 + (x1 + x2**2 - 7) ** 2
    return _Compiled(formula, symbols, minimum=0.0, minimizer=[3.0, 2.0], name="himmelblau")


@factory
def double_well(d: int = 1) -> Objective:
    """Σ (xᵢ² − 1)²/4: 2^d minima of value 0 at the corners (±1, …, ±1)."""
    d = _validate.count("d", d)
    formula, symbols = None, []
    if d <= SYMBOLIC_DIM:
        symbols = _symbols(d)
        formula = sp.Add(*((s**2 - 1) ** 2 / 4 for s in symbols))
    return Objective(
        lambda x: np.sum((x**2 - 1) ** 2, axis=-1) / 4,
        lambda x: x**3 - x,
        lambda x: (3 * x**2 - 1)[..., None] * np.eye(d),
        d,
        vectorized=True,
        strong_convexity=-1.0,
        minimum=0.0,
        minimizer=np.ones(d),
        expression=formula,
        symbols=symbols,
        name="double_well",
    )
