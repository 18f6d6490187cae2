"""Runs of updates: compiled from end to end where f and κ allow it, else one pass per update."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.flow.base import Budget, BudgetReached
from lionode.kappas.base import Separable
from lionode.system import LionK
from lionode.trajectory import Dense, Status, Trajectory
from lionode.updates import kernels
from lionode.updates.kernels import Scheme
from lionode.updates.step import Pass, passes, scheme

__all__ = ["iterate"]

CHUNK_SECONDS = 0.1
"""A compiled run comes back this often to report progress and to be interrupted."""

WORTH_COMPILING = 20_000_000
"""Of updates × (1000 + d): one in numpy takes about 50 µs and 50 ns a component, compiling about 1 s."""

NOT_FINITE = "it holds NaN or inf"

Noise = Callable[[np.random.Generator, Array], ArrayLike]


def iterate(
    system: LionK,
    x0: ArrayLike,
    steps: int,
    lr: float | None = None,
    m0: ArrayLike | None = None,
    decay: str = "explicit",
    look_ahead: str = "current",
    *,
    record_every: int = 1,
    stochastic: bool = False,
    gradient_noise: Noise | None = None,
    seed: int | np.random.Generator | None = None,
    compiled: bool | None = None,
    progress: Callable[[float], None] | None = None,
    max_seconds: float = math.inf,
) -> Trajectory:
    """Run the updates of `step` from (x0, m0).

    Source: Chen, Liu, Liang & Liu (ICLR 2024), eqs. (2) and (8).

    Parameters
    ----------
    system : LionK
        f, κ and the coefficients; β₁ = 1 − εγ, β₂ = 1 − ηγ.
    x0, m0 : array_like, shape (d,)
        The start; m0 is zero by default.
    steps : int
        The number of updates, ≥ 1.
    lr : float, optional
        η; by default the system's own if an optimizer made it, else 0.01.
    decay : {"explicit", "implicit"}
        λx at the old point, as in optimizer libraries, or at the new one.
    look_ahead : {"current", "next"}
        Whether m̃ is built from the old momentum or from the new one.
    record_every : int
        Every how many updates to keep the state; the last one is always kept.
    stochastic : bool
        Use the objective's ``stochastic(x, rng)`` for ∇f(x).
    gradient_noise : callable, optional
        ``(rng, x)`` to an array of shape (d,), added to the gradient.
    seed : int or numpy.random.Generator, optional
        For the two above; by default a fresh one, noted in ``info["seed"]``.
    compiled : bool, optional
        Whether to use numba, for separable κ: one pass an update, or where f is an expression the whole run.
        By default long runs do. Both ways give the same numbers bit for bit if ∂κ is arithmetic and sign; if
        it is a transcendental function, or f an expression, to the last bits of those.
    progress : callable, optional
        Called with the current t = kη, at most ten times a second.
    max_seconds : float
        Wall-clock budget.

    Returns
    -------
    Trajectory
        t = kη and the states, with u[k] the selection used on leaving x[k] (NaN where ∇f(x[k]) was not
        finite). Between two records it is linear. A run that cannot go on is returned as far as it got.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is named above, or η gives no 0 ≤ β₁ ≤ β₂.
    """
    numbers = scheme(system, lr, decay, look_ahead)
    d = system.dim
    x0 = _validate.vector("x0", x0, dim=d)
    m0 = np.zeros(d) if m0 is None else _validate.vector("m0", m0, dim=d)
    steps = _validate.count("steps", steps)
    every = _validate.count("record_every", record_every)
    if max_seconds != math.inf:
        _validate.positive("max_seconds", max_seconds)
    noisy = stochastic or gradient_noise is not None
    rng, entropy = _generator(seed) if noisy else (None, None)
    gradient = _gradient(system, stochastic, gradient_noise, rng)
    states = np.empty((-(-steps // every) + 1, 3 * d))
    states[0, :d], states[0, d : 2 * d] = x0, m0
    run = _Run(system, numbers, states, steps, every, Budget(steps, max_seconds, progress))
    if compiled is None:
        compiled = isinstance(system.kappa, Separable) and steps * (1000 + d) >= WORTH_COMPILING
    whole = _compiled_loop(system) if compiled and not noisy else None
    one = passes(system, compiled)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            if whole is None:
                run.updates(gradient, one)
            else:
                run.compiled(*whole)
    except BudgetReached as stop:
        run.status, run.message = Status.BUDGET, str(stop)
    except KeyboardInterrupt:
        if run.rows == 0:
            raise
        run.status, run.message = Status.INTERRUPTED, f"interrupted after {run.last} updates"
    info = {
        "lr": numbers.lr,
        "beta1": numbers.beta1,
        "beta2": numbers.beta2,
        "decay": decay,
        "look_ahead": look_ahead,
        "steps": steps,
        "record_every": every,
        "stochastic": noisy,
        "seed": entropy,
    }
    return run.trajectory(decay, info)


@dataclass
class _Run:
    """States by rows, and how far they go: row r holds update min(r·every, last)."""

    system: LionK
    numbers: Scheme
    states: Array
    steps: int
    every: int
    budget: Budget
    rows: int = 0
    last: int = 0
    nfev: int = 0
    status: Status = Status.FINISHED
    message: str = ""

    def updates(self, gradient: Callable[[Array], Array], one: Pass) -> None:
        """One update at a time, in place."""
        d = self.system.dim
        x, m = self.states[0, :d].copy(), self.states[0, d : 2 * d].copy()
        for k in range(self.steps + 1):
            try:
                g = gradient(x)
            except ArithmeticError as error:
                g, reason = np.full(d, np.nan), str(error)
            else:
                reason = NOT_FINITE
            self.nfev += 1
            if not _finite(g):
                self.record(k, x, m, np.full(d, np.nan))
                return self.stop(Status.NON_FINITE, _unusable(k, reason))
            if k % self.every == 0 or k == self.steps:
                self.record(k, x, m, one.select(m, g, self.numbers))
            if k == self.steps:
                break
            try:
                self.budget.tick(k * self.numbers.lr)
            except BudgetReached:
                self.record(k, x, m, one.select(m, g, self.numbers))
                raise
            one.advance(x, m, g, self.numbers)
            if not max(x.max(), -x.min()) <= kernels.LIMIT:
                return self.stop(Status.DIVERGED, _diverged(k + 1))
        return self.stop(Status.FINISHED, f"{self.steps} updates done")

    def compiled(self, advance_to: Callable[..., None], constants: tuple[float, ...]) -> None:
        """Many updates a call, as many as fit between two reports."""
        k, chunk, done = 0, 64, np.array([0, kernels.RUNNING])
        try:
            while True:
                started = time.perf_counter()
                target = min(k + chunk, self.steps)
                advance_to(self.states, done, target, self.every, self.numbers, constants)
                k, outcome = int(done[0]), int(done[1])
                if outcome == kernels.DIVERGED:
                    return self.stop(Status.DIVERGED, _diverged(k + 1))
                if outcome == kernels.NON_FINITE:
                    return self.stop(Status.NON_FINITE, _unusable(k, NOT_FINITE))
                if k == self.steps:
                    return self.stop(Status.FINISHED, f"{self.steps} updates done")
                self.budget.tick(k * self.numbers.lr)
                if time.perf_counter() - started < CHUNK_SECONDS / 2:
                    chunk *= 2
        finally:
            self.settle(*done)

    def settle(self, k: int, outcome: int) -> None:
        """Count the rows that a compiled run has left; after divergence only full ones are good."""
        if k == 0 and outcome == kernels.RUNNING:
            return
        self.nfev = int(k) + 1
        if outcome == kernels.DIVERGED:
            k = k // self.every * self.every
        self.rows, self.last = int(-(-k // self.every)) + 1, int(k)

    def record(self, k: int, x: Array, m: Array, u: Array) -> None:
        row = -(-k // self.every)
        np.concatenate([x, m, u], out=self.states[row])
        self.rows, self.last = row + 1, k

    def stop(self, status: Status, message: str) -> None:
        self.status, self.message = status, message

    def trajectory(self, decay: str, info: dict[str, Any]) -> Trajectory:
        d, states = self.system.dim, self.states[: self.rows]
        t = self.numbers.lr * np.minimum(np.arange(self.rows) * self.every, self.last)
        dense = None
        if self.rows > 1:
            dense = Dense(t, sliding_window_view(states, 2, axis=0).transpose(0, 2, 1))
        return Trajectory(
            self.system,
            t,
            states[:, :d],
            states[:, d : 2 * d],
            states[:, 2 * d :],
            self.status,
            self.message,
            decay,
            nfev=self.nfev,
            dense=dense,
            info=info,
        )


def _unusable(k: int, reason: str) -> str:
    return f"the gradient at update {k} cannot be used: {reason}"


def _diverged(k: int) -> str:
    return f"x grew beyond {kernels.LIMIT:g} at update {k}; a smaller lr may hold it"


def _finite(g: Array) -> bool:
    # A finite sum proves it without a temporary; an overflowing one asks each component.
    return bool(np.isfinite(g.sum()) or np.isfinite(g).all())


def _generator(seed: int | np.random.Generator | None) -> tuple[np.random.Generator, int | None]:
    if isinstance(seed, np.random.Generator):
        return seed, None
    if seed is None:
        entropy = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    else:
        entropy = _validate.count("seed", seed, minimum=0)
    return np.random.default_rng(entropy), entropy


def _gradient(
    system: LionK, stochastic: bool, noise: Noise | None, rng: np.random.Generator | None
) -> Callable[[Array], Array]:
    """∇f or the estimate of it, as contiguous arrays of the right shape."""
    objective = system.objective
    exact: Callable[[Array], Any] = objective.gradient
    estimate: Callable[[Array, Any], Any] | None = getattr(objective, "stochastic", None)
    if stochastic and estimate is None:
        raise ValueError(
            f"stochastic=True needs an objective with stochastic(x, rng), {objective.name} has none; "
            "pass gradient_noise=lambda rng, x: ... instead"
        )

    def gradient(x: Array) -> Array:
        g = estimate(x, rng) if stochastic and estimate is not None else exact(x)
        if noise is not None and rng is not None:
            g = g + np.asarray(noise(rng, x), dtype=np.float64)
        return objective._checked("gradient", np.ascontiguousarray(g), (system.dim,))

    return gradient


def _compiled_loop(system: LionK) -> tuple[Callable[..., None], tuple[float, ...]] | None:
    """The compiled loop for this f and κ and the constants it takes, where both can be compiled."""
    if not isinstance(system.kappa, Separable):
        return None
    gradient = system.objective.compiled_gradient()
    if gradient is None:
        return None
    dphi, constants = system.kappa.compiled_dphi()
    return kernels.loop(dphi, gradient), constants
