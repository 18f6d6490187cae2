"""From a system to a compiled kernel: emit, write to the user's cache, import, compile once per machine."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from lionode.ensemble import emit, lanes
from lionode.system import LionK

__all__ = ["cache_folder", "kernel"]

TOO_LARGE = 1e100
"""A state beyond this is on its way to overflow: its squares would be."""

HEADER = """# Written by lionode; safe to delete.
import math

import numpy as np
from numba import njit

OPTIONS = {{"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {{"contract", "arcp", "nsz"}}}}
LANES, RADIUS, TOO_LARGE = {lanes}, {radius}, {too_large}
FINISHED, TOO_FAR, TOO_SMALL, OUT_OF_STEPS = {ends}
{rows}
"""

ROW_NAMES = {
    "Y": "y", "NEW": "new", "DENSE": "dense", "COEFFICIENTS": "coefficients", "STEP": "h", "ERROR": "error",
    "FACTOR": "factor", "ENERGY": "energy", "RATE": "rate", "INSIDE": "inside", "ENERGY_NEW": "energy_new",
    "RATE_NEW": "rate_new", "INSIDE_NEW": "inside_new", "DISSIPATED": "dissipated", "ROWS": "rows",
}  # fmt: skip


def cache_folder() -> Path:
    """Where kernels are kept: ``$XDG_CACHE_HOME/lionode``, else ``~/.cache/lionode``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lionode"


def kernel(system: LionK) -> Callable[..., None]:
    """The compiled `lanes.advance` of this f and κ; the coefficients are arguments of it.

    Raises
    ------
    Unsupported
        If f or κ has no straight-line form.
    """
    expression = system.objective.expression
    if expression is None:
        raise emit.Unsupported("f has no expression")
    return _kernel(expression, system.objective.symbols, system.kappa, _Key(system))


class _Key:
    """Carries the system past the cache: only f and κ decide which kernel it is."""

    def __init__(self, system: LionK) -> None:
        self.system = system

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key)

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(maxsize=64)
def _kernel(expression: Any, symbols: Any, kappa: Any, key: _Key) -> Callable[..., None]:
    row = emit.layout(key.system.dim)
    radius = float(getattr(kappa, "radius", float("inf")))
    header = HEADER.format(
        lanes=lanes.LANES,
        radius=f"float({str(radius)!r})",
        too_large=TOO_LARGE,
        ends=(lanes.FINISHED, lanes.TOO_FAR, lanes.TOO_SMALL, lanes.OUT_OF_STEPS),
        rows="\n".join(f"{name} = {row[key]}" for name, key in ROW_NAMES.items()),
    )
    driver = [f"@njit(**OPTIONS)\n{inspect.getsource(part)}" for part in (lanes.between, lanes.advance)]
    source = "\n\n".join([header, emit.step_source(key.system), *driver])
    return _load(source)


def _load(source: str) -> Callable[..., None]:
    name = "lanes_" + hashlib.sha256(f"{source}{numba.__version__}{sys.version}".encode()).hexdigest()[:24]
    path = _written(name, source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    advance: Callable[..., None] = module.advance
    return advance


def _written(name: str, source: str) -> Path:
    """The file that holds `source`: kept if it is there unchanged, otherwise written whole or not at all."""
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{name}.py"
        if path.is_file() and path.read_text(encoding="utf-8") == source:
            return path
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    except OSError:
        # No cache to keep: the kernel lives as long as the process does.
        folder = Path(tempfile.mkdtemp(prefix="lionode-"))
        path = folder / f"{name}.py"
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(source)
    Path(temporary).replace(path)
    return path
