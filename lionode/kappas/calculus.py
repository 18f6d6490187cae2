"""Operations that make a potential from a potential; of a separable one they make a separable one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import sympy as sp

from lionode import _validate
from lionode._validate import Array
from lionode.kappas._scalar import scalar
from lionode.kappas.base import Potential, Separable

__all__ = ["MoreauEnvelope", "Scalars", "Scaled"]

ScalarFunction = Callable[..., Any]


class _Operation(Potential, register=False):
    """A potential built from `kappa` and one positive number, its first constant where it is separable."""

    kappa: Potential
    number: float
    _separable: type[_Operation]

    def __new__(cls, kappa: Potential, *args: Any, **kwargs: Any) -> _Operation:
        if not isinstance(kappa, Potential):
            raise TypeError(f"kappa must be a Potential such as L1(), got {_validate.describe(kappa)}")
        return super().__new__(cls._separable if isinstance(kappa, Separable) else cls)

    def __repr__(self) -> str:
        public = next(cls for cls in type(self).__mro__ if cls in (Scaled, MoreauEnvelope))
        return f"{public.__name__}({self.kappa!r}, {self.number:g})"

    def _clean(self, name: str, value: Any) -> Array:
        return self.kappa._clean(name, value)

    def _project(self, y: Array) -> Array:
        return self.kappa._project(y)


class _SeparableOperation(Separable, _Operation, register=False):
    """The separable kind: its scalar functions are composed of those of `kappa`."""

    kappa: Separable

    @property
    def constants(self) -> tuple[float, ...]:
        """The number, then the constants of `kappa`."""
        return self.number, *self.kappa.constants


class Scalars(NamedTuple):
    """The scalar functions of a separable potential."""

    phi: ScalarFunction
    dphi: ScalarFunction
    d2phi: ScalarFunction | None
    phi_conjugate: ScalarFunction
    dphi_conjugate: ScalarFunction
    prox_phi: ScalarFunction
    dprox_phi: ScalarFunction

    def install(self, kappa: Separable) -> None:
        """Make these the scalar functions of `kappa`."""
        for name, function in self._asdict().items():
            setattr(kappa, name, function)

    @classmethod
    def of(cls, kappa: Separable) -> Scalars:
        """Those of `kappa`."""
        return cls(*(getattr(kappa, name, None) for name in cls._fields))  # type: ignore[arg-type]


class Scaled(_Operation, register=False):
    """weight·κ, with conjugate weight·κ*(y/weight) and prox_{t·weight·κ}.

    Parameters
    ----------
    kappa : Potential
        κ.
    weight : float
        The factor, > 0.
    """

    name = "scaled"
    formula = "w·κ(z)"
    conjugate_formula = "w·κ*(y/w)"

    def __init__(self, kappa: Potential, weight: float) -> None:
        self.kappa, self.number = kappa, _validate.positive("weight", weight)
        self.dim, self.least_dim, self.smoothness = kappa.dim, kappa.least_dim, kappa.smoothness
        self.lipschitz = self.weight * kappa.lipschitz

    @property
    def weight(self) -> float:
        """The factor."""
        return self.number

    @property
    def parameters(self) -> dict[str, Any]:
        """κ and the weight."""
        return {"kappa": self.kappa, "weight": self.weight}

    def _value(self, z: Array) -> Array:
        return self.weight * self.kappa._value(z)

    def _subgradient(self, z: Array) -> Array:
        return self.weight * self.kappa._subgradient(z)

    def _conjugate(self, y: Array) -> Array:
        return self.weight * self.kappa._conjugate(self.kappa._project(y / self.weight))

    def _conjugate_subgradient(self, y: Array) -> Array:
        return self.kappa._conjugate_subgradient(self.kappa._project(y / self.weight))

    def _prox(self, z: Array, t: float) -> Array:
        return self.kappa._prox(z, t * self.weight)

    def _prox_jacobian(self, z: Array, t: float) -> Array:
        return self.kappa._prox_jacobian(z, t * self.weight)

    def _project(self, y: Array) -> Array:
        return self.weight * self.kappa._project(y / self.weight)

    def _hessian(self, z: Array) -> Array:
        return self.weight * self.kappa._hessian(z)

    def symbolic(self, z: Sequence[sp.Symbol]) -> sp.Expr | None:
        """weight·κ(z)."""
        inner = self.kappa.symbolic(z)
        return None if inner is None else self.weight * inner

    def symbolic_conjugate(self, y: Sequence[sp.Symbol]) -> sp.Expr | None:
        """weight·κ*(y/weight)."""
        inner = self.kappa.symbolic_conjugate(y)
        return None if inner is None else self.weight * _at(inner, y, [s / self.weight for s in y])


class MoreauEnvelope(_Operation, register=False):
    """κ_τ(z) = min_p κ(p) + ‖p − z‖²/2τ: smooth, with conjugate κ* + (τ/2)‖·‖².

    Parameters
    ----------
    kappa : Potential
        κ.
    tau : float
        τ > 0.
    """

    name = "moreau"
    formula = "min_p κ(p) + ‖p − z‖²/2τ"
    conjugate_formula = "κ*(y) + (τ/2)‖y‖²"

    def __init__(self, kappa: Potential, tau: float) -> None:
        self.kappa, self.number = kappa, _validate.positive("tau", tau)
        self.dim, self.least_dim, self.smoothness = kappa.dim, kappa.least_dim, max(1, kappa.smoothness)
        self.lipschitz = 1 / (self.tau + 1 / kappa.lipschitz)

    @property
    def tau(self) -> float:
        """τ."""
        return self.number

    @property
    def parameters(self) -> dict[str, Any]:
        """κ and τ."""
        return {"kappa": self.kappa, "tau": self.tau}

    def _value(self, z: Array) -> Array:
        point = self.kappa._prox(z, self.tau)
        return np.asarray(self.kappa._value(point) + np.sum((z - point) ** 2, axis=-1) / (2 * self.tau))

    def _subgradient(self, z: Array) -> Array:
        return (z - self.kappa._prox(z, self.tau)) / self.tau

    def _conjugate(self, y: Array) -> Array:
        return np.asarray(self.kappa._conjugate(y) + self.tau / 2 * np.sum(y * y, axis=-1))

    def _conjugate_subgradient(self, y: Array) -> Array:
        return self.kappa._conjugate_subgradient(y) + self.tau * y

    def _prox(self, z: Array, t: float) -> Array:
        return z + t / (t + self.tau) * (self.kappa._prox(z, t + self.tau) - z)

    def _prox_jacobian(self, z: Array, t: float) -> Array:
        eye = np.eye(z.shape[-1])
        return np.asarray(eye + t / (t + self.tau) * (self.kappa._prox_jacobian(z, t + self.tau) - eye))

    def _hessian(self, z: Array) -> Array:
        return np.asarray((np.eye(z.shape[-1]) - self.kappa._prox_jacobian(z, self.tau)) / self.tau)

    def symbolic_conjugate(self, y: Sequence[sp.Symbol]) -> sp.Expr | None:
        """κ*(y) + (τ/2)Σ y²."""
        inner = self.kappa.symbolic_conjugate(y)
        return None if inner is None else inner + self.tau / 2 * sp.Add(*(s**2 for s in y))


class _SeparableScaled(_SeparableOperation, Scaled, register=False):
    """weight·κ of a separable κ."""

    kappa: Separable

    def __init__(self, kappa: Separable, weight: float) -> None:
        Scaled.__init__(self, kappa, weight)
        _scaled(Scalars.of(kappa)).install(self)
        self.radius = self.weight * kappa.radius
        self.kinks = kappa.kinks
        self.slopes = None if kappa.slopes is None else tuple(self.weight * s for s in kappa.slopes)

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of dom φ*, scaled."""
        low, high = self.kappa.bounds
        return self.weight * low, self.weight * high

    def symbolic_phi(self, z: sp.Symbol) -> sp.Expr | None:
        """weight·φ(z)."""
        return Scaled.symbolic(self, [z])

    def symbolic_phi_conjugate(self, y: sp.Symbol) -> sp.Expr | None:
        """weight·φ*(y/weight)."""
        return Scaled.symbolic_conjugate(self, [y])


