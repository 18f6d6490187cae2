"""Known methods as Lion-κ systems: each is stepped by `iterate` with the η it was made with.

Quadratic κ makes the momentum methods, L1 the sign methods, Nuclear Muon. With ∇ = ∇f(xₖ) each docstring
gives the classical recurrence that the updates equal, in the x of the updates. Where a library's learning
rate is not η, η is stated: a momentum that sums gradients, v⁺ = βv − lr·∇, is η times one that averages
them, so η = lr/(1−β).

Source of the list: Chen, Liu, Liang & Liu (ICLR 2024), section 3.2 and table 2.
"""

from __future__ import annotations

from lionode import _validate, kappas
from lionode.kappas.base import Potential
from lionode.objectives.base import Objective
from lionode.system import LionK, Optimizer

__all__ = [
    "accelerated_mirror_descent",
    "decoupled_weight_decay",
    "dual_preconditioning",
    "frank_wolfe",
    "hamiltonian",
    "lion",
    "mirror_descent",
    "muon",
    "nesterov",
    "normalized_momentum",
    "polyak",
    "sign_sgd",
    "signum",
]


def polyak(objective: Objective, lr: float = 0.01, beta: float = 0.9) -> LionK:
    """Heavy ball: v⁺ = βv − lr∇,  x⁺ = x + v⁺.

    Quadratic, λ = 0, β₁ = β₂ = β, η = lr/(1−β), v = ηm. Source: Polyak (1964).
    """
    beta = _beta(beta)
    return _system(objective, kappas.Quadratic(), _averaged(lr, beta), beta, beta)


def nesterov(objective: Objective, lr: float = 0.01, beta: float = 0.9) -> LionK:
    """Nesterov momentum: w⁺ = x − lr∇,  x⁺ = w⁺ + β(w⁺ − w), the gradient taken at x.

    In velocities v⁺ = βv − lr∇, x⁺ = x + βv⁺ − lr∇, which is x⁺ = x + β²v − (1+β)lr∇. Quadratic, λ = 0,
    β₁ = β², β₂ = β, η = lr/(1−β), v = ηm: the weight of ∇ in m̃ is 1 − β² = (1−β)(1+β), so it agrees with
    the textbook without a rescaled gradient. m0 = 0 is w = x. Source: Nesterov (1983); Sutskever, Martens,
    Dahl & Hinton (2013).
    """
    beta = _beta(beta)
    return _system(objective, kappas.Quadratic(), _averaged(lr, beta), beta**2, beta)


def decoupled_weight_decay(
    objective: Objective, lr: float = 0.01, beta: float = 0.9, lam: float = 0.01
) -> LionK:
    """Momentum with decoupled weight decay (SGDW): v⁺ = βv − lr∇,  x⁺ = x + v⁺ − lr·lam·x.

    Quadratic, β₁ = β₂ = β, η = lr/(1−β), λ = (1−β)lam: it solves min f + (λ/2)‖x‖². Source: Loshchilov &
    Hutter (2019).
    """
    beta = _beta(beta)
    decay = (1 - beta) * _validate.positive("lam", lam)
    return _system(objective, kappas.Quadratic(), _averaged(lr, beta), beta, beta, decay)


def signum(objective: Objective, lr: float = 0.01, beta: float = 0.9, lam: float = 0.0) -> LionK:
    """Signed momentum: m⁺ = βm − (1−β)∇,  x⁺ = x + lr(sign(m⁺) − lam·x).

    L1, β₁ = β₂ = β. Source: Bernstein, Wang, Azizzadenesheli & Anandkumar (2018).
    """
    return _system(objective, kappas.L1(), lr, beta, beta, lam)


def sign_sgd(objective: Objective, lr: float = 0.01) -> LionK:
    """Sign descent: x⁺ = x − lr·sign(∇).

    L1, λ = 0, β₁ = β₂ = 0. Source: Bernstein, Wang, Azizzadenesheli & Anandkumar (2018).
    """
    return _system(objective, kappas.L1(), lr, 0.0, 0.0)


def normalized_momentum(objective: Objective, lr: float = 0.01, beta: float = 0.9) -> LionK:
    """Normalised momentum: m⁺ = βm − (1−β)∇,  x⁺ = x + lr·m⁺/‖m⁺‖₂.

    Lp(2), λ = 0, β₁ = β₂ = β. Source: Cutkosky & Mehta (2020).
    """
    return _system(objective, kappas.Lp(2.0), lr, beta, beta)


def lion(
    objective: Objective, lr: float = 1e-4, beta1: float = 0.9, beta2: float = 0.99, lam: float = 1.0
) -> LionK:
    """Lion: x⁺ = x + lr(sign(β₁m − (1−β₁)∇) − lam·x),  m⁺ = β₂m − (1−β₂)∇.

    L1; it solves min f over ‖x‖∞ ≤ 1/λ. Source: X. Chen et al. (2023).
    """
    return _system(objective, kappas.L1(), lr, beta1, beta2, lam)


