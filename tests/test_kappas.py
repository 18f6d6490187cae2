"""Every potential against convex duality, brute force, finite differences and its own other forms."""

from __future__ import annotations

import json
import zlib
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tables import KAPPAS, KappaRow

from lionode import kappas as k
from lionode.kappas import Separable

ROUNDING = 1e-11
"""A few hundred roundings of numbers of order 1 to 10, through a division by t."""

DIFFERENCE = 1e-6
"""Central differences with step 1e-5: truncation 1e-10 times a third derivative, rounding 1e-11."""

TS = (0.05, 0.7, 6.0)

every_kappa = pytest.mark.parametrize("row", KAPPAS, ids=[row.id for row in KAPPAS])


def draws(row: KappaRow, count: int = 60, scale: float = 2.0) -> np.ndarray:
    """Seeded points of several sizes, with exact zeros, ties and the origin among them."""
    rng = np.random.default_rng(zlib.crc32(row.id.encode()))
    z = scale * rng.normal(size=(count, row.dim)) * rng.choice([0.1, 1.0, 3.0], size=(count, 1))
    z[0] = 0.0
    z[1, 0] = 0.0
    z[2] = 1.3
    return z


def generic(row: KappaRow) -> np.ndarray:
    """Points without exact zeros and ties."""
    return draws(row)[3:]


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sum(a * b, axis=-1)


@every_kappa
def test_fenchel_young(row: KappaRow) -> None:
    z = draws(row)
    y = row.kappa.project(draws(row)[::-1])
    size = 1 + np.abs(row.kappa.value(z)) + np.abs(row.kappa.conjugate(y))
    assert np.isfinite(row.kappa.conjugate(y)).all()
    assert (row.kappa.value(z) + row.kappa.conjugate(y) - dot(z, y) >= -ROUNDING * size).all()
    u = row.kappa.subgradient(z)
    gap = row.kappa.value(z) + row.kappa.conjugate(u) - dot(z, u)
    assert_allclose(gap / (1 + np.abs(row.kappa.value(z))), 0, atol=ROUNDING)


@every_kappa
def test_conjugate_is_the_supremum(row: KappaRow) -> None:
    """Attained at ∂κ*(y) inside, unbounded along the normal outside."""
    y = 0.9 * row.kappa.project(draws(row)) + 0.1 * row.kappa.subgradient(np.zeros(row.dim))
    best = row.kappa.conjugate_subgradient(y)
    attained = dot(y, best) - row.kappa.value(best)
    # artanh and its like amplify the rounding of y near the face
    assert_allclose(row.kappa.conjugate(y), attained, rtol=1e-9, atol=1e-9)
    beyond = 4 * draws(row)
    distance = row.kappa.distance(beyond)
    beyond, distance = beyond[distance > 0.1], distance[distance > 0.1]
    assert (row.kappa.conjugate(beyond) == np.inf).all()
    normal = (beyond - row.kappa.project(beyond)) / distance[:, None]
    near, far = (dot(beyond, s * normal) - row.kappa.value(s * normal) for s in (100.0, 300.0))
    # ∂κ stays in the domain, where the projection is the furthest along the normal
    assert (far - near >= 200 * distance * (1 - 1e-9)).all()


@every_kappa
def test_conjugate_subgradient_is_never_nan(row: KappaRow) -> None:
    far = 100 * draws(row)
    answer = row.kappa.conjugate_subgradient(row.kappa.project(far))
    assert np.isfinite(answer).all()


@every_kappa
def test_convex_with_subgradients(row: KappaRow) -> None:
    a, b = draws(row), draws(row)[::-1]
    ka, kb = row.kappa.value(a), row.kappa.value(b)
    slack = ROUNDING * (1 + np.abs(ka) + np.abs(kb))
    for w in (0.2, 0.5, 0.9):
        assert (row.kappa.value(w * a + (1 - w) * b) <= w * ka + (1 - w) * kb + slack).all()
    assert (kb >= ka + dot(row.kappa.subgradient(a), b - a) - slack * (1 + np.abs(b - a).max())).all()


