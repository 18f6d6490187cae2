"""Separable potentials as formulas for compiled lanes, and the Moreau envelope where κ has kinks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import sympy as sp

from lionode.kappas import Potential
from lionode.kappas.base import Separable

__all__ = ["TAU", "Form", "Unsupported", "form_of"]

TAU = sp.Symbol("tau", real=True)
"""τ of the envelope that stands for a κ with kinks: a number of each lane."""

Term = Callable[[sp.Expr], sp.Expr]


class Unsupported(ValueError):
    """f or κ has no straight-line form; the ordinary path takes it."""


@dataclass(frozen=True)
class Form:
    """φ, φ', φ'', φ* and (φ*)' of κ = Σ φ(z_i), and the ends of dom φ*."""

    phi: Term
    dphi: Term
    d2phi: Term
    phi_conjugate: Term
    dphi_conjugate: Term
    bounds: tuple[float, float]


def form_of(kappa: Potential) -> Form:
    """The formulas of a smooth κ, or those of κ_τ for a piecewise linear one, with `TAU` in them.

    Raises
    ------
    Unsupported
        If κ is of neither kind, has no formula or is not least at 0.
    """
    if not isinstance(kappa, Separable):
        raise Unsupported(f"kappa {kappa} is not separable")
    form = _smooth(kappa) if kappa.smooth else _envelope(kappa)
    if form.dphi_conjugate(sp.Integer(0)) != 0:
        raise Unsupported(f"kappa {kappa} is not least at 0")
    return form


def _smooth(kappa: Separable) -> Form:
    z = sp.Symbol("z", real=True)
    phi, conjugate = kappa.symbolic_phi(z), kappa.symbolic_phi_conjugate(z)
    if phi is None or conjugate is None:
        raise Unsupported(f"kappa {kappa} has no closed form")
    slope = _derivative(phi, z)

    def term(formula: sp.Expr) -> Term:
        return lambda at: formula.xreplace({z: at})

    return Form(
        term(_stable(phi)), term(slope), term(_derivative(slope, z)),
        term(conjugate), term(_derivative(conjugate, z)), kappa.bounds,
    )  # fmt: skip


def _envelope(kappa: Separable) -> Form:
    """κ_τ of a κ with slopes s₀ < s₁ < … between kinks a₁ < a₂ < …

    φ_τ' rises from s_{k−1} to s_k with slope 1/τ from b_k = a_k + τs_{k−1} on, so that with
    q_k = min(max(z − b_k, 0), τ(s_k − s_{k−1})) it is s₀ + Σ q_k/τ. Its conjugate is φ* + (τ/2)y².
    """
    if kappa.kinks is None or kappa.slopes is None:
        raise Unsupported(f"kappa {kappa} has kinks, and is not piecewise linear")
    kinks, slopes = [sp.Float(k) for k in kappa.kinks], [sp.Float(s) for s in kappa.slopes]
    jumps = [above - below for below, above in itertools.pairwise(slopes)]
    first = sp.Float(float(kappa.value([float(kinks[0])]))) - slopes[0] * kinks[0]

    def rises(z: sp.Expr) -> list[tuple[sp.Expr, sp.Expr, sp.Expr]]:
        """z − b_k, q_k and the jump of each kink."""
        past = [z - a - TAU * s for a, s in zip(kinks, slopes, strict=False)]
        return [(p, sp.Min(sp.Max(p, 0), TAU * jump), jump) for p, jump in zip(past, jumps, strict=True)]

    def phi(z: sp.Expr) -> sp.Expr:
        bends = (q**2 / (2 * TAU) + j * sp.Max(p - TAU * j, 0) for p, q, j in rises(z))
        return slopes[0] * z + first - TAU * slopes[0] ** 2 / 2 + sp.Add(*bends)

    def dphi(z: sp.Expr) -> sp.Expr:
        return slopes[0] + sp.Add(*(q for _, q, _ in rises(z))) / TAU

    def d2phi(z: sp.Expr) -> sp.Expr:
        return sp.Add(*(_within(p, TAU * j) for p, _, j in rises(z))) / TAU

    def phi_conjugate(y: sp.Expr) -> sp.Expr:
        steps = (_jump(b - a, y - s) * (y - s) for a, b, s in zip(kinks, kinks[1:], slopes[1:], strict=False))
        # On the first piece φ*(y) = a₁(y − s₀) + φ*(s₀), with φ*(s₀) = −(φ(a₁) − s₀a₁).
        return kinks[0] * (y - slopes[0]) - first + sp.Add(*steps) + TAU * y**2 / 2

    def dphi_conjugate(y: sp.Expr) -> sp.Expr:
        steps = (_jump(b - a, y - s) for a, b, s in zip(kinks, kinks[1:], slopes[1:], strict=False))
        return kinks[0] + sp.Add(*steps) + TAU * y

    return Form(phi, dphi, d2phi, phi_conjugate, dphi_conjugate, kappa.bounds)


def _within(z: sp.Expr, width: sp.Expr) -> sp.Expr:
    """1 where 0 < z < width, else 0."""
    one, zero = sp.Float(1), sp.Float(0)
    # Nested rather than joined by "and", which would be a branch where lanes need a choice.
    return sp.Piecewise((sp.Piecewise((one, z < width), (zero, True)), z > 0), (zero, True))


def _jump(height: sp.Expr, z: sp.Expr) -> sp.Expr:
    """`height` where z > 0, half of it at 0, else 0."""
    return height * (1 + sp.sign(z)) / 2


def _derivative(expression: sp.Expr, z: sp.Symbol) -> sp.Expr:
    # At a kink of φ' its second derivative is a jump, not a mass: φ'' takes one of the two values.
    derivative = sp.diff(expression, z).replace(sp.DiracDelta, lambda *_: sp.Integer(0))
    if derivative.has(sp.Derivative, sp.Subs):
        raise Unsupported(f"{expression} has no closed derivative")
    return derivative


def _stable(expression: sp.Expr) -> sp.Expr:
    """log cosh w without the overflow of cosh."""
    w = sp.Wild("w")
    return expression.replace(sp.log(sp.cosh(w)), sp.Abs(w) + sp.log(1 + sp.exp(-2 * sp.Abs(w))) - sp.log(2))
