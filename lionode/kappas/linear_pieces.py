"""Piecewise linear φ: their pieces, read off an expression in exact fractions, and their scalar functions."""

from __future__ import annotations

import functools
import itertools
import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import sympy as sp

from lionode.kappas._scalar import scalar, where
from lionode.kappas.calculus import ScalarFunction, Scalars

__all__ = ["BENT", "Linear", "linear_pieces"]

BENT = (sp.Abs, sp.Max, sp.Min, sp.sign)
"""What may have a kink; an expression with one of these counts as set-valued."""

MAX_PIECES = 1000
"""Nested abs double their pieces at each depth: what has more of them is not taken apart."""


class Line(NamedTuple):
    """slope·z + constant."""

    slope: Fraction
    constant: Fraction

    def __call__(self, z: Fraction) -> Fraction:
        """The value at z."""
        return self.slope * z + self.constant


class Linear(NamedTuple):
    """A convex piecewise linear φ: kinks a_1 < … < a_n, slopes s_0 < … < s_n and the values φ(a_k)."""

    kinks: tuple[Fraction, ...]
    slopes: tuple[Fraction, ...]
    values: tuple[Fraction, ...]

    def conjugate(self, y: sp.Symbol) -> sp.Expr:
        """φ*(y) = max_k a_k·y − φ(a_k), y a slope: there the sup is attained at a kink."""
        peaks = zip(self.kinks, self.values, strict=True)
        return sp.Max(*(sp.Rational(kink) * y - sp.Rational(value) for kink, value in peaks))

    def scalars(self, phi: ScalarFunction) -> Scalars:
        """The scalar functions, with φ as it is given."""
        kinks, slopes, values = (tuple(map(float, numbers)) for numbers in self)
        first = slopes[0]
        corners = tuple(zip(kinks, slopes, slopes[1:], strict=False))
        peaks = tuple(zip(kinks, values, strict=True))

        @scalar
        def phi_conjugate(y: Any) -> Any:
            result = -np.inf + 0.0 * y
            for kink, value in peaks:
                result = np.maximum(result, kink * y - value)
            return result

        @scalar
        def prox_phi(z: Any, t: float) -> Any:
            result = z - t * first
            for kink, below, above in corners:
                result = where(z > kink + t * below, np.maximum(kink, z - t * above), result)
            return result

        @scalar
        def dprox_phi(z: Any, t: float) -> Any:
            result = 1.0 + 0.0 * z
            for kink, below, above in corners:
                result = where(z > kink + t * below, where(z > kink + t * above, 1.0, 0.0), result)
            return result

        dphi_conjugate = _stairs(slopes, (-math.inf, *kinks, math.inf))
        return Scalars(phi, _stairs(kinks, slopes), None, phi_conjugate, dphi_conjugate, prox_phi, dprox_phi)


def _stairs(places: tuple[float, ...], levels: tuple[float, ...]) -> ScalarFunction:
    """The level of the interval between places; at a place the number nearest to 0 between its two levels."""
    bottom = levels[0]
    steps = tuple(
        (place, min(max(below, 0.0), above), above)
        for place, below, above in zip(places, levels, levels[1:], strict=False)
    )

    @scalar
    def stairs(v: Any) -> Any:
        result = bottom + 0.0 * v
        for place, at, above in steps:
            result = where(v > place, above, where(v == place, at, result))
        return result

    return stairs


class _Curved(Exception):
    """Not made of sums, multiples and `BENT` of lines, or of more than `MAX_PIECES`."""


