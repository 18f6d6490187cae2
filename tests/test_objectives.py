"""Every objective: derivatives, curvature constants, minima, broadcasting, and what is refused."""

from __future__ import annotations

import sys

import mpmath
import numpy as np
import pytest
import scipy.sparse
import sympy as sp
from systems import A2, B2

import lionode as ln
from lionode.objectives import FACTORIES, NonFiniteError, from_spec

RNG = np.random.default_rng(5)
DATA = RNG.normal(size=(12, 3))
LABELS = np.sign(RNG.normal(size=12))
make = ln.objectives

OBJECTIVES = {
    "quadratic": make.quadratic(A2, B2),
    "sparse quadratic": make.quadratic(scipy.sparse.diags_array([1.5, 2.5, 0.7]), [1.0, -2.0, 0.3]),
    "singular quadratic": make.quadratic(np.ones((3, 3)), np.ones(3)),
    "indefinite quadratic": make.quadratic(np.diag([2.0, -1.0])),
    "linear": make.linear([1.5, -0.3]),
    "rosenbrock": make.rosenbrock(2, 1.0, 10.0),
    "rosenbrock 5": make.rosenbrock(5),
    "rosenbrock a": make.rosenbrock(2, 1.5, 30.0),
    "himmelblau": make.himmelblau(),
    "double well": make.double_well(3),
    "least squares": make.least_squares(DATA, LABELS),
    "logistic": make.logistic(DATA, LABELS, l2=0.3),
    "logistic 01": make.logistic(DATA, (LABELS + 1) / 2),
    "expression": make.from_expression("exp(x1*x2/3) + log(1 + x1**2) + 0.1*cosh(x3)"),
    "one variable": make.from_expression("sqrt(1 + x**4)"),
    "kinks": make.from_expression("abs(x)**3 + max(y, x/2)**2 + 0.12345678901234567*x*1e20*1e-20"),
    "constant direction": make.from_expression("(x1 - 2)**2", symbols=["x1", "x2"]),
}
NETWORKS = {
    "digits_linear": make.digits_linear(l2=0.02, batch_size=300),
    "digits_network": make.digits_network(4, l2=0.02, batch_size=300, seed=3),
}
TABLE = pytest.mark.parametrize("f", OBJECTIVES.values(), ids=OBJECTIVES.keys())


def test_every_factory_is_in_the_table() -> None:
    tables = [*OBJECTIVES.values(), *NETWORKS.values()]
    assert {f.spec[0] for f in tables} == set(FACTORIES)


@TABLE
def test_derivatives_against_differences(f: ln.Objective) -> None:
    rng = np.random.default_rng(6)
    for x in rng.normal(size=(5, f.dim)):
        step = 1e-5
        shifts = step * np.eye(f.dim)
        slope = [(f.value(x + s) - f.value(x - s)) / (2 * step) for s in shifts]
        np.testing.assert_allclose(f.gradient(x), slope, rtol=1e-6, atol=1e-6)
        hessian = f.hessian(x)
        hessian = hessian.toarray() if scipy.sparse.issparse(hessian) else hessian
        bend = [(f.gradient(x + s) - f.gradient(x - s)) / (2 * step) for s in shifts]
        np.testing.assert_allclose(hessian, bend, rtol=1e-6, atol=1e-5)


@TABLE
def test_leading_axes_are_rows(f: ln.Objective) -> None:
    x = np.random.default_rng(7).normal(size=(2, 3, f.dim))
    assert f.value(x).shape == (2, 3)
    assert f.gradient(x).shape == (2, 3, f.dim)
    assert f.hessian(x).shape == (2, 3, f.dim, f.dim)
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(f.value(x)[i], f.value(x[i]), rtol=1e-13)
        np.testing.assert_allclose(f.gradient(x)[i], f.gradient(x[i]), rtol=1e-13, atol=1e-14)
        single = f.hessian(x[i])
        single = single.toarray() if scipy.sparse.issparse(single) else single
        np.testing.assert_allclose(f.hessian(x)[i], single, rtol=1e-13, atol=1e-14)


