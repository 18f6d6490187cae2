"""`simulate`: choose an integrator that is right for κ, run it, and report what it did."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.flow import backward_euler, event, moreau, smooth
from lionode.flow.base import Budget, Integrator, Options, Solution
from lionode.objectives.base import NonFiniteError
from lionode.system import LionK
from lionode.trajectory import Dense, Event, Trajectory

__all__ = ["ERRORS", "METHODS", "Method", "simulate"]


@dataclass(frozen=True)
class Method:
    """An integrator, what it needs of a system, and the options it takes beyond rtol and atol."""

    integrate: Integrator
    needs: str
    suits: Callable[[LionK], bool]
    options: frozenset[str] = frozenset()


METHODS: dict[str, Method] = {
    name: Method(smooth.named(name), "a κ with a Lipschitz gradient", lambda system: system.kappa.smooth)
    for name in smooth.SOLVERS
} | {
    "event": Method(
        event.integrate,
        "a separable piecewise linear κ and the Hessian of f",
        lambda system: system.kappa.kinks is not None and system.objective.has_hessian,
        frozenset({"max_events"}),
    ),
    "moreau": Method(moreau.integrate, "any κ", lambda _: True, frozenset({"tau"})),
    "backward-euler": Method(backward_euler.integrate, "any κ", lambda _: True, frozenset({"step"})),
}
"""Every method by the name that `simulate` takes."""

ERRORS = 30.0
"""x is taken to be off by at most this many times the tolerance of a step."""

AUTO = ("LSODA", "event", "moreau", "backward-euler")
"""What ``method="auto"`` tries, in this order: the first method that suits the system is taken."""


def simulate(
    system: LionK,
    x0: ArrayLike,
    t_end: float,
    m0: ArrayLike | None = None,
    method: str = "auto",
    rtol: float = 1e-8,
    atol: float = 1e-10,
    t_eval: ArrayLike | None = None,
    *,
    step: float | None = None,
    max_steps: int = 1_000_000,
    max_seconds: float = math.inf,
    progress: Callable[[float], None] | None = None,
    **options: Any,
) -> Trajectory:
    """Integrate the flow ṁ = −α∇f(x) − γm, ẋ ∈ ∂κ(m̃) − λx from (x0, m0) at t = 0.

    Parameters
    ----------
    system : LionK
        f, κ and the coefficients.
    x0, m0 : array_like, shape (d,)
        The start; m0 is zero by default.
    t_end : float
        The end, > 0.
    method : str
        "auto" picks one that is right for κ. By name: "RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA" for
        κ with a Lipschitz gradient; "event" for piecewise linear separable κ, exact; "moreau" and
        "backward-euler" for every κ.
    rtol, atol : float
        Tolerances of each step.
    t_eval : array_like, optional
        Increasing times in [0, t_end] to save; the accepted steps by default.
    step : float, optional
        A fixed step ("backward-euler").
    max_steps, max_seconds : int, float
        Budget; a run that reaches it returns what it has.
    progress : callable, optional
        Called with the current t, at most ten times a second.
    **options
        Options of the method: ``tau`` ("moreau"), ``max_events`` ("event").

    Returns
    -------
    Trajectory
        A run that cannot go on (divergence, NaN gradient, budget) is returned as far as it got, with
        ``success=False``, a ``status`` and a ``message``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is named above, or the method is wrong for κ.
    """
    if not isinstance(system, LionK):
        raise TypeError(f"system must be a LionK, got {_validate.describe(system)}")
    d = system.dim
    x0 = _validate.vector("x0", x0, dim=d)
    m0 = np.zeros(d) if m0 is None else _validate.vector("m0", m0, dim=d)
    t_end = _validate.positive("t_end", t_end)
    times = None if t_eval is None else _validate.times("t_eval", t_eval, t_end)
    chosen = _choose(method, system, step)
    unknown = set(options) - METHODS[chosen].options
    if unknown:
        takes = ", ".join(sorted(METHODS[chosen].options)) or "none"
        raise TypeError(f"method {chosen!r} has no option {', '.join(sorted(unknown))}; it takes: {takes}")
    settings = Options(
        _validate.positive("rtol", rtol),
        _validate.positive("atol", atol),
        None if step is None else _validate.positive("step", step),
        options,
    )
    budget = Budget(_validate.count("max_steps", max_steps), max_seconds, progress)
    solution = METHODS[chosen].integrate(system, x0, m0, t_end, settings, budget)
    if method == "auto":
        solution.message += f" ({_reason(chosen)})"
    numbers = {"t_end": t_end, "rtol": settings.rtol, "atol": settings.atol, "step": settings.step, **options}
    return _assemble(system, x0, m0, times, solution, numbers)


def _choose(method: str, system: LionK, step: float | None) -> str:
    _validate.choice("method", method, ("auto", *METHODS))
    right = [name for name, candidate in METHODS.items() if candidate.suits(system)]
    if method == "auto":
        wanted = [
            name for name in AUTO if name in right and (step is None or "step" in METHODS[name].options)
        ]
        if wanted:
            return wanted[0]
    elif method in right:
        if step is not None and "step" not in METHODS[method].options:
            fixed = [name for name in right if "step" in METHODS[name].options]
            raise ValueError(f"method {method!r} adapts its step; a fixed step is for {', '.join(fixed)}")
        return method
    raise ValueError(
        f"method {method!r} needs {METHODS[method].needs if method in METHODS else 'another κ'}, "
        f"kappa is {system.kappa}; use {', '.join(map(repr, right))}"
    )


def _reason(chosen: str) -> str:
    """Why `auto` took this method: what it needs was there, what earlier ones need was not."""
    passed = [f"{name} needs {METHODS[name].needs}" for name in AUTO[: AUTO.index(chosen)]]
    return "; ".join([f"auto: {chosen}, for {METHODS[chosen].needs}", *passed])


def _assemble(
    system: LionK, x0: Array, m0: Array, times: Array | None, solution: Solution, numbers: dict[str, Any]
) -> Trajectory:
    d, dense = system.dim, solution.dense
    reached = 0.0 if dense is None else float(dense.breaks[-1])
    if times is None:
        times = np.zeros(1) if dense is None else dense.breaks
    times = times[times <= reached]
    if dense is None:
        start = np.concatenate([x0, m0])
        saved = np.tile(start, (len(times), 1))
    else:
        saved = dense(times)
    x, m = saved[:, :d], saved[:, d : 2 * d]
    u = saved[:, 2 * d :] if saved.shape[1] == 3 * d else _selection(system, x, m)
    events = sorted([*solution.events, *_entry(system, x0, dense, numbers)], key=lambda event: event.t)
    info = {**numbers, **solution.info}
    if "certified" in info:
        smoothed = info["certified"]
        entry = tuple(_entry(smoothed.system, x0, smoothed.dense, numbers))
        info["certified"] = dataclasses.replace(smoothed, events=entry)
    return Trajectory(
        system, times, x, m, u, solution.status, solution.message, solution.method, tuple(events),
        solution.nfev, solution.njev, dense, info,
    )  # fmt: skip


def _selection(system: LionK, x: Array, m: Array) -> Array:
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            m_tilde = system.look_ahead(x, m)
    except NonFiniteError:  # the status already says so
        return np.full_like(x, np.nan)
    return np.where(np.isfinite(m_tilde), system.kappa._subgradient(np.nan_to_num(m_tilde)), np.nan)


def _entry(system: LionK, x0: Array, dense: Dense | None, numbers: dict[str, Any]) -> list[Event]:
    """The entry of λx into dom κ*: at most one, since that set is invariant.

    Outside, dist(λx(t)) ≤ e^{−λ(t−s)} dist(λx(s)), with equality while u stays on the face: such a run
    approaches the set for ever, and arrives by rounding only. Where that bound is no more than the noise of
    x on arrival, the entry is when λx lies inside by more than the noise.
    """
    kappa, lam, d = system.kappa, system.lam, system.dim
    if dense is None or kappa.contains(lam * x0):
        return []
    y = lam * dense(dense.breaks)[:, :d]

    def arrival(scale: float) -> float:
        """When scale·λx first lies in dom κ*."""
        inside = kappa._contains(scale * y)
        if not inside.any():
            return math.inf
        step = int(np.argmax(inside))
        low, high = dense.breaks[step - 1], dense.breaks[step]
        while (middle := (low + high) / 2) not in (low, high):
            if kappa._contains(scale * lam * dense(middle)[:d]):
                high = middle
            else:
                low = middle
        return float(high)

    t = arrival(1.0)
    if t < math.inf:
        before = dense.breaks < t
        bound = np.min(kappa.distance(y[before]) * np.exp(-lam * (t - dense.breaks[before])))
        noise = ERRORS * (lam * numbers["atol"] + numbers["rtol"] * np.abs(lam * dense(t)[:d]).max())
        t = t if bound > noise else arrival(1 + noise)
    return [Event(t, "entry")] if t < math.inf else []
