"""Potentials to plain data and back, so that a saved run rebuilds its κ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lionode import _validate
from lionode.kappas.base import REGISTRY, Potential
from lionode.kappas.calculus import MoreauEnvelope, Scaled
from lionode.kappas.expression import from_expression

__all__ = ["from_spec", "to_spec"]

OPERATIONS: dict[str, Callable[..., Potential]] = {
    "scaled": Scaled,
    "moreau": MoreauEnvelope,
    "expression": from_expression,
}
"""What builds a potential that is not in the registry, by its ``name``."""


def to_spec(kappa: Potential) -> dict[str, Any]:
    """JSON-able data that `from_spec` turns back into an equal potential.

    Raises
    ------
    ValueError
        If κ is of a class that has no registered name.
    """
    _validate.choice("the name of kappa", kappa.name, [*REGISTRY, *OPERATIONS])
    parameters = {
        key: to_spec(value) if isinstance(value, Potential) else value
        for key, value in kappa.parameters.items()
    }
    return {"name": kappa.name, "parameters": parameters}


def from_spec(spec: dict[str, Any]) -> Potential:
    """The potential that `to_spec` described.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    builders: dict[str, Callable[..., Potential]] = {**REGISTRY, **OPERATIONS}
    build = builders[_validate.choice("the name of kappa", spec.get("name"), builders)]
    return build(
        **{
            key: from_spec(value) if isinstance(value, dict) else value
            for key, value in spec.get("parameters", {}).items()
        }
    )
