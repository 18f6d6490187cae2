"""The log-sum-exp potential, whose conjugate is the entropy on the simplex."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.special
import sympy as sp

from lionode._validate import Array
from lionode.kappas.base import Potential
from lionode.kappas.norms import ROOT_STEPS, _outer_update
from lionode.kappas.separable import TINY

__all__ = ["LogSumExp"]


class LogSumExp(Potential):
    """κ(z) = log Σ exp(z_i), with ∇κ the softmax.

    ∂κ*(y) = {log y + c·1} where y > 0 and is empty on the boundary of the simplex; `conjugate_subgradient`
    answers with c = 0 and a floor of 1e-100 under y.
    """

    name = "log-sum-exp"
    formula = "log Σ exp z"
    conjugate_formula = "Σ y log y on the simplex"
    problem = "entropic mirror / simplex"
    examples = ({},)
    smoothness = 2
    lipschitz = 0.5

    def _value(self, z: Array) -> Array:
        return np.asarray(scipy.special.logsumexp(z, axis=-1))

    def _subgradient(self, z: Array) -> Array:
        return np.asarray(scipy.special.softmax(z, axis=-1))

    def _conjugate(self, y: Array) -> Array:
        return np.asarray(np.sum(scipy.special.xlogy(y, y), axis=-1))

    def _conjugate_subgradient(self, y: Array) -> Array:
        return np.log(np.maximum(y, TINY))

    def _prox(self, z: Array, t: float) -> Array:
        return z - t * self._prox_softmax(z, t)

    def _prox_softmax(self, z: Array, t: float) -> Array:
        """softmax(p) at p = prox_{tκ}(z): ω(z_i + c)/t, ω Wright's function, for the c that makes the sum 1.

        The sum is convex in c, so Newton falls to c from the value that makes the largest term t alone.
        """
        top = np.max(z, axis=-1, keepdims=True)
        c = np.zeros_like(top) + t + np.log(t)
        for _ in range(ROOT_STEPS):
            terms = np.real(scipy.special.wrightomega(z - top + c))
            excess = np.sum(terms, axis=-1, keepdims=True) - t
            new = np.minimum(c - excess / np.sum(terms / (1 + terms), axis=-1, keepdims=True), c)
            if np.all(c - new <= np.finfo(float).eps * np.abs(c)):
                break
            c = new
        return np.asarray(terms / np.sum(terms, axis=-1, keepdims=True))

    def _prox_jacobian(self, z: Array, t: float) -> Array:
        share = self._prox_softmax(z, t)
        inverse = 1 / (1 + t * share)
        # Sherman–Morrison, with 1 − t Σ s²/(1 + ts) = Σ s/(1 + ts) because Σ s = 1
        weight = t / np.sum(share * inverse, axis=-1, keepdims=True)
        return _outer_update(inverse, inverse * share, weight)

    def _hessian(self, z: Array) -> Array:
        share = self._subgradient(z)
        return _outer_update(share, share, -1.0)

    def _project(self, y: Array) -> Array:
        ordered = -np.sort(-y, axis=-1)
        ranks = np.arange(1, y.shape[-1] + 1)
        shifts = (np.cumsum(ordered, axis=-1) - 1) / ranks
        last = np.sum(ordered > shifts, axis=-1, keepdims=True) - 1
        return np.maximum(y - np.take_along_axis(shifts, last, axis=-1), 0.0)

    def symbolic(self, z: Sequence[sp.Symbol]) -> sp.Expr:
        """log Σ exp(z_i)."""
        return sp.log(sp.Add(*(sp.exp(s) for s in z)))

    def symbolic_conjugate(self, y: Sequence[sp.Symbol]) -> sp.Expr:
        """Σ y_i log y_i."""
        return sp.Add(*(s * sp.log(s) for s in y))
