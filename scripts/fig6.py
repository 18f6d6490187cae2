"""Figure 6: a larger λ is faster at first and worse at the end, when training starts outside the box."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone, remember, sign_test

HIDDEN, LR, STEPS, EVERY = 32, 3e-4, 1200, 50
LAMS = (0.5, 1.0, 2.0, 4.0, 8.0)
STARTS = {"far outside": 4.0, "ordinary": 1.0}
"""The scale of the initial weights in units of 1/√fan-in."""
EARLY = 200
ORDERED = 0.8
"""Kendall's τ of five values of which at most two neighbours have changed places."""
SETUP = "λ sweep as published; digits network, η, starts chosen here"


def train(lam: float, scale: float, seed: int) -> dict[str, Any]:
    """The loss on all training images every so many steps."""
    f = ln.objectives.digits_network(HIDDEN)
    s = ln.LionK.from_optimizer(f, ln.kappas.L1(), lr=LR, beta1=0.9, beta2=0.99, lam=lam)
    x0 = f.start(np.random.default_rng(seed), scale)
    run = ln.iterate(s, x0, STEPS, stochastic=True, seed=seed, record_every=EVERY)
    return {"loss": np.array([f.value(x) for x in run.x])}


def run(out: Path, full: bool = False) -> list[Row]:
    seeds = range(12 if full else 5)
    steps = np.arange(0, STEPS + 1, EVERY)
    losses = {
        start: np.array([
            [remember(train, lam, scale, seed, path=__file__)["loss"] for seed in seeds] for lam in LAMS
        ])
        for start, scale in STARTS.items()
    }  # fmt: skip
    fig, axes = plots.figure(1, 2, height=2.6)
    colors = plots.shades(len(LAMS))
    for ax, (start, values) in zip(axes, losses.items(), strict=True):
        for lam, color, runs in zip(LAMS, colors, values, strict=True):
            ax.semilogy(steps, runs.mean(0), color=color, label=rf"$\lambda={lam:g}$")
            ax.fill_between(steps, runs.min(0), runs.max(0), color=color, alpha=0.25, lw=0)
        ax.set(xlabel="step", title=f"{start} start", ylim=(0.03, 8))
    axes[0].set_ylabel("training loss")
    axes[0].axvline(EARLY, color="0.6", lw=0.8, ls=":")
    axes[1].legend(fontsize=7, loc="lower left")
    plots.save(fig, "fig6", out)

    def order(start: str, step: int) -> np.ndarray:
        """Kendall's τ of λ and the loss, for each seed: 1 if each larger λ is worse."""
        return np.array(
            [stats.kendalltau(LAMS, losses[start][:, i, step // EVERY]).statistic for i in range(len(seeds))]
        )

    far, usual = STARTS
    early, late, inside = order(far, EARLY), order(far, STEPS), order(usual, EARLY)
    n = len(seeds)
    ends = losses[far][:, :, -1]
    final = ", ".join(
        f"{mean:.3g} ± {spread:.2g} at λ = {lam:g}"
        for lam, mean, spread in zip(LAMS, ends.mean(axis=1), ends.std(axis=1, ddof=1), strict=True)
    )
    return [
        Row("fig6", "a larger λ is faster at first, from far outside",
            f"Kendall's τ of λ and the loss at step {EARLY}, mean of {n} seeds", early.mean(), high=-ORDERED,
            setup=SETUP),
        Row("fig6", "the same, by chance?", "p of a sign test over seeds", sign_test(-early), high=0.05,
            setup=SETUP),
        Row("fig6", "a larger λ is worse at the end",
            f"Kendall's τ of λ and the loss at step {STEPS}, mean of {n} seeds; final losses {final}",
            late.mean(), low=ORDERED, setup=SETUP),
        Row("fig6", "the same, by chance?", "p of a sign test over seeds", sign_test(late), high=0.05,
            setup=SETUP),
        Row("fig6", "no head start from an ordinary start: what λ speeds up is phase 1",
            f"Kendall's τ of λ and the loss at step {EARLY}, mean of {n} seeds", inside.mean(), low=0.0,
            setup="chosen here"),
    ]  # fmt: skip


if __name__ == "__main__":
    alone(run)
