"""One step of Rodas5P as source: L-stable, of order 5, for flows that are stiff where κ bends.

Source of the coefficients: G. Steinebach, "Construction of Rosenbrock-Wanner method Rodas5P and numerical
benchmarks within the Julia Differential Equations package", BIT 63 (2023), 27; in the form of Hairer &
Wanner II, §IV.7, where the stages are k_i with (I/hγ − J)k_i = F(y + Σ a_ij k_j) + Σ (c_ij/h) k_j.
"""

from __future__ import annotations

from lionode.ensemble.emit import Scheme, combination, inverse
from lionode.ensemble.model import Model

__all__ = ["RODAS5P"]

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


def _step(model: Model) -> list[str]:
    lines = _solver(model)
    for stage in range(8):
        lines += _stage(model, stage)
    lines += [f"n{i} = s{i}_7 + k{i}_7" for i in range(model.n)]
    return lines


def _solver(model: Model) -> list[str]:
    """The inverse of (1+gλ)I + g·couple·∇²κ∇²f, g = hγ, to which the m-block reduces the solve."""
    d = model.d
    lines = [*model.linearisation.lines(model.inputs([f"y{i}" for i in range(model.n)]), "0")]
    lines += [f"gh = {GAMMA!r}*h", "inner = 1.0/(1.0 + gh*ga)", "eg = gh*inner*(1.0 - ep*ga)", "gal = gh*al"]
    lines += ["couple = gal*(ep + eg)", "turned = gal*inner"]
    lines += [f"f{i}_{j} = couple*b{i}{j}_0" for i, j in model.bent]
    for i in range(d):
        for j in range(d):
            terms = [f"f{i}_{k}*q{k}{j}_0" for k in range(d) if (i, k) in model.bent]
            lines += [f"a{i}_{j} = " + " + ".join([*terms, *(["(1.0 + gh*la)"] if i == j else [])])]
    lines += inverse(d, len(model.bent) == d)
    lines += [f"g{i}_{j} = eg*b{i}{j}_0" for i, j in model.bent]
    return [*lines, *(f"p{i}_{j} = turned*q{i}{j}_0" for i in range(d) for j in range(d))]


def _stage(model: Model, stage: int) -> list[str]:
    """k solves (I − gJ)k = gF(s) + Σ γc_ij k_j, first its x-block and then, by substitution, its m-block."""
    d, n, lines = model.d, model.n, []
    for i in range(n):
        if stage <= 5:
            terms = combination((a, f"k{i}_{j}") for j, a in enumerate(A[stage]))
            lines += [f"s{i}_{stage} = y{i}" + (f" + {terms}" if terms else "")]
        else:
            lines += [f"s{i}_{stage} = s{i}_{stage - 1} + k{i}_{stage - 1}"]
    if stage > 0:
        lines += model.velocity.lines(model.inputs([f"s{i}_{stage}" for i in range(n)]), str(stage))
    for i in range(n):
        terms = combination((GAMMA * c, f"k{i}_{j}") for j, c in enumerate(C[stage]))
        lines += [f"z{i} = " + (f"{terms} + " if terms else "") + f"gh*v{i}_{stage}"]
    for i in range(d):
        lines += [f"o{i} = z{i}" + "".join(f" + g{i}_{j}*z{d + j}" for j in range(d) if (i, j) in model.bent)]
    for i in range(d):
        lines += [f"k{i}_{stage} = " + " + ".join(f"i{i}_{j}*o{j}" for j in range(d))]
    for i in range(d):
        product = " - ".join(f"p{i}_{j}*k{j}_{stage}" for j in range(d))
        lines += [f"k{d + i}_{stage} = inner*z{d + i} - {product}"]
    return lines


def _error(model: Model) -> list[str]:
    """The embedded solution of order 4 differs from the step by its last stage."""
    lines = [f"u{i} = k{i}_7*about_one_over(scale{i})" for i in range(model.n)]
    return [*lines, f"error = ({' + '.join(f'u{i}*u{i}' for i in range(model.n))})*{1 / model.n!r}"]


def _dense(model: Model) -> list[str]:
    lines = []
    for i in range(model.n):
        lines += [f"D{r} = {combination((c, f'k{i}_{j}') for j, c in enumerate(DENSE[r]))}" for r in range(3)]
        lines += [f"t{i}_1 = n{i} - y{i} + D0", f"t{i}_2 = D1 - D0", f"t{i}_3 = D2 - D1", f"t{i}_4 = -D2"]
    return lines


RODAS5P = Scheme(
    "Rodas5P", gradients=8, power=3, degree=4, nodes=4, share=1.0, step=_step, error=_error, dense=_dense
)
