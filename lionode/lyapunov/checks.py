"""One line of a certificate: a claim and what was found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from lionode._validate import Array

__all__ = ["FEW", "Check", "Verdict", "open_check", "worst_check"]

FEW = "fewer than two points in dom κ*"


class Verdict(StrEnum):
    """What a line of a certificate says."""

    HELD = "held"
    VIOLATED = "violated"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Check:
    """One line of a certificate: a claim, the verdict, the measured number, the bound it was held against."""

    claim: str
    verdict: Verdict
    value: float
    bound: float
    note: str = ""


def open_check(claim: str, why: str, value: float = math.nan, bound: float = math.nan) -> Check:
    """A line on which nothing is claimed, and why."""
    return Check(claim, Verdict.NOT_APPLICABLE, value, bound, why)


def worst_check(claim: str, values: Array, limits: Array, note: str = "") -> Check:
    """A line about many values, each with its limit: the one that exceeds its own the most decides."""
    worst = int(np.argmax(values - limits))
    verdict = Verdict.HELD if values[worst] <= limits[worst] else Verdict.VIOLATED
    return Check(claim, verdict, float(values[worst]), float(limits[worst]), note)
