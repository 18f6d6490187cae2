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
from lionode.ensemble import lanes
from lionode.ensemble.compile import exact_kernel, kernel
from lionode.ensemble.dop853 import DOP853
from lionode.ensemble.emit import TOO_LARGE, Scheme
from lionode.ensemble.exact import GRADIENTS, STUCK, TIE
from lionode.ensemble.forms import Unsupported
from lionode.ensemble.rodas5p import RODAS5P
from lionode.flow import simulate
from lionode.flow.moreau import default_tau
from lionode.flow.simulate import METHODS
from lionode.lyapunov import certify
from lionode.lyapunov.function import SMALLEST_LAM, weight
from lionode.system import LionK
from lionode.trajectory import Status

__all__ = ["Ensemble", "ensemble"]

MAX_DIM = 8
"""Straight-line code grows like d³ stages; beyond this it compiles for longer than it saves."""

BLOCK = 2048
"""Starts in a task at most: what an interrupt waits for, and what is held twice where κ is smoothed."""

SHARE = 64
"""Fewest starts worth a thread of their own: eight refills of each lane."""

DOMAIN_SLACK = 1e-12
"""λx within this of the edge of dom κ* is in it: rounding of the state, as in `Potential.contains`."""

MILD, TIGHT = 6.0, 1e-9
"""Up to this rate λ + γ + εαℓL of the fastest motion, and from this tolerance on, an explicit scheme of high
order takes less time than Rodas5P for the same error (`benchmarks/RESULTS-ensemble.md`)."""

EXACT = "exact"

MAX_CORNER = 6
"""Up to this many components the exact flow tries every way to go on from kinks met together, 3^d of them."""

SCHEMES = {"lanes:Rodas5P": RODAS5P, "lanes:DOP853": DOP853}
"""The schemes of the lanes by the name that `ensemble` takes."""

