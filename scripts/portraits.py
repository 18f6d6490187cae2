"""Phase portraits of one parameter: nullclines, switching lines, the segments on which the flow slides."""

from pathlib import Path

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

STARTS = [[-1.8, 1.5], [1.8, -1.5], [-1.8, -1.8], [1.5, 1.6]]
ON_THE_LINE = 1e-9
"""After a short while the flow is this near to the line only if it slides: it leaves at a rate otherwise."""


WELL = "(x**2 - 1)**2/4 + x/10"
STATIONARY = 1e-8
"""Newton's method ends at rounding, and so do the roots of a polynomial that are not near to each other."""
CASES = [
    (ln.kappas.L1(), 0.5, 0.7), (ln.kappas.L1(), 0.5, 1.8), (ln.kappas.L1(), 0.1, 0.7),
    (ln.kappas.SoftThreshold(0.4), 0.3, 0.7), (ln.kappas.Huber(0.3), 0.5, 0.7),
    (ln.kappas.PseudoHuber(0.1), 0.5, 0.7),
]  # fmt: skip
IN_THE_WELL = [(ln.kappas.L1(), 0.5, 0.6), (ln.kappas.L1(), 0.5, 1.3), (ln.kappas.Huber(0.3), 0.5, 0.6)]


def run(out: Path, full: bool = False) -> list[Row]:
    systems, wells = (
        [
            ln.LionK(ln.objectives.from_expression(f), k, gamma=1.2, epsilon=eps, lam=lam)
            for k, eps, lam in cases
        ]
        for f, cases in (("(x - 0.8)**2", CASES), (WELL, IN_THE_WELL))
    )
    fig = plots.portraits([*systems, *wells], STARTS)
    for ax in fig.axes[len(systems) :]:
        ax.set_title(f"double well: {ax.get_title()}", fontsize=6.5)
    plots.save(fig, "portraits", out)
    wrong = points = 0
    for system in systems[:4]:
        for line in ln.switching_lines(system, np.linspace(-1.97, 1.93, 40)):
            for x, m, slides in zip(line.x, line.m, line.slides, strict=True):
                flow = ln.simulate(system, [x], 1e-3, [m])
                away = abs(float(system.look_ahead(flow.x, flow.m)[-1, 0]) - line.kink)
                wrong += bool(slides) != (away < ON_THE_LINE)
                points += 1
    rest = ln.equilibria(wells[0], np.linspace(-2, 2, 41)[:, None])
    # Inside the box an equilibrium of Lion is a stationary point of f: f' = x³ − x + 1/10.
    roots = np.sort(np.roots([1.0, 0.0, -1.0, 0.1]).real)
    off = np.abs([e.x[0] for e in rest] - roots).max() if len(rest) == len(roots) else np.inf
    starts = np.random.default_rng(0).uniform(-1.5, 1.5, (60, 1, 2))
    ends = [ln.basins(system, starts[..., 0], 60.0, starts[..., 1]) for system in wells]
    astray = sum(int((b.label < 0).sum()) for b in ends)
    astray += sum(not e.kind.startswith("stable") for b in ends for e in b.equilibria)
    return [
        Row(
            "portraits", "all equilibria of Lion in a double well are found",
            "worst distance to the roots of f'", float(off), high=STATIONARY,
        ),
        Row(
            "portraits", "flows end where the linearisation says stable",
            f"of {len(wells) * len(starts)} flows in double wells: elsewhere", astray, high=0,
        ),
        Row(
            "portraits", "the flow slides where both sides lead to the switching line",
            f"points of {points} at which the exact flow does otherwise", wrong, high=0,
        )
    ]  # fmt: skip


if __name__ == "__main__":
    alone(run)
