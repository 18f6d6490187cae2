"""`ensemble`: the flow from many starts, in compiled lanes where f and κ have a closed form."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lionode import _validate
from lionode._validate import Array
from lionode.ensemble import compile as compiler
from lionode.ensemble import lanes
from lionode.ensemble.emit import Unsupported
from lionode.flow import simulate
from lionode.flow.simulate import METHODS
from lionode.lyapunov import certify
from lionode.system import LionK
from lionode.trajectory import Status

__all__ = ["Ensemble", "ensemble"]

MAX_DIM = 8
"""Straight-line code grows like d³ stages; beyond this it compiles for longer than it saves."""

BLOCK = 64
"""Fewest starts worth a thread of their own: eight refills of each lane."""

STAGES = 8
"""Gradients in a step of Rodas5P."""

ENDS = {
    lanes.FINISHED: (Status.FINISHED, "Rodas5P reached t = {t:g}"),
    lanes.TOO_FAR: (Status.DIVERGED, f"the state passed {compiler.TOO_LARGE:g} at t = {{t:g}}"),
    lanes.TOO_SMALL: (Status.FAILED, "no step is short enough at t = {t:g}: f or κ is not finite there"),
    lanes.OUT_OF_STEPS: (Status.BUDGET, "the budget of steps was reached at t = {t:g}"),
}


@dataclass(frozen=True)
class Ensemble:
    """Many trajectories, each with its certificate.

    Attributes
    ----------
    systems : tuple of LionK
        One for each trajectory.
    t : ndarray, shape (n,)
        The common times.
    x, m : ndarray, shape (N, n, d)
        NaN at times that a trajectory did not reach.
    status, message : ndarray of str, shape (N,)
        How each ended, a `Status` and a sentence.
    reached : ndarray, shape (N,)
        The time each trajectory reached.
    entry_time : ndarray, shape (N,)
        When λx entered dom κ*: 0 if it started there, inf if it had not by the end.
    max_increase : ndarray, shape (N,)
        Largest rise of H in one accepted step within dom κ* (−inf or NaN if there was none).
    balance : ndarray, shape (N,)
        |H(T) − H(t₀) + ∫Δ dt| within dom κ*, by a Lobatto rule on each step.
    nfev : ndarray of int, shape (N,)
        Gradients of f that the integration took.
    method : ndarray of str, shape (N,)
        "lanes" or the integrator of `simulate`.
    """

    systems: tuple[LionK, ...]
    t: Array
    x: Array
    m: Array
    status: NDArray[np.str_]
    message: NDArray[np.str_]
    reached: Array
    entry_time: Array
    max_increase: Array
    balance: Array
    nfev: NDArray[np.int64]
    method: NDArray[np.str_]

    @property
    def success(self) -> NDArray[np.bool_]:
        """Whether each trajectory reached the end. Shape (N,)."""
        return np.isin(self.status, (Status.FINISHED, Status.TAIL_UNRESOLVED))

    def __len__(self) -> int:
        return len(self.status)


@dataclass(frozen=True)
class _Job:
    """What every trajectory of a call has in common."""

    x0s: Array
    m0s: Array
    times: Array
    t_end: float
    rtol: float
    atol: float
    max_steps: int
    workers: int


def ensemble(
    system: LionK | Sequence[LionK],
    x0s: ArrayLike,
    t_end: float,
    m0s: ArrayLike | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    t_eval: ArrayLike | None = None,
    *,
    method: str = "auto",
    max_steps: int = 1_000_000,
    workers: int | None = None,
) -> Ensemble:
    """Integrate the flow from many starts.

    A twice or once differentiable separable κ and an f with an expression of at most 8 variables run in
    compiled lanes (Rodas5P, eight trajectories in lock step, each with its own step size), compiled once per
    f and κ and kept on disk. Everything else takes `simulate`, start by start.

    Parameters
    ----------
    system : LionK or sequence of LionK
        One for all starts, or one for each; they may differ in coefficients, κ and f, but not in d.
    x0s, m0s : array_like, shape (N, d)
        The starts; m0s is zero by default.
    t_end : float
        The end, > 0.
    rtol, atol : float
        Tolerances of each step.
    t_eval : array_like, optional
        Increasing times in [0, t_end] to save. By default only the last state is kept, the one at the time
        ``reached``.
    method : str
        "auto"; "lanes" to insist on compiled lanes; or a method of `simulate`.
    max_steps : int
        Budget of each trajectory.
    workers : int, optional
        Threads of the lanes and processes of `simulate`; the number of CPUs by default.

    Returns
    -------
    Ensemble
        A trajectory that cannot go on keeps what it reached, with its own status and message.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is named above, or "lanes" is asked for where f or κ has no closed form.
    """
    x0s = np.array(_validate.array("x0s", x0s))
    if x0s.ndim != 2 or len(x0s) == 0:
        raise ValueError(f"x0s must have shape (N, d) with N ≥ 1, got shape {x0s.shape}")
    systems = _systems(system, *x0s.shape)
    m0s = np.zeros_like(x0s) if m0s is None else np.array(_validate.array("m0s", m0s))
    if m0s.shape != x0s.shape:
        raise ValueError(f"m0s must have the shape of x0s, {x0s.shape}, got {m0s.shape}")
    _validate.choice("method", method, ("auto", "lanes", *METHODS))
    t_end = _validate.positive("t_end", t_end)
    times = np.zeros(0) if t_eval is None else _validate.times("t_eval", t_eval, t_end)
    job = _Job(
        x0s, m0s, times, t_end, _validate.positive("rtol", rtol), _validate.positive("atol", atol),
        _validate.count("max_steps", max_steps),
        _validate.count("workers", os.cpu_count() or 1 if workers is None else workers),
    )  # fmt: skip
    result, states = _empty(systems, job)
    for index in _groups(systems):
        advance = _compiled(systems[index[0]], method)
        if advance is None:
            _ordinary(result, job, index, "auto" if method == "lanes" else method)
        else:
            _lanes(result, states, job, index, advance)
    return result


def _systems(system: LionK | Sequence[LionK], count: int, dim: int) -> tuple[LionK, ...]:
    systems = (system,) * count if isinstance(system, LionK) else tuple(system)
    for one in systems:
        if not isinstance(one, LionK):
            raise TypeError(f"system must be a LionK or a sequence of them, got {_validate.describe(one)}")
        if one.dim != dim:
            raise ValueError(
                f"x0s must have {one.dim} components along its last axis, got shape ({count}, {dim})"
            )
    if len(systems) != count:
        raise ValueError(
            f"system must be one LionK or one for each of the {count} starts, got {len(systems)}"
        )
    return systems


def _groups(systems: tuple[LionK, ...]) -> list[NDArray[np.int64]]:
    """The trajectories that share f and κ, and with them a kernel."""
    if all(one is systems[0] for one in systems):
        return [np.arange(len(systems))]
    groups: dict[tuple[int, Any], list[int]] = {}
    for i, one in enumerate(systems):
        groups.setdefault((id(one.objective), one.kappa), []).append(i)
    return [np.array(members) for members in groups.values()]


def _compiled(system: LionK, method: str) -> Callable[..., None] | None:
    """The kernel for this f and κ, or None where the ordinary path is the right one."""
    if method not in ("auto", "lanes"):
        return None
    try:
        if not system.kappa.smooth:
            raise Unsupported(f"kappa {system.kappa} has kinks")
        if system.dim > MAX_DIM:
            raise Unsupported(f"f has {system.dim} variables, more than {MAX_DIM}")
        if np.any(system.kappa.conjugate_subgradient(np.zeros(system.dim))):
            raise Unsupported(f"kappa {system.kappa} is not least at 0")
        return compiler.kernel(system)
    except Unsupported as reason:
        if method == "lanes":
            raise ValueError(f"method 'lanes' needs a closed form of f and a smooth κ: {reason}") from None
        return None


def _empty(systems: tuple[LionK, ...], job: _Job) -> tuple[Ensemble, Array]:
    """Room for the results, and the array that x and m are the two halves of."""
    count, d = job.x0s.shape
    times = job.times if job.times.size else np.array([job.t_end])
    states = np.empty((count, len(times), 2 * d))
    result = Ensemble(
        systems, times, states[..., :d], states[..., d:],
        np.full(count, "", dtype="<U24"), np.full(count, "", dtype=object),
        np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count),
        np.zeros(count, np.int64), np.full(count, "lanes", dtype="<U24"),
    )  # fmt: skip
    return result, states


def _lanes(
    result: Ensemble, states: Array, job: _Job, index: NDArray[np.int64], advance: Callable[..., None]
) -> None:
    count, d = len(index), job.x0s.shape[1]
    starts = np.concatenate([job.x0s[index], job.m0s[index]], axis=1)
    coefficients = _coefficients(result.systems, index)
    # Where one kernel does it all it writes into the result itself.
    whole = count == len(result) and job.times.size > 0
    if not whole:
        states = np.empty((count, job.times.size, 2 * d))
    report = np.zeros((count, 7 + 2 * d))
    blocks = max(1, min(4 * job.workers if job.workers > 1 else 1, count // BLOCK))
    bounds = np.linspace(0, count, blocks + 1).astype(np.int64)

    def run(block: int) -> None:
        advance(
            starts, coefficients, job.times, job.t_end, job.rtol, job.atol, job.max_steps,
            bounds[block], bounds[block + 1], states, report,
        )  # fmt: skip

    if blocks == 1:
        run(0)
    else:
        with ThreadPoolExecutor(job.workers) as pool:
            list(pool.map(run, range(blocks)))
    if not whole:
        kept = states if job.times.size else report[:, None, 7:]
        result.x[index], result.m[index] = kept[..., :d], kept[..., d:]
    for end, (status, message) in ENDS.items():
        ended = report[:, 0] == end
        result.status[index[ended]] = str(status)
        times, which = np.unique(report[ended, 1], return_inverse=True)
        result.message[index[ended]] = np.array([message.format(t=t) for t in times], dtype=object)[which]
    result.reached[index], result.entry_time[index] = report[:, 1], report[:, 2]
    result.max_increase[index], result.balance[index] = report[:, 3], np.abs(report[:, 4])
    result.nfev[index] = STAGES * (report[:, 5] + report[:, 6])


def _coefficients(systems: tuple[LionK, ...], index: NDArray[np.int64]) -> Array:
    """α, γ, ε, λ of each trajectory. Shape ``(len(index), 4)``."""
    if all(systems[i] is systems[index[0]] for i in index):
        return np.tile(list(systems[index[0]].coefficients.values()), (len(index), 1))
    return np.array([list(systems[i].coefficients.values()) for i in index])


def _ordinary(result: Ensemble, job: _Job, index: NDArray[np.int64], method: str) -> None:
    tasks = [(result.systems[i], job, int(i), method) for i in index]
    # Callables cannot be pickled, but a forked process already has them: only numbers travel.
    forked = job.workers > 1 and len(tasks) > 1 and "fork" in multiprocessing.get_all_start_methods()
    if forked:
        context = multiprocessing.get_context("fork")
        with context.Pool(min(job.workers, len(tasks)), _adopt, (tasks,)) as pool:
            rows = pool.map(_adopted, range(len(tasks)))
    else:
        rows = [_one(*task) for task in tasks]
    for i, (saved, status, message, numbers, nfev, used) in zip(index, rows, strict=True):
        d = job.x0s.shape[1]
        result.x[i, : len(saved)], result.m[i, : len(saved)] = saved[:, :d], saved[:, d:]
        result.x[i, len(saved) :], result.m[i, len(saved) :] = np.nan, np.nan
        result.status[i], result.message[i], result.nfev[i], result.method[i] = status, message, nfev, used
        result.reached[i], result.entry_time[i], result.max_increase[i], result.balance[i] = numbers


_TASKS: list[tuple[LionK, _Job, int, str]] = []


def _adopt(tasks: list[tuple[LionK, _Job, int, str]]) -> None:
    _TASKS[:] = tasks


def _adopted(position: int) -> tuple[Any, ...]:
    return _one(*_TASKS[position])


def _one(system: LionK, job: _Job, i: int, method: str) -> tuple[Any, ...]:
    run = simulate(
        system, job.x0s[i], job.t_end, job.m0s[i], method, job.rtol, job.atol,
        job.times if job.times.size else None, max_steps=job.max_steps,
    )  # fmt: skip
    saved = np.concatenate([run.x, run.m], axis=1)
    reached = 0.0 if run.dense is None else float(run.dense.breaks[-1])
    cert = certify(run)
    numbers = (reached, cert.entry_time, cert.max_increase, cert.balance_residual)
    return (
        saved if job.times.size else saved[-1:],
        str(run.status),
        run.message,
        numbers,
        run.nfev,
        run.method,
    )
