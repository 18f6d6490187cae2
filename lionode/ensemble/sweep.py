"""`sweep`: a study of many cells on any executor, written as it arrives, resumed where it stopped."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import multiprocessing
import os
import pickle
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lionode import _validate
from lionode.ensemble.cells import MEASURES, STATUSES, Measure, run_cells
from lionode.ensemble.study import Study, objective_of

if TYPE_CHECKING:
    import xarray

__all__ = ["SweepStatus", "sweep", "sweep_status"]

WORTH_LANES = 2000
"""From this many flows on the seconds that compiled lanes take to compile are won back."""

PER_WORKER = 8
"""Blocks for each worker, so that the last ones end at about the same time."""

LARGEST_BLOCK, LARGEST_LANES = 64, 10_000
"""Cells in a block at most: what is lost when a worker dies, and what a progress bar can show."""

IN_FLIGHT = 256
"""Blocks submitted and not yet stored: bounds the memory of the driver and of a scheduler."""

RESTARTS = 3
"""How often a pool that breaks without finishing a block is made anew."""

MESSAGE = 160
"""Characters kept of a cell's message."""

Progress = Callable[[int, int], None]


class SweepStatus(Counter[str]):
    """How many cells have each status, "not run" among them."""

    @property
    def total(self) -> int:  # type: ignore[override]
        """All cells of the study."""
        return sum(self.values())

    @property
    def done(self) -> int:
        """Cells that have run, whatever came of it."""
        return self.total - self["not run"]