@every_kappa
@pytest.mark.parametrize("t", TS)
def test_prox_minimises(row: KappaRow, t: float) -> None:
    """By strong convexity κ(q) + ‖q−z‖²/2t exceeds its minimum by ‖q−p‖²/2t, for every q: only p has this."""
    z = draws(row)
    p = row.kappa.prox(z, t)
    rng = np.random.default_rng(3)
    least = row.kappa.value(p) + dot(p - z, p - z) / (2 * t)
    for size in (1e-3, 0.1, 1.0):
        q = p + size * rng.normal(size=(40, *p.shape))
        excess = row.kappa.value(q) + dot(q - z, q - z) / (2 * t) - least - dot(q - p, q - p) / (2 * t)
        assert (excess >= -ROUNDING * (1 + np.abs(least))).all()
    u = (z - p) / t
    inside = row.kappa.project(u)
    assert_allclose(u, inside, atol=ROUNDING * (1 + np.abs(u).max()))
    gap = row.kappa.value(p) + row.kappa.conjugate(inside) - dot(p, inside)
    assert_allclose(gap / (1 + np.abs(least)), 0, atol=1e-10)


@every_kappa
@pytest.mark.parametrize("t", TS)
def test_moreau_identity(row: KappaRow, t: float) -> None:
    """prox_{tκ*}(y) minimises κ*(q) + ‖q−y‖²/2t, checked on κ* alone."""
    y = draws(row)
    p = row.kappa.conjugate_prox(y, t)
    assert_allclose(p + t * row.kappa.prox(y / t, 1 / t), y, atol=ROUNDING)
    p = row.kappa.project(p)
    least = row.kappa.conjugate(p) + dot(p - y, p - y) / (2 * t)
    q = row.kappa.project(p + 0.3 * np.random.default_rng(4).normal(size=(20, *p.shape)))
    excess = row.kappa.conjugate(q) + dot(q - y, q - y) / (2 * t) - least - dot(q - p, q - p) / (2 * t)
    assert (excess >= -1e-10 * (1 + np.abs(least))).all()


@every_kappa
def test_projection(row: KappaRow) -> None:
    y = 3 * draws(row)
    p = row.kappa.project(y)
    assert_allclose(row.kappa.project(p), p, atol=1e-13)
    assert row.kappa.contains(p).all()
    others = row.kappa.project(draws(row)[::-1])
    assert (dot(y - p, others - p) <= ROUNDING * (1 + dot(y, y))).all()
    assert_allclose(row.kappa.distance(y), np.linalg.norm(y - p, axis=-1), rtol=1e-14)


def central(function, z: np.ndarray, step: float) -> np.ndarray:
    """Columns of the Jacobian of `function` at the rows of z."""
    shifts = step * np.eye(z.shape[-1])
    return np.stack([(function(z + s) - function(z - s)) / (2 * step) for s in shifts], axis=-1)


def compare_where_differentiable(exact: np.ndarray, function, z: np.ndarray, least: float) -> None:
    """Where two steps agree there is no kink between them, and then the derivative must be the exact one."""
    fine, coarse = central(function, z, 1e-5), central(function, z, 2e-5)
    axes = tuple(range(1, fine.ndim))
    smooth = np.abs(fine - coarse).max(axis=axes) < DIFFERENCE
    assert smooth.mean() >= least
    assert_allclose(exact[smooth], fine[smooth], atol=20 * DIFFERENCE, rtol=20 * DIFFERENCE)


@every_kappa
@pytest.mark.parametrize("t", TS)
def test_prox_jacobian(row: KappaRow, t: float) -> None:
    z = generic(row)
    jacobian = row.kappa.prox_jacobian(z, t)
    compare_where_differentiable(jacobian, lambda v: row.kappa.prox(v, t), z, least=0.8)
    everywhere = row.kappa.prox_jacobian(draws(row), t)
    assert_allclose(everywhere, np.swapaxes(everywhere, -1, -2), atol=ROUNDING)
    eigenvalues = np.linalg.eigvalsh(everywhere)
    assert eigenvalues.min() >= -ROUNDING
    assert eigenvalues.max() <= 1 + ROUNDING


