"""A separable potential from a convex expression in one symbol z."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import sympy as sp
from sympy.printing.numpy import NumPyPrinter
from sympy.solvers.solveset import invert_real

from lionode._expression import parse_expression
from lionode._validate import Array
from lionode.kappas._scalar import EPS, quietly, scalar, settled, where
from lionode.kappas.base import Separable
from lionode.kappas.calculus import ScalarFunction, Scalars
from lionode.kappas.linear_pieces import BENT, Linear, linear_pieces

__all__ = ["from_expression"]

Z, Y = sp.Symbol("z", real=True), sp.Symbol("y", real=True)

REACH = 1e8
"""Half the interval on which the sup in φ*(y) is sought; past it φ* on the face of its domain is a limit."""

ROOT_STEPS = 240
"""A step that does not quarter the equation's error halves the bracket: twice the bits and range of a float.
A Newton step down an exponential divides by e only, and from 1e200 there would be hundreds of them."""

BISECTIONS = 80
"""More than the bits of a float."""

STEEPEST = 1e200
"""Stands for a φ'' that overflows; the Newton step then leaves the bracket or stays put."""

NEAR = 10.0
"""Within this distance of 0 an overflow of φ is refused; beyond, φ may grow past the floats."""

CHECKED = np.concatenate([np.sinh(np.linspace(-np.arcsinh(1e3), np.arcsinh(1e3), 4001)), [0.0]])
"""Where convexity is looked at, dense near 0; the lowest φ'' found there is then minimised locally."""

SLACK = 1e-9
"""A φ'' this far below 0, relative to the largest |φ''| nearby, is rounding and not a bend downwards."""


def from_expression(expression: str | sp.Expr) -> Separable:
    """κ(z) = Σ φ(z_i) for a convex φ given in the symbol z.

    A φ made of sums, multiples, abs, max and min of lines is known by its kinks and slopes, and is treated as
    exactly as `L1`. Otherwise the gradient and φ'' are symbolic; so is φ* where φ'(z) = y can be solved for z
    by inverting one function after the other. The prox, and otherwise φ*, come from a safeguarded iteration.
    On the face of dom φ* a sup that is not attained is taken over |z| ≤ 1e8.

    Parameters
    ----------
    expression : str or sympy expression
        φ, for example ``"sqrt(z**2 + 0.25) + 0.1*z**2"``; finite for every real z.

    Raises
    ------
    TypeError
        If it is neither text nor a sympy expression.
    ValueError
        If it has another symbol than z, is not finite, or is not convex; the message names the point.
    """
    if not isinstance(expression, str | sp.Expr):
        raise TypeError(f"expression must be a text or a sympy expression in z, got {expression!r}")
    phi = parse_expression(expression if isinstance(expression, str) else _text(expression))
    phi = phi.subs({s: Z for s in phi.free_symbols if s.name == "z"})
    if phi.free_symbols != {Z}:
        names = ", ".join(sorted(s.name for s in phi.free_symbols)) or "none"
        raise ValueError(f"expression must be in the one symbol z, got the symbols {names} in {phi}")
    return Expression(phi)


def _text(expression: sp.Expr) -> str:
    """The expression as the parser reads it; floats as the fractions that they are, unrounded."""
    exact = expression.replace(lambda e: e.is_Float, lambda e: sp.Rational(float(e)))
    text = str(exact)
    for function in ("Abs", "Max", "Min"):
        text = text.replace(f"{function}(", f"{function.lower()}(")
    return text


class Expression(Separable, register=False):
    """The potential that `from_expression` returns."""

    name = "expression"

    def __init__(self, phi: sp.Expr) -> None:
        self.expression = phi
        self.formula = f"Σ {phi}"  # type: ignore[misc]
        derived = _derive(phi)
        derived.scalars.install(self)
        self.smoothness, self._bounds, self._conjugate_expression, self.kinks, self.slopes = derived[1:]
        self.radius = max(abs(b) for b in self._bounds)

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of dom φ*, the slopes of φ at ∓∞."""
        return self._bounds

    @property
    def constants(self) -> tuple[float, ...]:
        """None: the numbers are in the functions."""
        return ()

    @property
    def parameters(self) -> dict[str, Any]:
        """φ as text."""
        return {"expression": _text(self.expression)}

    def __repr__(self) -> str:
        return f"from_expression({str(self.expression)!r})"

    def symbolic_phi(self, z: sp.Symbol) -> sp.Expr:
        """φ(z)."""
        return self.expression.subs(Z, z)

    def symbolic_phi_conjugate(self, y: sp.Symbol) -> sp.Expr | None:
        """φ*(y), where it was found."""
        found = self._conjugate_expression
        return None if found is None else found.subs(Y, y)


class _Derived(NamedTuple):
    scalars: Scalars
    smoothness: int
    bounds: tuple[float, float]
    conjugate: sp.Expr | None
    kinks: tuple[float, ...] | None = None
    slopes: tuple[float, ...] | None = None


