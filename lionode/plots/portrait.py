"""Phase portraits: the (x, m) plane of one parameter; for two any plane of two of (x1, x2, m1, m2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.flow import simulate
from lionode.optimum import composite_optimum
from lionode.phase import Equilibrium, Plane, equilibria, limits, switching_lines
from lionode.plots.draw import FAR, SAMPLES, constraint_set, direction, optimum
from lionode.plots.style import COLORS
from lionode.system import LionK

__all__ = ["level_slice", "phase_plane", "portrait", "rest_points"]

GRID = 161
"""Points along each axis at which velocities and level sets are evaluated."""

SEARCH = {1: 161, 2: 15}
"""Starts along each axis from which equilibria are looked for, for one and two parameters."""

SAME = 1e-6
"""Two optima nearer than this are one: each is known to about 1e-10."""

MARKS = {"stable": ("*", 11.0), "saddle": ("X", 7.0), "degenerate": ("D", 5.0), "not": ("P", 8.0)}
"""Marker and size by the first word of an equilibrium's kind; ○ for any other."""

FILLS = {"node": COLORS["orange"], "focus": COLORS["sky"], "kink": COLORS["red"]}
"""Colour by the last word; white for any other."""


def phase_plane(
    ax: Any,
    system: LionK,
    starts: ArrayLike = (),
    *,
    t_end: float = 20.0,
    x: ArrayLike = (-2, 2),
    m: ArrayLike = (-2, 2),
    field: bool = True,
    color: str = COLORS["blue"],
) -> Any:
    """The (x, m) plane of a system of one parameter.

    Streamlines of the velocity, the nullclines ẋ = 0 and ṁ = 0, the lines on which κ switches with the
    segments on which the flow slides, all equilibria with their kinds, and trajectories.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    system : LionK
        Of one parameter, with a Hessian.
    starts : array_like, shape (n, 2)
        Starts (x, m) of trajectories.
    t_end : float
        How long they are followed.
    x, m : array_like, shape (2,)
        The limits of the plane.
    field : bool
        Whether to draw streamlines and nullclines.
    color : str
        Of the trajectories.

    Raises
    ------
    ValueError
        If the system has more than one parameter.
    """
    if system.dim != 1:
        raise ValueError(f"the (x, m) plane needs 1 parameter, the objective has {system.dim}; use portrait")
    xs, ms = (np.linspace(low, high, GRID) for low, high in (limits("x", x), limits("m", m)))
    rest = equilibria(system, xs[:, None])
    if field:
        _field(ax, system, xs, ms)
    for k, line in enumerate(switching_lines(system, xs)):
        labels = (r"$\tilde m$ at a kink", "sliding") if k == 0 else (None, None)
        ax.plot(line.x, line.m, "--", color="0.35", lw=0.8, label=labels[0], zorder=2)
        slides = np.where(line.slides, line.m, np.nan)
        ax.plot(line.x, slides, color=COLORS["red"], lw=3.0, label=labels[1], zorder=2.5)
    plane = Plane(("x", "m"), 1)
    for start in np.reshape(np.asarray(starts, dtype=np.float64), (-1, 2)):
        _path(ax, system, plane, start, t_end, color, arrows=0)
    ax.set(xlim=xs[[0, -1]], ylim=ms[[0, -1]])
    rest_points(ax, rest, plane)
    return label_axes(ax, plane)


def _field(ax: Any, system: LionK, xs: Array, ms: Array) -> None:
    columns, rows = np.meshgrid(xs, ms)
    dx, dm = (v[..., 0] for v in system.velocity(columns[..., None], rows[..., None]))
    ax.streamplot(xs, ms, dx, dm, color="0.8", linewidth=0.6, arrowsize=0.6, density=1.1, zorder=1)
    for values, color, label in (
        (dx, COLORS["green"], r"$\dot x = 0$"),
        (dm, COLORS["purple"], r"$\dot m = 0$"),
    ):
        if values.min() < 0 < values.max():
            ax.contour(xs, ms, values, [0.0], colors=[color], linewidths=1.0, zorder=2)
        ax.plot([], [], color=color, lw=1.0, label=label)


