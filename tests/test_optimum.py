"""The composite optimum against an independent convex solver, closed forms and its own optimality gap."""

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sparse

import lionode as ln
from lionode.optimum import composite_optimum, composite_value, kkt_residual, optimality_gap

K = ln.kappas
RNG = np.random.default_rng(7)
ROOT = RNG.normal(size=(6, 6))
A6 = ROOT @ ROOT.T + 0.1 * np.eye(6)
B6 = 3 * RNG.normal(size=6)
COEFFICIENTS = {"alpha": 0.7, "gamma": 1.3, "epsilon": 0.4, "lam": 1.6}

EXAMPLES = [cls(**arguments) for cls in K.REGISTRY.values() for arguments in cls.examples]

SOLVER_TOL = 6e-5
"""A gap of 1e-10, where Clarabel stops, is ‖Δx‖ ≤ √(2e-10/μ) for the strong convexity μ ≥ 0.07 of F."""


def quadratic(d):
    return ln.objectives.quadratic(A6[:d, :d], B6[:d])


def system_of(kappa, **changes):
    return ln.LionK(quadratic(kappa.dim or 6), kappa, **{**COEFFICIENTS, **changes})


def binary_entropy(y):
    return -cp.sum(cp.entr(1 + y) + cp.entr(1 - y)) / 2


def half_circles(y):
    return cp.sum(cp.hstack([cp.geo_mean(cp.hstack([1 - y[i], 1 + y[i]])) for i in range(6)]))


CONES = [
    (K.L1(), lambda y: (0, [cp.norm(y, "inf") <= 1])),
    (K.Lp(2.0), lambda y: (0, [cp.norm(y, 2) <= 1])),
    (K.Lp(1.5), lambda y: (0, [cp.pnorm(y, 3) <= 1])),
    (K.SoftThreshold(0.3), lambda y: (0.3 * cp.norm(y, 1), [cp.norm(y, "inf") <= 1])),
    (K.TopK(2), lambda y: (0, [cp.norm(y, 1) <= 2, cp.norm(y, "inf") <= 1])),
    (K.Huber(0.4), lambda y: (0.2 * cp.sum_squares(y), [cp.norm(y, "inf") <= 1])),
    (K.Quadratic(), lambda y: (cp.sum_squares(y) / 2, [])),
    (K.Power(1.5), lambda y: (cp.sum(cp.power(cp.abs(y), 3)) / 3, [])),
    (K.PseudoHuber(0.3), lambda y: (-0.3 * half_circles(y), [])),
    (K.LogCosh(0.3), lambda y: (0.3 * binary_entropy(y), [])),
    (
        K.GroupL2([[0, 2], [1, 3, 4]]),
        lambda y: (0, [cp.norm(y[[0, 2]], 2) <= 1, cp.norm(y[[1, 3, 4]], 2) <= 1]),
    ),
    (K.LInf(), lambda y: (0, [cp.norm(y, 1) <= 1])),
    (K.Lp(4.0), lambda y: (0, [cp.pnorm(y, 4 / 3) <= 1])),
    (K.TopK(3), lambda y: (0, [cp.norm(y, 1) <= 3, cp.norm(y, "inf") <= 1])),
    (K.Power(3.0), lambda y: (cp.sum(cp.power(cp.abs(y), 1.5)) / 1.5, [])),
    (K.LogSumExp(), lambda y: (-cp.sum(cp.entr(y)), [cp.sum(y) == 1])),
    (K.Scaled(K.L1(), 2.5), lambda y: (0, [cp.norm(y, "inf") <= 2.5])),
    (K.Scaled(K.Huber(0.4), 1.7), lambda y: (0.2 * cp.sum_squares(y) / 1.7, [cp.norm(y, "inf") <= 1.7])),
    (K.MoreauEnvelope(K.L1(), 0.3), lambda y: (0.15 * cp.sum_squares(y), [cp.norm(y, "inf") <= 1])),
    (
        K.MoreauEnvelope(K.TopK(2), 0.3),
        lambda y: (0.15 * cp.sum_squares(y), [cp.norm(y, 1) <= 2, cp.norm(y, "inf") <= 1]),
    ),
    (K.from_expression("exp(z)"), lambda y: (-cp.sum(cp.entr(y)) - cp.sum(y), [y >= 0])),
    (K.from_expression("max(abs(z) - 0.4, 0)"), lambda y: (0.4 * cp.norm(y, 1), [cp.norm(y, "inf") <= 1])),
    (K.Nuclear([2, 3]), lambda y: (0, [cp.sigma_max(cp.reshape(y, (2, 3), order="C")) <= 1])),
]