@functools.cache
def _derive(expression: sp.Expr) -> _Derived:
    """Everything that follows from φ, or a ValueError where it is not convex."""
    linear = linear_pieces(expression)
    return _derive_curved(expression) if linear is None else _derive_linear(expression, linear)


def _derive_linear(expression: sp.Expr, linear: Linear) -> _Derived:
    kinks, slopes = (tuple(map(float, numbers)) for numbers in (linear.kinks, linear.slopes))
    constants = (part for part in sp.preorder_traversal(expression) if not part.free_symbols)
    # Of an irrational constant the pieces know the double only, which a proof must not take for it.
    conjugate = linear.conjugate(Y) if all(part.is_Rational for part in constants) else None
    scalars = linear.scalars(_function(expression))
    return _Derived(scalars, 0, (slopes[0], slopes[-1]), conjugate, kinks, slopes)


def _derive_curved(expression: sp.Expr) -> _Derived:
    slope = _differentiate(expression)
    curvature = _differentiate(slope)
    phi, dphi, d2phi = _function(expression), _function(slope), _function(curvature)
    _check_convex(expression, phi, dphi, d2phi)
    prox, dprox = _prox(dphi, d2phi, _kinks(expression, slope))
    bounds = _slope_at(slope, dphi, -sp.oo), _slope_at(slope, dphi, sp.oo)
    argmax = _argmax(dphi)

    def conjugate(y: Any) -> Any:
        best = argmax(y)
        return y * best - phi(best)

    scalars = Scalars(phi, dphi, d2phi, scalar(conjugate), argmax, prox, dprox)
    smoothness = 0 if expression.has(*BENT) else 2
    return _Derived(scalars, smoothness, bounds, _symbolic_conjugate(expression, slope, conjugate, bounds))


def _differentiate(expression: sp.Expr) -> sp.Expr:
    """The derivative away from jumps, with 0 at one."""
    result = sp.diff(expression, Z).replace(sp.DiracDelta, lambda *_: sp.Integer(0))
    return result.replace(sp.Heaviside, lambda x, *_: (1 + sp.sign(x)) / 2)


class _Printer(NumPyPrinter):  # type: ignore[misc]  # sympy has no types
    """Prints what numpy runs on arrays and numba on numbers."""

    def _print_Max(self, expression: sp.Max) -> str:
        return self._pairwise("maximum", expression)

    def _print_Min(self, expression: sp.Min) -> str:
        return self._pairwise("minimum", expression)

    def _pairwise(self, function: str, expression: sp.Expr) -> str:
        parts = [str(self._print(a)) for a in expression.args]
        return functools.reduce(lambda a, b: f"{function}({a}, {b})", parts)


def _function(expression: sp.Expr) -> ScalarFunction:
    """The expression in z as a function for numpy, with overflow to inf and no warning, and for numba."""
    printer = _Printer({"fully_qualified_modules": False, "allow_unknown_functions": True})
    names = {"maximum": np.maximum, "minimum": np.minimum}
    raw = scalar(sp.lambdify(Z, expression, modules=[names, "numpy"], printer=printer))

    @scalar
    def function(z: Any) -> Any:
        return quietly(raw, z) + 0.0 * z

    return function


def _prox(
    dphi: ScalarFunction, d2phi: ScalarFunction, kinks: tuple[tuple[float, float, float], ...]
) -> tuple[ScalarFunction, ScalarFunction]:
    """prox_{tφ} and its derivative: the kinks looked up, elsewhere Newton steps inside a bracket."""

    @scalar
    def prox(z: Any, t: float) -> Any:
        # φ' rises, so the root lies between 0 and z − tφ'(0).
        reach = z - t * dphi(0.0 * z)
        low, high = np.minimum(0.0, reach), np.maximum(0.0, reach)
        for kink, left, right in kinks:
            # At a kink a whole interval of z goes to one point, and Newton would only bisect.
            stays = (kink + t * left <= z) & (z <= kink + t * right)
            low, high = where(stays, kink, low), where(stays, kink, high)
        w = 0.5 * (low + high)
        before = np.inf + 0.0 * z
        for _ in range(ROOT_STEPS):
            excess = w + t * dphi(w) - z
            high, low = where(excess >= 0, w, high), where(excess <= 0, w, low)
            newton = w - excess / (1 + t * np.minimum(d2phi(w), STEEPEST))
            # What moves by a rounding is there; sending it to the middle of the bracket would lose it.
            trusted = (np.abs(excess) <= 0.25 * before) | (np.abs(newton - w) <= 2 * EPS * np.abs(w))
            trusted &= (newton >= low) & (newton <= high)
            old, w = w, where(trusted, newton, 0.5 * (low + high))
            before = np.abs(excess)
            if settled(w, old):
                break
        return w

    @scalar
    def dprox(z: Any, t: float) -> Any:
        w = prox(z, t)
        # At a jump of φ' the equation has no solution and the prox stays put.
        jump = np.abs(w + t * dphi(w) - z) > 1e-7 * (1 + np.abs(z))
        return where(jump, 0.0, 1 / (1 + t * d2phi(w)))

    return prox, dprox


