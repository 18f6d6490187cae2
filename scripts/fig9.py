"""Figure 9: backward Euler never lets H rise, at any step; explicit steps of the same size do."""

from pathlib import Path

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

STEPS = [0.01, 1.0, 10.0]
START = [0.9, -1.1]
SMALLEST = 200
ROUNDING = 1e-12
"""A rise is one beyond this, relative to the size of H."""


def run(out: Path, full: bool = False) -> list[Row]:
    f = ln.objectives.quadratic([[3.0, 0.8], [0.8, 1.2]], [2.5, -1.7])
    fig, axes = plots.figure(1, 2, height=2.7)
    rows = []
    for ax, kappa in zip(axes, (ln.kappas.L1(), ln.kappas.Lp(2.0)), strict=True):
        system = ln.LionK(f, kappa, alpha=0.7, gamma=1.3, epsilon=0.4, lam=0.7)
        least = float(np.ravel(ln.lyapunov(system, *_rest(system)))[0])
        for h, color in zip(STEPS, ("blue", "orange", "green"), strict=True):
            steps = round(2000 if h < 0.1 else SMALLEST)
            implicit = ln.simulate(system, START, steps * h, method="backward-euler", step=h)
            explicit = _explicit(system, START, steps, h)
            energies = ln.lyapunov(system, implicit.x, implicit.m), ln.lyapunov(system, *explicit)
            for values, style in zip(energies, ("-", ":"), strict=True):
                gap = np.where(np.isfinite(values), values - least, np.nan)
                label = f"$h = {h:g}$" if style == "-" else None
                ax.loglog(
                    np.arange(1, len(gap) + 1),
                    np.maximum(gap, 1e-14),
                    style,
                    color=plots.COLORS[color],
                    label=label,
                )
            count = int((np.diff(energies[0]) > ROUNDING * (1 + np.abs(energies[0][:-1]))).sum())
            rows.append(
                Row(
                    "fig9",
                    f"backward Euler never lets H rise, {kappa!r}",
                    f"rises in {steps} steps of h = {h:g}",
                    count,
                    high=0,
                )
            )
        count = int((~(energies[1][1:] <= energies[1][:-1] + ROUNDING) | np.isinf(energies[1][1:])).sum())
        rows.append(
            Row(
                "fig9",
                f"explicit steps of that size do, {kappa!r}",
                "rises or infinite values at h = 10",
                count,
                low=1,
            )
        )
        ax.plot([], [], ":", color="0.4", label="explicit")
        ax.set(xlabel="step", ylabel=r"$H - \min H$", title=repr(kappa), ylim=(1e-15, 1e2))
    axes[1].text(1.2, 1e-12, "explicit, $h = 10$:\n$H = \\infty$", fontsize=6.5)
    axes[0].legend(loc="lower left", fontsize=6.5)
    plots.save(fig, "fig9", out)
    return rows


def _rest(system: ln.LionK) -> tuple[np.ndarray, np.ndarray]:
    x = ln.composite_optimum(system).x
    return x, -system.alpha / system.gamma * system.objective.gradient(x)


def _explicit(system: ln.LionK, start: list[float], steps: int, h: float) -> tuple[np.ndarray, np.ndarray]:
    """Forward Euler; it leaves dom κ*, where H is infinite."""
    x, m = [np.array(start)], [np.zeros(len(start))]
    for _ in range(steps):
        dx, dm = system.velocity(x[-1], m[-1])
        x.append(x[-1] + h * dx)
        m.append(m[-1] + h * dm)
        if np.abs(m[-1]).max() > 1e50:
            break
    return np.array(x), np.array(m)


if __name__ == "__main__":
    alone(run)
