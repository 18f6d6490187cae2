"""Updates: the recurrence, the flow limit, known orbits, compiled = plain, and how runs end."""

from __future__ import annotations

import functools
import itertools
import signal
import threading
import time

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import lionode as ln
from lionode import Status
from lionode.updates import apply, iterate, step

A = np.array([[3.0, 0.8], [0.8, 1.2]])
B = np.array([2.5, -1.7])
X0, M0 = np.array([1.9, -1.4]), np.array([0.3, -0.2])
VARIANTS = list(itertools.product(("explicit", "implicit"), ("current", "next")))

ULPS = 4 * np.finfo(float).eps
"""numpy's tanh and hypot and the C library's may differ in the last bit."""

SCALAR_ROUNDING = 1e-13
"""Closed forms of order 1, reached after hundreds of contracting updates."""


def quadratic() -> ln.Objective:
    return ln.objectives.quadratic(A, B)


def lion(kappa=None, objective=None, **changes) -> ln.LionK:
    numbers = {"lr": 0.02, "beta1": 0.85, "beta2": 0.97, "lam": 1.3} | changes
    return ln.LionK.from_optimizer(objective or quadratic(), kappa or ln.kappas.L1(), **numbers)


@functools.cache
def expression(text: str) -> ln.Objective:
    """One objective a text, so that its gradient is compiled once."""
    return ln.objectives.from_expression(text)


BOWL = "(x1 - 1.5)**2 + 0.3*x2**2"


def scalar() -> ln.Objective:
    return expression("0.85*x1**2")


def plain(gradient, dim=2) -> ln.Objective:
    return ln.Objective(value=lambda x: 0.0, gradient=gradient, dim=dim)


# -- the recurrence -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("decay", "look_ahead"), VARIANTS)
def test_step_is_the_published_update(decay, look_ahead):
    lr, b1, b2, lam = 0.02, 0.85, 0.97, 1.3
    g = A @ X0 - B
    m_next = b2 * M0 - (1 - b2) * g
    u = np.tanh((b1 * (M0 if look_ahead == "current" else m_next) - (1 - b1) * g) / 0.7)
    x_next = X0 + lr * (u - lam * X0) if decay == "explicit" else (X0 + lr * u) / (1 + lr * lam)
    system = lion(ln.kappas.LogCosh(0.7))
    got = step(system, X0, M0, decay=decay, look_ahead=look_ahead)
    for have, want in zip(got, (x_next, m_next, u), strict=True):
        np.testing.assert_allclose(have, want, rtol=4 * ULPS)


def test_step_with_alpha_unlike_gamma_scales_the_gradient():
    system = ln.LionK(quadratic(), ln.kappas.Quadratic(), alpha=0.7, gamma=1.3, epsilon=0.4, lam=1.6)
    lr, g = 0.05, A @ X0 - B
    x, m, u = step(system, X0, M0, lr=lr)
    np.testing.assert_allclose(m, M0 + lr * (-0.7 * g - 1.3 * M0), rtol=ULPS)
    np.testing.assert_allclose(u, M0 - 0.4 * (0.7 * g + 1.3 * M0), rtol=ULPS)
    np.testing.assert_allclose(x, X0 + lr * (u - 1.6 * X0), rtol=ULPS)


def test_step_broadcasts_and_takes_a_gradient():
    rng = np.random.default_rng(0)
    x, m = rng.normal(size=(3, 4, 2)), rng.normal(size=(4, 2))
    together = step(lion(), x, m)
    for i, j in itertools.product(range(3), range(4)):
        for all_of_it, one in zip(together, step(lion(), x[i, j], m[j]), strict=True):
            np.testing.assert_allclose(all_of_it[i, j], one, rtol=1e-14, atol=1e-15)
    given_gradient = step(lion(), X0, M0, [0.0, 5.0])
    np.testing.assert_array_equal(given_gradient[2], np.sign(0.85 * M0 - (1 - 0.85) * np.array([0.0, 5.0])))


