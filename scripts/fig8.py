"""Figure 8: with γ and ε fixed the updates tend to the flow as η → 0, at order 1."""

from pathlib import Path

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

START, END = [2.0, -1.5], 3.0


def run(out: Path, full: bool = False) -> list[Row]:
    rates = 0.1 * 0.5 ** np.arange(12 if full else 8)
    f = ln.objectives.quadratic([[2.0, 0.6], [0.6, 1.0]], [1.0, -0.5])
    cases = {"PseudoHuber, smooth": ln.kappas.PseudoHuber(0.3), "L1, its flow exact": ln.kappas.L1()}
    fig, ax = plots.figure(width=1, height=2.6)
    rows = []
    for name, kappa in cases.items():
        system = ln.LionK(f, kappa, alpha=1.0, gamma=1.0, epsilon=0.5, lam=0.8)
        flow = ln.simulate(system, START, END, rtol=1e-9, atol=1e-11)
        errors = []
        for lr in rates:
            updates = ln.iterate(system, START, round(END / lr), lr=lr)
            errors.append(np.abs(updates.x - flow(np.minimum(updates.t, END))[0]).max())
        slope = float(np.polyfit(np.log(rates), np.log(errors), 1)[0])
        ax.loglog(rates, errors, "o-", ms=3.5, label=f"{name}: slope {slope:.2f}")
        rows.append(Row("fig8", "the updates tend to the flow at order 1", f"slope, {name}", slope, 0.9, 1.1))
    ax.loglog(rates, rates, "--", color="0.4", lw=0.9, label="slope 1")
    ax.set(xlabel=r"$\eta$", ylim=(2e-4, 2), ylabel=r"$\max_k \|x_k - x(k\eta)\|_\infty$")
    ax.legend(loc="upper left", fontsize=7)
    plots.save(fig, "fig8", out)
    return rows


if __name__ == "__main__":
    alone(run)
