"""The identity with concrete functions: region by region for a potential, in x1, …, m1, … for a system."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import sympy as sp

from lionode._validate import Array
from lionode.kappas.base import Potential, Separable
from lionode.kappas.linear_pieces import linear_pieces
from lionode.lyapunov.proof_step import Step, step
from lionode.system import LionK

__all__ = ["kappa_steps", "system_expressions"]

NUMERIC_TOL = 1e-12
"""Relative agreement asked of a sympy formula and the catalogue's numbers: thousands of roundings."""

SAMPLES = 64
"""Random points on which formula and numbers are compared, and by which regions are found."""

FREE_DIM = 2
"""The dimension of the proof for a κ that takes any: enough to see a pair. A sum Σφ needs one."""

SMALL_DENOMINATOR = 10**6
"""A float within rounding of a fraction with at most this denominator is read as that fraction."""

NO_FORM = sp.Symbol("no symbolic form", commutative=False)


def kappa_steps(kappa: Potential) -> tuple[Step, ...]:
    """The steps for one potential; a single one that fails where it has no symbolic form."""
    d = kappa.dim or (1 if isinstance(kappa, Separable) else FREE_DIM)
    z = sp.symbols(f"z1:{d + 1}", real=True)
    y = sp.symbols(f"y1:{d + 1}", real=True)
    value, conjugate = kappa.symbolic(z), kappa.symbolic_conjugate(y)
    named = f"{kappa.formula or kappa}", f"{kappa.conjugate_formula or f'the conjugate of {kappa}'}"
    for name, expression in zip(named, (value, conjugate), strict=True):
        if expression is None:
            return (Step(f"not applicable: {name} has no symbolic form", NO_FORM, NO_FORM),)
    value, conjugate = _exact(value), _exact(conjugate)
    points = np.random.default_rng(0).normal(scale=2.0, size=(SAMPLES, d))
    slopes = kappa.subgradient(points)
    # dom κ* is convex, and a κ* that is right only at the slopes, its boundary perhaps, is not κ*.
    inside = np.concatenate([slopes, (slopes + np.roll(slopes, 1, axis=0)) / 2])
    steps = [
        _agreement("κ agrees with the catalogue's numbers", value, z, points, kappa.value(points)),
        _agreement("κ* agrees with the catalogue's numbers", conjugate, y, inside, kappa.conjugate(inside)),
    ]
    for region in _regions(value, z, points):
        steps += _region_steps(region, kappa, z, y, conjugate)
    if kappa.kinks is not None and kappa.slopes is not None:
        kinks, levels = _kinks_and_slopes(value, kappa.kinks, kappa.slopes)
        steps += [
            _kink_step(value, z[0], y[0], conjugate, kink, sides)
            for kink, sides in zip(kinks, itertools.pairwise(levels), strict=True)
        ]
    return tuple(steps)


def _kinks_and_slopes(
    value: sp.Expr, kinks: Sequence[float], slopes: Sequence[float]
) -> tuple[list[sp.Rational], list[sp.Rational]]:
    """Those of the formula, exactly, where they can be read off it."""
    linear = linear_pieces(value)
    if linear is None:
        return list(map(_number, kinks)), list(map(_number, slopes))
    return list(map(sp.Rational, linear.kinks)), list(map(sp.Rational, linear.slopes))


def _kink_step(
    value: sp.Expr,
    z: sp.Symbol,
    y: sp.Symbol,
    conjugate: sp.Expr,
    kink: sp.Rational,
    slopes: Sequence[sp.Expr],
) -> Step:
    """All slopes between those of the two sides are subgradients at a kink: κ* is a straight line there."""
    low, high = slopes
    share = sp.Symbol("theta", positive=True)
    between = low + share * (high - low)
    at_slope = resolve(conjugate.subs(y, between), {share: sp.Rational(1, 3)})
    # A conjugate that is bent in between would show at another share.
    other = resolve(conjugate.subs(y, between), {share: sp.Rational(4, 5)})
    residual = (at_slope - other) ** 2 + (at_slope - between * kink + value.subs(z, kink)) ** 2
    name = (
        f"κ*(y) = {kink}·y − κ({kink}), the Legendre transform (at the kink {z} = {kink}, {low} < y < {high})"
    )
    return step(name, at_slope, residual)


