"""Phase portraits: the (x, m) plane of one parameter, the parameter plane of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.flow import simulate
from lionode.optimum import composite_optimum
from lionode.phase import equilibrium, switching_lines
from lionode.plots.draw import constraint_set, level_sets, optimum, trajectory
from lionode.plots.style import COLORS, figure
from lionode.system import LionK

__all__ = ["phase_plane", "portrait", "portraits"]

GRID = 161

SAME = 1e-6
"""Two optima nearer than this are one: each is known to about 1e-10."""


def phase_plane(
    ax: Any,
    system: LionK,
    starts: ArrayLike = (),
    *,
    t_end: float = 20.0,
    x: ArrayLike = (-2, 2),
    m: ArrayLike = (-2, 2),
) -> Any:
    """The (x, m) plane of a system of one parameter.

    Streamlines of the velocity, the nullclines ẋ = 0 and ṁ = 0, the lines on which κ switches with the
    segments on which the flow slides, the equilibrium with its kind, and trajectories.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    system : LionK
        Of one parameter.
    starts : array_like, shape (n, 2)
        Starts (x, m) of trajectories.
    t_end : float
        How long they are followed.
    x, m : array_like, shape (2,)
        The limits of the plane.

    Raises
    ------
    ValueError
        If the system has more than one parameter.
    """
    if system.dim != 1:
        raise ValueError(f"the (x, m) plane needs 1 parameter, the objective has {system.dim}; use portrait")
    xs, ms = _axis("x", x), _axis("m", m)
    columns, rows = np.meshgrid(xs, ms)
    dx, dm = (v[..., 0] for v in system.velocity(columns[..., None], rows[..., None]))
    ax.streamplot(xs, ms, dx, dm, color="0.8", linewidth=0.6, arrowsize=0.6, density=1.1, zorder=1)
    for values, color, label in (
        (dx, COLORS["green"], r"$\dot x = 0$"),
        (dm, COLORS["purple"], r"$\dot m = 0$"),
    ):
        ax.contour(xs, ms, values, [0.0], colors=[color], linewidths=1.0, zorder=2)
        ax.plot([], [], color=color, lw=1.0, label=label)
    for k, line in enumerate(switching_lines(system, xs)):
        labels = (r"$\tilde m$ at a kink", "sliding") if k == 0 else (None, None)
        ax.plot(line.x, line.m, "--", color="0.35", lw=0.8, label=labels[0], zorder=2)
        slides = np.where(line.slides, line.m, np.nan)
        ax.plot(line.x, slides, color=COLORS["red"], lw=2.0, label=labels[1], zorder=3)
    for start in np.reshape(np.asarray(starts, dtype=np.float64), (-1, 2)):
        flow = simulate(system, start[:1], t_end, start[1:])
        path = flow.evaluate(np.linspace(0, flow.t[-1], 2000))[:, :2]
        ax.plot(*path.T, color=COLORS["blue"], zorder=4)
        ax.plot(*path[0], "o", color=COLORS["blue"], mfc="white", ms=4, zorder=5)
    rest = equilibrium(system)
    ax.plot(
        *rest.x, *rest.m, "*", color=COLORS["orange"], mec="black", mew=0.6, ms=11, label=rest.kind, zorder=6
    )
    ax.set(xlim=xs[[0, -1]], ylim=ms[[0, -1]], xlabel="$x$", ylabel="$m$")
    return ax


def _axis(name: str, limits: ArrayLike) -> Array:
    low, high = _validate.vector(name, limits, dim=2)
    if low >= high:
        raise ValueError(f"{name} must be limits in increasing order, got {low:g}, {high:g}")
    return np.linspace(low, high, GRID)


def portrait(ax: Any, system: LionK, starts: ArrayLike, *, t_end: float = 20.0) -> Any:
    """The plane of two parameters: level sets of f, the constraint set, trajectories, the optima they end at.

    Parameters
    ----------
    ax : Axes
        Where to draw; its limits are kept.
    system : LionK
        Of two parameters.
    starts : array_like, shape (n, 2)
        Where trajectories start, with m = 0.
    t_end : float
        How long they are followed.
    """
    level_sets(ax, system.objective)
    if system.lam > 0:
        constraint_set(ax, system, label=None)
    found: list[Array] = []
    for start in np.atleast_2d(_validate.array("starts", starts, last=2)):
        flow = simulate(system, start, t_end)
        trajectory(ax, flow, arrows=1)
        # For non-convex f there are several: each is looked for where a trajectory ends.
        best = composite_optimum(system, flow.x[-1])
        if best.success and not any(np.allclose(best.x, other, atol=SAME) for other in found):
            found.append(best.x)
            optimum(ax, best.x, label=None)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    return ax


def portraits(
    systems: Sequence[LionK],
    starts: ArrayLike,
    *,
    t_end: float = 20.0,
    x: ArrayLike = (-2, 2),
    y: ArrayLike = (-2, 2),
) -> Any:
    """Small multiples: one panel for each system, of one or of two parameters, in a new figure.

    Parameters
    ----------
    systems : sequence of LionK
        Titles name κ, and λ and ε.
    starts : array_like, shape (n, 2)
        (x, m) for one parameter, x for two.
    t_end : float
        How long trajectories are followed.
    x, y : array_like, shape (2,)
        The limits of each panel.

    Returns
    -------
    Figure
    """
    if not systems:
        raise ValueError("systems must hold at least one LionK")
    across = 2 if len(systems) == 4 else min(3, len(systems))
    fig, axes = figure(-(-len(systems) // across), across, height=2.4, squeeze=False)
    for ax, system in zip(axes.flat, systems, strict=False):
        ax.set(xlim=x, ylim=y)
        if system.dim == 1:
            phase_plane(ax, system, starts, t_end=t_end, x=x, m=y)
        else:
            portrait(ax, system, starts, t_end=t_end)
        ax.set_title(
            rf"{system.kappa!r}, $\lambda = {system.lam:g}$, $\varepsilon = {system.epsilon:g}$", fontsize=7
        )
    for ax in axes.flat[len(systems) :]:
        ax.set_axis_off()
    return fig
