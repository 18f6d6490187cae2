"""Ensembles side by side with heyoka, diffrax and scipy: µs per trajectory and whole-path error, in one run.

    python benchmarks/ensemble.py [--starts 4096] [--peers FOLDER]

The peers are installed into an environment of their own, in FOLDER, at the first run. PseudoHuber(0.1) and
L1, α = γ = 1, ε = 0.5, T = 20, starts in [−2, 2]², 201 saved points. The error is the largest over 64
trajectories and all saved points, against DOP853 at rtol 1e-12 (L1: the event method at 1e-11). On one thread
and on all CPUs; the median of three repeats counts. A solver runs at several tolerances: compare rows of like
error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sympy as sp
from rich.console import Console
from rich.table import Table
from scipy.integrate import solve_ivp

import lionode as ln
from lionode._validate import Array

T_END = 20.0
GRID = np.linspace(0.0, T_END, 201)
CHECKED = 64
FEW = 16
"""Starts that scipy gets: its time per trajectory does not depend on their number."""
DIFFRAX_STARTS = 2048
REPEATS = 3
THREADS = sorted({1, os.cpu_count() or 1})
PROBLEMS = {
    "Rosenbrock, λ 0.6": ("(1 - x1)**2 + 10*(x2 - x1**2)**2", 0.6),
    "quadratic, λ 1.5": ("(x1 - 1.5)**2 + x2**2", 1.5),
}
PEERS = ["heyoka", "diffrax", "jax"]
HEYOKA = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np, heyoka as hy
job = json.load(sys.stdin)
x1, x2, m1, m2 = hy.make_vars("x1", "x2", "m1", "m2")
f = eval(job["f"], {"x1": x1, "x2": x2})
g = [hy.diff(f, v) for v in (x1, x2)]
ahead = [0.5*m - 0.5*d for m, d in zip((m1, m2), g)]
system = [(x, a/hy.sqrt(a*a + 0.01) - job["lam"]*x) for x, a in zip((x1, x2), ahead)]
system += [(m, -d - m) for m, d in zip((m1, m2), g)]
starts, grid = np.array(job["starts"]), np.array(job["grid"])
times_of_lanes = np.repeat(grid[:, None], 8, axis=1)
out = np.empty((len(starts), len(grid), 4))

def work(ta, part):
    for first in part:
        ta.set_time(0.0)
        ta.state[:] = 0.0
        ta.state[:2] = starts[first:first + 8].T
        got = ta.propagate_grid(times_of_lanes)
        got = got[-1] if isinstance(got, tuple) else got
        out[first:first + 8] = got.transpose(2, 0, 1)

for tol in job["tols"]:
    before = time.perf_counter()
    integrators = [hy.taylor_adaptive_batch(system, np.zeros((4, 8)), tol=tol, fast_math=True)
                   for _ in range(job["threads"])]
    first_call = time.perf_counter() - before
    firsts = range(0, len(starts), 8)
    times = []
    for _ in range(job["repeats"]):
        before = time.perf_counter()
        with ThreadPoolExecutor(job["threads"]) as pool:
            list(pool.map(work, integrators, [firsts[i::job["threads"]] for i in range(job["threads"])]))
        times.append(time.perf_counter() - before)
    print(json.dumps({"tol": tol, "seconds": sorted(times)[len(times)//2], "count": len(starts),
                      "name": "heyoka, batch 8, fast_math", "first": first_call,
                      "paths": out[:job["checked"]].tolist()}))
"""
DIFFRAX = """
import json, sys, time
import numpy as np, jax, jax.numpy as jnp, diffrax
jax.config.update("jax_enable_x64", True)
job = json.load(sys.stdin)
def f(x):
    return eval(job["f"], {"x1": x[0], "x2": x[1]})
def velocity(t, y, args):
    x, m = y[:2], y[2:]
    g = jax.grad(f)(x)
    a = 0.5*m - 0.5*g
    return jnp.concatenate([a/jnp.sqrt(a*a + 0.01) - job["lam"]*x, -g - m])
starts = np.array(job["starts"])
y0s = jnp.concatenate([jnp.array(starts), jnp.zeros_like(starts)], axis=1)
if job["threads"] > 1:
    y0s = y0s.reshape(job["threads"], -1, 4)
grid = jnp.array(job["grid"])
solvers = (diffrax.Tsit5(), diffrax.Dopri8(), diffrax.Kvaerno5())
# The implicit one is the slowest by far, and once is enough to see it.
for solver in solvers[:2] if job["threads"] > 1 else solvers:
    name = type(solver).__name__
    for tol in job["tols"]:
        def one(y0):
            control = diffrax.PIDController(rtol=tol, atol=tol)
            return diffrax.diffeqsolve(diffrax.ODETerm(velocity), solver, 0.0, grid[-1], 1e-3, y0,
                saveat=diffrax.SaveAt(ts=grid), stepsize_controller=control, max_steps=100000).ys
        run = jax.jit(jax.vmap(one))
        if job["threads"] > 1:
            run = jax.pmap(jax.vmap(one))
        before = time.perf_counter(); run(y0s).block_until_ready(); first = time.perf_counter() - before
        times = []
        for _ in range(job["repeats"]):
            before = time.perf_counter(); out = run(y0s).block_until_ready()
            times.append(time.perf_counter() - before)
        print(json.dumps({"tol": tol, "seconds": sorted(times)[len(times)//2], "count": len(starts),
                          "name": f"diffrax {name}, vmap, " + ("pmap" if job["threads"] > 1 else "jit"),
                          "first": first - times[0],
                          "paths": np.asarray(out).reshape(-1, len(grid), 4)[:job["checked"]].tolist()}))
"""


