"""The exact flow of a piecewise linear separable κ, one trajectory after the other, in compiled code.

Its source is compiled together with ∇f, ∇²f and f. In a mode every component of m̃ lies between two kinks, or
slides on one with the u that keeps it there; Dormand and Prince's pair of order 5 integrates the mode, and a
step ends where the mode does. It also ends where m or λx is at a kink of κ or κ*, since −dH/dt jumps there.

All numbers of a step are in one array w, by the places that `compile.exact_kernel` names; the mode is in an
array of integers: PIECE + i numbers the piece of κ that m̃_i is on, SLIDE + i the kink it slides on, or is −1.
co holds the coefficients by the places of their names in `emit.COEFFICIENTS`: α is co[AL].
"""

# Annotations would be evaluated in the generated module, where nothing is imported but numba and numpy.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,name-defined"
# ruff: noqa: F821

import numpy as np

__all__ = ["GRADIENTS", "INLINED", "NODES", "ROUNDING", "SINGULAR", "STUCK", "TIE", "advance"]

TIE, STUCK = 4, 5
"""How a trajectory ended beside the ways of `lanes`: no unique mode continues it, or its steps stall."""

ROUNDING = 1e-12
"""A sign is read where the number is larger than this, relative to the size of what it is made of."""

SINGULAR = 1e-11
"""A pivot of the sliding block below this, relative to its largest entry, determines no u."""

NODES = 4
"""A step is looked at in this many equal parts, the nodes of Boole's rule for ∫Δ dt."""


GRADIENTS = 12
"""Evaluations of ∇f and ∇²f in a step beside those that locate its end: seven stages, five nodes."""


def solve(w, n):
    """Gaussian elimination in place of the n×n MATRIX and RIGHT; whether it is regular."""
    size = 0.0
    for i in range(n):
        for j in range(n):
            size = max(size, abs(w[MATRIX + D * i + j]))
    for k in range(n):
        best = k
        for i in range(k + 1, n):
            if abs(w[MATRIX + D * i + k]) > abs(w[MATRIX + D * best + k]):
                best = i
        if not abs(w[MATRIX + D * best + k]) > SINGULAR * size:
            return False
        if best != k:
            for j in range(n):
                at, to = MATRIX + D * k + j, MATRIX + D * best + j
                w[at], w[to] = w[to], w[at]
            w[RIGHT + k], w[RIGHT + best] = w[RIGHT + best], w[RIGHT + k]
        for i in range(k + 1, n):
            factor = w[MATRIX + D * i + k] / w[MATRIX + D * k + k]
            for j in range(k + 1, n):
                w[MATRIX + D * i + j] -= factor * w[MATRIX + D * k + j]
            w[RIGHT + i] -= factor * w[RIGHT + k]
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            w[RIGHT + i] -= w[MATRIX + D * i + j] * w[RIGHT + j]
        w[RIGHT + i] /= w[MATRIX + D * i + i]
    return True


def force(w, co, y, i):
    """d/dt m̃_i at the state y with the selection in U."""
    total = (1.0 - co[EP] * co[GA]) * (-co[AL] * w[G + i] - co[GA] * w[y + D + i])
    for j in range(D):
        total -= co[EP] * co[AL] * w[Q + D * i + j] * (w[U + j] - co[LA] * w[y + j])
    return total


def determine(w, mode, co, y, n):
    """Fill in the u of n components, by INDEX, that keep their m̃ where it is; whether there is one."""
    for p in range(n):
        w[U + mode[INDEX + p]] = 0.0
    for p in range(n):
        i = mode[INDEX + p]
        w[RIGHT + p] = force(w, co, y, i)
        for r in range(n):
            w[MATRIX + D * p + r] = co[EP] * co[AL] * w[Q + D * i + mode[INDEX + r]]
    if n > 0 and not solve(w, n):
        return False
    for p in range(n):
        w[U + mode[INDEX + p]] = w[RIGHT + p]
    return True


def evaluate(w, mode, co, y):
    """∇f, ∇²f, m̃ and the selection u of the mode at the state y; whether it determines one."""
    derivatives(w, y)
    n = 0
    for i in range(D):
        w[AHEAD + i] = (1.0 - co[EP] * co[GA]) * w[y + D + i] - co[EP] * co[AL] * w[G + i]
        w[U + i] = SLOPES[mode[PIECE + i]]
        if mode[SLIDE + i] >= 0:
            mode[INDEX + n] = i
            n += 1
    return n == 0 or determine(w, mode, co, y, n)


