"""Continuous-time dynamics of the Lion optimizer family.

A loss f, a potential κ and four coefficients make a `LionK` system; a system can be flowed (`simulate`),
stepped (`iterate`), solved (`composite_optimum`) and certified (`lyapunov`, `certify`, `prove`).
"""

from lionode import kappas, objectives, presets
from lionode.ensemble import Ensemble, Study, SweepStatus, ensemble, sweep, sweep_status
from lionode.flow import simulate
from lionode.lyapunov import (
    Certificate,
    Dissipation,
    Proof,
    certify,
    dissipation,
    lyapunov,
    monotone_lr,
    prove,
)
from lionode.objectives.base import Objective
from lionode.optimum import CompositeOptimum, composite_optimum, kkt_residual, optimality_gap
from lionode.phase import (
    Basins,
    Equilibrium,
    Plane,
    basins,
    equilibria,
    equilibrium,
    settling_times,
    start_grid,
    switching_lines,
)
from lionode.rates import LocalRate, RateScan, local_rate, scan_rates, tail_rate
from lionode.system import LionK, Optimizer
from lionode.trajectory import Event, Status, Trajectory
from lionode.trajectory import open_run as open
from lionode.updates import iterate, step

__all__ = [
    "Basins",
    "Certificate",
    "CompositeOptimum",
    "Dissipation",
    "Ensemble",
    "Equilibrium",
    "Event",
    "LionK",
    "LocalRate",
    "Objective",
    "Optimizer",
    "Plane",
    "Proof",
    "RateScan",
    "Status",
    "Study",
    "SweepStatus",
    "Trajectory",
    "basins",
    "certify",
    "composite_optimum",
    "dissipation",
    "ensemble",
    "equilibria",
    "equilibrium",
    "iterate",
    "kappas",
    "kkt_residual",
    "local_rate",
    "lyapunov",
    "monotone_lr",
    "objectives",
    "open",
    "optimality_gap",
    "presets",
    "prove",
    "scan_rates",
    "settling_times",
    "simulate",
    "start_grid",
    "step",
    "sweep",
    "sweep_status",
    "switching_lines",
    "tail_rate",
]
