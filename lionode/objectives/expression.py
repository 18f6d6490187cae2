"""f from a formula: value, gradient and Hessian follow by differentiation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import sympy as sp

from lionode._expression import natural_order, parse_expression
from lionode._validate import Array
from lionode.objectives.base import Objective, factory

__all__ = ["from_expression"]


@factory
def from_expression(expression: str | sp.Expr, symbols: Sequence[str] | None = None) -> Objective:
    """An objective from a text or a sympy expression.

    Parameters
    ----------
    expression : str or sympy expression
        For example ``"(x1 - 1.5)**2 + x2**2"``; numbers, + − * / ** and the usual functions.
    symbols : sequence of str, optional
        The components of x in order; by default the names that occur, counted as a person does
        (x1, x2, …, x10; x, y, z).

    Returns
    -------
    Objective
        With `expression`, `symbols` and exact derivatives; L and μ if the Hessian is constant.

    Raises
    ------
    TypeError, ValueError
        If the expression is neither, holds anything not allowed, or has no variable.
    """
    if isinstance(expression, sp.Expr):
        if symbols is None:
            symbols = [s.name for s in natural_order(expression.free_symbols)]
        return from_expression(_text(expression), symbols)
    names = None if symbols is None else {str(s): sp.Symbol(str(s), real=True) for s in symbols}
    formula = parse_expression(expression, names)
    variables = natural_order(formula.free_symbols) if names is None else list(names.values())
    if not variables:
        raise ValueError(f"expression must have a variable such as x1, got {expression!s}")
    return _Compiled(formula, variables)


def _text(expression: sp.Expr) -> str:
    """A formula as `parse_expression` reads it, a float as its shortest decimals: a saved run rebuilds it."""
    return str(expression.xreplace({v: sp.Rational(repr(float(v))) for v in expression.atoms(sp.Float)}))


def _derivative(formula: sp.Expr, variable: sp.Symbol) -> sp.Expr:
    """The derivative where it exists: at a kink of abs, max or min the mean of both sides."""
    result = sp.diff(formula, variable).replace(sp.DiracDelta, lambda *_: sp.Integer(0))
    return result.replace(sp.Heaviside, lambda at, *_: (1 + sp.sign(at)) / 2)


def _in_doubles(formula: sp.Expr) -> sp.Expr:
    """Fractions as decimals where their integers are not doubles: compiled code has no longer integers."""
    long = [r for r in formula.atoms(sp.Rational) if max(abs(r.p), r.q) > 2**53]
    return formula.xreplace({r: sp.Float(float(r), 17) for r in long})


class _Compiled(Objective):
    """An objective whose derivatives sympy writes; the code is generated when it is first needed."""

    def __init__(self, formula: sp.Expr, variables: Sequence[sp.Symbol], **known: Any) -> None:
        gradient = [_derivative(formula, v) for v in variables]
        hessian = [_derivative(g, v) for g in gradient for v in variables]
        d = len(variables)
        smooth = not formula.has(sp.Abs, sp.sign, sp.Max, sp.Min)
        if smooth and all(h.is_number for h in hessian) and "smoothness" not in known:
            spectrum = np.linalg.eigvalsh(np.array([float(h) for h in hessian]).reshape(d, d))
            known |= {"smoothness": float(np.abs(spectrum).max()), "strong_convexity": float(spectrum[0])}
        formulas = {"value": [formula], "gradient": gradient, "hessian": hessian}
        self._formulas = {what: [_in_doubles(e) for e in rows] for what, rows in formulas.items()}
        super().__init__(
            lambda x: self._columns("value", x)[..., 0],
            lambda x: self._columns("gradient", x),
            lambda x: self._columns("hessian", x).reshape(*x.shape, d),
            d,
            vectorized=True,
            expression=formula,
            symbols=variables,
            **{"name": str(formula), **known},
        )

    @functools.cached_property
    def _functions(self) -> dict[str, Callable[..., Any]]:
        return {
            what: sp.lambdify(self.symbols, formulas, "numpy", cse=True)
            for what, formulas in self._formulas.items()
        }

    def _columns(self, what: str, x: Array) -> Array:
        result = np.empty((*x.shape[:-1], len(self._formulas[what])))
        with np.errstate(all="ignore"):
            # One point is most calls, and moveaxis would be a third of its time.
            columns = x if x.ndim == 1 else np.moveaxis(x, -1, 0)
            for i, column in enumerate(self._functions[what](*columns)):
                result[..., i] = column
        return result

    def compiled_gradient(self) -> Callable[[Array, Array], None]:
        """A numba function ``g(x, out)`` that writes ∇f(x) into ``out``; compiled once."""
        return self._numba_gradient

    @functools.cached_property
    def _numba_gradient(self) -> Callable[[Array, Array], None]:
        d = self.dim
        # A tuple that numba can index has one type: a constant component must be a float, not an integer.
        formulas = tuple(g if g.free_symbols else sp.Float(g) for g in self._formulas["gradient"])
        terms = numba.njit(sp.lambdify([self.symbols], formulas, "math", cse=True))
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