def velocity(w, mode, co, y, k):
    """(ẋ, ṁ) of the mode at the state y, written to k."""
    regular = evaluate(w, mode, co, y)
    for i in range(D):
        w[k + i] = w[U + i] - co[LA] * w[y + i]
        w[k + D + i] = -co[AL] * w[G + i] - co[GA] * w[y + D + i]
    return regular


def attempt(w, mode, co, h, rtol, atol):
    """One step from Y to NEW, its interpolant in ARC; the mean square of its error ratios."""
    for s in range(1, 7):
        for i in range(2 * D):
            total = 0.0
            for j in range(s):
                total += A[s, j] * w[K + 2 * D * j + i]
            w[NEW + i] = w[Y + i] + h * total
        if not velocity(w, mode, co, NEW, K + 2 * D * s):
            return np.inf
    error = 0.0
    for i in range(2 * D):
        total = 0.0
        for s in range(7):
            total += E[s] * w[K + 2 * D * s + i]
        error += (h * total / (atol + rtol * max(abs(w[Y + i]), abs(w[NEW + i])))) ** 2
        for p in range(4):
            total = 0.0
            for s in range(7):
                total += w[K + 2 * D * s + i] * P[s, p]
            w[ARC + 4 * i + p] = h * total
    return error / (2 * D)


def between(w, theta, i):
    """Component i of the state at the fraction theta of the step."""
    c = ARC + 4 * i
    return w[Y + i] + theta * (w[c] + theta * (w[c + 1] + theta * (w[c + 2] + theta * w[c + 3])))


def visit(w, mode, co, theta):
    """The state at the fraction theta of the step in POINT, evaluated; whether u is determined there."""
    for i in range(2 * D):
        w[POINT + i] = between(w, theta, i)
    return evaluate(w, mode, co, POINT)


def see(w, mode, co, row):
    """Write what ends a step, at POINT: gaps that close, and then marks that change their sign.

    Lower, then upper, the gaps of m̃_i to the kinks around it, or of a sliding u_i to its slopes; then the
    distances of m to the kinks of κ, and of λx to those of κ*.
    """
    for i in range(D):
        slide, piece = mode[SLIDE + i], mode[PIECE + i]
        if slide >= 0:
            w[row + i], w[row + D + i] = w[U + i] - SLOPES[slide], SLOPES[slide + 1] - w[U + i]
        else:
            w[row + i], w[row + D + i] = w[AHEAD + i] - EDGES[piece], EDGES[piece + 1] - w[AHEAD + i]
        for k in range(NK):
            # On a sliding component m decays towards its kink and never crosses it.
            w[row + (2 + k) * D + i] = w[POINT + D + i] - KINKS[k] if k != slide else 0.0
        for k in range(NK + 1):
            w[row + (2 + NK + k) * D + i] = co[LA] * w[POINT + i] - SLOPES[k]


def listen(w, mode, co):
    """The rounding of what is watched, at the start of the step."""
    span = max(abs(SLOPES[0]), abs(SLOPES[-1]))
    for which in range(WATCHED):
        i = which % D
        size = abs(w[Y + D + i]) + co[EP] * co[AL] * abs(w[G + i])
        if 2 * D <= which < D * (2 + NK):
            size += 1.0
        if which < 2 * D and mode[SLIDE + i] >= 0:
            # u_S is the solution of a linear system, a thousand roundings worse than its data.
            size = 1e3 * span
        elif which >= D * (2 + NK):
            size = span + abs(co[LA] * w[Y + i])
        w[NOISE + which] = ROUNDING * size


def at(w, mode, co, theta, which):
    """What is watched, at the fraction theta of the step."""
    visit(w, mode, co, theta)
    see(w, mode, co, SEEN)
    return w[SEEN + which]


def root(w, mode, co, which, low, high, before, after):
    """Where it is 0 between two fractions of a step, by regula falsi (Illinois)."""
    for _ in range(60):
        theta = (low * after - high * before) / (after - before)
        now = at(w, mode, co, theta, which)
        if now * after <= 0.0:
            low, before = high, after
        else:
            before *= 0.5
        high, after = theta, now
        if abs(high - low) < 1e-15 or abs(now) <= 1e-3 * w[NOISE + which]:
            break
    return high


