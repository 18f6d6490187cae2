"""Runs, losses, constraint sets and certificates: each function takes Axes and returns them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lionode.lyapunov import Certificate
from lionode.lyapunov import lyapunov as evaluate
from lionode.objectives.base import Objective
from lionode.plots.style import COLORS, canvas
from lionode.system import LionK
from lionode.trajectory import Trajectory

__all__ = [
    "certificate",
    "constraint_set",
    "level_sets",
    "lyapunov",
    "optimum",
    "phase1",
    "trajectory",
    "verification",
]

FAR = 100.0
"""From this far away nearly every direction projects on a corner or a curved part of dom κ*."""

SAMPLES = 2000
"""Points of a path: a turn that fits between two of them cannot be seen."""

VERDICT_COLORS = {"held": COLORS["green"], "violated": COLORS["red"], "not applicable": "0.5"}


def trajectory(
    ax: Any, run: Trajectory, *, color: str = COLORS["blue"], label: str | None = None, arrows: int = 3
) -> Any:
    """The path of two parameters: a line with arrows for a flow, points for updates; ○ start, ● end.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    run : Trajectory
        Of a system with at least two parameters; the first two are drawn.
    color, label : str
        As in matplotlib.
    arrows : int
        How many arrows, at equal arc lengths.
    """
    _two_parameters(run.system)
    if "lr" in run.info:
        path = run.x[:, :2]
        ax.plot(*path.T, ".", color=color, ms=2.5, label=label, zorder=3)
    else:
        path = run(np.linspace(0, run.t[-1], SAMPLES))[0][:, :2]
        ax.plot(*path.T, color=color, label=label, zorder=3)
        direction(ax, path, color, arrows)
    ax.plot(*path[0], "o", color=color, mfc="white", ms=5, zorder=4)
    ax.plot(*path[-1], "o", color=color, ms=5, zorder=4)
    return ax


def direction(ax: Any, path: Any, color: str, count: int) -> None:
    """Arrows on a path, shape (n, 2), at equal arc lengths."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    for share in np.arange(1, count + 1) / (count + 1):
        k = max(1, int(np.searchsorted(length, share * length[-1])))
        style = {"arrowstyle": "-|>", "color": color, "lw": 0, "mutation_scale": 9}
        ax.annotate("", xy=path[k], xytext=path[k - 1], arrowprops=style, zorder=4)


def level_sets(ax: Any, objective: Objective, *, count: int = 12) -> Any:
    """Level sets of f within the limits of the axes, spaced evenly in √(f − min f).

    Parameters
    ----------
    ax : Axes
        Where to draw; its limits are kept.
    objective : Objective
        f of two parameters.
    count : int
        How many levels.
    """
    if objective.dim != 2:
        raise ValueError(
            f"level sets need an objective of 2 parameters, {objective.name} has {objective.dim}"
        )
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    x, y = np.meshgrid(np.linspace(left, right, 200), np.linspace(low, high, 200))
    values = objective.value(np.stack([x, y], axis=-1))
    levels = values.min() + np.linspace(0, 1, count + 1)[1:] ** 2 * np.ptp(values)
    ax.contour(x, y, values, levels, colors="0.75", linewidths=0.6, zorder=1)
    return ax


def constraint_set(
    ax: Any,
    system: LionK,
    *,
    label: str | None = r"$\lambda x\in\mathrm{dom}\,\kappa^*$",
    color: str = "#56B4E922",
) -> Any:
    """The set {x : λx ∈ dom κ*} of the composite problem, shaded, for any κ in two parameters.

    Parameters
    ----------
    ax : Axes
        Where to draw. Nothing is drawn where κ* is finite everywhere.
    system : LionK
        λ > 0 and κ.
    label, color : str
        As in matplotlib; "none" leaves the inside as it is.
    """
    _two_parameters(system)
    if system.lam == 0:
        raise ValueError("lam must be > 0 for a constraint set: with lam = 0 there is none")
    angle = np.linspace(0, 2 * np.pi, 1440, endpoint=False)
    circle = FAR * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    if not system.kappa.contains(circle).all():
        boundary = system.kappa.project(circle) / system.lam
        ax.fill(*boundary.T, fc=color, ec="0.25", lw=1.0, ls="--", label=label, zorder=2)
    return ax


