"""The Moreau envelope in place of κ, at τ and τ/2, with one Richardson step: any κ by a stiff solver.

κ_τ has the conjugate κ* + (τ/2)‖·‖², so the smoothed system has an exact H_τ, and its run an honest
certificate.
"""

from __future__ import annotations

import numpy as np

from lionode import _validate
from lionode._validate import Array
from lionode.flow import smooth
from lionode.flow.base import Budget, Options, Solution
from lionode.kappas.calculus import MoreauEnvelope
from lionode.system import LionK
from lionode.trajectory import Dense, Status, Trajectory

__all__ = ["default_tau", "integrate"]

SMALLEST_TAU, LARGEST_TAU = 1e-6, 1e-2
"""Bounds on the default τ: below 1e-6 the slope 1/τ of ∇κ_τ leaves a stiff solver few digits, above 1e-2
the expansion in τ behind the Richardson step is not yet in force."""

DENSE_POINTS = 8
"""Chebyshev points that hold the combination on each step of the τ/2 run."""

LARGE = 20
"""Beyond this many parameters LSODA, whose linear algebra is d³ a step, not (2d)³ complex as Radau's."""


def default_tau(rtol: float) -> float:
    """τ = √rtol within bounds: a run is off by O(τ), its Richardson combination by O(τ²) = O(rtol)."""
    return min(LARGEST_TAU, max(SMALLEST_TAU, float(np.sqrt(rtol))))


def integrate(
    system: LionK, x0: Array, m0: Array, t_end: float, options: Options, budget: Budget
) -> Solution:
    """Integrate the flow of κ_τ and of κ_{τ/2} and combine 2·y_{τ/2} − y_τ.

    ``options.extra["tau"]`` sets τ; `default_tau` otherwise. The solution holds (x, m, u) of the
    combination, where u ∈ ∂κ at the prox of the τ/2 run's m̃. Its ``info`` has ``tau``, ``error_estimate``
    = max ‖y_{τ/2} − y_τ‖∞, which bounds the error where it is O(τ), and ``certified``, the run of the
    smoothed system with κ_{τ/2}: its H is exact, and it is the one that `certify` judges.

    Raises
    ------
    ValueError
        If τ is not positive.
    """
    tau = _validate.positive("tau", options.extra.get("tau", default_tau(options.rtol)))
    solver = "Radau" if system.dim <= LARGE else "LSODA"
    systems = [system.replace(kappa=MoreauEnvelope(system.kappa, scale * tau)) for scale in (1.0, 0.5)]
    coarse, fine = (
        smooth.integrate(solver, smoothed, x0, m0, t_end, options, budget) for smoothed in systems
    )
    nfev, njev = coarse.nfev + fine.nfev, coarse.njev + fine.njev
    worse = fine if fine.status is not Status.FINISHED else coarse
    if coarse.dense is None or fine.dense is None:
        message = f"moreau with tau = {tau:g}: {worse.message}"
        return Solution(None, worse.status, message, "moreau", nfev=nfev, njev=njev, info={"tau": tau})
    dense, estimate = _combine(systems[1], coarse.dense, fine.dense)
    message = (
        f"moreau with tau = {tau:g} and half of it, by {solver}: they differ by {estimate:.1e} at most, "
        f"the combination is nearer; {worse.message}"
    )
    certified = _run(systems[1], fine, options)
    info = {"tau": tau, "error_estimate": estimate, "certified": certified}
    return Solution(dense, worse.status, message, "moreau", nfev=nfev, njev=njev, info=info)


def _combine(system: LionK, coarse: Dense, fine: Dense) -> tuple[Dense, float]:
    """2·y_{τ/2} − y_τ as far as both runs reach, with the u of the τ/2 run, and their largest difference."""
    end = min(coarse.breaks[-1], fine.breaks[-1])
    breaks = np.append(fine.breaks[fine.breaks < end], end)
    d, largest = system.dim, 0.0

    def at(step: int, times: Array) -> Array:
        nonlocal largest
        rough, good = coarse(times), fine(times)
        largest = max(largest, float(np.max(np.abs(good - rough))))
        u = system.kappa.subgradient(system.look_ahead(good[:, :d], good[:, d:]))
        return np.concatenate([2 * good - rough, u], axis=-1)

    combined = Dense.sample(breaks, lambda i, t: at(i, np.clip(t, 0.0, end)), DENSE_POINTS)
    return combined, largest


def _run(system: LionK, solution: Solution, options: Options) -> Trajectory:
    assert solution.dense is not None
    t, d = solution.dense.breaks, system.dim
    y = solution.dense(t)
    x, m = y[:, :d], y[:, d:]
    u = system.kappa.subgradient(system.look_ahead(x, m))
    return Trajectory(
        system, t, x, m, u, solution.status, solution.message, solution.method, (),
        solution.nfev, solution.njev, solution.dense, {"rtol": options.rtol, "atol": options.atol},
    )  # fmt: skip
