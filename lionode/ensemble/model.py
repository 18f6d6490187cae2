"""f and κ in closed form, as the straight-line formulas that compiled code evaluates."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import sympy as sp
from sympy.printing.pycode import PythonCodePrinter

from lionode.ensemble.forms import Unsupported, form_of
from lionode.kappas import Potential
from lionode.lyapunov.function import SMALLEST_LAM
from lionode.objectives.base import Objective

__all__ = ["COEFFICIENTS", "Model", "loss_source"]

COEFFICIENTS = ("al", "ga", "ep", "la", "c", "drift", "penalty", "tau", "edge")
"""α, γ, ε, λ of each lane; c, (λ+γ)/(1+ελ) and γ/λ (0 at λ = 0) in H and its rate; τ of the envelope; by how
much dom κ* is scaled where λx is asked to be in it."""


class RSqrt(sp.Function):  # type: ignore[misc]
    """`simd.rsqrt` in a formula."""

    is_real = True


class _Printer(PythonCodePrinter):  # type: ignore[misc]
    """Python that numba turns into SIMD: products, roots, exp(y log x) instead of ``pow``, and all digits."""

    def _print_Float(self, expr: Any) -> str:
        return repr(float(expr))

    def _print_Rational(self, expr: Any) -> str:
        return repr(float(expr))

    def _print_Pow(self, expr: Any, rational: bool = False) -> str:
        if not (2 * expr.exp).is_Integer:
            return f"exp({self._print(expr.exp)}*log({self._print(expr.base)}))"
        if not (expr.exp.is_Integer and abs(expr.exp) <= 12):
            return str(super()._print_Pow(expr, rational))
        product = "*".join([f"({self._print(expr.base)})"] * abs(int(expr.exp)))
        return f"({product})" if expr.exp > 0 else f"(1.0/({product}))"

    def _print_sign(self, expr: Any) -> str:
        at = self._print(expr.args[0])
        return f"(1.0 if {at} > 0.0 else (-1.0 if {at} < 0.0 else 0.0))"

    def _print_Heaviside(self, expr: Any) -> str:
        return f"(1.0 if {self._print(expr.args[0])} > 0.0 else 0.0)"

    def _print_simd(self, expr: Any) -> str:
        return f"{type(expr).__name__.lower()}({self._print(expr.args[0])})"

    _print_RSqrt = _print_exp = _print_log = _print_tanh = _print_simd

    def _print_not_supported(self, expr: Any) -> str:
        raise Unsupported(f"{expr} has no compiled form")

    _print_Function = _print_not_supported
    _print_Derivative = _print_not_supported
    _print_Integral = _print_not_supported
    _print_Subs = _print_not_supported


class _Formulas:
    """Expressions in x, m and the coefficients, printed once per place where they are evaluated.

    They come in levels: each may use the names of those before it, so that none is substituted into another.
    """

    def __init__(self, *levels: dict[str, sp.Expr], rooted: bool = True) -> None:
        self.printer = _Printer({"fully_qualified_modules": True, "allow_unknown_functions": False})
        self.named: list[tuple[sp.Symbol, sp.Expr]] = []
        fresh = sp.numbered_symbols("w")
        for level in levels:
            values = [_rooted(value) if rooted else value for value in level.values()]
            shared, values = sp.cse(values, symbols=fresh)
            self.named += [*shared, *zip(_symbols(level), values, strict=True)]

    def lines(self, inputs: dict[sp.Symbol, str], tag: str) -> list[str]:
        """Assignments of every output to ``name_tag``; other symbols keep their names."""
        rename = {s: sp.Symbol(text, real=True) for s, text in inputs.items()}
        rename |= {s: sp.Symbol(f"{s}_{tag}") for s, _ in self.named}
        return [f"{rename[s]} = {self.printer.doprint(e.xreplace(rename))}" for s, e in self.named]


def _symbols(names: Iterable[str]) -> list[sp.Symbol]:
    return [sp.Symbol(name, real=True) for name in names]


class Model:
    """f and κ in closed form, as the formulas that a step evaluates."""

    def __init__(self, objective: Objective, kappa: Potential) -> None:
        if objective.expression is None:
            raise Unsupported("f has no expression")
        d = objective.dim
        form = form_of(kappa, d)
        self.bends = kappa.smoothness < 2
        self.d, self.n, self.inner, self.outer = d, 2 * d, form.inner, form.outer
        self.x = sp.symbols(f"x0:{d}", real=True)
        self.m = sp.symbols(f"m0:{d}", real=True)
        al, ga, ep, la, c, drift, penalty = sp.symbols(COEFFICIENTS[:7], real=True)
        edge = sp.Symbol("edge", real=True)
        f = objective.expression.xreplace(dict(zip(objective.symbols, self.x, strict=True)))
        slopes = {f"slope{i}": sp.diff(f, x) for i, x in enumerate(self.x)}
        curvature = {f"q{i}{j}": sp.diff(slopes[f"slope{i}"], self.x[j]) for i in range(d) for j in range(d)}
        gradient = _symbols(slopes)
        look_ahead = {
            f"ahead{i}": (1 - ep * ga) * m - ep * al * g
            for i, (m, g) in enumerate(zip(self.m, gradient, strict=True))
        }
        ahead = _symbols(look_ahead)
        push = [u - la * x for u, x in zip(form.gradient(ahead), self.x, strict=True)]
        turn = [-al * g - ga * m for g, m in zip(gradient, self.m, strict=True)]
        velocity = {f"v{i}": e for i, e in enumerate([*push, *turn])}
        self.velocity = _Formulas(slopes, look_ahead, velocity)
        bends = form.hessian(ahead)
        self.bent = [(i, j) for i in range(d) for j in range(d) if bends[i, j] != 0]
        bend = {f"b{i}{j}": bends[i, j] for i, j in self.bent}
        self.linearisation = _Formulas(slopes | curvature, look_ahead, velocity | bend)
        scaled = {f"dual{i}": la * x for i, x in enumerate(self.x)}
        dual = _symbols(scaled)
        held = form.held(dual)
        above, below = form.conjugate_subgradient(held), form.gradient(self.m)
        first = sp.Add(*((a - z) * v for a, z, v in zip(ahead, above, _symbols(velocity), strict=False)))
        second = sp.Add(
            *(t * (v + y - u) for t, v, y, u in zip(turn, _symbols(velocity), dual, below, strict=False))
        )
        rate = {"R": drift * first + c * second}
        pushes = dict(itertools.islice(velocity.items(), d))
        pairing = sp.Add(*(m * x for m, x in zip(self.m, self.x, strict=True)))
        value = sp.Symbol("value", real=True)
        energy = al * value + (penalty + c) * form.conjugate(held) + c * (form.value(self.m) - la * pairing)
        # At λ = 0 the penalty γκ*(λx)/λ is its limit.
        limits = form.conjugate_subgradient(form.held([sp.Integer(0)] * d))
        limit = sp.Add(*(z * x for z, x in zip(limits, self.x, strict=True)))
        if limit != 0:
            energy += sp.Piecewise((ga * limit, la <= SMALLEST_LAM), (sp.Float(0), True))
        excess = {"excess": form.excess(dual, edge)}
        self.excess = _Formulas(scaled, excess)
        self.rate = _Formulas(slopes, look_ahead | scaled, pushes, rate)
        self.energy = _Formulas(
            slopes | {"value": f}, look_ahead | scaled, pushes, {"H": energy} | rate | excess
        )

    def inputs(self, names: Sequence[str]) -> dict[sp.Symbol, str]:
        """x and m by the names of the variables that hold them."""
        return dict(zip((*self.x, *self.m), names, strict=True))

    def evaluated(self, names: Sequence[str]) -> list[str]:
        """H, its rate and whether λx is in dom κ* at a state, as H_e, R_e and inside_e."""
        return [*self.energy.lines(self.inputs(names), "e"), "inside_e = 1.0 if excess_e <= 0.0 else 0.0"]


def _rooted(expression: sp.Expr) -> sp.Expr:
    """Every half power by one reciprocal square root: w^{−3/2} = r³, w^{1/2} = wr with r = w^{−1/2}."""

    def root(base: sp.Expr, exponent: sp.Expr) -> sp.Expr:
        r, count = RSqrt(base), int(2 * exponent)
        return r**-count if count < 0 else r * base ** ((count + 1) // 2)

    return expression.replace(
        lambda e: e.is_Pow and (2 * e.exp).is_Integer and not e.exp.is_Integer and not e.base.is_number,
        lambda e: root(*e.args),
    )


def loss_source(objective: Objective) -> str:
    """Python source of ``value(w, y)``, f at the place y; ``gradient`` and ``hessian`` write G and Q."""
    d = objective.dim
    if objective.expression is None:
        raise Unsupported("f has no expression")
    x = sp.symbols(f"x0:{d}", real=True)
    f = objective.expression.xreplace(dict(zip(objective.symbols, x, strict=True)))
    gradient = [sp.diff(f, s) for s in x]
    hessian = {(i, j): sp.diff(gradient[i], x[j]) for i in range(d) for j in range(i + 1)}
    held = {s: f"x{i}" for i, s in enumerate(x)}
    reads = [f"{name} = w[y + {i}]" for i, name in enumerate(held.values())]

    def function(name: str, outputs: dict[str, sp.Expr], last: list[str]) -> list[str]:
        body = [*reads, *_Formulas(outputs, rooted=False).lines(held, "f"), *last, "", ""]
        return ["@njit(**BORROWING)", f"def {name}(w, y):", *(f"    {line}" for line in body)]

    slopes = {f"g{i}": g for i, g in enumerate(gradient)}
    bends = {f"q{i}_{j}": q for (i, j), q in hessian.items()}
    pairs = [(i, j) for i in range(d) for j in range(d)]
    text = function("value", {"F": f}, ["return F_f"])
    text += function("gradient", slopes, [f"w[G + {i}] = g{i}_f" for i in range(d)])
    text += function("hessian", bends, [f"w[Q + {d * i + j}] = q{max(i, j)}_{min(i, j)}_f" for i, j in pairs])
    return "\n".join(text)
