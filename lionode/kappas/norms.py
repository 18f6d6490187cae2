"""Potentials whose conjugate is the indicator of a ball: its projection gives the prox."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numba
import numpy as np
import sympy as sp

from lionode import _validate
from lionode._validate import Array
from lionode.kappas._scalar import EPS
from lionode.kappas.base import Potential
from lionode.kappas.separable import TINY, power_prox

__all__ = ["GroupL2", "LInf", "Lp", "SupportFunction", "TopK"]

ROOT_STEPS = 200
"""The safeguarded Newton iteration for a multiplier stops when it no longer moves; this only bounds it."""


class SupportFunction(Potential):
    """κ = sup over a convex set C of ⟨·, y⟩: κ* is the indicator of C and prox_{tκ}(z) = z − t·P_C(z/t)."""

    name = ""

    @abstractmethod
    def _project_jacobian(self, y: Array) -> Array:
        """An element of the generalised Jacobian of the projection on C."""

    def _conjugate(self, y: Array) -> Array:
        return np.zeros(y.shape[:-1])

    def _prox(self, z: Array, t: float) -> Array:
        return z - t * self._project(z / t)

    def _prox_jacobian(self, z: Array, t: float) -> Array:
        return np.asarray(np.eye(z.shape[-1]) - self._project_jacobian(z / t))

    def symbolic_conjugate(self, y: Sequence[sp.Symbol]) -> sp.Expr:
        """0 on the ball."""
        return sp.Integer(0)

    def symbolic_project(self, y: Sequence[sp.Symbol]) -> list[sp.Expr] | None:
        """The projection of y on C in sympy, or None where it has no closed form."""
        return None

    def symbolic_gauge(self, y: Sequence[sp.Symbol]) -> sp.Expr:
        """The least s ≥ 0 with y ∈ sC, the dual norm of κ, in sympy.

        Raises
        ------
        NotImplementedError
            Where there is no formula for it.
        """
        raise NotImplementedError(f"{self} has no formula for the gauge of dom κ*")

    def inner_radius(self, d: int) -> float:
        """The largest r such that the ball ‖y‖₂ ≤ r lies in C."""
        return 1.0


class Lp(SupportFunction):
    """κ(z) = ‖z‖_p with 1 < p < ∞; at z = 0 the selection is 0.

    Parameters
    ----------
    p : float
        The exponent, > 1.
    """

    name = "lp"
    formula = "‖z‖_p"
    conjugate_formula = "0 on ‖y‖_q ≤ 1"
    problem = "ℓq ball"
    examples = ({"p": 2.0}, {"p": 1.5}, {"p": 4.0})

    def __init__(self, p: float = 2.0) -> None:
        self.p = _validate.real("p", p)
        if self.p <= 1:
            raise ValueError(f"p must be > 1, got {self.p:g}; L1() is the case p = 1, LInf() the case p = ∞")
        self.q = self.p / (self.p - 1)

    @property
    def parameters(self) -> dict[str, Any]:
        """The exponent p."""
        return {"p": self.p}

    def _value(self, z: Array) -> Array:
        return _norm(z, self.p)[..., 0]

    def _subgradient(self, z: Array) -> Array:
        norm = _norm(z, self.p)
        return np.sign(z) * (np.abs(z) / np.where(norm > 0, norm, 1.0)) ** (self.p - 1)

    def _project(self, y: Array) -> Array:
        return self._project_with_multiplier(y)[0]

    def _project_with_multiplier(self, v: Array) -> tuple[Array, Array]:
        """y and μ ≥ 0 with y + μ·sign(y)|y|^{q−1} = v and ‖y‖_q ≤ 1, with equality where μ > 0."""
        norm = _norm(v, self.q)
        if self.p == 2:
            scale = np.maximum(norm, 1.0)
            return v / scale, scale - 1
        outside = norm[..., 0] > 1
        y, multiplier = v.copy(), np.zeros_like(norm)
        if np.any(outside):
            sizes, multiplier[outside] = _onto_unit_sphere(np.abs(v[outside]), self.p)
            y[outside] = np.sign(v[outside]) * sizes
        return y, multiplier

    def _project_jacobian(self, y: Array) -> Array:
        point, mu = self._project_with_multiplier(y)
        size = np.maximum(np.abs(point), TINY)
        normal = np.sign(point) * size ** (self.q - 1)
        inner = 1 / (1 + mu * (self.q - 1) * size ** (self.q - 2))
        step = inner * normal
        curvature = np.sum(normal * step, axis=-1, keepdims=True)
        outside = mu > 0
        correction = np.where(outside, 1 / np.where(outside, curvature, 1.0), 0.0)
        return _outer_update(inner, step, -correction)

    def symbolic(self, z: Sequence[sp.Symbol]) -> sp.Expr:
        """(Σ |z_i|^p)^{1/p}."""
        p = sp.nsimplify(self.p)
        return sp.Add(*(sp.Abs(s) ** p for s in z)) ** (1 / p)

    def symbolic_project(self, y: Sequence[sp.Symbol]) -> list[sp.Expr] | None:
        """y/max(1, ‖y‖₂) for p = 2, else None."""
        return _on_unit_ball(y) if self.p == 2 else None

    def symbolic_gauge(self, y: Sequence[sp.Symbol]) -> sp.Expr:
        """‖y‖_q."""
        q = sp.nsimplify(self.q)
        return sp.Add(*(sp.Abs(s) ** q for s in y)) ** (1 / q)

    def inner_radius(self, d: int) -> float:
        """1, or d^{1/2−1/q} for q < 2."""
        return float(d ** min(0.0, 0.5 - 1 / self.q))


class GroupL2(SupportFunction):
    """κ(z) = Σ_G ‖z_G‖₂ over groups that partition the components; for z_G = 0 the selection is 0.

    Parameters
    ----------
    groups : sequence of sequences of int
        The indices of each group; together they are 0, …, d−1, each once.
    """

    name = "group-l2"
    formula = "Σ_G ‖z_G‖₂"
    conjugate_formula = "0 on max_G ‖y_G‖₂ ≤ 1"
    problem = "group ball"
    examples = ({"groups": [[0, 2], [1, 3, 4]]},)

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        self.groups = _partition(groups)
        self.dim = sum(len(group) for group in self.groups)
        self._labels = np.empty(self.dim, dtype=np.intp)
        for label, group in enumerate(self.groups):
            self._labels[group] = label

    @property
    def parameters(self) -> dict[str, Any]:
        """The groups."""
        return {"groups": self.groups}

    def _norms(self, z: Array) -> Array:
        return np.concatenate([_norm(z[..., group], 2.0) for group in self.groups], axis=-1)

    def _value(self, z: Array) -> Array:
        return np.asarray(np.sum(self._norms(z), axis=-1))

    def _subgradient(self, z: Array) -> Array:
        norms = self._norms(z)[..., self._labels]
        return np.asarray(z / np.where(norms > 0, norms, 1.0))

    def _project(self, y: Array) -> Array:
        return np.asarray(y / np.maximum(self._norms(y), 1.0)[..., self._labels])

    def _project_jacobian(self, y: Array) -> Array:
        norms = self._norms(y)[..., self._labels]
        scale = np.maximum(norms, 1.0)
        outward = np.where(norms > 1, y / scale, 0.0)
        same = self._labels[:, None] == self._labels
        return np.where(same, _outer_update(np.ones_like(y), outward, -1.0), 0.0) / scale[..., None]

    def symbolic(self, z: Sequence[sp.Symbol]) -> sp.Expr:
        """Σ_G √(Σ z_i²)."""
        return sp.Add(*(sp.sqrt(sp.Add(*(z[i] ** 2 for i in group))) for group in self.groups))

    def symbolic_project(self, y: Sequence[sp.Symbol]) -> list[sp.Expr]:
        """y_G/max(1, ‖y_G‖₂) in each group."""
        point = {
            i: p
            for group in self.groups
            for i, p in zip(group, _on_unit_ball([y[i] for i in group]), strict=True)
        }
        return [point[i] for i in range(len(y))]

    def symbolic_gauge(self, y: Sequence[sp.Symbol]) -> sp.Expr:
        """max_G ‖y_G‖₂."""
        return sp.Max(*(sp.sqrt(sp.Add(*(y[i] ** 2 for i in group))) for group in self.groups))


class TopK(SupportFunction):
    """κ(z) = the sum of the k largest |z_i|; of equal ones the selection takes those of lowest index.

    Parameters
    ----------
    k : int
        How many, between 1 and d.
    """

    name = "top-k"
    formula = "Σ of the k largest |z|"
    conjugate_formula = "0 on ‖y‖₁ ≤ k, ‖y‖∞ ≤ 1"
    problem = "k-sparse polytope"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"k": 2}, {"k": 3})

    def __init__(self, k: int) -> None:
        self.k = self.least_dim = _validate.count("k", k)

    @property
    def parameters(self) -> dict[str, Any]:
        """The number k."""
        return {"k": self.k}

    def _clean(self, name: str, value: Any) -> Array:
        result = super()._clean(name, value)
        if self.k > result.shape[-1]:
            raise ValueError(
                f"k must be ≤ d, got k = {self.k} for {name} with d = {result.shape[-1]} components"
            )
        return result

    def _value(self, z: Array) -> Array:
        largest = np.partition(np.abs(z), z.shape[-1] - self.k, axis=-1)[..., z.shape[-1] - self.k :]
        return np.asarray(np.sum(largest, axis=-1))

    def _subgradient(self, z: Array) -> Array:
        chosen = np.argsort(-np.abs(z), axis=-1, kind="stable")[..., : self.k]
        result = np.zeros_like(z)
        np.put_along_axis(result, chosen, np.sign(np.take_along_axis(z, chosen, axis=-1)), axis=-1)
        return result

    def _project(self, y: Array) -> Array:
        return np.sign(y) * np.clip(np.abs(y) - _shrinkage(np.abs(y), self.k), 0.0, 1.0)

    def _project_jacobian(self, y: Array) -> Array:
        shrinkage = _shrinkage(np.abs(y), self.k)
        rest = np.abs(y) - shrinkage
        free = ((rest > 0) & (rest < 1)).astype(np.float64)
        count = np.sum(free, axis=-1, keepdims=True)
        tight = (shrinkage > 0) & (count > 0)
        return _outer_update(free, free * np.sign(y), -np.where(tight, 1 / np.maximum(count, 1.0), 0.0))

    def symbolic_project(self, y: Sequence[sp.Symbol]) -> list[sp.Expr] | None:
        """sign(y)·max(|y| − θ, 0), with θ = 0 for k ≥ d and for k = 1 on up to 3 components

        θ = max_n (s_n − 1)/n or 0, where s_n is the sum of the n largest; else None.
        """
        if self.k >= len(y):
            return [sp.Max(sp.Min(s, 1), -1) for s in y]
        if self.k > 1 or len(y) > 3:
            return None
        size = [sp.Abs(s) for s in y]
        sums = (
            [sp.Max(*size), sp.Add(*size) - sp.Min(*size), sp.Add(*size)]
            if len(y) == 3
            else [sp.Max(*size), sp.Add(*size)]
        )
        shrinkage = sp.Max(0, *((total - 1) / (n + 1) for n, total in enumerate(sums)))
        return [sp.sign(s) * sp.Max(sp.Abs(s) - shrinkage, 0) for s in y]

    def symbolic_gauge(self, y: Sequence[sp.Symbol]) -> sp.Expr:
        """max(‖y‖∞, ‖y‖₁/k)."""
        return sp.Max(*map(sp.Abs, y), sp.Add(*map(sp.Abs, y)) / self.k)

    def inner_radius(self, d: int) -> float:
        """min(1, k/√d)."""
        return float(min(1.0, self.k / np.sqrt(d)))


class LInf(TopK):
    """κ(z) = ‖z‖∞; the selection is the vertex of the first largest |z_i|, 0 at z = 0."""

    name = "linf"
    formula = "‖z‖∞"
    conjugate_formula = "0 on ‖y‖₁ ≤ 1"
    problem = "ℓ1 ball"
    examples = ({},)

    def __init__(self) -> None:
        super().__init__(1)

    @property
    def parameters(self) -> dict[str, Any]:
        """None."""
        return {}

    def symbolic(self, z: Sequence[sp.Symbol]) -> sp.Expr:
        """max |z_i|."""
        return sp.Max(*(sp.Abs(s) for s in z))


@numba.njit(error_model="numpy")
def _onto_unit_sphere(size: Array, p: float) -> tuple[Array, Array]:
    """For each row v ≥ 0 of ``size``, ‖v‖_q > 1, the w and μ > 0 with w + μw^{q−1} = v and ‖w‖_q = 1.

    Compiled: an integrator asks for thousands of single points, each of some fifty steps.
    """
    q = p / (p - 1)
    points, multipliers = np.empty_like(size), np.empty((size.shape[0], 1))
    for row in range(size.shape[0]):
        v, w = size[row], points[row]
        largest = np.max(v)
        # |w_i| ≤ 1 and ‖w(μ)‖_q ≤ 1 at μ = ‖v‖_p bracket the multiplier, within a factor of d^{1/p} far out.
        high = largest * np.sum((v / largest) ** p) ** (1 / p)
        low, mu = min(max(largest - 1, 0.0), high), high
        for _ in range(ROOT_STEPS):
            total, fall = 0.0, 0.0
            for i in range(v.size):
                w[i] = power_prox(v[i], mu, q)
                inner = 1 + mu * (q - 1) * max(w[i], TINY) ** (q - 2)
                total += w[i] ** q
                fall += w[i] ** (2 * q - 2) / inner
            high, low = mu if total <= 1 else high, mu if total >= 1 else low
            # By the slope of log Σ w^q, which is closer to linear in μ than Σ w^q itself.
            new = mu + np.log(total) * total / (q * fall)
            new = new if low < new < high else (low + high) / 2
            if abs(new - mu) <= 4 * EPS * mu:
                break
            mu = new
        for i in range(v.size):
            w[i] = power_prox(v[i], mu, q)
        w /= np.max(w) * np.sum((w / np.max(w)) ** q) ** (1 / q)
        multipliers[row] = mu
    return points, multipliers


def _on_unit_ball(y: Sequence[sp.Symbol]) -> list[sp.Expr]:
    """y/max(1, ‖y‖₂)."""
    scale = 1 / sp.sqrt(sp.Max(1, sp.Add(*(s**2 for s in y))))
    return [s * scale for s in y]


def _norm(z: Array, p: float) -> Array:
    """‖z‖_p over the last axis, kept as an axis of length 1; scaled so that no power over- or underflows."""
    size = np.abs(z)
    largest = np.max(size, axis=-1, keepdims=True)
    scale = np.where(largest > 0, largest, 1.0)
    return np.asarray(scale * np.sum((size / scale) ** p, axis=-1, keepdims=True) ** (1 / p))


def _outer_update(diagonal: Array, vector: Array, weight: Array | float) -> Array:
    """diag(diagonal) + weight·vector vectorᵀ."""
    weight = np.asarray(weight)[..., None] if np.ndim(weight) else np.asarray(weight)
    return np.asarray(
        diagonal[..., :, None] * np.eye(diagonal.shape[-1])
        + weight * vector[..., :, None] * vector[..., None, :]
    )


def _shrinkage(size: Array, k: int) -> Array:
    """The least θ ≥ 0 with Σ clip(size_i − θ, 0, 1) ≤ k, an axis of length 1; exact by sorting the bends."""
    bends = np.concatenate([size - 1, size], axis=-1)
    order = np.argsort(bends, axis=-1, kind="stable")
    bends = np.take_along_axis(bends, order, axis=-1)
    free = np.cumsum(np.where(order < size.shape[-1], 1.0, -1.0), axis=-1)
    falls = free[..., :-1] * np.diff(bends, axis=-1)
    totals = size.shape[-1] - np.concatenate(
        [np.zeros_like(bends[..., :1]), np.cumsum(falls, axis=-1)], axis=-1
    )
    # The segment that crosses k starts at the last bend whose total is still above k.
    start = np.maximum(np.sum(totals > k, axis=-1, keepdims=True) - 1, 0)
    start = np.minimum(start, bends.shape[-1] - 2)
    left = np.take_along_axis(bends, start, axis=-1)
    middle = (left + np.take_along_axis(bends, start + 1, axis=-1)) / 2
    inside = (size > middle) & (size - 1 < middle)
    count = np.sum(inside, axis=-1, keepdims=True)
    full = np.sum(size - 1 >= middle, axis=-1, keepdims=True)
    crossing = (np.sum(np.where(inside, size, 0.0), axis=-1, keepdims=True) + full - k) / np.maximum(count, 1)
    needed = np.sum(np.minimum(size, 1.0), axis=-1, keepdims=True) > k
    return np.where(needed, np.maximum(np.where(count > 0, crossing, middle), 0.0), 0.0)


def _partition(groups: Any) -> list[list[int]]:
    try:
        result = [[_validate.count("group index", i, minimum=0) for i in group] for group in groups]
    except TypeError:
        raise TypeError(
            f"groups must be a list of lists of indices, got {_validate.describe(groups)}"
        ) from None
    found = sorted(i for group in result for i in group)
    if not found or not all(result) or found != list(range(len(found))):
        raise ValueError(
            f"groups must partition 0, …, d−1 into non-empty groups, got {_validate.describe(groups)}"
        )
    return result