@every_kappa
def test_gradient_and_hessian(row: KappaRow) -> None:
    z = generic(row) / 2
    compare_where_differentiable(row.kappa.subgradient(z), row.kappa.value, z, least=0.8)
    if row.kappa.smoothness == 0:
        with pytest.raises(ValueError, match="has no Hessian"):
            row.kappa.hessian(z)
    else:
        compare_where_differentiable(row.kappa.hessian(z), row.kappa.subgradient, z, least=0.8)


@pytest.mark.parametrize("row", [row for row in KAPPAS if row.kappa.lipschitz < np.inf], ids=repr)
def test_lipschitz_constant(row: KappaRow) -> None:
    rng = np.random.default_rng(5)
    a = np.concatenate([rng.normal(size=(4000, row.dim)), rng.normal(size=(4000, row.dim)) * 1e-3])
    b = a + rng.normal(size=a.shape) * 10.0 ** rng.uniform(-4, 0, (len(a), 1))
    turned = np.linalg.norm(row.kappa.subgradient(a) - row.kappa.subgradient(b), axis=1)
    ratio = turned / np.linalg.norm(a - b, axis=1) / row.kappa.lipschitz
    assert ratio.max() <= 1 + 1e-9
    # It is not just any upper bound; the softmax needs two equal large components to reach it.
    assert ratio.max() >= 0.6


@every_kappa
def test_broadcasting(row: KappaRow) -> None:
    z = draws(row, 6)
    kappa = row.kappa
    questions = [
        kappa.value,
        kappa.subgradient,
        kappa.project,
        kappa.conjugate,
        kappa.conjugate_subgradient,
        lambda v: kappa.prox(v, 0.7),
        lambda v: kappa.prox_jacobian(v, 0.7),
    ] + ([kappa.hessian] if kappa.smooth else [])
    for ask in questions:
        block = ask(z.reshape(2, 3, row.dim))
        rows = np.stack([ask(v) for v in z])
        assert_allclose(block.reshape(rows.shape), rows, rtol=1e-12, atol=1e-14)


SEPARABLE = [row for row in KAPPAS if isinstance(row.kappa, Separable)]


@pytest.mark.parametrize("row", SEPARABLE, ids=[row.id for row in SEPARABLE])
def test_compiled_agrees_with_numpy(row: KappaRow) -> None:
    z = np.concatenate([draws(row)[:12].ravel(), [0.0]])
    dphi, constants = row.kappa.compiled_dphi()
    assert_allclose([dphi(v, *constants) for v in z], row.kappa.subgradient(z), rtol=1e-12, atol=1e-14)
    if row.kappa.smooth:
        d2phi, constants = row.kappa.compiled_d2phi()
        numpys = np.diagonal(row.kappa.hessian(z))
        assert_allclose([d2phi(v, *constants) for v in z], numpys, rtol=1e-12, atol=1e-14)
    else:
        with pytest.raises(ValueError, match="has no Hessian"):
            row.kappa.compiled_d2phi()


def test_compiled_once_per_class() -> None:
    assert k.Huber(0.3).compiled_dphi()[0] is k.Huber(1.7).compiled_dphi()[0]
    assert k.Scaled(k.L1(), 2.0).compiled_dphi()[0] is k.Scaled(k.L1(), 3.0).compiled_dphi()[0]


@every_kappa
def test_symbolic_forms(row: KappaRow) -> None:
    z = sp.symbols(f"z:{row.dim}", real=True)
    forms = [(row.kappa.symbolic(z), row.kappa.value, draws(row)[1:6])]
    inside = 0.8 * row.kappa.project(draws(row)) + 0.2 * row.kappa.subgradient(np.full(row.dim, 0.1))
    forms.append((row.kappa.symbolic_conjugate(z), row.kappa.conjugate, inside[1:6]))
    for expression, numeric, points in forms:
        if expression is not None:
            exact = [float(expression.subs(dict(zip(z, map(float, v), strict=True)))) for v in points]
            assert_allclose(numeric(points), exact, rtol=1e-9, atol=1e-9)


def test_which_have_no_symbolic_form() -> None:
    """So that a form that disappears is noticed."""
    z = sp.symbols("z:6", real=True)
    without = {row.id for row in KAPPAS if row.kappa.symbolic(z[: row.dim]) is None}
    assert without == {
        row.id for row in KAPPAS if row.id.startswith(("TopK", "Nuclear", "MoreauEnvelope", "Scaled(Moreau"))
    }


