"""The only home of matplotlib: Axes in, Axes out."""

from lionode.plots.animation import animate
from lionode.plots.draw import (
    certificate,
    constraint_set,
    level_sets,
    lyapunov,
    optimum,
    phase1,
    trajectory,
    verification,
)
from lionode.plots.maps import basin_colors, basin_map, time_bar, time_map, time_scale
from lionode.plots.multiples import portraits
from lionode.plots.portrait import level_slice, phase_plane, portrait, rest_points
from lionode.plots.style import COLORS, WIDTHS, contact_sheet, context, figure, save, shades

__all__ = [
    "COLORS",
    "WIDTHS",
    "animate",
    "basin_colors",
    "basin_map",
    "certificate",
    "constraint_set",
    "contact_sheet",
    "context",
    "figure",
    "level_sets",
    "level_slice",
    "lyapunov",
    "optimum",
    "phase1",
    "phase_plane",
    "portrait",
    "portraits",
    "rest_points",
    "save",
    "shades",
    "time_bar",
    "time_map",
    "time_scale",
    "trajectory",
    "verification",
]
