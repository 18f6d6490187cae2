"""Separable potentials κ(z) = Σ φ(z_i)."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from lionode import _validate
from lionode.kappas._scalar import scalar, settled, where
from lionode.kappas.base import Separable

__all__ = ["L1", "Huber", "LogCosh", "Power", "PseudoHuber", "Quadratic", "SoftThreshold", "power_prox"]

NEWTON_STEPS = 200
"""A monotone Newton iteration stops by itself when it no longer moves; this only bounds it."""

BELOW_ONE = float(np.nextafter(1.0, 0.0))
"""The largest float below 1, where ∂κ* of a barrier-like κ* is read when y rounds to ±1."""


TINY = 1e-100
"""Stands for 0 where a negative power or a logarithm is taken."""

LOG_HUGE = 700.0
"""exp of it is still finite."""


@scalar
def power_prox(z: Any, t: Any, p: float) -> Any:
    """The root of w + t·w^{p−1} = |z|, by Newton steps that approach it from one side."""
    size = np.abs(z)
    # Upper bound of the root of a convex equation (p ≥ 2), lower bound of that of a concave one.
    share = 1.0 if p >= 2 else 0.5
    log_ratio = np.log(np.maximum(share * size / t, TINY)) / (p - 1)
    w = np.maximum(np.minimum(share * size, np.exp(np.minimum(log_ratio, LOG_HUGE))), TINY)
    for step in range(NEWTON_STEPS):
        old = w
        power = t * w ** (p - 2)
        w = np.maximum(w - (w + power * w - size) / (1 + (p - 1) * power), TINY)
        # The start is a bound only up to rounding; from the first step on the sides are sure.
        if step > 0:
            w = np.minimum(w, old) if p >= 2 else np.maximum(w, old)
        if settled(w, old):
            break
    return np.sign(z) * np.minimum(w, size)


def _rising_prox(dphi: Any, d2phi: Any) -> tuple[Any, Any]:
    """prox_{tφ} and its derivative, for φ even with φ' concave on z ≥ 0, φ' ≤ 1 and φ'' ≤ 1/e.

    The root of w + tφ'(w) = |z| is that of a concave equation: Newton rises to it from any lower bound.
    """
    slope, curvature = dphi.__func__, d2phi.__func__

    @scalar
    def prox(z: Any, t: float, e: float) -> Any:
        size = np.abs(z)
        w = np.maximum(size - t, size / (1 + t / e))
        for _ in range(NEWTON_STEPS):
            old = w
            w = np.maximum(w - (w + t * slope(w, e) - size) / (1 + t * curvature(w, e)), old)
            if settled(w, old):
                break
        return np.sign(z) * w

    @scalar
    def dprox(z: Any, t: float, e: float) -> Any:
        return 1 / (1 + t * curvature(prox(z, t, e), e))

    return staticmethod(prox), staticmethod(dprox)


class L1(Separable):
    """κ(z) = ‖z‖₁, the potential of Lion; at z_i = 0 the selection is 0."""

    name = "l1"
    formula = "‖z‖₁"
    conjugate_formula = "0 on ‖y‖∞ ≤ 1"
    problem = "box"
    examples = ({},)
    kinks = (0.0,)
    slopes = (-1.0, 1.0)

    @staticmethod
    def phi(z: Any) -> Any:
        """|z|."""
        return np.abs(z)

    @staticmethod
    def dphi(z: Any) -> Any:
        """sign(z)."""
        return np.sign(z)

    @staticmethod
    def phi_conjugate(y: Any) -> Any:
        """0 on [−1, 1]."""
        return 0.0 * y

    @staticmethod
    def prox_phi(z: Any, t: float) -> Any:
        """Soft thresholding."""
        return np.sign(z) * np.maximum(np.abs(z) - t, 0.0)

    @staticmethod
    def dprox_phi(z: Any, t: float) -> Any:
        """1 beyond the threshold."""
        return where(np.abs(z) > t, 1.0, 0.0)

    def symbolic_phi(self, z: sp.Symbol) -> sp.Expr:
        """|z|."""
        return sp.Abs(z)

    def symbolic_phi_conjugate(self, y: sp.Symbol) -> sp.Expr:
        """0."""
        return sp.Integer(0)


class _Bent(Separable):
    """A separable κ with one length e > 0."""

    def __init__(self, e: float = 1.0) -> None:
        self.e = _validate.positive("e", e)
        if self.smoothness:
            # Each of them bends the most at 0, where φ'' = 1/e.
            self.lipschitz = 1 / self.e

    @property
    def parameters(self) -> dict[str, Any]:
        """The length e."""
        return {"e": self.e}


class SoftThreshold(_Bent):
    """κ(z) = Σ max(|z_i| − e, 0); at |z_i| = e the selection is 0.

    Parameters
    ----------
    e : float
        The threshold, > 0.
    """

    name = "soft-threshold"
    formula = "Σ max(|z| − e, 0)"
    conjugate_formula = "e‖y‖₁ on ‖y‖∞ ≤ 1"
    problem = "ℓ1 + box"
    examples = ({"e": 0.3}, {"e": 1.7})
    slopes = (-1.0, 0.0, 1.0)

    def __init__(self, e: float = 1.0) -> None:
        super().__init__(e)
        self.kinks = (-self.e, self.e)

    @staticmethod
    def phi(z: Any, e: float) -> Any:
        """max(|z| − e, 0)."""
        return np.maximum(np.abs(z) - e, 0.0)

    @staticmethod
    def dphi(z: Any, e: float) -> Any:
        """sign(z) beyond e."""
        return where(np.abs(z) > e, np.sign(z), 0.0)

    @staticmethod
    def phi_conjugate(y: Any, e: float) -> Any:
        """e|y|."""
        return e * np.abs(y)

    @staticmethod
    def dphi_conjugate(y: Any, e: float) -> Any:
        """e·sign(y)."""
        return e * np.sign(y)

    @staticmethod
    def prox_phi(z: Any, t: float, e: float) -> Any:
        """z up to e, then e up to e + t, then z − t."""
        return np.sign(z) * np.maximum(np.minimum(np.abs(z), e), np.abs(z) - t)

    @staticmethod
    def dprox_phi(z: Any, t: float, e: float) -> Any:
        """0 between e and e + t."""
        return where((np.abs(z) <= e) | (np.abs(z) > e + t), 1.0, 0.0)

    def symbolic_phi(self, z: sp.Symbol) -> sp.Expr:
        """max(|z| − e, 0)."""
        return sp.Max(sp.Abs(z) - self.e, 0)

    def symbolic_phi_conjugate(self, y: sp.Symbol) -> sp.Expr:
        """e|y|."""
        return self.e * sp.Abs(y)


class Huber(_Bent):
    """κ(z) = Σ z²/2e where |z| ≤ e, |z| − e/2 beyond.

    Parameters
    ----------
    e : float
        Half the width of the quadratic part, > 0.
    """

    name = "huber"
    formula = "Σ z²/2e if |z| ≤ e else |z| − e/2"
    conjugate_formula = "(e/2)‖y‖² on ‖y‖∞ ≤ 1"
    problem = "ridge + box"
    examples = ({"e": 0.3}, {"e": 1.7})
    smoothness = 1

    @staticmethod
    def phi(z: Any, e: float) -> Any:
        """z²/2e up to e, then |z| − e/2."""
        bent = np.minimum(np.abs(z), e)
        return bent * bent / (2 * e) + (np.abs(z) - bent)

    @staticmethod
    def dphi(z: Any, e: float) -> Any:
        """z/e clipped to [−1, 1]."""
        return np.maximum(np.minimum(z, e), -e) / e

    @staticmethod
    def d2phi(z: Any, e: float) -> Any:
        """1/e up to e, 0 beyond."""
        return where(np.abs(z) <= e, 1 / e, 0.0)

    @staticmethod
    def phi_conjugate(y: Any, e: float) -> Any:
        """e·y²/2."""
        return e * y * y / 2

    @staticmethod
    def dphi_conjugate(y: Any, e: float) -> Any:
        """e·y."""
        return e * y

    @staticmethod
    def prox_phi(z: Any, t: float, e: float) -> Any:
        """z·e/(e + t) up to e + t, then z − t."""
        return z - t * np.maximum(np.minimum(z / (e + t), 1.0), -1.0)

    @staticmethod
    def dprox_phi(z: Any, t: float, e: float) -> Any:
        """e/(e + t) up to e + t, 1 beyond."""
        return where(np.abs(z) <= e + t, e / (e + t), 1.0)

    def symbolic_phi(self, z: sp.Symbol) -> sp.Expr:
        """The two pieces."""
        size = sp.Abs(z)
        return sp.Piecewise((z**2 / (2 * self.e), size <= self.e), (size - self.e / 2, True))

    def symbolic_phi_conjugate(self, y: sp.Symbol) -> sp.Expr:
        """e·y²/2."""
        return self.e * y**2 / 2


class Quadratic(Separable):
    """κ(z) = ½‖z‖², the potential of heavy-ball and Nesterov momentum."""

    name = "quadratic"
    formula = "½‖z‖²"
    conjugate_formula = "½‖y‖²"
    problem = "ridge"
    examples = ({},)
    smoothness = 2
    lipschitz = 1.0
    radius = np.inf

    @staticmethod
    def phi(z: Any) -> Any:
        """z²/2."""
        return z * z / 2

    @staticmethod
    def dphi(z: Any) -> Any:
        """z."""
        return 1.0 * z

    @staticmethod
    def d2phi(z: Any) -> Any:
        """1."""
        return 1.0 + 0.0 * z

    @staticmethod
    def phi_conjugate(y: Any) -> Any:
        """y²/2."""
        return y * y / 2

    @staticmethod
    def dphi_conjugate(y: Any) -> Any:
        """y."""
        return 1.0 * y

    @staticmethod
    def prox_phi(z: Any, t: float) -> Any:
        """z/(1 + t)."""
        return z / (1 + t)

    @staticmethod
    def dprox_phi(z: Any, t: float) -> Any:
        """1/(1 + t)."""
        return 1 / (1 + t) + 0.0 * z

    def symbolic_phi(self, z: sp.Symbol) -> sp.Expr:
        """z²/2."""
        return z**2 / 2

    def symbolic_phi_conjugate(self, y: sp.Symbol) -> sp.Expr:
        """y²/2."""
        return y**2 / 2


class Power(Separable):
    """κ(z) = (1/p) Σ |z|^p, p > 1; for p < 2 its second derivative is unbounded at 0 and counts as a kink.

    Parameters
    ----------
    p : float
        The exponent, > 1.
    """

    name = "power"
    formula = "(1/p) Σ |z|^p"
    conjugate_formula = "(1/q) Σ |y|^q"
    problem = "ℓq penalty"
    examples = ({"p": 1.5}, {"p": 3.0})
    radius = np.inf

    def __init__(self, p: float) -> None:
        self.p = _validate.real("p", p)
        if self.p <= 1:
            raise ValueError(f"p must be > 1, got {self.p:g}; L1() is the case p = 1")
        self.smoothness = 2 if self.p >= 2 else 0
        self.lipschitz = 1.0 if self.p == 2 else np.inf

    @property
    def parameters(self) -> dict[str, Any]:
        """The exponent p."""
        return {"p": self.p}

    @staticmethod
    def phi(z: Any, p: float) -> Any:
        """|z|^p/p."""
        return np.abs(z) ** p / p

    @staticmethod
    def dphi(z: Any, p: float) -> Any:
        """sign(z)|z|^{p−1}."""
        return np.sign(z) * np.abs(z) ** (p - 1)

    @staticmethod
    def d2phi(z: Any, p: float) -> Any:
        """(p−1)|z|^{p−2}."""
        return (p - 1) * np.abs(z) ** (p - 2)

    @staticmethod
    def phi_conjugate(y: Any, p: float) -> Any:
        """|y|^q/q with 1/p + 1/q = 1."""
        q = p / (p - 1)
        return np.abs(y) ** q / q

    @staticmethod
    def dphi_conjugate(y: Any, p: float) -> Any:
        """sign(y)|y|^{q−1}, where q − 1 = 1/(p−1)."""
        return np.sign(y) * np.abs(y) ** (1 / (p - 1))

    prox_phi = staticmethod(power_prox)

    @staticmethod
    def dprox_phi(z: Any, t: float, p: float) -> Any:
        """1/(1 + tφ''(prox))."""
        w = np.maximum(np.abs(power_prox(z, t, p)), TINY)
        return 1 / (1 + t * (p - 1) * w ** (p - 2))

    def symbolic_phi(self, z: sp.Symbol) -> sp.Expr:
        """|z|^p/p."""
        return sp.Abs(z) ** self.p / self.p

    def symbolic_phi_conjugate(self, y: sp.Symbol) -> sp.Expr:
        """|y|^q/q."""
        q = self.p / (self.p - 1)
        return sp.Abs(y) ** q / q


class PseudoHuber(_Bent):
    """κ(z) = Σ √(z² + e²), the relativistic kinetic energy.

    ∂κ* is empty where |y| = 1; there `conjugate_subgradient` answers for the largest float below 1.

    Parameters
    ----------
    e : float
        The width of the bend, > 0.
    """

    name = "pseudo-huber"
    formula = "Σ √(z² + e²)"
    conjugate_formula = "−e Σ √(1 − y²) on ‖y‖∞ ≤ 1"
    problem = "barrier-like + box"
    examples = ({"e": 0.3}, {"e": 1.7})
    smoothness = 2

    @staticmethod
    def phi(z: Any, e: float) -> Any:
        """√(z² + e²)."""
        return np.hypot(z, e)

    @staticmethod
    def dphi(z: Any, e: float) -> Any:
        """z/√(z² + e²)."""
        return z / np.hypot(z, e)

    @staticmethod
    def d2phi(z: Any, e: float) -> Any:
        """e²/(z² + e²)^{3/2}."""
        length = np.hypot(z, e)
        return (e / length) ** 2 / length

    @staticmethod
    def phi_conjugate(y: Any, e: float) -> Any:
        """−e√(1 − y²)."""
        return -e * np.sqrt(np.maximum((1 - y) * (1 + y), 0.0))

    @staticmethod
    def dphi_conjugate(y: Any, e: float) -> Any:
        """e·y/√(1 − y²)."""
        y = np.maximum(np.minimum(y, BELOW_ONE), -BELOW_ONE)
        return e * y / np.sqrt((1 - y) * (1 + y))

    prox_phi, dprox_phi = _rising_prox(dphi, d2phi)

    def symbolic_phi(self, z: sp.Symbol) -> sp.Expr:
        """√(z² + e²)."""
        return sp.sqrt(z**2 + self.e**2)

    def symbolic_phi_conjugate(self, y: sp.Symbol) -> sp.Expr:
        """−e√(1 − y²)."""
        return -self.e * sp.sqrt(1 - y**2)


class LogCosh(_Bent):
    """κ(z) = e Σ log cosh(z/e), whose conjugate is the binary entropy.

    ∂κ* is empty where |y| = 1; there `conjugate_subgradient` answers for the largest float below 1.

    Parameters
    ----------
    e : float
        The width of the bend, > 0.
    """

    name = "log-cosh"
    formula = "e Σ log cosh(z/e)"
    conjugate_formula = "(e/2) Σ (1+y)log(1+y) + (1−y)log(1−y) on ‖y‖∞ ≤ 1"
    problem = "binary entropy + box"
    examples = ({"e": 0.3}, {"e": 1.7})
    smoothness = 2

    @staticmethod
    def phi(z: Any, e: float) -> Any:
        """e·log cosh(z/e)."""
        size = np.abs(z)
        # The two branches of log cosh: no overflow far out, no cancellation near 0.
        near = np.sinh(np.minimum(size / e, 1.0) / 2)
        far = size + e * (np.log1p(np.exp(-2 * size / e)) - np.log(2.0))
        return where(size < e, e * np.log1p(2 * near * near), far)

    @staticmethod
    def dphi(z: Any, e: float) -> Any:
        """tanh(z/e)."""
        return np.tanh(z / e)

    @staticmethod
    def d2phi(z: Any, e: float) -> Any:
        """1/(e·cosh²(z/e))."""
        decay = np.exp(-2 * np.abs(z) / e)
        return 4 * decay / (e * (1 + decay) ** 2)

    @staticmethod
    def phi_conjugate(y: Any, e: float) -> Any:
        """e·[(1+y)log(1+y) + (1−y)log(1−y)]/2."""
        y = np.maximum(np.minimum(np.abs(y), 1.0), 0.0)
        return e * ((1 + y) * np.log1p(y) + (1 - y) * np.log1p(-np.minimum(y, BELOW_ONE))) / 2

    @staticmethod
    def dphi_conjugate(y: Any, e: float) -> Any:
        """e·artanh(y)."""
        return e * np.arctanh(np.maximum(np.minimum(y, BELOW_ONE), -BELOW_ONE))

    prox_phi, dprox_phi = _rising_prox(dphi, d2phi)

    def symbolic_phi(self, z: sp.Symbol) -> sp.Expr:
        """e·log cosh(z/e)."""
        return self.e * sp.log(sp.cosh(z / self.e))

    def symbolic_phi_conjugate(self, y: sp.Symbol) -> sp.Expr:
        """The binary entropy."""
        return self.e * ((1 + y) * sp.log(1 + y) + (1 - y) * sp.log(1 - y)) / 2
