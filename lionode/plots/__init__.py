"""The only home of matplotlib: Axes in, Axes out."""

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
from lionode.plots.portrait import phase_plane, portrait, portraits
from lionode.plots.style import COLORS, WIDTHS, contact_sheet, context, figure, save, shades

__all__ = [
    "COLORS",
    "WIDTHS",
    "certificate",
    "constraint_set",
    "contact_sheet",
    "context",
    "figure",
    "level_sets",
    "lyapunov",
    "optimum",
    "phase1",
    "phase_plane",
    "portrait",
    "portraits",
    "save",
    "shades",
    "trajectory",
    "verification",
]
