"""One visual language for all figures: sizes, colours, and how a figure is written."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib import pyplot as plt

__all__ = ["COLORS", "WIDTHS", "canvas", "context", "figure", "save", "shades"]

COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
}
"""Okabe and Ito's palette: told apart with any colour vision."""

WIDTHS = {1: 3.4, 2: 7.0}
"""Inches: one and two columns of a two-column page."""


def context() -> AbstractContextManager[None]:
    """The settings of every figure."""
    return mpl.rc_context(
        {
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.labelsize": 9,
            "legend.fontsize": 8,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "mathtext.fontset": "cm",
            "axes.prop_cycle": cycler(color=list(COLORS.values())),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "lines.linewidth": 1.4,
            "figure.constrained_layout.use": True,
        }
    )


def shades(count: int) -> list[Any]:
    """Colours for an ordered parameter, light to dark: their order shows in grey too."""
    return [mpl.colormaps["cividis_r"](0.1 + 0.85 * i / max(1, count - 1)) for i in range(count)]


def figure(rows: int = 1, columns: int = 1, *, width: int = 2, height: float = 2.6, **kwargs: Any) -> Any:
    """A figure of one or two page columns, ``height`` inches a row, and its axes."""
    return plt.subplots(rows, columns, figsize=(WIDTHS[width], height * rows), **kwargs)


def canvas(*, width: int = 2, height: float = 2.6) -> Any:
    """An empty figure of one or two page columns, ``height`` inches high."""
    return plt.figure(figsize=(WIDTHS[width], height))


def save(fig: Any, name: str, out: str | os.PathLike[str]) -> list[Path]:
    """Write ``name.png`` and ``name.pdf`` into a folder and close the figure; the files hold no dates."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
    fig.savefig(paths[0], dpi=200, metadata={"Software": None})
    fig.savefig(paths[1], metadata={"CreationDate": None, "Producer": None, "Creator": None})
    plt.close(fig)
    return paths