def _kinks(expression: sp.Expr, slope: sp.Expr) -> tuple[tuple[float, float, float], ...]:
    """Where φ' jumps, and the slopes on both sides; those that sympy cannot find are bisected for."""
    corners = [e.args[0] for e in expression.atoms(sp.Abs, sp.sign)]
    for bent in expression.atoms(sp.Max, sp.Min):
        corners += [a - b for a, b in itertools.combinations(bent.args, 2)]
    found = {0.0: sp.Integer(0)}  # numba wants a tuple of one type, which an empty one has not
    for corner in corners:
        roots = sp.solveset(corner, Z, sp.S.Reals)
        if isinstance(roots, sp.FiniteSet):
            found |= {float(root): root for root in roots}
    return tuple(
        (place, float(sp.limit(slope, Z, at, "-")), float(sp.limit(slope, Z, at, "+")))
        for place, at in sorted(found.items())
    )


def _argmax(dphi: ScalarFunction) -> ScalarFunction:
    """The least |z| ≤ REACH with y ∈ ∂φ(z): bisection of s in |z| = sinh(s), fine near 0 and far out."""
    end = float(np.arcsinh(REACH))

    @scalar
    def argmax(y: Any) -> Any:
        side = where(dphi(0.0 * y) < y, 1.0, -1.0)
        low, high = 0.0 * y, end + 0.0 * y
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            short = side * (dphi(side * np.sinh(middle)) - y) < 0
            low, high = where(short, middle, low), where(short, high, middle)
        return side * np.sinh(high)

    return argmax


def _slope_at(slope: sp.Expr, dphi: ScalarFunction, end: sp.Expr) -> float:
    """The slope of φ at ±∞, from sympy or, where it has no limit, from far out."""
    try:
        limit = sp.limit(slope, Z, end)
        if limit.is_number and limit.is_extended_real:
            return float(limit)
    except (NotImplementedError, ValueError, TypeError):
        pass
    return float(dphi(np.float64(REACH if end is sp.oo else -REACH)))


def _check_convex(
    expression: sp.Expr, phi: ScalarFunction, dphi: ScalarFunction, d2phi: ScalarFunction
) -> None:
    grid = np.unique(CHECKED)
    values, slopes = phi(grid), dphi(grid)
    finite = np.isfinite(values) & np.isfinite(slopes)
    near = np.abs(grid) <= NEAR
    if np.isnan(values).any() or not np.isfinite(values[near]).all():
        bad = grid[np.isnan(values) | (near & ~np.isfinite(values))][0]
        raise ValueError(
            f"expression must be finite for every real z, but {expression} is not at z = {bad:g}"
        )
    low = _lowest(d2phi, grid)
    if low is not None:
        raise ValueError(
            f"expression must be convex, but {expression} has φ'' = {float(d2phi(low)):.3g} at z = {low:.6g}"
        )
    inner, slopes = grid[finite], slopes[finite]
    falls = np.diff(slopes) < -SLACK * (1 + np.abs(slopes[1:]))
    if falls.any():
        at = inner[int(np.argmax(falls))]
        raise ValueError(f"expression must be convex, but the slope of {expression} falls after z = {at:.6g}")


def _lowest(d2phi: ScalarFunction, grid: Array) -> float | None:
    """A point where φ'' is negative beyond rounding, or None."""
    values = np.nan_to_num(d2phi(grid), nan=0.0, posinf=0.0, neginf=-1.0)
    best = int(np.argmin(values))
    left, right = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    found = scipy.optimize.minimize_scalar(
        lambda z: float(d2phi(np.float64(z))), bounds=(left, right), method="bounded"
    )
    point = float(found.x) if found.fun < values[best] else float(grid[best])
    window = np.abs(values[max(best - 5, 0) : best + 6]).max()
    return point if float(d2phi(np.float64(point))) < -SLACK * max(1.0, window) else None


def _symbolic_conjugate(
    expression: sp.Expr, slope: sp.Expr, conjugate: ScalarFunction, bounds: tuple[float, ...]
) -> sp.Expr | None:
    """φ*(y) = yz − φ(z) with φ'(z) = y solved by inverting one function after the other, and then checked."""
    if expression.has(*BENT):
        return None
    try:
        variable, solutions = invert_real(sp.factor_terms(slope), Y, Z)
    except (NotImplementedError, ValueError, TypeError, AttributeError):
        return None
    if variable != Z or not isinstance(solutions, sp.FiniteSet):
        solutions = next((a for a in solutions.args if isinstance(a, sp.FiniteSet)), None)
    if variable != Z or solutions is None or len(solutions) != 1:
        return None
    best = next(iter(solutions))
    found = Y * best - expression.subs(Z, best)
    low, high = (float(np.clip(b, -3.0, 3.0)) for b in bounds)
    for share in (0.2, 0.55, 0.8):
        y = low + share * (high - low)
        value = found.subs(Y, y).evalf()
        if not value.is_real or abs(float(value) - float(conjugate(np.float64(y)))) > 1e-8 * (
            1 + abs(float(value))
        ):
            return None
    return found
