"""The contract of a convex potential κ, and the registry that every test, figure and table reads.

A potential is asked for its value, a selection of its subdifferential, its conjugate κ*, the prox of tκ
and the projection on dom κ*. Everything else that an integrator, a certificate or a figure needs follows
from those. Public methods check and broadcast over leading axes; members implement the private hooks,
which receive clean float64 arrays ``(..., d)``.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numba
import numpy as np
import sympy as sp
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.kappas._scalar import scalar

__all__ = ["REGISTRY", "Potential", "Separable", "parse"]

REGISTRY: dict[str, type[Potential]] = {}
"""Every concrete potential of the catalogue by its ``name``, in the order of definition."""

DOMAIN_TOL = 1e-12
"""Slack for 'λx ∈ dom κ*', relative to max(1, ‖y‖∞): the projection itself carries a few roundings."""


class Potential(ABC):
    """A convex potential κ on R^d with κ(0) finite.

    Class attributes
    ----------------
    name : str
        The registry key, also what the command line takes (``huber:0.3``).
    formula, conjugate_formula, problem : str
        κ(z), κ*(y) and the problem min f + κ* in words, for the README table and the gallery.
    examples : tuple of dict
        Constructor arguments (parameters ≠ 1) that every generic check runs over.

    Attributes
    ----------
    dim : int or None
        The dimension κ needs, None when any will do.
    least_dim : int
        The smallest dimension it acts on.
    smoothness : {0, 1, 2}
        0: ∂κ is set-valued somewhere (or ∇κ is not locally Lipschitz); 1: ∇κ is locally Lipschitz but has
        kinks; 2: κ is twice continuously differentiable.
    lipschitz : float
        A Lipschitz constant of ∇κ in the Euclidean norm, inf where there is none or it is not known.
    kinks, slopes : tuple of float or None
        For separable piecewise linear κ = Σφ(z_i): the kinks k_1 < … < k_n of φ, the n+1 slopes between them.
    """

    name: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    conjugate_formula: ClassVar[str] = ""
    problem: ClassVar[str] = ""
    examples: ClassVar[tuple[dict[str, Any], ...]] = ()

    dim: int | None = None
    least_dim: int = 1
    smoothness: int = 0
    lipschitz: float = math.inf
    kinks: tuple[float, ...] | None = None
    slopes: tuple[float, ...] | None = None

    def __init_subclass__(cls, *, register: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if register and cls.name:
            if cls.name in REGISTRY:
                raise ValueError(f"a potential named {cls.name!r} is already registered")
            REGISTRY[cls.name] = cls

    # -- what every potential answers ---------------------------------------------------------------------

    def value(self, z: ArrayLike) -> Array:
        """κ(z). Shape ``(..., d)`` to ``(...)``."""
        return self._value(self._clean("z", z))

    def subgradient(self, z: ArrayLike) -> Array:
        """One element of ∂κ(z), the gradient where κ is smooth. Shape ``(..., d)`` to ``(..., d)``.

        At a kink the selection is the one of least norm unless the class says otherwise.
        """
        return self._subgradient(self._clean("z", z))

    def conjugate(self, y: ArrayLike) -> Array:
        """κ*(y) = sup_z ⟨y, z⟩ − κ(z), +inf outside dom κ*. Shape ``(..., d)`` to ``(...)``."""
        y = self._clean("y", y)
        inside = self._contains(y)
        # Rounding may leave a point of the face an ulp outside; its projection has the value that is meant.
        return np.where(inside, self._conjugate(self._project(y)), np.inf)

    def conjugate_subgradient(self, y: ArrayLike) -> Array:
        """One element z of ∂κ*(y) for y in dom κ* (a y outside is projected first); 0 ∈ a normal cone.

        Shape ``(..., d)`` to ``(..., d)``.
        """
        return self._conjugate_subgradient(self._project(self._clean("y", y)))

    def prox(self, z: ArrayLike, t: float = 1.0) -> Array:
        """prox_{tκ}(z) = argmin_p κ(p) + ‖p − z‖²/2t. Shape ``(..., d)`` to ``(..., d)``."""
        return self._prox(self._clean("z", z), _validate.positive("t", t))

    def prox_jacobian(self, z: ArrayLike, t: float = 1.0) -> Array:
        """An element of the generalised Jacobian of prox_{tκ} at z. Shape ``(..., d)`` to ``(..., d, d)``."""
        return self._prox_jacobian(self._clean("z", z), _validate.positive("t", t))

    def conjugate_prox(self, y: ArrayLike, t: float = 1.0) -> Array:
        """prox_{tκ*}(y) = y − t·prox_{κ/t}(y/t) (Moreau). Shape ``(..., d)`` to ``(..., d)``."""
        y, t = self._clean("y", y), _validate.positive("t", t)
        return y - t * self._prox(y / t, 1 / t)

    def project(self, y: ArrayLike) -> Array:
        """The nearest point of the closure of dom κ*. Shape ``(..., d)`` to ``(..., d)``."""
        return self._project(self._clean("y", y))

    def distance(self, y: ArrayLike) -> Array:
        """Euclidean distance of y to dom κ*. Shape ``(..., d)`` to ``(...)``."""
        y = self._clean("y", y)
        return np.asarray(np.linalg.norm(y - self._project(y), axis=-1))

    def contains(self, y: ArrayLike) -> Array:
        """Whether y lies in the closure of dom κ*, up to rounding. ``(..., d)`` to ``(...)`` of bool."""
        return self._contains(self._clean("y", y))

    def hessian(self, z: ArrayLike) -> Array:
        """∇²κ(z), an element of its generalised version where ∇κ has a kink. ``(..., d)`` to ``(..., d, d)``.

        Raises
        ------
        ValueError
            If κ is set-valued (``smoothness == 0``).
        """
        self._need_hessian()
        return self._hessian(self._clean("z", z))

    def symbolic(self, z: Sequence[sp.Symbol]) -> sp.Expr | None:
        """κ(z) as a sympy expression in the real symbols z, or None where there is no closed form."""
        return None

    def symbolic_conjugate(self, y: Sequence[sp.Symbol]) -> sp.Expr | None:
        """κ*(y) on dom κ* as a sympy expression in the real symbols y, or None."""
        return None

    @property
    def smooth(self) -> bool:
        """Whether ∇κ exists everywhere and is locally Lipschitz, so that a plain ODE solver applies."""
        return self.smoothness >= 1

    # -- the hooks: clean arrays in, clean arrays out ---------------------------------------------------

    @abstractmethod
    def _value(self, z: Array) -> Array: ...

    @abstractmethod
    def _subgradient(self, z: Array) -> Array: ...

    @abstractmethod
    def _conjugate(self, y: Array) -> Array:
        """κ* on dom κ*; what it returns elsewhere is not used."""

    @abstractmethod
    def _prox(self, z: Array, t: float) -> Array: ...

    @abstractmethod
    def _prox_jacobian(self, z: Array, t: float) -> Array: ...

    @abstractmethod
    def _project(self, y: Array) -> Array: ...

    def _conjugate_subgradient(self, y: Array) -> Array:
        return np.zeros_like(y)

    def _hessian(self, z: Array) -> Array:
        raise NotImplementedError(
            f"{type(self).__name__} claims smoothness {self.smoothness} without _hessian"
        )

    def _need_hessian(self) -> None:
        if self.smoothness == 0:
            raise ValueError(
                f"{self} has no Hessian: ∂κ is set-valued or unbounded; MoreauEnvelope({self}, tau) has one"
            )

    def _contains(self, y: Array) -> Array:
        gap = np.max(np.abs(y - self._project(y)), axis=-1)
        return np.asarray(gap <= DOMAIN_TOL * np.maximum(1.0, np.max(np.abs(y), axis=-1)))

    def _clean(self, name: str, value: ArrayLike) -> Array:
        return _validate.array(name, value, last=self.dim)

    # -- identity -------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Any]:
        """Constructor arguments that rebuild this potential, JSON-able."""
        return {}

    def __repr__(self) -> str:
        inner = ", ".join(f"{v:g}" if isinstance(v, float) else repr(v) for v in self.parameters.values())
        return f"{type(self).__name__}({inner})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.parameters == other.parameters

    def __hash__(self) -> int:
        return hash((type(self), repr(self.parameters)))


class Separable(Potential):
    """κ(z) = Σ φ(z_i): a member gives the scalar functions once, as static methods of (z, *constants).

    The same functions serve numpy arrays and, compiled by numba, the scalar loops of the long runs; they use
    only operations that both understand. ``constants`` are the positional floats they receive.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for member in vars(cls).values():
            if isinstance(member, staticmethod):
                scalar(member.__func__)

    @property
    def constants(self) -> tuple[float, ...]:
        """The float parameters that the scalar functions receive after their variable."""
        return tuple(float(v) for v in self.parameters.values())

    phi: Callable[..., Any]
    """φ(z, *constants)."""

    dphi: Callable[..., Any]
    """The selection of ∂φ(z, *constants)."""

    d2phi: Callable[..., Any]
    """φ''(z, *constants) where ``smoothness ≥ 1``."""

    phi_conjugate: Callable[..., Any]
    """φ*(y, *constants) on its domain."""

    prox_phi: Callable[..., Any]
    """prox_{tφ}(z, t, *constants)."""

    dprox_phi: Callable[..., Any]
    """A generalised derivative of prox_{tφ} at (z, t, *constants), in [0, 1]."""

    @staticmethod
    def _indicator_slope(y: Any, *constants: float) -> Any:
        return 0.0 * y

    dphi_conjugate: Callable[..., Any] = _indicator_slope
    """A selection of ∂φ*(y, *constants) on its domain: 0 where φ* is an indicator."""

    radius: float = 1.0
    """dom φ* = [−radius, radius]; inf when φ* is finite everywhere."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of dom φ*."""
        return -self.radius, self.radius

    def compiled_dphi(self) -> tuple[Callable[..., float], tuple[float, ...]]:
        """The scalar selection of ∂φ compiled by numba, f(z, *constants), and its constants."""
        return _compiled(self.dphi), self.constants

    def compiled_d2phi(self) -> tuple[Callable[..., float], tuple[float, ...]]:
        """φ'' compiled by numba, f(z, *constants), and its constants.

        Raises
        ------
        ValueError
            If φ' is set-valued (``smoothness == 0``).
        """
        self._need_hessian()
        return _compiled(self.d2phi), self.constants

    def _value(self, z: Array) -> Array:
        return np.asarray(np.sum(self.phi(z, *self.constants), axis=-1))

    def _subgradient(self, z: Array) -> Array:
        return np.asarray(self.dphi(z, *self.constants), dtype=np.float64)

    def _conjugate(self, y: Array) -> Array:
        return np.asarray(np.sum(self.phi_conjugate(y, *self.constants), axis=-1))

    def _conjugate_subgradient(self, y: Array) -> Array:
        return np.asarray(self.dphi_conjugate(y, *self.constants), dtype=np.float64)

    def _prox(self, z: Array, t: float) -> Array:
        return np.asarray(self.prox_phi(z, t, *self.constants), dtype=np.float64)

    def _prox_jacobian(self, z: Array, t: float) -> Array:
        return _diagonal(self.dprox_phi(z, t, *self.constants))

    def _hessian(self, z: Array) -> Array:
        return _diagonal(self.d2phi(z, *self.constants))

    def _project(self, y: Array) -> Array:
        return np.clip(y, *self.bounds)

    def symbolic(self, z: Sequence[sp.Symbol]) -> sp.Expr | None:
        """Σ φ(z_i) in sympy."""
        return _sum_or_none(self.symbolic_phi, z)

    def symbolic_conjugate(self, y: Sequence[sp.Symbol]) -> sp.Expr | None:
        """Σ φ*(y_i) in sympy."""
        return _sum_or_none(self.symbolic_phi_conjugate, y)

    def symbolic_phi(self, z: sp.Symbol) -> sp.Expr | None:
        """φ(z) in sympy, or None."""
        return None

    def symbolic_phi_conjugate(self, y: sp.Symbol) -> sp.Expr | None:
        """φ*(y) on its domain in sympy, or None."""
        return None


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., float]:
    compiled: Callable[..., float] = numba.njit(function, error_model="numpy")
    return compiled


