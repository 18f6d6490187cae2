"""Checks of what a user passes: each returns the cleaned value or raises, naming the argument.

Every message says the argument, what came, and what is needed.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "array",
    "betas",
    "choice",
    "count",
    "describe",
    "nonnegative",
    "positive",
    "real",
    "times",
    "vector",
]

Array = NDArray[np.float64]


def real(name: str, value: Any) -> float:
    """Return `value` as a finite float."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    result = float(value)
    if not math.isfinite(result):
        raise ValueError(f"{name} must be finite, got {result}")
    return result


def positive(name: str, value: Any) -> float:
    """Return `value` as a finite float > 0."""
    result = real(name, value)
    if result <= 0:
        raise ValueError(f"{name} must be > 0, got {result:g}")
    return result


def nonnegative(name: str, value: Any) -> float:
    """Return `value` as a finite float ≥ 0."""
    result = real(name, value)
    if result < 0:
        raise ValueError(f"{name} must be ≥ 0, got {result:g}")
    return result


def count(name: str, value: Any, *, minimum: int = 1) -> int:
    """Return `value` as an integer ≥ `minimum`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer ≥ {minimum}, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be an integer ≥ {minimum}, got {int(value)}")
    return int(value)


def betas(beta1: Any, beta2: Any) -> tuple[float, float]:
    """Return both as floats with 0 ≤ β₁ ≤ β₂ < 1."""
    first, second = real("beta1", beta1), real("beta2", beta2)
    if not 0 <= first <= second < 1:
        raise ValueError(f"beta1 and beta2 must satisfy 0 ≤ beta1 ≤ beta2 < 1, got {first:g} and {second:g}")
    return first, second


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """Return `value` if it is one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
    return value


def array(name: str, value: ArrayLike, *, last: int | None = None, finite: bool = True) -> Array:
    """Return `value` as a float64 array with at least one axis, the last of length `last`."""
    result = np.asarray(value)
    if result.dtype.kind == "c":
        raise TypeError(f"{name} must be real, got a complex array")
    if result.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be an array of real numbers, got {describe(value)}")
    result = np.asarray(result, dtype=np.float64)
    if result.ndim == 0:
        raise ValueError(f"{name} must have components along its last axis, got the number {describe(value)}")
    if last is not None and result.shape[-1] != last:
        raise ValueError(f"{name} must have {last} components along its last axis, got shape {result.shape}")
    if finite and not np.isfinite(result).all():
        raise ValueError(f"{name} must be finite, got NaN or inf in it")
    return result


def vector(name: str, value: ArrayLike, *, dim: int | None = None) -> Array:
    """Return `value` as a new finite float64 vector of length `dim`."""
    result = array(name, np.atleast_1d(np.asarray(value)))
    if result.ndim != 1 or (dim is not None and result.size != dim):
        need = "one axis" if dim is None else f"shape ({dim},)"
        raise ValueError(f"{name} must have {need}, got shape {result.shape}")
    return result.copy()


def times(name: str, value: ArrayLike, end: float) -> Array:
    """Return `value` as increasing times within [0, end]."""
    result = vector(name, value)
    if result.size == 0 or (np.diff(result) <= 0).any() or result[0] < 0 or result[-1] > end:
        raise ValueError(f"{name} must be increasing times within [0, {end:g}], got {describe(value)}")
    return result


def describe(value: Any) -> str:
    """A short text for `value` in a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
