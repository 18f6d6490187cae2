"""Maps over a grid of starts: the basin that each lies in, and when its flow enters or settles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.phase import UNSETTLED, Basins, limits
from lionode.plots.style import COLORS, shades

__all__ = ["MAPS", "basin_colors", "basin_map", "time_bar", "time_map", "time_scale"]

MAPS = {
    "basins": "the equilibrium that the flow ends at",
    "entry": r"time at which $\lambda x$ enters $\mathrm{dom}\,\kappa^*$",
    "settling": r"time at which $x$ settles",
}
"""What a map can show."""

TINT = 0.55
"""How much white is mixed into the colours of basins, so that lines and marks on them can be read."""

NEVER = "0.82"
OTHER = {"not settled": "white", "ends at a saddle": "0.55"}


def basin_colors(found: Basins) -> list[Any]:
    """A colour for each equilibrium of `found`: grey for those that are not stable."""
    stable = sum(rest.kind.startswith("stable") for rest in found.equilibria)
    colors = iter(list(COLORS.values()) if stable <= len(COLORS) else shades(stable))
    return [
        next(colors) if rest.kind.startswith("stable") else OTHER["ends at a saddle"]
        for rest in found.equilibria
    ]


def basin_map(ax: Any, found: Basins, x: ArrayLike, y: ArrayLike) -> Any:
    """Each start in the colour of the equilibrium that its flow ends at; white where it has not settled.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    found : Basins
        Of the starts of `start_grid`.
    x, y : array_like, shape (2,)
        The limits of that grid.

    Raises
    ------
    ValueError
        If the starts are not a grid.
    """
    colors = [to_rgb(color) for color in basin_colors(found)]
    tinted = [tuple((1 - TINT) * part + TINT for part in color) for color in colors]
    shown = ListedColormap([to_rgb(OTHER["not settled"]), *tinted])
    _image(ax, found.label - UNSETTLED, x, y, cmap=shown, vmin=-0.5, vmax=len(tinted) + 0.5)
    kinds = {"not settled": (found.label == UNSETTLED).any()}
    kinds["ends at a saddle"] = not all(rest.kind.startswith("stable") for rest in found.equilibria)
    for label, present in kinds.items():
        if present:
            ax.plot([], [], "s", mfc=OTHER[label], mec="0.3", mew=0.5, ms=6, label=label)
    return ax


def time_scale(founds: Sequence[Basins], of: str) -> Normalize:
    """One colour scale for the times of several maps, from 0 to the latest."""
    times = np.concatenate([_times(found, of).ravel() for found in founds])
    finite = times[np.isfinite(times)]
    return Normalize(0.0, float(finite.max(initial=0.0)) or 1.0)


def time_map(ax: Any, found: Basins, x: ArrayLike, y: ArrayLike, of: str, norm: Normalize) -> Any:
    """The entry or settling time of each start; grey where there was none by the end.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    found : Basins
        Of the starts of `start_grid`.
    x, y : array_like, shape (2,)
        The limits of that grid.
    of : str
        "entry" or "settling".
    norm : Normalize
        From `time_scale`.

    Raises
    ------
    ValueError
        If the starts are not a grid, or `of` is neither.
    """
    times = _times(found, of)
    ax.set_facecolor(NEVER)
    _image(ax, np.ma.masked_invalid(times), x, y, cmap="cividis", norm=norm)
    if np.isinf(times).any():
        ax.plot([], [], "s", mfc=NEVER, mec="0.3", mew=0.5, ms=6, label=f"not by $t = {found.flows.t[-1]:g}$")
    return ax


def time_bar(fig: Any, axes: Sequence[Any], of: str, norm: Normalize) -> None:
    """The colour scale of the time maps in some axes."""
    image = axes[0].images[0]
    bar = fig.colorbar(image, ax=list(axes), norm=norm, pad=0.02)
    bar.set_label(MAPS[of], fontsize=8)


def _times(found: Basins, of: str) -> Array:
    _validate.choice("of", of, ("entry", "settling"))
    return found.entry_time if of == "entry" else found.settling_time


def _image(ax: Any, values: Any, x: ArrayLike, y: ArrayLike, **options: Any) -> None:
    if values.ndim != 2:
        raise ValueError(f"a map needs a grid of starts, got starts of shape {values.shape}")
    extent = (*limits("x", x), *limits("y", y))
    ax.imshow(
        values, origin="lower", extent=extent, aspect="auto", interpolation="nearest", zorder=0.5, **options
    )
