"""Figure 9: backward Euler never lets H rise, at any step; explicit Euler with the same steps does."""

from pathlib import Path

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

STEPS = [0.01, 1.0, 10.0]
START = [0.9, -1.1]
KAPPAS = {"‖z‖₁": ln.kappas.L1(), "‖z‖₂": ln.kappas.Lp(2.0)}
SMALLEST = 200
ROUNDING = 1e-12
"""A rise is one beyond this, relative to the size of H."""


def run(out: Path, full: bool = False) -> list[Row]:
    f = ln.objectives.quadratic([[3.0, 0.8], [0.8, 1.2]], [2.5, -1.7])
    fig, axes = plots.figure(1, 2, height=2.7, sharey=True)
    rows = []
    for ax, (name, kappa) in zip(axes, KAPPAS.items(), strict=True):
        system = ln.LionK(f, kappa, alpha=0.7, gamma=1.3, epsilon=0.4, lam=0.7)
        least = float(np.ravel(ln.lyapunov(system, *_rest(system)))[0])
        explicit_rises = []
        for h, color in zip(STEPS, ("blue", "orange", "green"), strict=True):
            steps = 2000 if h < 0.1 else SMALLEST
            implicit = ln.simulate(system, START, steps * h, method="backward-euler", step=h)
            energies = ln.lyapunov(system, implicit.x, implicit.m)
            explicit = ln.lyapunov(system, *_explicit(system, START, steps, h))
            for values, style, label in ((energies, "-", f"$h = {h:g}$"), (explicit, ":", None)):
                gap = np.where(np.isfinite(values), np.maximum(values - least, ROUNDING), np.nan)
                ax.loglog(1 + np.arange(len(gap)), gap, style, color=plots.COLORS[color], label=label)
            explicit_rises.append(_rises(explicit))
            rows.append(
                Row("fig9", f"backward Euler never lets H rise, κ = {name}",
                    f"rises in {steps} steps of h = {h:g}", _rises(energies), high=0)
            )  # fmt: skip
        counts = " and ".join(f"{n} at h = {h:g}" for n, h in zip(explicit_rises[:-1], STEPS, strict=False))
        rows.append(
            Row("fig9", f"explicit steps of that size do, κ = {name}",
                f"rises or infinite values at h = 10, until it overflows; {counts}",
                explicit_rises[-1], low=1)
        )  # fmt: skip
        ax.plot([], [], ":", color="0.4", label="explicit Euler")
        ax.set(xlabel="step", title=f"κ = {name}", ylim=(ROUNDING / 10, 1e2))
        ax.text(1.2, 20, r"explicit, $h = 10$: $H = \infty$", fontsize=7, color=plots.COLORS["green"])
    axes[0].set_ylabel(r"$H - \min H$")
    axes[0].legend(loc="lower left", fontsize=7)
    plots.save(fig, "fig9", out)
    return rows


def _rises(energies: np.ndarray) -> int:
    """How often H grew, or was infinite after a step."""
    before, after = energies[:-1], energies[1:]
    return int((~(after <= before + ROUNDING * (1 + np.abs(before))) | np.isinf(after)).sum())


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
