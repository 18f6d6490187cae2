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
from lionode.lyapunov.function import SMALLEST_LAM
from lionode.objectives.base import Objective

__all__ = [
    "COEFFICIENTS",
    "Model",
    "Scheme",
    "combination",
    "inverse",
    "layout",
    "loss_source",
    "places",
    "step_source",
]

COEFFICIENTS = ("al", "ga", "ep", "la", "c", "drift", "penalty", "tau", "edge")
"""α, γ, ε, λ of each lane; c, (λ+γ)/(1+ελ) and γ/λ (0 at λ = 0) in H and its rate; τ of the envelope; by how
much dom κ* is scaled where λx is asked to be in it."""

DEFECT = 1e3
"""How many tolerances h·(ẏ − F(y)) of an interpolant y may be inside a step: some where all is smooth."""

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
    interpolant, and ``point`` a state on it; ``next`` is the next time to save; ``attend`` whether the driver
    has to look at the lane; ``stride`` and ``miss`` the length and the error of the last step taken.
    """
    n = 2 * d
    sizes = {
        "y": n, "base": n, "dense": degree * n, "point": n, "coefficients": len(COEFFICIENTS),
        "t": 1, "h": 1, "before": 1, "length": 1, "next": 1, "taken": 1, "attend": 1, "accepted": 1,
        "rejected": 1, "energy": 1, "rate": 1, "inside": 1, "rise": 1, "balance": 1, "stride": 1, "miss": 1,
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

    def _print_Pow(self, expr: Any, rational: bool = False) -> str:
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


def combination(terms: Iterable[tuple[float, str]]) -> str:
    """Source of Σ factor·name."""
    return " + ".join(f"{factor!r}*{name}" for factor, name in terms if factor != 0.0)


def inverse(d: int, definite: bool) -> list[str]:
    """Source of i{i}_{j}, the inverse of a{i}_{j}: by one division up to d = 3, then without pivots.

    Raises
    ------
    Unsupported
        If d > 3 and a is not, up to the scale of its rows, positive definite or nearly I.
    """
    if d <= 3:
        a = sp.Matrix(d, d, lambda i, j: sp.Symbol(f"a{i}_{j}"))
        shared, (adjugate, determinant) = sp.cse(
            [a.adjugate(), a.det()], symbols=sp.numbered_symbols("minor")
        )
        lines = [f"{name} = {value}" for name, value in shared]
        lines += [f"over_det = 1.0/({determinant})"]
        return lines + [f"i{i}_{j} = over_det*({adjugate[i, j]})" for i in range(d) for j in range(d)]
    if not definite:
        raise Unsupported(f"with {d} variables, more than 3, κ has to be separable")
    lines = []
    for k in range(d):
        others = [i for i in range(d) if i != k]
        lines += [f"r{k} = 1.0/a{k}_{k}", *(f"a{k}_{j} = a{k}_{j}*r{k}" for j in others)]
        lines += [f"a{i}_{j} = a{i}_{j} - a{i}_{k}*a{k}_{j}" for i in others for j in others]
        lines += [*(f"a{i}_{k} = -a{i}_{k}*r{k}" for i in others), f"a{k}_{k} = r{k}"]
    return [*lines, *(f"i{i}_{j} = a{i}_{j}" for i in range(d) for j in range(d))]


def step_source(model: Model, scheme: Scheme) -> str:
    """Python source of what `lanes.advance` calls over the workspace of `layout`.

    ``excess(w, l)`` is how far λx at ``point`` is outside dom κ*; ``begin(w, l)`` evaluates H at a start;
    ``step(w, rtol, atol, t_end, max_steps)`` takes a step in all
    lanes; ``save(w, l, grid, j, at, states)`` writes lane l to states[at:] at the times from grid[j] on that
    lie in its last step, and returns the first j that does not.

    The next step is the shorter of those that an error ∝ h^q suggests after this step alone and after the
    last two (Gustafsson, ACM TOMS 20 (1994), 496): a tenth of all steps would otherwise be refused.
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
    if model.bends:
        body += _defect(model, scheme)
    body += [
        "taken = error <= 1.0",
        "reached = t + h",
        "reached = t_end if reached >= t_end*(1.0 - 1e-15) else reached",
        # A NaN is larger than any bound, and answered with a shorter step.
        f"factor = 0.9*thirty_second(max(error, 1e-60) if error < 1e30 else 1e30, {scheme.power})",
        f"over_miss = min(max(error, 1e-60), 1e30)*about_one_over(max({place('miss')}, 1e-4))",
        f"trend = (h/{place('stride')})*thirty_second(over_miss, {scheme.power})",
        "factor = factor*min(trend, 1.0) if taken else factor",
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
        "seen = taken & ((reached == t_end) | enters | far)",
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
        f"{place('stride')} = h if taken else {place('stride')}",
        f"{place('miss')} = error if taken else {place('miss')}",
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
    saved = [f"states[at + {i}] = {_interpolant(scheme, i, 'theta')}" for i in range(n)]
    probe = [f"{name} = {place('coefficients', COEFFICIENTS.index(name))}" for name in ("la", "edge")]
    probe += [f"y{i} = {place('point', i)}" for i in range(n)]
    probe += [*model.excess.lines(model.inputs(states), "e"), "return excess_e"]
    text = ["@njit(**BORROWING)", "def excess(w, l):", *(f"    {line}" for line in probe), "", ""]
    text += ["@njit(**BORROWING)", "def begin(w, l):", *(f"    {line}" for line in begin), "", ""]
    text += ["@njit(**BORROWING)", "def save(w, l, grid, j, at, states):", *(f"    {line}" for line in held)]
    text += [
        "    while True:",
        "        theta = (grid[j] - before)*over",
        *(f"        {line}" for line in saved),
    ]
    text += [
        "        j, at = j + 1, at + N",
        f"        if not grid[j] <= {place('t')}:",
        "            return j",
        "",
        "",
    ]
    text += ["@njit(**BORROWING)", "def step(w, rtol, atol, t_end, max_steps):", "    widest()"]
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
    outer = 2 / (scheme.nodes * (scheme.nodes - 1))
    lines, terms = [], [f"{outer / 2!r}*({rate} + R_e)"]
    for k, theta in enumerate(_nodes(scheme)):
        names = [f"p{i}_{k}" for i in range(model.n)]
        lines += [f"{name} = {_interpolant(scheme, i, repr(theta))}" for i, name in enumerate(names)]
        lines += model.rate.lines(model.inputs(names), f"at{k}")
        terms += [f"{outer / 2 / float(legendre(2 * theta - 1)) ** 2!r}*R_at{k}"]
    return [*lines, f"dissipated = h*({' + '.join(terms)})"]


def _defect(model: Model, scheme: Scheme) -> list[str]:
    """Refuse a step whose interpolant misses ẋ = u − λx by more than `DEFECT` tolerances at an inner node.

    Otherwise a long step may pass a bend of ∇κ, and come back, between all of its stages.
    """
    lines = ["defect = 0.0"]
    for k, theta in enumerate(_nodes(scheme)):
        powers = [(p + 1) * theta**p for p in range(scheme.degree)]
        for i in range(model.d):
            slope = combination((power, f"t{i}_{p + 1}") for p, power in enumerate(powers))
            lines += [f"gap = ({slope} - h*v{i}_at{k})*about_one_over(scale{i})"]
            lines += ["defect = max(defect, gap*gap)"]
    return [*lines, f"error = max(error, {DEFECT**-2!r}*defect)"]


def _nodes(scheme: Scheme) -> list[float]:
    """The inner nodes of the Lobatto rule, as fractions of the step."""
    legendre = np.polynomial.Legendre.basis(scheme.nodes - 1)
    return [(1 + float(node)) / 2 for node in np.real(legendre.deriv().roots())]


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