def test_every_potential_of_the_catalogue_is_compared():
    assert {kappa.name for kappa, _ in CONES} >= set(K.REGISTRY)


@pytest.mark.parametrize(("kappa", "conjugate"), CONES, ids=[str(k) for k, _ in CONES])
def test_an_independent_convex_solver_finds_the_same_point(kappa, conjugate):
    system = system_of(kappa)
    d, lam = system.dim, system.lam
    x = cp.Variable(d)
    penalty, constraints = conjugate(lam * x)
    loss = cp.quad_form(x, cp.psd_wrap(A6[:d, :d])) / 2 - B6[:d] @ x
    problem = cp.Problem(cp.Minimize(system.alpha * loss + system.gamma / lam * penalty), constraints)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    ours = composite_optimum(system)
    assert ours.success
    np.testing.assert_allclose(ours.x, x.value, atol=SOLVER_TOL)
    assert ours.value == pytest.approx(problem.value, abs=1e-7)
    assert ours.value == pytest.approx(float(composite_value(system, ours.x)))


@pytest.mark.parametrize("kappa", EXAMPLES, ids=str)
@pytest.mark.parametrize("changes", [{}, {"lam": 0.0}, {"gamma": 0.0}], ids=["general", "lam 0", "gamma 0"])
def test_every_potential_reaches_the_residual(kappa, changes):
    system = system_of(kappa, **changes)
    result = composite_optimum(system)
    if changes.get("lam") == 0 and not kappa.contains(np.zeros(system.dim)):
        assert (result.status, result.success) == ("infeasible", False)
        return
    assert result.success
    assert result.residual <= 1e-10
    assert kkt_residual(system, result.x) == result.residual
    assert not result.local
    if not changes:
        # A few roundings of κ + κ* − ⟨·,·⟩ when x is exact, a residual's worth when it is not.
        assert abs(result.gap) <= 1e-8
    nearby = result.x + 1e-3 * np.random.default_rng(3).normal(size=(200, system.dim))
    assert np.all(composite_value(system, nearby) >= result.value - 1e-12)


@pytest.mark.parametrize("kappa", EXAMPLES, ids=str)
def test_the_gap_bounds_the_distance_to_the_optimal_value(kappa):
    system = system_of(kappa)
    best = composite_optimum(system).value
    for y in np.random.default_rng(5).normal(size=(20, system.dim)):
        x = kappa.project(y) / system.lam
        assert composite_value(system, x) - best <= optimality_gap(system, x) + 1e-9
        assert kkt_residual(system, x) > 1e-4


def test_the_box_residual_is_the_papers():
    system = system_of(K.L1())
    x = np.full(6, 0.1)
    gradient = A6 @ x - B6
    papers = np.abs(gradient).sum() + system.lam * x @ gradient
    assert optimality_gap(system, x) == pytest.approx(system.alpha / system.lam * papers)


def test_without_decay_the_loss_alone_is_minimised():
    result = composite_optimum(system_of(K.L1(), lam=0.0))
    np.testing.assert_allclose(result.x, np.linalg.solve(A6, B6), rtol=1e-9)
    assert np.isnan(result.gap)


def test_the_active_components_are_those_on_the_box():
    result = composite_optimum(system_of(K.L1()))
    np.testing.assert_array_equal(result.active, np.abs(1.6 * result.x) == 1)
    assert 0 < result.active.sum() < 6