class _Region:
    """Where signs, maxima and pieces of κ do not change: there κ is one smooth formula."""

    def __init__(self, value: sp.Expr, z: Sequence[sp.Symbol], point: Array) -> None:
        self.point = point
        self.size = sp.symbols(f"p1:{len(z) + 1}", positive=True)
        signs = [1 if v > 0 else -1 for v in point]
        self.z = [sign * p for sign, p in zip(signs, self.size, strict=True)]
        self.at = dict(zip(self.size, np.abs(point), strict=True))
        self.value = resolve(value.subs(dict(zip(z, self.z, strict=True)), simultaneous=True), self.at)
        self.gradient = [sign * sp.diff(self.value, p) for sign, p in zip(signs, self.size, strict=True)]
        self.name = ", ".join(f"{s} {'>' if v > 0 else '<'} 0" for s, v in zip(z, point, strict=True))


def _regions(value: sp.Expr, z: Sequence[sp.Symbol], points: Array) -> Iterator[_Region]:
    if not value.has(sp.Abs, sp.Max, sp.Min, sp.sign, sp.Piecewise):
        points = np.abs(points[:1])
    seen = set()
    for point in points:
        region = _Region(value, z, point)
        key = (region.name, region.value)
        if key not in seen:
            seen.add(key)
            yield region


def _region_steps(
    region: _Region, kappa: Potential, z: Sequence[sp.Symbol], y: Sequence[sp.Symbol], conjugate: sp.Expr
) -> list[Step]:
    where = f" (κ = {region.value}, {region.name})"
    slopes = dict(zip(y, region.gradient, strict=True))
    product = sp.Add(*(a * b for a, b in zip(region.z, region.gradient, strict=True)))
    at_slope = resolve(conjugate.subs(slopes, simultaneous=True), region.at)
    # Along the region, κ*(∇κ(z)) changes by ⟨∇κ*, ∇²κ dz⟩ and ⟨z, ∇κ⟩ − κ by ⟨z, ∇²κ dz⟩.
    inverse = [resolve(sp.diff(conjugate, s).subs(slopes, simultaneous=True), region.at) for s in y]
    defect = sp.Matrix(region.z) - sp.Matrix(inverse)
    curvature = sp.Matrix([[sp.diff(g, p) for p in region.size] for g in region.gradient])
    bent = sp.Add(*(entry**2 for entry in curvature.T * defect))
    numeric = np.array([float(g.subs(region.at)) for g in region.gradient])
    return [
        _within(
            f"∇κ agrees with the catalogue's numbers{where}",
            sp.Tuple(*region.gradient),
            numeric,
            kappa.subgradient(region.point),
        ),
        step(
            f"κ*(∇κ(z)) = ⟨z, ∇κ(z)⟩ − κ(z), the Legendre transform{where}",
            at_slope,
            at_slope - product + region.value,
        ),
        step(f"∇κ*(∇κ(z)) = z up to what ∇²κ(z) does not see{where}", sp.Tuple(*inverse), bent),
        _identity(region, y, conjugate, where),
    ]