def muon(
    objective: Objective,
    shape: tuple[int, int],
    lr: float = 0.02,
    beta: float = 0.95,
    lam: float = 0.0,
    *,
    nesterov: bool = True,
) -> LionK:
    """Muon: B⁺ = βB + ∇,  x⁺ = x − lr(polar(∇ + βB⁺) + lam·x), or polar(B⁺) without ``nesterov``.

    polar(UΣVᵀ) = UVᵀ, here exact. Nuclear(shape), m = −(1−β)B, β₂ = β and β₁ = β² (or β): polar does not see
    the scale, and ∇ + βB⁺ is a multiple of β²B·(1−β) + (1−β²)∇. Source: Jordan et al. (2024).
    """
    beta = _beta(beta)
    return _system(objective, kappas.Nuclear(shape), lr, beta**2 if nesterov else beta, beta, lam)


def hamiltonian(objective: Objective, kappa: Potential, gamma: float = 1.0, lr: float | None = None) -> LionK:
    """Hamiltonian descent, the flow ẋ = ∇κ(m), ṁ = −∇f − γm; with ``lr`` its first explicit method.

    That is m⁺ = δ(m − lr∇), x⁺ = x + lr∇κ(m⁺), δ = 1/(1 + lr·γ): α = δ, γδ for γ, ε = η = lr, λ = 0, so
    β₁ = β₂ = δ. Without ``lr`` ε = 0, which has no updates. Source: Maddison, Paulin, Teh, O'Donoghue &
    Doucet (2018), eqs. (3) and (5).
    """
    gamma = _validate.positive("gamma", gamma)
    if lr is None:
        return LionK(objective, kappa, 1.0, gamma, 0.0, 0.0)
    lr = _validate.positive("lr", lr)
    delta = 1 / (1 + lr * gamma)
    own = Optimizer(lr, delta, delta, 0.0)
    return LionK(objective, kappa, delta, gamma * delta, lr, 0.0, optimizer=own)


def dual_preconditioning(objective: Objective, kappa: Potential, lr: float = 0.01) -> LionK:
    """Dual space preconditioning: x⁺ = x + lr∇κ(−∇).

    εγ = 1, λ = 0, β₁ = β₂ = 0. In y = ∇f(x) it is mirror descent on y ↦ κ(−y) with mirror map ∇f* (see
    `mirror_descent`, the same system). Source: Maddison, Paulin, Teh & Doucet (2021).
    """
    return _system(objective, kappa, lr, 0.0, 0.0)


mirror_descent = dual_preconditioning


def frank_wolfe(objective: Objective, kappa: Potential, lr: float = 0.01) -> LionK:
    """Frank–Wolfe with step lr: x⁺ = (1−lr)x + lr·s,  s ∈ argmin over C of ⟨∇, s⟩ = ∂κ(−∇).

    εγ = 1, λ = 1, β₁ = β₂ = 0; κ is the support function of C: L1 of the cube, LInf of the ℓ1 ball, Lp of the
    dual ball. Source: Frank & Wolfe (1956).
    """
    return _system(objective, kappa, lr, 0.0, 0.0, 1.0)


def accelerated_mirror_descent(
    objective: Objective, kappa: Potential, lam: float = 1.0, lr: float | None = None
) -> LionK:
    """Accelerated mirror descent, the flow ṁ = −∇f, ẋ = ∇κ(m) − λx; with ``lr`` its updates.

    Those are m⁺ = m − lr∇, x⁺ = x + lr(∇κ(m⁺) − λx): x averages the mirror points ∇κ(m)/λ. γ = 0, α = 1,
    ε = η = lr, so β₁ = β₂ = 1; without ``lr`` ε = 0, which has no updates. Source: Krichene, Bayen & Bartlett
    (2015), with their rates r/t and t/r frozen.
    """
    lam = _validate.positive("lam", lam)
    if lr is None:
        return LionK(objective, kappa, 1.0, 0.0, 0.0, lam)
    lr = _validate.positive("lr", lr)
    return LionK(objective, kappa, 1.0, 0.0, lr, lam, optimizer=Optimizer(lr, 1.0, 1.0, lam))


def _system(
    objective: Objective, kappa: Potential, lr: float, beta1: float, beta2: float, lam: float = 0.0
) -> LionK:
    return LionK.from_optimizer(objective, kappa, lr=lr, beta1=beta1, beta2=beta2, lam=lam)


def _beta(beta: float) -> float:
    beta = _validate.real("beta", beta)
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be in [0, 1), got {beta:g}")
    return beta


def _averaged(lr: float, beta: float) -> float:
    """η of a momentum that averages gradients where lr belongs to one that sums them."""
    return _validate.positive("lr", lr) / (1 - beta)
