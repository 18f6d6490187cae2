"""How much H can rise in one step, over whole classes of f and κ: small semidefinite programmes.

A step involves f and κ only at a few points. Values and gradients there belong to some convex function
exactly if they satisfy the interpolation inequalities (Taylor, Hendrickx and Glineur, 2017), which are linear
in the inner products of all vectors: so the largest H⁺ − H over *every* convex f and κ, in any dimension, is
the value of a semidefinite programme in the Gram matrix. κ* enters through points z with y ∈ ∂κ(z), where
κ*(y) = ⟨z, y⟩ − κ(z). H scales with its arguments, so the programmes ask for the largest rise while the
squares of all vectors sum to at most 1, in units of the largest coefficient in H: it is 0 exactly if H cannot
rise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lionode import _validate

__all__ = ["CERTAIN", "Rise", "largest_lr", "step_rise", "tightness", "update_rise"]

CERTAIN = 1e-6
"""Values are claims only where the gap between the programme's two sides is smaller; Clarabel stops at 1e-8
relative to numbers of order 1, and the two sides agree to a few times that."""

Loss = Literal["convex", "smooth"]
LOSSES: tuple[Loss, Loss] = ("convex", "smooth")

LR_TOL = 1e-3
"""Relative accuracy of `largest_lr`."""


@dataclass(frozen=True)
class Rise:
    """The value of a programme, from its two sides.

    Attributes
    ----------
    attained : float
        The largest rise found: some f and κ have it.
    bound : float
        No f and κ have more: the value of the dual, with the violations of its constraints accounted for.
    violation : float
        The largest violation of a constraint by what attains the rise.
    status : str
        The solver's own word.
    """

    attained: float
    bound: float
    violation: float
    status: str

    @property
    def gap(self) -> float:
        """The difference of the two sides."""
        return abs(self.bound - self.attained)

    @property
    def certain(self) -> bool:
        """Whether the programme was solved: gap and violation ≤ `CERTAIN`, whatever the solver calls it."""
        return self.gap <= CERTAIN and self.violation <= CERTAIN

    @property
    def never(self) -> bool:
        """Whether H is shown never to rise."""
        return self.certain and self.bound <= CERTAIN

    @property
    def can(self) -> bool:
        """Whether H is shown to rise for some f and κ."""
        return self.certain and self.attained > CERTAIN


def step_rise(
    step: float,
    *,
    alpha: float = 1.0,
    gamma: float = 1.0,
    epsilon: float = 0.0,
    lam: float = 1.0,
    c_factor: float = 1.0,
) -> Rise:
    """The largest H(x⁺, m⁺) − H(x, m) of a backward Euler step, over all convex f and convex κ.

    The theorem says 0, for any step.

    Parameters
    ----------
    step : float
        h > 0.
    alpha, gamma, epsilon, lam : float
        The coefficients of the flow; α, γ, λ > 0 and εγ ≤ 1.
    c_factor : float, optional
        Multiplies the c of H: anything but 1 is a wrong H, which the programme should refuse.

    Returns
    -------
    Rise

    Raises
    ------
    ValueError
        If an argument is out of its range.
    ImportError
        If PEPit or Clarabel is missing.
    """
    h = _validate.positive("step", step)
    alpha, gamma = _validate.positive("alpha", alpha), _validate.positive("gamma", gamma)
    epsilon, lam = _validate.nonnegative("epsilon", epsilon), _validate.positive("lam", lam)
    if epsilon * gamma > 1:
        raise ValueError(f"epsilon*gamma must be ≤ 1, got {epsilon:g}·{gamma:g} = {epsilon * gamma:g}")
    programme = _Programme(h, "convex", math.inf, math.inf)
    x, m, g_next, u = programme.vector(), programme.vector(), programme.vector(), programme.velocity()
    x_next = (x + h * u) / (1 + h * lam)
    m_next = (m - h * alpha * g_next) / (1 + h * gamma)
    m_tilde = m_next - epsilon * (alpha * g_next + gamma * m_next)
    programme.kappa_at(m_tilde, u)
    rise = alpha * (programme.loss_at(x_next, g_next) - programme.loss_at(x))
    c = c_factor * (1 - epsilon * gamma) / (1 + epsilon * lam)
    rise += programme.potential_rise(gamma / lam, c, lam, (x, m), (x_next, m_next))[0]
    return programme.solve(rise / max(alpha, gamma / lam + c))


def update_rise(
    lr: float,
    beta1: float,
    beta2: float,
    lam: float,
    *,
    decay: Literal["explicit", "implicit"] = "implicit",
    loss: Loss = "convex",
    smoothness: float = 1.0,
    kappa_smoothness: float = math.inf,
    against: Literal["zero", "bound", "square"] = "zero",
    share: float = 1.0,
) -> Rise:
    """The largest Hₖ₊₁ − Hₖ of an update, over all L-smooth f and convex κ, alone or beyond a bound.

    H is that of the discrete theorem; with explicit decay, that of the implicit update it equals, whose
    learning rate is η/(1−ηλ).

    Parameters
    ----------
    lr, beta1, beta2, lam : float
        η > 0, 0 ≤ β₁ ≤ β₂ < 1, λ ≥ 0, and ηλ < 1 with explicit decay. λ = 0 stands for the limit of H.
    decay : str, optional
        ``"implicit"`` or ``"explicit"``.
    loss : str, optional
        ``"convex"`` for convex L-smooth f, ``"smooth"`` for all L-smooth f.
    smoothness : float, optional
        L, the Lipschitz constant of ∇f.
    kappa_smoothness : float, optional
        That of ∇κ; infinite, the default, allows every convex κ.
    against : str, optional
        What is subtracted from the rise: nothing, the bound of the theorem, or only its last term,
        (L/2)η²‖V‖².
    share : float, optional
        How much of that: with ``"square"`` the least share for which nothing remains is how tight it is.

    Returns
    -------
    Rise

    Raises
    ------
    ValueError, ImportError
        As `step_rise`.
    """
    lr, lam = _validate.positive("lr", lr), _validate.nonnegative("lam", lam)
    beta1, beta2 = _validate.betas(beta1, beta2)
    _validate.choice("decay", decay, ("explicit", "implicit"))
    _validate.choice("against", against, ("zero", "bound", "square"))
    if decay == "explicit":
        if lr * lam >= 1:
            raise ValueError(f"lr*lam must be < 1 with explicit decay, got {lr:g}·{lam:g} = {lr * lam:g}")
        lr = lr / (1 - lr * lam)
    smoothness = _validate.positive("smoothness", smoothness)
    if not kappa_smoothness > 0:
        raise ValueError(f"kappa_smoothness must be > 0, or inf for every convex κ, got {kappa_smoothness}")
    programme = _Programme(lr, loss, smoothness, kappa_smoothness)
    x, m, g, u = programme.vector(), programme.vector(), programme.vector(), programme.velocity()
    x_next = (x + lr * u) / (1 + lr * lam)
    m_tilde, m_next = beta1 * m - (1 - beta1) * g, beta2 * m - (1 - beta2) * g
    programme.kappa_at(m_tilde, u)
    rise = programme.loss_at(x_next) - programme.loss_at(x, g)
    c = lr * beta1 / (lr * lam * (1 - beta1) + 1 - beta2)
    weight = 1 / lam if lam else 1.0
    potential, z_next, s_next = programme.potential_rise(weight, c, lam, (x, m), (x_next, m_next))
    rise += potential
    v = u - lam * x_next
    if against != "zero":
        rise -= share * smoothness / 2 * lr**2 * v**2
    if against == "bound":
        rise += share * lr * (1 + c * lam) * ((m_tilde - z_next) * v)
        # m̃ₖ₊₁ − mₖ₊₁ = (β₁ − β₂)(mₖ + ∇f): so Δ₂ (1−β₂)/(β₂−β₁) has no 0/0 where they meet.
        if beta2 > beta1:
            rise -= share * c * (1 - beta2) * ((m + g) * (u - s_next))
    return programme.solve(rise / max(1.0, weight + c))


def tightness(lr: float, beta1: float, beta2: float, lam: float, **classes: Any) -> float:
    """How tight (L/2)η²‖V‖² is as a bound of the rise of H: the largest (Hₖ₊₁ − Hₖ)/((L/2)η²‖V‖²).

    1 means that some f and κ reach it.

    Parameters
    ----------
    lr, beta1, beta2, lam, **classes
        As for `update_rise`.
    """

    def reached(share: float) -> bool:
        return update_rise(lr, beta1, beta2, lam, against="square", share=share, **classes).can

    return _largest(reached, LR_TOL, 1.0)


def largest_lr(
    beta1: float,
    beta2: float,
    lam: float,
    *,
    decay: Literal["explicit", "implicit"] = "explicit",
    loss: Loss = "convex",
    kappa_smoothness: float = 1.0,
    upper: float = 64.0,
) -> float:
    """The largest η for which no update raises H, over all f with L = 1 and all convex κ of a smoothness.

    This is searched with programmes alone; `lionode.monotone_lr` is the same in closed form, from a proof.
    Only ηL·kappa_smoothness and λ/(L·kappa_smoothness) matter: for other L scale the two.

    Parameters
    ----------
    beta1, beta2, lam, decay, loss, kappa_smoothness
        As for `update_rise`. Without smoothness of κ no η will do: updates hover.
    upper : float, optional
        Where the search ends; with explicit decay below 1/λ in any case.

    Returns
    -------
    float
        To `LR_TOL`, and never above: for this η the programme shows that H does not rise. 0 if it does not
        show it even for η = `LR_TOL`.
    """
    limit = min(upper, (1 - LR_TOL) / lam) if decay == "explicit" and lam > 0 else upper

    def shown(lr: float) -> bool:
        return update_rise(
            lr, beta1, beta2, lam, decay=decay, loss=loss, kappa_smoothness=kappa_smoothness
        ).never

    return _largest(shown, LR_TOL, limit)


def _largest(holds: Callable[[float], bool], low: float, limit: float) -> float:
    """The largest value in [low, limit] up to which `holds`, from below, to `LR_TOL`; 0 if there is none."""
    if not holds(low):
        return 0.0
    high = low
    while high == low:
        if low >= limit:
            return limit
        high = min(2 * low, limit)
        if holds(high):
            low = high
    while high - low > LR_TOL * high:
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


class _Programme:
    """The interpolation conditions of f and κ at the points of one step, and the rise to maximise."""

    def __init__(self, step: float, loss: str, smoothness: float, kappa_smoothness: float) -> None:
        try:
            import clarabel  # noqa: F401
            import cvxpy
            from PEPit import PEP, Expression, Point
            from PEPit import functions as classes
        except ImportError as error:
            raise ImportError(
                f"worst cases need {error.name}: pip install 'lionode[worst-case]'", name=error.name
            ) from None
        self._pep, self._point, self._expression = PEP(), Point, Expression
        self._failure = cvxpy.SolverError
        if _validate.choice("loss", loss, LOSSES) == "smooth":
            self._loss = self._pep.declare_function(classes.SmoothFunction, L=smoothness)
        else:
            self._loss = self._convex(classes, smoothness)
        self._kappa = self._convex(classes, kappa_smoothness)
        self._vectors: list[Any] = []
        self._unit = min(1 / step, kappa_smoothness)

    def _convex(self, classes: Any, smoothness: float) -> Any:
        if math.isinf(smoothness):
            return self._pep.declare_function(classes.ConvexFunction)
        return self._pep.declare_function(classes.SmoothConvexFunction, L=smoothness)

    def vector(self) -> Any:
        """A free vector."""
        self._vectors.append(self._point())
        return self._vectors[-1]

    def velocity(self) -> Any:
        """A free vector for a subgradient of κ, in the unit that makes its step, or it, of order 1."""
        return self._unit * self.vector()

    def loss_at(self, x: Any, gradient: Any = None) -> Any:
        """f(x), with a gradient that is given or free."""
        value = self._expression()
        self._loss.add_point((x, self.vector() if gradient is None else gradient, value))
        return value

    def kappa_at(self, z: Any, subgradient: Any) -> Any:
        """κ(z), with a subgradient."""
        value = self._expression()
        self._kappa.add_point((z, subgradient, value))
        return value

    def potential_rise(self, weight: float, c: float, lam: float, before: Any, after: Any) -> Any:
        """The rise of weight·κ*(λx) + c(κ*(λx) + κ(m) − λ⟨m,x⟩), and z ∈ ∂κ*(λx), s ∈ ∂κ(m) afterwards.

        At λ = 0, where weight = (γ/λ) has a limit only as a whole, weight·κ*(λx) is weight·⟨z, x⟩ with
        0 ∈ ∂κ(z), and `weight` stands for γ.
        """
        energies = []
        if lam == 0:
            z = self.vector()
            self.kappa_at(z, 0 * z)
        for x, m in (before, after):
            s = self.velocity()
            kappa = self.kappa_at(m, s)
            if lam == 0:
                energies.append(weight * (z * x) + c * kappa)
                continue
            z = self.vector()
            conjugate = z * (lam * x) - self.kappa_at(z, lam * x)
            energies.append((weight + c) * conjugate + c * (kappa - lam * (m * x)))
        return energies[1] - energies[0], z, s

    def solve(self, rise: Any) -> Rise:
        self._pep.set_performance_metric(rise)
        size = self._vectors[0] ** 2
        for vector in self._vectors[1:]:
            size += vector**2
        self._pep.set_initial_condition(size <= 1)
        with warnings.catch_warnings():
            # cvxpy warns where the solver fell short of its own tolerance; `Rise.certain` says it by numbers.
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")
            try:
                bound = self._pep.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)
            except self._failure:
                bound = None
        solved = self._pep.wrapper.prob
        if bound is None:
            return Rise(math.nan, math.nan, math.nan, "failed")
        violation = max(float(np.max(constraint.violation())) for constraint in solved.constraints)
        return Rise(float(solved.value), float(bound), violation, str(solved.status))
