"""The coefficients: their dictionary to the optimizer's, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lionode as ln

F = ln.objectives.quadratic(np.array([[2.0, 0.3], [0.3, 1.1]]), np.array([0.4, -0.2]))
K = ln.kappas.PseudoHuber(0.3)


@given(
    lr=st.floats(1e-6, 10),
    betas=st.tuples(st.floats(0, 0.9999), st.floats(0, 0.9999)).map(sorted),
    lam=st.floats(0, 100),
)
def test_dictionary_round_trip(lr: float, betas: list[float], lam: float) -> None:
    beta1, beta2 = betas
    system = ln.LionK.from_optimizer(F, K, lr=lr, beta1=beta1, beta2=beta2, lam=lam)
    assert system.to_optimizer() == (lr, beta1, beta2, lam)
    # Through the coefficients alone, β = 1 − (…) loses digits of 1 − β only by rounding of 1.
    bare = system.replace()
    back = bare.to_optimizer(lr * (1 - 1e-15))
    assert back.beta1 == pytest.approx(beta1, abs=1e-13)
    assert back.beta2 == pytest.approx(beta2, abs=1e-13)


def test_dictionary_by_hand() -> None:
    system = ln.LionK.from_optimizer(F, K, lr=0.02, beta1=0.9, beta2=0.98, lam=0.5)
    assert system.alpha == system.gamma == pytest.approx(1.0)
    assert system.epsilon == pytest.approx(0.1)
    assert system.lam == 0.5


BAD = [
    ({"kappa": ln.kappas.Scaled(ln.kappas.TopK(7), 2.0)}, "acts on at least 7 components"),
    ({"epsilon": 1.0, "gamma": 1.2}, r"epsilon\*gamma must be ≤ 1"),
    ({"lam": -0.1}, "lam must be ≥ 0"),
    ({"alpha": 0.0}, "alpha must be > 0"),
    ({"gamma": -1.0}, "gamma must be ≥ 0"),
    ({"epsilon": -1.0}, "epsilon must be ≥ 0"),
    ({"gamma": 0.0, "lam": 0.0}, "must not both be 0"),
    ({"alpha": float("nan")}, "alpha must be finite"),
    ({"lam": float("inf")}, "lam must be finite"),
    ({"kappa": ln.kappas.GroupL2([[0, 1], [2]])}, "kappa"),
]


@pytest.mark.parametrize(("change", "text"), BAD, ids=[str(row[0]) for row in BAD])
def test_bad_coefficients(change, text) -> None:
    arguments = {"objective": F, "kappa": K, "alpha": 1.0, "gamma": 1.0, "epsilon": 0.5, "lam": 1.5}
    with pytest.raises(ValueError, match=text) as caught:
        ln.LionK(**{**arguments, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"objective": 3}, {"kappa": "l1"}, {"alpha": "1"}, {"alpha": True}, {"lam": 1j}], ids=str
)
def test_wrong_types(change) -> None:
    with pytest.raises(TypeError):
        ln.LionK(**{"objective": F, "kappa": K, **change})


BAD_OPTIMIZER = [
    ({"lr": 0.0}, "lr must be > 0"),
    ({"lr": -1.0}, "lr"),
    ({"beta1": 0.99, "beta2": 0.9}, "beta1 must be ≤ beta2"),
    ({"beta2": 1.0}, r"beta2 must be in \[0, 1\)"),
    ({"beta1": -0.1}, r"beta1 must be in \[0, 1\)"),
    ({"lam": -1.0}, "lam"),
]


@pytest.mark.parametrize(("change", "text"), BAD_OPTIMIZER, ids=[str(row[0]) for row in BAD_OPTIMIZER])
def test_bad_optimizer(change, text) -> None:
    good = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "lam": 0.1}
    with pytest.raises(ValueError, match=text):
        ln.LionK.from_optimizer(F, K, **{**good, **change})


def test_updates_that_the_coefficients_do_not_allow() -> None:
    with pytest.raises(ValueError, match="lr must be ≤ epsilon"):
        ln.LionK(F, K, epsilon=0.1).to_optimizer(0.2)
    with pytest.raises(ValueError, match="lr must be ≤ 1/gamma"):
        ln.LionK(F, K, gamma=4.0, epsilon=0.2).to_optimizer(0.3)
