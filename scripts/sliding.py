"""Sliding: what Lion's flow does on the surface m̃ᵢ = 0, and what solvers that know nothing of it do there."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import integrate

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

A, B = np.array([[3.0, 0.8], [0.8, 1.2]]), np.array([2.5, -1.7])
START, MOMENTUM, END = np.array([1.9, -1.4]), np.array([0.3, -0.2]), 12.0
SOLVERS = ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA")
TOLERANCES = (1e-6, 1e-8)
CAP, FULL_CAP = 10_000, 300_000
"""Evaluations of ∇f that a plain solver is given; the exact flow takes some hundreds."""
SHOWN = 60
"""Steps of a chattering solver that can still be told apart by eye."""
USEFUL = 1e-3
"""A run that ends off by more than this is no solution at either tolerance."""


class Attempt(NamedTuple):
    """What a plain solver accepted, and its largest error."""

    t: np.ndarray
    y: np.ndarray
    error: float


def lion(epsilon: float = 0.1) -> ln.LionK:
    f = ln.objectives.quadratic(A, B)
    return ln.LionK(f, ln.kappas.L1(), alpha=0.7, gamma=1.3, epsilon=epsilon, lam=0.45)


def plain(system: ln.LionK, name: str, rtol: float, cap: int, exact: ln.Trajectory) -> Attempt:
    """A solver of scipy with sign in the right-hand side, until t = END, failure, or the cap."""

    def rhs(t: float, y: np.ndarray) -> np.ndarray:
        x, m = y[:2], y[2:]
        descent = -system.alpha * (A @ x - B) - system.gamma * m
        return np.concatenate([np.sign(m + system.epsilon * descent) - system.lam * x, descent])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what went wrong is measured, not read
        solver = getattr(integrate, name)(
            rhs, 0.0, np.concatenate([START, MOMENTUM]), END, rtol=rtol, atol=rtol
        )
        t, y = [solver.t], [solver.y]
        while solver.status == "running" and solver.nfev < cap:
            solver.step()
            t.append(solver.t)
            y.append(solver.y)
    times, states = np.array(t), np.array(y)
    error = float(np.abs(np.concatenate(exact(times), axis=1) - states).max())
    return Attempt(times, states, error)


def run(out: Path, full: bool = False) -> list[Row]:
    system, cap = lion(), FULL_CAP if full else CAP
    flow = ln.simulate(system, START, END, m0=MOMENTUM, method="event", rtol=1e-12, atol=1e-12)
    attempts = {(name, rtol): plain(system, name, rtol, cap, flow) for name in SOLVERS for rtol in TOLERANCES}
    slides = [event.t for event in flow.events if event.kind == "slide-in"]
    solved = [key for key, a in attempts.items() if a.t[-1] >= END and a.error <= USEFUL]
    cert = ln.certify(flow)

    fig, axes = plots.figure(1, 3, height=2.5)
    _selection(axes[0], system, flow)
    _zoom(axes[1], system, flow, attempts["RK45", 1e-6], slides[0])
    _reached(axes[2], attempts, slides[0], cap)
    plots.save(fig, "sliding", out)
    return [
        Row("sliding", "the exact flow slides, and its balance closes on sliding arcs",
            "|H(T) − H(0) + ∫Δ|", cert.balance_residual,
            high=cert["H(T) − H(0) + ∫Δ = 0"].bound),
        Row("sliding", "few gradients suffice", f"gradients of f, {len(flow.events)} events, rtol 1e-12",
            flow.nfev, high=CAP / 10),
        Row("sliding", "plain solvers do not get through",
            f"of {len(attempts)} runs, six solvers, {cap} gradients: right to {USEFUL:g} at the end",
            len(solved), high=0),
        Row("sliding", "most stop where the first slide begins",
            f"median of the time reached; the slide begins at {slides[0]:.3g}",
            float(np.median([a.t[-1] for a in attempts.values()])), high=1.1 * slides[0]),
    ]  # fmt: skip


def _selection(ax: Any, system: ln.LionK, flow: ln.Trajectory) -> None:
    """m̃₁ and u₁ of the exact flow."""
    t = np.linspace(0, END, 4000)
    x, m = flow(t)
    u = flow.evaluate(t)[:, 4]
    ax.plot(t, system.look_ahead(x, m)[:, 0], color=plots.COLORS["blue"], label=r"$\tilde m_1$")
    ax.plot(t, u, color=plots.COLORS["red"], label=r"$u_1\in\partial|\tilde m_1|$")
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(xlabel="$t$", title="exact: $u$ in between", ylim=(-1.3, 1.6))
    ax.set_xlim(0, END)
    ax.legend(loc="upper right")


def _zoom(ax: Any, system: ln.LionK, flow: ln.Trajectory, attempt: Attempt, slide: float) -> None:
    """m̃ of a plain solver on its first steps after the slide begins."""
    which = int(next(e for e in flow.events if e.kind == "slide-in").components[0])
    first = int(np.searchsorted(attempt.t, slide))
    keep = slice(first, first + SHOWN)
    t = attempt.t[keep]
    for (x, m), style, color, label in (
        ((attempt.y[keep, :2], attempt.y[keep, 2:]), ".-", "orange", "RK45 with sign, rtol $10^{-6}$"),
        (flow(t), "-", "blue", "exact"),
    ):
        m_tilde = system.look_ahead(x, m)[:, which]
        ax.plot(1e3 * (t - slide), 1e6 * m_tilde, style, lw=0.8, ms=3, color=plots.COLORS[color], label=label)
    ax.set(xlabel=r"$10^3\,(t - t_{\mathrm{slide}})$", title="RK45: it chatters")
    ax.set_ylabel(rf"$10^6\,\tilde m_{which + 1}$")
    ax.legend(loc="lower right", fontsize=6.5)


def _reached(ax: Any, attempts: dict[tuple[str, float], Attempt], slide: float, cap: int) -> None:
    """The time that each plain solver reached."""
    for offset, rtol, color in ((-0.18, TOLERANCES[0], "orange"), (0.18, TOLERANCES[1], "sky")):
        chosen = [attempts[name, rtol] for name in SOLVERS]
        y = np.arange(len(SOLVERS)) + offset
        ax.barh(
            y,
            [a.t[-1] for a in chosen],
            0.34,
            color=plots.COLORS[color],
            label=rf"rtol $10^{{{np.log10(rtol):.0f}}}$",
        )
        for at, attempt in zip(y, chosen, strict=True):
            if attempt.t[-1] >= END:
                ax.text(END / 2, at - 0.02, f"“success”, off by {attempt.error:.1f}", va="center", fontsize=6)
    ax.axvline(slide, color="0.4", lw=0.8, ls="--")
    ax.set_yticks(range(len(SOLVERS)), SOLVERS)
    ax.set(xlabel="$t$ reached", xlim=(0, END), title=f"{cap} gradients later")
    ax.legend(loc="lower right", fontsize=6.5)


if __name__ == "__main__":
    alone(run)