def first_end(w, mode, co):
    """The first fraction of the step at which a gap is negative or a mark changes sign, and which, or −1."""
    first, found = 1.0, -1
    for which in range(WATCHED):
        small, gap = w[NOISE + which], which < 2 * D
        for j in range(1, NODES + 1):
            left, right = (j - 1) / NODES, j / NODES
            if left >= first:
                break
            before, after = w[NODE + WATCHED * (j - 1) + which], w[NODE + WATCHED * j + which]
            if not gap:
                if abs(before) <= small or abs(after) <= small or before * after > 0.0:
                    continue
            elif after >= -small:
                # It may have touched 0 between two nodes: at the vertex of the parabola through three.
                beyond = w[NODE + WATCHED * (j + 1) + which] if j < NODES else np.inf
                bend = before - 2.0 * after + beyond
                if not 0.0 < bend < np.inf or after > min(before, beyond):
                    continue
                if after - (before - beyond) ** 2 / (8.0 * bend) >= 0.0:
                    continue
                right += (before - beyond) / (2.0 * bend) / NODES
                after = at(w, mode, co, right, which)
                if after >= -small:
                    continue
            if gap and before <= small:
                # It starts at 0: it may leave, and come back within the part. Follow it from close by.
                start, steps = right, 0
                while steps < 40 and not before > small:
                    start = left + (start - left) / 4
                    before = at(w, mode, co, start, which)
                    steps += 1
                if steps == 40:
                    return 0.0, which
                left = start
            here = root(w, mode, co, which, left, right, before, after)
            if here < first:
                first, found = here, which
            break
    return first, found


def choose(w, mode, co, hit):
    """The mode that continues Y when what slides, what is at a kink and `hit` are free; whether there is one.

    u ∈ ∂κ(m̃) along the continuation is a condition on each of them: it slides with a u between its slopes, or
    has the slope of a side to which m̃ then moves. All combinations are tried; one u has to be left.
    """
    evaluate(w, mode, co, Y)
    n = 0
    for i in range(D):
        kink, near = 0, np.inf
        for k in range(NK):
            if abs(w[AHEAD + i] - KINKS[k]) < near:
                kink, near = k, abs(w[AHEAD + i] - KINKS[k])
        size = abs(w[Y + D + i]) + co[EP] * co[AL] * abs(w[G + i])
        if i == hit or mode[SLIDE + i] >= 0 or near <= ROUNDING * size:
            mode[FREE + n] = i
            n += 1
            if mode[SLIDE + i] < 0:
                mode[SLIDE + i] = kink
    best = -1
    for combination in range(3**n):
        if not consistent(w, mode, co, n, combination):
            continue
        far = 0.0
        for i in range(D):
            far = max(far, abs(w[U + i] - w[CHOSEN + i]))
        if best >= 0 and far > 1e3 * ROUNDING * max(abs(SLOPES[0]), abs(SLOPES[-1])):
            return False
        if best < 0:
            best = combination
            for i in range(D):
                w[CHOSEN + i] = w[U + i]
    if best < 0:
        return False
    for p in range(n):
        i, side = mode[FREE + p], best % 3
        best //= 3
        if side > 0:
            mode[PIECE + i] = mode[SLIDE + i] + side - 1
            mode[SLIDE + i] = -1
    return True


def consistent(w, mode, co, n, combination):
    """Whether the sides of a combination (0 slides, 1 below its kink, 2 above) lead where they say."""
    sliding, rest = 0, combination
    for i in range(D):
        w[U + i] = SLOPES[mode[PIECE + i]]
    for p in range(n):
        i, side = mode[FREE + p], rest % 3
        rest //= 3
        if side == 0:
            mode[INDEX + sliding] = i
            sliding += 1
        else:
            w[U + i] = SLOPES[mode[SLIDE + i] + side - 1]
    if not determine(w, mode, co, Y, sliding):
        return False
    span = max(abs(SLOPES[0]), abs(SLOPES[-1]))
    for p in range(n):
        i, side = mode[FREE + p], combination % 3
        combination //= 3
        low, high = SLOPES[mode[SLIDE + i]], SLOPES[mode[SLIDE + i] + 1]
        if side == 0:
            if not low - ROUNDING * span <= w[U + i] <= high + ROUNDING * span:
                return False
        else:
            size = co[AL] * abs(w[G + i]) + co[GA] * abs(w[Y + D + i])
            for j in range(D):
                size += co[EP] * co[AL] * abs(w[Q + D * i + j]) * (span + abs(co[LA] * w[Y + j]))
            speed = force(w, co, Y, i)
            if (speed if side == 1 else -speed) > ROUNDING * size:
                return False
    return True


