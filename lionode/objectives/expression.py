"""f from a formula: value, gradient and Hessian follow by differentiation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy as sp

from lionode._expression import natural_order, parse_expression
from lionode._validate import Array
from lionode.objectives.base import Objective, factory
from lionode.objectives.formulas import derivative, in_doubles

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


class _Compiled(Objective):
    """An objective whose derivatives sympy writes; the code is generated when it is first needed."""

    def __init__(self, formula: sp.Expr, variables: Sequence[sp.Symbol], **known: Any) -> None:
        gradient = [derivative(formula, v) for v in variables]
        hessian = [derivative(g, v) for g in gradient for v in variables]
        d = len(variables)
        smooth = not formula.has(sp.Abs, sp.sign, sp.Max, sp.Min)
        if smooth and all(h.is_number for h in hessian) and "smoothness" not in known:
            spectrum = np.linalg.eigvalsh(np.array([float(h) for h in hessian]).reshape(d, d))
            known |= {"smoothness": float(np.abs(spectrum).max()), "strong_convexity": float(spectrum[0])}
        formulas = {"value": [formula], "gradient": gradient, "hessian": hessian}
        self._formulas = {what: [in_doubles(e) for e in rows] for what, rows in formulas.items()}
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
