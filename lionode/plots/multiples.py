"""Small multiples: the same portrait of several systems, in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from lionode import _validate
from lionode.phase import LEVELS, Basins, Plane, basins, limits, start_grid
from lionode.plots.maps import MAPS, basin_map, time_bar, time_map, time_scale
from lionode.plots.portrait import level_slice, phase_plane, portrait
from lionode.plots.style import COLORS, figure
from lionode.system import LionK

__all__ = ["legend", "panels", "plane_of", "portraits"]


def portraits(
    systems: Sequence[LionK],
    starts: ArrayLike,
    *,
    t_end: float = 20.0,
    x: ArrayLike = (-2, 2),
    y: ArrayLike = (-2, 2),
    plane: tuple[str, str] | None = None,
    held: Mapping[str, float] | None = None,
    levels: str | None = None,
    map: str | None = None,
    cells: int = 61,
    within: float = 1e-3,
) -> Any:
    """Small multiples: one panel for each system, of one or of two parameters, in a new figure.

    Parameters
    ----------
    systems : sequence of LionK
        Titles name κ, and λ and ε.
    starts : array_like, shape (n, 2)
        Points of the plane where trajectories start.
    t_end : float
        How long they are followed.
    x, y : array_like, shape (2,)
        The limits of each panel.
    plane : (str, str), optional
        Two of x1, x2, m1, m2; (x1, x2) by default, and for one parameter always (x, m).
    held : mapping of str to float, optional
        Where the other coordinates are held: those of starts, and those of level sets; 0 by default.
    levels : str, optional
        Level sets of "f", "F" or "H"; of f by default, for one parameter and below a map none.
    map : str, optional
        What each panel is coloured by, over a grid of starts: "basins" (the equilibrium that the flow ends
        at), "entry" (when λx enters dom κ*) or "settling" (when x has come to stay near its limit).
    cells : int
        Starts along each axis of a map.
    within : float
        The distance to its limit that a settled flow stays within.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is named above.
    """
    planes = [plane_of(system, plane, held) for system in systems]
    x, y = limits("x", x), limits("y", y)
    if levels is not None:
        _validate.choice("levels", levels, LEVELS)
    _validate.positive("within", within)
    found: list[Basins] = []
    if map is not None:
        _validate.choice("map", map, MAPS)
        for system, own in zip(systems, planes, strict=True):
            x0s, m0s = own.states(start_grid(x, y, cells))
            found.append(basins(system, x0s, t_end, m0s, within=within))
    # A path must show on what lies below it: dark colours of time, light ones of basins.
    color = {None: COLORS["blue"], "basins": "black"}.get(map, "white")
    norm = None if map in (None, "basins") else time_scale(found, map)
    fig, axes = panels(systems, x, y)
    for i, (ax, system, own) in enumerate(zip(axes, systems, planes, strict=True)):
        if map is not None and norm is not None:
            time_map(ax, found[i], x, y, map, norm)
        elif map is not None:
            basin_map(ax, found[i], x, y)
        if system.dim == 1:
            phase_plane(ax, system, starts, t_end=t_end, x=x, m=y, field=map is None, color=color)
            if levels is not None:
                level_slice(ax, system, own, levels)
        else:
            shown = "f" if levels is None and map is None else levels
            portrait(ax, system, starts, t_end=t_end, plane=own, levels=shown, color=color)
    if map is not None and norm is not None:
        time_bar(fig, axes, map, norm)
    legend(fig, axes)
    return fig


def plane_of(system: LionK, axes: tuple[str, str] | None, held: Mapping[str, float] | None) -> Plane:
    """The plane that a portrait of a system shows: by default (x, m) for one parameter, (x1, x2) for two."""
    if system.dim > 2:
        raise ValueError(f"a portrait needs 1 or 2 parameters, {system.objective.name} has {system.dim}")
    usual = ("x1", "m1") if system.dim == 1 else ("x1", "x2")
    plane = Plane(usual if axes is None else axes, system.dim, held or {})
    if system.dim == 1 and plane.axes != usual:
        raise ValueError(f"plane must be x,m for one parameter, got {','.join(plane.axes)}")
    return plane


def panels(systems: Sequence[LionK], x: tuple[float, float], y: tuple[float, float]) -> tuple[Any, list[Any]]:
    """A new figure, and an axes with a title for each system."""
    if not systems:
        raise ValueError("systems must hold at least one LionK")
    across = 2 if len(systems) == 4 else min(3, len(systems))
    width, height = {1: (1, 3.3), 2: (2, 3.3), 3: (2, 2.6)}[across]
    fig, axes = figure(-(-len(systems) // across), across, width=width, height=height, squeeze=False)
    for ax in axes.flat[len(systems) :]:
        ax.set_axis_off()
    shown = list(axes.flat[: len(systems)])
    for ax, system in zip(shown, systems, strict=True):
        ax.set(xlim=x, ylim=y)
        ax.set_title(
            rf"{system.kappa!r}, $\lambda = {system.lam:g}$, $\varepsilon = {system.epsilon:g}$", fontsize=7
        )
    return fig, shown


def legend(fig: Any, axes: Sequence[Any]) -> None:
    """One legend below all panels, of every label that one of them has."""
    entries: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        entries |= {label: entries.get(label, handle) for handle, label in zip(handles, labels, strict=True)}
    if entries:
        columns = min(len(entries), 3 if fig.get_figwidth() < 5 else 6)
        fig.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, fontsize=7)
