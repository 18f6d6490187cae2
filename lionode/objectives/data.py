"""Losses on data."""

from __future__ import annotations

import numpy as np
import scipy.special
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.objectives.base import Objective, factory

__all__ = ["least_squares", "logistic"]


@factory
def least_squares(A: ArrayLike, y: ArrayLike) -> Objective:
    """½‖Ax − y‖².

    Parameters
    ----------
    A : array_like, shape (n, d)
    y : array_like, shape (n,)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    matrix = _matrix("A", A)
    target = _validate.vector("y", y, dim=matrix.shape[0])
    curvature = matrix.T @ matrix
    spectrum = np.linalg.eigvalsh(curvature)
    low = float(spectrum[0]) if spectrum[0] > len(spectrum) * np.finfo(float).eps * spectrum[-1] else 0.0
    best = np.linalg.lstsq(matrix, target, rcond=None)[0]
    return Objective(
        lambda x: np.sum((x @ matrix.T - target) ** 2, axis=-1) / 2,
        lambda x: (x @ matrix.T - target) @ matrix,
        lambda x: np.broadcast_to(curvature, (*x.shape, matrix.shape[1])),
        matrix.shape[1],
        vectorized=True,
        smoothness=float(spectrum[-1]),
        strong_convexity=low,
        minimum=float(np.sum((matrix @ best - target) ** 2) / 2),
        minimizer=best,
        name="least_squares",
    )


@factory
def logistic(X: ArrayLike, y: ArrayLike, l2: float = 0.0) -> Objective:
    """Mean of log(1 + exp(−yᵢ⟨Xᵢ, x⟩)) + (l2/2)‖x‖².

    Parameters
    ----------
    X : array_like, shape (n, d)
    y : array_like, shape (n,)
        Labels, −1 and 1, or 0 and 1.
    l2 : float
        ≥ 0.

    Raises
    ------
    ValueError
        If the shapes do not fit or the labels are others.
    """
    data = _matrix("X", X)
    n, d = data.shape
    labels = _validate.vector("y", y, dim=n)
    if not (np.isin(labels, (-1, 1)).all() or np.isin(labels, (0, 1)).all()):
        raise ValueError(f"y must hold labels −1 and 1, or 0 and 1, got {np.unique(labels)[:5]}")
    l2 = _validate.nonnegative("l2", l2)
    signed = data * np.where(labels > 0, 1.0, -1.0)[:, None]

    def value(x: Array) -> Array:
        loss = np.logaddexp(0, -x @ signed.T).mean(axis=-1)
        return np.asarray(loss + l2 / 2 * np.sum(x**2, axis=-1))

    def gradient(x: Array) -> Array:
        return np.asarray(-scipy.special.expit(-x @ signed.T) @ signed / n + l2 * x)

    def hessian(x: Array) -> Array:
        p = scipy.special.expit(x @ signed.T)
        weights = p * (1 - p) / n
        return np.asarray(np.einsum("...n,ni,nj->...ij", weights, signed, signed) + l2 * np.eye(d))

    return Objective(
        value,
        gradient,
        hessian,
        d,
        vectorized=True,
        smoothness=float(np.linalg.norm(data, 2) ** 2 / (4 * n) + l2),
        strong_convexity=l2,
        name="logistic",
    )


def _matrix(name: str, value: ArrayLike) -> Array:
    matrix = _validate.array(name, value)
    if matrix.ndim != 2:
        raise ValueError(f"{name} must have two axes, got shape {matrix.shape}")
    return matrix
