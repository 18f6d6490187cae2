"""The planes that a portrait shows: two coordinates of the state, the others held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.lyapunov import lyapunov
from lionode.optimum import composite_value
from lionode.system import LionK

__all__ = ["LEVELS", "Plane", "limits", "start_grid"]

LEVELS = ("f", "F", "H")
"""What has level sets on a plane."""


@dataclass(frozen=True)
class Plane:
    """Two of the coordinates (x, m) of the state as axes, and the values at which the others are held.

    Parameters
    ----------
    axes : (str, str)
        Their names, of x1 … xd and m1 … md; also x and m for one parameter.
    dim : int
        The number d of parameters.
    held : mapping of str to float
        Values of the other coordinates; those not named are held at 0.

    Raises
    ------
    TypeError, ValueError
        If a name is not one of a coordinate, the axes are one, or an axis is held.
    """

    axes: tuple[str, str]
    dim: int
    held: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _validate.count("dim", self.dim)
        axes = tuple(self._name("plane", name) for name in self.axes)
        if len(axes) != 2 or axes[0] == axes[1]:
            raise ValueError(f"plane must be two different coordinates, got {','.join(map(str, self.axes))}")
        held = dict.fromkeys([name for name in self.names if name not in axes], 0.0)
        for name, value in self.held.items():
            if self._name("held", name) not in held:
                raise ValueError(f"held must name coordinates off the axes {','.join(axes)}, got {name}")
            held[self._name("held", name)] = _validate.real(f"held {name}", value)
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "held", held)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all coordinates: x1 … xd, m1 … md."""
        return tuple(f"{letter}{i + 1}" for letter in "xm" for i in range(self.dim))

    @property
    def index(self) -> tuple[int, int]:
        """The positions of the axes in (x, m)."""
        return self.names.index(self.axes[0]), self.names.index(self.axes[1])

    def states(self, points: ArrayLike) -> tuple[Array, Array]:
        """(x, m) of the points of the plane. Shape ``(..., 2)`` to two of shape ``(..., d)``."""
        points = _validate.array("points", points, last=2)
        state = np.zeros((*points.shape[:-1], 2 * self.dim))
        for name, value in self.held.items():
            state[..., self.names.index(name)] = value
        state[..., self.index] = points
        return state[..., : self.dim], state[..., self.dim :]

    def project(self, x: ArrayLike, m: ArrayLike) -> Array:
        """The two coordinates of states. Shapes ``(..., d)`` to ``(..., 2)``."""
        return np.concatenate([np.asarray(x), np.asarray(m)], axis=-1)[..., self.index]

    def level(self, system: LionK, points: ArrayLike, of: str = "H") -> Array:
        """f, F = αf + (γ/λ)κ*(λ·) or H on the plane, at the values that are held.

        Parameters
        ----------
        system : LionK
            Of as many parameters as the plane.
        points : array_like, shape (..., 2)
            Points of the plane.
        of : str
            "f", "F" or "H".

        Returns
        -------
        ndarray, shape (...)
            +inf where λx ∉ dom κ*, for F and H.
        """
        x, m = self.states(points)
        _validate.choice("of", of, LEVELS)
        if of == "f":
            return system.objective.value(x)
        return composite_value(system, x) if of == "F" else lyapunov(system, x, m)

    def _name(self, argument: str, name: Any) -> str:
        known = f"{name}1" if self.dim == 1 and name in ("x", "m") else name
        return _validate.choice(argument, known, self.names)


def start_grid(x: ArrayLike, y: ArrayLike, cells: int) -> Array:
    """The centres of cells × cells equal cells of a rectangle, for maps and films.

    Parameters
    ----------
    x, y : array_like, shape (2,)
        Its limits.
    cells : int
        Along each side.

    Returns
    -------
    ndarray, shape (cells, cells, 2)
        Rows upward.
    """
    share = (np.arange(_validate.count("cells", cells)) + 0.5) / cells
    columns, rows = (low + (high - low) * share for low, high in (limits("x", x), limits("y", y)))
    return np.stack(np.meshgrid(columns, rows), axis=-1)


def limits(name: str, value: ArrayLike) -> tuple[float, float]:
    """Two numbers in increasing order, or a ValueError that names the argument."""
    low, high = _validate.vector(name, value, dim=2)
    if low >= high:
        raise ValueError(f"{name} must be limits in increasing order, got {low:g}, {high:g}")
    return float(low), float(high)