ENDS = {
    lanes.FINISHED: (Status.FINISHED, "{name} reached t = {t:g}"),
    lanes.TOO_FAR: (Status.DIVERGED, f"the state passed {TOO_LARGE:g} at t = {{t:g}}"),
    lanes.TOO_SMALL: (Status.FAILED, "no step is short enough at t = {t:g}: f or κ is not finite there"),
    STUCK: (Status.FAILED, "no step is short enough at t = {t:g}: f is not finite there"),
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
    error_estimate : ndarray, shape (N,)
        Where κ was smoothed, how far the runs at τ and τ/2 differ: what is returned is their combination
        2·y_{τ/2} − y_τ, which is nearer; 0 elsewhere.
    nfev : ndarray of int, shape (N,)
        Gradients of f that the steps took.
    method : ndarray of str, shape (N,)
        "lanes", "exact" or the integrator of `simulate`.
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
    error_estimate: Array
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

    An f with an expression of at most 8 variables runs in code that is compiled once per f and κ, and kept on
    disk. For a piecewise linear κ such as L1 the flow is exact: every switch is located. A κ that is
    differentiable with κ* in closed form runs in lanes: eight trajectories in lock step, each with its own
    step size. Where L1 is asked for in "lanes", and for norms, the lanes integrate envelopes κ_τ and κ_{τ/2},
    τ = √rtol, and combine them; certificates are then those of the run with κ_{τ/2}, whose H is exact. The
    envelopes are Moreau's, but for ‖·‖_p with p ≠ 2, which is smoothed in itself: min_p ‖p‖ + ‖p − z‖²/2τ
    in that norm. With more than 3 variables κ has to be separable. Everything else takes `simulate`, start
    by start.

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
        "auto"; "exact" to insist on the compiled exact flow; "lanes" on compiled lanes, "lanes:Rodas5P" or
        "lanes:DOP853" to choose their scheme too; or a method of `simulate`. Rodas5P is for stiff flows, and
        taken unless the flow is known to be mild and the tolerance is tight.
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
    _validate.choice("method", method, ("auto", EXACT, "lanes", *SCHEMES, *METHODS))
    t_end = _validate.positive("t_end", t_end)
    times = np.zeros(0) if t_eval is None else _validate.times("t_eval", t_eval, t_end)
    job = _Job(
        x0s, m0s, times, t_end, _validate.positive("rtol", rtol), _validate.positive("atol", atol),
        _validate.count("max_steps", max_steps),
        _validate.count("workers", os.cpu_count() or 1 if workers is None else workers),
    )  # fmt: skip
    result, states = _empty(systems, job)
    for index in _groups(systems):
        kernel = _kernel(systems[index[0]], method, job.rtol)
        if kernel is None:
            _ordinary(result, job, index, method)
        else:
            _compiled(result, states, job, index, kernel)
    return result


def _systems(system: LionK | Sequence[LionK], count: int, dim: int) -> tuple[LionK, ...]:
    systems = (system,) * count if isinstance(system, LionK) else tuple(system)
    for one in _distinct(systems):
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


def _distinct(systems: Sequence[LionK]) -> list[LionK]:
    """Each object once: ten thousand starts mostly share one."""
    return list(dict(zip(map(id, systems), systems, strict=True)).values())


def _groups(systems: tuple[LionK, ...]) -> list[NDArray[np.int64]]:
    """The trajectories that share f and κ, and with them a kernel; those on which nothing slides apart."""
    if len(_distinct(systems)) == 1:
        return [np.arange(len(systems))]
    groups: dict[tuple[int, Any, bool], list[int]] = {}
    for i, one in enumerate(systems):
        groups.setdefault((id(one.objective), one.kappa, one.epsilon > 0), []).append(i)
    return [np.array(members) for members in groups.values()]


@dataclass(frozen=True)
class _Kernel:
    """Compiled code for one f and κ: what it is called, and what it does with a tolerance."""

    advance: Callable[..., None]
    method: str
    name: str
    gradients: int
    share: float = 1.0
    smooths: bool = False


def _kernel(system: LionK, method: str, rtol: float) -> _Kernel | None:
    """The compiled code that `method` asks for, or None where `simulate` is the right path.

    Raises
    ------
    ValueError
        If it is asked for by name and there is none.
    """
    if method in METHODS:
        return None
    try:
        if system.dim > MAX_DIM:
            raise Unsupported(f"f has {system.dim} variables, more than {MAX_DIM}")
        if method == EXACT or (method == "auto" and system.kappa.kinks is not None):
            return _exact(system)
        return _lanes(system, method, rtol)
    except Unsupported as reason:
        if method != "auto":
            raise ValueError(f"method {method!r} has no compiled form here: {reason}") from None
        return None


def _exact(system: LionK) -> _Kernel:
    if system.dim > MAX_CORNER:
        raise Unsupported(f"f has {system.dim} variables, more than {MAX_CORNER}")
    if system.epsilon == 0:
        raise Unsupported("nothing slides at ε = 0, and crossings of a kink grow dense")
    return _Kernel(exact_kernel(system.objective, system.kappa), EXACT, "the exact flow", GRADIENTS)


def _lanes(system: LionK, method: str, rtol: float) -> _Kernel:
    scheme, smooths = SCHEMES.get(method) or _scheme(system, rtol), not system.kappa.smooth
    name = f"{scheme.name} with κ_τ, τ = {default_tau(rtol):g} and half of it," if smooths else scheme.name
    compiled = kernel(system.objective, system.kappa, scheme)
    return _Kernel(compiled, "lanes", name, scheme.gradients, scheme.share, smooths)


def _scheme(system: LionK, rtol: float) -> Scheme:
    """The explicit scheme where the flow is known to be mild and the tolerance is tight."""
    bend = system.kappa.lipschitz * (system.objective.smoothness or np.inf)
    rate = system.lam + system.gamma + (system.epsilon * system.alpha * bend if system.epsilon > 0 else 0.0)
    return DOP853 if rate <= MILD and rtol <= TIGHT else RODAS5P


def _empty(systems: tuple[LionK, ...], job: _Job) -> tuple[Ensemble, Array]:
    """Room for the results, and the array that x and m are the two halves of."""
    count, d = job.x0s.shape
    times = job.times if job.times.size else np.array([job.t_end])
    states = np.empty((count, len(times), 2 * d))
    result = Ensemble(
        systems, times, states[..., :d], states[..., d:],
        np.full(count, "", dtype="<U24"), np.full(count, "", dtype=object),
        np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count),
        np.zeros(count, np.int64), np.full(count, "", dtype="<U24"),
    )  # fmt: skip
    return result, states