@TABLE
def test_curvature_constants_hold_on_pairs(f: ln.Objective) -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(2, 200, f.dim))
    difference, distance = f.gradient(x) - f.gradient(y), np.linalg.norm(x - y, axis=-1)
    if f.smoothness is not None:
        assert (np.linalg.norm(difference, axis=-1) <= f.smoothness * distance * (1 + 1e-12)).all()
    if f.strong_convexity is not None:
        inner = np.sum(difference * (x - y), axis=-1)
        assert (inner >= f.strong_convexity * distance**2 - 1e-12).all()


@TABLE
def test_minimum_is_attained_and_is_one(f: ln.Objective) -> None:
    if f.minimizer is not None:
        assert float(f.value(f.minimizer)) == pytest.approx(f.minimum, abs=1e-12)
        np.testing.assert_allclose(f.gradient(f.minimizer), 0, atol=1e-10)
    if f.minimum is not None:
        points = np.random.default_rng(9).normal(size=(300, f.dim)) * 2
        assert (f.value(points) >= f.minimum - 1e-12).all()


@TABLE
def test_spec_rebuilds(f: ln.Objective) -> None:
    again = from_spec(*f.spec)
    x = np.random.default_rng(10).normal(size=(4, f.dim))
    np.testing.assert_array_equal(again.value(x), f.value(x))
    np.testing.assert_array_equal(again.gradient(x), f.gradient(x))


@TABLE
def test_expression_is_the_same_function(f: ln.Objective) -> None:
    if f.expression is None:
        pytest.skip("has no closed form here")
    x = np.random.default_rng(11).normal(size=f.dim)
    exact = f.expression.subs(dict(zip(f.symbols, x, strict=True)))
    assert float(exact) == pytest.approx(float(f.value(x)), rel=1e-12)


