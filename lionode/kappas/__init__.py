"""Convex potentials κ: the catalogue, and what makes a potential from a potential or from an expression."""

from lionode.kappas.base import REGISTRY, Potential, Separable, parse
from lionode.kappas.calculus import MoreauEnvelope, Scaled
from lionode.kappas.entropy import LogSumExp
from lionode.kappas.expression import from_expression
from lionode.kappas.norms import GroupL2, LInf, Lp, TopK
from lionode.kappas.separable import L1, Huber, LogCosh, Power, PseudoHuber, Quadratic, SoftThreshold
from lionode.kappas.spec import from_spec, to_spec
from lionode.kappas.spectral import Nuclear

__all__ = [
    "L1",
    "REGISTRY",
    "GroupL2",
    "Huber",
    "LInf",
    "LogCosh",
    "LogSumExp",
    "Lp",
    "MoreauEnvelope",
    "Nuclear",
    "Potential",
    "Power",
    "PseudoHuber",
    "Quadratic",
    "Scaled",
    "Separable",
    "SoftThreshold",
    "TopK",
    "from_expression",
    "from_spec",
    "parse",
    "to_spec",
]
