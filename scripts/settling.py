"""Settling times over (λ, ε): a sweep beside the rates of the linearised flow, for Lion and a smooth κ."""

from pathlib import Path

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

F = "(x1 - 1.5)**2 + x2**2"
FACE = 1 / 1.5
"""From this λ on the optimum lies on a face of the box."""
SCALE = 2.0
"""α = γ ≥ λ: where x is held at a face the flow of (x, m) is then no slower than that of x alone."""
START, END = [-1.0, 0.8], 32.0
NEAR, NEARER = 1e-3, 1e-7
"""The time from the one distance to the other is ln(NEAR/NEARER)/rate in an exponential tail."""
STEP = END / 400
"""The sweep looks at a flow at 401 times: a difference of two settling times is known to one step."""
KAPPAS = {"L1": ln.kappas.L1(), "PseudoHuber(0.3)": ln.kappas.PseudoHuber(0.3)}


def tails(kappa: ln.kappas.Potential, lams: np.ndarray, epsilons: np.ndarray) -> tuple[np.ndarray, ...]:
    """The time to come NEAR for good, that from there to NEARER, and the latter by the local rate."""
    near, nearer = (
        ln.sweep(
            {"lam": lams, "epsilon": epsilons}, settle=settle, objective=F, kappa=kappa, alpha=SCALE,
            gamma=SCALE, x0=START, t_end=END, rtol=1e-11, atol=1e-12, compiled=True, workers=1,
        ).settling_time.values
        for settle in (NEAR, NEARER)
    )  # fmt: skip
    f = ln.objectives.from_expression(F)
    rates = [[ln.local_rate(ln.LionK(f, kappa, SCALE, SCALE, e, lam)).rate for e in epsilons] for lam in lams]
    return near, nearer - near, np.log(NEAR / NEARER) / np.array(rates)


def run(out: Path, full: bool = False, count: int = 16) -> list[Row]:
    count = 40 if full else count
    # At εγ = 1 the look-ahead forgets m, and Lion's x arrives in a finite time.
    lams, epsilons = np.linspace(0.1, 2.0, count), np.linspace(0.05, 0.95 / SCALE, count)
    results = {name: tails(kappa, lams, epsilons) for name, kappa in KAPPAS.items()}
    fig, (left, middle, right) = plots.figure(1, 3, height=2.7)
    near, _, predicted = results["L1"]
    for ax, values, label in (
        (left, near, rf"L1: time until $\|x-\hat x\| \leq 10^{{{np.log10(NEAR):.0f}}}$"),
        (middle, np.log10(np.log(NEAR / NEARER) / predicted), r"L1: $\log_{10}$ of the local rate"),
    ):
        image = ax.pcolormesh(epsilons, lams, values, cmap="cividis", shading="nearest", rasterized=True)
        fig.colorbar(image, ax=ax, location="top").set_label(label, fontsize=8)
        ax.axhline(FACE, color="white", lw=1, ls="--")
        ax.set(xlabel=r"$\varepsilon$", ylabel=r"$\lambda$")
    left.text(0.06, 1.95, "optimum on a face", color="white", fontsize=7, va="center")
    left.text(0.06, FACE - 0.05, "inside the box", color="white", fontsize=7, va="top")
    for (name, (_, measured, expected)), color, mark in zip(
        results.items(), ("blue", "orange"), ("o", "x"), strict=True
    ):
        right.plot(
            expected.ravel(), measured.ravel(), mark, ms=2.5, mew=0.7, color=plots.COLORS[color], label=name
        )
    ends = [0.3, 15]
    right.plot(ends, ends, color="0.4", lw=0.8, zorder=0)
    right.set(
        xscale="log", yscale="log", xlabel=r"predicted, $\ln(10^4)$/rate",
        ylabel=r"time from $10^{-3}$ to $10^{-7}$", xlim=ends, ylim=ends,
    )  # fmt: skip
    right.legend(fontsize=7, loc="upper left", handletextpad=0.2)
    plots.save(fig, "settling", out)
    _, measured, expected = results["L1"]
    off = np.abs(measured - expected)
    ratio = results["PseudoHuber(0.3)"][1] / results["PseudoHuber(0.3)"][2]
    return [
        Row("settling", "Lion settles at the rate of its linearisation",
            f"share of {off.size} (λ, ε) where 1e-3 to 1e-7 takes ln(1e4)/rate ± a sampling step or 2 %",
            float((off <= np.maximum(STEP, 0.02 * expected)).mean()), low=0.95),
        Row("settling", "so does a smooth κ near it, which turns around the limit",
            "median |measured/predicted − 1|", float(np.median(np.abs(ratio - 1))), high=0.05),
        Row("settling", "ε sets the pace within the box, λ alone on a face",
            "largest spread over ε of Lion's settling time for λ ≥ 1, over their mean",
            float(np.max(np.ptp(near[lams >= 1], axis=1) / near[lams >= 1].mean(axis=1))), high=0.02),
    ]  # fmt: skip


if __name__ == "__main__":
    alone(run)
