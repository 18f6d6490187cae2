"""The flow of f = ½xᵀAx − bᵀx with κ = Σφ, φ piecewise linear, by matrix exponentials and root finding.

Nothing of lionode is used: within a mode ẏ = Ly for y = (x, m, 1), u_S follows from d/dt m̃_S = 0, a mode is
chosen by trying all of them, and events are found on a geometric, then uniform grid with a minimum check.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.linalg import cholesky, expm, solve_triangular
from scipy.optimize import brentq, lsq_linear, minimize_scalar
from scipy.sparse.linalg import expm_multiply

GRID = 0.01
SURFACE = 1e-10
"""|m̃_i − k| below which a component is on its kink at an event."""

LARGE = 5
"""Up to so many components a mode is chosen by trying all, and a matrix exponential is formed."""


def propagate(L, h, y):
    """exp(hL)y."""
    return expm(L * h) @ y if len(y) <= 4 * LARGE else expm_multiply(L * h, y, traceA=np.trace(L) * h)


class Flow:
    """Solve up to t_end; then ``events`` and ``__call__(t) -> (x, m, u)``."""

    def __init__(self, A, b, alpha, gamma, epsilon, lam, x0, m0, t_end, kinks=(0.0,), slopes=(-1.0, 1.0)):
        self.A, self.b = np.asarray(A, float), np.asarray(b, float)
        self.c = (alpha, gamma, epsilon, lam)
        self.kinks, self.slopes, self.d = np.array(kinks), np.array(slopes), len(b)
        d = self.d
        self.tilde = np.zeros((d, 2 * d + 1))
        self.tilde[:, :d] = -epsilon * alpha * self.A
        self.tilde[:, d:-1] = (1 - epsilon * gamma) * np.eye(d)
        self.tilde[:, -1] = epsilon * alpha * self.b
        self.events, self.pieces = [], []
        y, t = np.concatenate([x0, m0, [1.0]]), 0.0
        m_tilde = self.tilde @ y
        mode = [("in", int(np.searchsorted(kinks, v))) for v in m_tilde]
        at = [i for i in range(d) if np.abs(m_tilde[i] - self.kinks).min() < 1e-15]
        mode = self.choose(mode, y, at) if at else mode
        while t < t_end:
            L, U = self.matrices(mode)
            self.pieces.append((t, y, L, U))
            t_new, y, who = self.run(mode, L, U, y, t, t_end)
            if who is None:
                break
            t, old = t_new, mode
            if mode[who][0] == "on":
                k = mode[who][1]
                mid = (self.slopes[k] + self.slopes[k + 1]) / 2
                mode = list(mode)
                mode[who] = ("in", k + int((U @ y)[who] > mid))
            else:
                m_tilde = self.tilde @ y
                near = [np.abs(m_tilde[i] - self.kinks).min() < SURFACE for i in range(d)]
                at = [i for i in range(d) if i == who or mode[i][0] == "on" or near[i]]
                mode = self.choose(mode, y, at)
            kinds = {}
            for i in range(d):
                if old[i] != mode[i]:
                    kind = {("in", "in"): "crossing", ("in", "on"): "slide-in", ("on", "in"): "slide-out"}
                    kinds.setdefault(kind[old[i][0], mode[i][0]], []).append(i)
            self.events += [(t, kind, tuple(which)) for kind, which in sorted(kinds.items())]

    def matrices(self, mode):
        """L with ẏ = Ly and U with u = Uy."""
        alpha, gamma, epsilon, lam = self.c
        d, A = self.d, self.A
        m_dot = np.zeros((d, 2 * d + 1))
        m_dot[:, :d], m_dot[:, d:-1], m_dot[:, -1] = -alpha * A, -gamma * np.eye(d), alpha * self.b
        U, decay = np.zeros((d, 2 * d + 1)), np.zeros((d, 2 * d + 1))
        decay[:, :d] = -lam * np.eye(d)
        for i, (where, k) in enumerate(mode):
            U[i, -1] = self.slopes[k] if where == "in" else 0.0
        S = [i for i, (where, _) in enumerate(mode) if where == "on"]
        if S:
            N = [i for i in range(d) if i not in S]
            right = (1 - epsilon * gamma) / (epsilon * alpha) * m_dot[S] - A[np.ix_(S, N)] @ (U + decay)[N]
            U[S] = np.linalg.solve(A[np.ix_(S, S)], right) - decay[S]
        return np.vstack([U + decay, m_dot, np.zeros((1, 2 * d + 1))]), U

    def gaps(self, mode, U):
        """Rows G with Gy ≥ 0 in the mode, and the component of each."""
        rows, who = [], []
        one = np.zeros(2 * self.d + 1)
        one[-1] = 1.0
        for i, (where, k) in enumerate(mode):
            value = U[i] if where == "on" else self.tilde[i]
            ends = (
                self.slopes[[k, k + 1]] if where == "on" else np.r_[-np.inf, self.kinks, np.inf][[k, k + 1]]
            )
            for sign, end in ((1, ends[0]), (-1, ends[1])):
                if np.isfinite(end):
                    rows.append(sign * (value - end * one))
                    who.append(i)
        return np.array(rows), who

    def run(self, mode, L, U, y, t, t_end):
        """To the first event or t_end."""
        G, who = self.gaps(mode, U)
        steps = np.concatenate([np.geomspace(1e-7, GRID, 25), np.full(10**6, GRID)])
        cached, GL = expm(L * GRID), G @ L
        tau, here, live = 0.0, y, G @ y > 1e-9
        for before, step in zip(np.r_[0.0, steps[:24]].tolist() + [0.0] * 10**6, steps, strict=False):
            h = min(step - before, t_end - t - tau)
            there = cached @ here if h == GRID else propagate(L, h, here)
            g0, g1 = G @ here, G @ there
            first = None
            crossed = live & (g0 > 0) & (g1 < 0)
            dipped = live & (g0 > 0) & (g1 > 0) & (GL @ here < 0) & (GL @ there > 0)
            for j in np.flatnonzero(crossed | dipped):
                gap = lambda s, row=G[j], start=here: row @ propagate(L, s, start)  # noqa: E731
                low = h
                if dipped[j]:
                    best = minimize_scalar(gap, bounds=(0, h), method="bounded", options={"xatol": 1e-10})
                    if best.fun >= 0:
                        continue
                    low = best.x
                s = brentq(gap, 0, low, xtol=1e-15, rtol=1e-14)
                if first is None or s < first[0]:
                    first = (s, who[j])
            if first is not None:
                return t + tau + first[0], propagate(L, first[0], here), first[1]
            live |= g1 > 0
            tau, here = tau + h, there
            if t + tau >= t_end * (1 - 1e-15):
                return t_end, here, None
        raise AssertionError("unreachable")

    def choose(self, mode, y, at):
        """The way to place the components `at` that stays consistent just after, by trying them all.

        With many of them only the active set of a bounded least-squares solver is tried (unique for M ≻ 0).
        """
        near = {i: int(np.argmin(np.abs((self.tilde @ y)[i] - self.kinks))) for i in at}
        found = []
        sides_to_try = itertools.product((-1, 0, 1), repeat=len(at))
        for sides in sides_to_try if len(at) <= LARGE else [self.bounded(mode, y, at, near)]:
            trial = list(mode)
            for i, side in zip(at, sides, strict=True):
                trial[i] = ("on", near[i]) if side == 0 else ("in", near[i] + (side > 0))
            try:
                L, U = self.matrices(trial)
            except (np.linalg.LinAlgError, ZeroDivisionError):
                continue
            u, speed = U @ y, self.tilde @ (L @ y)
            good = all(
                self.slopes[near[i]] <= u[i] <= self.slopes[near[i] + 1] if s == 0 else s * speed[i] > 0
                for i, s in zip(at, sides, strict=True)
            )
            if good:
                found.append(trial)
        assert len(found) == 1, f"{len(found)} modes"
        return found[0]

    def bounded(self, mode, y, at, near):
        """Active bounds of min ½uᵀMu − bᵀu with d/dt m̃ = b − Mu, as a least-squares problem on M = RᵀR."""
        alpha, _, epsilon, _ = self.c
        free = [("in", near[i]) if i in near else mode[i] for i in range(self.d)]
        L, U = self.matrices(free)
        M = epsilon * alpha * self.A[np.ix_(at, at)]
        b = (self.tilde @ (L @ y))[at] + M @ (U @ y)[at]
        R = cholesky(M)
        bounds = [[self.slopes[near[i] + side] for i in at] for side in (0, 1)]
        return lsq_linear(R, solve_triangular(R, b, trans="T"), bounds, method="bvls", tol=1e-14).active_mask

    def __call__(self, times):
        """(x, m, u) at each time, right-continuous."""
        starts = np.array([piece[0] for piece in self.pieces])
        result = []
        for time in times:
            t, y, L, U = self.pieces[np.searchsorted(starts, time, side="right") - 1]
            now = propagate(L, time - t, y)
            result.append(np.concatenate([now[:-1], U @ now]))
        return np.array(result)
