"""Ensembles side by side with scipy and heyoka: µs per trajectory and whole-path error, in one run.

    python benchmarks/ensemble.py [--starts 10000] [--peer-python path/to/python/with/heyoka]

PseudoHuber(0.1), α = γ = 1, ε = 0.5, T = 20, starts in [−2, 2]², 201 saved points. The error is the largest
over 16 trajectories and all saved points against DOP853 at rtol 1e-12. All engines use one thread; each
repeats and the median counts. A solver is run at several tolerances: compare rows of like error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.integrate import solve_ivp

import lionode as ln
from lionode._validate import Array
from lionode.ensemble import ensemble

T_END = 20.0
GRID = np.linspace(0.0, T_END, 201)
CHECKED = 16
SCIPY_STARTS = 16
REPEATS = 3
PROBLEMS = {
    "Rosenbrock, λ 0.6": ("(1 - x1)**2 + 10*(x2 - x1**2)**2", 0.6),
    "quadratic, λ 1.5": ("(x1 - 1.5)**2 + x2**2", 1.5),
}
HEYOKA = """
import json, sys, time
import numpy as np, heyoka as hy
job = json.load(sys.stdin)
x1, x2, m1, m2 = hy.make_vars("x1", "x2", "m1", "m2")
f = {"Rosenbrock": (1 - x1)**2 + 10*(x2 - x1**2)**2, "quadratic": (x1 - 1.5)**2 + x2**2}[job["f"]]
g = [hy.diff(f, v) for v in (x1, x2)]
ahead = [0.5*m - 0.5*d for m, d in zip((m1, m2), g)]
system = [(x, a/hy.sqrt(a*a + 0.01) - job["lam"]*x) for x, a in zip((x1, x2), ahead)]
system += [(m, -d - m) for m, d in zip((m1, m2), g)]
starts, grid = np.array(job["starts"]), np.array(job["grid"])
for tol in job["tols"]:
    ta = hy.taylor_adaptive_batch(system, np.zeros((4, 8)), tol=tol, fast_math=True)
    times = []
    for _ in range(job["repeats"]):
        out = np.empty((len(starts), len(grid), 4))
        before = time.perf_counter()
        for first in range(0, len(starts), 8):
            ta.set_time(0.0)
            ta.state[:] = 0.0
            ta.state[:2] = starts[first:first + 8].T
            got = ta.propagate_grid(np.repeat(grid[:, None], 8, axis=1))
            got = got[-1] if isinstance(got, tuple) else got
            out[first:first + 8] = got.transpose(2, 0, 1)
        times.append(time.perf_counter() - before)
    seconds, paths = sorted(times)[len(times)//2], out[:job["checked"]].tolist()
    print(json.dumps({"tol": tol, "seconds": seconds, "paths": paths}))
"""


def median_seconds(run: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return float(np.median(times))


def reference(system: ln.LionK, starts: Array) -> Array:
    rows = [ln.simulate(system, x, T_END, None, "DOP853", 1e-12, 1e-13, GRID) for x in starts]
    return np.array([np.concatenate([run.x, run.m], axis=1) for run in rows])


def scipy_lsoda(system: ln.LionK, starts: Array, tol: float) -> Array:
    def rhs(_: float, y: Array) -> Array:
        return np.concatenate(system.velocity(y[:2], y[2:]))

    rows = [
        solve_ivp(rhs, (0, T_END), [*x, 0.0, 0.0], "LSODA", GRID, rtol=tol, atol=tol / 100).y.T
        for x in starts
    ]
    return np.array(rows)


def measure(name: str, text: str, lam: float, count: int, peer: str | None, table: Table) -> None:
    system = ln.LionK(ln.objectives.from_expression(text), ln.kappas.PseudoHuber(0.1), 1.0, 1.0, 0.5, lam)
    starts = np.random.default_rng(0).uniform(-2, 2, (count, 2))
    exact = reference(system, starts[:CHECKED])
    before = time.perf_counter()
    ensemble(system, starts[:8], T_END, t_eval=GRID, workers=1)
    first = time.perf_counter() - before

    def row(engine: str, tol: float, seconds: float, n: int, paths: Array) -> None:
        error = np.abs(paths - exact[: len(paths)]).max()
        table.add_row(name, engine, f"{tol:.0e}", f"{error:.1e}", f"{seconds / n * 1e6:.1f}")

    for tol in (1e-6, 1e-7, 1e-8, 1e-10, 1e-11):
        seconds = median_seconds(
            lambda tol=tol: ensemble(system, starts, T_END, None, tol, tol, GRID, workers=1)
        )
        got = ensemble(system, starts[:CHECKED], T_END, None, tol, tol, GRID, workers=1)
        row("lanes", tol, seconds, count, np.concatenate([got.x, got.m], axis=-1))
    for tol in (1e-6, 1e-8):
        few = starts[:SCIPY_STARTS]
        before = time.perf_counter()
        paths = scipy_lsoda(system, few, tol)
        row("solve_ivp LSODA", tol, time.perf_counter() - before, len(few), paths)
    if peer is not None:
        job = {
            "f": name.split(",")[0], "lam": lam,
            "starts": starts[: count - count % 8].tolist(), "grid": GRID.tolist(),
            "tols": [1e-6, 1e-8, 1e-11], "repeats": REPEATS, "checked": CHECKED,
        }  # fmt: skip
        done = subprocess.run([peer, "-c", HEYOKA], input=json.dumps(job), capture_output=True, text=True)
        if done.returncode:
            table.add_row(name, "heyoka", "", "", done.stderr.strip().splitlines()[-1])
        for line in done.stdout.splitlines():
            got = json.loads(line)
            row("heyoka batch 8", got["tol"], got["seconds"], len(job["starts"]), np.array(got["paths"]))
    table.add_row(name, "lanes: first call", "", "", f"{first:.1f} s", end_section=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=10_000)
    parser.add_argument("--peer-python")
    options = parser.parse_args()
    table = Table(
        "problem", "engine", "tol", "path error", "µs / trajectory", title=f"{options.starts} starts"
    )
    for name, (text, lam) in PROBLEMS.items():
        measure(name, text, lam, options.starts, options.peer_python, table)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