@every_kappa
def test_spec_round_trip(row: KappaRow) -> None:
    again = k.from_spec(json.loads(json.dumps(k.to_spec(row.kappa))))
    assert again == row.kappa
    assert hash(again) == hash(row.kappa)
    z = draws(row)
    np.testing.assert_array_equal(again.prox(z, 0.7), row.kappa.prox(z, 0.7))


@pytest.mark.parametrize("row", [r for r in KAPPAS if r.kappa.kinks], ids=lambda r: r.id)
def test_kinks_and_slopes(row: KappaRow) -> None:
    kinks, slopes = row.kappa.kinks, row.kappa.slopes
    assert len(slopes) == len(kinks) + 1
    ends = [kinks[0] - 2, *kinks, kinks[-1] + 2]
    middles = np.array([[(a + b) / 2] for a, b in pairwise(ends)])
    assert_allclose(row.kappa.subgradient(middles)[:, 0], slopes)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_topk_projection_on_ties(d: int, k_largest: int, seed: int) -> None:
    """Small integers and halves make every tie and saturation there is."""
    y = np.random.default_rng(seed).integers(-6, 7, size=d) / 2.0
    kappa = k.TopK(min(k_largest, d))
    p = kappa.project(y)
    assert np.abs(p).max() <= 1
    assert np.abs(p).sum() <= kappa.k + ROUNDING
    # The support function of the set at the normal is attained at p: the variational inequality, exactly.
    assert kappa.value(y - p) == pytest.approx((y - p) @ p, abs=ROUNDING)


POINTS = np.random.default_rng(8).normal(size=(40, 4)) * 2

EQUIVALENT = [
    ("envelope of L1 is Huber", k.MoreauEnvelope(k.L1(), 0.3), k.Huber(0.3), 1e-13),
    ("PseudoHuber tends to L1", k.PseudoHuber(1e-12), k.L1(), 1e-10),
    ("LogCosh tends to L1", k.LogCosh(1e-12), k.L1(), 1e-10),
    ("Lp(2) is one group", k.Lp(2.0), k.GroupL2([[0, 1, 2, 3]]), 1e-13),
    ("groups of one are L1", k.GroupL2([[0], [1], [2], [3]]), k.L1(), 1e-13),
    ("TopK(d) is L1", k.TopK(4), k.L1(), 1e-13),
    ("TopK(1) is LInf", k.TopK(1), k.LInf(), 1e-13),
    ("a row's Nuclear is Lp(2)", k.Nuclear((1, 4)), k.Lp(2.0), 1e-12),
    ("a column's Nuclear is Lp(2)", k.Nuclear((4, 1)), k.Lp(2.0), 1e-12),
    ("Lp tends to L1", k.Lp(1 + 1e-9), k.L1(), 1e-6),
    ("Lp tends to LInf in value", k.Lp(1e5), k.LInf(), 1e-4),
    ("Power(2) is Quadratic", k.Power(2.0), k.Quadratic(), 1e-13),
    ("SoftThreshold tends to L1", k.SoftThreshold(1e-13), k.L1(), 1e-11),
    ("expression of Quadratic", k.from_expression("z**2/2"), k.Quadratic(), 1e-13),
    ("expression of PseudoHuber", k.from_expression("sqrt(z**2 + 0.09)"), k.PseudoHuber(0.3), 1e-12),
    ("expression of SoftThreshold", k.from_expression("max(abs(z) - 0.4, 0)"), k.SoftThreshold(0.4), 1e-12),
]


@pytest.mark.parametrize(("a", "b", "tol"), [e[1:] for e in EQUIVALENT], ids=[e[0] for e in EQUIVALENT])
def test_known_equivalences(a: k.Potential, b: k.Potential, tol: float) -> None:
    assert_allclose(a.value(POINTS), b.value(POINTS), atol=tol, rtol=tol)
    assert_allclose(a.prox(POINTS, 0.7), b.prox(POINTS, 0.7), atol=tol, rtol=tol)
    inside = 0.5 * b.project(POINTS)
    assert_allclose(a.conjugate(inside), b.conjugate(inside), atol=tol, rtol=tol)


