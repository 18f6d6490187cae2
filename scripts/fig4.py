"""Figure 4: the potentials of the catalogue, each with an optimum inside and outside its constraint set."""

from pathlib import Path

import numpy as np

import lionode as ln
from lionode import kappas, plots
from lionode.reproduce import Row, alone

LAM, END, RTOL = 0.8, 25.0, 1e-7
TARGETS = {"inside": ((0.35, 0.25), "blue"), "outside": ((2.0, 1.3), "red")}
"""Where f is least. The set of LogSumExp, a simplex, has no inside in the plane."""
START = (-1.6, 1.9)
PAPER = {"L1": "①", "Lp": "②", "SoftThreshold": "③", "TopK": "④", "Huber": "⑤"}
ARGUMENTS = {
    "SoftThreshold": {"e": 0.4}, "Huber": {"e": 0.4}, "PseudoHuber": {"e": 0.4}, "LogCosh": {"e": 0.4},
    "Power": {"p": 3.0}, "Lp": {"p": 3.0}, "TopK": {"k": 1}, "GroupL2": {"groups": [[0], [1]]},
    "Nuclear": {"shape": [1, 2]},
}  # fmt: skip


def run(out: Path, full: bool = False) -> list[Row]:
    names = [*PAPER, *(cls.__name__ for cls in kappas.REGISTRY.values() if cls.__name__ not in PAPER)]
    fig, axes = plots.figure(-(-len(names) // 5), 5, height=1.5, sharex=True, sharey=True)
    rows = []
    for ax, name in zip(axes.flat, names, strict=False):
        kappa = getattr(kappas, name)(**ARGUMENTS.get(name, {}))
        ax.set(xlim=(-2.1, 2.5), ylim=(-1.7, 2.4), aspect="equal", xticks=[-2, 0, 2], yticks=[0, 2])
        ax.set_title(f"{PAPER.get(name, '')} {_title(name)}".strip(), fontsize=8)
        ends = []
        for where, (target, color) in TARGETS.items():
            f = ln.objectives.quadratic(np.diag([2.0, 1.2]), np.multiply([2.0, 1.2], target))
            system = ln.LionK(f, kappa, gamma=1.2, epsilon=0.4, lam=LAM)
            flow = ln.simulate(system, START, END, rtol=RTOL, atol=RTOL / 100)
            best = ln.composite_optimum(system)
            if not ends:
                plots.constraint_set(ax, system)
            ax.plot(*target, "X", color=plots.COLORS[color], ms=5, mec="white", mew=0.5, zorder=4,
                    label=f"minimum of $f$, {where}")  # fmt: skip
            plots.trajectory(ax, flow, color=plots.COLORS[color], label=f"flow, $f$ least {where}", arrows=2)
            plots.optimum(ax, best.x, label="" if ends else "composite optimum", size=8)
            ends.append(float(np.linalg.norm(flow.x[-1] - best.x)))
        # What is left of the start, │x₀│e^{−λT} ≈ 5e-9, is less than what the tolerance adds in ten steps.
        rows.append(
            Row(
                "fig4", f"{kappa!r} solves its composite problem", "distance to the optimum, worse of two",
                max(ends), high=10 * RTOL, setup="κ ① to ⑤ as published; e, p, k, f, start chosen here",
            )
        )  # fmt: skip
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax in axes.flat[len(names) - 5 : len(names)]:
        ax.tick_params(labelbottom=True)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    plots.save(fig, "fig4", out)
    return rows


def _title(name: str) -> str:
    return ", ".join(
        [name, *(f"${k} = {v:g}$" for k, v in ARGUMENTS.get(name, {}).items() if np.isscalar(v))]
    )


if __name__ == "__main__":
    alone(run)