def _path(
    ax: Any, system: LionK, plane: Plane, start: ArrayLike, t_end: float, color: str, arrows: int
) -> Array:
    """Draw the flow from a point of the plane, and return where x ends."""
    x0, m0 = plane.states(start)
    flow = simulate(system, x0, t_end, m0)
    path = plane.project(*flow(np.linspace(0, flow.t[-1], SAMPLES)))
    # On a map of times white meets both ends of the scale: an edge keeps it apart from the light one.
    edge = [patheffects.withStroke(linewidth=2.4, foreground="0.2")] if color == "white" else []
    ax.plot(*path.T, color=color, lw=1.2, zorder=4, path_effects=edge)
    direction(ax, path, color, arrows)
    ax.plot(*path[0], "o", color=color, mfc="white", ms=4, zorder=5, path_effects=edge)
    end: Array = flow.x[-1]
    return end


def rest_points(ax: Any, points: Sequence[Equilibrium], plane: Plane) -> Any:
    """Equilibria within the limits of the axes, marked and labelled by their kind.

    Parameters
    ----------
    ax : Axes
        Where to draw; its limits are kept.
    points : sequence of Equilibrium
        From `lionode.equilibria`.
    plane : Plane
        What the axes are.
    """
    kinds = dict.fromkeys(point.kind for point in points)
    for kind in kinds:
        words = kind.split()
        (marker, size), color = MARKS.get(words[0], ("o", 6.0)), FILLS.get(words[-1], "white")
        places = np.array([plane.project(point.x, point.m) for point in points if point.kind == kind])
        shown = _within(ax, places)
        if shown.any():
            ax.plot(
                *places[shown].T, marker, color=color, mec="black", mew=0.7, ms=size, label=kind, zorder=6
            )
    return ax


def _within(ax: Any, points: Array) -> Any:
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    return ((points >= (left, low)) & (points <= (right, high))).all(axis=1)


def level_slice(ax: Any, system: LionK, plane: Plane, of: str = "H", *, count: int = 12) -> Any:
    """Level sets of f, F or H on a plane, spaced evenly in the root of the height; held values are written.

    Parameters
    ----------
    ax : Axes
        Where to draw; its limits are kept.
    system : LionK
        f, κ and the coefficients.
    plane : Plane
        What the axes are, and where the other coordinates are held.
    of : str
        "f", "F" = αf + (γ/λ)κ*(λ·) or "H"; the last two are drawn where they are finite.
    count : int
        How many levels.
    """
    xs, ys = (np.linspace(low, high, GRID) for low, high in (ax.get_xlim(), ax.get_ylim()))
    values = plane.level(system, np.stack(np.meshgrid(xs, ys), axis=-1), of)
    finite = values[np.isfinite(values)]
    if finite.size and np.ptp(finite) > 0:
        levels = finite.min() + np.linspace(0, 1, count + 1)[1:] ** 2 * np.ptp(finite)
        masked = np.ma.masked_invalid(values)
        ax.contour(xs, ys, masked, levels, colors="0.65", linestyles="solid", linewidths=0.6, zorder=1.5)
    ax.plot([], [], color="0.65", lw=0.8, label=f"levels of ${of}$")
    held = {name: value for name, value in plane.held.items() if of == "H" or name[0] == "x"}
    if held:
        text = ", ".join(rf"${_tex(name)} = {value:g}$" for name, value in held.items())
        ax.text(
            0.98, 0.02, rf"${of}$ at {text}", transform=ax.transAxes, ha="right", va="bottom", fontsize=6.5,
            zorder=7, bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 1.0},
        )  # fmt: skip
    return ax


def _tex(name: str) -> str:
    return f"{name[0]}_{{{name[1:]}}}"


