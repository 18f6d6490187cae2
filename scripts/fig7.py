"""Figure 7: κ = ‖·‖_p with p from 1 to 2; which p is best depends on the architecture."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone, remember

PS = (1.0, 1.5, 2.0)
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
LAM, STEPS, EVERY = 0.5, 400, 50
MODELS = {"linear model": 0, "8 hidden units": 8, "128 hidden units": 128}
TUNING, FIRST_SEED = range(3), 200
"""The best η of each p is chosen on the former seeds; what is tested was guessed on the seeds 100 to 107.

For what is claimed of the architecture the first 12 of the others gave p = 0.065; 24 were meant for --full.
"""
LEVEL = 0.05
KNOWN = "these seeds cannot tell it from chance"
SETUP = "p from 1 to 2 by held-out accuracy as published; models, data, η grid, λ chosen here"


def potential(p: float, d: int) -> ln.kappas.Potential:
    """d^{1/q}‖·‖_p: of its subgradients, as of those of ‖·‖₁, the mean of │uᵢ│^q is 1."""
    return ln.kappas.L1() if p == 1 else ln.kappas.Scaled(ln.kappas.Lp(p), d ** (1 - 1 / p))


def train(width: int, p: float, lr: float, seed: int) -> dict[str, Any]:
    """The loss at the end, and the held-out error in %, its mean over the second half of the training.

    The seed draws the start and the minibatches, and chooses the images that are held out.
    """
    f = ln.objectives.digits_network(width, seed=seed) if width else ln.objectives.digits_linear(seed=seed)
    s = ln.LionK.from_optimizer(f, potential(p, f.dim), lr=lr, beta1=0.9, beta2=0.99, lam=LAM)
    x0 = f.start(np.random.default_rng(seed))
    run = ln.iterate(s, x0, STEPS, stochastic=True, seed=seed, record_every=EVERY)
    late = run.x[len(run.x) // 2 :]
    return {"loss": float(f.value(run.x[-1])), "error": float(100 * (1 - f.accuracy(late).mean()))}


def tuned(width: int, p: float) -> float:
    """The η of the grid with the least error."""
    errors = [
        np.mean([remember(train, width, p, lr, seed, path=__file__)["error"] for seed in TUNING])
        for lr in RATES
    ]
    return RATES[int(np.argmin(errors))]


def run(out: Path, full: bool = False) -> list[Row]:
    seeds = range(FIRST_SEED, FIRST_SEED + (48 if full else 24))
    fig, axes = plots.figure(1, 3, height=2.3, sharey=True)
    errors, rows = {}, []
    for ax, (name, width) in zip(axes, MODELS.items(), strict=True):
        rates = [tuned(width, p) for p in PS]
        runs = [
            [remember(train, width, p, lr, seed, path=__file__) for seed in seeds]
            for p, lr in zip(PS, rates, strict=True)
        ]
        error = np.array([[r["error"] for r in row] for row in runs])
        errors[name] = error
        excess = error - error[PS.index(1.0)]
        ax.axhline(0, color="0.6", lw=0.8, ls=":")
        ax.plot(PS, excess, "-", color=plots.COLORS["sky"], lw=0.6, alpha=0.6)
        ax.errorbar(
            PS, excess.mean(axis=1), 2 * stats.sem(excess, axis=1), fmt="o-", ms=4, capsize=3,
            color=plots.COLORS["blue"], zorder=3,
        )  # fmt: skip
        ax.set(xlabel="$p$", title=name, xticks=PS)
        numbers = "; ".join(
            f"p = {p:g}: {e.mean():.2f} ± {e.std(ddof=1):.2f}, {np.mean([r['loss'] for r in row]):.3f}"
            for p, e, row in zip(PS, error, runs, strict=True)
        )
        rows.append(
            Row("fig7", f"p matters: {name}",
                f"p-value of Friedman's test over {len(seeds)} seeds; held-out error in % ± spread, "
                f"final loss at {numbers}",
                float(stats.friedmanchisquare(*error).pvalue), high=LEVEL, setup=SETUP, known=KNOWN)
        )  # fmt: skip
    axes[0].set_ylabel("held-out error\nminus that at $p = 1$, in %")
    plots.save(fig, "fig7", out)
    gains = {name: errors[name][PS.index(1.0)] - errors[name][PS.index(2.0)] for name in MODELS}
    linear, wide = gains["linear model"], -gains["128 hidden units"]
    # Both must hold, so that the larger of the two counts.
    chance = max(stats.wilcoxon(gain, alternative="greater").pvalue for gain in (linear, wide))
    return [
        Row("fig7",
            "the best p depends on the architecture: p = 2 for the linear model, p = 1 for 128 hidden units",
            f"larger p-value of two signed-rank tests over {len(seeds)} seeds; the better p gains "
            f"{linear.mean():.2f} ± {linear.std(ddof=1):.2f} % and "
            f"{wide.mean():.2f} ± {wide.std(ddof=1):.2f} %",
            float(chance), high=LEVEL, setup=SETUP, known=KNOWN),
        *rows,
    ]  # fmt: skip


if __name__ == "__main__":
    alone(run)