def _diagonal(values: Array) -> Array:
    values = np.asarray(values, dtype=np.float64)
    return values[..., :, None] * np.eye(values.shape[-1])


def _sum_or_none(term: Callable[[sp.Symbol], sp.Expr | None], symbols: Sequence[sp.Symbol]) -> sp.Expr | None:
    terms = [term(s) for s in symbols]
    return None if any(t is None for t in terms) else sp.Add(*terms)


def parse(text: str) -> Potential:
    """Build a potential from ``name`` or ``name:number,number``, as the command line does.

    Examples
    --------
    >>> parse("huber:0.3")
    Huber(0.3)

    Raises
    ------
    ValueError
        If the name is not registered or an argument is not a number.
    """
    name, _, tail = text.partition(":")
    cls = REGISTRY.get(name.strip().lower())
    if cls is None:
        near = difflib.get_close_matches(name.strip().lower(), REGISTRY, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"kappa must be one of {', '.join(REGISTRY)}; got {name!r}{hint}")
    arguments: list[float | int] = []
    for word in filter(None, (w.strip() for w in tail.split(","))):
        try:
            arguments.append(int(word) if word.lstrip("+-").isdigit() else float(word))
        except ValueError:
            raise ValueError(f"kappa {name!r} takes numbers after the colon, got {word!r}") from None
    try:
        return cls(*arguments)
    except TypeError as error:
        takes = list(inspect.signature(cls).parameters)
        if len(arguments) > len(takes):
            wanted = ", ".join(takes) or "no number"
            raise ValueError(f"kappa {name!r} takes {wanted} after the colon, got {tail!r}") from None
        raise ValueError(f"kappa {text!r}: {error}") from None