NEWTON = [
    ("pseudo-huber", k.PseudoHuber, lambda w, e: w / mpmath.sqrt(w * w + e * e), (1e-8, 0.3, 40.0)),
    ("log-cosh", k.LogCosh, lambda w, e: mpmath.tanh(w / e), (1e-8, 0.3, 40.0)),
    ("power", k.Power, lambda w, p: w ** (p - 1), (1.05, 1.5, 2.0, 3.0, 9.0)),
]


@pytest.mark.parametrize(("cls", "slope", "numbers"), [n[1:] for n in NEWTON], ids=[n[0] for n in NEWTON])
def test_prox_by_newton_has_full_precision(cls, slope, numbers) -> None:
    """Against bisection with 50 digits, also at |z| = t where the bend of a small e decides."""
    with mpmath.workdps(50):
        for number in numbers:
            for z, t in ((0.7, 0.7), (1e-6, 3.0), (5.0, 0.01), (0.5, 2.0), (300.0, 7.0)):
                low, high = mpmath.mpf(0), mpmath.mpf(z)
                for _ in range(160):
                    middle = (low + high) / 2
                    rising = middle + t * slope(middle, mpmath.mpf(number)) < z
                    low, high = (middle, high) if rising else (low, middle)
                computed = float(cls(number).prox([z], t)[0])
                assert abs(computed - float(low)) <= 4e-16 * z + 1e-13 * float(low), (number, z, t)


BOUNDED = [
    row for row in KAPPAS if row.kappa in (k.L1(), k.Huber(0.3), k.PseudoHuber(0.3), k.LogCosh(0.3),
                                           k.SoftThreshold(0.3), k.Lp(1.5), k.Lp(4.0), k.LInf(),
                                           k.LogSumExp(), k.TopK(2))
]  # fmt: skip


@pytest.mark.parametrize("row", BOUNDED, ids=[row.id for row in BOUNDED])
@pytest.mark.parametrize("size", [0.0, 1e-300, 1e-30, 1e30, 1e300])
def test_huge_and_tiny(row: KappaRow, size: float) -> None:
    z = size * np.array([1.0, -0.5, 0.25, 0.0])
    u = row.kappa.subgradient(z)
    assert np.isfinite(row.kappa.value(z))
    assert np.isfinite(u).all()
    assert np.isfinite(row.kappa.conjugate(u))
    z = np.minimum(size, 1e150) * np.array([1.0, -0.5, 0.25, 0.0])
    p = row.kappa.prox(z, 0.7)
    assert np.isfinite(p).all()
    assert (np.abs(p - z) <= 0.7 * (1 + 1e-12) + 1e-12 * np.abs(z)).all()


def test_selection_at_ties_and_kinks() -> None:
    assert_allclose(k.L1().subgradient([0.0, -2.0]), [0, -1])
    assert_allclose(k.SoftThreshold(0.5).subgradient([0.5, -0.5, 0.6]), [0, 0, 1])
    assert_allclose(k.LInf().subgradient([1.0, -2.0, 2.0]), [0, -1, 0])
    assert_allclose(k.TopK(2).subgradient([2.0, -2.0, 2.0]), [1, -1, 0])
    assert_allclose(k.Lp(3.0).subgradient([0.0, 0.0]), [0, 0])
    assert_allclose(k.Nuclear((2, 2)).subgradient([3.0, 0.0, 0.0, 0.0]), [1, 0, 0, 0])


def test_symbolic_conjugates_found_by_inversion() -> None:
    y = sp.Symbol("y", real=True)
    assert k.from_expression("exp(z)").symbolic_conjugate([y]).equals(y * sp.log(y) - y)
    found = k.from_expression("3*z**2 + z").symbolic_conjugate([y])
    assert sp.simplify(found - (y - 1) ** 2 / 12) == 0


def test_expression_domain_is_one_sided_for_exp() -> None:
    kappa = k.from_expression("exp(z)")
    assert_allclose(kappa.project([-2.0, 3.0]), [0, 3])
    assert kappa.conjugate([-0.1]) == np.inf
    assert_allclose(k.Scaled(kappa, 2.0).conjugate([3.0]), 2 * (1.5 * np.log(1.5) - 1.5), rtol=1e-12)