def linear_pieces(expression: sp.Expr) -> Linear | None:
    """The pieces of an expression in one symbol; None unless it is sums, multiples and `BENT` of lines.

    An irrational constant counts as the double that stands for it wherever numbers are computed.

    Raises
    ------
    ValueError
        If it is piecewise linear and not convex, or has a kink or slope beyond double precision.
    """
    try:
        pieces = _pieces(expression)
        corners = [
            (Fraction(at), below, above, _line(expression, Fraction(at), set())(Fraction(at)))
            for (_, below), (at, above) in itertools.pairwise(pieces)
        ]
    except _Curved:
        return None
    for at, below, above, value in corners:
        if not below(at) == value == above(at):
            raise ValueError(f"expression must be convex, but {expression} jumps at z = {_short(at)}")
        if above.slope < below.slope:
            raise ValueError(
                f"expression must be convex, but the slope of {expression} falls at z = {_short(at)}"
            )
    corners = [corner for corner in corners if corner[1] != corner[2]]
    kinks = tuple(at for at, *_ in corners)
    slopes = (pieces[0][1].slope, *(above.slope for _, _, above, _ in corners))
    linear = Linear(kinks, slopes, tuple(value for *_, value in corners))
    try:
        rising = [tuple(map(float, numbers)) for numbers in linear][:2]
    except OverflowError:
        raise ValueError(
            f"expression must have kinks and slopes that are doubles, got {expression}"
        ) from None
    # Kinks or slopes that floats cannot tell apart are left to a method that does not count them.
    return linear if kinks and all(a < b for v in rising for a, b in itertools.pairwise(v)) else None


def _pieces(expression: sp.Expr) -> list[tuple[Fraction | float, Line]]:
    """Where each piece begins, from −∞ on, and its line."""
    found: list[tuple[Fraction | float, Line]] = []
    waiting: list[tuple[Fraction | float, Fraction | float]] = [(-math.inf, math.inf)]
    while waiting:
        low, high = waiting.pop()
        corners: set[Fraction] = set()
        line = _line(expression, _between(low, high), corners)
        inside = sorted(corner for corner in corners if low < corner < high)
        if inside:
            waiting += reversed(list(itertools.pairwise([low, *inside, high])))
        else:
            # No argument of a bent function changes sides in here: what was true at one point is true.
            found.append((low, line))
        if len(found) + len(waiting) > MAX_PIECES:
            raise _Curved
    return found


def _short(number: Fraction) -> str:
    return str(sp.Rational(number).n(6))


def _between(low: Fraction | float, high: Fraction | float) -> Fraction:
    if low == -math.inf:
        return Fraction(0) if high == math.inf else Fraction(high) - 1
    return Fraction(low) + 1 if high == math.inf else (Fraction(low) + Fraction(high)) / 2


def _line(expression: sp.Expr, at: Fraction, corners: set[Fraction]) -> Line:
    """The line that the expression is around z = at; adds to `corners` where its bent parts change sides.

    Raises
    ------
    _Curved
        If it is no line there.
    """
    if expression.is_Symbol:
        return Line(Fraction(1), Fraction(0))
    if not expression.free_symbols:
        return Line(Fraction(0), Fraction(expression if expression.is_Rational else float(expression)))
    parts = [_line(argument, at, corners) for argument in expression.args]
    if isinstance(expression, sp.Add):
        return functools.reduce(_sum, parts)
    if isinstance(expression, sp.Mul):
        return functools.reduce(_product, parts)
    if not isinstance(expression, BENT):
        raise _Curved
    if isinstance(expression, sp.Abs | sp.sign):
        parts.append(_product(parts[0], Line(Fraction(0), Fraction(-1))))
    corners |= {
        (b.constant - a.constant) / (a.slope - b.slope)
        for a, b in itertools.combinations(parts, 2)
        if a.slope != b.slope
    }
    if isinstance(expression, sp.sign):
        value = parts[0](at)
        return Line(Fraction(0), Fraction((value > 0) - (value < 0)))
    return (min if isinstance(expression, sp.Min) else max)(parts, key=lambda line: line(at))


def _sum(a: Line, b: Line) -> Line:
    return Line(a.slope + b.slope, a.constant + b.constant)


def _product(a: Line, b: Line) -> Line:
    if a.slope * b.slope != 0:
        raise _Curved
    return Line(a.slope * b.constant + b.slope * a.constant, a.constant * b.constant)
