"""What a phase portrait shows, as numbers: planes, switching lines, equilibria, basins and settling times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lionode import _validate
from lionode._validate import Array
from lionode.ensemble import Ensemble, ensemble
from lionode.lyapunov import lyapunov
from lionode.optimum import composite_optimum, composite_value, kkt_residual
from lionode.rates import linearise, local_rate
from lionode.system import LionK

__all__ = [
    "UNSETTLED",
    "Basins",
    "Equilibrium",
    "Plane",
    "SwitchingLine",
    "basins",
    "equilibria",
    "equilibrium",
    "settling_times",
    "start_grid",
    "switching_lines",
]

CENTRE = 1e-9
"""Relative to the largest eigenvalue, a real part below this is none."""

NEWTON_STEPS = 60
"""A semismooth Newton iteration that finds a root takes about ten steps; most of the rest wander for ever."""

STATIONARY = 1e-8
"""The residual of a root relative to 1 + |x|: Newton's method ends at rounding, or does not end."""

SAME = 1e-6
"""Two roots nearer than this, relative to 1 + |x|, are one: each is known to about `STATIONARY`."""

AT_REST = 0.1
"""A flow has settled if it stays near its limit for at least this last share of the time that was asked for:
one that only passes a saddle, or an equilibrium, does not."""

UNSETTLED = -1
"""The label of a start whose flow has not settled near an equilibrium."""

LEVELS = ("f", "F", "H")


