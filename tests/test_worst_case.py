"""Worst cases over classes of f and κ: the theorems hold, wrong claims are refused, frontiers are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import lionode as ln
from lionode import verify, worst_case
from lionode.lyapunov.certificate import Verdict
from lionode.lyapunov.updates import implicit_twin

pytest.importorskip("PEPit")

BETAS = st.tuples(st.floats(0, 0.95), st.floats(0, 0.95)).map(sorted)


@pytest.mark.parametrize("step", [0.05, 0.7, 3.0])
@pytest.mark.parametrize(("epsilon", "gamma", "lam"), [(0.0, 1.3, 0.4), (0.6, 0.9, 1.7), (0.5, 2.0, 0.8)])
def test_backward_euler_never_raises_h(step, epsilon, gamma, lam):
    rise = worst_case.step_rise(step, alpha=0.7, gamma=gamma, epsilon=epsilon, lam=lam)
    assert rise.never
    assert not rise.can


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_a_wrong_c_is_refused(factor):
    rise = worst_case.step_rise(0.1, lam=0.7, c_factor=factor)
    assert rise.can
    assert not rise.never
    assert rise.attained > 1e-3


@pytest.mark.parametrize("loss", worst_case.LOSSES)
@pytest.mark.parametrize("numbers", verify.BETAS_LAM)
def test_the_bound_of_the_updates_holds_and_is_attained(numbers, loss):
    assert worst_case.update_rise(*numbers, loss=loss).can
    assert worst_case.update_rise(*numbers, loss=loss, against="bound").never
    assert worst_case.update_rise(*numbers, loss=loss, against="square", share=0.98).can


def test_the_bound_is_refused_for_a_larger_l():
    assert worst_case.update_rise(0.5, 0.8, 0.9, 0.6, smoothness=1.0, against="bound").never
    assert worst_case.update_rise(0.5, 0.8, 0.9, 0.6, smoothness=1.3, against="bound", share=1.0).never
    assert worst_case.update_rise(0.5, 0.8, 0.9, 0.6, smoothness=1.3, against="bound", share=0.9).can


@pytest.mark.parametrize("decay", ["explicit", "implicit"])
@pytest.mark.parametrize(("beta1", "beta2", "lam"), [(0.0, 0.0, 0.0), (0.2, 0.5, 0.5), (0.9, 0.99, 0.05)])
def test_no_larger_learning_rate_than_the_closed_form_will_do(beta1, beta2, lam, decay):
    smoothness, kappa_smoothness = 2.5, 0.6
    lr = ln.monotone_lr(
        beta1, beta2, lam, smoothness=smoothness, kappa_smoothness=kappa_smoothness, decay=decay
    )
    classes = {"decay": decay, "smoothness": smoothness, "kappa_smoothness": kappa_smoothness}
    assert worst_case.update_rise(0.99 * lr, beta1, beta2, lam, **classes).never
    assert worst_case.update_rise(1.01 * lr, beta1, beta2, lam, **classes).can


def test_gradient_descent_and_its_known_frontier():
    assert ln.monotone_lr(0.0, 0.0, 0.0, smoothness=4.0) == pytest.approx(0.5)
    assert worst_case.largest_lr(0.0, 0.0, 0.0) == pytest.approx(2.0, rel=2 * worst_case.LR_TOL)


def test_the_search_agrees_with_the_closed_form():
    lr = ln.monotone_lr(0.4, 0.7, 0.3)
    assert worst_case.largest_lr(0.4, 0.7, 0.3) == pytest.approx(lr, rel=2 * worst_case.LR_TOL)


@given(BETAS, st.floats(0, 2), st.floats(0.3, 3))
@example((0.0, 0.0), 2.3e-313, 1.0)
@example((0.5, 0.5), 0.5, 1.0)
def test_the_closed_form_is_where_the_condition_turns(betas, lam, product):
    beta1, beta2 = betas
    lr = ln.monotone_lr(beta1, beta2, lam, smoothness=product, decay="implicit")

    def slack(eta):
        cl = eta * lam * beta1 / (eta * lam * (1 - beta1) + 1 - beta2)
        return 2 * (1 + cl) - eta * (product - lam * (1 + cl))

    for eta in np.geomspace(1e-6, min(lr, 1e9), 50)[:-1]:
        assert slack(eta) > -1e-9
    if lr < 1e9:
        assert slack(lr * (1 + 1e-6)) <= slack(lr * (1 - 1e-6))
        assert slack(lr) == pytest.approx(0, abs=1e-9 * (1 + lr))


@settings(deadline=None, max_examples=40)
@given(
    BETAS, st.floats(0, 2), st.floats(0.3, 3), st.floats(0.3, 3), st.floats(0.05, 1), st.integers(0, 10**6)
)
@example((0.0, 0.0), 1.2e-308, 1.0, 1.0, 1.0, 0)
def test_no_update_within_the_frontier_raises_h(betas, lam, smoothness, ell, share, seed):
    rng = np.random.default_rng(seed)
    beta1, beta2 = betas
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    f = ln.objectives.quadratic(q @ np.diag(smoothness * np.array([1.0, 0.4, 0.1])) @ q.T, rng.normal(size=3))
    kappa = ln.kappas.PseudoHuber(1 / ell)
    lr = share * ln.monotone_lr(beta1, beta2, lam, smoothness=smoothness, kappa_smoothness=ell)
    assume(lr * lam < 1)  # at 1/λ itself explicit updates have no implicit form
    s = ln.LionK.from_optimizer(f, kappa, lr=lr, beta1=beta1, beta2=beta2, lam=lam)
    x0 = rng.uniform(-0.9, 0.9, 3) / max(lam, 0.3)
    run = ln.iterate(s, x0, 40, lr=lr, m0=rng.normal(size=3))
    # The H that cannot rise is that of the implicit updates these are.
    twin = implicit_twin(run)
    assert isinstance(twin, ln.LionK), twin
    h = ln.lyapunov(twin, run.x, run.m)
    assert np.diff(h).max() <= 1e-12 * (1 + np.abs(h).max())


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: worst_case.step_rise(0.0), "step"),
        (lambda: worst_case.step_rise(1.0, epsilon=2.0), "epsilon"),
        (lambda: worst_case.step_rise(1.0, lam=0.0), "lam"),
        (lambda: worst_case.update_rise(-1.0, 0.1, 0.2, 0.3), "lr"),
        (lambda: worst_case.update_rise(1.0, 0.3, 0.2, 0.3), "beta1"),
        (lambda: worst_case.update_rise(1.0, 0.1, 0.2, 1.0, decay="explicit"), "lr\\*lam"),
        (lambda: worst_case.update_rise(1.0, 0.1, 0.2, 0.3, decay="none"), "decay"),
        (lambda: worst_case.update_rise(1.0, 0.1, 0.2, 0.3, loss="concave"), "loss"),
        (lambda: worst_case.update_rise(1.0, 0.1, 0.2, 0.3, against="all"), "against"),
        (lambda: worst_case.update_rise(1.0, 0.1, 0.2, 0.3, kappa_smoothness=0.0), "kappa_smoothness"),
        (lambda: worst_case.update_rise(1.0, 0.1, 0.2, 0.3, smoothness=float("inf")), "smoothness"),
        (lambda: ln.monotone_lr(0.1, 1.0, 0.3), "beta1 and beta2"),
        (lambda: ln.monotone_lr(0.1, 0.2, 0.3, kappa_smoothness=0.0), "kappa_smoothness"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call, word):
    with pytest.raises(ValueError, match=word):
        call()


@pytest.mark.parametrize(("attained", "bound", "violation"), [(0.0, 1e-3, 0.0), (1e-3, 1e-3, 1e-3)])
def test_an_unsettled_programme_claims_nothing(attained, bound, violation):
    rise = worst_case.Rise(attained, bound, violation, "optimal")
    assert not rise.never
    assert not rise.can


def test_a_failed_programme_claims_nothing():
    rise = worst_case.Rise(np.nan, np.nan, np.nan, "failed")
    assert not rise.never
    assert not rise.can


@pytest.mark.slow
def test_the_book_of_worst_cases():
    claims = list(verify.worst_cases())
    assert [claim.verdict for claim in claims] == [Verdict.HELD] * 5


def test_the_book_of_worst_cases_can_refuse(monkeypatch):
    monkeypatch.setattr(verify, "FRONTIER", ((0.2, 0.5, 0.5),))
    monkeypatch.setattr(verify, "monotone_lr", lambda *numbers: 1.1 * ln.monotone_lr(*numbers))
    assert verify._frontier().verdict is Verdict.VIOLATED
