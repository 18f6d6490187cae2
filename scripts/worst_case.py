"""Worst cases over all f and κ: no rise in backward Euler, none in updates up to an exact learning rate."""

from pathlib import Path

import numpy as np

import lionode as ln
from lionode import plots, worst_case
from lionode.reproduce import Row, alone

FACTORS = {0.8: "orange", 1.0: "blue", 1.2: "red"}
LIFTS = {0.8: 6, 1.0: 8, 1.2: -12}
"""Points that the name of a curve stands above its first point."""
LAMS = (0.1, 0.5)
BETA2S = {0.5: "blue", 0.9: "orange", 0.99: "green"}


def run(out: Path, full: bool = False) -> list[Row]:
    fig, (left, *panels) = plots.figure(1, 3, height=2.6)
    steps = np.geomspace(0.02, 3.0, 24 if full else 12)
    rises = {
        factor: [worst_case.step_rise(h, epsilon=0.0, lam=0.7, c_factor=factor) for h in steps]
        for factor in FACTORS
    }
    for factor, color in FACTORS.items():
        values = [max(rise.bound, worst_case.CERTAIN / 1e3) for rise in rises[factor]]
        left.loglog(steps, values, "o-", ms=3, color=plots.COLORS[color])
        label = "$H$" if factor == 1 else rf"$H$ with ${factor}\,c$"
        left.annotate(label, (steps[0], values[0]), (0, LIFTS[factor]), textcoords="offset points",
                      fontsize=7, color=plots.COLORS[color])  # fmt: skip
    left.axhline(worst_case.CERTAIN, color="0.6", lw=0.8, ls=":")
    left.text(steps[-1], worst_case.CERTAIN, "no rise is\nshown below", fontsize=6, va="bottom", ha="right")
    left.set(xlabel="$h$", ylabel="largest rise in a step", title=r"backward Euler, $\varepsilon=0$")
    left.set_ylim(3e-10, 3)

    ratios = []
    for panel, lam in zip(panels, LAMS, strict=True):
        for beta2, color in BETA2S.items():
            beta1 = np.linspace(0, beta2, 200)
            curve = [ln.monotone_lr(b, beta2, lam) for b in beta1]
            panel.plot(beta1, curve, color=plots.COLORS[color], label=rf"$\beta_2={beta2}$")
            for b in np.linspace(0, beta2, 6 if full else 3):
                found = worst_case.largest_lr(b, beta2, lam)
                # What is searched ends short of 1/λ, where explicit decay with more has no H.
                searched = min(ln.monotone_lr(b, beta2, lam), (1 - worst_case.LR_TOL) / lam)
                ratios.append(found / searched)
                panel.plot(b, found, "o", ms=4, mfc="white", color=plots.COLORS[color])
        panel.axhline(1 / lam, color="0.5", lw=0.8, ls="--")
        panel.text(0.0, 1 / lam, r"$1/\lambda$", fontsize=7, va="bottom")
        panel.set(
            xlabel=r"$\beta_1$", ylabel=r"largest $\eta L\ell$", title=rf"explicit, $\lambda={lam}\,L\ell$"
        )
        panel.set_ylim(0, 1.15 / lam)
    panels[0].plot([], [], "o", ms=4, mfc="white", color="0.3", label="programme")
    panels[0].legend(fontsize=7)
    plots.save(fig, "worst_case", out)

    shares = [worst_case.tightness(*numbers) for numbers in ((0.1, 0.9, 0.99, 0.5), (1.0, 0.5, 0.9, 1.5))]
    return [
        Row("worst_case", "no step of backward Euler raises H, whatever convex f and κ",
            f"largest H⁺ − H over them and {len(steps)} steps h (dual bound)",
            max(rise.bound for rise in rises[1.0]), high=worst_case.CERTAIN),
        Row("worst_case", "a wrong c in H is refused",
            "largest H⁺ − H with 1.2·c", max(rise.attained for rise in rises[1.2]), low=1e-3),
        Row("worst_case", "the programmes are solved", "largest gap of the two sides, or violation",
            max(max(rise.gap, rise.violation) for row in rises.values() for rise in row),
            high=worst_case.CERTAIN),
        Row("worst_case", "the discrete theorem cannot be sharpened in (L/2)η²‖V‖²",
            "least share of it that some f and κ attain", min(shares), low=1 - 2 * worst_case.LR_TOL),
        Row("worst_case", "explicit updates never raise H exactly up to the closed form of monotone_lr",
            f"worst │programme/closed form − 1│ of {len(ratios)}",
            float(np.max(np.abs(np.array(ratios) - 1))), high=2 * worst_case.LR_TOL),
    ]  # fmt: skip


if __name__ == "__main__":
    alone(run)
