"""The discrete updates: one step, long runs, and the in-place pass for large d."""

from lionode.updates.iterate import iterate
from lionode.updates.step import DECAYS, LOOK_AHEADS, apply, step

__all__ = ["DECAYS", "LOOK_AHEADS", "apply", "iterate", "step"]