def sweep(
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | str | os.PathLike[str] | Study,
    out: str | os.PathLike[str] | None = None,
    *,
    executor: Any = None,
    workers: int | None = None,
    measure: Measure | None = None,
    settle: float = 1e-3,
    compiled: bool | None = None,
    block: int | None = None,
    restart: bool = False,
    progress: Progress | None = None,
    **fixed: Any,
) -> xarray.Dataset:
    """Run a grid or a list of cells, and return what was measured of each with labelled dimensions.

    Parameters
    ----------
    grid : mapping, sequence of mappings, path or Study
        The values of each parameter that varies (the cells are all combinations), or the cells one by one,
        or a TOML file with ``[fixed]`` and ``[grid]`` or ``[[cells]]``. Parameters are those of `LionK` (or
        of `LionK.from_optimizer`), and of `simulate` (``t_end`` …) or `iterate` (``steps`` …); ``objective``
        and ``kappa`` may be texts such as "x1**2 + x2**4" and "huber:0.3".
    out : path, optional
        A zarr folder. It is written block by block; the same call again runs only what is missing.
    executor : concurrent.futures.Executor, dask Client, or str, optional
        Where the blocks run: any executor, a `distributed.Client`, or a scheduler's address such as
        "tcp://10.0.0.1:8786". Local processes by default.
    workers : int, optional
        How many local processes; one for each CPU by default.
    measure : callable, optional
        ``(Trajectory)`` to a dict of further numbers, the same names for every cell.
    settle : float
        The distance to the composite optimum that a settled flow stays within.
    compiled : bool, optional
        Whether to use the compiled lanes of `ensemble`, for flows; by default from 2000 cells on.
    block : int, optional
        Cells in a task.
    restart : bool
        Throw away what `out` holds of another, or the same, study.
    progress : callable, optional
        Called with the cells done and the cells in all after each block.
    **fixed
        The parameters that all cells share.

    Returns
    -------
    xarray.Dataset
        One dimension for each parameter that varies, or "cell" for a list, and "parameter" for x and m. A
        cell that was refused or broke down has NaN, its ``status`` and its ``message``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is named above, or `out` holds another study.
    OSError
        If `out` cannot be written or has no room; found before anything runs.
    RuntimeError
        If blocks could not be run because their workers died; what is done is kept.
    """
    try:
        import xarray
        import zarr  # noqa: F401
    except ImportError:
        raise ImportError('sweep needs xarray and zarr: pip install "lionode[sweep]"') from None
    study = _study(grid, fixed)
    count = _validate.count("workers", os.cpu_count() or 1 if workers is None else workers)
    settle = _validate.positive("settle", settle)
    if measure is not None and not callable(measure):
        raise TypeError(f"measure must be callable, got {measure!r}")
    lanes = not study.discrete and measure is None and study.size >= WORTH_LANES
    lanes = lanes if compiled is None else compiled
    dim = objective_of(study.cell((0,) * len(study.shape))["objective"]).dim
    largest = LARGEST_LANES if lanes else LARGEST_BLOCK
    length = min(largest, -(-study.size // (PER_WORKER * count)))
    length = length if block is None else _validate.count("block", block)
    portable = study.portable()
    extra = _extra_names(portable, dim, settle, measure)
    store = _Store(out, study, dim, extra, length, settle, restart)

    def task(cells: list[dict[str, Any]]) -> tuple[Any, ...]:
        return run_cells, cells, dim, settle, lanes, measure, extra

    with _executor(
        executor, min(count, len(store.pending)), task([portable.cell((0,) * len(study.shape))])
    ) as pools:
        troubles = _drive(pools, store, portable, task, progress)
    if troubles:
        raise RuntimeError(
            f"{len(troubles)} of {store.blocks} blocks were not run: {troubles[0]}; "
            "the same call again tries them"
        )
    return xarray.open_zarr(store.place, chunks=None) if out is not None else store.memory()


def sweep_status(out: str | os.PathLike[str]) -> SweepStatus:
    """What a sweep's store holds so far: how many cells have each status.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such store.
    """
    import zarr

    if not Path(out).is_dir():
        raise FileNotFoundError(f"{os.fspath(out)} does not exist: no sweep was written there")
    values = _open(zarr, out)["status"][...]
    return SweepStatus({STATUSES[i]: int(n) for i, n in enumerate(np.bincount(values.ravel())) if n})


def _study(grid: Any, fixed: dict[str, Any]) -> Study:
    if isinstance(grid, Study | str | os.PathLike):
        if fixed:
            raise TypeError(f"{', '.join(fixed)} belong into the study, which is given whole")
        return grid if isinstance(grid, Study) else Study.read(grid)
    return Study(fixed, grid if isinstance(grid, Mapping) else list(grid))


def _extra_names(study: Study, dim: int, settle: float, measure: Measure | None) -> tuple[str, ...]:
    """The names that a user's measure gives: known after one cell that it can measure."""
    if measure is None:
        return ()
    seen: dict[str, float] = {}

    def listen(run: Any) -> Mapping[str, float]:
        seen.update(measure(run))
        return {}

    for index in itertools.islice(itertools.product(*map(range, study.shape)), 10):
        row = run_cells([study.cell(index)], dim, settle, measure=listen)
        if seen:
            if taken := set(seen) & {*MEASURES, "x", "m", "status", "message", *study.names}:
                raise ValueError(
                    f"measure returns {', '.join(sorted(taken))}, which the sweep measures itself"
                )
            return tuple(seen)
    raise ValueError(f"measure gave no number for the first cells: {row['message'][0]}")


class _Store:
    """A zarr group with one chunk for each task. What is done is what its ``status`` says, written last."""

    def __init__(
        self, out: Any, study: Study, dim: int, extra: Sequence[str], block: int, settle: float, restart: bool
    ) -> None:
        import zarr

        self.study = study
        self.place: Any = zarr.storage.MemoryStore() if out is None else Path(out)
        stamp: dict[str, Any] = {
            "digest": study.digest(),
            "study": study.describe(),
            "settle": settle,
            "extra": list(extra),
        }
        if out is None:
            self._create(zarr, self.place, dim, extra, block, stamp)
        else:
            self._prepare(zarr, dim, extra, block, stamp, restart)
        self.group = zarr.open_group(self.place, mode="r+")
        status = self.group["status"]
        self.chunks = status.chunks
        grid = itertools.product(*(range(0, n, c) for n, c in zip(status.shape, status.chunks, strict=True)))
        done = status[...] != 0
        corners = list(grid)
        self.blocks = len(corners)
        self.pending = [corner for corner in corners if not done[self._slices(corner)].all()]
        self.cells_done = int(done.sum())

    def _prepare(
        self, zarr: Any, dim: int, extra: Sequence[str], block: int, stamp: dict[str, Any], restart: bool
    ) -> None:
        """Open the store of this study, or make a new one: whole or not at all."""
        place = self.place
        if place.exists() and not place.is_dir():
            raise FileExistsError(f"out must be a folder, {place} is a file")
        if place.exists() and any(place.iterdir()):
            changed = _changes(dict(_open(zarr, place).attrs), stamp)
            if changed and not restart:
                raise ValueError(
                    f"{place} holds another study (different: {changed}); "
                    "give another folder, or restart=True (--restart) to throw it away"
                )
            if not restart:
                self._room(0)
                return
        self._room(self.study.size * (8 * (len(MEASURES) + len(extra) + 2 * dim) + 1 + 4 * MESSAGE))
        partial = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            self._create(zarr, partial, dim, extra, block, stamp)
            shutil.rmtree(place, ignore_errors=True)
            partial.replace(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _slices(self, corner: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(
            slice(i, min(i + c, n)) for i, c, n in zip(corner, self.chunks, self.study.shape, strict=True)
        )

    def _room(self, need: int) -> None:
        """Find an unwritable or full folder before the work, not after it."""
        parent = self.place.absolute().parent
        if not parent.is_dir():
            raise FileNotFoundError(f"out must lie in an existing folder, {parent} is none")
        if not os.access(self.place if self.place.exists() else parent, os.W_OK):
            raise PermissionError(f"out cannot be written: {self.place}")
        free = shutil.disk_usage(parent).free
        if free < need:
            raise OSError(f"out needs up to {need / 2**20:.0f} MiB, {parent} has {free / 2**20:.0f} MiB free")

    def _create(
        self, zarr: Any, place: Any, dim: int, extra: Sequence[str], block: int, stamp: dict[str, Any]
    ) -> None:
        study = self.study
        # Format 2: format 3 has no settled text type yet.
        group = zarr.open_group(place, mode="w", zarr_format=2)
        version = importlib.metadata.version("lionode")
        group.attrs.update({**stamp, "source": f"lionode {version}", "Conventions": "CF-1.11"})
        chunks = _chunks(study.shape, block)

        def array(
            name: str, dims: Sequence[str], shape: Any, dtype: Any, fill: Any, about: dict[str, Any]
        ) -> Any:
            cut = (*chunks, *shape[len(chunks) :]) if shape[: len(study.shape)] == study.shape else shape
            made = group.create_array(name, shape=shape, chunks=cut, dtype=dtype, fill_value=fill)
            made.attrs.update({"_ARRAY_DIMENSIONS": list(dims), **about})
            return made

        for name, (dim_name, labels) in study.coordinates().items():
            values = np.asarray(labels)
            fill = np.nan if values.dtype.kind == "f" else ""
            array(name, [dim_name], values.shape, values.dtype, fill, {"units": "1"})[...] = values
        array("parameter", ["parameter"], (dim,), np.int64, None, {})[...] = np.arange(dim)
        for name in (*MEASURES, *extra):
            about = {"units": "1", "long_name": MEASURES.get(name, "measured by the user")}
            array(name, study.dims, study.shape, np.float64, np.nan, about)
        for name, text in (("x", "parameters at the end"), ("m", "momentum at the end")):
            about = {"units": "1", "long_name": text}
            array(name, (*study.dims, "parameter"), (*study.shape, dim), np.float64, np.nan, about)
        array("message", study.dims, study.shape, f"<U{MESSAGE}", "", {"long_name": "how the cell ended"})
        words = " ".join(status.replace(" ", "_") for status in STATUSES)
        flags = {"flag_values": list(range(len(STATUSES))), "flag_meanings": words}
        # Without a fill value a reader does not take "not run", 0, for a missing number.
        array("status", study.dims, study.shape, np.int8, None, flags)[...] = 0
        zarr.consolidate_metadata(place, zarr_format=2)

    def cells(self, study: Study, corner: tuple[int, ...]) -> list[dict[str, Any]]:
        """The cells of one block, in C order."""
        ranges = (range(s.start, s.stop) for s in self._slices(corner))
        return [study.cell(index) for index in itertools.product(*ranges)]

    def write(self, corner: tuple[int, ...], rows: Mapping[str, Any]) -> int:
        """Store a block, its status last, and return how many cells it has."""
        where = self._slices(corner)
        shape = tuple(s.stop - s.start for s in where)
        status = np.asarray(rows["status"]).reshape(shape)
        for name, values in rows.items():
            if name == "message":
                values = np.array([text[:MESSAGE] for text in values], dtype=f"<U{MESSAGE}")
            if name != "status":
                values = np.asarray(values)
                self.group[name][where] = values.reshape(*shape, *values.shape[1:])
        self.group["status"][where] = status
        self.cells_done += status.size
        return int(status.size)

    def memory(self) -> xarray.Dataset:
        """The Dataset of a store in memory."""
        import xarray

        data: xarray.Dataset = xarray.open_zarr(self.place, chunks=None).load()
        return data


def _open(zarr: Any, place: Any) -> Any:
    try:
        group = zarr.open_group(place, mode="r")
        known = "digest" in group.attrs
    except (FileNotFoundError, ValueError, KeyError):
        known = False
    if not known:
        raise ValueError(
            f"{os.fspath(place)} is not empty, and not the store of a sweep; give another folder"
        )
    return group


def _changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Which parameters differ between two stamped studies, in words; "" if none."""
    if old["digest"] == new["digest"]:
        return ", ".join(key for key in ("settle", "extra") if old.get(key) != new[key])
    names = []
    for part in ("fixed", "grid"):
        a, b = old["study"][part], new["study"][part]
        if isinstance(a, dict) and isinstance(b, dict):
            names += sorted(key for key in {*a, *b} if a.get(key) != b.get(key))
        elif a != b:
            names.append("cells")
    return ", ".join(dict.fromkeys(names)) or "the order of the axes"


def _chunks(shape: tuple[int, ...], block: int) -> tuple[int, ...]:
    """Whole trailing axes as far as a block of this many cells goes."""
    chunks, room = [], block
    for n in reversed(shape):
        chunks.append(max(1, min(n, room)))
        room //= chunks[-1]
    return tuple(reversed(chunks))


class _Pools:
    """Where blocks are submitted; a pool of our own can be made anew when a worker dies."""

    def __init__(self, make: Callable[[], Executor], own: bool) -> None:
        self.make, self.own = make, own
        self.executor = make()

    def renew(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)
        self.executor = self.make()


@contextlib.contextmanager
def _executor(executor: Any, workers: int, sample: tuple[Any, ...]) -> Iterator[_Pools]:
    with contextlib.ExitStack() as stack:
        if isinstance(executor, str):
            try:
                from distributed import Client
            except ImportError:
                raise ImportError('a scheduler address needs dask: pip install "lionode[sweep]"') from None
            executor = stack.enter_context(Client(executor, timeout="10s"))
        if hasattr(executor, "get_executor"):
            executor = executor.get_executor()
        if executor is not None:
            if not hasattr(executor, "submit"):
                raise TypeError(f"executor must be an Executor, a Client or an address, got {executor!r}")
            yield _Pools(lambda: executor, own=False)
            return
        try:
            pickle.dumps(sample)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"a cell cannot be sent to another process ({error}); give objective as a formula or from "
                "lionode.objectives, measure as a function of a module, or executor=ThreadPoolExecutor()"
            ) from None
        # A forked worker has lionode loaded already, and needs no guard in the user's script.
        start = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(start)
        pools = _Pools(
            lambda: ProcessPoolExecutor(
                max(1, workers), context, signal.signal, (signal.SIGINT, signal.SIG_IGN)
            ),
            own=True,
        )
        try:
            yield pools
        finally:
            pools.executor.shutdown(wait=True, cancel_futures=True)


def _drive(
    pools: _Pools,
    store: _Store,
    study: Study,
    task: Callable[[list[dict[str, Any]]], tuple[Any, ...]],
    progress: Progress | None,
) -> list[str]:
    """Run what is pending and store each block as it comes; the blocks that died are returned as texts."""
    queue = store.pending[::-1]
    waiting: dict[Future[Any], tuple[int, ...]] = {}
    troubles: list[str] = []
    breaks = 0
    if progress is not None:
        progress(store.cells_done, study.size)
    try:
        while queue or waiting:
            while queue and len(waiting) < IN_FLIGHT:
                corner = queue.pop()
                waiting[_submit(pools, task(store.cells(study, corner)))] = corner
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            broken = False
            for future in finished:
                corner = waiting.pop(future)
                try:
                    store.write(corner, future.result())
                except BrokenExecutor:
                    queue.append(corner)
                    broken = True
                except OSError:
                    raise
                except Exception as error:  # whatever a remote worker died of: its block can be tried again
                    troubles.append(f"{type(error).__name__}: {error}")
                else:
                    breaks = 0
                    if progress is not None:
                        progress(store.cells_done, study.size)
            if broken:
                queue += waiting.values()
                waiting.clear()
                breaks += 1
                if not pools.own or breaks > RESTARTS:
                    return [*troubles, "the workers died"] + ["the workers died"] * (len(queue) - 1)
                pools.renew()
    finally:
        # Interrupted: what has finished meanwhile is not thrown away.
        for future, corner in waiting.items():
            if not future.cancel() and future.done() and future.exception() is None:
                store.write(corner, future.result())
    return troubles


def _submit(pools: _Pools, call: tuple[Any, ...]) -> Future[Any]:
    try:
        return pools.executor.submit(*call)
    except BrokenExecutor as error:
        # A pool that broke between two submits: the future says so, like those already in it.
        future: Future[Any] = Future()
        future.set_exception(error)
        return future
