"""Independent pieces of work on all processors."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

__all__ = ["as_they_finish"]

T = TypeVar("T")
R = TypeVar("R")


def as_they_finish(function: Callable[[T], R], tasks: Sequence[T], workers: int | None = None) -> Iterator[R]:
    """``function(task)`` of each task, in the order in which they finish.

    Parameters
    ----------
    function : callable
        At the top of a module, so that another process finds it.
    tasks : sequence
        What it is called with.
    workers : int, optional
        Processes, one a processor by default; 1 stays in this one.
    """
    count = min(os.cpu_count() or 1 if workers is None else workers, len(tasks))
    if count <= 1:
        yield from map(function, tasks)
        return
    start = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    # An interrupt ends the workers at once, and is told by this process alone.
    pool = ProcessPoolExecutor(
        count, multiprocessing.get_context(start), signal.signal, (signal.SIGINT, signal.SIG_DFL)
    )
    try:
        for future in as_completed([pool.submit(function, task) for task in tasks]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
