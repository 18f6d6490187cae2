"""Phase portraits of one parameter: nullclines, switching lines, the segments on which the flow slides."""

from pathlib import Path

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone

STARTS = [[-1.8, 1.5], [1.8, -1.5], [-1.8, -1.8], [1.5, 1.6]]
ON_THE_LINE = 1e-9
"""After a short while the flow is this near to the line only if it slides: it leaves at a rate otherwise."""


def run(out: Path, full: bool = False) -> list[Row]:
    f = ln.objectives.from_expression("(x1 - 0.8)**2")
    cases = [
        (ln.kappas.L1(), 0.5, 0.7), (ln.kappas.L1(), 0.5, 1.8), (ln.kappas.L1(), 0.1, 0.7),
        (ln.kappas.SoftThreshold(0.4), 0.3, 0.7), (ln.kappas.Huber(0.3), 0.5, 0.7),
        (ln.kappas.PseudoHuber(0.1), 0.5, 0.7),
    ]  # fmt: skip
    systems = [ln.LionK(f, kappa, gamma=1.2, epsilon=eps, lam=lam) for kappa, eps, lam in cases]
    fig = plots.portraits(systems, STARTS)
    handles, labels = fig.axes[0].get_legend_handles_labels()
    labels[-1] = "equilibrium"
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=7)
    plots.save(fig, "portraits", out)
    wrong = points = 0
    for system in systems[:4]:
        for line in ln.switching_lines(system, np.linspace(-1.97, 1.93, 40)):
            for x, m, slides in zip(line.x, line.m, line.slides, strict=True):
                flow = ln.simulate(system, [x], 1e-3, [m])
                away = abs(float(system.look_ahead(flow.x, flow.m)[-1, 0]) - line.kink)
                wrong += bool(slides) != (away < ON_THE_LINE)
                points += 1
    return [
        Row(
            "portraits", "the flow slides where both sides lead to the switching line",
            f"points of {points} at which the exact flow does otherwise", wrong, high=0,
        )
    ]  # fmt: skip


if __name__ == "__main__":
    alone(run)