def _compiled(result: Ensemble, states: Array, job: _Job, index: NDArray[np.int64], kernel: _Kernel) -> None:
    count = len(index)
    starts = np.concatenate([job.x0s[index], job.m0s[index]], axis=1)
    tau = default_tau(job.rtol)
    taus = (tau, tau / 2) if kernel.smooths else (0.0,)
    coefficients = [_coefficients(result.systems, index, t) for t in taus]
    report = np.zeros((count, 7 + starts.shape[1]))
    blocks = max(-(-count // BLOCK), min(job.workers, count // SHARE))
    bounds = np.linspace(0, count, blocks + 1).astype(np.int64)
    # Where one kernel does it all it writes into the result itself.
    whole = count == len(result) and job.times.size > 0 and not kernel.smooths

    def run(block: int) -> None:
        part = slice(bounds[block], bounds[block + 1])
        size = part.stop - part.start
        runs = []
        for row in coefficients:
            saved = states[part] if whole else np.empty((size, job.times.size, starts.shape[1]))
            told = np.zeros((size, report.shape[1]))
            kernel.advance(
                starts[part], row[part], job.times, job.t_end, kernel.share * job.rtol,
                kernel.share * job.atol, job.max_steps, 0, size, saved, told,
            )  # fmt: skip
            runs.append((saved if job.times.size else told[:, None, 7:], told))
        kept, report[part] = _combined(*runs) if kernel.smooths else runs[0]
        if kernel.smooths:
            result.error_estimate[index[part]] = _gap(runs[0][0], runs[1][0])
        if not whole:
            states[index[part]] = kept

    if blocks == 1 or job.workers == 1:
        for block in range(blocks):
            run(block)
    else:
        with ThreadPoolExecutor(job.workers) as pool:
            try:
                list(pool.map(run, range(blocks)))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    _told(result, index, report, kernel)
    # No unique mode: the ordinary path says what then is done, and does it.
    ties = index[report[:, 0] == TIE]
    if ties.size:
        _ordinary(result, job, ties, "auto")


def _combined(coarse: tuple[Array, Array], fine: tuple[Array, Array]) -> tuple[Array, Array]:
    """2·y_{τ/2} − y_τ, the same for the time of entry, and the rest of the report of the run at τ/2."""
    report = fine[1].copy()
    worse = coarse[1][:, 0] > 0
    report[worse, :2] = coarse[1][worse, :2]
    both = np.isfinite(coarse[1][:, 2]) & np.isfinite(fine[1][:, 2])
    report[both, 2] = np.maximum(2 * fine[1][both, 2] - coarse[1][both, 2], 0.0)
    report[:, 5:7] += coarse[1][:, 5:7]
    return 2 * fine[0] - coarse[0], report


def _gap(coarse: Array, fine: Array) -> Array:
    """The largest difference along each path, as far as both reach."""
    return np.asarray(np.max(np.nan_to_num(np.abs(fine - coarse)), axis=(1, 2), initial=0.0))


def _told(result: Ensemble, index: NDArray[np.int64], report: Array, kernel: _Kernel) -> None:
    """What the compiled code reported of each trajectory."""
    for end, (status, message) in ENDS.items():
        ended = report[:, 0] == end
        result.status[index[ended]] = str(status)
        times, which = np.unique(report[ended, 1], return_inverse=True)
        texts = np.array([message.format(t=t, name=kernel.name) for t in times], dtype=object)
        result.message[index[ended]] = texts[which]
    result.reached[index], result.entry_time[index] = report[:, 1], report[:, 2]
    result.max_increase[index], result.balance[index] = report[:, 3], np.abs(report[:, 4])
    result.nfev[index] = kernel.gradients * (report[:, 5] + report[:, 6])
    result.method[index] = kernel.method


def _coefficients(systems: tuple[LionK, ...], index: NDArray[np.int64], tau: float) -> Array:
    """`model.COEFFICIENTS` of each trajectory. Shape ``(len(index), 9)``."""

    def row(system: LionK) -> list[float]:
        alpha, gamma, epsilon, lam = system.coefficients.values()
        drift = (lam + gamma) / (1 + epsilon * lam)
        penalty = gamma / lam if lam > SMALLEST_LAM else 0.0
        return [alpha, gamma, epsilon, lam, weight(system), drift, penalty, tau, 1 + DOMAIN_SLACK]

    chosen = systems if len(index) == len(systems) else [systems[i] for i in index]
    distinct = _distinct(chosen)
    rows = np.array([row(one) for one in distinct])
    if len(distinct) == 1:
        return np.tile(rows, (len(index), 1))
    places = {id(one): place for place, one in enumerate(distinct)}
    return rows[[places[id(one)] for one in chosen]]


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
        for field, number in zip(NUMBERS, numbers, strict=True):
            getattr(result, field)[i] = number


NUMBERS = ("reached", "entry_time", "max_increase", "balance", "error_estimate")
"""What `_one` returns as numbers, by the fields of `Ensemble`."""

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
    estimate = float(run.info.get("error_estimate", 0.0)) if run.method == "moreau" else 0.0
    numbers = (reached, cert.entry_time, cert.max_increase, cert.balance_residual, estimate)
    return (
        saved if job.times.size else saved[-1:],
        str(run.status),
        run.message,
        numbers,
        run.nfev,
        run.method,
    )
