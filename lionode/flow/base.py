"""What an integrator is given, and what it returns to `simulate`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from lionode._validate import Array
from lionode.system import LionK
from lionode.trajectory import Dense, Event, Status

__all__ = ["Budget", "BudgetReached", "Integrator", "Options", "Solution", "Unsuitable"]


class BudgetReached(Exception):
    """The step or time budget is spent; the text says which."""


class Unsuitable(ValueError):
    """The method is wrong for this κ; the text says which ones are right."""


@dataclass
class Budget:
    """Bounds on a run, and the one place that reports progress.

    Parameters
    ----------
    max_steps : int
        Accepted or rejected steps, whatever the method calls a step.
    max_seconds : float
        Wall-clock time.
    progress : callable, optional
        Called with the current t, at most ten times a second.
    """

    max_steps: int
    max_seconds: float
    progress: Callable[[float], None] | None = None
    steps: int = 0
    _started: float = field(default_factory=time.monotonic)
    _reported: float = 0.0

    def tick(self, t: float) -> None:
        """Count one step that reached time t.

        Raises
        ------
        BudgetReached
            If a bound is passed.
        """
        self.steps += 1
        now = time.monotonic()
        if self.progress is not None and now - self._reported > 0.1:
            self._reported = now
            self.progress(t)
        if self.steps > self.max_steps:
            raise BudgetReached(f"the budget of {self.max_steps} steps was reached at t = {t:g}")
        if now - self._started > self.max_seconds:
            raise BudgetReached(f"the budget of {self.max_seconds:g} s was reached at t = {t:g}")


@dataclass(frozen=True)
class Options:
    """What the user asked of a run; an integrator reads what it needs."""

    rtol: float
    atol: float
    step: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """Options of one method only (``tau`` of "moreau", ``max_events`` of "event")."""


@dataclass
class Solution:
    """What an integrator hands back: it never raises for a run that cannot go on, it stops and says so.

    ``dense`` covers the accepted steps, from 0 to where the run ended (None if no step was accepted), and
    holds (x, m, u) where u is not a function of (x, m).
    """

    dense: Dense | None
    status: Status
    message: str
    method: str
    events: list[Event] = field(default_factory=list)
    nfev: int = 0
    njev: int = 0
    info: dict[str, Any] = field(default_factory=dict)


class Integrator(Protocol):
    """One method: from (x0, m0) to t_end, or as far as it gets."""

    def __call__(
        self, system: LionK, x0: Array, m0: Array, t_end: float, options: Options, budget: Budget
    ) -> Solution:
        """Integrate."""
        ...
