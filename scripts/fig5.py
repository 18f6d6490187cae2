"""Figure 5: Lion draws the weights of a network into the box |x| ≤ 1/λ, from far outside, and they stay."""

from pathlib import Path
from typing import Any

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone, remember

HIDDEN, SCALE = 32, 4.0
LR, LAM, STEPS = 1e-3, 4.0, 2200
SHOWN = (0, 100, 400, 2200)
MARGIN = 0.01
"""Weights that are pushed against a face approach it only asymptotically: outside means by more than this."""
NEAREST_MEAN = 0.911
"""The share of the held-out images that the nearest class mean gets right, which takes no training."""
SETUP = "histograms of a network as published; digits network, η, λ, start chosen here"


def train(seed: int) -> dict[str, Any]:
    """One training by minibatches; the largest excess over its bound and returns out of the box with it."""
    f = ln.objectives.digits_network(HIDDEN)
    s = ln.LionK.from_optimizer(f, ln.kappas.L1(), lr=LR, beta1=0.9, beta2=0.99, lam=LAM)
    x0 = f.start(np.random.default_rng(seed), SCALE)
    run = ln.iterate(s, x0, STEPS, stochastic=True, seed=seed)
    ratio = np.abs(run.x) * LAM
    excess = np.maximum(ratio - 1, 0)
    bound = excess[0] * (1 - LR * LAM) ** np.arange(STEPS + 1)[:, None]
    # Each step rounds three times, and each later step shrinks what was rounded.
    rounding = 3 * np.finfo(float).eps * ratio[0] / (LR * LAM)
    return {
        "x": run.x[list(SHOWN)],
        "share": (ratio > 1 + MARGIN).mean(axis=1),
        "farthest": float(excess[0].max()),
        "over": int((excess > bound + rounding).sum()),
        "returns": int(((excess[1:] > rounding) & (excess[:-1] == 0)).sum()),
        "accuracy": float(f.accuracy(run.x[-1])),
    }


def run(out: Path, full: bool = False) -> list[Row]:
    seeds = range(8 if full else 3)
    runs = [remember(train, seed, path=__file__) for seed in seeds]
    fig, axes = plots.figure(1, 5, height=2.1, width=2)
    bins = np.linspace(-8 / LAM, 8 / LAM, 81)
    for ax, step, x in zip(axes, SHOWN, runs[0]["x"], strict=False):
        ax.hist(x, bins=bins, color=plots.COLORS["blue"])
        for side in (-1, 1):
            ax.axvline(side / LAM, color=plots.COLORS["red"], lw=0.9, ls="--")
        ax.set(title=f"step {step}", yscale="log", ylim=(0.8, 3000), xlabel="weight")
        ax.set_xticks([-1, 0, 1])
        if step:
            ax.set_yticklabels([])
    axes[0].set_ylabel("number")
    axes[0].text(1.15 / LAM, 1500, r"$\pm 1/\lambda$", fontsize=7, color=plots.COLORS["red"])
    last = axes[-1]
    for r in runs:
        last.semilogy(np.maximum(r["share"], 1e-5), color=plots.COLORS["blue"], lw=0.9)
    last.set(xlabel="step", title="share outside", xlim=(0, STEPS), xticks=[0, 1000, 2000], ylim=(1e-4, 1.5))
    exits = [int(np.flatnonzero(r["share"])[-1]) + 1 for r in runs]
    bounds = [np.log(r["farthest"] / MARGIN) / -np.log1p(-LR * LAM) for r in runs]
    last.axvline(np.mean(bounds), color="0.4", ls=":", lw=1)
    last.text(np.mean(bounds) - 40, 0.3, "bound", fontsize=7, ha="right", color="0.3")
    plots.save(fig, "fig5", out)
    shares = np.mean([r["share"] for r in runs], axis=0)
    course = ", ".join(f"{100 * shares[step]:.3g} % at {step}" for step in SHOWN)
    return [
        Row("fig5", "all weights end in the box",
            f"share outside by over 1 % at step {STEPS}, worst of {len(runs)} seeds; mean by step: {course}",
            max(float(r["share"][-1]) for r in runs), high=0.0, setup=SETUP),
        Row("fig5", "they are there when the theorem says at the latest",
            f"step of the last exit, worst of seeds ({min(exits)} to {max(exits)}), over that of (1−ηλ)^k",
            max(e / b for e, b in zip(exits, bounds, strict=True)), high=1.0, setup=SETUP),
        Row("fig5", "each weight approaches at least like (1−ηλ)^k", "times a weight was farther out",
            sum(r["over"] for r in runs), high=0.0, setup=SETUP),
        Row("fig5", "once inside, always inside", "times a weight left the box",
            sum(r["returns"] for r in runs), high=0.0, setup=SETUP),
        Row("fig5", "the network learns in the box", "held-out accuracy, worst of seeds",
            min(r["accuracy"] for r in runs), low=NEAREST_MEAN, setup=SETUP),
    ]  # fmt: skip


if __name__ == "__main__":
    alone(run)