def peer_python(folder: Path) -> Path:
    """The Python of the peers' environment, made if it is not there."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
        (folder / "ready").touch()
    return python


def median_seconds(run: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return float(np.median(times))


def reference(system: ln.LionK, starts: Array, method: str, tol: float) -> Array:
    runs = [ln.simulate(system, x, T_END, None, method, tol, tol / 10, GRID) for x in starts]
    return np.array([np.concatenate([run.x, run.m], axis=1) for run in runs])


def lambdified(text: str, lam: float) -> Callable[[float, Array], list[float]]:
    """The right-hand side as a user of scipy would write it: sympy's formulas as plain Python."""
    x1, x2, m1, m2 = symbols = sp.symbols("x1 x2 m1 m2", real=True)
    f = sp.sympify(text, {"x1": x1, "x2": x2})
    g = [sp.diff(f, v) for v in (x1, x2)]
    ahead = [(m - d) / 2 for m, d in zip((m1, m2), g, strict=True)]
    push = [a / sp.sqrt(a**2 + sp.Rational(1, 100)) - lam * x for a, x in zip(ahead, (x1, x2), strict=True)]
    formulas = [*push, *(-d - m for d, m in zip(g, (m1, m2), strict=True))]
    compiled = sp.lambdify([symbols], formulas, "math", cse=True)
    return lambda _, y: compiled(y)


