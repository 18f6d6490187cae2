"""Formulas and arithmetic of compiled lanes, over every potential of the table."""

from __future__ import annotations

import re

import mpmath
import numpy as np
import pytest
import sympy as sp
from tables import KAPPAS, KappaRow

import lionode as ln
from lionode.ensemble import simd
from lionode.ensemble.compile import kernel_source
from lionode.ensemble.forms import TAU, Unsupported, form_of
from lionode.ensemble.model import COEFFICIENTS, loss_source
from lionode.ensemble.rodas5p import RODAS5P
from lionode.kappas import GroupL2, LInf, MoreauEnvelope, Potential, TopK
from lionode.lyapunov.function import weight

TAU_VALUE = 0.07
MORE = [
    KappaRow("LInf on R³", LInf(), 3),
    KappaRow("Scaled(LInf)", ln.kappas.Scaled(LInf(), 1.7), 2),
    KappaRow("GroupL2 on R³", GroupL2([[0, 2], [1]]), 3),
    KappaRow("TopK(2) on R³", TopK(2), 3),
    KappaRow("envelope of Lp(4)", MoreauEnvelope(ln.kappas.Lp(4), 0.3), 2),
    KappaRow("envelope of 2 Lp(4)", MoreauEnvelope(ln.kappas.Scaled(ln.kappas.Lp(4), 2.0), 0.3), 2),
]
NO_FORM = {
    "envelope of Lp(4)", "envelope of 2 Lp(4)",
    "Power(1.5)", "TopK(2) on R³", "Nuclear([2, 3])", "Nuclear([3, 2])",
    "MoreauEnvelope(LogCosh(0.3), 0.4)",
    "MoreauEnvelope(Nuclear([2, 3]), 0.3)", "MoreauEnvelope(Scaled(Power(1.5), 0.7), 0.3)",
    "from_expression('z**2/10 + sqrt(z**2 + 1/4)')", "Scaled(from_expression('log(exp(z) + 1)'), 1.6)",
    "MoreauEnvelope(from_expression('3*z**2/10 + Abs(z)'), 0.6)",
}  # fmt: skip
"""Those that take `simulate`."""


def dim(row: KappaRow) -> int:
    return row.dim if row in MORE else row.kappa.dim or max(row.kappa.least_dim, 2)


def envelope(kappa: Potential) -> Potential:
    """What the lanes integrate."""
    return kappa if kappa.smooth else MoreauEnvelope(kappa, TAU_VALUE)


def test_only_the_listed_potentials_have_no_form() -> None:
    without = set()
    for row in [*KAPPAS, *MORE]:
        try:
            form_of(row.kappa, dim(row))
        except Unsupported:
            without.add(row.id)
    assert without == NO_FORM


def is_norm(kappa: Potential) -> bool:
    """‖·‖_p with p ≠ 2, or a multiple of it."""
    inner = kappa.kappa if isinstance(kappa, ln.kappas.Scaled) else kappa
    return isinstance(inner, ln.kappas.Lp) and inner.p != 2


@pytest.fixture(params=[row for row in [*KAPPAS, *MORE] if row.id not in NO_FORM], ids=lambda row: row.id)
def row(request) -> KappaRow:
    return request.param


def at(form_row: KappaRow, formula, points) -> np.ndarray:
    """A formula in the symbols s at each of the points."""
    values = sp.lambdify([sp.symbols(f"s:{dim(form_row)}", real=True), TAU], formula, "numpy", cse=True)
    return np.array([np.asarray(values(point, TAU_VALUE), dtype=float) for point in points])