@TABLE
def test_derivatives_against_forty_digits(f: ln.Objective) -> None:
    if f.expression is None:
        pytest.skip("has no closed form here")
    # mpmath differentiates the values of the formula numerically: it shares no derivative with the code.
    value = sp.lambdify(f.symbols, f.expression, "mpmath")
    x = np.random.default_rng(13).normal(size=f.dim)
    unit = np.eye(f.dim, dtype=int)
    with mpmath.workdps(40):
        at = tuple(map(mpmath.mpf, x.tolist()))
        slope = [float(mpmath.diff(value, at, tuple(e.tolist()))) for e in unit]
        bend = [[float(mpmath.diff(value, at, tuple((a + b).tolist()))) for a in unit] for b in unit]
    np.testing.assert_allclose(f.gradient(x), slope, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(f.hessian(x), bend, rtol=1e-12, atol=1e-12)


def test_compiled_gradient_is_the_gradient() -> None:
    names = (
        "expression",
        "himmelblau",
        "constant direction",
        "kinks",
        "rosenbrock a",
        "quadratic",
        "double well",
    )
    assert OBJECTIVES["logistic"].compiled_gradient() is None
    for name in names:
        f = OBJECTIVES[name]
        gradient = f.compiled_gradient()
        for x in np.random.default_rng(12).normal(size=(3, f.dim)):
            out = np.empty(f.dim)
            gradient(x, out)
            np.testing.assert_allclose(out, f.gradient(x), rtol=1e-13, atol=1e-14)


def test_constants_of_an_expression_with_constant_hessian() -> None:
    f = make.from_expression("(x1 - 1.5)**2 + 3*x2**2 + x1*x2")
    low, high = np.linalg.eigvalsh([[2, 1], [1, 6]])
    assert f.smoothness == pytest.approx(high)
    assert f.strong_convexity == pytest.approx(low)
    assert f.convex
    assert OBJECTIVES["expression"].convex is None


def test_a_kink_claims_no_curvature() -> None:
    assert make.from_expression("abs(x)").smoothness is None
    assert make.from_expression("max(x, 0) + y").convex is None


def test_numbers_too_long_for_integers_are_compiled() -> None:
    f = make.from_expression("1e-25*x**2 + 1e25*x")
    out = np.empty(1)
    f.compiled_gradient()(np.array([3e49]), out)
    np.testing.assert_allclose(out, 1.6e25, rtol=1e-15)
    np.testing.assert_allclose(f.gradient([3e49]), 1.6e25, rtol=1e-15)


def test_variables_are_counted_as_a_person_does() -> None:
    f = make.from_expression("x10 + 2*x9 + 3*x1")
    assert [s.name for s in f.symbols] == ["x1", "x9", "x10"]
    np.testing.assert_array_equal(f.gradient(np.zeros(3)), [3, 2, 1])


def test_a_sympy_expression_is_taken_as_it_is() -> None:
    a, b = sp.symbols("a b")
    f = make.from_expression((a - 2) ** 2 + sp.exp(b))
    np.testing.assert_allclose(f.gradient([1.0, 0.0]), [-2, 1])


def test_a_sympy_expression_is_rebuilt_from_text_exactly() -> None:
    theta, b = sp.symbols("theta_a b")
    third = 1 / 3 + 1e-16
    f = make.from_expression(third * sp.Abs(theta) ** 3 + sp.Max(b, 0) ** 2 * 0.1 + sp.exp(1) * b**4)
    name, arguments = f.spec
    assert name == "from_expression"
    assert isinstance(arguments["expression"], str)
    again = from_spec(name, arguments)
    x = np.random.default_rng(19).normal(size=(5, 2))
    np.testing.assert_array_equal(again.value(x), f.value(x))
    np.testing.assert_array_equal(again.gradient(x), f.gradient(x))
    expected = third * np.abs(x[:, 1]) ** 3 + 0.1 * np.maximum(x[:, 0], 0) ** 2 + np.e * x[:, 0] ** 4
    np.testing.assert_allclose(f.value(x), expected, rtol=1e-15)


def test_a_sympy_expression_passes_the_same_whitelist() -> None:
    x = sp.Symbol("x")
    with pytest.raises(ValueError, match="is not one of the functions"):
        make.from_expression(sp.Function("system")(x))


def test_finite_difference_hessian_only_on_request() -> None:
    plain = ln.Objective(lambda x: float(np.sum(x**4)), lambda x: 4 * x**3, dim=2)
    assert not plain.has_hessian
    with pytest.raises(ValueError, match="finite-difference"):
        plain.hessian([1.0, 2.0])
    asked = ln.Objective(lambda x: float(np.sum(x**4)), lambda x: 4 * x**3, "finite-difference", dim=2)
    np.testing.assert_allclose(asked.hessian([1.0, 2.0]), np.diag([12.0, 48.0]), rtol=1e-7, atol=1e-8)
    assert asked.hessian(np.ones((3, 2))).shape == (3, 2, 2)


def test_plain_callables_are_called_point_by_point() -> None:
    f = ln.Objective(lambda x: float(x[0] ** 2 + x[1]), lambda x: np.array([2 * x[0], 1.0]), dim=2)
    assert f.value(np.ones((4, 2))).shape == (4,)
    assert f.gradient(np.ones((4, 5, 2))).shape == (4, 5, 2)


def weights(f: ln.Objective, *shape: int) -> np.ndarray:
    return np.random.default_rng(13).normal(size=(*shape, f.dim)) / 4


NETWORK = pytest.mark.parametrize("f", NETWORKS.values(), ids=NETWORKS.keys())


@NETWORK
def test_network_gradient_against_differences_in_every_block(f) -> None:
    x, step = weights(f), 1e-5
    assert list(f.layout.values())[-1].stop == f.dim
    for block in f.layout.values():
        direction = np.zeros(f.dim)
        direction[block] = np.random.default_rng(14).normal(size=block.stop - block.start)
        slope = (f.value(x + step * direction) - f.value(x - step * direction)) / (2 * step)
        assert f.gradient(x) @ direction == pytest.approx(slope, rel=1e-6)


@NETWORK
def test_network_value_from_the_definition(f) -> None:
    x = weights(f)
    images, labels = f._images, f._targets
    total = 0.0
    for image, label in zip(images, labels, strict=True):
        signal, last = image, len(f.layout) // 2
        for i in range(1, last + 1):
            matrix = x[f.layout[f"W{i}"]].reshape(signal.size, -1)
            signal = matrix.T @ signal + x[f.layout[f"b{i}"]]
            signal = np.tanh(signal) if i < last else signal
        total -= np.log(np.exp(signal[label]) / np.exp(signal).sum())
    assert f.value(x) == pytest.approx(total / len(images) + 0.01 * x @ x, rel=1e-12)


@NETWORK
def test_network_broadcasts_and_rebuilds(f) -> None:
    x = weights(f, 2)
    for again in (f, from_spec(*f.spec)):
        np.testing.assert_allclose(again.value(x), [f.value(row) for row in x], rtol=1e-13)
        np.testing.assert_allclose(again.gradient(x), [f.gradient(row) for row in x], rtol=1e-11, atol=1e-15)
        np.testing.assert_array_equal(again.accuracy(x), [f.accuracy(row) for row in x])


@NETWORK
def test_minibatches_estimate_the_gradient_without_bias(f) -> None:
    x = weights(f)
    rng = np.random.default_rng(15)
    n = len(f._images)
    np.testing.assert_allclose(f.sample_gradient(x, rng, n), f.gradient(x), rtol=1e-9, atol=1e-14)
    draws = np.array([f.stochastic(x, rng) for _ in range(200)])
    spread = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    # With 650 means of 200 draws, 5 standard errors are passed by chance in 1 of 2000 seeds.
    assert (np.abs(draws.mean(axis=0) - f.gradient(x)) <= 5 * spread + 1e-12).all()
    assert spread.max() > 1e-5
    same = [f.stochastic(x, np.random.default_rng(16)) for _ in range(2)]
    np.testing.assert_array_equal(*same)


def test_linear_classifier_is_as_smooth_and_convex_as_said() -> None:
    f = NETWORKS["digits_linear"]
    x, y = weights(f, 2)
    for scale in (1e-3, 1.0, 10.0):
        difference = f.gradient(x * scale) - f.gradient(y * scale)
        distance = np.linalg.norm(x - y) * scale
        assert np.linalg.norm(difference) <= f.smoothness * distance
        assert difference @ (x - y) >= f.strong_convexity * np.sum((x - y) ** 2) * scale


def test_lion_learns_the_digits() -> None:
    f = make.digits_network(16)
    start = f.start(np.random.default_rng(17))
    system = ln.LionK.from_optimizer(f, ln.kappas.L1(), lr=3e-3, beta1=0.9, beta2=0.99, lam=0.1)
    run = ln.iterate(system, start, 400, stochastic=True, seed=18, record_every=400)
    assert f.accuracy(start) < 0.3
    assert f.accuracy(run.x[-1]) > 0.93


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install \"lionode\[train\]\""):
        make.digits_linear()