def test_sign_of_exactly_zero_is_zero():
    objective = plain(lambda x: np.zeros(2))
    run = iterate(lion(objective=objective, lam=0.0), [1.0, -2.0], 5)
    assert (run.u == 0).all()
    assert (run.x == [1.0, -2.0]).all()


@settings(max_examples=200, deadline=None)
@given(
    lr=st.floats(1e-5, 10.0),
    betas=st.tuples(st.floats(0.0, 0.9999), st.floats(0.0, 0.9999)),
    lam=st.floats(0.0, 10.0),
)
def test_dictionary_round_trip(lr, betas, lam):
    beta1, beta2 = sorted(betas)
    system = lion(lr=lr, beta1=beta1, beta2=beta2, lam=lam)
    assert system.alpha == system.gamma
    assert system.to_optimizer() == (lr, beta1, beta2, lam)
    derived = system.replace().to_optimizer(lr)
    np.testing.assert_allclose(derived, (lr, beta1, beta2, lam), rtol=0, atol=1e-15 * max(1.0, lr, lam) * 8)
    np.testing.assert_allclose(system.gamma * lr, 1 - beta2, rtol=1e-15 * 8)
    np.testing.assert_allclose(system.epsilon * system.gamma, 1 - beta1, rtol=1e-15 * 8)


# -- runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("decay", "look_ahead"), VARIANTS)
def test_a_run_is_its_steps(decay, look_ahead):
    system = lion()
    run = iterate(system, X0, 60, m0=M0, decay=decay, look_ahead=look_ahead)
    x, m = X0, M0
    for k in range(61):
        x_next, m_next, u = step(system, x, m, decay=decay, look_ahead=look_ahead)
        np.testing.assert_array_equal((run.x[k], run.m[k], run.u[k]), (x, m, u))
        x, m = x_next, m_next
    assert run.success
    assert run.method == decay
    assert run.nfev == 61
    np.testing.assert_allclose(run.t, 0.02 * np.arange(61), rtol=ULPS)


