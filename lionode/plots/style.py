"""One visual language for all figures: sizes, colours, and how a figure is written."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib import pyplot as plt
from PIL import Image, ImageDraw, ImageFont

from lionode import storage

__all__ = ["COLORS", "WIDTHS", "canvas", "contact_sheet", "context", "figure", "save", "shades"]

COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
}
"""Okabe and Ito's palette: told apart with any colour vision."""

DPI = 200
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
            "mathtext.fontset": "dejavusans",  # of one size and weight with the text
            "pdf.fonttype": 42,  # outlines that journals accept and editors can search
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
    fig.savefig(paths[0], dpi=DPI, metadata={"Software": None})
    fig.savefig(paths[1], metadata={"CreationDate": None, "Producer": None, "Creator": None})
    plt.close(fig)
    return paths


def contact_sheet(pictures: Sequence[Path], target: Path, *, columns: int = 3, width: int = 640) -> Path:
    """One PNG with all pictures and their names, all at one scale, in columns that are filled evenly.

    Parameters
    ----------
    pictures : sequence of Path
        PNG files, in the order they are shown.
    target : Path
        Where to write.
    columns, width : int, optional
        The columns, and their width in pixels: that of a figure of two page columns.
    """
    gap = width // 20
    scale = width / (WIDTHS[2] * DPI)
    heights = [gap] * columns
    placed = []
    for path in pictures:
        with Image.open(path) as picture:
            size = (round(picture.width * scale), round(picture.height * scale))
            small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        column = heights.index(min(heights))
        placed.append((path.stem, small, (gap + column * (width + gap), heights[column])))
        heights[column] += small.height + gap
    sheet = Image.new("RGB", (gap + columns * (width + gap), max(heights)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=gap * 0.6)
    for name, small, (left, top) in placed:
        sheet.paste(small, (left, top))
        pen.text((left, top - 0.8 * gap), name, fill="gray", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return storage.write_atomically(target, buffer.getvalue())
