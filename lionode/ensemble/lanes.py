"""The driver of the lanes: its source is compiled together with the emitted step of one f and κ."""

# Annotations would be evaluated in the generated module, where nothing is imported but numba and numpy.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,name-defined"
# ruff: noqa: F821, E741

import numpy as np

__all__ = ["FINISHED", "LANES", "OUT_OF_STEPS", "TOO_FAR", "TOO_SMALL", "advance"]

LANES = 8

FINISHED, TOO_FAR, TOO_SMALL, OUT_OF_STEPS = 0, 1, 2, 3
"""How a lane ended."""


def visit(w, l, theta):
    """By how much λx is outside dom κ* at the fraction theta of the last step of lane l."""
    for i in range(N):
        value = 0.0
        for p in range(DEGREE - 1, -1, -1):
            value = theta * (w[(DENSE + DEGREE * i + p) * LANES + l] + value)
        w[(POINT + i) * LANES + l] = w[(BASE + i) * LANES + l] + value
    return excess(w, l)


def entry(w, l):
    """The time within the last step of lane l at which λx entered dom κ*, by regula falsi (Illinois)."""
    low, high, kept = 0.0, 1.0, 0
    before, after = visit(w, l, low), visit(w, l, high)
    small = 1e-14 * (before - after)
    while before > small and after < -small and high - low > 1e-14:
        theta = (low * after - high * before) / (after - before)
        now = visit(w, l, theta)
        if now > 0.0:
            low, before = theta, now
            # An end that stays twice is what makes regula falsi slow.
            after *= 0.5 if kept > 0 else 1.0
            kept = 1
        else:
            high, after = theta, now
            before *= 0.5 if kept < 0 else 1.0
            kept = -1
    inside = low if 0.0 < before <= small else high
    return w[BEFORE * LANES + l] + inside * w[LENGTH * LANES + l]


def load(w, l, start, coefficients, t_end, rtol):
    """Begin a trajectory in lane l."""
    rate = 0.0
    for i in range(N):
        w[(Y + i) * LANES + l] = w[(POINT + i) * LANES + l] = start[i]
    for i in range(coefficients.size):
        w[(COEFFICIENTS + i) * LANES + l] = coefficients[i]
    for i in range(4):
        rate += coefficients[i]
    for row in (T, ACCEPTED, REJECTED, BALANCE):
        w[row * LANES + l] = 0.0
    w[RISE * LANES + l] = -np.inf
    w[STRIDE * LANES + l], w[MISS * LANES + l] = 1.0, 1e30
    # A guess that is corrected at once: it may shrink and grow by 5 a step.
    w[H * LANES + l] = min(t_end, rtol**0.2 / rate)
    begin(w, l)


def rest(w, l):
    """Leave lane l idle: what it computes is not read, but it should stay finite and unseen."""
    for i in range(N):
        w[(Y + i) * LANES + l] = 0.0
    for row in (T, ACCEPTED, REJECTED):
        w[row * LANES + l] = 0.0
    w[H * LANES + l] = 1e-3
    w[NEXT * LANES + l] = np.inf


def advance(starts, coefficients, grid, t_end, rtol, atol, max_steps, first, last, states, report):
    """Integrate the starts ``first … last−1``, eight at a time; a lane that ends takes the next start.

    ``states`` (N, n, 2d) receives the state at the times ``grid``, NaN where a lane ended earlier. ``report``
    (N, 7 + 2d): how it ended, t reached, time of entry, largest rise of H, balance, accepted and rejected
    steps, and the last state.
    """
    w = np.ones(PLACES * LANES)
    far = np.zeros(LANES)
    noise = np.zeros(LANES)
    owner = np.full(LANES, -1)
    cursor = np.full(LANES, grid.size)
    place = np.zeros(LANES, np.int64)
    due = np.zeros(LANES, np.int64)
    ends, flat = np.append(grid, np.inf), states.reshape(-1)
    following = first
    alive = 0
    for l in range(LANES):
        rest(w, l)
        w[ATTEND * LANES + l] = 1.0
    while True:
        for l in range(LANES):
            if w[ATTEND * LANES + l] == 0.0:
                continue
            k = owner[l]
            if k >= 0:
                t = w[T * LANES + l]
                end = -1
                if w[TAKEN * LANES + l] > 0.0:
                    if report[k, 2] == np.inf and w[INSIDE * LANES + l] > 0.0:
                        when = entry(w, l)
                        edge = (COEFFICIENTS + EDGE) * LANES + l
                        # Where mere decay would have come as near, λx has to be inside beyond the noise.
                        decayed = far[l] * np.exp(-w[(COEFFICIENTS + LA) * LANES + l] * when)
                        if decayed > noise[l] or w[edge] < 1.0:
                            report[k, 2] = when
                        else:
                            w[edge] = max(0.0, 1.0 - noise[l] / INNER)
                            w[INSIDE * LANES + l] = 0.0
                    if t == t_end:
                        end = FINISHED
                    else:
                        for i in range(N):
                            if abs(w[(Y + i) * LANES + l]) > TOO_LARGE:
                                end = TOO_FAR
                if end < 0:
                    if w[H * LANES + l] < 1e-15 * max(t, 1e-6 * t_end):
                        end = TOO_SMALL
                    elif w[ACCEPTED * LANES + l] + w[REJECTED * LANES + l] >= max_steps:
                        end = OUT_OF_STEPS
                if end < 0:
                    continue
                states[k, cursor[l] :] = np.nan
                report[k, 0], report[k, 1] = end, t
                for column, row in ((3, RISE), (4, BALANCE), (5, ACCEPTED), (6, REJECTED)):
                    report[k, column] = w[row * LANES + l]
                for i in range(N):
                    report[k, 7 + i] = w[(Y + i) * LANES + l]
                alive -= 1
            owner[l] = -1
            if following == last:
                rest(w, l)
                cursor[l] = grid.size
                continue
            k = following
            following += 1
            alive += 1
            owner[l] = k
            load(w, l, starts[k], coefficients[k], t_end, rtol)
            report[k, 2] = 0.0 if w[INSIDE * LANES + l] > 0.0 else np.inf
            far[l] = excess(w, l)
            noise[l] = ERRORS * (rtol * OUTER + atol * coefficients[k, LA])
            stop = 0
            while stop < grid.size and grid[stop] <= 0.0:
                states[k, stop] = starts[k]
                stop += 1
            cursor[l], place[l] = stop, k * grid.size * N
            w[NEXT * LANES + l] = ends[stop]
        if alive == 0:
            break
        step(w, rtol, atol, t_end, max_steps)
        if grid.size > 0:
            # Which lanes come to a time to save is hard to guess: they are collected without a branch.
            many = 0
            for l in range(LANES):
                due[many] = l
                many += w[NEXT * LANES + l] <= w[T * LANES + l]
            for j in range(many):
                l = due[j]
                cursor[l] = save(w, l, ends, cursor[l], place[l] + N * cursor[l], flat)
                w[NEXT * LANES + l] = ends[cursor[l]]