def test_between_records_a_run_is_linear():
    run = iterate(lion(), X0, 10, m0=M0)
    x, m = run(run.t[3:5].mean())
    np.testing.assert_allclose(x, run.x[3:5].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(m, run.m[3:5].mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(run(run.t[-1])[0], run.x[-1])


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("every", [1, 3, 7, 100, 1000])
def test_records_are_every_nth_state_and_the_last(compiled, every):
    system = lion(objective=expression(BOWL))
    full = iterate(system, X0, 100, compiled=compiled)
    kept = [*range(0, 100, every), 100]
    run = iterate(system, X0, 100, record_every=every, compiled=compiled)
    for have, want in ((run.t, full.t), (run.x, full.x), (run.m, full.m), (run.u, full.u)):
        np.testing.assert_array_equal(have, want[kept])


KAPPAS = [ln.kappas.L1(), ln.kappas.Huber(0.3), ln.kappas.SoftThreshold(0.3), ln.kappas.LogCosh(0.3)]


def gap(first: ln.Trajectory, second: ln.Trajectory) -> float:
    pairs = ((first.x, second.x), (first.m, second.m), (first.u, second.u))
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.parametrize("kappa", KAPPAS, ids=str)
def test_a_long_compiled_run_equals_the_plain_one(kappa):
    """One objective in closed form, its gradient compiled for the one and in numpy for the other."""
    runs = {}
    for compiled, (decay, look_ahead) in itertools.product((True, False), VARIANTS):
        system = lion(kappa, expression(BOWL))
        runs[compiled, decay, look_ahead] = iterate(
            system, X0, 3000, m0=M0, decay=decay, look_ahead=look_ahead, compiled=compiled
        )
    for variant in VARIANTS:
        assert gap(runs[True, *variant], runs[False, *variant]) <= 200 * ULPS


@pytest.mark.parametrize("kappa", KAPPAS[:3], ids=str)
def test_a_compiled_pass_equals_the_plain_one_bit_for_bit(kappa):
    """An affine gradient by components: a matrix product is rounded as each machine's BLAS pleases."""
    system = lion(kappa, expression("1.7*(x1 - 1.5)**2 + 0.9*x2**2"))
    for decay, look_ahead in VARIANTS:
        runs = [
            iterate(system, X0, 500, m0=M0, decay=decay, look_ahead=look_ahead, compiled=compiled)
            for compiled in (True, False)
        ]
        assert gap(*runs) == 0


def test_compiling_a_run_of_a_potential_that_mixes_components_is_refused():
    with pytest.raises(ValueError, match="separable"):
        iterate(lion(ln.kappas.Lp(2.5)), X0, 10, compiled=True)


@pytest.mark.parametrize("d", [3, 100_001])
@pytest.mark.parametrize(("decay", "look_ahead"), VARIANTS)
def test_apply_is_step_in_place_bit_for_bit(d, decay, look_ahead):
    rng = np.random.default_rng(1)
    system = lion(ln.kappas.L1(), plain(lambda x: x, dim=d))
    x, m, g = rng.normal(size=(3, d))
    g[::7] = m[::7] = 0.0
    x_next, m_next, _ = step(system, x, m, g, decay=decay, look_ahead=look_ahead)
    apply(system, x, m, g, decay=decay, look_ahead=look_ahead)
    np.testing.assert_array_equal(x, x_next)
    np.testing.assert_array_equal(m, m_next)


# -- known facts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0.3, 1.0, 1.6])
def test_scalar_lion_ends_in_its_two_cycle(q):
    lr, beta1, beta2 = 0.1, 0.4, 0.7
    system = lion(objective=scalar(), lr=lr, beta1=beta1, beta2=beta2, lam=q / lr)
    run = iterate(system, [0.7], 4000)
    amplitude = lr / (2 - q)
    tail = run.x[-10:, 0]
    np.testing.assert_allclose(np.abs(tail), amplitude, rtol=SCALAR_ROUNDING)
    assert (np.sign(tail[1:]) == -np.sign(tail[:-1])).all()


@pytest.mark.parametrize("lam", [0.5, 6.0])
def test_explicit_decay_is_implicit_decay_with_a_longer_step(lam):
    lr, beta1, beta2 = 0.02, 0.85, 0.97
    explicit = iterate(lion(ln.kappas.Huber(0.4), lam=lam), X0, 300)
    longer = lion(ln.kappas.Huber(0.4), lam=lam, lr=lr / (1 - lr * lam), beta1=beta1, beta2=beta2)
    implicit = iterate(longer, X0, 300, decay="implicit")
    np.testing.assert_allclose(explicit.x, implicit.x, rtol=0, atol=1e-13)
    np.testing.assert_allclose(explicit.m, implicit.m, rtol=0, atol=1e-13)


@pytest.mark.parametrize("decay", ["explicit", "implicit"])
def test_phase_one_shrinks_the_distance_to_the_box(decay):
    system = lion()
    run = iterate(system, [9.0, -4.0], 400, m0=[0.5, 3.0], decay=decay)
    q = 0.02 * 1.3
    factor = 1 - q if decay == "explicit" else 1 / (1 + q)
    for order in (1, 2, np.inf):
        y = 1.3 * run.x
        distance = np.linalg.norm(y - np.clip(y, -1, 1), ord=order, axis=1)
        assert distance[0] > 3
        assert (distance[1:] <= factor * distance[:-1] + 1e-14 * distance[0]).all()
        assert distance[-1] < 1e-3


def test_updates_tend_to_the_flow_with_order_one():
    alpha, gamma, epsilon, lam = 0.7, 1.3, 0.4, 1.6
    system = ln.LionK(quadratic(), ln.kappas.Quadratic(), alpha, gamma, epsilon, lam)
    eye = np.eye(2)
    top = np.hstack([-epsilon * alpha * A - lam * eye, (1 - epsilon * gamma) * eye])
    matrix = np.vstack([top, np.hstack([-alpha * A, -gamma * eye])])
    rest = np.linalg.solve(matrix, -np.concatenate([epsilon * alpha * B, alpha * B]))
    t_end = 1.5
    exact = rest + scipy.linalg.expm(matrix * t_end) @ (np.concatenate([X0, M0]) - rest)
    sizes = t_end / 2.0 ** np.arange(5, 10)
    for decay, look_ahead in VARIANTS:
        errors = []
        for lr in sizes:
            run = iterate(system, X0, round(t_end / lr), lr, M0, decay, look_ahead)
            errors.append(np.abs(np.concatenate([run.x[-1], run.m[-1]]) - exact).max())
        slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
        assert slope == pytest.approx(1, abs=0.1), (decay, look_ahead, slope)


# -- stochastic gradients -----------------------------------------------------------------------------------


def noise(rng, x):
    return 0.3 * rng.normal(size=x.shape)


def test_a_seed_makes_a_stochastic_run_repeatable():
    runs = [iterate(lion(), X0, 50, gradient_noise=noise, seed=seed) for seed in (7, 7, 8)]
    np.testing.assert_array_equal(runs[0].x, runs[1].x)
    assert not np.array_equal(runs[0].m, runs[2].m)
    assert runs[0].info["stochastic"]
    assert runs[0].info["seed"] == 7
    fresh = iterate(lion(), X0, 50, gradient_noise=noise)
    np.testing.assert_array_equal(
        iterate(lion(), X0, 50, gradient_noise=noise, seed=fresh.info["seed"]).x, fresh.x
    )
    from_generator = iterate(lion(), X0, 50, gradient_noise=noise, seed=np.random.default_rng(7))
    np.testing.assert_array_equal(from_generator.x, runs[0].x)


def test_noise_is_added_to_the_gradient():
    run = iterate(lion(), X0, 1, m0=M0, gradient_noise=noise, seed=3)
    g = A @ X0 - B + noise(np.random.default_rng(3), X0)
    np.testing.assert_allclose(run.m[1], 0.97 * M0 - (1 - 0.97) * g, rtol=ULPS)


# -- how runs end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_ends_the_run(bad):
    run = iterate(lion(objective=plain(lambda x: x if x[0] > 1.7 else np.array([0.0, bad]))), X0, 500)
    assert run.status is Status.NON_FINITE
    assert not run.success
    assert "update" in run.message
    assert 1 < len(run.t) < 500
    assert np.isfinite(run.x).all()
    assert np.isnan(run.u[-1]).all()
    assert np.isfinite(run.u[:-1]).all()


def test_a_compiled_gradient_that_is_not_finite_ends_the_run():
    run = iterate(lion(objective=expression("(x1 - 1.75)**1.5 + x2**2")), X0, 500, compiled=True)
    assert run.status is Status.NON_FINITE
    assert 1 < len(run.t) < 500
    assert run.x[-1, 0] < 1.75 <= run.x[-2, 0]


def test_a_gradient_of_the_wrong_shape_ends_the_run():
    run = iterate(lion(objective=plain(lambda x: np.zeros(3))), X0, 5)
    assert run.status is Status.NON_FINITE
    assert "shape (3,)" in run.message
    np.testing.assert_array_equal(run.x, [X0])


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("compiled", [True, False])
def test_divergence_ends_the_run_at_the_last_good_record(compiled, every):
    system = lion(ln.kappas.Quadratic(), expression("-x1**4 - x2**4"), lr=0.5)
    run = iterate(system, X0, 1000, record_every=every, compiled=compiled)
    assert run.status in (Status.DIVERGED, Status.NON_FINITE)
    assert len(run.t) < 1000
    assert (np.abs(run.x) <= 1e150).all()


def slow(x):
    time.sleep(0.01)
    return x


def test_a_time_budget_ends_the_run():
    run = iterate(lion(objective=plain(slow)), X0, 10_000, record_every=7, max_seconds=0.1)
    assert run.status is Status.BUDGET
    assert 1 < len(run.t) < 10_000
    np.testing.assert_allclose(np.diff(run.t)[:-1], 7 * 0.02, rtol=1e-9)


@pytest.mark.parametrize("every", [1, 7])
def test_an_interrupt_returns_what_was_done(every):
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    timer.start()
    run = iterate(lion(objective=plain(slow)), X0, 10_000, record_every=every)
    timer.join()
    assert run.status is Status.INTERRUPTED
    assert 1 < len(run.t) < 10_000
    assert np.isfinite(run.u).all()


def test_an_interrupt_of_a_compiled_run_returns_what_was_done():
    system = lion(objective=expression(BOWL))
    iterate(system, X0, 10, compiled=True)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    run = iterate(system, X0, 10**10, record_every=10**10, compiled=True)
    timer.join()
    assert run.status is Status.INTERRUPTED
    done = round(run.t[-1] / 0.02)
    assert len(run.t) == 2
    assert done > 1000
    again = iterate(system, X0, done, record_every=done, compiled=True)
    np.testing.assert_array_equal(run.x[-1], again.x[-1])


@pytest.mark.parametrize("compiled", [True, False])
def test_progress_is_reported(compiled):
    seen: list[float] = []
    if compiled:
        objective, steps = scalar(), 20_000_000
        run = iterate(
            lion(objective=objective), [1.0], steps, record_every=steps, progress=seen.append, max_seconds=1.0
        )
    else:
        run = iterate(lion(objective=plain(slow)), X0, 40, progress=seen.append)
    assert seen
    assert seen == sorted(seen)
    assert seen[-1] <= run.t[-1]


# -- bad input ----------------------------------------------------------------------------------------------

BAD_RUNS = {
    "x0 of the wrong size": ({"x0": [1.0, 2.0, 3.0]}, "x0"),
    "x0 not finite": ({"x0": [1.0, np.nan]}, "x0"),
    "x0 complex": ({"x0": [1.0, 2.0j]}, "x0"),
    "m0 of the wrong size": ({"m0": [1.0]}, "m0"),
    "no steps": ({"steps": 0}, "steps"),
    "half a step": ({"steps": 1.5}, "steps"),
    "lr 0": ({"lr": 0.0}, "lr"),
    "lr beyond epsilon": ({"lr": 5.0}, "lr"),
    "lr not a number": ({"lr": "fast"}, "lr"),
    "decay": ({"decay": "none"}, "decay"),
    "look_ahead": ({"look_ahead": "past"}, "look_ahead"),
    "record_every": ({"record_every": 0}, "record_every"),
    "max_seconds": ({"max_seconds": 0.0}, "max_seconds"),
    "seed": ({"gradient_noise": noise, "seed": -1}, "seed"),
    "no stochastic gradient": ({"stochastic": True}, "stochastic"),
    "no system": ({"system": "lion"}, "system"),
}


@pytest.mark.parametrize(("changes", "names"), BAD_RUNS.values(), ids=BAD_RUNS)
def test_bad_input_is_refused_in_one_line(changes, names):
    arguments = {"system": lion(), "x0": X0, "steps": 3} | changes
    with pytest.raises((TypeError, ValueError), match=names) as caught:
        iterate(**arguments)
    assert "\n" not in str(caught.value)


BAD_ARRAYS = {
    "a list": ([1.0, 2.0], M0, X0),
    "float32": (X0.astype(np.float32), M0, X0),
    "strided": (np.ones(4)[::2], M0, X0),
    "too long": (np.ones(3), np.ones(3), np.ones(3)),
    "read-only": (np.broadcast_to(1.0, 2), M0, X0),
}


@pytest.mark.parametrize("arrays", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_apply_refuses_what_it_cannot_overwrite(arrays):
    with pytest.raises((TypeError, ValueError), match="x must be"):
        apply(lion(), *arrays)
