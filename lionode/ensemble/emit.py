"""Straight-line source of one step of Rodas5P for a given f and κ, eight trajectories abreast.

The step is one loop over the lanes of a single workspace array, without a branch or a call that would keep
the compiler from filling SIMD registers; every lane has its own t-independent step size and coefficients.

Source of the coefficients: G. Steinebach, "Construction of Rosenbrock-Wanner method Rodas5P and numerical
benchmarks within the Julia Differential Equations package", BIT 63 (2023), 27; in the form of Hairer &
Wanner II, §IV.7, where the stages are k_i with (I/hγ − J)k_i = F(y + Σ a_ij k_j) + Σ (c_ij/h) k_j.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sympy as sp
from sympy.printing.pycode import PythonCodePrinter

from lionode.ensemble.lanes import LANES
from lionode.system import LionK

__all__ = ["Unsupported", "layout", "step_source"]

GAMMA = 0.21193756319429014
A: tuple[tuple[float, ...], ...] = (
    (),
    (3.0,),
    (2.849394379747939, 0.45842242204463923),
    (-6.954028509809101, 2.489845061869568, -10.358996098473584),
    (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
    (-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946),
)
"""Rows 7 and 8 are row 6 with a 1 for each further stage: y₇ = y₆ + k₆, y₈ = y₇ + k₇, y(t+h) = y₈ + k₈."""
C: tuple[tuple[float, ...], ...] = (
    (),
    (-14.155112264123755,),
    (-17.97296035885952, -2.859693295451294),
    (147.12150275711716, -1.41221402718213, 71.68940251302358),
    (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
    (24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471),
    (
        30.91273214028599,
        -3.1208243349937974,
        77.79954646070892,
        34.28646028294783,
        -19.097331116725623,
        -28.087943162872662,
    ),
    (
        37.80277123390563,
        -3.2571969029072276,
        112.26918849496327,
        66.9347231244047,
        -40.06618937091002,
        -54.66780262877968,
        -9.48861652309627,
    ),
)
DENSE: tuple[tuple[float, ...], ...] = (
    (
        25.948786856663858,
        -2.5579724845846235,
        10.433815404888879,
        -2.3679251022685204,
        0.524948541321073,
        1.1241088310450404,
        0.4272876194431874,
        -0.17202221070155493,
    ),
    (
        -9.91568850695171,
        -0.9689944594115154,
        3.0438037242978453,
        -24.495224566215796,
        20.176138334709044,
        15.98066361424651,
        -6.789040303419874,
        -6.710236069923372,
    ),
    (
        11.419903575922262,
        2.8879645146136994,
        72.92137995996029,
        80.12511834622643,
        -52.072871366152654,
        -59.78993625266729,
        -0.15582684282751913,
        4.883087185713722,
    ),
)
"""y(t+θh) = (1−θ)y₀ + θ(y₁ + (1−θ)(D₁ + θ(D₂ + θD₃))), D_r = Σ DENSE[r]_i k_i, of order 4."""

LOBATTO = ((5 - 5**0.5) / 10, (5 + 5**0.5) / 10)
"""Inner nodes of the quadrature of ∫Δ dt on a step: weights 1/12, 5/12, 5/12, 1/12, exact to degree 5."""

DOMAIN_SLACK = 1e-12
"""λx within this of the edge of dom κ* is in it: rounding of the state, as in `Potential.contains`."""

BELOW_ONE = 1 - 2.0**-53
"""∂κ* of a barrier-like κ* is read no closer to the edge than this, relative to the radius."""

COEFFICIENTS = ("al", "ga", "ep", "la")


class Unsupported(ValueError):
    """f or κ has no straight-line form; the ordinary path takes it."""


def layout(d: int) -> dict[str, int]:
    """The first row of each quantity in the workspace, and the number of ``rows``."""
    n = 2 * d
    sizes = {
        "y": n, "new": n, "dense": 4 * n, "coefficients": 4, "h": 1, "error": 1, "factor": 1,
        "energy": 1, "rate": 1, "inside": 1, "energy_new": 1, "rate_new": 1, "inside_new": 1, "dissipated": 1,
    }  # fmt: skip
    rows, total = {}, 0
    for name, size in sizes.items():
        rows[name] = total
        total += size
    return rows | {"rows": total}


class _Printer(PythonCodePrinter):  # type: ignore[misc]
    """Python that numba turns into SIMD: products and square roots instead of ``pow``, all digits kept."""

    def _print_Float(self, expr: Any) -> str:
        return repr(float(expr))

    def _print_Rational(self, expr: Any) -> str:
        return repr(float(expr))

    def _print_Pow(self, expr: Any, rational: bool = False, sqrt: str = "math.sqrt") -> str:
        twice = 2 * expr.exp
        if not (twice.is_number and float(twice).is_integer() and abs(twice) <= 24):
            return str(super()._print_Pow(expr, rational, sqrt))
        base, count = f"({self._print(expr.base)})", abs(int(twice))
        factors = [base] * (count // 2) + [f"math.sqrt({base})"] * (count % 2)
        product = "*".join(factors)
        return f"({product})" if twice > 0 else f"(1.0/({product}))"

    def _print_not_supported(self, expr: Any) -> str:
        raise Unsupported(f"{expr} has no compiled form")

    _print_Function = _print_not_supported
    _print_Derivative = _print_not_supported
    _print_Integral = _print_not_supported
    _print_Subs = _print_not_supported


class _Formulas:
    """Expressions in x, m and the coefficients, printed once per place where they are evaluated."""

    def __init__(self, printer: _Printer, outputs: dict[str, sp.Expr]) -> None:
        self.printer = printer
        self.names = list(outputs)
        self.shared, self.values = sp.cse(list(outputs.values()), symbols=sp.numbered_symbols("w"))

    def lines(self, inputs: dict[sp.Symbol, str], tag: str) -> list[str]:
        """Assignments of every output to ``name_tag``; other symbols keep their names."""
        rename = {s: sp.Symbol(text, real=True) for s, text in inputs.items()}
        rename |= {s: sp.Symbol(f"{s}_{tag}") for s, _ in self.shared}
        named = [*self.shared, *zip(map(sp.Symbol, self.names), self.values, strict=True)]
        return [f"{s}_{tag} = {self.printer.doprint(e.xreplace(rename))}" for s, e in named]


class _Model:
    """f and κ in closed form, as the formulas a step evaluates."""

    def __init__(self, system: LionK) -> None:
        objective, kappa, d = system.objective, system.kappa, system.dim
        if objective.expression is None:
            raise Unsupported("f has no expression")
        self.d = d
        self.x = sp.symbols(f"x0:{d}", real=True)
        self.m = sp.symbols(f"m0:{d}", real=True)
        al, ga, ep, la = sp.symbols(COEFFICIENTS, real=True)
        c, penalty, drift = sp.symbols("c penalty drift", real=True)
        value = objective.expression.xreplace(dict(zip(objective.symbols, self.x, strict=True)))
        gradient = [sp.diff(value, s) for s in self.x]
        z = sp.Symbol("z", real=True)
        phi, conjugate = _separate(kappa.symbolic, d, z), _separate(kappa.symbolic_conjugate, d, z)
        slope, bend = _derivative(phi, z), _derivative(_derivative(phi, z), z)
        ahead = [(1 - ep * ga) * m - ep * al * g for m, g in zip(self.m, gradient, strict=True)]
        push = [slope.xreplace({z: a}) - la * x for a, x in zip(ahead, self.x, strict=True)]
        turn = [-al * g - ga * m for g, m in zip(gradient, self.m, strict=True)]
        printer = _Printer({"fully_qualified_modules": True, "allow_unknown_functions": False})
        velocity = {f"v{i}": e for i, e in enumerate([*push, *turn])}
        self.velocity = _Formulas(printer, velocity)
        hessian = {f"q{i}{j}": sp.diff(gradient[i], self.x[j]) for i in range(d) for j in range(d)}
        self.curvature = _Formulas(
            printer, hessian | {f"b{i}": bend.xreplace({z: a}) for i, a in enumerate(ahead)}
        )
        radius = float(getattr(kappa, "radius", float("inf")))
        edge = sp.Float(radius * BELOW_ONE)
        self.radius = radius
        scaled = [la * x for x in self.x]
        held = scaled if radius == float("inf") else [sp.Max(sp.Min(y, edge), -edge) for y in scaled]
        stars = sp.Add(*(conjugate.xreplace({z: y}) for y in held))
        pairing = sp.Add(*(m * x for m, x in zip(self.m, self.x, strict=True)))
        kinetic = sp.Add(*(_stable(phi).xreplace({z: m}) for m in self.m))
        duals = [_derivative(conjugate, z).xreplace({z: y}) for y in held]
        first = sp.Add(*((a - s) * p for a, s, p in zip(ahead, duals, push, strict=True)))
        second = sp.Add(
            *(
                t * (p + la * x - slope.xreplace({z: m}))
                for t, p, x, m in zip(turn, push, self.x, self.m, strict=True)
            )
        )
        self.energy = _Formulas(
            printer,
            {
                "H": al * value + (penalty + c) * stars + c * (kinetic - la * pairing),
                "R": drift * first + c * second,
            },
        )
        self.rate = _Formulas(printer, {"R": drift * first + c * second})

    def inputs(self, names: Sequence[str]) -> dict[sp.Symbol, str]:
        return dict(zip((*self.x, *self.m), names, strict=True))

    def inside(self, tag: str, names: Sequence[str]) -> str:
        """1.0 where λx is in dom κ*, as an assignment."""
        if self.radius == float("inf"):
            return f"inside_{tag} = 1.0"
        farthest = f"abs(la*{names[0]})"
        for name in names[1 : self.d]:
            farthest = f"max({farthest}, abs(la*{name}))"
        return f"inside_{tag} = 1.0 if {farthest} <= {self.radius * (1 + DOMAIN_SLACK)!r} else 0.0"


def _separate(symbolic: Any, d: int, z: sp.Symbol) -> sp.Expr:
    """φ(z) of a separable closed form Σφ(z_i)."""
    symbols = sp.symbols(f"s0:{max(d, 2)}", real=True)[:d]
    whole = symbolic(list(symbols))
    alone = symbolic([z])
    if whole is None or alone is None:
        raise Unsupported("κ has no closed form")
    if d > 1 and whole - sp.Add(*(alone.xreplace({z: s}) for s in symbols)) != 0:
        raise Unsupported("κ is not separable")
    return alone


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


def _sum(terms: Iterable[tuple[float, str]]) -> str:
    return " + ".join(f"{factor!r}*{name}" for factor, name in terms if factor != 0.0)


def step_source(system: LionK) -> str:
    """Python source of ``step(w, rtol, atol)`` and ``begin(w, l)`` over the workspace of `layout`."""
    model = _Model(system)
    n, row = 2 * model.d, layout(model.d)
    head = [f"{name} = w[{LANES * (row['coefficients'] + i)} + l]" for i, name in enumerate(COEFFICIENTS)]
    head += [
        "c = max(0.0, 1.0 - ep*ga)/(1.0 + ep*la)",
        "drift = (la + ga)/(1.0 + ep*la)",
        "penalty = ga/la if la > 0.0 else 0.0",
        *(f"y{i} = w[{LANES * (row['y'] + i)} + l]" for i in range(n)),
    ]
    start = [f"y{i}" for i in range(n)]
    begin = [*head, *_energy(model, start, "e")]
    begin += [
        f"w[{LANES * (row[name])} + l] = {value}_e"
        for name, value in (("energy", "H"), ("rate", "R"), ("inside", "inside"))
    ]
    body = [*head, f"h = w[{LANES * (row['h'])} + l]", *_solver(model, start)]
    for stage in range(8):
        body += _stage(model, stage)
    body += [f"n{i} = s{i}_7 + k{i}_7" for i in range(n)]
    body += _error(n, row)
    body += _dense(n, row)
    new = [f"n{i}" for i in range(n)]
    body += _energy(model, new, "e")
    for tag, theta in zip("ab", LOBATTO, strict=True):
        names = [f"p{i}_{tag}" for i in range(n)]
        for i, name in enumerate(names):
            cubic = f"t{i}_2 + {theta!r}*(t{i}_3 + {theta!r}*t{i}_4)"
            body += [f"{name} = y{i} + {theta!r}*(t{i}_1 + {theta!r}*({cubic}))"]
        body += model.rate.lines(model.inputs(names), tag)
    body += [
        f"before = w[{LANES * (row['rate'])} + l]",
        f"w[{LANES * (row['dissipated'])} + l] = h*(before + R_e + 5.0*(R_a + R_b))/12.0",
        f"w[{LANES * (row['energy_new'])} + l] = H_e",
        f"w[{LANES * (row['rate_new'])} + l] = R_e",
        f"w[{LANES * (row['inside_new'])} + l] = inside_e",
        *(f"w[{LANES * (row['new'] + i)} + l] = n{i}" for i in range(n)),
    ]
    text = ["@njit(**OPTIONS)", "def begin(w, l):", *(f"    {line}" for line in begin), "", ""]
    text += ["@njit(**OPTIONS)", "def step(w, rtol, atol):", "    for l in range(LANES):"]
    text += [f"        {line}" for line in body]
    return "\n".join(text) + "\n"


def _energy(model: _Model, names: Sequence[str], tag: str) -> list[str]:
    return [*model.energy.lines(model.inputs(names), tag), model.inside(tag, names)]


def _solver(model: _Model, names: Sequence[str]) -> list[str]:
    """LU factors of (s+λ)I + αβ·diag(κ″)∇²f, s = 1/hγ, to which the m-block reduces the solve.

    Without pivots: it is a row-scaled positive definite matrix where f is convex, and diagonally dominant
    for small h elsewhere.
    """
    d = model.d
    lines = [*model.curvature.lines(model.inputs(names), "j")]
    lines += [f"s = {1 / GAMMA!r}/h", "over_h = 1.0/h", "inner = 1.0/(s + ga)", "eg = 1.0 - ep*ga"]
    lines += ["couple = al*(ep + eg*inner)"]
    lines += [f"f{i} = couple*b{i}_j" for i in range(d)]
    for i in range(d):
        lines += [f"a{i}_{j} = f{i}*q{i}{j}_j" + (" + (s + la)" if i == j else "") for j in range(d)]
    for k in range(d):
        lines += [f"r{k} = 1.0/a{k}_{k}"]
        for i in range(k + 1, d):
            lines += [f"a{i}_{k} = a{i}_{k}*r{k}"]
            lines += [f"a{i}_{j} = a{i}_{j} - a{i}_{k}*a{k}_{j}" for j in range(k + 1, d)]
    lines += [f"g{i} = eg*inner*b{i}_j" for i in range(d)]
    return lines


def _stage(model: _Model, stage: int) -> list[str]:
    d, n, lines = model.d, 2 * model.d, []
    for i in range(n):
        if stage <= 5:
            pairs = ((a, f"k{i}_{j}") for j, a in enumerate(A[stage]))
            terms = _sum(pairs)
            lines += [f"s{i}_{stage} = y{i}" + (f" + {terms}" if terms else "")]
        else:
            lines += [f"s{i}_{stage} = s{i}_{stage - 1} + k{i}_{stage - 1}"]
    tag = str(stage)
    lines += model.velocity.lines(model.inputs([f"s{i}_{stage}" for i in range(n)]), tag)
    for i in range(n):
        terms = _sum((c, f"k{i}_{j}") for j, c in enumerate(C[stage]))
        lines += [f"z{i} = v{i}_{tag}" + (f" + over_h*({terms})" if terms else "")]
    lines += [f"o{i} = z{i} + g{i}*z{d + i}" for i in range(d)]
    for i in range(d):
        lines += [f"o{i} = o{i} - a{i}_{j}*o{j}" for j in range(i)]
    for i in reversed(range(d)):
        lines += [f"o{i} = o{i} - a{i}_{j}*k{j}_{stage}" for j in range(i + 1, d)]
        lines += [f"k{i}_{stage} = o{i}*r{i}"]
    for i in range(d):
        product = " + ".join(f"q{i}{j}_j*k{j}_{stage}" for j in range(d))
        lines += [f"k{d + i}_{stage} = (z{d + i} - al*({product}))*inner"]
    return lines


def _error(n: int, row: dict[str, int]) -> list[str]:
    """The RMS error ratio squared, and 0.9·err^(−3/16) from square roots: ``pow`` would stop the SIMD."""
    lines = [f"u{i} = k{i}_7/(atol + rtol*max(abs(y{i}), abs(n{i})))" for i in range(n)]
    lines += [f"error = ({' + '.join(f'u{i}*u{i}' for i in range(n))})*{1 / n!r}"]
    lines += ["root = math.sqrt(math.sqrt(math.sqrt(math.sqrt(max(error, 1e-60)))))"]
    lines += [
        f"w[{LANES * (row['error'])} + l] = error",
        f"w[{LANES * (row['factor'])} + l] = 0.9/(root*math.sqrt(root))",
    ]
    return lines


def _dense(n: int, row: dict[str, int]) -> list[str]:
    """y(t+θh) − y(t) as a polynomial in θ."""
    lines = []
    for i in range(n):
        for r in range(3):
            lines += [f"D{r} = {_sum((c, f'k{i}_{j}') for j, c in enumerate(DENSE[r]))}"]
        lines += [f"t{i}_1 = n{i} - y{i} + D0", f"t{i}_2 = D1 - D0", f"t{i}_3 = D2 - D1", f"t{i}_4 = -D2"]
        lines += [f"w[{LANES * (row['dense'] + 4 * i + r)} + l] = t{i}_{r + 1}" for r in range(4)]
    return lines
