"""How often f rises along Lion's flow while H falls: over ε, from many starts, and how far f can rise."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

F = "(1 - x1)**2 + 10*(x2 - x1**2)**2"
LAM, EPSILONS, SHOWN = 0.4, (0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0), 0.1
END, SAMPLES, SETTLED = 16.0, 401, 1e-3
RTOL = 1e-6
"""Of the integration; a rise of less than this share of f(x₀) − min f within a sample is not counted."""


class Rises(NamedTuple):
    """What f and H do on many flows. Arrays of shape (starts,), or (starts, times) for those with a path."""

    f: np.ndarray
    H: np.ndarray
    rising: np.ndarray
    alive: np.ndarray
    largest: np.ndarray
    allowed: np.ndarray
    increase: np.ndarray


def rises(epsilon: float, starts: np.ndarray) -> Rises:
    system = ln.LionK(ln.objectives.from_expression(F), ln.kappas.L1(), epsilon=epsilon, lam=LAM)
    t = np.linspace(0.0, END, SAMPLES)
    flows = ln.ensemble(system, starts, END, rtol=RTOL, atol=1e-2 * RTOL, t_eval=t)
    f, energy = system.objective.value(flows.x), ln.lyapunov(system, flows.x, flows.m)
    distance = np.linalg.norm(flows.x - ln.composite_optimum(system, [1.0, 1.0]).x, axis=-1)
    alive = t[1:] <= ln.settling_times(t, distance, SETTLED)[:, None]
    span = f[:, :1] - f.min()
    rising = alive & (np.diff(f, axis=1) > RTOL * span)
    # H(t₂) ≤ H(t₁), H = f + c·gap within the box and gap ≥ 0, so that f(t₂) − f(t₁) ≤ c·gap(t₁).
    gap = np.abs(flows.m).sum(axis=-1) - LAM * (flows.m * flows.x).sum(axis=-1)
    c = (1 - epsilon) / (1 + epsilon * LAM)
    rise = np.maximum.accumulate(f[:, ::-1], axis=1)[:, ::-1] - f
    foot = np.argmax(rise, axis=1)[:, None]
    largest, allowed = (np.take_along_axis(v, foot, 1) / span for v in (rise, c * gap))
    drop = energy[:, 0] - energy[:, -1]
    return Rises(f, energy, rising, alive, largest[:, 0], allowed[:, 0], flows.max_increase / drop)


def run(out: Path, full: bool = False, count: int = 200) -> list[Row]:
    starts = np.random.default_rng(0).uniform(-2, 2, (1000 if full else count, 2))
    found = {epsilon: rises(epsilon, starts) for epsilon in EPSILONS}
    fig, (left, middle, right) = plots.figure(1, 3, height=2.7)
    _path(left, found[SHOWN])
    times = {epsilon: r.rising.sum() / r.alive.sum() for epsilon, r in found.items()}
    most = {epsilon: float((r.largest > 0.01).mean()) for epsilon, r in found.items()}
    for shares, color, style, label in (
        (times, "blue", "o-", "of the time until settled"),
        (most, "orange", "s--", "of flows by > 1 %"),
    ):
        middle.plot(
            EPSILONS, [100 * v for v in shares.values()], style, ms=4, color=plots.COLORS[color], label=label
        )
    middle.set(xlabel=r"$\varepsilon$ ($\gamma = 1$)", ylabel="$f$ rises, %", ylim=(-3, 103))
    middle.legend(fontsize=7)
    compared = [epsilon for epsilon in EPSILONS if epsilon < 1]
    for epsilon, color in zip(compared, plots.shades(len(compared)), strict=True):
        r = found[epsilon]
        right.plot(100 * r.allowed, 100 * r.largest, ".", ms=3, color=color, label=f"{epsilon:g}")
    ends = [1e-4, 200]
    right.plot(ends, ends, color="0.4", lw=0.8)
    right.set(
        xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="what $H$ allows, % of $f(x_0)$",
        ylabel="largest rise of $f$, %",
    )  # fmt: skip
    right.legend(fontsize=6.5, title=r"$\varepsilon$", title_fontsize=7, handletextpad=0.1, loc="upper left")
    plots.save(fig, "rises", out)
    risen = [(found[e].largest, found[e].allowed) for e in compared]
    ratios = [np.divide(a, b, out=np.zeros_like(a), where=a > 0).max() for a, b in risen]
    above = max(
        float(((r.f - r.f[:, :1]).max(axis=1) / (r.f[:, 0] - r.f.min())).max()) for r in found.values()
    )
    flows = f"{len(starts)} starts in [−2, 2]², m = 0"
    return [
        Row("rises", "f is no Lyapunov function: most flows have it rise",
            f"share of {flows}, ε = {SHOWN:g}, on which f rises by over 1 % of f(x₀) − min f",
            most[SHOWN], low=0.5),
        Row("rises", "nor does it rise for moments only",
            f"share of the time until settled in which f rises, ε = {SHOWN:g}", float(times[SHOWN]), low=0.1),
        Row("rises", "H falls all the while",
            f"largest increase of H in a step over its fall, of {len(starts) * len(EPSILONS)} flows",
            max(float(r.increase.max()) for r in found.values()), high=RTOL),
        Row("rises", "without momentum f falls too: at εγ = 1 H is f within the box",
            "share of the time in which f rises", float(times[1.0]), high=0.0),
        Row("rises", "f rises by no more than H leaves room for, c(‖m‖₁ − λ⟨m, x⟩) at the foot of the rise",
            "largest rise over the room", float(max(ratios)), high=1.0),
        Row("rises", "from m = 0 f never exceeds its start",
            "largest f(x(t)) − f(x₀) over f(x₀) − min f", above, high=RTOL),
    ]  # fmt: skip


def _path(ax: Any, found: Rises) -> None:
    """f and H of the flow on which f rises the most, with the times at which it does shaded."""
    k = int(np.argmax(found.largest))
    t = np.linspace(0.0, END, SAMPLES)
    ax.semilogy(t, found.H[k], color=plots.COLORS["blue"], label="$H(x, m)$")
    ax.semilogy(t, found.f[k], "--", color=plots.COLORS["orange"], label="$f(x)$")
    ax.fill_between(
        t[1:], 0, 1, where=found.rising[k], step="pre", transform=ax.get_xaxis_transform(), color="0.88",
        lw=0, label="$f$ rises", zorder=0,
    )  # fmt: skip
    shown = t[-1] if found.alive[k].all() else t[np.argmin(found.alive[k])]
    ax.set(xlabel="$t$", xlim=(0, shown), ylim=(1e-4, 3 * found.H[k, 0]))
    ax.set_title(rf"$\varepsilon = {SHOWN:g}$, $\lambda = {LAM:g}$")
    ax.legend(fontsize=7, loc="lower left", frameon=True, framealpha=0.9, edgecolor="none")


if __name__ == "__main__":
    alone(run)