def test_parse() -> None:
    assert k.parse("huber:0.3") == k.Huber(0.3)
    assert k.parse("L1") == k.L1()
    assert k.parse("top-k:3") == k.TopK(3)


BAD = [
    (lambda: k.Lp(1.0), ValueError, "p must be > 1"),
    (lambda: k.Lp(np.inf), ValueError, "p must be finite"),
    (lambda: k.Power(0.5), ValueError, "p must be > 1"),
    (lambda: k.Huber(0.0), ValueError, "e must be > 0"),
    (lambda: k.PseudoHuber(-1.0), ValueError, "e must be > 0"),
    (lambda: k.LogCosh(np.nan), ValueError, "e must be finite"),
    (lambda: k.SoftThreshold("a"), TypeError, "e must be a real number"),
    (lambda: k.TopK(3).value([1.0, 2.0]), ValueError, "got k = 3 .* d = 2"),
    (lambda: k.TopK(2.0), TypeError, "k must be an integer"),
    (lambda: k.TopK(0), ValueError, "k must be an integer ≥ 1"),
    (lambda: k.GroupL2([[0, 1], [1, 2]]), ValueError, "must partition"),
    (lambda: k.GroupL2([[0], [2]]), ValueError, "must partition"),
    (lambda: k.GroupL2([[0], []]), ValueError, "must partition"),
    (lambda: k.GroupL2([]), ValueError, "must partition"),
    (lambda: k.GroupL2([0, 1]), TypeError, "list of lists"),
    (lambda: k.Nuclear((2,)), ValueError, "two positive integers"),
    (lambda: k.Nuclear((2, 0)), ValueError, "shape must be an integer ≥ 1"),
    (lambda: k.Nuclear((2, 2.5)), TypeError, "shape must be an integer"),
    (lambda: k.Nuclear((2, 2)).value([1.0, 2.0]), ValueError, "4 components"),
    (lambda: k.Scaled(k.L1(), 0.0), ValueError, "weight must be > 0"),
    (lambda: k.Scaled("l1", 2.0), TypeError, "kappa must be a Potential"),
    (lambda: k.MoreauEnvelope(k.L1(), -1.0), ValueError, "tau must be > 0"),
    (lambda: k.L1().value(1.0), ValueError, "last axis"),
    (lambda: k.L1().value([np.nan]), ValueError, "finite"),
    (lambda: k.L1().value([1j]), TypeError, "real"),
    (lambda: k.L1().prox([1.0], 0.0), ValueError, "t must be > 0"),
    (lambda: k.parse("nothing"), ValueError, "kappa must be one of"),
    (lambda: k.parse("huber:x"), ValueError, "numbers after the colon"),
    (lambda: k.from_expression("z**3"), ValueError, "must be convex.* at z = -"),
    (lambda: k.from_expression("-abs(z)"), ValueError, "must be convex.* z = "),
    (lambda: k.from_expression("(z**2 - 0.01)**2"), ValueError, "must be convex"),
    (lambda: k.from_expression("z**2 + 1.5*cos(z)"), None, ""),
    (lambda: k.from_expression("z**2 + 3*cos(z)"), ValueError, "must be convex"),
    (lambda: k.from_expression("log(z)"), ValueError, "finite"),
    (lambda: k.from_expression("z*x"), ValueError, "one symbol z"),
    (lambda: k.from_expression("2"), ValueError, "one symbol z"),
    (lambda: k.from_expression("__import__('os')"), ValueError, "expression"),
    (lambda: k.from_expression(3), TypeError, "text or a sympy expression"),
    (lambda: k.from_spec({"name": "nothing"}), ValueError, "name of kappa"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "error", "match"), BAD)
def test_bad_input(build, error, match) -> None:
    if error is None:
        build()
        return
    with pytest.raises(error, match=match) as caught:
        build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["exp(z)", "cosh(z/2)", "z**8/8"])
def test_the_prox_of_a_formula_far_out(text):
    kappa = k.from_expression(text)
    p = np.array([-30.0, -4.0, 0.7, 5.0, 20.0, 100.0])
    for t in (0.3, 1.0, 7.0):
        np.testing.assert_allclose(kappa.prox(p + t * kappa.subgradient(p), t), p, rtol=1e-9)