def optimum(ax: Any, x: Any, *, label: str | None = "composite optimum", size: float = 11) -> Any:
    """A star at x, shape (2,), ``size`` points across."""
    style = {"color": COLORS["orange"], "mec": "black", "mew": 0.6, "ms": size}
    ax.plot(*np.asarray(x)[:2], "*", label=label, zorder=5, **style)
    return ax


def lyapunov(ax: Any, run: Trajectory, *, color: str = COLORS["blue"], label: str | None = "$H(x,m)$") -> Any:
    """H along the run against time, from where it is finite.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    run : Trajectory
        A flow or a run of updates.
    color, label : str
        As in matplotlib.
    """
    values = evaluate(run.system, run.x, run.m)
    finite = np.isfinite(values)
    ax.plot(run.t[finite], values[finite], color=color, label=label)
    ax.set_xlabel("$t$")
    return ax


def phase1(ax: Any, run: Trajectory, *, color: str = COLORS["blue"], label: str | None = None) -> Any:
    """dist(λx, dom κ*) against time until entry, relative to the start, and the bound e^{−λt}, dashed.

    Parameters
    ----------
    ax : Axes
        Where to draw; its y axis becomes logarithmic.
    run : Trajectory
        A flow that starts outside.
    color, label : str
        As in matplotlib.
    """
    kappa, lam = run.system.kappa, run.system.lam
    distance = kappa.distance(lam * run.x)
    outside = distance > 0
    if not outside[0]:
        raise ValueError("the run starts inside dom κ*: it has no phase 1")
    end = len(outside) if outside.all() else int(np.argmin(outside))
    ax.semilogy(run.t[:end], distance[:end] / distance[0], color=color, label=label)
    ax.semilogy(run.t, np.exp(-lam * run.t), "--", color="0.4", lw=0.9, zorder=1)
    ax.set_xlabel("$t$")
    return ax


def verification(run: Trajectory, cert: Certificate) -> Any:
    """A new figure of one run: its path (or x against time), H against time, and its certificate.

    Parameters
    ----------
    run : Trajectory
        From `lionode.simulate` or `lionode.iterate`.
    cert : Certificate
        Its certificate.

    Returns
    -------
    Figure
    """
    fig = canvas(height=5.2)
    above, below = fig.subfigures(2, 1)
    left, right = above.subplots(1, 2)
    if run.system.dim == 2:
        if run.system.lam > 0:
            constraint_set(left, run.system)
        trajectory(left, run, label="trajectory")
        left.margins(0.1)
        level_sets(left, run.system.objective)
        left.set(xlabel="$x_1$", ylabel="$x_2$")
        left.legend(fontsize=6.5)
    else:
        left.plot(run.t, run.x)
        left.set(xlabel="$t$", ylabel="$x$")
    lyapunov(right, run)
    right.set_ylabel("$H(x, m)$")
    certificate(below, cert)
    return fig


def certificate(fig: Any, cert: Certificate) -> Any:
    """The lines of a certificate as a table: claim, verdict, measured number, bound.

    Parameters
    ----------
    fig : Figure
        Where to draw; one Axes is added.
    cert : Certificate
        From `lionode.certify`.
    """
    ax = fig.subplots()
    ax.set_axis_off()
    ax.set_title(f"Certificate: {'holds' if cert.holds else 'does not hold'}", loc="left")
    for row, check in enumerate(cert.checks):
        y = 1 - (row + 1) / (len(cert.checks) + 1)
        number = "" if np.isnan(check.value) else f"{check.value:.2e}"
        bound = "" if np.isnan(check.bound) else f"≤ {check.bound:.1e}"
        color = VERDICT_COLORS[check.verdict]
        for x, text, shade in (
            (0.0, check.claim, "black"), (0.46, str(check.verdict), color), (0.68, number, "black"),
            (0.85, bound, "0.4"),
        ):  # fmt: skip
            ax.text(x, y, text, color=shade, va="center", transform=ax.transAxes)
    return ax


def _two_parameters(system: LionK) -> None:
    if system.dim < 2:
        raise ValueError(f"a picture in the plane needs 2 parameters, the objective has {system.dim}")
