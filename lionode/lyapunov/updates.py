"""The discrete theorem: how much H may rise in one update with implicit decay."""

from __future__ import annotations

import math

import numpy as np

from lionode import _validate
from lionode._validate import Array
from lionode.lyapunov.function import lyapunov
from lionode.system import LionK
from lionode.trajectory import Trajectory

__all__ = ["implicit_twin", "monotone_lr", "update_defect", "update_excess"]


def monotone_lr(
    beta1: float,
    beta2: float,
    lam: float,
    *,
    smoothness: float = 1.0,
    kappa_smoothness: float = 1.0,
    decay: str = "explicit",
) -> float:
    """The learning rate up to which no update raises H, for all L-smooth f and ℓ-smooth convex κ.

    With implicit decay that is ``η(Lℓ − λ(1+cλ)) ≤ 2(1+cλ)``, c = ηβ₁/(ηλ(1−β₁) + 1−β₂). For ∇κ is
    ℓ-Lipschitz exactly if κ* is 1/ℓ-strongly convex: then Δ₁ ≥ ‖V‖²/ℓ in the discrete theorem, and
    κ*(λxₖ₊₁) − κ*(λxₖ) ≤ ⟨z, λΔx⟩ − (λη)²‖V‖²/2ℓ where the theorem has only ⟨z, λΔx⟩; so
    Hₖ₊₁ − Hₖ ≤ −(η/2ℓ)[(2 + ηλ)(1+cλ) − ηLℓ]‖V‖². No larger η will do: `lionode.worst_case` finds f and κ
    for which H rises. Explicit decay with η is implicit decay with η/(1−ηλ).

    Parameters
    ----------
    beta1, beta2, lam : float
        0 ≤ β₁ ≤ β₂ < 1 and λ ≥ 0.
    smoothness, kappa_smoothness : float, optional
        L and ℓ, the Lipschitz constants of ∇f and ∇κ.
    decay : str, optional
        ``"explicit"`` or ``"implicit"``.

    Returns
    -------
    float
        Infinite if every η will do; with explicit decay 1/λ then, which η must stay below.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    beta1, beta2 = _validate.betas(beta1, beta2)
    lam = _validate.nonnegative("lam", lam)
    product = _validate.positive("smoothness", smoothness) * _validate.positive(
        "kappa_smoothness", kappa_smoothness
    )
    _validate.choice("decay", decay, ("explicit", "implicit"))
    # 1 + cλ = (ηλ + 1−β₂)/(ηλ(1−β₁) + 1−β₂) makes the condition aη² + bη ≤ 2(1−β₂): its least positive root.
    a = product * lam * (1 - beta1) - lam**2
    b = (1 - beta2) * (product - lam) - 2 * lam
    root = math.sqrt(max(0.0, square := b * b + 8 * a * (1 - beta2)))
    if square < 0 or (a <= 0 and b <= 0):
        lr = math.inf
    else:
        lr = 4 * (1 - beta2) / (b + root) if b > 0 else (root - b) / (2 * a)
    if decay == "implicit" or (math.isinf(lr) and lam == 0):
        return lr
    return 1 / (1 / lr + lam)


def implicit_twin(run: Trajectory) -> LionK | str:
    """The system, with its η, whose implicit-decay updates are the steps of `run`, or why there is none.

    Explicit decay with η is implicit decay with η/(1−ηλ) and the same β₁, β₂.
    """
    system, lr = run.system, run.info["lr"]
    if run.info.get("look_ahead") == "next":
        return "the theorem is about the current look-ahead"
    if run.info.get("record_every", 1) != 1:
        return "needs every update: record_every=1"
    if run.info.get("stochastic"):
        return "the theorem is about exact gradients"
    if system.gamma == 0:
        return "the theorem needs β₂ < 1"
    if run.method == "explicit":
        if lr * system.lam >= 1:
            return f"explicit decay with η·λ = {lr * system.lam:g} ≥ 1 has no implicit form"
        lr = lr / (1 - lr * system.lam)
    beta1, beta2 = run.info["beta1"], run.info["beta2"]
    gamma = (1 - beta2) / lr
    return LionK(
        system.objective,
        system.kappa,
        alpha=gamma * system.alpha / system.gamma,
        gamma=gamma,
        epsilon=(1 - beta1) / gamma,
        lam=system.lam,
    )


def update_defect(run: Trajectory, x: Array, m: Array) -> tuple[Array, Array]:
    """How far each state is from the update of the one before, and the size of the numbers that made it.

    u = (xₖ₊₁ − xₖ)/η + λx is in ∂κ(m̃) iff m̃ = prox_κ(m̃ + u): unlike a comparison with one selection this
    is continuous at the kinks of κ.

    Parameters
    ----------
    run : Trajectory
        Updates with exact gradients, every one recorded.
    x, m : ndarray, shape (n, d)
        Consecutive states.

    Returns
    -------
    defect, size : ndarray, shape (n - 1,)
    """
    system, lr, beta1 = run.system, run.info["lr"], run.info["beta1"]
    g = system.alpha * system.objective.gradient(x[:-1])
    m_next = run.info["beta2"] * m[:-1] - lr * g
    m_tilde = beta1 * (m_next if run.info["look_ahead"] == "next" else m[:-1]) - system.epsilon * g
    decayed = x[1:] if run.method == "implicit" else x[:-1]
    u = np.diff(x, axis=0) / lr + system.lam * decayed
    in_x = lr * (m_tilde - system.kappa.prox(m_tilde + u))
    defect = np.linalg.norm(np.concatenate([in_x, m[1:] - m_next], axis=-1), axis=-1)
    parts = [x[:-1], x[1:], m[:-1], m[1:], lr * g, lr * m_tilde, lr * u]
    return defect, np.linalg.norm(np.concatenate(parts, axis=-1), axis=-1)


def update_excess(run: Trajectory, twin: LionK, x: Array, m: Array) -> tuple[Array, str]:
    """How far each step of H exceeds −η(1+cλ)Δ₁ − c(1−β₂)/(β₂−β₁)Δ₂ + (L/2)η²‖V‖², which should be ≤ 0.

    H here is the flow's H of the twin divided by γ, and c = ηβ₁/(ηλ(1−β₁) + 1 − β₂).

    Parameters
    ----------
    run : Trajectory
        Updates, every one recorded.
    twin : LionK
        Its `implicit_twin`.
    x, m : ndarray, shape (n, d)
        Consecutive states with λx in dom κ*.

    Returns
    -------
    excess : ndarray, shape (n - 1,)
    note : str
        The L that was used: the objective's own, or where it has none the smallest that the descent lemma
        allows on each step, which makes the bound of that step as sharp as it can be.
    """
    kappa, lam = twin.kappa, twin.lam
    beta1, beta2 = run.info["beta1"], run.info["beta2"]
    lr = (1 - beta2) / twin.gamma
    scale = twin.alpha / twin.gamma
    c = lr * beta1 / (lr * lam * (1 - beta1) + 1 - beta2)
    g = scale * twin.objective.gradient(x[:-1])
    m_tilde = beta1 * m[:-1] - (1 - beta1) * g
    step = np.diff(x, axis=0)
    v = step / lr
    u = v + lam * x[1:]
    z, s = kappa.conjugate_subgradient(lam * x[1:]), kappa.subgradient(m[1:])
    with np.errstate(invalid="ignore"):
        delta1 = np.sum(np.where(v == 0, 0.0, (m_tilde - z) * v), axis=-1)
    turn = 0.0
    if beta2 > beta1:
        # m̃ₖ₊₁ − mₖ₊₁ = (β₁ − β₂)(mₖ + ∇f): dividing by β₂ − β₁ first keeps it exact as they meet.
        turn = c * (1 - beta2) * np.sum(-(m[:-1] + g) * (u - s), axis=-1)
    energies = lyapunov(twin, x, m) / twin.gamma
    square = np.sum(step**2, axis=-1)
    if twin.objective.smoothness is not None:
        half_l = scale * twin.objective.smoothness / 2 * square
        note = f"L = {scale * twin.objective.smoothness:g}"
    else:
        half_l = scale * np.diff(twin.objective.value(x)) - np.sum(g * step, axis=-1)
        note = "L as realised on each step"
    return np.asarray(np.diff(energies) + lr * (1 + c * lam) * delta1 + turn - half_l), note