def _identity(region: _Region, y: Sequence[sp.Symbol], conjugate: sp.Expr, where: str) -> Step:
    """dH/dt for m in the region, any x with λx in dom κ*, any selection u and any ∇f."""
    d = len(y)
    alpha, gamma, epsilon, lam = sp.symbols("alpha gamma epsilon lambda", positive=True)
    u, g, x = (sp.symbols(f"{name}1:{d + 1}", real=True) for name in "ugx")
    # x is taken where the signs of λx are those of the slope at the region's point; κ* is even or smooth.
    at = (
        dict(zip(x, (float(v.subs(region.at)) for v in region.gradient), strict=True))
        | region.at
        | {lam: 1.0}
    )
    at_x = resolve(conjugate.subs({s: lam * v for s, v in zip(y, x, strict=True)}, simultaneous=True), at)
    c = (1 - epsilon * gamma) / (1 + epsilon * lam)
    m, s = region.z, region.gradient
    z = [sp.diff(at_x, v) / lam for v in x]
    hamiltonian = gamma / lam * at_x + c * (
        at_x + region.value - lam * sp.Add(*(a * b for a, b in zip(m, x, strict=True)))
    )
    signs = [sp.diff(a, p) for a, p in zip(m, region.size, strict=True)]
    residual: sp.Expr = sp.Integer(0)
    for i in range(d):
        m_dot, x_dot = -alpha * g[i] - gamma * m[i], u[i] - lam * x[i]
        # dm_i = sign_i·dp_i; αf(x) contributes α⟨∇f, ẋ⟩ whatever f is.
        change = (alpha * g[i] + sp.diff(hamiltonian, x[i])) * x_dot
        change += signs[i] * sp.diff(hamiltonian, region.size[i]) * m_dot
        delta1 = (m[i] + epsilon * m_dot - z[i]) * x_dot
        residual += change + (lam + gamma) / (1 + epsilon * lam) * delta1 + c * m_dot * (u[i] - s[i])
    return step(f"dH/dt = −(λ+γ)/(1+ελ)·Δ₁ − (c/ε)·Δ₂{where}", hamiltonian, residual)


def resolve(expression: sp.Expr, at: dict[Any, Any]) -> sp.Expr:
    """The expression with signs, maxima and pieces decided as they are at one point."""

    def size(argument: sp.Expr) -> sp.Expr:
        return argument if float(argument.subs(at)) >= 0 else -argument

    def largest(*arguments: sp.Expr) -> sp.Expr:
        return max(arguments, key=lambda a: float(a.subs(at)))

    def least(*arguments: sp.Expr) -> sp.Expr:
        return min(arguments, key=lambda a: float(a.subs(at)))

    def sign(argument: sp.Expr) -> sp.Integer:
        return sp.Integer(int(np.sign(float(argument.subs(at)))))

    def piece(*pairs: tuple[sp.Expr, sp.Basic]) -> sp.Expr:
        return next(value for value, condition in pairs if condition.subs(at) == True)  # noqa: E712

    return (
        expression.replace(sp.Piecewise, piece)
        .replace(sp.Abs, size)
        .replace(sp.Max, largest)
        .replace(sp.Min, least)
        .replace(sp.sign, sign)
    )


