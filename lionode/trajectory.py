"""What every run returns: saved states, the selection used, a status, counts, and a dense evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from lionode import _validate, kappas, storage
from lionode._validate import Array
from lionode.objectives.base import Objective, from_spec
from lionode.system import LionK, Optimizer

if TYPE_CHECKING:
    import xarray

__all__ = ["Dense", "Event", "Status", "Trajectory", "open_run"]

FORMAT = 1
"""The version of the saved form of a run."""


class Status(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    TAIL_UNRESOLVED = "tail unresolved"
    """t_end was reached, but past the handover time only as a damped approximation (see the message)."""
    DIVERGED = "diverged"
    NON_FINITE = "non-finite"
    """f, ∇f or ∇²f returned NaN, inf or a wrong shape."""
    BUDGET = "budget reached"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True)
class Event:
    """Something that happened at one time: ``kind`` is "entry" (into dom κ*), "crossing", "slide-in", …"""

    t: float
    kind: str
    components: tuple[int, ...] = ()


@dataclass(frozen=True)
class Dense:
    """A piecewise polynomial: on each step the values at k Chebyshev points (second kind), k ≥ 2.

    Parameters
    ----------
    breaks : ndarray, shape (n + 1,)
        The accepted times, increasing.
    nodes : ndarray, shape (n, k, q)
        Values at the points `points(k)` of each step: (x, m), or (x, m, u) where u is not a function of them.
    """

    breaks: Array
    nodes: Array

    @staticmethod
    def points(k: int) -> Array:
        """The k Chebyshev points of [0, 1], ascending, both ends included."""
        return np.asarray((1 - np.cos(np.pi * np.arange(k) / (k - 1))) / 2)

    def __call__(self, t: ArrayLike) -> Array:
        """Values at the times t, shape ``t.shape + (q,)``; t must lie within the breaks."""
        t = np.asarray(t, dtype=np.float64)
        flat = t.ravel()
        step = np.clip(np.searchsorted(self.breaks, flat, side="right") - 1, 0, len(self.nodes) - 1)
        theta = (flat - self.breaks[step]) / (self.breaks[step + 1] - self.breaks[step])
        k = self.nodes.shape[1]
        weights = (-1.0) ** np.arange(k)
        weights[[0, -1]] /= 2
        gap = theta[:, None] - self.points(k)
        hit = gap == 0
        ratio = weights / np.where(hit, 1.0, gap)
        ratio = np.where(hit.any(axis=1)[:, None], hit, ratio)
        ratio /= ratio.sum(axis=1, keepdims=True)
        values: Array = np.einsum("nk,nkq->nq", ratio, self.nodes[step])
        return values.reshape(*t.shape, -1)

    @classmethod
    def sample(cls, breaks: Array, evaluate: Callable[[int, Array], Array], k: int) -> Dense:
        """Build one from ``evaluate(step, times)``, which gives ``(k, q)`` values within that step."""
        theta = cls.points(k)
        nodes = [evaluate(i, breaks[i] + theta * (breaks[i + 1] - breaks[i])) for i in range(len(breaks) - 1)]
        return cls(np.asarray(breaks, dtype=np.float64), np.asarray(nodes, dtype=np.float64))


@dataclass(frozen=True)
class Trajectory:
    """A flow or a run of updates.

    Attributes
    ----------
    system : LionK
        What was run.
    t : ndarray, shape (n,)
        Times; kη for updates.
    x, m, u : ndarray, shape (n, d)
        Parameters, momentum, and the selection u ∈ ∂κ(m̃) really used when leaving that state.
    status, message, success :
        How it ended, in one word and in one sentence; ``success`` is whether the end asked for was reached.
    method : str
        The integrator, or "explicit"/"implicit" for updates.
    events : tuple of Event
        In order of time.
    nfev, njev : int
        Gradient and Hessian evaluations of f.
    dense : Dense or None
        The state between the accepted times ``dense.breaks``: what a call evaluates.
    info : dict
        The numbers that made the run (tolerances, step, η, seed …), and per-method extras.
    """

    system: LionK
    t: Array
    x: Array
    m: Array
    u: Array
    status: Status
    message: str
    method: str
    events: tuple[Event, ...] = ()
    nfev: int = 0
    njev: int = 0
    dense: Dense | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether the run reached the end that was asked for."""
        return self.status in (Status.FINISHED, Status.TAIL_UNRESOLVED)

    def __call__(self, t: ArrayLike) -> tuple[Array, Array]:
        """(x, m) at the times t, each of shape ``t.shape + (d,)``.

        Raises
        ------
        ValueError
            If a time lies outside the run, or the run has a single point.
        """
        values = self.evaluate(t)
        d = self.system.dim
        return values[..., :d], values[..., d : 2 * d]

    def evaluate(self, t: ArrayLike) -> Array:
        """(x, m, u) at the times t in one array of shape ``t.shape + (3d,)``."""
        if self.dense is None:
            raise ValueError("this run holds no dense output: it ended at its first point")
        times = np.asarray(t, dtype=np.float64)
        low, high = self.dense.breaks[[0, -1]]
        if not (np.isfinite(times).all() and (times >= low).all() and (times <= high).all()):
            raise ValueError(f"t must lie within the run, [{low:g}, {high:g}], got {_validate.describe(t)}")
        values = self.dense(times)
        d = self.system.dim
        if values.shape[-1] == 3 * d:
            return values
        x, m = values[..., :d], values[..., d:]
        return np.concatenate([values, self.system.kappa.subgradient(self.system.look_ahead(x, m))], axis=-1)

    def to_xarray(self) -> xarray.Dataset:
        """The saved states as a Dataset of ``time`` and ``parameter``, with every number as an attribute.

        Raises
        ------
        ImportError
            If xarray is not installed.
        """
        try:
            import xarray
        except ImportError:
            raise ImportError('to_xarray needs xarray: pip install "lionode[data]"') from None
        meaning = {"x": "parameters", "m": "momentum of minus the gradient", "u": "selection of ∂κ at m̃"}
        return xarray.Dataset(
            {
                name: (("time", "parameter"), getattr(self, name), {"units": "1", "long_name": text})
                for name, text in meaning.items()
            },
            coords={
                "time": ("time", self.t, {"units": "1", "long_name": "time of the flow"}),
                "parameter": np.arange(self.system.dim),
            },
            attrs={
                "objective": self.system.objective.name,
                "kappa": repr(self.system.kappa),
                **self.system.coefficients,
                "method": self.method,
                "status": str(self.status),
                "message": self.message,
                "success": int(self.success),
                "nfev": self.nfev,
                "njev": self.njev,
                "events": [f"{event.t!r} {event.kind} {event.components}" for event in self.events],
                **{k: v for k, v in self.info.items() if isinstance(v, str | int | float)},
            },
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the run to one file, whole or not at all; `lionode.open` reads it back bit for bit.

        An objective made of plain callables cannot be written: the run then opens with a placeholder that
        says so when it is asked for a value.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        return storage.write(path, self._to_tree())

    def _to_tree(self) -> dict[str, Any]:
        system = self.system
        info = {k: v._to_tree() if isinstance(v, Trajectory) else v for k, v in self.info.items()}
        return {
            "format": FORMAT,
            "objective": system.objective.spec,
            "name": system.objective.name,
            "dim": system.dim,
            "kappa": kappas.to_spec(system.kappa),
            "coefficients": system.coefficients,
            "optimizer": system.optimizer,
            "t": self.t,
            "x": self.x,
            "m": self.m,
            "u": self.u,
            "status": str(self.status),
            "message": self.message,
            "method": self.method,
            "events": [[event.t, event.kind, list(event.components)] for event in self.events],
            "nfev": self.nfev,
            "njev": self.njev,
            "dense": None if self.dense is None else [self.dense.breaks, self.dense.nodes],
            "info": info,
        }

    @classmethod
    def _from_tree(cls, tree: dict[str, Any]) -> Trajectory:
        if tree.get("format") != FORMAT:
            raise ValueError(f"the run was saved in format {tree.get('format')}, this lionode reads {FORMAT}")
        spec = tree["objective"]
        objective = _absent(tree["name"], tree["dim"]) if spec is None else from_spec(*spec)
        optimizer = tree["optimizer"]
        system = LionK(
            objective,
            kappas.from_spec(tree["kappa"]),
            **tree["coefficients"],
            optimizer=None if optimizer is None else Optimizer(*optimizer),
        )
        is_run = {k: isinstance(v, dict) and "format" in v for k, v in tree["info"].items()}
        return cls(
            system,
            tree["t"],
            tree["x"],
            tree["m"],
            tree["u"],
            Status(tree["status"]),
            tree["message"],
            tree["method"],
            tuple(Event(t, kind, tuple(components)) for t, kind, components in tree["events"]),
            tree["nfev"],
            tree["njev"],
            None if tree["dense"] is None else Dense(*tree["dense"]),
            {k: cls._from_tree(v) if is_run[k] else v for k, v in tree["info"].items()},
        )


def open_run(path: str | os.PathLike[str]) -> Trajectory:
    """Read a run that `Trajectory.save` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a saved run, or of another format.
    """
    tree = storage.read(path)
    try:
        return Trajectory._from_tree(tree)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{os.fspath(path)} is not a saved run: {error}") from None


def _absent(name: str, dim: int) -> Objective:
    def missing(_: Array) -> NoReturn:
        raise ValueError(f"the objective {name!r} was made of plain callables, which a file cannot hold")

    return Objective(missing, missing, dim=dim, name=name)
