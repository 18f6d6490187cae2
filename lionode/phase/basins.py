"""Where many flows end, and when they have settled there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lionode import _validate
from lionode._validate import Array
from lionode.ensemble import Ensemble, ensemble
from lionode.phase.equilibria import Equilibrium, equilibria, needs
from lionode.system import LionK

__all__ = ["UNSETTLED", "Basins", "basins", "settling_times"]

AT_REST = 0.1
"""A flow has settled if it stays near its limit for at least this last share of the time that was asked for:
one that only passes a saddle, or an equilibrium, does not."""

UNSETTLED = -1
"""The label of a start whose flow has not settled near an equilibrium."""


@dataclass(frozen=True)
class Basins:
    """Where the flows from many starts end, and when they have settled there.

    Attributes
    ----------
    equilibria : tuple of Equilibrium
        Those that at least one flow ends at, in lexicographic order of x; saddles are among them if a flow
        has stayed at one.
    label : ndarray of int, shape (...)
        Of each start: the position of its equilibrium, or `UNSETTLED`.
    settling_time : ndarray, shape (...)
        From when on x stays within the tolerance of that equilibrium; inf where not settled.
    entry_time : ndarray, shape (...)
        When λx entered dom κ*: 0 if it started there, inf if it had not by the end.
    flows : Ensemble
        All flows, the starts in C order.
    """

    equilibria: tuple[Equilibrium, ...]
    label: NDArray[np.int64]
    settling_time: Array
    entry_time: Array
    flows: Ensemble

    @property
    def shares(self) -> Array:
        """The share of the starts in each basin; what is missing to 1 has not settled."""
        return np.array([(self.label == k).mean() for k in range(len(self.equilibria))])


def basins(
    system: LionK,
    x0s: ArrayLike,
    t_end: float,
    m0s: ArrayLike | None = None,
    *,
    within: float = 1e-3,
    samples: int = 401,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    workers: int | None = None,
) -> Basins:
    """The equilibrium that each of many flows ends at, and when it has settled there.

    A flow has settled once x stays within a distance of its limit from then on, at least for the last tenth
    of the time.

    Parameters
    ----------
    system : LionK
        With a Hessian and γ > 0.
    x0s, m0s : array_like, shape (..., d)
        The starts, for example of `Plane.states`; m0s is zero by default.
    t_end : float
        The end, > 0.
    within : float
        The distance that a settled flow stays within, > 0.
    samples : int
        At how many times the distance is looked at; the states of all starts at all of them are kept.
    rtol, atol, workers :
        As for `ensemble`, which is called once.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is named above.
    """
    x0s = _validate.array("x0s", x0s, last=system.dim)
    lead, d = x0s.shape[:-1], system.dim
    if m0s is not None and np.shape(m0s) != x0s.shape:
        raise ValueError(f"m0s must have the shape of x0s, {x0s.shape}, got {np.shape(m0s)}")
    needs(system)
    within = _validate.positive("within", within)
    t_end = _validate.positive("t_end", t_end)
    times = np.linspace(0.0, t_end, _validate.count("samples", samples, minimum=2))
    flows = ensemble(
        system, x0s.reshape(-1, d), t_end, None if m0s is None else np.reshape(m0s, (-1, d)),
        rtol, atol, times, workers=workers,
    )  # fmt: skip
    ends = flows.x[np.isfinite(flows.x[:, -1]).all(axis=1), -1]
    # Ends that differ by less than they are known to lead Newton's method to the same point.
    ends = ends[np.unique(np.round(ends / within), axis=0, return_index=True)[1]]
    found = equilibria(system, ends)
    label = np.full(len(flows), UNSETTLED)
    settled = np.full(len(flows), np.inf)
    nearest = _nearest(flows.x[:, -1], np.array([e.x for e in found]).reshape(-1, d))
    for k, rest in enumerate(found):
        members = np.flatnonzero(nearest == k)
        distance = np.linalg.norm(flows.x[members] - rest.x, axis=-1)
        time = settling_times(times, distance, within)
        stays = time <= (1 - AT_REST) * t_end
        label[members[stays]], settled[members[stays]] = k, time[stays]
    used = np.unique(label[label != UNSETTLED])
    label = np.where(label == UNSETTLED, UNSETTLED, np.searchsorted(used, label))
    return Basins(
        tuple(found[k] for k in used), label.reshape(lead), settled.reshape(lead),
        flows.entry_time.reshape(lead), flows,
    )  # fmt: skip


def _nearest(points: Array, targets: Array) -> NDArray[np.int64]:
    """The row of targets nearest to each of the points, −1 where there is none."""
    if not len(targets):
        return np.full(len(points), UNSETTLED)
    distance = np.linalg.norm(points[:, None] - targets, axis=-1)
    return np.where(np.isfinite(distance).all(axis=1), np.argmin(distance, axis=1), UNSETTLED)


def settling_times(t: ArrayLike, distance: ArrayLike, within: float) -> Array:
    """When each distance has fallen to `within` for good, between its samples on a logarithmic line.

    Parameters
    ----------
    t : array_like, shape (n,)
        Increasing times.
    distance : array_like, shape (..., n)
        To the limit; NaN counts as away.
    within : float
        > 0.

    Returns
    -------
    ndarray, shape (...)
        t[0] where it is never above, inf where it is at the end. Exact for an exponential decay.
    """
    t = _validate.vector("t", t)
    distance = _validate.array("distance", distance, last=t.size, finite=False)
    within = _validate.positive("within", within)
    away = ~(distance <= within)
    last = t.size - 1 - np.argmax(away[..., ::-1], axis=-1)
    before, after = (
        np.take_along_axis(distance, np.minimum(k, t.size - 1)[..., None], axis=-1)[..., 0]
        for k in (last, last + 1)
    )
    with np.errstate(all="ignore"):
        share = np.log(before / within) / np.log(before / np.maximum(after, np.finfo(np.float64).tiny))
        crossing = t[last] + np.nan_to_num(share) * (t[np.minimum(last + 1, t.size - 1)] - t[last])
    crossing = np.where(last == t.size - 1, np.inf, crossing)
    return np.where(away.any(axis=-1), crossing, t[0])
