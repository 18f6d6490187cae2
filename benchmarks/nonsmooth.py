"""Lion's flow side by side: error against gradients and against time, for what can be had today.

    pip install nosnoc
    python benchmarks/nonsmooth.py          (writes benchmarks/nonsmooth.png, .pdf and a table)

f is a quadratic in two parameters, κ = L1, with crossings and slides. The reference is the matrix-exponential
solution of tests/oracle_l1.py, which shares no code with lionode. Peers: scipy's solvers with sign in the
right-hand side (stopped at a cap), scipy's Radau on tanh(m̃/e), and nosnoc's FESD with Radau IIA of two
and four stages. A peer that is not installed is skipped with a note.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import integrate

import lionode as ln
from lionode import plots

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from oracle_l1 import Flow

A, B = np.array([[3.0, 0.8], [0.8, 1.2]]), np.array([2.5, -1.7])
ALPHA, GAMMA, EPSILON, LAM = 0.7, 1.3, 0.1, 0.45
X0, M0, END = np.array([1.9, -1.4]), np.array([0.3, -0.2]), 6.0
GRID = np.linspace(0, END, 121)
CAP = 100_000
REPEATS = 3
COMPLEMENTARITY = 1e-10
"""How exactly nosnoc solves for the switches; at 1e-12 its interior-point method fails more often."""

Answer = tuple[np.ndarray, np.ndarray, int]
"""Times, states (x, m) there, and gradients used (0 where the peer does not count them)."""


class Point(NamedTuple):
    """One setting of one method."""

    method: str
    setting: str
    error: float
    gradients: int
    seconds: float


def lionode(
    method: str, tolerances: tuple[float, ...], **options: float
) -> Iterator[tuple[str, Callable[[], Answer]]]:
    system = ln.LionK(ln.objectives.quadratic(A, B), ln.kappas.L1(), ALPHA, GAMMA, EPSILON, LAM)

    def solve(tol: float) -> Answer:
        run = ln.simulate(system, X0, END, m0=M0, method=method, rtol=tol, atol=tol, t_eval=GRID)
        return run.t, np.concatenate([run.x, run.m], axis=1), run.nfev

    for tol in tolerances:
        yield f"rtol {tol:.0e}", lambda tol=tol: solve(tol)


def plain(name: str, tol: float, smoothing: float | None) -> Callable[[], Answer]:
    """A solver of scipy on sign(m̃), or on tanh(m̃/e)."""

    def rhs(t: float, y: np.ndarray) -> np.ndarray:
        descent = -ALPHA * (A @ y[:2] - B) - GAMMA * y[2:]
        m_tilde = y[2:] + EPSILON * descent
        u = np.sign(m_tilde) if smoothing is None else np.tanh(m_tilde / smoothing)
        return np.concatenate([u - LAM * y[:2], descent])

    def jac(t: float, y: np.ndarray) -> np.ndarray:
        descent = -ALPHA * (A @ y[:2] - B) - GAMMA * y[2:]
        slope = (1 - np.tanh((y[2:] + EPSILON * descent) / smoothing) ** 2) / smoothing
        d, eye = np.diag(slope), np.eye(2)
        return np.block([
            [-EPSILON * ALPHA * d @ A - LAM * eye, (1 - EPSILON * GAMMA) * d], [-ALPHA * A, -GAMMA * eye],
        ])  # fmt: skip

    def solve() -> Answer:
        settings = {"jac": jac} if smoothing is not None else {}
        solver = getattr(integrate, name)(
            rhs, 0.0, np.concatenate([X0, M0]), END, rtol=tol, atol=tol, **settings
        )
        states, done = [solver.y], 1
        while solver.status == "running" and solver.nfev < CAP:
            solver.step()
            dense = solver.dense_output()
            while done < len(GRID) and GRID[done] <= solver.t:
                states.append(dense(GRID[done]))
                done += 1
        return GRID[:done], np.array(states), solver.nfev

    return solve


def nosnoc(steps: int, stages: int) -> Callable[[], Answer]:
    """FESD with `steps` control intervals of two elements each; its set-up is not timed."""
    import casadi as ca
    import nosnoc as fesd

    y = ca.SX.sym("y", 4)
    descent = -ALPHA * (ca.DM(A) @ y[:2] - B) - GAMMA * y[2:]
    m_tilde = y[2:] + EPSILON * descent
    smooth = ca.vertcat(-LAM * y[:2], descent)
    sides = [
        [ca.vertcat(*(sign if j == i else 0 for j in range(2)), 0, 0) + smooth / 2 for sign in (1, -1)]
        for i in range(2)
    ]
    options = fesd.NosnocOpts()
    options.irk_scheme, options.n_s = fesd.IrkSchemes.RADAU_IIA, stages
    options.N_finite_elements, options.use_fesd = 2, True
    options.terminal_time, options.print_level = END / steps, 0
    options.comp_tol, options.sigma_N = COMPLEMENTARITY, COMPLEMENTARITY
    start = np.concatenate([X0, M0])
    model = fesd.NosnocModel(
        x=y, F=[ca.horzcat(*pair) for pair in sides], c=[m_tilde[0], m_tilde[1]],
        S=[np.array([[1], [-1]])] * 2, x0=start,
    )  # fmt: skip
    solver = fesd.NosnocSolver(options, model)

    def solve() -> Answer:
        looper = fesd.NosnocSimLooper(solver, start, steps, print_level=0)
        looper.run()
        results = looper.get_results()
        return np.array(results["t_grid"]), np.array(results["X_sim"]), 0

    return solve


def settings() -> Iterator[tuple[str, str, Callable[[], Answer]]]:
    for setting, solve in lionode("event", (1e-4, 1e-6, 1e-8, 1e-10, 1e-12)):
        yield "lionode event", setting, solve
    for setting, solve in lionode("moreau", (1e-3, 1e-5, 1e-7, 1e-9)):
        yield "lionode moreau", setting, solve
    for setting, solve in lionode("backward-euler", (1e-2, 1e-3, 1e-4, 1e-5)):
        yield "lionode backward-euler", setting, solve
    for name in ("RK45", "DOP853", "Radau", "BDF", "LSODA"):
        yield f"{name}, sign", "rtol 1e-06", plain(name, 1e-6, None)
    for e in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        yield "Radau, tanh", f"e = {e:.0e}", plain("Radau", e / 100, e)
    if find_spec("nosnoc") is None:
        print("nosnoc is not installed: skipped", file=sys.stderr)
        return
    for stages, steps in ((2, 6), (2, 12), (2, 24), (4, 6), (4, 12), (4, 24), (4, 48)):
        yield f"nosnoc, {stages} stages", f"{steps} steps", nosnoc(steps, stages)


def measure() -> list[Point]:
    exact = Flow(A, B, ALPHA, GAMMA, EPSILON, LAM, X0, M0, END)
    points = []
    for method, setting, solve in settings():
        best = np.inf
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(REPEATS):
                begun = time.perf_counter()
                t, y, gradients = solve()
                best = min(best, time.perf_counter() - begun)
                if best > 5:
                    break
        error = np.abs(y[:, :4] - exact(np.minimum(t, END))[:, :4]).max() if t[-1] >= END - 1e-9 else np.inf
        points.append(Point(method, setting, float(error), gradients, best))
        print(points[-1], file=sys.stderr)
    return points


def draw(points: list[Point], out: Path) -> None:
    with plots.context():
        fig, axes = plots.figure(1, 2, height=2.9)
        methods = [m for m in dict.fromkeys(p.method for p in points) if not m.endswith("sign")]
        markers = dict(zip(methods, "osD^vP", strict=False))
        for (method, marker), color in zip(markers.items(), plots.COLORS.values(), strict=False):
            own = [p for p in points if p.method == method and p.error < 10]
            errors = [p.error for p in own]
            axes[1].loglog([p.seconds for p in own], errors, marker + "-", ms=4, color=color, label=method)
            if all(p.gradients for p in own):
                axes[0].loglog(
                    [p.gradients for p in own], errors, marker + "-", ms=4, color=color, label=method
                )
        axes[0].set(xlabel="gradients", ylabel="largest error of $(x, m)$")
        axes[1].set(xlabel="seconds")
        axes[1].legend(fontsize=6.5)
        plots.save(fig, "nonsmooth", out)


def main() -> None:
    points = measure()
    draw(points, Path(__file__).parent)
    table = Table("method", "setting", "largest error", "gradients", "seconds")
    for p in points:
        error = f"{p.error:.1e}" if np.isfinite(p.error) else f"did not reach {END:g}"
        table.add_row(p.method, p.setting, error, str(p.gradients or "–"), f"{p.seconds:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