class Bench:
    """One problem and one table."""

    def __init__(self, table: Table, name: str, text: str, lam: float, count: int, threads: int) -> None:
        self.table, self.name, self.text, self.lam, self.threads = table, name, text, lam, threads
        self.f = ln.objectives.from_expression(text)
        self.starts = np.random.default_rng(0).uniform(-2, 2, (count, 2))

    def row(self, engine: str, tol: float, microseconds: float, paths: Array, exact: Array) -> None:
        """One line of the table."""
        error = np.abs(paths - exact[: len(paths)]).max()
        self.table.add_row(
            self.name, str(self.threads), engine, f"{tol:.0e}", f"{error:.1e}", f"{microseconds:.1f}"
        )

    def ours(self, kappa: ln.kappas.Potential, method: str, tols: tuple[float, ...], exact: Array) -> None:
        """`lionode.ensemble` at several tolerances, and its first call."""
        system = ln.LionK(self.f, kappa, 1.0, 1.0, 0.5, self.lam)

        def run(starts: Array, tol: float) -> ln.Ensemble:
            atol = tol if kappa.smooth else tol / 100
            return ln.ensemble(
                system, starts, T_END, None, tol, atol, GRID, method=method, workers=self.threads
            )

        before = time.perf_counter()
        run(self.starts[:8], 1e-3)
        first = time.perf_counter() - before
        for tol in tols:
            seconds = median_seconds(lambda tol=tol: run(self.starts, tol))
            got = run(self.starts[:CHECKED], tol)
            paths = np.concatenate([got.x, got.m], axis=-1)
            self.row(f"{kappa}, {method}", tol, seconds / len(self.starts) * 1e6, paths, exact)
        self.table.add_row(self.name, "", f"{kappa}, {method}: first call", "", "", f"{first:.1f} s")

    def peer(self, python: Path, script: str, tols: list[float], count: int, exact: Array) -> None:
        """A script in the peers' environment."""
        starts = self.starts[: count - count % 8]
        job = {
            "f": self.text, "lam": self.lam, "starts": starts.tolist(), "grid": GRID.tolist(), "tols": tols,
            "repeats": REPEATS, "checked": CHECKED, "threads": self.threads,
        }  # fmt: skip
        devices = f"--xla_force_host_platform_device_count={self.threads}"
        flags = {"XLA_FLAGS": devices if self.threads > 1 else "--xla_cpu_multi_thread_eigen=false"}
        command = [str(python), "-c", script]
        if self.threads == 1 and sys.platform == "linux":
            command = ["taskset", "-c", "0", *command]
        done = subprocess.run(
            command, input=json.dumps(job), capture_output=True, text=True, env=os.environ | flags
        )
        for line in done.stdout.splitlines():
            got = json.loads(line)
            microseconds = got["seconds"] / got["count"] * 1e6
            self.row(got["name"], got["tol"], microseconds, np.array(got["paths"]), exact)
        if done.returncode:
            self.table.add_row(self.name, "", "a peer failed", "", "", done.stderr.strip().splitlines()[-1])

    def scipy(self, exact: Array) -> None:
        """One call per trajectory."""
        velocity = lambdified(self.text, self.lam)
        for tol in (1e-6, 1e-8):
            before = time.perf_counter()
            paths = [
                solve_ivp(velocity, (0, T_END), [*x, 0.0, 0.0], "LSODA", GRID, rtol=tol, atol=tol / 100).y.T
                for x in self.starts[:FEW]
            ]
            microseconds = (time.perf_counter() - before) / FEW * 1e6
            self.row("scipy solve_ivp LSODA, lambdified", tol, microseconds, np.array(paths), exact)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=4096)
    parser.add_argument("--peers", type=Path, default=Path(__file__).parent / ".peers")
    options = parser.parse_args()
    python = peer_python(options.peers.absolute())
    columns = ("problem", "threads", "engine", "tol", "path error", "µs / trajectory")
    table = Table(*columns, title=f"{options.starts} starts")
    smooth, kinked = ln.kappas.PseudoHuber(0.1), ln.kappas.L1()
    for name, (text, lam) in PROBLEMS.items():
        f = ln.objectives.from_expression(text)
        checked = np.random.default_rng(0).uniform(-2, 2, (options.starts, 2))[:CHECKED]
        exact, switched = (
            reference(ln.LionK(f, kappa, 1.0, 1.0, 0.5, lam), checked, method, tol)
            for kappa, method, tol in ((smooth, "DOP853", 1e-12), (kinked, "event", 1e-11))
        )
        for threads in THREADS:
            bench = Bench(table, name, text, lam, options.starts, threads)
            bench.ours(smooth, "lanes:Rodas5P", (3e-7, 1e-7, 2e-8, 1e-8, 1e-10, 3e-12), exact)
            bench.ours(smooth, "lanes:DOP853", (1e-8, 1e-10, 3e-12), exact)
            bench.peer(python, HEYOKA, [1e-6, 1e-7, 1e-8, 1e-11], options.starts, exact)
            bench.ours(kinked, "exact", (1e-6, 1e-8), switched)
            bench.ours(kinked, "lanes", (1e-7, 1e-8), switched)
            bench.peer(python, DIFFRAX, [1e-7, 1e-9], DIFFRAX_STARTS, exact)
            if threads == 1:
                bench.scipy(exact)
        table.add_section()
    console = Console(width=120)
    console.print(table)
    console.print(scaling())


def scaling() -> Table:
    """Cost per trajectory against the number of starts and threads, only last states kept."""
    table = Table(
        "starts", *(f"µs, {n} threads" for n in THREADS), title="quadratic, λ 1.5, PseudoHuber(0.1)"
    )
    text, lam = PROBLEMS["quadratic, λ 1.5"]
    system = ln.LionK(ln.objectives.from_expression(text), ln.kappas.PseudoHuber(0.1), 1.0, 1.0, 0.5, lam)
    for count in (100, 1000, 10_000, 100_000, 1_000_000):
        starts = np.random.default_rng(0).uniform(-2, 2, (count, 2))
        seconds = [
            median_seconds(lambda n=n, starts=starts: ln.ensemble(system, starts, T_END, workers=n))
            for n in THREADS
        ]
        table.add_row(str(count), *(f"{s / count * 1e6:.2f}" for s in seconds))
    return table


if __name__ == "__main__":
    main()
