"""What a sweep runs: parameters that stay, parameters that vary, and the cells they make."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lionode import _validate, kappas, objectives
from lionode._validate import Array
from lionode.objectives.base import Objective, from_spec
from lionode.system import LionK

__all__ = ["Study"]

SYSTEM = ("objective", "kappa", "alpha", "gamma", "epsilon", "lam")
OPTIMIZER = ("lr", "beta1", "beta2")
FLOW = ("t_end", "method", "rtol", "atol", "m0", "x0")
UPDATES = ("steps", "decay", "look_ahead", "seed", "m0", "x0")
PARAMETERS = tuple(dict.fromkeys((*SYSTEM, *OPTIMIZER, *FLOW, *UPDATES)))
"""Every name a study may give: those of `LionK`, `LionK.from_optimizer`, `simulate` and `iterate`."""

SPACINGS: dict[str, Callable[..., Array]] = {
    "linspace": np.linspace,
    "geomspace": np.geomspace,
    "arange": np.arange,
}
"""What a study file may write in place of a list of numbers, by numpy's names."""


@dataclass(frozen=True)
class Study:
    """A grid of cells, or a list of them, over any parameters of a flow or of a run of updates.

    A cell is a flow if it has a ``t_end``, a run of updates if it has ``steps``.

    Parameters
    ----------
    fixed : mapping
        The parameters that all cells share.
    grid : mapping of str to sequence, or sequence of mappings
        The values of each parameter that varies: the cells are all combinations, in C order. Or the cells
        one by one, all with the same parameters.

    Raises
    ------
    TypeError, ValueError
        If a name is unknown or given twice, an axis is empty, or a parameter is missing.
    """

    fixed: Mapping[str, Any]
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Mapping | list | tuple) or len(self.grid) == 0:
            raise ValueError("grid must map parameters to their values, or list at least one cell")
        names = self.names
        for name in (*self.fixed, *names):
            if name not in PARAMETERS:
                near = difflib.get_close_matches(name, PARAMETERS, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PARAMETERS)}"
                raise ValueError(f"a study has no parameter {name!r}; {hint}")
            if name in self.fixed and name in names:
                raise ValueError(f"{name} is given both as fixed and as varying")
        if not isinstance(self.grid, Mapping):
            for i, cell in enumerate(self.grid):
                if set(cell) != set(names):
                    raise ValueError(
                        f"cell {i} has the parameters {sorted(cell)}, cell 0 has {sorted(names)}"
                    )
        elif empty := [name for name in names if len(self.grid[name]) == 0]:
            raise ValueError(f"the axis {empty[0]} has no values")
        given = {*self.fixed, *names}
        if missing := {"objective", "kappa", "x0"} - given:
            raise ValueError(f"the study needs {', '.join(sorted(missing))}")
        if ("t_end" in given) == ("steps" in given):
            raise ValueError("the study needs either t_end (a flow) or steps (a run of updates)")
        alien = given - {*SYSTEM, *OPTIMIZER, *(UPDATES if self.discrete else FLOW)}
        if alien or (not self.discrete and given & set(OPTIMIZER) and not set(OPTIMIZER) <= given):
            wrong = sorted(alien) or sorted(given & set(OPTIMIZER))
            raise ValueError(
                f"{', '.join(wrong)} means nothing in a {'run' if self.discrete else 'flow'} alone"
            )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Study:
        """Read a TOML file with a table ``[fixed]`` and a table ``[grid]`` or an array ``[[cells]]``.

        A value of the grid is a list, or numpy's word for one: ``lam = {linspace = [0.1, 2.0, 20]}``.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not such a file.
        """
        try:
            tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{os.fspath(path)} is not a TOML file: {error}") from None
        unknown = set(tree) - {"fixed", "grid", "cells"}
        if unknown or ("grid" in tree) == ("cells" in tree):
            found = f"it has {', '.join(sorted(tree))}"
            raise ValueError(f"{os.fspath(path)} needs [fixed] and either [grid] or [[cells]]; {found}")
        if "cells" in tree:
            return cls(tree.get("fixed", {}), tree["cells"])
        return cls(tree.get("fixed", {}), {name: _spaced(name, v) for name, v in tree["grid"].items()})

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that vary."""
        return tuple(self.grid) if isinstance(self.grid, Mapping) else tuple(self.grid[0])

    @property
    def discrete(self) -> bool:
        """Whether the cells are runs of updates."""
        return "steps" in {*self.fixed, *self.names}

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each dimension."""
        if isinstance(self.grid, Mapping):
            return tuple(len(values) for values in self.grid.values())
        return (len(self.grid),)

    @property
    def dims(self) -> tuple[str, ...]:
        """The name of each dimension: the parameter that varies along it, or "cell" for a list."""
        return self.names if isinstance(self.grid, Mapping) else ("cell",)

    @property
    def size(self) -> int:
        """The number of cells."""
        return math.prod(self.shape)

    def cell(self, index: Sequence[int]) -> dict[str, Any]:
        """The parameters of one cell."""
        if isinstance(self.grid, Mapping):
            varying = {name: self.grid[name][i] for name, i in zip(self.names, index, strict=True)}
        else:
            varying = dict(self.grid[index[0]])
        return {**self.fixed, **varying}

    def coordinates(self) -> dict[str, tuple[str, Array | list[str]]]:
        """The label of each position: numbers as they are, everything else as text."""
        if isinstance(self.grid, Mapping):
            columns = {name: (name, list(values)) for name, values in self.grid.items()}
        else:
            columns = {name: ("cell", [cell[name] for cell in self.grid]) for name in self.names}
        return {name: (dim, _labels(values)) for name, (dim, values) in columns.items()}

    def describe(self) -> dict[str, Any]:
        """The study as plain data: what a store is stamped with, and compared by."""
        varying = (
            {name: [plain(v) for v in values] for name, values in self.grid.items()}
            if isinstance(self.grid, Mapping)
            else [{name: plain(v) for name, v in cell.items()} for cell in self.grid]
        )
        return {"fixed": {name: plain(v) for name, v in sorted(self.fixed.items())}, "grid": varying}

    def digest(self) -> str:
        """A hash of `describe`."""
        return hashlib.sha256(json.dumps(self.describe()).encode()).hexdigest()

    def portable(self) -> Study:
        """The same study with every objective and κ as what another process can rebuild."""
        fixed = {name: _portable(v) for name, v in self.fixed.items()}
        if isinstance(self.grid, Mapping):
            return Study(fixed, {name: [_portable(v) for v in values] for name, values in self.grid.items()})
        return Study(fixed, [{name: _portable(v) for name, v in cell.items()} for cell in self.grid])


