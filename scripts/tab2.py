"""Table 2: the κ catalogue tested by Fenchel–Young with equality, κ(z) + κ*(u) = ⟨u, z⟩ at u ∈ ∂κ(z)."""

from pathlib import Path

import numpy as np

import lionode as ln
from lionode.reproduce import Row, alone

FREE_DIM = 6
ROUNDINGS = 1e3
"""In machine precisions, relative to the terms: value, conjugate and projection each cost tens."""


def run(out: Path, full: bool = False) -> list[Row]:
    rng = np.random.default_rng(2)
    rows = []
    for name, cls in ln.kappas.REGISTRY.items():
        residuals = []
        for arguments in cls.examples:
            kappa = cls(**arguments)
            z = 3 * rng.standard_normal((2000 if full else 200, kappa.dim or FREE_DIM))
            u = kappa.subgradient(z)
            value, inner = kappa.value(z), np.sum(u * z, axis=-1)
            residuals.append(np.abs(value + kappa.conjugate(u) - inner) / (1 + np.abs(value) + np.abs(inner)))
        worst = float(np.max(residuals))
        limit = ROUNDINGS * np.finfo(float).eps
        rows.append(
            Row("tab2", "Fenchel–Young with equality", f"{name}: worst relative residual", worst, high=limit)
        )
    return rows


if __name__ == "__main__":
    alone(run)
