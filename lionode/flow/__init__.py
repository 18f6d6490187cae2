"""Continuous time: `simulate` and the integrators behind it."""

from lionode.flow.simulate import METHODS, simulate

__all__ = ["METHODS", "simulate"]
