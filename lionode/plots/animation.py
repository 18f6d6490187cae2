"""Thousands of starts moving with the flow, as a film."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import animation
from matplotlib import pyplot as plt
from numpy.typing import ArrayLike

from lionode import _validate, storage
from lionode.phase import LEVELS, UNSETTLED, basins, limits
from lionode.plots.maps import basin_colors
from lionode.plots.multiples import legend, panels, plane_of
from lionode.plots.portrait import constraint, label_axes, level_slice, rest_points
from lionode.system import LionK

__all__ = ["animate", "film_path"]

WRITERS = {".mp4": "ffmpeg", ".gif": "pillow"}
"""matplotlib's writer for each ending."""

DPI = 120
ADRIFT = "0.6"
"""The colour of starts that do not settle."""


def animate(
    path: str | os.PathLike[str],
    systems: Sequence[LionK],
    starts: ArrayLike,
    *,
    t_end: float = 20.0,
    x: ArrayLike = (-2, 2),
    y: ArrayLike = (-2, 2),
    plane: tuple[str, str] | None = None,
    held: Mapping[str, float] | None = None,
    levels: str | None = None,
    frames: int = 120,
    fps: int = 20,
    within: float = 1e-3,
) -> Path:
    """Write a film of many starts that move with the flow, a panel for each system.

    Each start is a dot in the colour of the equilibrium that it ends at, grey if it does not settle. The
    film is written under another name, and renamed when it is complete.

    Parameters
    ----------
    path : path
        Ending in .mp4, which needs ffmpeg, or in .gif; without an ending, the first of them that can be had.
    systems : sequence of LionK
        Of one or two parameters.
    starts : array_like, shape (..., 2)
        Points of the plane, for example of `start_grid`.
    t_end : float
        The time of the last frame; the first is at 0.
    x, y, plane, held, levels, within :
        As for `portraits`; no level sets by default.
    frames, fps : int
        How many frames, at least 2, and how many of them a second.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is named above, or .mp4 is asked for and there is no ffmpeg.
    OSError
        If the folder is not there or cannot be written; found before anything runs.
    """
    target = film_path(path)
    frames, fps = _validate.count("frames", frames, minimum=2), _validate.count("fps", fps)
    starts = _validate.array("starts", starts, last=2).reshape(-1, 2)
    planes = [plane_of(system, plane, held) for system in systems]
    x, y = limits("x", x), limits("y", y)
    if levels is not None:
        _validate.choice("levels", levels, LEVELS)
    fig, axes = panels(systems, x, y)
    paths, dots = [], []
    for ax, system, own in zip(axes, systems, planes, strict=True):
        x0s, m0s = own.states(starts)
        found = basins(system, x0s, t_end, m0s, within=within, samples=frames)
        colors = np.array([*basin_colors(found), ADRIFT])[found.label] if found.equilibria else ADRIFT
        if levels is not None:
            level_slice(ax, system, own, levels)
        constraint(ax, system, own)
        rest_points(ax, found.equilibria, own)
        label_axes(ax, own)
        if (found.label == UNSETTLED).any():
            ax.plot([], [], "o", color=ADRIFT, ms=3, label="not settled")
        paths.append(own.project(found.flows.x, found.flows.m))
        dots.append(ax.scatter(*starts.T, s=3, c=colors, linewidths=0, zorder=3))
    legend(fig, axes)
    clock = fig.suptitle("$t = 0.00$", fontsize=9)
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # found once: laid out anew, each frame would take twice as long and shake
    writer = animation.writers[WRITERS[target.suffix]](fps=fps)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / target.name
        with writer.saving(fig, str(whole), DPI):
            for k, t in enumerate(np.linspace(0, t_end, frames)):
                clock.set_text(f"$t = {t:.2f}$")
                for drawn, path_of in zip(dots, paths, strict=True):
                    drawn.set_offsets(path_of[:, k])
                writer.grab_frame()
        plt.close(fig)
        return storage.write_atomically(target, whole.read_bytes())


def film_path(path: str | os.PathLike[str]) -> Path:
    """Where a film will be written: the path with an ending that there is a writer for.

    Raises
    ------
    ValueError
        If the ending is another, or .mp4 and there is no ffmpeg.
    OSError
        If the folder is not there or cannot be written.
    """
    target = Path(path)
    ffmpeg = animation.writers.is_available("ffmpeg")
    if not target.suffix:
        target = target.with_suffix(".mp4" if ffmpeg else ".gif")
    if target.suffix not in WRITERS:
        raise ValueError(f"a film must end in {' or '.join(WRITERS)}, got {os.fspath(path)!r}")
    if target.suffix == ".mp4" and not ffmpeg:
        raise ValueError(f"{target.name} needs ffmpeg, which was not found: install it, or end in .gif")
    folder = target.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"a film must lie in an existing folder, {folder} is none")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written")
    return target
