"""The systems that every generic check of flows, updates and certificates runs over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import lionode as ln

A2 = np.array([[3.0, 0.8], [0.8, 1.2]])
B2 = np.array([2.5, -1.7])


@dataclass(frozen=True)
class Row:
    """A system with a start; parameters are never 1, so that a lost factor shows."""

    id: str
    system: ln.LionK
    x0: tuple[float, ...]
    m0: tuple[float, ...]


def _systems() -> list[Row]:
    o, k = ln.objectives, ln.kappas
    quadratic = o.quadratic(A2, B2)
    general = {"alpha": 0.7, "gamma": 1.3, "epsilon": 0.4, "lam": 1.6}
    return [
        Row("pseudo-huber", ln.LionK(quadratic, k.PseudoHuber(0.2), **general), (1.9, -1.4), (0.3, -0.2)),
        Row("log-cosh", ln.LionK(quadratic, k.LogCosh(0.3), **general), (0.2, -0.4), (1.3, 0.8)),
        Row("huber", ln.LionK(quadratic, k.Huber(0.4), **general), (1.5, 1.1), (0.0, 0.0)),
        Row("quadratic", ln.LionK(quadratic, k.Quadratic(), **general), (2.0, -3.0), (0.5, 0.5)),
        Row("power", ln.LionK(quadratic, k.Power(3.0), **general), (0.6, -0.4), (0.5, 0.9)),
        Row("log-sum-exp", ln.LionK(quadratic, k.LogSumExp(), **general), (0.4, 0.225), (0.1, -0.6)),
        Row(
            "epsilon 0",
            ln.LionK(quadratic, k.PseudoHuber(0.5), 0.7, 1.3, 0.0, 0.9),
            (1.0, -1.4),
            (0.3, -0.2),
        ),
        Row(
            "epsilon*gamma 1",
            ln.LionK(quadratic, k.PseudoHuber(0.5), 0.7, 1.25, 0.8, 0.9),
            (1.0, -1.4),
            (0.3, -0.2),
        ),
        Row(
            "lam 0",
            ln.LionK(quadratic, k.PseudoHuber(0.5), 0.7, 1.3, 0.4, 0.0),
            (1.0, -1.4),
            (0.3, -0.2),
        ),
        Row(
            "gamma 0",
            ln.LionK(quadratic, k.LogCosh(0.3), 0.7, 0.0, 0.4, 1.6),
            (0.2, -0.4),
            (0.3, -0.2),
        ),
        Row(
            "rosenbrock",
            ln.LionK(o.rosenbrock(2), k.PseudoHuber(0.3), 0.1, 1.3, 0.4, 0.6),
            (-1.2, 1.0),
            (0.0, 0.0),
        ),
        Row(
            "one component",
            ln.LionK(o.from_expression("(x1 - 1.5)**2 + x1**4/10"), k.PseudoHuber(0.3), 0.7, 1.3, 0.4, 1.6),
            (2.0,),
            (0.4,),
        ),
    ]


SYSTEMS = _systems()
IDS = [row.id for row in SYSTEMS]
