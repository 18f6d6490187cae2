"""How fast the flow converges in the end: the spectrum of its linearisation, and the tail of a run.

At a stationary point where κ is smooth the linearisation is the Jacobian. Where κ is separable and piecewise
linear, the components at a kink slide, m̃_S = k: the flow is linear on that subspace, with the u_S that keeps
it there. Without look-ahead (ε = 0) nothing slides and the crossings of a kink grow dense: then p = ṁ obeys
ṗ = −αH u − (γ+λ)p, the energy ½pᵀ(αH)⁻¹p + κ(m) loses (γ+λ)pᵀ(αH)⁻¹p, two thirds of itself on average
since κ is homogeneous of degree 1 (the virial theorem), and x decays like e^{−(γ+λ)t/3}.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from lionode import _validate
from lionode._validate import Array
from lionode.optimum import composite_optimum
from lionode.system import LionK
from lionode.trajectory import Trajectory

__all__ = ["LocalRate", "RateScan", "local_rate", "scan_rates", "tail_rate"]

AT_KINK = 1e-9
"""The optimum is known to 1e-10: a component of m nearer to a kink than this may be at it."""

NOISE = 30.0
"""Below this many times the tolerances of a run its distance to the limit is noise. Its tail is the lower
half, on a logarithmic scale, of the way down to there: above, faster modes still show."""

SAMPLES = 4000


@dataclass(frozen=True)
class LocalRate:
    """The flow near a stationary point (x, m).

    Attributes
    ----------
    rate : float
        (x, m) approaches the point like e^{−rate·t}, up to polynomials in t; < 0 if it does not.
    eigenvalues : ndarray, complex
        Of the linearisation on the subspace that the flow stays in; empty where there is none (`dense`).
    sliding : tuple of int
        The components at a kink of κ.
    dense : bool
        Whether ε = 0 and kinks are crossed ever faster: the rate is then (γ+λ)/3 at most.
    """

    x: Array
    m: Array
    rate: float
    eigenvalues: NDArray[np.complex128]
    sliding: tuple[int, ...] = ()
    dense: bool = False


@dataclass(frozen=True)
class RateScan:
    """Local rates over a grid; NaN where εγ > 1.

    Attributes
    ----------
    gammas, epsilons : ndarray, shapes (n,), (k,)
    rates : ndarray, shape (n, k)
    best : LionK
        The system with the largest rate.
    """

    gammas: Array
    epsilons: Array
    rates: Array
    best: LionK


def local_rate(system: LionK, near: ArrayLike | None = None) -> LocalRate:
    """The rate at which the flow converges to the stationary point found from `near`.

    Parameters
    ----------
    system : LionK
        With a Hessian, γ > 0 and a κ that is smooth, or separable and piecewise linear.
    near : array_like, shape (d,), optional
        Where the search for the composite optimum begins; zeros by default.

    Raises
    ------
    ValueError
        If no optimum was found, γ = 0, f has no Hessian, or κ has kinks of another kind.
    """
    if system.gamma == 0:
        raise ValueError("gamma must be > 0 for an equilibrium of (x, m): at γ = 0 m has none of its own")
    if not system.objective.has_hessian:
        raise ValueError(f"a local rate needs the Hessian of {system.objective.name}: pass hessian=...")
    best = composite_optimum(system, near)
    if not best.success:
        raise ValueError(f"no equilibrium was found: {best.message}")
    return linearise(system, best.x)


def linearise(system: LionK, x: Array) -> LocalRate:
    """The linearisation at a stationary point x, where m = −(α/γ)∇f(x)."""
    m = -system.alpha / system.gamma * system.objective.gradient(x)
    if system.kappa.smooth:
        values = np.linalg.eigvals(system.jacobian(x, m))
        return LocalRate(x, m, float(-values.real.max()), values.astype(np.complex128))
    kinks = system.kappa.kinks
    if kinks is None:
        raise ValueError(
            f"the flow is linearised for a smooth or a separable piecewise linear kappa, got {system.kappa}"
        )
    sliding = np.flatnonzero(
        (np.abs(m[:, None] - np.asarray(kinks)) <= AT_KINK * (1 + np.abs(m[:, None]))).any(1)
    )
    indices = tuple(int(i) for i in sliding)
    if sliding.size and system.epsilon == 0:
        others = [system.lam, system.gamma] if sliding.size < system.dim else []
        rate = min([(system.gamma + system.lam) / 3, *others])
        return LocalRate(x, m, rate, np.zeros(0, np.complex128), indices, dense=True)
    values = _sliding_spectrum(system, x, sliding)
    return LocalRate(x, m, float(-values.real.max()), values, indices)


def _sliding_spectrum(system: LionK, x: Array, sliding: NDArray[np.int64]) -> NDArray[np.complex128]:
    """The eigenvalues of the linear flow on the subspace m̃_S = 0 of deviations from the equilibrium."""
    d, alpha, gamma = system.dim, system.alpha, system.gamma
    hessian = system.objective.hessian(x)
    hessian = np.asarray(hessian.toarray() if hasattr(hessian, "toarray") else hessian)
    eye = np.eye(d)
    flow = np.block([[-system.lam * eye, np.zeros((d, d))], [-alpha * hessian, -gamma * eye]])
    if sliding.size == 0:
        return np.linalg.eigvals(flow).astype(np.complex128)
    m_tilde = np.hstack([-system.epsilon * alpha * hessian, (1 - system.epsilon * gamma) * eye])[sliding]
    # u_S moves x_S, and through it m̃_S; it cancels what m̃_S would do without.
    answer = m_tilde[:, sliding]
    flow[sliding] -= np.linalg.solve(answer, m_tilde @ flow)
    basis = scipy.linalg.null_space(m_tilde)
    return np.linalg.eigvals(basis.T @ flow @ basis).astype(np.complex128)


def tail_rate(run: Trajectory, x: ArrayLike, m: ArrayLike) -> float:
    """The rate measured on a run: minus the slope of log ‖(x, m)(t) − (x̂, m̂)‖ over its tail.

    The slope is that of the decreasing envelope, so that turning around the limit does not show.

    Parameters
    ----------
    run : Trajectory
        A flow that has come near its limit.
    x, m : array_like, shape (d,)
        The limit.

    Raises
    ------
    ValueError
        If the run has no tail: it ends before its distance has fallen half of the way to its tolerances.
    """
    limit = np.concatenate([
        _validate.vector("x", x, dim=run.system.dim), _validate.vector("m", m, dim=run.system.dim),
    ])  # fmt: skip
    t = np.linspace(run.t[0], run.t[-1], SAMPLES)
    distance = np.linalg.norm(run.evaluate(t)[:, : 2 * run.system.dim] - limit, axis=1)
    envelope = np.maximum.accumulate(distance[::-1])[::-1]
    noise = run.info.get("atol", 0.0) + run.info.get("rtol", 0.0) * np.linalg.norm(limit)
    lowest = NOISE * (noise + np.finfo(np.float64).eps * np.linalg.norm(limit))
    tail = (envelope < math.sqrt(envelope[0] * lowest)) & (envelope > lowest)
    # The envelope of a turning run is a staircase: its corners, which the distance reaches, lie on the slope.
    tail &= distance == envelope
    if np.count_nonzero(tail) < 3:
        raise ValueError(
            f"the run has no tail to measure: its distance to the limit falls from {envelope[0]:.1e} to "
            f"{envelope[-1]:.1e} by t = {t[-1]:g}; simulate longer"
        )
    return float(-np.polyfit(t[tail], np.log(envelope[tail]), 1)[0])


def scan_rates(system: LionK, gammas: ArrayLike, epsilons: ArrayLike) -> RateScan:
    """Local rates over a grid of (γ, ε), for the same problem: α/γ is kept, and with it min αf + (γ/λ)κ*(λ·).

    Parameters
    ----------
    system : LionK
        As for `local_rate`.
    gammas, epsilons : array_like, shapes (n,), (k,)
        γ > 0 and ε ≥ 0; where εγ > 1 the rate is NaN.

    Raises
    ------
    ValueError
        As `local_rate`, or if the whole grid has εγ > 1.
    """
    gammas, epsilons = _validate.vector("gammas", gammas), _validate.vector("epsilons", epsilons)
    ratio = system.alpha / system.gamma if system.gamma else math.nan
    x = local_rate(system).x
    rates = np.full((gammas.size, epsilons.size), np.nan)
    for i, gamma in enumerate(gammas):
        for j, epsilon in enumerate(epsilons):
            if epsilon * gamma <= 1:
                changed = system.replace(alpha=ratio * gamma, gamma=float(gamma), epsilon=float(epsilon))
                rates[i, j] = linearise(changed, x).rate
    if np.isnan(rates).all():
        raise ValueError("gammas and epsilons must have a pair with epsilon*gamma <= 1, got none")
    row, column = divmod(int(np.nanargmax(rates)), epsilons.size)
    best = system.replace(
        alpha=float(ratio * gammas[row]), gamma=float(gammas[row]), epsilon=float(epsilons[column])
    )
    return RateScan(gammas, epsilons, rates, best)