@pytest.mark.parametrize("gradient", [lambda x: np.zeros(3), lambda x: 1.0, lambda x: np.zeros((2, 1))])
def test_a_gradient_of_the_wrong_shape_is_named(gradient) -> None:
    f = ln.Objective(lambda x: 0.0, gradient, dim=2)
    with pytest.raises(NonFiniteError, match=r"gradient of objective returned shape"):
        f.gradient([1.0, 2.0])


BAD = [
    (lambda: make.quadratic(np.ones((2, 3))), "A must be square"),
    (lambda: make.quadratic([[1.0, 2.0], [0.0, 1.0]]), "A must be symmetric"),
    (lambda: make.quadratic(A2, [1.0]), "b must have shape"),
    (lambda: make.quadratic([[np.nan]]), "A must be finite"),
    (lambda: make.rosenbrock(1), "d must be an integer ≥ 2"),
    (lambda: make.least_squares(DATA, LABELS[:3]), "y must have shape"),
    (lambda: make.logistic(DATA, np.arange(12.0)), "labels"),
    (lambda: make.logistic(DATA, LABELS, l2=-1.0), "l2 must be ≥ 0"),
    (lambda: ln.Objective(lambda x: 0.0, lambda x: x), "dim must be given"),
    (lambda: ln.Objective(lambda x: 0.0, lambda x: x, dim=0), "dim must be an integer ≥ 1"),
    (lambda: ln.Objective(lambda x: 0.0, lambda x: x, "exact", dim=2), "hessian must be one of"),
    (lambda: make.digits_network(0), "hidden must be an integer ≥ 1"),
    (lambda: make.digits_linear(batch_size=5000), "batch_size must be ≤"),
    (lambda: make.from_expression(sp.Symbol("a") + sp.Symbol("b"), ["a"]), "'b' is not a known name"),
    (lambda: make.from_expression("3"), "must have a variable"),
    (lambda: make.from_expression("x1 + x3", symbols=["x1", "x2"]), "'x3' is not a known name"),
    (lambda: OBJECTIVES["quadratic"].value([1.0, 2.0, 3.0]), "x must have 2 components"),
]


@pytest.mark.parametrize(("build", "text"), BAD, ids=[row[1] for row in BAD])
def test_bad_input(build, text) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        build()
    assert "\n" not in str(caught.value)