def project(w, mode, co, hit):
    """Put what slides, and what has come to its kink, on it: m_i = (k + εα∇_i f)/(1−εγ).

    At εγ = 1 m̃ is a function of x, and what slides is held by its u alone.
    """
    if 1.0 - co[EP] * co[GA] <= ROUNDING:
        return
    derivatives(w, Y)
    for i in range(D):
        kink = mode[SLIDE + i]
        if kink < 0 and hit >= 0 and hit % D == i:
            kink = mode[PIECE + i] - 1 if hit < D else mode[PIECE + i]
        if kink >= 0:
            w[Y + D + i] = (KINKS[kink] + co[EP] * co[AL] * w[G + i]) / (1.0 - co[EP] * co[GA])


def switch(w, mode, co, hit):
    """The next mode after a gap was closed: a slide is released, a kink is crossed or slid on."""
    i = hit % D
    if mode[SLIDE + i] < 0:
        return choose(w, mode, co, i)
    mode[PIECE + i] = mode[SLIDE + i] + (1 if hit >= D else 0)
    mode[SLIDE + i] = -1
    return True


def piece_of(z, ends):
    """How many of the ends z is beyond."""
    piece = 0
    for k in range(ends.size):
        piece += z > ends[k]
    return piece


def dissipated(w, mode, co, h):
    """∫ −dH/dt over the step. κ and κ* have one slope on it: the one in the middle."""
    total = 0.0
    for i in range(D):
        mode[INDEX + i] = piece_of(between(w, 0.5, D + i), KINKS)
        mode[FREE + i] = min(max(piece_of(co[LA] * between(w, 0.5, i), SLOPES) - 1, 0), NK - 1)
        w[CHOSEN + i] = SLOPES[mode[INDEX + i]]
        w[DUAL + i] = KINKS[mode[FREE + i]]
    for j in range(NODES + 1):
        visit(w, mode, co, j / NODES)
        first, second = 0.0, 0.0
        for i in range(D):
            first += (w[AHEAD + i] - w[DUAL + i]) * (w[U + i] - co[LA] * w[POINT + i])
            second += (-co[AL] * w[G + i] - co[GA] * w[POINT + D + i]) * (w[U + i] - w[CHOSEN + i])
        total += BOOLE[j] * (co[DRIFT] * first + co[C] * second)
    return h * total


def energy(w, co):
    """H at Y, in dom κ*."""
    conjugate, kinetic, pairing = 0.0, 0.0, 0.0
    for i in range(D):
        y, z = co[LA] * w[Y + i], w[Y + D + i]
        conjugate += KINKS[0] * (y - SLOPES[0]) - FIRST
        kinetic += FIRST + SLOPES[0] * z
        for k in range(NK):
            kinetic += (SLOPES[k + 1] - SLOPES[k]) * max(z - KINKS[k], 0.0)
            if k > 0:
                conjugate += (KINKS[k] - KINKS[k - 1]) * max(y - SLOPES[k], 0.0)
        pairing += y * z
    return co[AL] * value(w, Y) + (co[PENALTY] + co[C]) * conjugate + co[C] * (kinetic - pairing)


def outside(w, co, theta, edge):
    """How far λx is outside dom κ*, scaled by edge, in the maximum norm, at a fraction of the step."""
    far = 0.0
    for i in range(D):
        y = co[LA] * (between(w, theta, i) if theta > 0.0 else w[Y + i])
        far = max(far, y - SLOPES[-1] * edge, SLOPES[0] * edge - y)
    return far


def entry(w, co, edge):
    """The fraction of the step at which λx enters."""
    low, high = 0.0, 1.0
    for _ in range(52):
        middle = (low + high) / 2
        if outside(w, co, middle, edge) == 0.0:
            high = middle
        else:
            low = middle
    return high


