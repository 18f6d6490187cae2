"""Local rates: predicted from the spectrum at the optimum and measured on tails, and the fastest (γ, ε)."""

from pathlib import Path

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

A, B = np.array([[3.0, 0.8], [0.8, 1.2]]), np.array([2.5, -1.7])
START, MOMENTUM, TOL = [1.9, -1.4], [0.3, -0.2], 1e-11
CASES = {
    r"PseudoHuber, $\varepsilon=0.4$": (ln.kappas.PseudoHuber(0.3), (0.7, 1.3, 0.4, 0.6), 25.0, "blue"),
    r"PseudoHuber, $\varepsilon=0$": (ln.kappas.PseudoHuber(0.3), (0.7, 1.3, 0.0, 0.6), 40.0, "sky"),
    r"L1 inside, $\varepsilon=0.6$": (ln.kappas.L1(), (0.7, 1.3, 0.6, 0.3), 20.0, "orange"),
    r"L1 on a face, $\varepsilon=0.4$": (ln.kappas.L1(), (0.7, 1.3, 0.4, 0.7), 40.0, "green"),
}
GAMMAS, EPSILONS = np.linspace(0.1, 8.0, 60), np.linspace(0.0, 2.0, 61)


def run(out: Path, full: bool = False) -> list[Row]:
    f = ln.objectives.quadratic(A, B)
    fig, (left, right) = plots.figure(1, 2, height=2.8)
    ratios = []
    for label, (kappa, coefficients, t_end, color) in CASES.items():
        system = ln.LionK(f, kappa, *coefficients)
        local = ln.local_rate(system)
        flow = ln.simulate(system, START, t_end, m0=MOMENTUM, rtol=TOL, atol=TOL)
        ratios.append(ln.tail_rate(flow, local.x, local.m) / local.rate)
        t = np.linspace(0, t_end, 2000)
        x, m = flow(t)
        distance = np.linalg.norm(np.hstack([x - local.x, m - local.m]), axis=1)
        seen = distance > 30 * TOL
        left.semilogy(t[seen], distance[seen], color=plots.COLORS[color], label=label)
        mark = np.flatnonzero(distance > 1e-4)[-1]
        predicted = 3 * distance[mark] * np.exp(-local.rate * (t - t[mark]))
        left.semilogy(t, predicted, ":", color=plots.COLORS[color])
    left.plot([], [], ":", color="0.4", label="predicted slope")
    left.set(xlabel="$t$", ylabel=r"$\|(x,m)-(\hat x,\hat m)\|$", ylim=(1e-9, 1e2), xlim=(0, 30))
    left.legend(fontsize=6, loc="upper right")

    usual = ln.LionK(f, ln.kappas.Quadratic(), 0.7, 1.3, 0.4, 0.3)
    scan = ln.scan_rates(usual, GAMMAS, EPSILONS)
    image = right.pcolormesh(EPSILONS, GAMMAS, scan.rates, cmap="cividis", shading="nearest", rasterized=True)
    fig.colorbar(image, ax=right, label="rate")
    epsilons = np.linspace(1 / GAMMAS[-1], EPSILONS[-1], 200)
    right.plot(epsilons, 1 / epsilons, color="0.3", lw=1)
    right.text(0.75, 1.6, r"$\varepsilon\gamma = 1$", fontsize=8)
    right.plot(scan.best.epsilon, scan.best.gamma, "*", ms=10, color=plots.COLORS["red"], mec="white")
    right.set(xlabel=r"$\varepsilon$", ylabel=r"$\gamma$", title=r"Quadratic $\kappa$, $\alpha/\gamma$ fixed")
    plots.save(fig, "rates", out)
    worst = float(np.max(np.abs(np.array(ratios) - 1)))
    return [
        Row("rates", "the tail of a run has the slope of the spectrum at the optimum",
            f"worst |measured/predicted − 1| of {len(CASES)}", worst, high=0.05),
        Row("rates", "what the scan finds is faster when run",
            f"tail rate at (γ, ε) = ({scan.best.gamma:.2g}, {scan.best.epsilon:.2g}) over that at (1.3, 0.4)",
            _measured(scan.best) / _measured(usual), low=1.0),
    ]  # fmt: skip


def _measured(system: ln.LionK) -> float:
    local = ln.local_rate(system)
    flow = ln.simulate(system, START, 60.0, m0=MOMENTUM, rtol=TOL, atol=TOL)
    return ln.tail_rate(flow, local.x, local.m)


if __name__ == "__main__":
    alone(run)
