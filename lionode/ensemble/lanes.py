"""The driver of the lanes: its source is compiled together with the emitted step of one f and κ."""

# Annotations would be evaluated in the generated module, where nothing is imported but numba and numpy.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,name-defined"
# ruff: noqa: F821, E741

import numpy as np

__all__ = ["FINISHED", "LANES", "OUT_OF_STEPS", "TOO_FAR", "TOO_SMALL", "advance", "between"]

LANES = 8

FINISHED, TOO_FAR, TOO_SMALL, OUT_OF_STEPS = 0, 1, 2, 3
"""How a lane ended."""


def between(w, l, i, theta):
    """Component i of lane l at t + θh."""
    p = (DENSE + 4 * i) * LANES + l
    cubic = w[p + LANES] + theta * (w[p + 2 * LANES] + theta * w[p + 3 * LANES])
    return w[(Y + i) * LANES + l] + theta * (w[p] + theta * cubic)


def advance(starts, coefficients, grid, t_end, rtol, atol, max_steps, first, last, states, report):
    """Integrate the starts ``first … last−1``, eight at a time; a lane that ends takes the next start.

    ``states`` (N, n, 2d) receives the state at the times ``grid``, NaN where a lane ended earlier. ``report``
    (N, 7 + 2d): how it ended, t reached, time of entry, largest rise of H, balance, accepted and rejected
    steps, and the last state.
    """
    n = starts.shape[1]
    w = np.ones(ROWS * LANES)
    owner = np.full(LANES, -1)
    cursor = np.zeros(LANES, np.int64)
    t = np.zeros(LANES)
    following = first
    alive = 0
    while True:
        for l in range(LANES):
            if owner[l] < 0 and following < last:
                k = following
                following += 1
                alive += 1
                owner[l], cursor[l], t[l] = k, 0, 0.0
                rate = 0.0
                for i in range(n):
                    w[(Y + i) * LANES + l] = starts[k, i]
                for i in range(4):
                    w[(COEFFICIENTS + i) * LANES + l] = coefficients[k, i]
                    rate += coefficients[k, i]
                begin(w, l)
                # A guess that the controller corrects at once: it may shrink and grow by 5 a step.
                w[STEP * LANES + l] = min(t_end, rtol**0.2 / rate)
                report[k, 2] = 0.0 if w[INSIDE * LANES + l] > 0 else np.inf
                report[k, 3] = -np.inf
                while cursor[l] < grid.size and grid[cursor[l]] <= 0.0:
                    for i in range(n):
                        states[k, cursor[l], i] = starts[k, i]
                    cursor[l] += 1
        if alive == 0:
            break
        step(w, rtol, atol)
        for l in range(LANES):
            k = owner[l]
            if k < 0:
                continue
            h = w[STEP * LANES + l]
            factor = w[FACTOR * LANES + l]
            end = -1
            if w[ERROR * LANES + l] <= 1.0:
                reached = t[l] + h
                if reached >= t_end * (1 - 1e-15):
                    reached = t_end
                while cursor[l] < grid.size and grid[cursor[l]] <= reached:
                    theta = (grid[cursor[l]] - t[l]) / h
                    for i in range(n):
                        states[k, cursor[l], i] = between(w, l, i, theta)
                    cursor[l] += 1
                if w[INSIDE * LANES + l] > 0 and w[INSIDE_NEW * LANES + l] > 0:
                    rise = w[ENERGY_NEW * LANES + l] - w[ENERGY * LANES + l]
                    report[k, 3] = max(report[k, 3], rise)
                    report[k, 4] += rise + w[DISSIPATED * LANES + l]
                elif w[INSIDE_NEW * LANES + l] > 0 and report[k, 2] == np.inf:
                    low, high = 0.0, 1.0
                    for _ in range(52):
                        middle = (low + high) / 2
                        far = 0.0
                        for i in range(n // 2):
                            far = max(far, abs(between(w, l, i, middle)))
                        if far * w[(COEFFICIENTS + 3) * LANES + l] <= RADIUS:
                            high = middle
                        else:
                            low = middle
                    report[k, 2] = t[l] + high * h
                largest = 0.0
                for i in range(n):
                    w[(Y + i) * LANES + l] = w[(NEW + i) * LANES + l]
                    largest = max(largest, abs(w[(Y + i) * LANES + l]))
                w[ENERGY * LANES + l] = w[ENERGY_NEW * LANES + l]
                w[RATE * LANES + l] = w[RATE_NEW * LANES + l]
                w[INSIDE * LANES + l] = w[INSIDE_NEW * LANES + l]
                t[l] = reached
                report[k, 5] += 1
                w[STEP * LANES + l] = min(h * min(5.0, max(0.2, factor)), t_end - reached)
                if reached == t_end:
                    end = FINISHED
                elif largest > TOO_LARGE:
                    end = TOO_FAR
            else:
                # A NaN fails the comparison, and is answered with a shorter step.
                w[STEP * LANES + l] = h * (max(0.2, min(factor, 0.9)) if factor > 0 else 0.2)
                report[k, 6] += 1
            if end < 0:
                if w[STEP * LANES + l] < 1e-15 * max(t[l], 1e-6 * t_end):
                    end = TOO_SMALL
                elif report[k, 5] + report[k, 6] >= max_steps:
                    end = OUT_OF_STEPS
            if end >= 0:
                for j in range(cursor[l], grid.size):
                    for i in range(n):
                        states[k, j, i] = np.nan
                report[k, 0], report[k, 1] = end, t[l]
                for i in range(n):
                    report[k, 7 + i] = w[(Y + i) * LANES + l]
                    # What an idle lane computes is not read, but it should stay finite.
                    w[(Y + i) * LANES + l] = 0.0
                w[STEP * LANES + l] = 1e-3
                owner[l] = -1
                alive -= 1
