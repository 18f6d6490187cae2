"""Potentials as formulas for compiled lanes; in place of one with kinks, its Moreau envelope."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sympy as sp

from lionode.kappas import LogSumExp, Lp, MoreauEnvelope, Potential, Scaled
from lionode.kappas.base import Separable
from lionode.kappas.norms import SupportFunction

__all__ = ["TAU", "Form", "Unsupported", "form_of"]

TAU = sp.Symbol("tau", positive=True)
"""τ of the envelope that stands for a κ with kinks: a number of each lane."""

INSIDE, TINY = 2.0**-53, 1e-100
"""∂κ* of a barrier-like κ* is read no closer to the edge than this, relative to it or in itself."""

Vector = Sequence[sp.Expr]
Term = Callable[[sp.Expr], sp.Expr]


class Unsupported(ValueError):
    """f or κ has no straight-line form; the ordinary path takes it."""


@dataclass(frozen=True)
class Form:
    """κ, ∇κ, κ* and an element of ∂κ* as formulas in d components.

    Attributes
    ----------
    held : callable
        The nearest point at which κ* and ∂κ* can be evaluated.
    excess : callable
        By how much y is outside s·dom κ*, given y and the scale s: ≤ 0 inside.
    inner, outer : float
        How far the edge of dom κ* is from 0 at least and, where it is finite, at most.
    """

    value: Callable[[Vector], sp.Expr]
    gradient: Callable[[Vector], list[sp.Expr]]
    conjugate: Callable[[Vector], sp.Expr]
    conjugate_subgradient: Callable[[Vector], list[sp.Expr]]
    held: Callable[[Vector], list[sp.Expr]]
    excess: Callable[[Vector, sp.Expr], sp.Expr]
    inner: float
    outer: float

    def hessian(self, z: Vector) -> sp.Matrix:
        """∇²κ(z); where ∇κ has a bend, one of the two values."""
        at = sp.symbols(f"z0:{len(z)}", real=True)
        # A jump of ∇²κ is no mass in it: what sympy has for the derivative of a sign is left out.
        matrix = sp.Matrix(self.gradient(at)).jacobian(at).replace(sp.DiracDelta, lambda *_: sp.Integer(0))
        # Where ∇κ is as steep as |z|^s, s < 1, a slope beyond all that are met stands for the infinite one.
        matrix = matrix.replace(
            lambda e: e.is_Pow and isinstance(e.base, sp.Abs) and e.exp.is_negative,
            lambda e: sp.Max(e.base, TINY) ** e.exp,
        )
        if matrix.has(sp.Derivative, sp.Subs):
            raise Unsupported(f"{self.gradient(at)} has no closed derivative")
        return matrix.xreplace(dict(zip(at, z, strict=True)))

    def scaled(self, weight: float) -> Form:
        """The form of weight·κ."""

        def down(y: Vector) -> list[sp.Expr]:
            return [s / weight for s in y]

        return Form(
            lambda z: weight * self.value(z),
            lambda z: [weight * g for g in self.gradient(z)],
            lambda y: weight * self.conjugate(down(y)),
            lambda y: self.conjugate_subgradient(down(y)),
            lambda y: [weight * s for s in self.held(down(y))],
            lambda y, scale: weight * self.excess(down(y), scale),
            weight * self.inner,
            weight * self.outer,
        )


def form_of(kappa: Potential, d: int) -> Form:
    """The formulas of a smooth κ on R^d, or those of κ_τ for one with kinks, with `TAU` in them.

    Raises
    ------
    Unsupported
        If one of them has no closed form.
    """
    return _smooth(kappa, d) if kappa.smooth else _envelope(kappa, TAU, d, own=True)


def _smooth(kappa: Potential, d: int) -> Form:
    if isinstance(kappa, Scaled):
        return _smooth(kappa.kappa, d).scaled(kappa.weight)
    if isinstance(kappa, MoreauEnvelope):
        return _envelope(kappa.kappa, sp.Float(kappa.tau), d)
    if isinstance(kappa, LogSumExp):
        return _log_sum_exp()
    z = sp.Symbol("z", real=True)
    if not isinstance(kappa, Separable):
        raise Unsupported(f"kappa {kappa} has no closed form")
    phi, conjugate = kappa.symbolic_phi(z), kappa.symbolic_phi_conjugate(z)
    if phi is None or conjugate is None:
        raise Unsupported(f"kappa {kappa} or its conjugate has no closed form")

    def term(formula: sp.Expr) -> Term:
        return lambda at: formula.xreplace({z: at})

    slope, dual = _derivative(phi, z), _derivative(conjugate, z)
    return _separable(term(_stable(phi)), term(slope), term(conjugate), term(dual), *kappa.bounds)


def _envelope(kappa: Potential, tau: sp.Expr, d: int, own: bool = False) -> Form:
    """κ_τ, whose conjugate is κ* + (τ/2)‖y‖²; with `own` that of ‖·‖_p may be taken in its own norm."""
    if isinstance(kappa, Scaled):
        # ∇(wκ)_τ(z) = w∇κ_{wτ}(z), and wκ* of y/w with (wτ/2)‖y/w‖² beside it is wκ*(y/w) + (τ/2)‖y‖².
        return _envelope(kappa.kappa, kappa.weight * tau, d, own).scaled(kappa.weight)
    if isinstance(kappa, Separable):
        return _piecewise_linear(kappa, tau)
    if own and isinstance(kappa, Lp) and kappa.p != 2:
        return _own_envelope(kappa, tau, d)
    y = sp.symbols(f"y:{d}", real=True)
    if not isinstance(kappa, SupportFunction) or (projection := kappa.symbolic_project(y)) is None:
        raise Unsupported(f"the Moreau envelope of {kappa} has no closed form")
    return _support_function(y, projection, kappa.symbolic_gauge(y), kappa.inner_radius(d), tau)


def _separable(
    phi: Term, dphi: Term, phi_conjugate: Term, dphi_conjugate: Term, low: float, high: float
) -> Form:
    """κ = Σ φ(z_i) with dom φ* between `low` and `high`."""

    def held(y: sp.Expr) -> sp.Expr:
        if low > -sp.oo:
            y = sp.Max(y, sp.Float(low + max(abs(low) * INSIDE, TINY)))
        return sp.Min(y, sp.Float(high - max(abs(high) * INSIDE, TINY))) if high < sp.oo else y

    def excess(y: Vector, scale: sp.Expr) -> sp.Expr:
        sides = [s - scale * high for s in y] if high < sp.oo else []
        sides += [scale * low - s for s in y] if low > -sp.oo else []
        return sp.Max(*sides) if sides else sp.Float(-1)

    return Form(
        lambda z: sp.Add(*map(phi, z)),
        lambda z: list(map(dphi, z)),
        lambda y: sp.Add(*map(phi_conjugate, y)),
        lambda y: list(map(dphi_conjugate, y)),
        lambda y: list(map(held, y)),
        excess,
        min(-low, high),
        max((abs(end) for end in (low, high) if abs(end) < sp.oo), default=0.0),
    )


def _log_sum_exp() -> Form:
    """log Σ exp z_i, with the negative entropy on the simplex for its conjugate."""

    def weights(z: Vector) -> tuple[sp.Expr, list[sp.Expr]]:
        top = sp.Max(*z)
        return top, [sp.exp(s - top) for s in z]

    def value(z: Vector) -> sp.Expr:
        top, parts = weights(z)
        return top + sp.log(sp.Add(*parts))

    def gradient(z: Vector) -> list[sp.Expr]:
        _, parts = weights(z)
        return [part / sp.Add(*parts) for part in parts]

    return Form(
        value,
        gradient,
        lambda y: sp.Add(*(s * sp.log(s) for s in y)),
        lambda y: [sp.log(s) for s in y],
        lambda y: [sp.Max(s, TINY) for s in y],
        lambda y, scale: sp.Max(sp.Abs(sp.Add(*y) - 1), *(-s for s in y)) + 1 - scale,
        1.0,
        1.0,
    )


def _support_function(
    at: Sequence[sp.Symbol], projection: Vector, gauge: sp.Expr, inner: float, tau: sp.Expr
) -> Form:
    """sup ⟨z, y⟩ − (τ/2)‖y‖² over a set, whose projection and gauge are given at the symbols `at`.

    It is reached at the projection of z/τ.
    """

    def gradient(z: Vector) -> list[sp.Expr]:
        place = {y: s / tau for y, s in zip(at, z, strict=True)}
        return [p.xreplace(place) for p in projection]

    def value(z: Vector) -> sp.Expr:
        return sp.Add(*(u * (s - tau * u / 2) for u, s in zip(gradient(z), z, strict=True)))

    return Form(
        value,
        gradient,
        lambda y: tau / 2 * sp.Add(*(s**2 for s in y)),
        lambda y: [tau * s for s in y],
        list,
        lambda y, scale: gauge.xreplace(dict(zip(at, y, strict=True))) - scale,
        inner,
        1.0,
    )


def _own_envelope(kappa: Lp, tau: sp.Expr, d: int) -> Form:
    """min_p ‖p‖ + ‖p − z‖²/2τ in the norm ‖·‖_p of κ itself, whose conjugate is κ* + (τ/2)‖y‖_q².

    With r = ‖z‖_p it is r²/2τ up to r = τ, and r − τ/2 from there on; the projection on the ball that the
    Euclidean envelope needs has no closed form.
    """
    p, q = sp.nsimplify(kappa.p), sp.nsimplify(kappa.q)

    def power(z: Vector, exponent: sp.Expr) -> sp.Expr:
        return sp.Add(*(sp.Abs(s) ** exponent for s in z))

    def directions(z: Vector, exponent: sp.Expr) -> list[sp.Expr]:
        return [sp.sign(s) * sp.Abs(s) ** (exponent - 1) for s in z]

    def value(z: Vector) -> sp.Expr:
        r = power(z, p) ** (1 / p)
        inside = sp.Min(r, tau)
        return inside**2 / (2 * tau) + r - inside

    def gradient(z: Vector) -> list[sp.Expr]:
        # h'(r)·sign(z)|z|^{p−1}/r^{p−1} with h'(r) = r/max(r, τ): at r = 0 no quotient is left but by τ.
        r = sp.Max(power(z, p), TINY) ** (1 / p)
        return [s * r ** (2 - p) / sp.Max(r, tau) for s in directions(z, p)]

    def conjugate_subgradient(y: Vector) -> list[sp.Expr]:
        norm = sp.Max(power(y, q), TINY) ** (1 / q)
        return [tau * s * norm ** (2 - q) for s in directions(y, q)]

    return Form(
        value,
        gradient,
        lambda y: tau / 2 * power(y, q) ** (2 / q),
        conjugate_subgradient,
        list,
        lambda y, scale: power(y, q) ** (1 / q) - scale,
        kappa.inner_radius(d),
        1.0,
    )


def _piecewise_linear(kappa: Separable, tau: sp.Expr) -> Form:
    """κ_τ of a κ with slopes s₀ < s₁ < … between kinks a₁ < a₂ < …

    φ_τ' rises from s_{k−1} to s_k with slope 1/τ from b_k = a_k + τs_{k−1} on, so that with
    q_k = min(max(z − b_k, 0), τ(s_k − s_{k−1})) it is s₀ + Σ q_k/τ.
    """
    if kappa.kinks is None or kappa.slopes is None:
        raise Unsupported(f"kappa {kappa} has kinks, and is not piecewise linear")
    kinks, slopes = [sp.Float(k) for k in kappa.kinks], [sp.Float(s) for s in kappa.slopes]
    jumps = [above - below for below, above in itertools.pairwise(slopes)]
    first = sp.Float(float(kappa.value([float(kinks[0])]))) - slopes[0] * kinks[0]

    def rises(z: sp.Expr) -> list[tuple[sp.Expr, sp.Expr, sp.Expr]]:
        """z − b_k, q_k and the jump of each kink."""
        past = [z - a - tau * s for a, s in zip(kinks, slopes, strict=False)]
        return [(p, sp.Min(sp.Max(p, 0), tau * jump), jump) for p, jump in zip(past, jumps, strict=True)]

    def phi(z: sp.Expr) -> sp.Expr:
        bends = (q**2 / (2 * tau) + j * sp.Max(p - tau * j, 0) for p, q, j in rises(z))
        return slopes[0] * z + first - tau * slopes[0] ** 2 / 2 + sp.Add(*bends)

    def dphi(z: sp.Expr) -> sp.Expr:
        return slopes[0] + sp.Add(*(q for _, q, _ in rises(z))) / tau

    def phi_conjugate(y: sp.Expr) -> sp.Expr:
        steps = (_jump(b - a, y - s) * (y - s) for a, b, s in zip(kinks, kinks[1:], slopes[1:], strict=False))
        # On the first piece φ*(y) = a₁(y − s₀) + φ*(s₀), with φ*(s₀) = −(φ(a₁) − s₀a₁).
        return kinks[0] * (y - slopes[0]) - first + sp.Add(*steps) + tau * y**2 / 2

    def dphi_conjugate(y: sp.Expr) -> sp.Expr:
        steps = (_jump(b - a, y - s) for a, b, s in zip(kinks, kinks[1:], slopes[1:], strict=False))
        return kinks[0] + sp.Add(*steps) + tau * y

    return _separable(phi, dphi, phi_conjugate, dphi_conjugate, *kappa.bounds)


def _jump(height: sp.Expr, z: sp.Expr) -> sp.Expr:
    """`height` where z > 0, half of it at 0, else 0."""
    return height * (1 + sp.sign(z)) / 2


def _derivative(expression: sp.Expr, z: sp.Symbol) -> sp.Expr:
    # sinh/cosh overflows where tanh does not.
    derivative = sp.diff(expression, z).replace(sp.sinh, lambda w: sp.tanh(w) * sp.cosh(w))
    if derivative.has(sp.Derivative, sp.Subs):
        raise Unsupported(f"{expression} has no closed derivative")
    return derivative


def _stable(expression: sp.Expr) -> sp.Expr:
    """log cosh w without the overflow of cosh."""
    w = sp.Wild("w")
    return expression.replace(sp.log(sp.cosh(w)), sp.Abs(w) + sp.log(1 + sp.exp(-2 * sp.Abs(w))) - sp.log(2))
