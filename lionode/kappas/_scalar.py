"""Operations of one number or an array of them that numpy and numba both run, written alike for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba.extending import overload, register_jitable

__all__ = ["EPS", "quietly", "scalar", "settled", "where"]

EPS = float(np.finfo(np.float64).eps)

F = TypeVar("F", bound=Callable[..., Any])


def scalar(function: F) -> F:
    """Let compiled code call `function`, which stays an ordinary function for numpy."""
    register_jitable(function)
    return function


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where `condition` holds, else `b`."""
    return np.where(condition, a, b)


@overload(where)
def _where(condition, a, b):  # type: ignore[no-untyped-def]  # numba compares this signature with the lambda's
    # numba's own np.where turns numbers into an array
    return lambda condition, a, b: a if condition else b


def quietly(function: Callable[[Any], Any], z: Any) -> Any:
    """function(z) without warnings: what overflows is inf, in numpy as in compiled code."""
    with np.errstate(all="ignore"):
        return function(z)


@overload(quietly)
def _quietly(function, z):  # type: ignore[no-untyped-def]
    return lambda function, z: function(z)


def settled(new: Any, old: Any) -> bool:
    """Whether an iteration has come to rest: no component moves by more than a rounding any more."""
    return bool(np.all(np.abs(new - old) <= 2 * EPS * np.abs(new)))


@overload(settled)
def _settled(new, old):  # type: ignore[no-untyped-def]
    return lambda new, old: np.abs(new - old) <= 2 * EPS * np.abs(new)
