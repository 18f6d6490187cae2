"""From a system to a compiled kernel: emit, write to the user's cache, import, compile once per machine."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from scipy.integrate import RK45

from lionode._validate import Array
from lionode.ensemble import exact, lanes, simd
from lionode.ensemble.emit import TOO_LARGE, Scheme, layout, places, step_source
from lionode.ensemble.forms import Unsupported
from lionode.ensemble.model import COEFFICIENTS, Model, loss_source
from lionode.flow.simulate import ERRORS
from lionode.kappas import Potential
from lionode.lyapunov.function import SMALLEST_LAM
from lionode.objectives.base import Objective

__all__ = ["cache_folder", "exact_kernel", "kernel", "kernel_source"]

NAMES = ", ".join(name.upper() for name in COEFFICIENTS)
"""The places of the coefficients of a trajectory, as compiled code names them."""

OPTIONS = """WHOLE = {"cache": True, **OPTIONS}
# Counting the references to an array takes longer than most functions do; without, they can make none.
BORROWING = {**OPTIONS, "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}"""

HEADER = """# Written by lionode; safe to delete.
import math
{simd}

{options}
N, DEGREE, INNER, OUTER, TOO_LARGE, ERRORS = {numbers}
LANES, FINISHED, TOO_FAR, TOO_SMALL, OUT_OF_STEPS = {constants}
{names} = range({count})
{rows}
"""


def cache_folder() -> Path:
    """Where kernels are kept: ``$XDG_CACHE_HOME/lionode``, else ``~/.cache/lionode``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lionode"


@functools.lru_cache(maxsize=64)
def kernel(objective: Objective, kappa: Potential, scheme: Scheme) -> Callable[..., None]:
    """The compiled `lanes.advance` of this f and κ; the coefficients are arguments of it.

    Raises
    ------
    Unsupported
        If f or κ has no straight-line form.
    """
    return _load(kernel_source(objective, kappa, scheme))


def kernel_source(objective: Objective, kappa: Potential, scheme: Scheme) -> str:
    """The module that `kernel` compiles."""
    model = Model(objective, kappa)
    numbers = (model.n, scheme.degree, model.inner, model.outer, TOO_LARGE, ERRORS)
    constants = (lanes.LANES, lanes.FINISHED, lanes.TOO_FAR, lanes.TOO_SMALL, lanes.OUT_OF_STEPS)
    row = layout(model.d, scheme.degree)
    header = HEADER.format(
        simd=inspect.getsource(simd),
        options=OPTIONS,
        names=NAMES,
        count=len(COEFFICIENTS),
        numbers=", ".join(f"float({str(v)!r})" if isinstance(v, float) else str(v) for v in numbers),
        constants=", ".join(map(str, constants)),
        rows="\n".join(f"{name.upper()} = {first}" for name, first in row.items()),
    )
    parts = (lanes.visit, lanes.entry, lanes.load, lanes.rest, lanes.advance)
    return "\n\n".join([header, step_source(model, scheme), *_compiled(parts)])


def _compiled(parts: Iterable[Callable[..., Any]]) -> list[str]:
    """The sources of functions that numba is to compile, of which only `advance` makes arrays."""
    options = {part: "WHOLE" if part.__name__ == "advance" else "BORROWING" for part in parts}
    return [f"@njit(**{option})\n{inspect.getsource(part)}" for part, option in options.items()]


EXACT = """# Written by lionode; safe to delete.
import math
{simd}

{options}
inf = np.inf
{names} = range({count})
{numbers}
{arrays}
"""


@functools.lru_cache(maxsize=64)
def exact_kernel(objective: Objective, kappa: Potential) -> Callable[..., None]:
    """The compiled `exact.advance` of this f and a piecewise linear κ, with the arguments of `kernel`'s.

    Raises
    ------
    Unsupported
        If f has no expression or κ is not piecewise linear.
    """
    if objective.expression is None:
        raise Unsupported("f has no expression")
    if kappa.kinks is None or kappa.slopes is None:
        raise Unsupported(f"kappa {kappa} is not piecewise linear")
    first = float(kappa.value([kappa.kinks[0]])) - kappa.slopes[0] * kappa.kinks[0]
    d, kinks, slopes = objective.dim, kappa.kinks, kappa.slopes
    record = 3 * d + 1
    sizes = {
        "coefficients": len(COEFFICIENTS), "y": 2 * d, "new": 2 * d, "point": 2 * d, "g": d, "q": d * d,
        "u": d, "matrix": d * d, "right": d, "chosen": d, "sliding": 1, "slides": d, "fixed": d, "kink": d,
        "ends": 2 * d, "stage": 5 * record, "node": exact.NODES * record, "end": record, "seen": record,
        "arc": 8 * d, "level": 1,
    }  # fmt: skip
    numbers = {
        "D": d, "NK": len(kinks), "RECORD": record, "FIRST": first, "SMALLEST_LAM": SMALLEST_LAM,
        "AT_ZERO": float(kappa.conjugate_subgradient([0.0])[0]), "SPAN": max(map(abs, slopes)),
        "TOO_LARGE": TOO_LARGE, "ERRORS": ERRORS, "ROUNDING": exact.ROUNDING, "SINGULAR": exact.SINGULAR,
        "STABLE": exact.STABLE, "NODES": exact.NODES, "TIE": exact.TIE, "STUCK": exact.STUCK,
        "FINISHED": lanes.FINISHED, "TOO_FAR": lanes.TOO_FAR, "OUT_OF_STEPS": lanes.OUT_OF_STEPS,
        "PIECE": 0, "SLIDE": d, "FREE": 2 * d,
        **{name.upper(): place for name, place in places(sizes).items()},
    }  # fmt: skip
    arrays = {
        "KINKS": list(kinks), "SLOPES": list(slopes), "EDGES": [-np.inf, *kinks, np.inf],
        "TABLEAU": _tableau().tolist(), "CUMULATIVE": _cumulative(exact.NODES).tolist(),
    }  # fmt: skip
    header = EXACT.format(
        simd=inspect.getsource(simd),
        options=OPTIONS,
        names=NAMES,
        count=len(COEFFICIENTS),
        numbers="\n".join(f"{name} = {number!r}" for name, number in numbers.items()),
        arrays="\n".join(f"{name} = np.array({numbers!r}, np.float64)" for name, numbers in arrays.items()),
    )
    return _load(
        "\n\n".join(
            [header, loss_source(objective), *_compiled(filter(inspect.isfunction, vars(exact).values()))]
        )
    )


def _tableau() -> Array:
    """Weights of the seven stages: in the stages 1–6, in the error and in the powers of the interpolant."""
    stages = np.pad(np.vstack([RK45.A[1:], RK45.B[:5]]), ((0, 0), (0, 2)))
    stages[-1, :6] = RK45.B
    return np.vstack([stages, RK45.E, RK45.P.T])


def _cumulative(parts: int) -> Array:
    """∫₀^θ of the Lagrange polynomial of each of equally far nodes, as coefficients of θ, θ², …"""
    basis = np.linalg.inv(np.vander(np.linspace(0.0, 1.0, parts + 1), increasing=True)).T
    return basis / np.arange(1, parts + 2)


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
