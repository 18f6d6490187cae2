"""The exact flow for a piecewise linear separable κ: mode after mode, with every switch located."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.polynomial import chebyshev

from lionode import _validate
from lionode._validate import Array
from lionode.flow import backward_euler
from lionode.flow.base import Budget, BudgetReached, Options, Solution, Unsuitable
from lionode.flow.event_modes import (
    COEFFICIENTS,
    THETA,
    Arc,
    Field,
    Growth,
    K,
    Mode,
    State,
    Tie,
    Unresolved,
)
from lionode.lyapunov.function import lyapunov
from lionode.objectives.base import NonFiniteError
from lionode.system import LionK
from lionode.trajectory import Dense, Event, Status

__all__ = ["integrate"]

MAX_EVENTS = 5000
"""Default of ``max_events``: events before the rest is left to backward Euler."""

SHORT = 5e-3
"""At ε = 0 the crossings grow dense: a component that comes back within SHORT/(γ+λ) …"""

SHORT_RUNS = 3
"""… this often in a row is in its tail."""

SAFETY = 0.1
"""The share of the tolerance that one step may use."""

TAIL_TOL = 1e-4
"""Backward Euler has order 1 and damps the tail whatever its step: a finer tolerance only costs steps."""

KINK_NOISE = 1e-12
"""A sign of m − k or of λx − slope is read where it is larger than this, relative to 1 + its size."""

DIVERGED = 1e100
"""A state beyond this is on its way to overflow."""


class _Handover(Exception):
    """The exact mode ends here; the text says why."""


@dataclass
class _Path:
    """What has been integrated so far."""

    breaks: list[float] = field(default_factory=lambda: [0.0])
    nodes: list[Array] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def append(self, arc: Arc, cuts: list[float]) -> None:
        """Store a step in parts, which end at the fractions `cuts` of it."""
        ends = [0.0, *cuts, 1.0]
        for low, high in itertools.pairwise(ends):
            part = arc.part(low, high) if cuts else arc
            t = arc.t + high * arc.h
            if t > self.breaks[-1]:
                self.breaks.append(t)
                self.nodes.append(np.concatenate([part.x, part.m, part.u], axis=1))

    @property
    def dense(self) -> Dense | None:
        return Dense(np.array(self.breaks), np.array(self.nodes)) if self.nodes else None


def integrate(
    system: LionK, x0: Array, m0: Array, t_end: float, options: Options, budget: Budget
) -> Solution:
    """Integrate a system whose κ has kinks and slopes; an `Integrator`.

    ``options.extra["max_events"]`` bounds the number of events before handing over to backward Euler.

    Raises
    ------
    Unsuitable
        If κ is not separable and piecewise linear, or f has no Hessian.
    """
    if system.kappa.kinks is None or system.kappa.slopes is None:
        raise Unsuitable(
            f"method 'event' needs a separable piecewise linear kappa, got {system.kappa}; use 'auto'"
        )
    if not system.objective.has_hessian:
        raise Unsuitable(
            f"method 'event' needs the Hessian of {system.objective.name}: pass hessian=..., "
            "or hessian='finite-difference' to accept differences"
        )
    run = _Run(system, t_end, options, budget)
    with np.errstate(all="ignore"):
        return run(x0, m0)


class _Run:
    """One run: steps inside a mode, and a switch at each event."""

    def __init__(self, system: LionK, t_end: float, options: Options, budget: Budget) -> None:
        self.system, self.t_end, self.options, self.budget = system, t_end, options, budget
        self.field = Field(system, SAFETY * options.rtol, SAFETY * options.atol)
        self.path, self.growth = _Path(), Growth(self.field, system.dim)
        self.max_events = _validate.count("max_events", options.extra.get("max_events", MAX_EVENTS))
        self.last = np.full(system.dim, -np.inf)
        self.short = np.zeros(system.dim, dtype=int)
        self.stalled = 0
        self.state = State(0.0, np.zeros(0), np.zeros(0), np.zeros(0))

    def __call__(self, x0: Array, m0: Array) -> Solution:
        try:
            self.state = self.field.state(0.0, x0, m0)
            self._advance(self.field.begin(self.state))
        except (_Handover, Tie) as reason:
            return self._hand_over(str(reason))
        except BudgetReached as reached:
            return self._solution(Status.BUDGET, str(reached))
        except KeyboardInterrupt:
            return self._solution(Status.INTERRUPTED, f"interrupted at t = {self.state.t:g}")
        except (ArithmeticError, Unresolved, ValueError, np.linalg.LinAlgError) as error:
            finite = "not finite" not in str(error) and not isinstance(error, NonFiniteError)
            status = Status.FAILED if finite else Status.NON_FINITE
            return self._solution(status, f"stopped at t = {self.state.t:g}: {error}")
        if self.state.t < self.t_end:
            message = f"the state passed {DIVERGED:g} at t = {self.state.t:g}"
            return self._solution(Status.DIVERGED, message)
        message = f"event reached t = {self.t_end:g} after {len(self.path.events)} events"
        if self.growth.worst > TAIL_TOL:
            message += f"; dense crossings may have let errors grow to {self.growth.worst:.0e} on the way"
        return self._solution(Status.FINISHED, message)

    def _advance(self, mode: Mode) -> None:
        h, hit = min(self.t_end, 1.0), -1
        while self.state.t < self.t_end:
            arc, error, h = self._step(mode, min(h, self.t_end - self.state.t))
            theta, gap = first_violation(*self.field.gaps(mode, arc))
            if gap >= 0:
                arc = arc.part(0.0, theta)
            if arc.t + arc.h > arc.t:
                if gap < 0 and arc.h == self.t_end - arc.t:
                    arc = replace(arc, h=self.t_end - arc.t)
                self.path.append(arc, kink_times(self.field.kink_gaps(mode, arc)))
                self._trust(mode, arc, hit, error)
                self.state = arc.end
                self.stalled, hit = 0, -1
            else:
                self.stalled += 1
            self.budget.tick(self.state.t)
            if np.abs(np.concatenate([self.state.x, self.state.m])).max() > DIVERGED:
                return
            if gap >= 0:
                h = max(h, 1e-3 * min(self.t_end, 1.0))
                mode, hit = self._switch(mode, gap), gap % self.system.dim

    def _trust(self, mode: Mode, arc: Arc, hit: int, error: float) -> None:
        """Without sliding the crossings grow dense and multiply every error, down to rounding."""
        self.growth.follow(mode, arc, hit, error)
        if self.system.epsilon == 0 and self.growth.worst > TAIL_TOL:
            raise _Handover(f"the crossings have let errors grow to {TAIL_TOL:g}")

    def _step(self, mode: Mode, h: float) -> tuple[Arc, float, float]:
        """A step of length ≤ h within tolerance, its error relative to that, and the length to try next."""
        while True:
            try:
                arc, error = self.field.arc(mode, self.state, h)
                trouble = "the tolerance cannot be met"
            except Unresolved as unresolved:
                error, trouble = math.inf, str(unresolved)
            if error <= 1:
                return arc, error, h * min(4.0, 0.9 * max(error, 1e-12) ** (-1 / K))
            h *= max(0.1, 0.8 * error ** (-1 / K)) if math.isfinite(error) else 0.1
            if h <= 1e-14 * max(self.state.t, 1e-6):
                raise Unresolved(trouble)
            self.budget.tick(self.state.t)

    def _switch(self, mode: Mode, gap: int) -> Mode:
        d = self.system.dim
        if self.stalled > 2 * d + 8:
            raise _Handover("no mode continues the solution")
        component, upper = gap % d, gap >= d
        if mode.slide[component] >= 0:
            after = self.field.release(mode, component, upper)
        else:
            after = self.field.choose(mode, self.state, *self.field.touching(mode, self.state, component))
        self._report(mode, after)
        if len(self.path.events) >= self.max_events:
            raise _Handover(f"max_events = {self.max_events} was reached")
        return after

    def _report(self, before: Mode, after: Mode) -> None:
        t, was, now = self.state.t, before.slide >= 0, after.slide >= 0
        crossed = ~was & ~now & (before.piece != after.piece)
        for kind, which in (("crossing", crossed), ("slide-in", ~was & now), ("slide-out", was & ~now)):
            if which.any():
                self.path.events.append(Event(t, kind, tuple(int(i) for i in np.flatnonzero(which))))
        if self.system.epsilon == 0:
            limit = SHORT / (self.system.gamma + self.system.lam)
            self.short[crossed] = np.where(t - self.last[crossed] < limit, self.short[crossed] + 1, 0)
            self.last[crossed] = t
            if (self.short >= SHORT_RUNS).any():
                raise _Handover("the crossings grow dense")

    def _solution(self, status: Status, message: str) -> Solution:
        return Solution(
            self.path.dense, status, message, "event", self.path.events, self.field.nfev, self.field.njev,
            {"error_estimate": self.growth.worst},
        )  # fmt: skip

    def _hand_over(self, why: str) -> Solution:
        """Leave the rest to backward Euler."""
        t, state = self.state.t, self.state
        coarse = Options(
            max(self.options.rtol, TAIL_TOL), max(self.options.atol, TAIL_TOL), self.options.step
        )
        rest = backward_euler.integrate(self.system, state.x, state.m, self.t_end - t, coarse, self.budget)
        head = self._solution(rest.status, rest.message)
        head.info |= {"handover": t, **self._bound()}
        head.message = f"exact to t = {t:g}, where {why}; backward Euler from there: {rest.message}"
        if rest.status == Status.FINISHED:
            head.status = Status.TAIL_UNRESOLVED
        head.nfev, head.njev = head.nfev + rest.nfev, head.njev + rest.njev
        head.dense = _join(head.dense, rest.dense, t)
        return head

    def _bound(self) -> dict[str, float]:
        """‖x − x̂‖ ≤ 2√(2(H − αf*)/(αμ)) from the handover on, where μ and f* are known and H is finite."""
        f, x, m = self.system.objective, self.state.x, self.state.m
        mu, minimum = f.strong_convexity, f.minimum
        if not mu or mu < 0 or minimum is None or self.system.lam == 0:
            return {}
        above = float(lyapunov(self.system, x, m)) - self.system.alpha * minimum
        if above == math.inf:
            return {}
        return {"bound": 2 * math.sqrt(2 * max(0.0, above) / (self.system.alpha * mu))}


def first_violation(gaps: Array, noise: Array) -> tuple[float, int]:
    """Where in [0, 1] the first of the gaps becomes negative, and which: (1, −1) if none does.

    All roots of each gap's polynomial are found, and its sign is read between them: a grazing contact, a
    return within the step and a gap that starts at 0 need nothing special.
    """
    theta, which = 1.0, -1
    finite = np.flatnonzero(np.isfinite(gaps).all(axis=0))
    coefficients = COEFFICIENTS @ gaps[:, finite]
    lowest = coefficients[0] - np.abs(coefficients[1:]).sum(axis=0)
    for column in np.flatnonzero(lowest < -noise[finite]):
        ends, middle = _between_roots(coefficients[:, column])
        wrong = np.flatnonzero(middle < -noise[finite[column]])
        if wrong.size and (which < 0 or ends[wrong[0]] < theta):
            theta, which = float(ends[wrong[0]]), int(finite[column])
    return theta, which


def kink_times(gaps: Array) -> list[float]:
    """The points inside (0, 1), increasing, at which one of the gaps changes its sign."""
    times: list[float] = []
    coefficients = COEFFICIENTS @ gaps
    spread = np.abs(coefficients[1:]).sum(axis=0)
    noise = KINK_NOISE * (1 + np.abs(coefficients).max(axis=0))
    crosses = (coefficients[0] - spread < -noise) & (coefficients[0] + spread > noise)
    for column in np.flatnonzero(crosses):
        ends, middle = _between_roots(coefficients[:, column])
        seen = np.flatnonzero(np.abs(middle) > noise[column])
        for last, following in itertools.pairwise(seen):
            if middle[last] * middle[following] < 0:
                times.append(float(ends[following]))
    return sorted(set(times))


def _between_roots(series: Array) -> tuple[Array, Array]:
    """The roots of a Chebyshev series in (0, 1) with both ends, and its values between them."""
    roots = chebyshev.chebroots(chebyshev.chebtrim(series, 1e-17 * np.abs(series).max()))
    inner = (np.real(roots[np.abs(np.imag(roots)) < 1e-6]) + 1) / 2
    ends = np.concatenate([[0.0], np.sort(inner[(inner > 0) & (inner < 1)]), [1.0]])
    return ends, chebyshev.chebval(ends[1:] + ends[:-1] - 1, series)


def _join(head: Dense | None, tail: Dense | None, t: float) -> Dense | None:
    """One dense output: the tail, shifted by t, brought to the head's points."""
    if tail is None:
        return head
    unit = Dense(np.array([0.0, 1.0]), np.eye(tail.nodes.shape[1])[None])
    nodes = np.einsum("kl,nlq->nkq", unit(THETA), tail.nodes)
    if head is None:
        return Dense(tail.breaks + t, nodes)
    return Dense(np.concatenate([head.breaks, tail.breaks[1:] + t]), np.concatenate([head.nodes, nodes]))
