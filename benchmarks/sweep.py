"""What a sweep costs beside its cells: `python benchmarks/sweep.py` prints the table of RESULTS-sweep.md.

The scheduler's share is measured with blocks that do nothing. The time on a cluster follows from it, since
one driver submits and stores every block: T(workers) ≈ max(cells · cell / workers, blocks · overhead).
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster

import lionode as ln

CELLS = (40, 10)
GRID = {"lam": np.linspace(0.2, 2.0, CELLS[0]), "epsilon": np.linspace(0.0, 0.9, CELLS[1])}
FIXED = {"objective": "(x1 - 1.5)**2 + x2**2", "kappa": "pseudo-huber:0.1", "x0": [2.0, -1.0], "t_end": 20.0}
EMPTY = 500
REPEATS = 3


def nothing(*_: object) -> None:
    """A block without cells."""


def timed(work, *args, **kwargs) -> float:
    best = np.inf
    for _ in range(REPEATS):
        started = time.perf_counter()
        work(*args, **kwargs)
        best = min(best, time.perf_counter() - started)
    return best


def empty_blocks(executor: Executor) -> float:
    """Seconds a block that does nothing takes from submission to result, many in flight."""
    argument = [{**FIXED, "lam": 0.5, "epsilon": 0.3}] * 16
    futures = [executor.submit(nothing, argument) for _ in range(EMPTY)]
    for future in futures:
        future.result()
    return 0.0


def stored_blocks() -> float:
    """Seconds that the driver takes to store one block."""
    rows = ln.sweep({"lam": [0.5]}, **FIXED, workers=1)
    from lionode.ensemble.sweep import _Store

    with tempfile.TemporaryDirectory() as folder:
        study = ln.Study(FIXED, {"lam": np.linspace(0.1, 1, 64)})
        store = _Store(Path(folder) / "s.zarr", study, 2, (), 1, 1e-3, False)
        block = {name: np.asarray(rows[name]) for name in rows.data_vars if name != "message"} | {
            "message": [""]
        }
        started = time.perf_counter()
        for corner in store.pending:
            store.write(corner, block)
        return (time.perf_counter() - started) / 64


def main() -> None:
    cores = os.cpu_count() or 1
    cells = CELLS[0] * CELLS[1]
    whole = {n: timed(ln.sweep, GRID, workers=n, compiled=False, **FIXED) for n in (1, cores)}
    cell = whole[1] / cells
    print(f"{cells} cells on {cores} cores, best of {REPEATS}")
    for n, seconds in whole.items():
        print(f"  {n} worker(s): {1e3 * seconds / cells:6.2f} ms a cell, speed-up {whole[1] / seconds:.2f}")
    with ProcessPoolExecutor(cores) as pool:
        empty_blocks(pool)
        local = timed(empty_blocks, pool) / EMPTY
    with (
        LocalCluster(n_workers=cores, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        executor = client.get_executor()
        empty_blocks(executor)
        dask = timed(empty_blocks, executor) / EMPTY
        over_dask = timed(ln.sweep, GRID, executor=client, compiled=False, **FIXED)
    store = stored_blocks()
    print(
        f"  Dask, {cores} workers: {1e3 * over_dask / cells:6.2f} ms a cell, "
        f"speed-up {whole[1] / over_dask:.2f}"
    )
    print(
        f"overhead of a block: processes {1e3 * local:.2f} ms, Dask {1e3 * dask:.2f} ms, "
        f"storing it {1e3 * store:.2f} ms"
    )
    per_block = dask + store
    print("estimate for 10^6 cells in blocks of 64 on a Dask cluster:")
    for workers in (16, 64, 256, 1024):
        work, driver = 1e6 * cell / workers, 1e6 / 64 * per_block
        bound = "the cells" if work > driver else "the driver"
        print(f"  {workers:5d} workers: {max(work, driver) / 60:7.1f} min, bound by {bound}")


if __name__ == "__main__":
    main()