def trajectory(w, mode, co, grid, t_end, rtol, atol, max_steps, states, report):
    """One trajectory from Y; see `lanes.advance` for what it writes. The way it ended."""
    t, h, cursor, stalled = 0.0, min(t_end, rtol**0.2 / (co[AL] + co[GA] + co[EP] + co[LA])), 0, 0
    edge, far = co[EDGE], outside(w, co, 0.0, 1.0)
    noise = ERRORS * (rtol * max(SLOPES[-1], -SLOPES[0]) + atol * co[LA])
    inside = outside(w, co, 0.0, edge) == 0.0
    report[2], report[3] = (0.0 if inside else np.inf), -np.inf
    before = energy(w, co)
    while cursor < grid.size and grid[cursor] <= 0.0:
        for i in range(2 * D):
            states[cursor, i] = w[Y + i]
        cursor += 1
    for i in range(D):
        mode[PIECE + i], mode[SLIDE + i] = 0, -1
    evaluate(w, mode, co, Y)
    for i in range(D):
        mode[PIECE + i] = piece_of(w[AHEAD + i], KINKS)
    if not choose(w, mode, co, -1):
        return TIE
    while True:
        if report[5] + report[6] >= max_steps:
            return OUT_OF_STEPS
        last = h >= t_end - t
        h = t_end - t if last else h
        if not velocity(w, mode, co, Y, K):
            return TIE
        listen(w, mode, co)
        error = attempt(w, mode, co, h, rtol, atol)
        regular = error <= 1.0
        for j in range(NODES + 1):
            regular = regular and visit(w, mode, co, j / NODES)
            see(w, mode, co, NODE + WATCHED * j)
        if not regular:
            report[6] += 1
            h *= max(0.2, 0.9 * error**-0.1) if 1.0 < error < np.inf else 0.2
            if h < 1e-15 * max(t, 1e-6 * t_end):
                return STUCK
            continue
        following = h * min(5.0, 0.9 * max(error, 1e-12) ** -0.1)
        theta, which = first_end(w, mode, co)
        hit = which if which < 2 * D else -1
        if which >= 0:
            last = False
            if theta * h <= 1e-14 * max(t, 1e-6 * t_end):
                stalled += 1
                if hit < 0 or stalled > 2 * D + 8 or not switch(w, mode, co, hit):
                    return TIE
                continue
            following = h
            h *= theta
            attempt(w, mode, co, h, rtol, atol)
        stalled = 0
        reached = t_end if last else t + h
        while cursor < grid.size and grid[cursor] <= reached:
            for i in range(2 * D):
                states[cursor, i] = between(w, (grid[cursor] - t) / h, i)
            cursor += 1
        now = outside(w, co, 1.0, edge) == 0.0
        if now and not inside and report[2] == np.inf:
            when = t + entry(w, co, edge) * h
            # Where mere decay would have come as near, λx has to be inside by more than the noise.
            if far * np.exp(-co[LA] * when) > noise or edge < 1.0:
                report[2] = when
            else:
                edge = max(0.0, 1.0 - noise / min(SLOPES[-1], -SLOPES[0]))
                now = outside(w, co, 1.0, edge) == 0.0
        lost = dissipated(w, mode, co, h) if inside and now else 0.0
        for i in range(2 * D):
            w[Y + i] = w[NEW + i]
        project(w, mode, co, hit)
        after = energy(w, co)
        if inside and now:
            report[3] = max(report[3], after - before)
            report[4] += after - before + lost
        before, inside = after, now
        report[5] += 1
        report[1] = t = reached
        for i in range(2 * D):
            if not abs(w[Y + i]) <= TOO_LARGE:
                return TOO_FAR
        if t == t_end:
            return FINISHED
        if hit >= 0 and not switch(w, mode, co, hit):
            return TIE
        h = following


def advance(starts, coefficients, grid, t_end, rtol, atol, max_steps, first, last, states, report):
    """Integrate the starts ``first … last−1``; as `lanes.advance`."""
    w, mode = np.zeros(PLACES), np.zeros(4 * D, np.int64)
    for k in range(first, last):
        for i in range(2 * D):
            w[Y + i] = starts[k, i]
        states[k] = np.nan
        report[k] = 0.0
        report[k, 0] = trajectory(
            w, mode, coefficients[k], grid, t_end, rtol, atol, max_steps, states[k], report[k]
        )  # fmt: skip
        for i in range(2 * D):
            report[k, 7 + i] = w[Y + i]


INLINED = (evaluate, velocity, between, visit, see, force, piece_of)
"""What a step calls so often that passing the arrays would take longer than the work."""