def portrait(
    ax: Any,
    system: LionK,
    starts: ArrayLike,
    *,
    t_end: float = 20.0,
    plane: Plane | None = None,
    levels: str | None = "f",
    color: str = COLORS["blue"],
) -> Any:
    """A plane of two parameters: level sets, the constraint set, trajectories, equilibria with their kinds.

    Where f has no Hessian, or γ = 0, the composite optima that trajectories end at stand for the equilibria.

    Parameters
    ----------
    ax : Axes
        Where to draw; its limits are kept.
    system : LionK
        Of two parameters.
    starts : array_like, shape (n, 2)
        Points of the plane where trajectories start.
    t_end : float
        How long they are followed.
    plane : Plane, optional
        What the axes are: (x1, x2) with m held at 0 by default.
    levels : str or None
        Level sets of "f", "F" or "H".
    color : str
        Of the trajectories.

    Raises
    ------
    ValueError
        If the system has not two parameters.
    """
    if system.dim != 2:
        raise ValueError(f"a portrait needs 2 parameters, the objective has {system.dim}")
    plane = Plane(("x1", "x2"), 2) if plane is None else plane
    starts = np.reshape(_validate.array("starts", starts, last=2), (-1, 2))
    if levels is not None:
        level_slice(ax, system, plane, levels)
    constraint(ax, system, plane)
    ends = [_path(ax, system, plane, start, t_end, color, arrows=1) for start in starts]
    if system.objective.has_hessian and system.gamma > 0:
        rest_points(ax, equilibria(system, _search(ax, plane, ends)), plane)
    else:
        _optima(ax, system, plane, ends)
    return label_axes(ax, plane)


def label_axes(ax: Any, plane: Plane) -> Any:
    """The names of a plane's coordinates."""
    across, up = (name[0] if plane.dim == 1 else _tex(name) for name in plane.axes)
    ax.set(xlabel=f"${across}$", ylabel=f"${up}$")
    return ax


def _search(ax: Any, plane: Plane, ends: Sequence[Array]) -> Array:
    """A grid of x to look for equilibria from: what the axes show, and wherever trajectories end beyond."""
    shown = dict(zip(plane.axes, (ax.get_xlim(), ax.get_ylim()), strict=True))
    columns = []
    for i in range(plane.dim):
        reach = [end[i] for end in ends] or [0.0]
        low, high = shown.get(f"x{i + 1}", (min(reach) - 1, max(reach) + 1))
        columns.append(np.linspace(low, high, SEARCH[plane.dim]))
    grid = np.stack(np.meshgrid(*columns), axis=-1).reshape(-1, plane.dim)
    return np.concatenate([grid, np.reshape(ends, (-1, plane.dim))])


def constraint(ax: Any, system: LionK, plane: Plane) -> None:
    """The set λx ∈ dom κ* in the plane of x, and its shadow on an axis of x in another."""
    if system.lam == 0 or not any(name[0] == "x" for name in plane.axes):
        return
    if plane.axes == ("x1", "x2"):
        constraint_set(ax, system, color="none")
        return
    for name, line in zip(plane.axes, (ax.axvline, ax.axhline), strict=True):
        if name[0] == "x":
            far = np.zeros((2, system.dim))
            far[:, int(name[1:]) - 1] = FAR, -FAR
            if not system.kappa.contains(far).any():
                for row in system.kappa.project(far):
                    edge = row[int(name[1:]) - 1] / system.lam
                    line(edge, color="0.25", lw=1.0, ls="--", zorder=2)
                ax.plot([], [], color="0.25", lw=1.0, ls="--", label=r"$\lambda x\in\mathrm{dom}\,\kappa^*$")


def _optima(ax: Any, system: LionK, plane: Plane, ends: Sequence[Array]) -> None:
    found: list[Array] = []
    for end in ends:
        best = composite_optimum(system, end)
        if best.success and not any(np.allclose(best.x, other, atol=SAME) for other in found):
            found.append(best.x)
            m = np.zeros(2) if system.gamma == 0 else (
                -system.alpha / system.gamma * system.objective.gradient(best.x)
            )  # fmt: skip
            optimum(ax, plane.project(best.x, m), label=None if found[1:] else "composite optimum")
