"""Local rates against matrix exponentials' exact spectra and against the tails of runs."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from systems import A2, B2

import lionode as ln

MEASURED = 0.03
"""A slope over four decades, fitted to a sum of exponentials or to corners of a staircase, is off by less."""

o, k = ln.objectives, ln.kappas
BOWL = o.quadratic(A2, B2)


def tail(system: ln.LionK, x0, t_end: float, **options) -> float:
    local = ln.local_rate(system)
    run = ln.simulate(system, x0, t_end, m0=[0.3, -0.2][: system.dim], rtol=1e-10, atol=1e-12, **options)
    return ln.tail_rate(run, local.x, local.m) / local.rate


def test_a_linear_flow_has_the_spectrum_of_its_matrix():
    alpha, gamma, epsilon, lam = 0.7, 1.3, 0.4, 0.6
    eye = np.eye(2)
    matrix = np.block([
        [-epsilon * alpha * A2 - lam * eye, (1 - epsilon * gamma) * eye], [-alpha * A2, -gamma * eye],
    ])  # fmt: skip
    found = ln.local_rate(ln.LionK(BOWL, k.Quadratic(), alpha, gamma, epsilon, lam))
    np.testing.assert_allclose(np.sort_complex(found.eigenvalues), np.sort_complex(np.linalg.eigvals(matrix)))
    assert found.rate == pytest.approx(-np.linalg.eigvals(matrix).real.max())
    # The optimum solves αAx − αb + γλx = 0.
    np.testing.assert_allclose(
        found.x, np.linalg.solve(alpha * A2 + gamma * lam * eye, alpha * B2), atol=1e-9
    )


SMOOTH = [
    (k.PseudoHuber(0.3), (0.7, 1.3, 0.4, 0.6), 60.0),
    (k.PseudoHuber(0.3), (0.7, 1.3, 0.0, 0.6), 60.0),
    (k.LogCosh(0.5), (0.7, 0.4, 1.1, 0.3), 80.0),
    (k.Quadratic(), (0.7, 0.4, 0.4, 0.0), 60.0),
]


@pytest.mark.parametrize(("kappa", "coefficients", "t_end"), SMOOTH)
def test_the_tail_of_a_smooth_run_has_the_local_rate(kappa, coefficients, t_end):
    assert tail(ln.LionK(BOWL, kappa, *coefficients), [1.9, -1.4], t_end) == pytest.approx(1, abs=MEASURED)


NONSMOOTH = [
    # The optimum (1.24, −2.24) inside the box: both slide, and (x, m) shrinks with e^{−t/ε}.
    ("inside", BOWL, k.L1(), (0.7, 1.3, 0.4, 0.3), [1.9, -1.4], 12.0),
    # On a face: one component decays with λ, its m with γ.
    ("face", BOWL, k.L1(), (0.7, 1.3, 0.4, 0.7), [0.2, -0.4], 25.0),
    ("corner", BOWL, k.L1(), (0.7, 1.3, 0.4, 1.6), [0.2, 0.1], 12.0),
    ("scaled", BOWL, k.Scaled(k.L1(), 2.5), (0.7, 1.3, 0.4, 0.9), [1.9, -1.4], 12.0),
]


@pytest.mark.parametrize(("name", "f", "kappa", "coefficients", "x0", "t_end"), NONSMOOTH)
def test_the_tail_of_a_sliding_run_has_the_local_rate(name, f, kappa, coefficients, x0, t_end):
    system = ln.LionK(f, kappa, *coefficients)
    assert tail(system, x0, t_end) == pytest.approx(1, abs=MEASURED)


def test_dense_crossings_shrink_at_a_third_of_the_damping():
    """ε = 0: the exact flow up to its handover, d = 1 and 2."""
    for f, x0 in ((o.quadratic([[2.0]], [0.3]), [1.1]), (BOWL, [1.9, -1.4])):
        system = ln.LionK(f, k.L1(), 0.7, 0.5, 0.0, 0.2)
        local = ln.local_rate(system)
        assert local.dense
        assert local.rate == pytest.approx(0.7 / 3)
        run = ln.simulate(system, x0, 60.0, m0=[0.3, -0.2][: f.dim])
        t = np.linspace(0.3, 1.0, 3000) * run.info["handover"]
        distance = np.abs(run(t)[0] - local.x).max(axis=1)
        envelope = np.maximum.accumulate(distance[::-1])[::-1]
        corners = distance == envelope
        slope = -np.polyfit(t[corners], np.log(distance[corners]), 1)[0]
        assert slope == pytest.approx(local.rate, rel=0.1)


def test_the_sliding_spectrum_is_that_of_the_closed_form():
    """Both slide: m = e^{−t/ε}m₀ and ∇f(x) ∝ m, so −1/ε twice; on a corner −λ and −γ, twice each."""
    inside = ln.local_rate(ln.LionK(BOWL, k.L1(), 0.7, 1.3, 0.4, 0.3))
    assert inside.sliding == (0, 1)
    np.testing.assert_allclose(inside.eigenvalues, [-2.5, -2.5])
    corner = ln.local_rate(ln.LionK(BOWL, k.L1(), 0.7, 1.3, 0.4, 1.6))
    assert corner.sliding == ()
    np.testing.assert_allclose(np.sort(corner.eigenvalues.real), [-1.6, -1.6, -1.3, -1.3])


def test_a_saddle_does_not_attract():
    f = o.from_expression("x1**4/4 - x1**2/2 + x2**2")
    found = ln.local_rate(ln.LionK(f, k.PseudoHuber(0.3), 0.7, 1.3, 0.4, 0.0), near=[0.0, 0.0])
    assert found.rate < 0


def test_a_scan_finds_the_fastest_and_leaves_out_what_is_not_allowed():
    system = ln.LionK(BOWL, k.Quadratic(), 0.7, 1.3, 0.4, 0.3)
    gammas, epsilons = np.array([0.5, 1.3, 3.0]), np.array([0.0, 0.3, 0.9])
    scan = ln.scan_rates(system, gammas, epsilons)
    assert np.isnan(scan.rates[1:, 2]).all()
    assert np.isfinite(scan.rates[0]).all()
    assert ln.local_rate(scan.best).rate == pytest.approx(np.nanmax(scan.rates))
    assert scan.best.alpha / scan.best.gamma == pytest.approx(0.7 / 1.3)
    # An independent number: the flow over one unit of time contracts by e^{−rate} in the end.
    t = 40.0
    local = ln.local_rate(scan.best)
    matrix = scan.best.jacobian(local.x, local.m)
    assert -np.log(np.linalg.norm(scipy.linalg.expm(t * matrix), 2)) / t == pytest.approx(local.rate, rel=0.1)


@pytest.mark.parametrize(
    ("system", "text"),
    [
        (ln.LionK(BOWL, k.LInf(), 0.7, 1.3, 0.4, 0.6), "piecewise linear"),
        (ln.LionK(BOWL, k.Quadratic(), 0.7, 0.0, 0.4, 0.6), "gamma"),
        (ln.LionK(o.linear([1.0, 2.0]), k.Quadratic(), 0.7, 1.3, 0.4, 0.0), "no equilibrium"),
        (ln.LionK(ln.Objective(lambda x: x @ x, lambda x: 2 * x, dim=2), k.Quadratic()), "Hessian"),
    ],
)
def test_what_has_no_local_rate_is_refused(system, text):
    with pytest.raises(ValueError, match=text):
        ln.local_rate(system)


def test_a_run_without_a_tail_is_refused():
    system = ln.LionK(BOWL, k.PseudoHuber(0.3), 0.7, 1.3, 0.4, 0.6)
    local = ln.local_rate(system)
    with pytest.raises(ValueError, match="no tail"):
        ln.tail_rate(ln.simulate(system, [1.9, -1.4], 0.5), local.x, local.m)
    with pytest.raises(ValueError, match="epsilon"):
        ln.scan_rates(system, [2.0], [1.0])
