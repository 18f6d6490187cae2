"""Many starts or parameters: compiled lanes, sweeps."""

from lionode.ensemble.ensemble import Ensemble, ensemble
from lionode.ensemble.study import Study
from lionode.ensemble.sweep import SweepStatus, sweep, sweep_status

__all__ = ["Ensemble", "Study", "SweepStatus", "ensemble", "sweep", "sweep_status"]
