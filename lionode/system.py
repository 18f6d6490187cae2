"""A loss, a potential and four coefficients: the Lion-κ system, its velocity and its Jacobian."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.kappas.base import Potential
from lionode.objectives.base import Objective

__all__ = ["LionK", "Optimizer"]

EG_SLACK = 1e-12
"""Rounding allowed in εγ ≤ 1: ε = (1−β₁)/γ gives εγ = 1 up to two roundings when β₁ = 0."""


class Optimizer(NamedTuple):
    """The coefficients of the updates: η, β₁, β₂, λ, as optimizer libraries name them."""

    lr: float
    beta1: float
    beta2: float
    lam: float


@dataclass(frozen=True)
class LionK:
    """The Lion-κ system: ṁ = −α∇f(x) − γm,  m̃ = m − ε(α∇f(x) + γm),  ẋ ∈ ∂κ(m̃) − λx.

    It solves min αf(x) + (γ/λ)κ*(λx). Source: Chen, Liu, Liang & Liu (ICLR 2024), eq. (4).

    Parameters
    ----------
    objective : Objective
        f on R^d.
    kappa : Potential
        κ on R^d.
    alpha, gamma, epsilon, lam : float
        α > 0, γ ≥ 0, ε ≥ 0, λ ≥ 0, with γ + λ > 0 and εγ ≤ 1 (beyond it H can rise).

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is named above, or κ needs another dimension than f has.
    """

    objective: Objective
    kappa: Potential
    alpha: float = 1.0
    gamma: float = 1.0
    epsilon: float = 0.5
    lam: float = 1.5
    optimizer: Optimizer | None = field(default=None, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.objective, Objective):
            raise TypeError(
                f"objective must be an Objective, got {self.objective!r}; "
                "lionode.objectives.from_expression or lionode.Objective makes one"
            )
        if not isinstance(self.kappa, Potential):
            raise TypeError(f"kappa must be a Potential such as lionode.kappas.L1(), got {self.kappa!r}")
        for name, check in (
            ("alpha", _validate.positive),
            ("gamma", _validate.nonnegative),
            ("epsilon", _validate.nonnegative),
            ("lam", _validate.nonnegative),
        ):
            object.__setattr__(self, name, check(name, getattr(self, name)))
        if self.gamma + self.lam == 0:
            raise ValueError("gamma and lam must not both be 0: nothing would dissipate")
        if self.epsilon * self.gamma > 1 + EG_SLACK:
            raise ValueError(
                f"epsilon*gamma must be ≤ 1 or H can rise, got {self.epsilon:g}*{self.gamma:g} = "
                f"{self.epsilon * self.gamma:g}; take epsilon ≤ {1 / self.gamma:g}"
            )
        if self.kappa.dim not in (None, self.objective.dim):
            raise ValueError(
                f"kappa {self.kappa} acts on {self.kappa.dim} components, "
                f"the objective has {self.objective.dim}"
            )
        if self.objective.dim < self.kappa.least_dim:
            raise ValueError(
                f"kappa {self.kappa} acts on at least {self.kappa.least_dim} components, "
                f"the objective has {self.objective.dim}"
            )

    @classmethod
    def from_optimizer(
        cls, objective: Objective, kappa: Potential, *, lr: float, beta1: float, beta2: float, lam: float
    ) -> LionK:
        """The system whose updates are an optimizer's: α = γ = (1−β₂)/η, ε = η(1−β₁)/(1−β₂).

        Parameters
        ----------
        objective, kappa : Objective, Potential
            f and κ.
        lr, beta1, beta2, lam : float
            η > 0, 0 ≤ β₁ ≤ β₂ < 1, λ ≥ 0 (decoupled weight decay).

        Raises
        ------
        ValueError
            If a coefficient is outside these ranges.
        """
        lr = _validate.positive("lr", lr)
        beta1, beta2 = _validate.real("beta1", beta1), _validate.real("beta2", beta2)
        for name, beta in (("beta1", beta1), ("beta2", beta2)):
            if not 0 <= beta < 1:
                raise ValueError(f"{name} must be in [0, 1), got {beta:g}")
        if beta1 > beta2:
            raise ValueError(f"beta1 must be ≤ beta2, got beta1={beta1:g} > beta2={beta2:g}")
        lam = _validate.nonnegative("lam", lam)
        gamma = (1 - beta2) / lr
        epsilon = lr * (1 - beta1) / (1 - beta2)
        return cls(objective, kappa, gamma, gamma, epsilon, lam, optimizer=Optimizer(lr, beta1, beta2, lam))

    def to_optimizer(self, lr: float | None = None) -> Optimizer:
        """The updates of step size η: β₁ = 1 − εγ, β₂ = 1 − ηγ.

        Parameters
        ----------
        lr : float, optional
            η with 0 < η ≤ ε and ηγ ≤ 1. By default the one given to `from_optimizer`, else 0.01.

        Raises
        ------
        ValueError
            If η gives β₁ > β₂ or a β outside [0, 1].
        """
        if self.optimizer is not None and (lr is None or lr == self.optimizer.lr):
            return self.optimizer
        lr = 0.01 if lr is None else _validate.positive("lr", lr)
        if lr * self.gamma > 1 + EG_SLACK:
            raise ValueError(
                f"lr must be ≤ 1/gamma = {1 / self.gamma:g} so that beta2 = 1 − lr*gamma ≥ 0, got {lr:g}"
            )
        if lr > self.epsilon * (1 + EG_SLACK):
            raise ValueError(
                f"lr must be ≤ epsilon = {self.epsilon:g} so that beta1 ≤ beta2, got {lr:g}; "
                f"replace(epsilon={lr:g}) gives beta1 = beta2"
            )
        beta2 = max(0.0, 1 - lr * self.gamma)
        beta1 = min(beta2, max(0.0, 1 - self.epsilon * self.gamma))
        return Optimizer(lr, beta1, beta2, self.lam)

    def replace(self, **changes: object) -> LionK:
        """A copy with some fields changed; the optimizer coefficients are then derived anew."""
        return dataclasses.replace(self, **{"optimizer": None, **changes})  # type: ignore[arg-type]

    @property
    def dim(self) -> int:
        """The number d of parameters; the state (x, m) has 2d components."""
        return self.objective.dim

    @property
    def coefficients(self) -> dict[str, float]:
        """α, γ, ε, λ by name."""
        return {"alpha": self.alpha, "gamma": self.gamma, "epsilon": self.epsilon, "lam": self.lam}

    def look_ahead(self, x: ArrayLike, m: ArrayLike, gradient: Array | None = None) -> Array:
        """m̃ = m − ε(α∇f(x) + γm). Shapes ``(..., d)``; pass ∇f(x) if it is already known."""
        g = self.objective.gradient(x) if gradient is None else gradient
        m = np.asarray(m, dtype=np.float64)
        return (1 - self.epsilon * self.gamma) * m - self.epsilon * self.alpha * g

    def velocity(self, x: ArrayLike, m: ArrayLike, u: ArrayLike | None = None) -> tuple[Array, Array]:
        """(ẋ, ṁ) at (x, m), with the selection u ∈ ∂κ(m̃) or the potential's own. Shapes ``(..., d)``."""
        x, m = np.asarray(x, dtype=np.float64), np.asarray(m, dtype=np.float64)
        g = self.objective.gradient(x)
        if u is None:
            u = self.kappa._subgradient(self.look_ahead(x, m, g))
        return np.asarray(u) - self.lam * x, -self.alpha * g - self.gamma * m

    def jacobian(self, x: ArrayLike, m: ArrayLike) -> Array:
        """∂(ẋ, ṁ)/∂(x, m), for κ with a Hessian. Shapes ``(..., d)`` to ``(..., 2d, 2d)``.

        Raises
        ------
        ValueError
            If κ is set-valued or f has no Hessian.
        """
        x, m = np.asarray(x, dtype=np.float64), np.asarray(m, dtype=np.float64)
        curvature = self.kappa.hessian(self.look_ahead(x, m))
        hessian = self.objective.hessian(x)
        hessian = hessian.toarray() if hasattr(hessian, "toarray") else hessian
        eye = np.broadcast_to(np.eye(self.dim), curvature.shape)
        top = np.concatenate(
            [
                -self.epsilon * self.alpha * curvature @ hessian - self.lam * eye,
                (1 - self.epsilon * self.gamma) * curvature,
            ],
            axis=-1,
        )
        bottom = np.concatenate([-self.alpha * hessian, -self.gamma * eye], axis=-1)
        return np.concatenate([top, bottom], axis=-2)
