"""Figure 2: f(x(t)) may rise while H(x(t), m(t)) falls; the dissipation split in its two parts."""

from pathlib import Path

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

RTOL = 1e-10
SHOWN = 7.0
"""By then all that dissipates is below what is drawn."""


def run(out: Path, full: bool = False) -> list[Row]:
    f = ln.objectives.from_expression("(x1 - 1.5)**2 + x2**2")
    system = ln.LionK(f, ln.kappas.Huber(0.1), alpha=1.0, gamma=1.0, epsilon=0.3, lam=0.6)
    flow = ln.simulate(system, [0.5, 0.2], 12.0, m0=[-2.5, 1.5], rtol=RTOL, atol=RTOL / 100)
    certificate = ln.certify(flow)

    t = np.linspace(0, SHOWN, 1200)
    x, m = flow(t)
    loss, energy = f.value(x), ln.lyapunov(system, x, m)
    rate = ln.dissipation(system, x, m)
    first = (system.lam + system.gamma) / (1 + system.epsilon * system.lam) * rate.delta1

    fig, (left, right) = plots.figure(1, 2, height=2.6)
    left.plot(t, loss, color=plots.COLORS["orange"], label="$f(x)$")
    plots.lyapunov(left, flow)
    left.set(xlabel="$t$", xlim=(0, SHOWN), title="$f$ rises, $H$ never does")
    left.legend()
    right.plot(t, first, color=plots.COLORS["sky"], label=r"$\Delta_1$ term")
    right.plot(t, rate.rate - first, color=plots.COLORS["purple"], label=r"$\Delta_2$ term")
    right.plot(
        t, -np.gradient(energy, t), color="black", lw=0.9, ls="--", label=r"$-\mathrm{d}H/\mathrm{d}t$"
    )
    right.set(xlabel="$t$", yscale="log", xlim=(0, SHOWN), ylim=(1e-6, 30), title="What dissipates")
    right.legend()
    plots.save(fig, "fig2", out)

    return [
        Row(
            "fig2",
            "the loss may rise along the flow",
            "largest rise of f",
            float(np.max(loss - np.minimum.accumulate(loss))),
            low=0.1,  # m₀ points away from the minimum: far more than any tolerance of the run
        ),
        Row("fig2", "H never rises", "largest increase of H", certificate.max_increase, high=RTOL),
        Row(
            "fig2",
            "H falls by the dissipation",
            "abs. balance residual",
            certificate.balance_residual,
            high=certificate["H(T) − H(0) + ∫Δ = 0"].bound,
        ),
    ]


if __name__ == "__main__":
    alone(run)