class _SeparableMoreauEnvelope(_SeparableOperation, MoreauEnvelope, register=False):
    """κ_τ of a separable κ."""

    kappa: Separable

    def __init__(self, kappa: Separable, tau: float) -> None:
        MoreauEnvelope.__init__(self, kappa, tau)
        _envelope(Scalars.of(kappa)).install(self)
        self.radius = kappa.radius

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of dom φ*, those of κ."""
        return self.kappa.bounds

    def symbolic_phi_conjugate(self, y: sp.Symbol) -> sp.Expr | None:
        """φ*(y) + τy²/2."""
        return MoreauEnvelope.symbolic_conjugate(self, [y])


Scaled._separable = _SeparableScaled
MoreauEnvelope._separable = _SeparableMoreauEnvelope


@functools.cache
def _scaled(of: Scalars) -> Scalars:
    """The scalar functions of weight·φ, functions of (z, weight, *constants)."""
    inner_phi, inner_dphi, inner_d2phi = of.phi, of.dphi, of.d2phi
    inner_conjugate, inner_dconjugate = of.phi_conjugate, of.dphi_conjugate
    inner_prox, inner_dprox = of.prox_phi, of.dprox_phi

    @scalar
    def phi(z: Any, weight: float, *constants: float) -> Any:
        return weight * inner_phi(z, *constants)

    @scalar
    def dphi(z: Any, weight: float, *constants: float) -> Any:
        return weight * inner_dphi(z, *constants)

    @scalar
    def d2phi(z: Any, weight: float, *constants: float) -> Any:
        return weight * inner_d2phi(z, *constants)  # type: ignore[misc]  # only called where it exists

    @scalar
    def phi_conjugate(y: Any, weight: float, *constants: float) -> Any:
        return weight * inner_conjugate(y / weight, *constants)

    @scalar
    def dphi_conjugate(y: Any, weight: float, *constants: float) -> Any:
        return inner_dconjugate(y / weight, *constants)

    @scalar
    def prox_phi(z: Any, t: float, weight: float, *constants: float) -> Any:
        return inner_prox(z, t * weight, *constants)

    @scalar
    def dprox_phi(z: Any, t: float, weight: float, *constants: float) -> Any:
        return inner_dprox(z, t * weight, *constants)

    return Scalars(phi, dphi, d2phi, phi_conjugate, dphi_conjugate, prox_phi, dprox_phi)


@functools.cache
def _envelope(of: Scalars) -> Scalars:
    """The scalar functions of the Moreau envelope of φ, functions of (z, tau, *constants)."""
    inner_phi, inner_conjugate, inner_dconjugate = of.phi, of.phi_conjugate, of.dphi_conjugate
    inner_prox, inner_dprox = of.prox_phi, of.dprox_phi

    @scalar
    def phi(z: Any, tau: float, *constants: float) -> Any:
        point = inner_prox(z, tau, *constants)
        return inner_phi(point, *constants) + (z - point) ** 2 / (2 * tau)

    @scalar
    def dphi(z: Any, tau: float, *constants: float) -> Any:
        return (z - inner_prox(z, tau, *constants)) / tau

    @scalar
    def d2phi(z: Any, tau: float, *constants: float) -> Any:
        return (1 - inner_dprox(z, tau, *constants)) / tau

    @scalar
    def phi_conjugate(y: Any, tau: float, *constants: float) -> Any:
        return inner_conjugate(y, *constants) + tau * y * y / 2

    @scalar
    def dphi_conjugate(y: Any, tau: float, *constants: float) -> Any:
        return inner_dconjugate(y, *constants) + tau * y

    @scalar
    def prox_phi(z: Any, t: float, tau: float, *constants: float) -> Any:
        return z + t / (t + tau) * (inner_prox(z, t + tau, *constants) - z)

    @scalar
    def dprox_phi(z: Any, t: float, tau: float, *constants: float) -> Any:
        return 1 + t / (t + tau) * (inner_dprox(z, t + tau, *constants) - 1)

    return Scalars(phi, dphi, d2phi, phi_conjugate, dphi_conjugate, prox_phi, dprox_phi)


def _at(expression: sp.Expr, symbols: Sequence[sp.Symbol], values: Sequence[sp.Expr]) -> sp.Expr:
    return expression.subs(dict(zip(symbols, values, strict=True)), simultaneous=True)
