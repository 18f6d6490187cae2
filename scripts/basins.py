"""Basins of Himmelblau's function under Lion's flow and gradient flow, and what ε and λ do to them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

SIDE = (-5.0, 5.0)
LAMS = (0.05, 0.2)
"""The box 1/λ holds the whole square, and with it all four minima."""
EPSILONS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
SHOWN = (0.2, 0.5)
SMOOTH = ln.kappas.PseudoHuber(0.01)
"""Near ‖·‖₁, and in compiled lanes."""
END = 40.0
CHECKED = 41
"""Starts along each side for Lion's own κ, which takes longer."""


def flow(kappa: ln.kappas.Potential, epsilon: float, lam: float) -> ln.LionK:
    return ln.LionK(ln.objectives.himmelblau(), kappa, epsilon=epsilon, lam=lam)


def edges(label: np.ndarray) -> float:
    """The share of cells that have another label than the one to the left, or below."""
    across, up = label[:, 1:] != label[:, :-1], label[1:] != label[:-1]
    return float((across[1:] | up[:, 1:]).mean())


class Ends(NamedTuple):
    """Where flows end: what is kept of `ln.basins`, which holds all their paths."""

    label: np.ndarray
    unsettled: int
    saddles: int


def ends(epsilon: float, lam: float, starts: np.ndarray) -> Ends:
    found = ln.basins(flow(SMOOTH, epsilon, lam), starts, END)
    saddles = sum(rest.kind == "saddle" for rest in found.equilibria)
    return Ends(found.label, int((found.settling_time == np.inf).sum()), saddles)


def run(out: Path, full: bool = False, cells: int = 81) -> list[Row]:
    starts = ln.start_grid(SIDE, SIDE, 201 if full else cells)
    # εγ = 1, λ = 0 and quadratic κ: m̃ = −∇f(x), so that x follows gradient flow.
    descent = flow(ln.kappas.Quadratic(), 1.0, 0.0)
    reference = ln.basins(descent, starts, END)
    found = {(lam, epsilon): ends(epsilon, lam, starts) for lam in LAMS for epsilon in EPSILONS}
    differs = {key: float((e.label != reference.label).mean()) for key, e in found.items()}
    lion = ln.basins(flow(SMOOTH, SHOWN[1], SHOWN[0]), starts, END)

    fig, axes = plots.figure(1, 3, height=2.75)
    passes = [p for p in ln.equilibria(descent, ln.start_grid(SIDE, SIDE, 15)) if p.kind == "saddle"]
    titles = ("gradient flow", rf"Lion, $\lambda = {SHOWN[0]:g}$, $\varepsilon = {SHOWN[1]:g}$")
    for ax, basins, title in zip(axes, (reference, lion), titles, strict=False):
        _map(ax, basins, passes, title)
    for lam, color, style in zip(LAMS, ("orange", "blue"), ("s--", "o-"), strict=True):
        shares = [100 * differs[lam, epsilon] for epsilon in EPSILONS]
        axes[2].plot(
            EPSILONS, shares, style, ms=3.5, color=plots.COLORS[color], label=rf"$\lambda = {lam:g}$"
        )
    axes[2].set(
        xlabel=r"$\varepsilon$ ($\gamma = 1$)", ylabel="starts in another basin, %", ylim=(0, None),
        title="Lion against gradient flow",
    )  # fmt: skip
    axes[2].legend(loc="lower left")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower left", ncols=len(labels), fontsize=7)
    plots.save(fig, "basins", out)
    return _rows(starts, descent, reference, found, differs, passes)


def _map(ax: Any, basins: ln.Basins, passes: list[ln.Equilibrium], title: str) -> None:
    plane = ln.Plane(("x1", "x2"), 2)
    ax.set(xlim=SIDE, ylim=SIDE, xlabel="$x_1$", ylabel="$x_2$", title=title)
    plots.basin_map(ax, basins, SIDE, SIDE)
    plots.level_slice(ax, flow(SMOOTH, 0.5, 0.2), plane, "f")
    plots.rest_points(ax, [*basins.equilibria, *passes], plane)
    for rest, share in zip(basins.equilibria, basins.shares, strict=True):
        ax.annotate(
            f"{100 * share:.0f} %", rest.x, (0, 8), textcoords="offset points", ha="center", fontsize=7.5
        )


def _rows(
    starts: np.ndarray,
    descent: ln.LionK,
    reference: ln.Basins,
    found: dict[tuple[float, float], Ends],
    differs: dict[tuple[float, float], float],
    passes: list[ln.Equilibrium],
) -> list[Row]:
    f, lam = descent.objective, SHOWN[0]
    lowest = min(float(f.value(p.x)) for p in passes)
    # With m = 0 the flow starts at H = f + (γ/λ + c)κ*(λx) + cκ(0), and f ≤ H − (γ/λ)κ*(λx) from then on:
    # with −2e ≤ κ* ≤ 0 and κ(0) = 2e, e = 0.01, f can rise by (1/λ + 1)2e at most.
    slack = 2 * SMOOTH.e * (1 / min(LAMS) + 1)
    below = f.value(starts) < lowest - slack
    moved = sum(int((e.label != reference.label)[below].sum()) for e in found.values())
    astray = sum(e.unsettled + e.saddles for e in found.values())
    few = ln.start_grid(SIDE, SIDE, CHECKED)
    exact, smooth = (
        ln.basins(flow(k, SHOWN[1], lam), few, END, samples=101) for k in (ln.kappas.L1(), SMOOTH)
    )
    grid = f"{len(starts)}² starts in [−5, 5]², m = 0; λ = {lam:g}, ε = {SHOWN[1]:g}"
    return [
        Row("basins", "Lion has other basins than gradient flow",
            f"share of {grid} whose basin differs; needed: twice the share of cells at an edge",
            differs[SHOWN], low=2 * edges(reference.label)),
        Row("basins", "H holds a start below the lowest pass in its basin",
            f"of {below.sum()} starts with f < {lowest - slack:.3g}, over all (λ, ε): in another basin",
            moved, high=0),
        Row("basins", "momentum moves them: the share falls as ε grows to 1/γ",
            f"share at ε = {EPSILONS[0]:g} over share at εγ = 1, λ = {lam:g}",
            differs[lam, EPSILONS[0]] / differs[lam, EPSILONS[-1]], low=1.0),
        Row("basins", "every start settles, and none at a saddle",
            f"of {starts[..., 0].size} × {len(found)} flows: unsettled, or saddles reached", astray, high=0),
        Row("basins", "a smooth κ near ‖·‖₁ has Lion's basins",
            f"share of {few[..., 0].size} starts with another basin under ‖·‖₁ than under {SMOOTH!r}; "
            "allowed: the share of cells at an edge", float((exact.label != smooth.label).mean()),
            high=edges(found[SHOWN].label)),
    ]  # fmt: skip


if __name__ == "__main__":
    alone(run)
