"""One step of DOP853 as source: explicit, of order 8, for flows that are not stiff.

Source of the coefficients: Hairer, Nørsett & Wanner I, §II.5 and §II.6, as `scipy.integrate.DOP853` has them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.polynomial import Polynomial
from scipy.integrate import DOP853 as REFERENCE

from lionode._validate import Array
from lionode.ensemble.emit import Scheme, combination
from lionode.ensemble.model import Model

__all__ = ["DOP853"]

STAGES = REFERENCE.n_stages
ROWS = [*REFERENCE.A, REFERENCE.B, *REFERENCE.A_EXTRA]
"""The weights of each stage: 12 of the step, the one at its end, 3 for the interpolant."""


def _stage(model: Model, stage: int) -> list[str]:
    """s_j and k_j = velocity there."""
    lines = []
    for i in range(model.n):
        terms = _of_stages(ROWS[stage][:stage], i)
        lines += [f"s{i}_{stage} = y{i}" + (f" + h*({terms})" if terms else "")]
    return [
        *lines,
        *model.velocity.lines(model.inputs([f"s{i}_{stage}" for i in range(model.n)]), str(stage)),
    ]


def _of_stages(weights: Iterable[float], i: int) -> str:
    """Σ weights[j]·k_j, component i."""
    return combination((float(weight), f"v{i}_{j}") for j, weight in enumerate(weights))


def _step(model: Model) -> list[str]:
    lines = [line for stage in range(STAGES + 1) for line in _stage(model, stage)]
    return [*lines, *(f"n{i} = s{i}_{STAGES}" for i in range(model.n))]


def _error(model: Model) -> list[str]:
    """h²‖e₅‖⁴/(‖e₅‖² + 0.01‖e₃‖²) for the embedded solutions of order 5 and 3."""
    lines = []
    for i in range(model.n):
        for name, weights in (("five", REFERENCE.E5), ("three", REFERENCE.E3)):
            lines += [f"{name}{i} = ({_of_stages(weights, i)})*about_one_over(scale{i})"]
    for name in ("five", "three"):
        lines += [f"{name} = {' + '.join(f'{name}{i}*{name}{i}' for i in range(model.n))}"]
    return [*lines, f"error = h*h*five*five/(five + 0.01*three + 1e-60)*{1 / model.n!r}"]


def _monomials() -> Array:
    """Row r: θ, (1−θ)θ, θ²(1−θ), … , the functions of the interpolant, in powers of θ from 1 on."""
    theta, rows, product = Polynomial([0.0, 1.0]), [], Polynomial([1.0])
    for r in range(7):
        product = product * (theta if r % 2 == 0 else 1 - theta)
        rows.append(np.resize(np.append(product.coef, np.zeros(8)), 8)[1:])
    return np.array(rows)


def _dense(model: Model) -> list[str]:
    lines = [line for stage in range(STAGES + 1, STAGES + 4) for line in _stage(model, stage)]
    powers = _monomials()
    for i in range(model.n):
        lines += [
            f"F0 = n{i} - y{i}",
            f"F1 = h*v{i}_0 - F0",
            f"F2 = F0 + F0 - h*(v{i}_{STAGES} + v{i}_0)",
            *(f"F{r + 3} = h*({_of_stages(row, i)})" for r, row in enumerate(REFERENCE.D)),
            *(
                f"t{i}_{p + 1} = {combination((float(c), f'F{r}') for r, c in enumerate(powers[:, p]))}"
                for p in range(7)
            ),
        ]
    return lines


DOP853 = Scheme(
    "DOP853", gradients=16, power=2, degree=7, nodes=6, share=1 / 30, step=_step, error=_error, dense=_dense
)