def test_ten_thousand_components_with_a_sparse_hessian():
    d = 10_000
    rng = np.random.default_rng(11)
    A = sparse.diags([-1.0, 2.0 + rng.random(d), -1.0], [-1, 0, 1], shape=(d, d), format="csr")
    b = 2 * rng.normal(size=d)
    system = ln.LionK(ln.objectives.quadratic(A, b), K.L1(), 0.7, 1.3, 0.4, 1.6)
    result = composite_optimum(system)
    assert result.success
    assert 0 < result.active.sum() < d
    gradient = A @ result.x - b
    free = ~result.active
    assert np.max(np.abs(gradient[free])) < 1e-9
    assert np.all(gradient[~free] * result.x[~free] <= 0)


def test_a_non_convex_loss_says_local_and_starts_help():
    system = ln.LionK(ln.objectives.from_expression("(x1**2 - 4)**2 + x1"), K.L1(), 1.0, 1.0, 0.4, 0.2)
    one = composite_optimum(system, x0=[2.5])
    many = composite_optimum(system, x0=[2.5], starts=8, seed=1)
    assert one.local
    assert many.local
    assert one.success
    assert many.success
    assert one.x[0] > 0 > many.x[0]
    assert many.value < one.value


def test_rosenbrock_inside_and_on_the_box():
    f = ln.objectives.rosenbrock(2)
    inside = composite_optimum(ln.LionK(f, K.L1(), 1.0, 1.0, 0.4, 0.5), x0=[-1.2, 1.0])
    np.testing.assert_allclose(inside.x, [1.0, 1.0], atol=1e-8)
    face = composite_optimum(ln.LionK(f, K.L1(), 1.0, 1.0, 0.4, 2.0), x0=[-0.3, 0.1])
    np.testing.assert_allclose(face.x, [0.5, 0.25], atol=1e-9)


@pytest.mark.parametrize(
    ("text", "kappa", "lam"),
    [
        ("x1 - 2*x2", K.L1(), 0.0), ("-5*x1**2 + x2**2", K.Quadratic(), 0.3), ("-x1**4", K.Quadratic(), 0.3),
        ("x1**3", K.L1(), 0.0), ("-exp(x1)", K.Quadratic(), 0.3), ("-sinh(x1**2)", K.Quadratic(), 0.3),
        ("-x1*x2", K.Quadratic(), 0.3), ("-abs(x1)", K.L1(), 0.0),
    ],
)  # fmt: skip
def test_unbounded_below_is_a_status(text, kappa, lam):
    f = ln.objectives.from_expression(text)
    result = composite_optimum(ln.LionK(f, kappa, 1.0, 1.0, 0.4, lam), x0=np.full(f.dim, 0.7))
    assert (result.success, result.status) == (False, "unbounded")


def test_a_small_slope_far_out_is_not_taken_for_none():
    f = ln.objectives.from_expression("-log(1 + x1**2)")
    system = ln.LionK(f, K.L1(), 1.0, 1.0, 0.4, 0.0)
    x = np.array([3e8])
    assert kkt_residual(system, x) == pytest.approx(2 / 3e8)
    result = composite_optimum(system, x0=[0.7])
    assert result.residual == pytest.approx(float(abs(f.gradient(result.x)[0])))


def test_a_loss_that_is_nan_is_a_status():
    f = ln.Objective(lambda x: np.nan, lambda x: np.full(2, np.nan), dim=2)
    result = composite_optimum(ln.LionK(f, K.L1()))
    assert (result.success, result.status) == (False, "not finite")


def test_a_spent_budget_is_a_status():
    f = ln.Objective(lambda x: x @ A6 @ x / 2 - B6 @ x, lambda x: A6 @ x - B6, dim=6)
    system = ln.LionK(f, K.Quadratic(), **COEFFICIENTS)
    result = composite_optimum(system, max_iterations=3)
    assert (result.success, result.status) == (False, "budget")
    assert composite_optimum(system).success


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"x0": [1.0]}, ValueError, "x0"),
        ({"tol": 0.0}, ValueError, "tol"),
        ({"starts": 0}, ValueError, "starts"),
        ({"max_iterations": 2.5}, TypeError, "max_iterations"),
    ],
)
def test_bad_input(arguments, error, word):
    with pytest.raises(error, match=word):
        composite_optimum(system_of(K.L1()), **arguments)
    with pytest.raises(TypeError, match="system"):
        composite_optimum("x")
