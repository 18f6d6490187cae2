"""One step of a proof: an expression, and what must be 0 for it to hold."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

__all__ = ["Step", "is_zero_form", "step"]


@dataclass(frozen=True)
class Step:
    """A named step; it holds if its residual is exactly 0.

    Attributes
    ----------
    name : str
        What the step says.
    expression : sympy expression
        What it is about.
    residual : sympy expression
        What sympy left of the difference of its two sides.
    """

    name: str
    expression: sp.Basic
    residual: sp.Expr

    @property
    def holds(self) -> bool:
        """Whether the residual is 0."""
        return bool(self.residual == 0)

    @property
    def mark_latex(self) -> str:
        """A tick or a cross."""
        return r"\checkmark" if self.holds else r"\times"


def step(name: str, expression: sp.Basic, residual: sp.Expr) -> Step:
    """A step whose residual is reduced as far as sympy can."""
    return Step(name, expression, is_zero_form(residual))


def is_zero_form(residual: sp.Expr) -> sp.Expr:
    """The residual reduced, cheapest way first; 0 where any of them shows that it is 0."""
    reduced = residual
    # On the reals, where all of this lives, asinh undoes sinh; sympy leaves it, since elsewhere it need not.
    residual = residual.replace(sp.asinh, lambda a: a.args[0] if isinstance(a, sp.sinh) else sp.asinh(a))
    for reduce in (sp.expand, _through_logarithms, sp.simplify):
        reduced = reduce(residual)
        if reduced == 0:
            break
    return reduced


def _through_logarithms(residual: sp.Expr) -> sp.Expr:
    """With hyperbolic functions as exponentials and each logarithm of a quotient taken apart."""
    exponential = residual.rewrite(sp.exp)
    opened = exponential.replace(
        sp.log, lambda a: sp.expand_log(sp.log(sp.factor(sp.together(a))), force=True)
    )
    return sp.factor(sp.expand(sp.together(sp.expand(opened))))