def system_expressions(
    system: LionK,
) -> tuple[tuple[Step, ...], sp.Expr | None, sp.Expr | None, tuple[sp.Symbol, ...]]:
    """Steps, H and dH/dt of a system in x1, …, xd, m1, …, md; a step that fails where a form is missing."""
    d, f, kappa = system.dim, system.objective, system.kappa
    x, m = (sp.symbols(f"{name}1:{d + 1}", real=True) for name in "xm")
    p, y = (sp.symbols(f"{name}1:{d + 1}", real=True) for name in "py")
    value, conjugate = kappa.symbolic(p), kappa.symbolic_conjugate(y)
    for name, expression in ((f"f = {f.name}", f.expression), (f"κ = {kappa}", value), ("κ*", conjugate)):
        if expression is None:
            return (Step(f"not applicable: {name} has no symbolic form", NO_FORM, NO_FORM),), None, None, ()
    if system.lam == 0 and not kappa.contains(np.zeros(d)):
        why = "not applicable: at λ = 0 H is +∞, since 0 is not in dom κ*"
        return (Step(why, NO_FORM, NO_FORM),), None, None, ()
    alpha, gamma, epsilon, lam = (_number(v) for v in system.coefficients.values())
    c = sp.Max(0, (1 - epsilon * gamma) / (1 + epsilon * lam))
    loss = _exact(f.expression).subs(dict(zip(f.symbols, x, strict=True)), simultaneous=True)
    value, conjugate = _exact(value), _exact(conjugate)
    y_at = dict(zip(y, (lam * v for v in x), strict=True))
    z = [sp.diff(conjugate, s).subs(y_at, simultaneous=True) for s in y]
    at_x = conjugate.subs(y_at, simultaneous=True)
    penalty = gamma / lam * at_x if lam > 0 else gamma * _inner(z, x)
    at_m = dict(zip(p, m, strict=True))
    hamiltonian = (
        alpha * loss + penalty + c * (at_x + value.subs(at_m, simultaneous=True) - lam * _inner(m, x))
    )
    g = [sp.diff(loss, v) for v in x]
    m_dot = [-alpha * a - gamma * b for a, b in zip(g, m, strict=True)]
    at_tilde = dict(zip(p, (b + epsilon * v for b, v in zip(m, m_dot, strict=True)), strict=True))
    slope = [sp.diff(value, v) for v in p]
    u = sp.symbols(f"u1:{d + 1}", real=True)
    by_x, by_m = ([sp.diff(hamiltonian, v) for v in vs] for vs in (x, m))
    change = _inner(by_x, [a - lam * b for a, b in zip(u, x, strict=True)]) + _inner(by_m, m_dot)
    s = [v.subs(at_m, simultaneous=True) for v in slope]
    delta1 = _inner(
        [b + epsilon * v - w for b, v, w in zip(m, m_dot, z, strict=True)],
        [a - lam * b for a, b in zip(u, x, strict=True)],
    )
    turn = _inner(m_dot, [a - b for a, b in zip(u, s, strict=True)])
    residual = change + (lam + gamma) / (1 + epsilon * lam) * delta1 + c * turn
    selected = {a: v.subs(at_tilde, simultaneous=True) for a, v in zip(u, slope, strict=True)}
    rate = change.subs(selected, simultaneous=True)
    name = "dH/dt = −(λ+γ)/(1+ελ)·Δ₁ − (c/ε)·Δ₂ for this f, κ and these numbers, any u ∈ ∂κ(m̃)"
    return (step(name, hamiltonian, residual),), hamiltonian, rate, (*x, *m)


def _inner(a: Sequence[sp.Expr], b: Sequence[sp.Expr]) -> sp.Expr:
    return sp.Add(*(v * w for v, w in zip(a, b, strict=True)))


def _number(value: float) -> sp.Rational:
    """The fraction that a person means by the float, 0.3 is 3/10; its exact value if none is near."""
    exact = sp.Rational(value)
    near = exact.limit_denominator(SMALL_DENOMINATOR)
    return near if abs(near - exact) <= 4 * np.finfo(float).eps * abs(exact) else exact


def _exact(expression: sp.Expr) -> sp.Expr:
    return expression.replace(lambda e: e.is_Float, lambda e: _number(float(e)))


def _agreement(
    name: str, expression: sp.Expr, symbols: Sequence[sp.Symbol], points: Array, numbers: Array
) -> Step:
    """A step whose residual is the largest relative disagreement, 0 if it is rounding."""
    values = np.broadcast_to(sp.lambdify(symbols, expression, "numpy")(*points.T), numbers.shape)
    return _within(name, expression, values, numbers)


def _within(name: str, expression: sp.Basic, values: Array, numbers: Array) -> Step:
    gap = float(np.max(np.abs(values - numbers) / np.maximum(1.0, np.abs(numbers))))
    return Step(name, expression, sp.Integer(0) if gap <= NUMERIC_TOL else sp.Float(gap))
