"""What a phase portrait shows, as numbers: planes, switching lines, equilibria, basins and settling times."""

from lionode.phase.basins import UNSETTLED, Basins, basins, settling_times
from lionode.phase.equilibria import Equilibrium, equilibria, equilibrium
from lionode.phase.plane import LEVELS, Plane, limits, start_grid
from lionode.phase.switching import SwitchingLine, switching_lines

__all__ = [
    "LEVELS",
    "UNSETTLED",
    "Basins",
    "Equilibrium",
    "Plane",
    "SwitchingLine",
    "basins",
    "equilibria",
    "equilibrium",
    "limits",
    "settling_times",
    "start_grid",
    "switching_lines",
]
