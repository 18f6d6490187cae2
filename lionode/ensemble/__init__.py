"""Many starts or parameters at once."""

from lionode.ensemble.ensemble import Ensemble, ensemble

__all__ = ["Ensemble", "ensemble"]