def test_formulas_are_those_of_the_potential(row) -> None:
    if is_norm(row.kappa):
        pytest.skip("smoothed in its own norm: see the next test")
    kappa, d = envelope(row.kappa), dim(row)
    form, s = form_of(row.kappa, d), sp.symbols(f"s:{d}", real=True)
    rng = np.random.default_rng(3)
    z = np.concatenate([rng.normal(size=(20, d)), 0.05 * rng.normal(size=(20, d))])
    close = {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(at(row, form.value(s), z), kappa.value(z), **close)
    np.testing.assert_allclose(at(row, sp.Matrix(form.gradient(s)), z)[..., 0], kappa.subgradient(z), **close)
    np.testing.assert_allclose(at(row, form.hessian(s), z), kappa.hessian(z), rtol=1e-9, atol=1e-12)
    # Not at the edge, where ∂κ* may be unbounded, but in the affine hull of dom κ*.
    y = 0.9 * kappa.project(z) + 0.1 * kappa.subgradient(np.zeros(d))
    held = form.held(s)
    dual = sp.Matrix(form.conjugate_subgradient(held))
    np.testing.assert_allclose(at(row, form.conjugate(held), y), kappa.conjugate(y), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(at(row, dual, y)[..., 0], kappa.conjugate_subgradient(y), rtol=1e-9, atol=1e-9)
    everywhere = np.concatenate([y, kappa.project(z), 1.3 * z])
    excess = at(row, form.excess(s, sp.Float(1 + 1e-12)), everywhere)
    assert ((excess <= 0) == kappa.contains(everywhere)).all()


@pytest.mark.parametrize("p", [1.5, 3.0, 4.0])
def test_a_norm_is_smoothed_in_itself(p) -> None:
    """Fenchel and Young's equality, slopes by differences, and within τ/2 of the norm."""
    row = KappaRow(f"Lp({p})", ln.kappas.Lp(p), 2)
    form, s = form_of(row.kappa, 2), sp.symbols("s:2", real=True)
    rng = np.random.default_rng(4)
    z = np.concatenate([rng.normal(size=(20, 2)), 0.03 * rng.normal(size=(20, 2))])
    value, u = at(row, form.value(s), z), at(row, sp.Matrix(form.gradient(s)), z)[..., 0]
    norm = row.kappa.value(z)
    assert 5 < (norm < TAU_VALUE).sum() < 35
    assert (value <= norm).all()
    assert (value >= norm - TAU_VALUE / 2 - 1e-14).all()
    np.testing.assert_allclose(value + at(row, form.conjugate(s), u), np.sum(z * u, axis=1), atol=1e-12)
    h = 1e-6
    for i, step in enumerate(h * np.eye(2)):
        slopes = (at(row, form.value(s), z + step) - at(row, form.value(s), z - step)) / (2 * h)
        np.testing.assert_allclose(u[:, i], slopes, atol=1e-6)
        bends = at(row, sp.Matrix(form.gradient(s)), z + step) - at(
            row, sp.Matrix(form.gradient(s)), z - step
        )
        np.testing.assert_allclose(
            at(row, form.hessian(s), z)[..., i], bends[..., 0] / (2 * h), rtol=1e-4, atol=1e-4
        )
        y = np.sign(u) * (0.2 + 0.3 * np.abs(u))
        duals = at(row, form.conjugate(s), y + step) - at(row, form.conjugate(s), y - step)
        dual = at(row, sp.Matrix(form.conjugate_subgradient(s)), y)[:, i, 0]
        np.testing.assert_allclose(dual, duals / (2 * h), atol=1e-6)
    everywhere = np.concatenate([0.999 * u, 1.4 * z])
    excess = at(row, form.excess(s, sp.Float(1.0)), everywhere)
    assert ((excess <= 0) == row.kappa.contains(everywhere)).all()


def test_lanes_integrate_every_form_as_scipy_does(row) -> None:
    """The emitted step and its driver, run as plain Python, against Radau."""
    kappa, d, tau, close = envelope(row.kappa), dim(row), TAU_VALUE, 1e-4
    if d > 3:
        pytest.skip("not separable: lanes take it up to d = 3")
    if is_norm(row.kappa):
        # No potential of the catalogue is its envelope: with a small τ both are near the norm itself.
        kappa, tau, close = row.kappa, 1e-5, 2e-4
    symbols = [f"x{i + 1}" for i in range(d)]
    f = ln.objectives.from_expression(
        " + ".join(f"(x{i + 1} - {0.3 * i + 0.4})**2" for i in range(d)) + "+ x1*x2/2"
    )
    assert [str(s) for s in f.symbols] == symbols
    system = ln.LionK(f, kappa, alpha=0.7, gamma=1.3, epsilon=0.4, lam=0.6)
    source = re.sub(r"@njit\(\*\*[A-Z]+\)|    widest\(\)\n", "", kernel_source(f, row.kappa, RODAS5P))
    module: dict = {"__name__": "plain"}
    exec(compile(source, "<kernel>", "exec"), module)
    drift, penalty = (0.6 + 1.3) / (1 + 0.4 * 0.6), 1.3 / 0.6
    given = dict(
        zip(
            COEFFICIENTS,
            (0.7, 1.3, 0.4, 0.6, weight(system), drift, penalty, tau, 1 + 1e-12),
            strict=True,
        )
    )
    rng = np.random.default_rng(5)
    starts, grid = rng.normal(size=(2, 2 * d)), np.linspace(0, 0.6, 5)
    states, report = np.full((2, 5, 2 * d), np.nan), np.zeros((2, 7 + 2 * d))
    with np.errstate(all="ignore"):
        module["advance"](
            starts, np.tile(list(given.values()), (2, 1)), grid, 0.6, 1e-6, 1e-8, 10_000, 0, 2, states, report
        )
    for start, path, told in zip(starts, states, report, strict=True):
        method, tol = ("Radau", 1e-10) if kappa.smooth else ("moreau", 1e-6)
        run = ln.simulate(system, start[:d], 0.6, start[d:], method, tol, tol / 100, grid)
        np.testing.assert_allclose(path, np.concatenate([run.x, run.m], axis=1), rtol=close, atol=close)
        assert told[0] == 0
        certificate = ln.certify(run, optimum=False)
        assert told[2] == pytest.approx(certificate.entry_time, rel=1e-4)


@pytest.mark.parametrize(
    ("ours", "theirs", "scale", "arguments"),
    [
        (simd.exp, mpmath.exp, None, np.linspace(-700, 700, 997)),
        (simd.exp, mpmath.exp, None, np.linspace(-1, 1, 500)),
        (simd.log, mpmath.log, None, np.geomspace(1e-300, 1e300, 997)),
        (simd.log, mpmath.log, None, np.linspace(0.4, 2.1, 500)),
        (simd.tanh, mpmath.tanh, 1, np.linspace(-30, 30, 997)),
        (simd.rsqrt, lambda s: 1 / mpmath.sqrt(s), None, np.geomspace(1e-300, 1e300, 997)),
    ],
)
def test_functions_are_right_to_three_roundings(ours, theirs, scale, arguments) -> None:
    for s in map(float, arguments):
        exact = theirs(mpmath.mpf(s))
        assert abs(mpmath.mpf(float(ours(s))) - exact) <= 3 * 2.0**-53 * (scale or abs(exact))


def test_functions_keep_what_is_no_number() -> None:
    assert simd.exp(800.0) == np.inf
    assert simd.exp(-800.0) == 0.0
    assert simd.exp(np.inf) == np.inf
    assert simd.exp(-np.inf) == 0.0
    assert np.isnan(simd.exp(np.nan))
    assert simd.log(0.0) == -np.inf
    assert simd.log(np.inf) == np.inf
    assert np.isnan(simd.log(-1.0))
    assert np.isnan(simd.log(np.nan))
    assert np.isnan(simd.tanh(np.nan))


@pytest.mark.parametrize("text", ["x1**14", "x1**(-15)", "x1**2.5", "x1**(7/2)", "x1**(1/3)"])
@pytest.mark.parametrize("x", [-1.3, 1.3])
def test_powers_are_printed_as_they_are(text, x) -> None:
    """An odd or even power of a negative number is one; a broken power of it is none."""
    f = ln.objectives.from_expression(text)
    module: dict = {name: getattr(simd, name) for name in ("exp", "log")} | {"math": np}
    source = loss_source(f)
    exec(re.sub(r"@njit\(.*\)", "", source), module)
    with np.errstate(invalid="ignore"):
        expected = float(f.value([x]))
        assert float(module["value"](np.array([x]), 0)) == pytest.approx(expected, rel=1e-14, nan_ok=True)


@pytest.mark.parametrize("s", [1e-300, 3e-5, 1.0, 1.7, 4e200])
def test_rough_functions_keep_their_word(s) -> None:
    assert simd.about_one_over(s) * s == pytest.approx(1, abs=0.003)
    assert simd.thirty_second(s, 3) == pytest.approx(s ** (-3 / 32), rel=0.07)