def system_of(cell: Mapping[str, Any], f: Objective, kappa: kappas.Potential) -> LionK:
    """The system that a cell describes, its coefficients given as an ODE's or as an optimizer's.

    Raises
    ------
    TypeError, ValueError
        If the cell describes none.
    """
    if "beta1" not in cell and "beta2" not in cell:
        return LionK(f, kappa, **{name: cell[name] for name in SYSTEM[2:] if name in cell})
    if clash := [name for name in ("alpha", "gamma", "epsilon") if name in cell]:
        raise ValueError(f"beta1 and beta2 already set {', '.join(clash)}")
    if missing := [name for name in (*OPTIMIZER, "lam") if name not in cell]:
        raise ValueError(f"an optimizer's coefficients need {', '.join(missing)} too")
    return LionK.from_optimizer(f, kappa, **{name: cell[name] for name in (*OPTIMIZER, "lam")})


def objective_of(value: Any) -> Objective:
    """An objective from itself, a formula, or (factory, arguments)."""
    if isinstance(value, str):
        return objectives.from_expression(value)
    if isinstance(value, list | tuple):
        return from_spec(*value)
    if isinstance(value, Objective):
        return value
    raise TypeError(f"objective must be an Objective or a formula, got {_validate.describe(value)}")


def kappa_of(value: Any) -> kappas.Potential:
    """A potential from itself, a text such as "huber:0.3", or its specification."""
    if isinstance(value, str):
        return kappas.parse(value)
    if isinstance(value, dict):
        return kappas.from_spec(value)
    if isinstance(value, kappas.Potential):
        return value
    raise TypeError(
        f"kappa must be a Potential or a text such as 'huber:0.3', got {_validate.describe(value)}"
    )


def _spaced(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not set(value) <= set(SPACINGS):
        raise ValueError(f"{name} must be a list or one of {', '.join(SPACINGS)}, got {value!r}")
    ((word, arguments),) = value.items()
    try:
        return SPACINGS[word](*arguments).tolist()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {word}{tuple(arguments)!r} makes no list: {error}") from None


def _portable(value: Any) -> Any:
    if isinstance(value, Objective) and value.spec is not None:
        return list(value.spec)
    if isinstance(value, kappas.Potential):
        return kappas.to_spec(value)
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def plain(value: Any) -> Any:
    """`value` as what JSON can hold: two that differ must not look alike."""
    portable = _portable(value)
    if isinstance(portable, Objective):
        return f"callables: {portable.name}"
    if isinstance(portable, np.ndarray | np.generic):
        return portable.tolist()
    if isinstance(portable, dict):
        return {key: plain(item) for key, item in portable.items()}
    if isinstance(portable, list | tuple):
        return [plain(item) for item in portable]
    return portable if isinstance(portable, str | bool | int | float) or portable is None else repr(portable)


def _labels(values: Sequence[Any]) -> Array | list[str]:
    if all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values):
        return np.array(values, dtype=np.float64)
    return [_label(value) for value in values]


def _label(value: Any) -> str:
    if isinstance(value, Objective):
        return value.name
    return value if isinstance(value, str) else str(np.asarray(value).tolist() if np.ndim(value) else value)
