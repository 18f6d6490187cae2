"""Straight-line source of one step of a scheme for a given f and κ, eight trajectories abreast.

The step is one loop over the lanes of a single workspace array, without a branch or a call that would keep
the compiler from filling SIMD registers; every lane has its own time, step size and coefficients, and takes
or refuses its own step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from sympy.printing.pycode import PythonCodePrinter

from lionode.ensemble.forms import Unsupported, form_of
from lionode.ensemble.lanes import LANES
from lionode.kappas import Potential
from lionode.objectives.base import Objective

__all__ = ["COEFFICIENTS", "Model", "Scheme", "combination", "layout", "loss_source", "places", "step_source"]

INSIDE = 2.0**-53
"""∂κ* of a barrier-like κ* is read no closer to the edge than this, relative to it."""

COEFFICIENTS = ("al", "ga", "ep", "la", "c", "drift", "penalty", "tau", "edge")
"""α, γ, ε, λ of each lane; c, (λ+γ)/(1+ελ) and γ/λ (0 at λ = 0) in H and its rate; τ of the envelope; by how
much dom κ* is scaled where λx is asked to be in it."""

TOO_LARGE = 1e100
"""A state beyond this is on its way to overflow: its squares would be."""


@dataclass(frozen=True)
class Scheme:
    """How a step is taken: source that names y{i}, h and the lane's coefficients.

    Attributes
    ----------
    gradients : int
        Gradients of f in a step.
    power : int
        A step of error err is followed by one 0.9·err^{−power/16} as long.
    degree : int
        Of the interpolant.
    nodes : int
        Of the Lobatto rule for ∫Δ dt on a step, which is to be of the order of the interpolant.
    share : float
        The share of the tolerance that a step may use: at one tolerance all schemes have about one error.
    step, error, dense : callable
        Source of the new state n{i}; of ``error``, the mean square of its ratios to scale{i}; and of the
        interpolant y{i} + θt{i}_1 + θ²t{i}_2 + ….
    """

    name: str
    gradients: int
    power: int
    degree: int
    nodes: int
    share: float
    step: Callable[[Model], list[str]]
    error: Callable[[Model], list[str]]
    dense: Callable[[Model], list[str]]


def layout(d: int, degree: int) -> dict[str, int]:
    """The first row of each quantity in the workspace, and the number of ``places``.

    ``base``, ``before`` and ``length`` are the state, the time and the length of the last step, for its
    interpolant; ``next`` is the next time to save, ``attend`` whether the driver has to look at the lane.
    """
    n = 2 * d
    sizes = {
        "y": n, "base": n, "dense": degree * n, "coefficients": len(COEFFICIENTS),
        "t": 1, "h": 1, "before": 1, "length": 1, "next": 1, "taken": 1, "attend": 1, "accepted": 1,
        "rejected": 1, "energy": 1, "rate": 1, "inside": 1, "rise": 1, "balance": 1,
    }  # fmt: skip
    return places(sizes)


def places(sizes: dict[str, int]) -> dict[str, int]:
    """Where each quantity begins if they lie one behind the other, and how many ``places`` there are."""
    ends = list(itertools.accumulate(sizes.values()))
    return dict(zip(sizes, [0, *ends], strict=False)) | {"places": ends[-1]}


class RSqrt(sp.Function):  # type: ignore[misc]
    """`simd.rsqrt` in a formula."""

    is_real = True


class _Printer(PythonCodePrinter):  # type: ignore[misc]
    """Python that numba turns into SIMD: products and square roots instead of ``pow``, all digits kept."""

    def _print_Float(self, expr: Any) -> str:
        return repr(float(expr))

    def _print_Rational(self, expr: Any) -> str:
        return repr(float(expr))

    def _print_Pow(self, expr: Any, rational: bool = False, sqrt: str = "math.sqrt") -> str:
        if not (expr.exp.is_Integer and abs(expr.exp) <= 12):
            return str(super()._print_Pow(expr, rational, sqrt))
        product = "*".join([f"({self._print(expr.base)})"] * abs(int(expr.exp)))
        return f"({product})" if expr.exp > 0 else f"(1.0/({product}))"

    def _print_sign(self, expr: Any) -> str:
        at = self._print(expr.args[0])
        return f"(1.0 if {at} > 0.0 else (-1.0 if {at} < 0.0 else 0.0))"

    def _print_RSqrt(self, expr: Any) -> str:
        return f"rsqrt({self._print(expr.args[0])})"

    def _print_not_supported(self, expr: Any) -> str:
        raise Unsupported(f"{expr} has no compiled form")

    _print_Function = _print_not_supported
    _print_Derivative = _print_not_supported
    _print_Integral = _print_not_supported
    _print_Subs = _print_not_supported


class _Formulas:
    """Expressions in x, m and the coefficients, printed once per place where they are evaluated."""

    def __init__(self, outputs: dict[str, sp.Expr], rooted: bool = True) -> None:
        self.printer = _Printer({"fully_qualified_modules": True, "allow_unknown_functions": False})
        self.names = list(outputs)
        values = [_rooted(value) if rooted else value for value in outputs.values()]
        self.shared, self.values = sp.cse(values, symbols=sp.numbered_symbols("w"))

    def lines(self, inputs: dict[sp.Symbol, str], tag: str) -> list[str]:
        """Assignments of every output to ``name_tag``; other symbols keep their names."""
        rename = {s: sp.Symbol(text, real=True) for s, text in inputs.items()}
        rename |= {s: sp.Symbol(f"{s}_{tag}") for s, _ in self.shared}
        named = [*self.shared, *zip(map(sp.Symbol, self.names), self.values, strict=True)]
        return [f"{s}_{tag} = {self.printer.doprint(e.xreplace(rename))}" for s, e in named]


class Model:
    """f and κ in closed form, as the formulas that a step evaluates."""

    def __init__(self, objective: Objective, kappa: Potential) -> None:
        if objective.expression is None:
            raise Unsupported("f has no expression")
        form, d = form_of(kappa), objective.dim
        self.d, self.n, self.bounds = d, 2 * d, form.bounds
        self.x = sp.symbols(f"x0:{d}", real=True)
        self.m = sp.symbols(f"m0:{d}", real=True)
        al, ga, ep, la, c, drift, penalty = sp.symbols(COEFFICIENTS[:7], real=True)
        value = objective.expression.xreplace(dict(zip(objective.symbols, self.x, strict=True)))
        gradient = [sp.diff(value, s) for s in self.x]
        ahead = [(1 - ep * ga) * m - ep * al * g for m, g in zip(self.m, gradient, strict=True)]
        push = [form.dphi(a) - la * x for a, x in zip(ahead, self.x, strict=True)]
        turn = [-al * g - ga * m for g, m in zip(gradient, self.m, strict=True)]
        velocity = {f"v{i}": e for i, e in enumerate([*push, *turn])}
        self.velocity = _Formulas(velocity)
        hessian = {f"q{i}{j}": sp.diff(gradient[i], self.x[j]) for i in range(d) for j in range(d)}
        bends = {f"b{i}": form.d2phi(a) for i, a in enumerate(ahead)}
        self.linearisation = _Formulas(velocity | hessian | bends)
        low, high = form.bounds
        edges = sp.Float(low + abs(low) * INSIDE), sp.Float(high - abs(high) * INSIDE)
        held = [la * x for x in self.x]
        if high - low < np.inf:
            held = [sp.Max(sp.Min(y, edges[1]), edges[0]) for y in held]
        stars = sp.Add(*map(form.phi_conjugate, held))
        pairing = sp.Add(*(m * x for m, x in zip(self.m, self.x, strict=True)))
        kinetic = sp.Add(*map(form.phi, self.m))
        first = sp.Add(*((a - form.dphi_conjugate(y)) * p for a, y, p in zip(ahead, held, push, strict=True)))
        second = sp.Add(
            *(t * (p + la * x - form.dphi(m)) for t, p, x, m in zip(turn, push, self.x, self.m, strict=True))
        )
        rate = drift * first + c * second
        energy = al * value + (penalty + c) * stars + c * (kinetic - la * pairing)
        self.energy = _Formulas({"H": energy, "R": rate})
        self.rate = _Formulas({"R": rate})

    def inputs(self, names: Sequence[str]) -> dict[sp.Symbol, str]:
        """x and m by the names of the variables that hold them."""
        return dict(zip((*self.x, *self.m), names, strict=True))

    def evaluated(self, names: Sequence[str]) -> list[str]:
        """H, its rate and whether λx is in dom κ* at a state, as H_e, R_e and inside_e."""
        low, high = self.bounds
        tests = [f"(la*{x} >= {low!r}*edge) & (la*{x} <= {high!r}*edge)" for x in names[: self.d]]
        inside = "1.0" if high - low == np.inf else f"1.0 if {' & '.join(tests)} else 0.0"
        return [*self.energy.lines(self.inputs(names), "e"), f"inside_e = {inside}"]


def _rooted(expression: sp.Expr) -> sp.Expr:
    """Every half power by one reciprocal square root: w^{−3/2} = r³, w^{1/2} = wr with r = w^{−1/2}."""

    def root(base: sp.Expr, exponent: sp.Expr) -> sp.Expr:
        r, count = RSqrt(base), int(2 * exponent)
        return r**-count if count < 0 else r * base ** ((count + 1) // 2)

    return expression.replace(
        lambda e: e.is_Pow and (2 * e.exp).is_Integer and not e.exp.is_Integer and not e.base.is_number,
        lambda e: root(*e.args),
    )


def combination(terms: Iterable[tuple[float, str]]) -> str:
    """Source of Σ factor·name."""
    return " + ".join(f"{factor!r}*{name}" for factor, name in terms if factor != 0.0)


def step_source(model: Model, scheme: Scheme) -> str:
    """Python source of what `lanes.advance` calls over the workspace of `layout`.

    ``begin(w, l)`` evaluates H at a start; ``step(w, rtol, atol, t_end, max_steps)`` takes a step in all
    lanes; ``save(w, l, grid, first, last, states)`` writes a lane at times of the grid within its last step.
    """
    n, row = model.n, layout(model.d, scheme.degree)

    def place(name: str, i: int = 0) -> str:
        return f"w[{LANES * (row[name] + i)} + l]"

    states = [f"y{i}" for i in range(n)]
    head = [f"{name} = {place('coefficients', i)}" for i, name in enumerate(COEFFICIENTS)]
    head += [f"{name} = {place('y', i)}" for i, name in enumerate(states)]
    begin = [*head, *model.evaluated(states)]
    begin += [f"{place('energy')} = H_e", f"{place('rate')} = R_e", f"{place('inside')} = inside_e"]
    body = [*head, f"h = {place('h')}", f"t = {place('t')}", *scheme.step(model)]
    body += [f"scale{i} = atol + rtol*max(abs(y{i}), abs(n{i}))" for i in range(n)]
    body += [*scheme.error(model), *scheme.dense(model), *model.evaluated([f"n{i}" for i in range(n)])]
    body += _dissipated(model, scheme, place("rate"))
    body += [
        "taken = error <= 1.0",
        "reached = t + h",
        "reached = t_end if reached >= t_end*(1.0 - 1e-15) else reached",
        # A NaN is larger than any bound, and answered with a shorter step.
        f"factor = 0.9*thirty_second(max(error, 1e-60) if error < 1e30 else 1e30, {scheme.power})",
        "longer = min(h*min(max(factor, 0.2), 5.0), t_end - reached)",
        "shorter = h*min(max(factor, 0.2), 0.9)",
        f"both = taken & (inside_e > 0.0) & ({place('inside')} > 0.0)",
        f"rise = H_e - {place('energy')}",
        f"{place('rise')} = max({place('rise')}, rise) if both else {place('rise')}",
        f"{place('balance')} = {place('balance')} + (rise + dissipated if both else 0.0)",
        f"accepted = {place('accepted')} + (1.0 if taken else 0.0)",
        f"rejected = {place('rejected')} + (0.0 if taken else 1.0)",
        f"enters = (inside_e > 0.0) & ({place('inside')} == 0.0)",
        f"far = {' | '.join(f'(abs(n{i}) > {TOO_LARGE!r})' for i in range(n))}",
        f"seen = taken & ((reached >= {place('next')}) | (reached == t_end) | enters | far)",
        "h_new = longer if taken else shorter",
        "t_new = reached if taken else t",
        "stuck = (accepted + rejected >= max_steps) | (h_new < 1e-15*max(t_new, 1e-6*t_end))",
        f"{place('attend')} = 1.0 if seen | stuck else 0.0",
        f"{place('taken')} = 1.0 if taken else 0.0",
        f"{place('accepted')} = accepted",
        f"{place('rejected')} = rejected",
        f"{place('energy')} = H_e if taken else {place('energy')}",
        f"{place('rate')} = R_e if taken else {place('rate')}",
        f"{place('inside')} = inside_e if taken else {place('inside')}",
        f"{place('before')} = t",
        f"{place('length')} = h",
        f"{place('t')} = t_new",
        f"{place('h')} = h_new",
        *(f"{place('base', i)} = y{i}" for i in range(n)),
        *(f"{place('y', i)} = n{i} if taken else y{i}" for i in range(n)),
        *(
            f"{place('dense', scheme.degree * i + p)} = t{i}_{p + 1}"
            for i in range(n) for p in range(scheme.degree)
        ),
    ]  # fmt: skip
    held = [f"before = {place('before')}", f"over = 1.0/{place('length')}"]
    held += [f"y{i} = {place('base', i)}" for i in range(n)]
    held += [
        f"t{i}_{p + 1} = {place('dense', scheme.degree * i + p)}"
        for i in range(n) for p in range(scheme.degree)
    ]  # fmt: skip
    saved = [f"states[j, {i}] = {_interpolant(scheme, i, 'theta')}" for i in range(n)]
    text = ["@njit(**OPTIONS)", "def begin(w, l):", *(f"    {line}" for line in begin), "", ""]
    text += [
        "@njit(**OPTIONS)",
        "def save(w, l, grid, first, last, states):",
        *(f"    {line}" for line in held),
    ]
    text += ["    for j in range(first, last):", "        theta = (grid[j] - before)*over"]
    text += [*(f"        {line}" for line in saved), "", ""]
    text += ["@njit(**OPTIONS)", "def step(w, rtol, atol, t_end, max_steps):", "    widest()"]
    text += ["    for l in range(LANES):", *(f"        {line}" for line in body)]
    return "\n".join(text) + "\n"


def _interpolant(scheme: Scheme, i: int, theta: str) -> str:
    """y{i} + θ(t{i}_1 + θ(t{i}_2 + …))."""
    source = f"t{i}_{scheme.degree}"
    for p in range(scheme.degree - 1, 0, -1):
        source = f"t{i}_{p} + {theta}*({source})"
    return f"y{i} + {theta}*({source})"


def _dissipated(model: Model, scheme: Scheme, rate: str) -> list[str]:
    """∫ −dH/dt over the step by the Lobatto rule with `scheme.nodes` nodes, the outer ones at its ends."""
    legendre = np.polynomial.Legendre.basis(scheme.nodes - 1)
    inner = np.real(legendre.deriv().roots())
    outer = 2 / (scheme.nodes * (scheme.nodes - 1))
    weights = [float(w) / 2 for w in outer / legendre(inner) ** 2]
    lines, terms = [], [f"{outer / 2!r}*({rate} + R_e)"]
    for k, (node, weight) in enumerate(zip(inner, weights, strict=True)):
        theta = (1 + float(node)) / 2
        names = [f"p{i}_{k}" for i in range(model.n)]
        lines += [f"{name} = {_interpolant(scheme, i, repr(theta))}" for i, name in enumerate(names)]
        lines += model.rate.lines(model.inputs(names), f"at{k}")
        terms += [f"{weight!r}*R_at{k}"]
    return [*lines, f"dissipated = h*({' + '.join(terms)})"]


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
