"""One task of a sweep: a block of its cells, run where the task lands."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lionode._validate import Array
from lionode.ensemble.ensemble import ensemble
from lionode.ensemble.study import FLOW, UPDATES, kappa_of, objective_of, plain, system_of
from lionode.flow import simulate
from lionode.lyapunov import certify, lyapunov
from lionode.optimum import composite_optimum
from lionode.system import LionK
from lionode.trajectory import Status, Trajectory
from lionode.updates import iterate

__all__ = ["MEASURES", "STATUSES", "Measure", "run_cells"]

MEASURES = {
    "f": "the objective at the end",
    "H": "the Lyapunov function at the end; inf outside dom κ*",
    "entry_time": "when λx entered dom κ*; 0 if it started there, inf if it had not by the end",
    "max_increase": "largest rise of H in one accepted step within dom κ*",
    "balance": "|H(T) − H(t₀) + ∫Δ dt| within dom κ*; NaN for updates",
    "distance": "from the end to the composite optimum found from there",
    "settling_time": "when that distance last passed the tolerance; inf if it is above it at the end",
    "reached": "the time reached",
    "nfev": "gradients of f",
}
"""What is measured of every cell, and what it means."""

STATUSES = ("not run", *map(str, Status), "refused")
"""The meaning of the number that stands for a cell's status."""

GRID = 401
"""Times at which the distance to the optimum is looked at: a settling time is known to t_end/400."""

Measure = Callable[[Trajectory], Mapping[str, float]]
"""A user's own measures of a run."""

REFUSED = (TypeError, ValueError, ArithmeticError, KeyError)
"""What a cell may raise without harm to its neighbours."""


def run_cells(
    cells: Sequence[Mapping[str, Any]],
    dim: int,
    settle: float,
    lanes: bool = False,
    measure: Measure | None = None,
    extra: Sequence[str] = (),
) -> dict[str, Any]:
    """Run some cells: every measure, ``x``, ``m``, ``status`` and ``message``, one row a cell.

    A cell that is refused or breaks down leaves its status and message, and its neighbours alone.
    """
    count = len(cells)
    rows: dict[str, Any] = {name: np.full(count, np.nan) for name in (*MEASURES, *extra)}
    rows |= {name: np.full((count, dim), np.nan) for name in ("x", "m")}
    rows |= {"status": np.full(count, STATUSES.index("refused"), np.int8), "message": [""] * count}
    build, ready = _Builder(dim), []
    for i, cell in enumerate(cells):
        try:
            ready.append((i, build(cell), cell))
        except REFUSED as error:
            rows["message"][i] = str(error)
    if lanes and measure is None:
        _together(rows, ready, settle)
        return rows
    for i, system, cell in ready:
        try:
            _alone(rows, i, system, cell, settle, measure)
        except REFUSED as error:
            rows["message"][i] = str(error)
    return rows


class _Builder:
    """The system of each cell; an objective and a κ that many cells name are built, and compiled, once."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.known: dict[str, Any] = {}

    def __call__(self, cell: Mapping[str, Any]) -> LionK:
        f = self._once(objective_of, cell["objective"])
        if f.dim != self.dim:
            raise ValueError(f"this cell has {f.dim} parameters, the study's first has {self.dim}")
        return system_of(cell, f, self._once(kappa_of, cell["kappa"]))

    def _once(self, build: Callable[[Any], Any], value: Any) -> Any:
        key = f"{build.__name__} {json.dumps(plain(value))}"
        if key not in self.known:
            self.known[key] = build(value)
        return self.known[key]


def _alone(
    rows: dict[str, Any],
    i: int,
    system: LionK,
    cell: Mapping[str, Any],
    settle: float,
    measure: Measure | None,
) -> None:
    if "steps" in cell:
        options = {name: cell[name] for name in (*UPDATES, "lr") if name in cell}
        run = iterate(system, record_every=max(1, cell["steps"] // (GRID - 1)), **options)
    else:
        run = simulate(system, **{name: cell[name] for name in FLOW if name in cell})
    cert = certify(run, optimum=False)
    reached = run.t[-1] if run.dense is None else run.dense.breaks[-1]
    times = np.linspace(0.0, reached, GRID)
    path = run.x if run.dense is None else run(times)[0]
    _fill(rows, i, system, times[: len(path)], path, run.m[-1], settle)
    numbers = (cert.entry_time, cert.max_increase, cert.balance_residual, reached, run.nfev)
    for name, number in zip(
        ("entry_time", "max_increase", "balance", "reached", "nfev"), numbers, strict=True
    ):
        rows[name][i] = number
    for name, number in ({} if measure is None else measure(run)).items():
        rows[name][i] = number
    rows["status"][i], rows["message"][i] = STATUSES.index(run.status), run.message


def _together(rows: dict[str, Any], ready: list[tuple[int, LionK, Mapping[str, Any]]], settle: float) -> None:
    """Flows in compiled lanes, those with the same times and tolerances in one call."""
    groups: dict[str, list[int]] = {}
    for position, (_, _, cell) in enumerate(ready):
        shared = {name: cell[name] for name in ("t_end", "rtol", "atol") if name in cell}
        groups.setdefault(json.dumps(plain(shared)), []).append(position)
    for key, members in groups.items():
        shared, d = json.loads(key), ready[members[0]][1].dim
        x0s = [ready[k][2]["x0"] for k in members]
        m0s = [ready[k][2].get("m0", np.zeros(d)) for k in members]
        times = np.linspace(0.0, shared["t_end"], GRID)
        result = ensemble([ready[k][1] for k in members], x0s, m0s=m0s, t_eval=times, workers=1, **shared)
        for j, k in enumerate(members):
            i, system, _ = ready[k]
            for name in ("entry_time", "max_increase", "balance", "reached", "nfev"):
                rows[name][i] = getattr(result, name)[j]
            rows["status"][i], rows["message"][i] = STATUSES.index(result.status[j]), str(result.message[j])
            seen = np.isfinite(result.x[j]).all(axis=1)
            if seen.any():
                last = int(np.flatnonzero(seen)[-1])
                _fill(rows, i, system, times[: last + 1], result.x[j, : last + 1], result.m[j, last], settle)


def _fill(
    rows: dict[str, Any], i: int, system: LionK, times: Array, path: Array, m: Array, settle: float
) -> None:
    """What follows from the path alone."""
    x = path[-1]
    rows["x"][i], rows["m"][i] = x, m
    if not (np.isfinite(x).all() and np.isfinite(m).all()):
        return
    with np.errstate(all="ignore"):
        rows["f"][i], rows["H"][i] = system.objective.value(x), lyapunov(system, x, m)
        best = composite_optimum(system, x0=x)
    if best.success:
        away = np.linalg.norm(path - best.x, axis=1)
        rows["distance"][i] = away[-1]
        out = np.flatnonzero(away > settle)
        last = int(out[-1]) if out.size else -1
        rows["settling_time"][i] = np.inf if last == len(path) - 1 else times[last + 1]
