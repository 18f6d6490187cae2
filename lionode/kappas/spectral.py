"""The nuclear norm of a matrix whose entries are the components of z, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import sympy as sp

from lionode import _validate
from lionode._validate import Array
from lionode.kappas.base import Potential

__all__ = ["Nuclear"]


class _SVD(NamedTuple):
    u: Array
    s: Array
    vt: Array


class Nuclear(Potential):
    """κ(Z) = ‖Z‖_*, the potential of Muon; singular values that round to 0 do not enter the selection UVᵀ.

    Parameters
    ----------
    shape : tuple of two int
        The shape (n, m) of the matrix; z has n·m components.
    """

    name = "nuclear"
    formula = "‖Z‖_*"
    conjugate_formula = "0 on ‖Y‖₂ ≤ 1"
    problem = "spectral-norm ball"
    examples = ({"shape": [2, 3]}, {"shape": [3, 2]})

    def __init__(self, shape: Sequence[int]) -> None:
        if np.shape(shape) != (2,):
            raise ValueError(f"shape must be two positive integers, got {_validate.describe(shape)}")
        rows, columns = (_validate.count("shape", n) for n in shape)
        self.shape = (rows, columns)
        self.dim: int = rows * columns

    @property
    def parameters(self) -> dict[str, Any]:
        """The shape."""
        return {"shape": list(self.shape)}

    def _svd(self, z: Array) -> _SVD:
        return _SVD(*np.linalg.svd(z.reshape(*z.shape[:-1], *self.shape), full_matrices=False))

    def _assemble(self, svd: _SVD, s: Array) -> Array:
        matrix = (svd.u * s[..., None, :]) @ svd.vt
        return np.asarray(matrix.reshape(*s.shape[:-1], self.dim))

    def _value(self, z: Array) -> Array:
        return np.asarray(np.sum(self._svd(z).s, axis=-1))

    def _subgradient(self, z: Array) -> Array:
        svd = self._svd(z)
        rounding = max(self.shape) * np.finfo(float).eps * svd.s[..., :1]
        return self._assemble(svd, (svd.s > rounding).astype(np.float64))

    def _conjugate(self, y: Array) -> Array:
        return np.zeros(y.shape[:-1])

    def _project(self, y: Array) -> Array:
        svd = self._svd(y)
        inside = svd.s[..., :1] <= 1
        return np.where(inside, y, self._assemble(svd, np.minimum(svd.s, 1.0)))

    def _prox(self, z: Array, t: float) -> Array:
        svd = self._svd(z)
        return self._assemble(svd, np.maximum(svd.s - t, 0.0))

    def _prox_jacobian(self, z: Array, t: float) -> Array:
        """The derivative of U h(S) Vᵀ, h the soft threshold: divided differences of the odd h.

        With E' = UᵀEV: (h_i − h_j)/(s_i − s_j) on its symmetric part, (h_i + h_j)/(s_i + s_j) on its
        skew part, h_i/s_i on what lies outside the ranges of U and V.
        """
        u, s, vt = self._svd(z)
        u, vt = u[..., None, :, :], vt[..., None, :, :]
        ut, v = np.swapaxes(u, -1, -2), np.swapaxes(vt, -1, -2)
        kept = np.maximum(s - t, 0.0)
        difference = _divided_difference(s, kept)[..., None, :, :]
        total = kept[..., :, None] + kept[..., None, :]
        mean = (total / np.where(total > 0, s[..., :, None] + s[..., None, :], 1.0))[..., None, :, :]
        ratio = (kept / np.where(kept > 0, s, 1.0))[..., None, :]
        basis = np.eye(self.dim).reshape(self.dim, *self.shape)
        left, right = ut @ basis, basis @ v
        core = left @ v
        flipped = np.swapaxes(core, -1, -2)
        inner = difference * (core + flipped) / 2 + mean * (core - flipped) / 2
        columns = (
            u @ inner @ vt
            + (u * ratio[..., None, :]) @ (left - core @ vt)
            + ((right - u @ core) * ratio[..., None, :]) @ vt
        )
        return np.swapaxes(columns.reshape(*z.shape[:-1], self.dim, self.dim), -1, -2)

    def symbolic_conjugate(self, y: Sequence[sp.Symbol]) -> sp.Expr:
        """0 on the ball."""
        return sp.Integer(0)


def _divided_difference(s: Array, kept: Array) -> Array:
    """(h_i − h_j)/(s_i − s_j) of the soft threshold h: exactly 1 above it, 0 below, a quotient across."""
    above = kept > 0
    both = above[..., :, None] & above[..., None, :]
    across = above[..., :, None] ^ above[..., None, :]
    gap = np.where(across, s[..., :, None] - s[..., None, :], 1.0)
    quotient = (kept[..., :, None] - kept[..., None, :]) / gap
    return np.where(both, 1.0, np.where(across, quotient, 0.0))
