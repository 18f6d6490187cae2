"""Formulas as code: derivatives that sympy writes and numba compiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numba
import sympy as sp

from lionode._validate import Array

__all__ = ["derivative", "exact", "in_doubles", "numba_gradient"]


def exact(value: float) -> sp.Rational:
    """The fraction that `value` prints as: 0.1 is 1/10."""
    return sp.Rational(repr(float(value)))


def derivative(formula: sp.Expr, variable: sp.Symbol) -> sp.Expr:
    """The derivative where it exists: at a kink of abs, max or min the mean of both sides."""
    result = sp.diff(formula, variable).replace(sp.DiracDelta, lambda *_: sp.Integer(0))
    return result.replace(sp.Heaviside, lambda at, *_: (1 + sp.sign(at)) / 2)


def in_doubles(formula: sp.Expr) -> sp.Expr:
    """Fractions as decimals where their integers are not doubles: compiled code has no longer integers."""
    long = [r for r in formula.atoms(sp.Rational) if max(abs(r.p), r.q) > 2**53]
    return formula.xreplace({r: sp.Float(float(r), 17) for r in long})


def numba_gradient(formula: sp.Expr, symbols: Sequence[sp.Symbol]) -> Callable[[Array, Array], None]:
    """A numba function ``g(x, out)`` that writes the gradient of `formula` at x into ``out``."""
    d = len(symbols)
    components = [in_doubles(derivative(formula, v)) for v in symbols]
    # A tuple that numba can index has one type: a constant component must be a float, not an integer.
    components = [g if g.free_symbols else sp.Float(g) for g in components]
    terms = numba.njit(sp.lambdify([list(symbols)], tuple(components), "math", cse=True))
    unpack = _tuple_of(d)

    @numba.njit
    def gradient(x: Array, out: Array) -> None:
        values = terms(unpack(x))
        for i in range(d):
            out[i] = values[i]

    return gradient  # type: ignore[no-any-return]


def _tuple_of(d: int) -> Callable[[Array], tuple[float, ...]]:
    from numba.cpython.unsafe.tuple import tuple_setitem

    zeros = (0.0,) * d

    @numba.njit
    def unpack(x: Array) -> tuple[float, ...]:
        result = zeros
        for i in range(d):
            result = tuple_setitem(result, i, x[i])
        return result

    return unpack  # type: ignore[no-any-return]
