"""Straight-line source of one step of a scheme for a given f and κ, eight trajectories abreast.

The step is one loop over the lanes of a single workspace array, without a branch or a call that would keep
the compiler from filling SIMD registers; every lane has its own time, step size and coefficients, and takes
or refuses its own step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import sympy as sp

from lionode.ensemble.forms import Unsupported
from lionode.ensemble.lanes import LANES
from lionode.ensemble.model import COEFFICIENTS, Model

__all__ = ["TOO_LARGE", "Scheme", "combination", "inverse", "layout", "places", "step_source"]

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
    ``step(w, rtol, atol, t_end, max_steps)`` takes a step in all lanes; ``save(w, l, grid, j, at, states)``
    writes lane l to states[at:] at the times from grid[j] on that lie in its last step, and returns the first
    j that does not.
    """
    n, row = model.n, layout(model.d, scheme.degree)

    def place(name: str, i: int = 0) -> str:
        return f"w[{LANES * (row[name] + i)} + l]"

    states = [f"y{i}" for i in range(n)]
    arc = {
        f"t{i}_{p + 1}": place("dense", scheme.degree * i + p) for i in range(n) for p in range(scheme.degree)
    }
    head = [f"{name} = {place('coefficients', i)}" for i, name in enumerate(COEFFICIENTS)]
    excess = [*head, *(f"y{i} = {place('point', i)}" for i in range(n))]
    excess += [*model.excess.lines(model.inputs(states), "e"), "return excess_e"]
    head += [f"y{i} = {place('y', i)}" for i in range(n)]
    begin = [*head, *model.evaluated(states)]
    begin += [f"{place('energy')} = H_e", f"{place('rate')} = R_e", f"{place('inside')} = inside_e"]
    save = [f"before = {place('before')}", f"over = 1.0/{place('length')}"]
    save += [
        *(f"y{i} = {place('base', i)}" for i in range(n)),
        *(f"{name} = {at}" for name, at in arc.items()),
    ]
    save += ["while True:", "    theta = (grid[j] - before)*over"]
    save += [f"    states[at + {i}] = {_interpolant(scheme, i, 'theta')}" for i in range(n)]
    save += ["    j, at = j + 1, at + N", f"    if not grid[j] <= {place('t')}:", "        return j"]
    body = [*head, f"h = {place('h')}", f"t = {place('t')}", *scheme.step(model)]
    body += [f"scale{i} = atol + rtol*max(abs(y{i}), abs(n{i}))" for i in range(n)]
    body += [*scheme.error(model), *scheme.dense(model), *model.evaluated([f"n{i}" for i in range(n)])]
    body += [*_dissipated(model, scheme, place("rate")), *(_defect(model, scheme) if model.bends else [])]
    body += [*_control(scheme, place), *_certified(place), *_watched(n, place)]
    body += [f"{place('base', i)} = y{i}" for i in range(n)]
    body += [f"{place('y', i)} = n{i} if taken else y{i}" for i in range(n)]
    body += [f"{at} = {name}" for name, at in arc.items()]
    step = ["widest()", "for l in range(LANES):", *(f"    {line}" for line in body)]
    functions = {
        "excess(w, l)": excess, "begin(w, l)": begin, "save(w, l, grid, j, at, states)": save,
        "step(w, rtol, atol, t_end, max_steps)": step,
    }  # fmt: skip
    return "\n\n".join(
        "\n".join(["@njit(**BORROWING)", f"def {head}:", *(f"    {line}" for line in lines), ""])
        for head, lines in functions.items()
    )


Place = Callable[[str], str]


def _control(scheme: Scheme, place: Place) -> list[str]:
    """Whether the step is taken, and the length of the next one.

    That is the shorter of those that an error ∝ h^q suggests after this step alone and after the last two
    (Gustafsson, ACM TOMS 20 (1994), 496): a tenth of all steps would otherwise be refused.
    """
    return [
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
        "h_new = longer if taken else shorter",
        "t_new = reached if taken else t",
        f"{place('stride')} = h if taken else {place('stride')}",
        f"{place('miss')} = error if taken else {place('miss')}",
        f"{place('before')} = t",
        f"{place('length')} = h",
        f"{place('t')} = t_new",
        f"{place('h')} = h_new",
    ]


def _certified(place: Place) -> list[str]:
    """The largest rise of H, and how far its fall is from what was dissipated, of steps within dom κ*."""
    return [
        f"both = taken & (inside_e > 0.0) & ({place('inside')} > 0.0)",
        f"rise = H_e - {place('energy')}",
        f"{place('rise')} = max({place('rise')}, rise) if both else {place('rise')}",
        f"{place('balance')} = {place('balance')} + (rise + dissipated if both else 0.0)",
        f"enters = (inside_e > 0.0) & ({place('inside')} == 0.0)",
        f"{place('energy')} = H_e if taken else {place('energy')}",
        f"{place('rate')} = R_e if taken else {place('rate')}",
        f"{place('inside')} = inside_e if taken else {place('inside')}",
    ]


def _watched(n: int, place: Place) -> list[str]:
    """Whether the driver has to look at the lane."""
    return [
        f"accepted = {place('accepted')} + (1.0 if taken else 0.0)",
        f"rejected = {place('rejected')} + (0.0 if taken else 1.0)",
        f"far = {' | '.join(f'(abs(n{i}) > {TOO_LARGE!r})' for i in range(n))}",
        "seen = taken & ((reached == t_end) | enters | far)",
        "stuck = (accepted + rejected >= max_steps) | (h_new < 1e-15*max(t_new, 1e-6*t_end))",
        f"{place('attend')} = 1.0 if seen | stuck else 0.0",
        f"{place('taken')} = 1.0 if taken else 0.0",
        f"{place('accepted')} = accepted",
        f"{place('rejected')} = rejected",
    ]


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
