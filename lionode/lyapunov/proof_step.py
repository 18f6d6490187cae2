"""One step of a proof: an expression, and what must be 0 for it to hold."""

from __future__ import annotations

import re
from dataclasses import dataclass

import sympy as sp

__all__ = ["Step", "is_zero_form", "step", "text_latex"]

SYMBOLS = {
    "f": "f(x)",
    "kappa_star": r"\kappa^{*}(\lambda x)",
    "kappa_m": r"\kappa(m)",
    "kappa_mtilde": r"\kappa(\tilde{m}^{+})",
    "Delta_kappa_star": r"\Delta\kappa^{*}",
    "Delta_kappa": r"\Delta\kappa",
    "x_new": "x^{+}",
    "m_new": "m^{+}",
    "s_new": "s^{+}",
}
"""How the symbols of the theorems are set, where their own name would not do."""

SIGNS = {
    "m\u0303": r"\tilde{m}", "ṁ": r"\dot{m}", "ẋ": r"\dot{x}", "∂": r"\partial ", "∇": r"\nabla ",
    "⟨": r"\langle ", "⟩": r"\rangle ", "‖": r"\|", "≤": r"\leq ", "≥": r"\geq ", "∈": r"\in ", "→": r"\to ",
    "−": "-", "·": r"\cdot ", "₁": "_1", "₂": "_2", "²": "^2", "⁺": "^+", "…": r"\dots ", "∞": r"\infty ",
    "Δ": r"\Delta ", "Σ": r"\Sigma ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "ε": r"\varepsilon ",
    "η": r"\eta ", "θ": r"\theta ", "κ": r"\kappa ", "λ": r"\lambda ", "τ": r"\tau ", "φ": r"\varphi ",
}  # fmt: skip
"""The signs in the names of steps, in mathematical mode."""

ESCAPED = {c: f"\\{c}" for c in "{}_%&#$"} | {"^": r"\^{}", "–": "--"}

TEXT = {sign: f"${macro}$" for sign, macro in SIGNS.items()} | ESCAPED


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
    def formula(self) -> str:
        """The expression in LaTeX."""
        names = {s: SYMBOLS[s.name] for s in self.expression.free_symbols if s.name in SYMBOLS}
        return str(sp.latex(self.expression, symbol_names=names))

    @property
    def mark_latex(self) -> str:
        """A tick or a cross."""
        return r"\checkmark" if self.holds else r"\times"


def text_latex(text: str) -> str:
    """A name or a hypothesis as LaTeX text, in ASCII so that every engine takes it."""
    found = re.sub("|".join(map(re.escape, TEXT)), lambda match: TEXT[match[0]], text)
    return found.replace("$$", "")


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
