"""The update written once, for numpy arrays and for numbers in compiled loops alike, and those loops."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange
from numba.extending import register_jitable

__all__ = [
    "DIVERGED",
    "LIMIT",
    "NON_FINITE",
    "RUNNING",
    "Scheme",
    "fused",
    "look_ahead",
    "loop",
    "momentum",
    "move",
    "select",
]

LIMIT = 1e150
"""A component of x beyond it is divergence: its square still is a number."""

RUNNING, NON_FINITE, DIVERGED = 0, 1, 2
"""How a compiled loop came back."""


class Scheme(NamedTuple):
    """The numbers of one update.

    gain1 = εα and gain2 = ηα multiply the gradient in m̃ and in m; they are 1−β₁ and 1−β₂ when α = γ.
    """

    lr: float
    beta1: float
    beta2: float
    lam: float
    gain1: float
    gain2: float
    implicit: bool
    ahead: bool


def momentum(m: Any, g: Any, scheme: Scheme) -> Any:
    """mₖ₊₁ = β₂mₖ − ηα∇f."""
    return scheme.beta2 * m - scheme.gain2 * g


def look_ahead(m: Any, g: Any, scheme: Scheme) -> Any:
    """m̃ₖ₊₁ = β₁mₖ − εα∇f, or with mₖ₊₁ for mₖ."""
    base = momentum(m, g, scheme) if scheme.ahead else m
    return scheme.beta1 * base - scheme.gain1 * g


def move(x: Any, u: Any, scheme: Scheme) -> Any:
    """xₖ₊₁ = xₖ + η(u − λxₖ), or implicitly (xₖ + ηu)/(1 + ηλ)."""
    if scheme.implicit:
        return (x + scheme.lr * u) / (1 + scheme.lr * scheme.lam)
    return x + scheme.lr * (u - scheme.lam * x)


for _formula in (momentum, look_ahead, move):
    register_jitable(_formula)


@functools.cache
def fused(dphi: Callable[..., float], parallel: bool) -> Callable[..., None]:
    """One in-place pass (x, m, g, scheme, constants) for κ = Σφ: reads x, m, g once, writes x, m once."""

    @numba.njit(parallel=parallel, error_model="numpy")  # type: ignore[untyped-decorator,unused-ignore]
    def kernel(x, m, g, scheme, constants):  # type: ignore[no-untyped-def]
        for i in prange(x.size):
            u = dphi(look_ahead(m[i], g[i], scheme), *constants)
            m[i] = momentum(m[i], g[i], scheme)
            x[i] = move(x[i], u, scheme)

    compiled: Callable[..., None] = kernel
    return compiled


@functools.cache
def select(dphi: Callable[..., float]) -> Callable[..., None]:
    """The selection (m, g, u, scheme, constants) that `fused` is about to use, written to u."""

    @numba.njit(error_model="numpy")  # type: ignore[untyped-decorator,unused-ignore]
    def kernel(m, g, u, scheme, constants):  # type: ignore[no-untyped-def]
        for i in range(m.size):
            u[i] = dphi(look_ahead(m[i], g[i], scheme), *constants)

    compiled: Callable[..., None] = kernel
    return compiled


@functools.cache
def loop(dphi: Callable[..., float], gradient: Callable[..., None]) -> Callable[..., None]:
    """Updates up to ``stop`` in one compiled call: (states, done, stop, every, scheme, constants).

    ``done`` is (k, outcome), read and written, so that it is right even if an interrupt follows the call.
    State k and the selection that leaves it fill the row ⌈k/every⌉ of ``states``: the rows end as every
    ``every``-th state and the last one.
    """

    @numba.njit(error_model="numpy")  # type: ignore[untyped-decorator,unused-ignore]
    def kernel(states, done, stop, every, scheme, constants):  # type: ignore[no-untyped-def]
        d = states.shape[1] // 3
        g = np.empty(d)
        k = done[0]
        row = -(-k // every)
        while done[1] == RUNNING:
            state = states[row]
            gradient(state[:d], g)
            done[0] = k
            for i in range(d):
                if not np.isfinite(g[i]):
                    done[1] = NON_FINITE
            if done[1] == NON_FINITE:
                state[2 * d :] = np.nan
                break
            for i in range(d):
                state[2 * d + i] = dphi(look_ahead(state[d + i], g[i], scheme), *constants)
            if k == stop:
                break
            row = -(-(k + 1) // every)
            after = states[row]
            for i in range(d):
                after[d + i] = momentum(state[d + i], g[i], scheme)
                after[i] = move(state[i], state[2 * d + i], scheme)
                if not abs(after[i]) <= LIMIT:
                    done[1] = DIVERGED
            k += 1

    compiled: Callable[..., None] = kernel
    return compiled
