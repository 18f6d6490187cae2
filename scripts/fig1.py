"""Figure 1: Lion on (x₁−1.5)² + x₂²: flow beside updates, the optimum inside the box or on its face."""

from pathlib import Path
from typing import Any

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

TARGET, START = np.array([1.5, 0.0]), [-2.5, 2.0]
GAMMA, EPSILON = 1.0, 0.1
BETA1 = 1 - EPSILON * GAMMA
RATES = [0.08, 0.04, 0.02, 0.01, 0.005]
END, LATE = 20.0, 16.0
SETUP = "f and λ as published; start, γ, ε chosen here"


def run(out: Path, full: bool = False) -> list[Row]:
    f = ln.objectives.from_expression("(x1 - 1.5)**2 + x2**2")
    fig, axes = plots.figure(1, 3, height=2.75)
    rows = []
    for ax, lam in zip(axes, (0.6, 1.5), strict=False):
        lion = ln.LionK(f, ln.kappas.L1(), alpha=GAMMA, gamma=GAMMA, epsilon=EPSILON, lam=lam)
        flow = ln.simulate(lion, START, END)
        runs = [ln.iterate(lion, START, round(END / lr), lr=lr) for lr in RATES]
        # f is separable, so the optimum over the box is the projection of its minimum.
        best = np.clip(TARGET, -1 / lam, 1 / lam)
        distances = [np.abs(r.x - best).max(axis=1) for r in runs]
        hovering = [float(d[r.t > LATE].max()) for r, d in zip(runs, distances, strict=True)]
        shares = np.divide(hovering, RATES)
        _plane(ax, lion, flow, runs[0], best)
        if ax is axes[0]:
            _distances(axes[2], flow, runs, distances, best)
        where = f"λ = {lam}"
        distance = float(np.linalg.norm(flow.x[-1] - best))
        # Near the optimum x is within one step, η(1+λ|x|), of where m̃ = 0, x = cm with c = β₁/(a(1−β₁)),
        # and ṁ = −γ(m + ax) leaves |cm| ≤ β₁ of that: in all (1+β₁)(1+λ|x|)η, and terms of order η².
        reach = (1 + BETA1) * (1 + lam * float(np.abs(best).max()))
        # Where the optimum is at 0 each step is longer than η(1−λ|x|), so one of its ends is half of it away.
        least = 0.5 * (1 - lam * reach * max(RATES))
        rows += [
            # At most what decays like e^{−λt} from the start is left, and the tolerance of the run.
            Row("fig1", "the flow solves the box problem", f"{where}: distance of its end to the optimum",
                distance, high=float(5 * np.exp(-lam * END)) + 1e-8, setup=SETUP),
            Row("fig1", "the updates hover within O(η)",
                f"{where}: largest distance / η after t = {LATE:g}, worst of η = {RATES[0]:g} to "
                f"{RATES[-1]:g}; at the last the distance is {hovering[-1]:.2g}",
                float(shares.max()), high=reach, setup=SETUP),
            Row("fig1", "they do not converge with a fixed η", f"{where}: the least of these over η",
                float(shares.min()), low=least, setup=SETUP),
        ]  # fmt: skip
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    plots.save(fig, "fig1", out)
    return rows


def _plane(ax: Any, lion: ln.LionK, flow: ln.Trajectory, updates: ln.Trajectory, best: np.ndarray) -> None:
    ax.set(xlim=(-2.8, 2.2), ylim=(-2.2, 2.4), xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    ax.set_title(rf"$\lambda = {lion.lam}$")
    plots.level_sets(ax, lion.objective)
    plots.constraint_set(ax, lion, label=r"$\|x\|_\infty \leq 1/\lambda$")
    plots.trajectory(ax, updates, color=plots.COLORS["red"], label=rf"updates, $\eta = {RATES[0]}$")
    plots.trajectory(ax, flow, label="flow, exact")
    plots.optimum(ax, best, size=9)


def _distances(
    ax: Any, flow: ln.Trajectory, runs: list[ln.Trajectory], distances: list[np.ndarray], best: np.ndarray
) -> None:
    """How far flow and updates are from the optimum: the updates stay at a distance ∝ η."""
    t = np.linspace(0, END, 2000)
    for lr, updates, distance, color in zip(RATES, runs, distances, plots.shades(len(RATES)), strict=True):
        ax.semilogy(updates.t, distance, color=color, lw=0.7, label=rf"$\eta = {lr:g}$")
    ax.semilogy(t, np.abs(flow(t)[0] - best).max(axis=1), color=plots.COLORS["blue"])
    ax.set(xlabel="$t$", xlim=(0, END), ylim=(1e-4, 20), box_aspect=0.92)
    ax.set_title(rf"$\|x - x^*\|_\infty$, $\lambda = {flow.system.lam}$")
    ax.legend(fontsize=6.5, loc="upper right", ncols=2, columnspacing=1, handlelength=1.2)


if __name__ == "__main__":
    alone(run)
