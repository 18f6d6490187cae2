"""The potentials that every generic check runs over: the registry's examples and what is built from them."""

from __future__ import annotations

from typing import NamedTuple

from lionode import kappas as k


class KappaRow(NamedTuple):
    id: str
    kappa: k.Potential
    dim: int


ANY_DIM = 4
"""For a κ that takes every dimension; TopK's examples need 3."""


def _catalogue() -> list[KappaRow]:
    rows = []
    for name, cls in k.REGISTRY.items():
        if not cls.examples:
            raise RuntimeError(f"the registered potential {name!r} has no example: give the class one")
        rows += [_row(cls(**arguments)) for arguments in cls.examples]
    return rows


def _row(kappa: k.Potential) -> KappaRow:
    return KappaRow(repr(kappa), kappa, kappa.dim or ANY_DIM)


BUILT = [
    k.Scaled(k.L1(), 2.5),
    k.Scaled(k.PseudoHuber(0.3), 0.4),
    k.Scaled(k.Lp(1.5), 2.5),
    k.Scaled(k.LogSumExp(), 1.7),
    k.Scaled(k.MoreauEnvelope(k.SoftThreshold(0.2), 0.3), 2.5),
    k.MoreauEnvelope(k.L1(), 0.3),
    k.MoreauEnvelope(k.LogCosh(0.3), 0.4),
    k.MoreauEnvelope(k.TopK(2), 0.3),
    k.MoreauEnvelope(k.Nuclear((2, 3)), 0.3),
    k.MoreauEnvelope(k.Scaled(k.Power(1.5), 0.7), 0.3),
    k.from_expression("sqrt(z**2 + 0.25) + 0.1*z**2"),
    k.from_expression("exp(z)"),
    k.from_expression("cosh(z/2)"),
    k.from_expression("max(abs(z) - 0.4, 0)"),
    k.Scaled(k.from_expression("log(1 + exp(z))"), 1.6),
    k.MoreauEnvelope(k.from_expression("abs(z) + 0.3*z**2"), 0.6),
]

KAPPAS = _catalogue() + [_row(kappa) for kappa in BUILT]

SMALL = {"settling": {"count": 6}, "basins": {"cells": 31}, "rises": {"count": 6}}
"""The studies, and the reduced setting in which they are tested."""
