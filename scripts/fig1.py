"""Figure 1: Lion on (x₁−1.5)² + x₂²: flow beside updates, the optimum inside the box or on its face."""

from pathlib import Path

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

TARGET = np.array([1.5, 0.0])
GAMMA, EPSILON = 1.0, 0.1
RATES = [0.08, 0.04, 0.02, 0.01, 0.005]
END = 20.0
SETUP = "f and λ as published; start, γ, ε chosen here"


def run(out: Path, full: bool = False) -> list[Row]:
    f = ln.objectives.from_expression("(x1 - 1.5)**2 + x2**2")
    fig, axes = plots.figure(1, 2, height=2.9)
    rows = []
    for ax, lam in zip(axes, (0.6, 1.5), strict=True):
        lion = ln.LionK(f, ln.kappas.L1(), alpha=GAMMA, gamma=GAMMA, epsilon=EPSILON, lam=lam)
        flow = ln.simulate(lion, [-2.5, 2.0], END)
        runs = [ln.iterate(lion, [-2.5, 2.0], round(END / lr), lr=lr) for lr in RATES]
        # f is separable, so the optimum over the box is the projection of its minimum.
        best = np.clip(TARGET, -1 / lam, 1 / lam)
        hovering = [np.abs(r.x[r.t > 0.8 * END] - best).max() for r in runs]

        ax.set(xlim=(-2.8, 2.2), ylim=(-2.0, 2.4), xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
        ax.set_title(rf"$\lambda = {lam}$")
        plots.level_sets(ax, f)
        plots.constraint_set(ax, lion, label=r"$\|x\|_\infty \leq 1/\lambda$")
        plots.trajectory(ax, runs[0], color=plots.COLORS["orange"], label=rf"updates, $\eta = {RATES[0]}$")
        plots.trajectory(ax, flow, label="flow, exact")
        plots.optimum(ax, best)
        where = f"lam = {lam}"
        distance = float(np.linalg.norm(flow.x[-1] - best))
        rows += [
            # At most what decays like e^{−λt} from the start is left, and the tolerance of the run.
            Row("fig1", "the flow solves the box problem", f"{where}: distance of its end to the optimum",
                distance, high=float(5 * np.exp(-lam * END)) + 1e-8, setup=SETUP),
            # One update moves a component by at most η(1 + λ|x|) ≤ 2η in the box.
            Row("fig1", "the updates hover within O(η)", f"{where}: worst distance / η over five η",
                float(np.max(np.divide(hovering, RATES))), high=2.0, setup=SETUP),
        ]  # fmt: skip
    axes[1].legend(loc="lower left", fontsize=6.5)
    plots.save(fig, "fig1", out)
    return rows


if __name__ == "__main__":
    alone(run)