@dataclass(frozen=True)
class Plane:
    """Two of the coordinates (x, m) of the state as axes, and the values at which the others are held.

    Parameters
    ----------
    axes : (str, str)
        Their names, of x1 … xd and m1 … md; also x and m for one parameter.
    dim : int
        The number d of parameters.
    held : mapping of str to float
        Values of the other coordinates; those not named are held at 0.

    Raises
    ------
    TypeError, ValueError
        If a name is not one of a coordinate, the axes are one, or an axis is held.
    """

    axes: tuple[str, str]
    dim: int
    held: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _validate.count("dim", self.dim)
        axes = tuple(self._name("plane", name) for name in self.axes)
        if len(axes) != 2 or axes[0] == axes[1]:
            raise ValueError(f"plane must be two different coordinates, got {','.join(map(str, self.axes))}")
        held = dict.fromkeys([name for name in self.names if name not in axes], 0.0)
        for name, value in self.held.items():
            if self._name("held", name) not in held:
                raise ValueError(f"held must name coordinates off the axes {','.join(axes)}, got {name}")
            held[self._name("held", name)] = _validate.real(f"held {name}", value)
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "held", held)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all coordinates: x1 … xd, m1 … md."""
        return tuple(f"{letter}{i + 1}" for letter in "xm" for i in range(self.dim))

    @property
    def index(self) -> tuple[int, int]:
        """The positions of the axes in (x, m)."""
        return self.names.index(self.axes[0]), self.names.index(self.axes[1])

    def states(self, points: ArrayLike) -> tuple[Array, Array]:
        """(x, m) of the points of the plane. Shape ``(..., 2)`` to two of shape ``(..., d)``."""
        points = _validate.array("points", points, last=2)
        state = np.zeros((*points.shape[:-1], 2 * self.dim))
        for name, value in self.held.items():
            state[..., self.names.index(name)] = value
        state[..., self.index] = points
        return state[..., : self.dim], state[..., self.dim :]

    def project(self, x: ArrayLike, m: ArrayLike) -> Array:
        """The two coordinates of states. Shapes ``(..., d)`` to ``(..., 2)``."""
        return np.concatenate([np.asarray(x), np.asarray(m)], axis=-1)[..., self.index]

    def level(self, system: LionK, points: ArrayLike, of: str = "H") -> Array:
        """f, F = αf + (γ/λ)κ*(λ·) or H on the plane, at the values that are held.

        Parameters
        ----------
        system : LionK
            Of as many parameters as the plane.
        points : array_like, shape (..., 2)
            Points of the plane.
        of : str
            "f", "F" or "H".

        Returns
        -------
        ndarray, shape (...)
            +inf where λx ∉ dom κ*, for F and H.
        """
        x, m = self.states(points)
        _validate.choice("of", of, LEVELS)
        if of == "f":
            return system.objective.value(x)
        return composite_value(system, x) if of == "F" else lyapunov(system, x, m)

    def _name(self, argument: str, name: Any) -> str:
        known = f"{name}1" if self.dim == 1 and name in ("x", "m") else name
        return _validate.choice(argument, known, self.names)


def start_grid(x: ArrayLike, y: ArrayLike, cells: int) -> Array:
    """The centres of cells × cells equal cells of a rectangle, for maps and films.

    Parameters
    ----------
    x, y : array_like, shape (2,)
        Its limits.
    cells : int
        Along each side.

    Returns
    -------
    ndarray, shape (cells, cells, 2)
        Rows upward.
    """
    share = (np.arange(_validate.count("cells", cells)) + 0.5) / cells
    columns, rows = (low + (high - low) * share for low, high in (limits("x", x), limits("y", y)))
    return np.stack(np.meshgrid(columns, rows), axis=-1)


def limits(name: str, value: ArrayLike) -> tuple[float, float]:
    """Two numbers in increasing order, or a ValueError that names the argument."""
    low, high = _validate.vector(name, value, dim=2)
    if low >= high:
        raise ValueError(f"{name} must be limits in increasing order, got {low:g}, {high:g}")
    return float(low), float(high)


@dataclass(frozen=True)
class SwitchingLine:
    """Where m̃ is at a kink of κ, for one parameter: m as a function of x, and where the flow slides on it."""

    kink: float
    x: Array
    m: Array
    slides: NDArray[np.bool_]


@dataclass(frozen=True)
class Equilibrium:
    """A stationary point of the flow, its eigenvalues and what they make of it.

    Attributes
    ----------
    x, m : ndarray, shape (d,)
        The point; m = −(α/γ)∇f(x).
    kind : str
        "stable node", "stable focus", "saddle", "unstable", "centre" or "degenerate", by the eigenvalues.
        Where components S of m are at a kink of κ: "stable at a kink" if ∇²f_SS is positive definite (the
        flow slides into the point, or at ε = 0 crosses ever faster), "saddle at a kink" if it has an
        eigenvalue < 0 (the kink then repels), "degenerate at a kink" between them. "not linearised" where κ
        has kinks and is not separable.
    eigenvalues : ndarray, complex
        Of the linearisation; at a kink on the subspace that the flow slides in; empty where there is none.
    """

    x: Array
    m: Array
    kind: str
    eigenvalues: NDArray[np.complex128]


def switching_lines(system: LionK, x: ArrayLike) -> list[SwitchingLine]:
    """The lines m̃ = k of a system of one parameter, one for each kink k of κ.

    On m̃ = (1−εγ)m − εαf'(x) = k the flow slides where both sides lead to the line: with
    dm̃/dt = (1−εγ)ṁ − εαf''(x)(u − λx), it is > 0 for the u below the kink and < 0 for the one above.

    Parameters
    ----------
    system : LionK
        Of one parameter, with a Hessian.
    x : array_like, shape (n,)
        Where to look.

    Returns
    -------
    list of SwitchingLine
        Empty where κ has no kinks, or εγ = 1 and the lines are vertical.

    Raises
    ------
    ValueError
        If the system has more than one parameter.
    """
    if system.dim != 1:
        raise ValueError(f"switching lines in the plane need 1 parameter, the objective has {system.dim}")
    x = _validate.vector("x", x)
    kappa, keep = system.kappa, 1 - system.epsilon * system.gamma
    if kappa.kinks is None or kappa.slopes is None or keep <= 0:
        return []
    slope = system.objective.gradient(x[:, None])[:, 0]
    bend = np.asarray(system.objective.hessian(x[:, None]))[:, 0, 0]
    lines = []
    for kink, below, above in zip(kappa.kinks, kappa.slopes, kappa.slopes[1:], strict=False):
        m = (kink + system.epsilon * system.alpha * slope) / keep
        drift = keep * (-system.alpha * slope - system.gamma * m)
        pull = system.epsilon * system.alpha * bend
        slides = (drift - pull * (below - system.lam * x) > 0) & (drift - pull * (above - system.lam * x) < 0)
        lines.append(SwitchingLine(float(kink), x, m, slides))
    return lines


def equilibrium(system: LionK, near: ArrayLike | None = None) -> Equilibrium:
    """The equilibrium at the composite optimum that is found from `near`, and its kind.

    Parameters
    ----------
    system : LionK
        f, κ and the coefficients.
    near : array_like, shape (d,), optional
        Where to start the search; zeros by default.

    Raises
    ------
    ValueError
        If no stationary point was found, or the flow has no linearisation there (`local_rate`).
    """
    if system.kappa.smooth or system.kappa.kinks is not None:
        return _classified(system, local_rate(system, near).x)
    best = composite_optimum(system, near)
    if not best.success or system.gamma == 0:
        raise ValueError(f"no equilibrium of (x, m) was found: {best.message}; gamma = {system.gamma:g}")
    return _classified(system, best.x)


def equilibria(system: LionK, starts: ArrayLike) -> tuple[Equilibrium, ...]:
    """The equilibria that Newton's method finds from many starts, minima of F and others, and their kinds.

    They are the roots of x − prox_{tP}(x − tα∇f(x)), P = (γ/λ)κ*(λ·), for any t > 0: those with λx ∈
    ∂κ(−(α/γ)∇f(x)). The steps are semismooth Newton's (Qi & Sun 1993), for t = 1 and t = 1/max ‖α∇²f‖ over
    the starts. None is missed only if a start lies near each.

    Parameters
    ----------
    system : LionK
        With a Hessian and γ > 0.
    starts : array_like, shape (..., d)
        Where the iterations start, for example a grid.

    Returns
    -------
    tuple of Equilibrium
        In lexicographic order of x.

    Raises
    ------
    ValueError
        If γ = 0 or f has no Hessian.
    """
    starts = _validate.array("starts", starts, last=system.dim).reshape(-1, system.dim)
    _can_rest(system)
    size = float(np.max(system.alpha * np.linalg.norm(_hessians(system, starts), axis=(1, 2)), initial=0.0))
    found = [_newton(system, starts, step) for step in (1.0, 1 / size if size > 0 else 1.0)]
    distinct: list[Array] = []
    for x in np.unique(np.concatenate(found), axis=0):
        close = SAME * (1 + float(np.abs(x).max()))
        if not any(np.abs(x - other).max() <= close for other in distinct) and (
            kkt_residual(system, x) <= STATIONARY * (1 + float(np.abs(x).max()))
        ):
            distinct.append(x)
    return tuple(_classified(system, x) for x in distinct)


def _can_rest(system: LionK) -> None:
    if system.gamma == 0:
        raise ValueError("gamma must be > 0 for an equilibrium of (x, m): at γ = 0 m has none of its own")
    if not system.objective.has_hessian:
        raise ValueError(f"equilibria need the Hessian of {system.objective.name}: pass hessian=...")


def _newton(system: LionK, x: Array, step: float) -> Array:
    """Where semismooth Newton steps from each row of x lead, without those that left the finite numbers."""
    eye = np.eye(system.dim)
    reach = 1 + float(np.ptp(x, axis=0).max(initial=0.0))
    for _ in range(NEWTON_STEPS):
        argument = x - step * system.alpha * system.objective.gradient(x)
        hessian = step * system.alpha * _hessians(system, x)
        keep = np.isfinite(argument).all(axis=1) & np.isfinite(hessian).all(axis=(1, 2))
        x, argument, hessian = x[keep], argument[keep], hessian[keep]
        if not x.size:
            break
        prox, slope = _prox(system, argument, step)
        matrix = eye - slope + slope @ hessian
        move = (np.linalg.pinv(matrix) @ (prox - x)[..., None])[..., 0]
        # A step across the whole of the starts leads nowhere that they are not.
        longest = np.linalg.norm(move, axis=1, keepdims=True)
        x = x + move * np.minimum(1, reach / np.maximum(longest, reach))
    return x


def _hessians(system: LionK, x: Array) -> Array:
    """∇²f at the rows of x, dense."""
    if system.objective.vectorized:
        return np.asarray(system.objective.hessian(x))
    values = [system.objective.hessian(row) for row in x]
    return np.array([v.toarray() if hasattr(v, "toarray") else v for v in values]).reshape(*x.shape, -1)


def _prox(system: LionK, x: Array, step: float) -> tuple[Array, Array]:
    """prox of step·(γ/λ)κ*(λ·) at the rows of x, and its Jacobian."""
    eye = np.broadcast_to(np.eye(system.dim), (*x.shape, system.dim))
    kappa, weight = system.kappa, step * system.gamma * system.lam
    if weight == 0:
        return x - step * system.gamma * kappa.conjugate_subgradient(np.zeros(system.dim)), eye
    y = system.lam * x
    slope = eye - kappa.prox_jacobian(y / weight, 1 / weight)
    return kappa.conjugate_prox(y, weight) / system.lam, slope


def _classified(system: LionK, x: Array) -> Equilibrium:
    m = -system.alpha / system.gamma * system.objective.gradient(x)
    none = np.zeros(0, np.complex128)
    if not system.kappa.smooth and system.kappa.kinks is None:
        return Equilibrium(x, m, "not linearised", none)
    try:
        local = linearise(system, x)
    except np.linalg.LinAlgError:
        return Equilibrium(x, m, "degenerate at a kink", none)
    if not local.sliding:
        return Equilibrium(x, m, _kind(local.eigenvalues), local.eigenvalues)
    (hessian,) = _hessians(system, x[None])
    curvature = np.linalg.eigvalsh(hessian[np.ix_(local.sliding, local.sliding)])
    lowest = float(curvature[0] / max(np.abs(curvature).max(), np.finfo(np.float64).tiny))
    kind = "degenerate" if abs(lowest) <= CENTRE else "stable" if lowest > 0 else "saddle"
    return Equilibrium(x, m, f"{kind} at a kink", local.eigenvalues)


def _kind(values: NDArray[np.complex128]) -> str:
    size = max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
    real, turning = values.real / size, (np.abs(values.imag) > CENTRE * size).any()
    if (np.abs(real) <= CENTRE).any():
        return "centre" if turning and (np.abs(real) <= CENTRE).all() else "degenerate"
    if (real < 0).all():
        return "stable focus" if turning else "stable node"
    return "saddle" if (real < 0).any() else "unstable"


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
        At how many times the distance is looked at.
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
    _can_rest(system)
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
