"""The exact flow of a piecewise linear separable κ, one trajectory after the other, in compiled code.

Its source is compiled together with f, ∇f and ∇²f. In a mode every component of m̃ lies between two kinks, or
slides on one with the u that keeps it there; Dormand and Prince's pair of order 5 integrates the mode, and a
step ends where the mode does.

All numbers of a step are in one array w, by the places that `compile.exact_kernel` names, and the loops have
constant bounds, so that the compiler unrolls them. The coefficients come first, by `model.COEFFICIENTS`: α is
w[AL]. A record is what `field` writes of a state: ẋ, ṁ, what is watched and the part of −dH/dt without kinks.

The mode is in an array of integers: PIECE + i numbers the piece of κ that m̃_i is on, SLIDE + i the kink it
slides on, or is −1. `settle` writes what it means to w.
"""

# Annotations would be evaluated in the generated module, where nothing is imported but numba and numpy.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,name-defined"
# ruff: noqa: F821

import numpy as np

__all__ = ["GRADIENTS", "NODES", "ROUNDING", "SINGULAR", "STUCK", "TIE", "advance"]

TIE, STUCK = 4, 5
"""How a trajectory ended beside the ways of `lanes`: no unique mode continues it, or its steps stall."""

ROUNDING = 1e-12
"""A sign is read where the number is larger than this, relative to the size of what it is made of."""

SINGULAR = 1e-11
"""A pivot of the sliding block below this, relative to its largest entry, determines no u."""

NODES = 4
"""A step is looked at in this many equal parts, the nodes of Boole's rule for ∫Δ dt."""

STABLE = 2.5
"""The longest step times the rates at which what is free decays, λ for x and γ for m, and what slides, 1/ε.

The pair is stable up to 3.3; errors below the tolerance would grow beyond, and H with them.
"""

GRADIENTS = 9
"""Evaluations of ∇f and ∇²f in a step beside those that locate its end: six stages, three inner nodes."""


def solve(w):
    """u by Gaussian elimination in MATRIX and RIGHT; whether what slides has a regular block.

    Rows and columns of what does not slide are those of the identity, and no pivot mixes the two. Each pivot
    gives way to its reciprocal.
    """
    size = 0.0
    for i in range(D):
        for j in range(D):
            size = max(size, abs(w[MATRIX + D * i + j]) if w[SLIDES + i] > 0.0 else 0.0)
    for k in range(D):
        for i in range(k + 1, D):
            if abs(w[MATRIX + D * i + k]) > abs(w[MATRIX + D * k + k]):
                for j in range(k, D):
                    upper, lower = MATRIX + D * k + j, MATRIX + D * i + j
                    w[upper], w[lower] = w[lower], w[upper]
                w[RIGHT + k], w[RIGHT + i] = w[RIGHT + i], w[RIGHT + k]
        if w[SLIDES + k] > 0.0 and not abs(w[MATRIX + D * k + k]) > SINGULAR * size:
            return False
        w[MATRIX + D * k + k] = 1.0 / w[MATRIX + D * k + k]
        for i in range(k + 1, D):
            factor = w[MATRIX + D * i + k] * w[MATRIX + D * k + k]
            for j in range(k + 1, D):
                w[MATRIX + D * i + j] -= factor * w[MATRIX + D * k + j]
            w[RIGHT + i] -= factor * w[RIGHT + k]
    for i in range(D - 1, -1, -1):
        for j in range(i + 1, D):
            w[RIGHT + i] -= w[MATRIX + D * i + j] * w[U + j]
        w[U + i] = w[RIGHT + i] * w[MATRIX + D * i + i]
    return True


def hold(w, y, k):
    """The u that keeps what slides at the state y where it is, ṁ being in the record k; whether there is one.

    d/dt m̃ = (1−εγ)ṁ − εα∇²f ẋ is 0 there; the other u are FIXED.
    """
    hessian(w, y)
    for i in range(D):
        slides, right = w[SLIDES + i] > 0.0, (1.0 - w[EP] * w[GA]) * w[k + D + i]
        for j in range(D):
            bend = w[EP] * w[AL] * w[Q + D * i + j]
            right -= bend * (w[FIXED + j] - w[LA] * w[y + j])
            w[MATRIX + D * i + j] = bend if slides and w[SLIDES + j] > 0.0 else 0.0
        if not slides:
            w[MATRIX + D * i + i] = 1.0
        w[RIGHT + i] = right if slides else w[FIXED + i]
    return solve(w)


def ahead(w, y, i):
    """m̃_i at the state y, where ∇f is known."""
    return (1.0 - w[EP] * w[GA]) * w[y + D + i] - w[EP] * w[AL] * w[G + i]


def field(w, y, k):
    """Write the record k of the state y; whether the mode has a u there."""
    gradient(w, y)
    for i in range(D):
        w[k + D + i] = -w[AL] * w[G + i] - w[GA] * w[y + D + i]
        w[U + i] = w[FIXED + i]
    if w[SLIDING] > 0.0 and not hold(w, y, k):
        return False
    w[k + 3 * D] = 0.0
    for i in range(D):
        m_tilde = ahead(w, y, i)
        w[k + i] = w[U + i] - w[LA] * w[y + i]
        w[k + 2 * D + i] = w[U + i] if w[SLIDES + i] > 0.0 else m_tilde
        w[k + 3 * D] += w[DRIFT] * m_tilde * w[k + i] + w[C] * w[k + D + i] * w[U + i]
    return True


def project(w, y):
    """Put what slides, or has come to its kink, on it: m_i = (k + εα∇_i f)/(1−εγ).

    At εγ = 1 m̃ is a function of x, and what slides is held by its u alone.
    """
    if 1.0 - w[EP] * w[GA] <= ROUNDING:
        return
    gradient(w, y)
    for i in range(D):
        if abs(w[KINK + i]) < inf:
            w[y + D + i] = (w[KINK + i] + w[EP] * w[AL] * w[G + i]) / (1.0 - w[EP] * w[GA])


def combine(w, row, i):
    """Component i of the sum of the stages' velocities with the weights in a row of the TABLEAU."""
    total = TABLEAU[row, 0] * w[NODE + i]
    for s in range(1, 6):
        if TABLEAU[row, s] != 0.0:
            total += TABLEAU[row, s] * w[STAGE + RECORD * (s - 1) + i]
    if TABLEAU[row, 6] != 0.0:
        total += TABLEAU[row, 6] * w[END + i]
    return total


def stage(w, h, s):
    """The state NEW at which the step's stage s is evaluated; the last is the one at its end."""
    for i in range(2 * D):
        w[NEW + i] = w[Y + i] + h * combine(w, s - 1, i)


def attempt(w, h, rtol, atol):
    """One step from Y, whose record is the first NODE, to NEW; the mean square of its error ratios.

    Its interpolant is in ARC, and the records of its nodes in NODE.
    """
    for s in range(1, 6):
        stage(w, h, s)
        if not field(w, NEW, STAGE + RECORD * (s - 1)):
            return inf
    stage(w, h, 6)
    project(w, NEW)
    if not field(w, NEW, END):
        return inf
    error = 0.0
    for i in range(2 * D):
        size = atol + rtol * max(abs(w[Y + i]), abs(w[NEW + i]))
        error += (h * combine(w, 6, i) / size) ** 2
    if not error <= 2 * D:
        return error / (2 * D)
    for p in range(4):
        for i in range(2 * D):
            w[ARC + 2 * D * p + i] = h * combine(w, 7 + p, i)
    for j in range(1, NODES):
        if not visit(w, j / NODES, NODE + RECORD * j):
            return inf
    return error / (2 * D)


def between(w, theta, i):
    """Component i of the state at the fraction theta of the step."""
    c = ARC + i
    inner = w[c + 2 * D] + theta * (w[c + 4 * D] + theta * w[c + 6 * D])
    return w[Y + i] + theta * (w[c] + theta * inner)


def visit(w, theta, k):
    """Write the record k of the state at the fraction theta of the step; whether the mode has a u there."""
    for i in range(2 * D):
        w[POINT + i] = between(w, theta, i)
    return field(w, POINT, k)


def rounding(w, i):
    """The rounding of what is watched of component i, at the start of the step."""
    if w[SLIDES + i] > 0.0:
        # u_S is the solution of a linear system, a thousand roundings worse than its data.
        return 1e3 * ROUNDING * SPAN
    return ROUNDING * ((1.0 + w[EP] * w[GA]) * abs(w[Y + D + i]) + w[EP] * abs(w[NODE + D + i]))


def gap(w, k, which):
    """How far what is watched is from its end, in a record: above the lower end, or below the upper one."""
    if which < D:
        return w[k + 2 * D + which] - w[ENDS + which]
    return w[ENDS + which] - w[k + D + which]


def at(w, theta, which):
    """A gap, or beyond 2D a component of the state less LEVEL, at the fraction theta of the step."""
    if which >= 2 * D:
        return between(w, theta, which - 2 * D) - w[LEVEL]
    visit(w, theta, SEEN)
    return gap(w, SEEN, which)


def root(w, which, low, high, before, after, small):
    """Where it is 0 between two fractions of a step, by regula falsi (Illinois)."""
    for _ in range(60):
        theta = (low * after - high * before) / (after - before)
        now = at(w, theta, which)
        if now * after <= 0.0:
            low, before = high, after
        else:
            before *= 0.5
        high, after = theta, now
        if abs(high - low) < 1e-15 or abs(now) <= small:
            break
    return high


def first_end(w):
    """The first fraction of the step at which a gap is negative, and which, or −1."""
    first, found = 1.0, -1
    for which in range(2 * D):
        if abs(w[ENDS + which]) == inf:
            continue
        small = rounding(w, which % D)
        least, most = inf, 0.0
        for j in range(NODES):
            before, after = gap(w, NODE + RECORD * j, which), gap(w, NODE + RECORD * (j + 1), which)
            least, most = min(least, after), max(most, abs(after - before))
        # The vertex of a parabola is below the lowest of three nodes by at most an eighth of the rise to the
        # next; twice that is allowed for what is no parabola.
        if least > most / 4:
            continue
        for j in range(1, NODES + 1):
            left, right = (j - 1) / NODES, j / NODES
            if left >= first:
                break
            before, after = gap(w, NODE + RECORD * (j - 1), which), gap(w, NODE + RECORD * j, which)
            if after >= -small:
                # It may have been below 0 between two nodes, by the vertex of the parabola through three.
                beyond = gap(w, NODE + RECORD * (j + 1), which) if j < NODES else inf
                bend = before - 2.0 * after + beyond
                if not 0.0 < bend < inf or after > min(before, beyond):
                    continue
                if after >= (before - beyond) ** 2 / (4.0 * bend):
                    continue
                right += (before - beyond) / (2.0 * bend) / NODES
                after = at(w, right, which)
                if after >= -small:
                    continue
            if before <= small:
                # It starts at 0: it may leave, and come back within the part. Follow it from close by.
                start, steps = right, 0
                while steps < 40 and not before > small:
                    start = left + (start - left) / 4
                    before = at(w, start, which)
                    steps += 1
                if steps == 40:
                    return 0.0, which
                left = start
            here = root(w, which, left, right, before, after, 1e-3 * small)
            if here < first:
                first, found = here, which
            break
    return first, found


def settle(w, mode):
    """What the mode means: the FIXED u, the ENDS of what is watched, the KINK of what slides."""
    w[SLIDING] = 0.0
    for i in range(D):
        slide, piece = mode[SLIDE + i], mode[PIECE + i]
        w[SLIDES + i] = slide >= 0
        w[SLIDING] += w[SLIDES + i]
        if slide >= 0:
            w[FIXED + i], w[KINK + i] = 0.0, KINKS[slide]
            w[ENDS + i], w[ENDS + D + i] = SLOPES[slide], SLOPES[slide + 1]
        else:
            w[FIXED + i], w[KINK + i] = SLOPES[piece], inf
            w[ENDS + i], w[ENDS + D + i] = EDGES[piece], EDGES[piece + 1]


def choose(w, mode, hit):
    """The mode that continues Y when what slides, what is at a kink and `hit` are free; whether there is one.

    u ∈ ∂κ(m̃) along the continuation is a condition on each of them: it slides with a u between its slopes, or
    has the slope of a side to which m̃ then moves. All combinations are tried; one u has to be left.
    """
    gradient(w, Y)
    n = 0
    for i in range(D):
        m_tilde, kink, near = ahead(w, Y, i), 0, inf
        for k in range(NK):
            if abs(m_tilde - KINKS[k]) < near:
                kink, near = k, abs(m_tilde - KINKS[k])
        size = abs(w[Y + D + i]) + w[EP] * w[AL] * abs(w[G + i])
        if i == hit or mode[SLIDE + i] >= 0 or near <= ROUNDING * size:
            mode[FREE + n] = i
            n += 1
            if mode[SLIDE + i] < 0:
                mode[SLIDE + i] = kink
    best = -1
    for combination in range(3**n):
        if not consistent(w, mode, n, combination):
            continue
        far = 0.0
        for i in range(D):
            far = max(far, abs(w[U + i] - w[CHOSEN + i]))
        if best >= 0 and far > 1e3 * ROUNDING * SPAN:
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


def consistent(w, mode, n, combination):
    """Whether the sides of a combination (0 slides, 1 below its kink, 2 above) lead where they say."""
    w[SLIDING], rest = 0.0, combination
    for i in range(D):
        w[SLIDES + i], w[FIXED + i] = 0.0, SLOPES[mode[PIECE + i]]
    for p in range(n):
        i, side = mode[FREE + p], rest % 3
        rest //= 3
        if side == 0:
            w[SLIDES + i], w[FIXED + i] = 1.0, 0.0
            w[SLIDING] += 1.0
        else:
            w[FIXED + i] = SLOPES[mode[SLIDE + i] + side - 1]
    if not field(w, Y, SEEN):
        return False
    hessian(w, Y)
    for p in range(n):
        i, side = mode[FREE + p], combination % 3
        combination //= 3
        low, high = SLOPES[mode[SLIDE + i]], SLOPES[mode[SLIDE + i] + 1]
        if side == 0:
            if not low - ROUNDING * SPAN <= w[U + i] <= high + ROUNDING * SPAN:
                return False
        else:
            speed = (1.0 - w[EP] * w[GA]) * w[SEEN + D + i]
            size = w[AL] * abs(w[G + i]) + w[GA] * abs(w[Y + D + i])
            for j in range(D):
                bend = w[EP] * w[AL] * w[Q + D * i + j]
                speed -= bend * w[SEEN + j]
                size += abs(bend) * (SPAN + abs(w[LA] * w[Y + j]))
            if (speed if side == 1 else -speed) > ROUNDING * size:
                return False
    return True


def switch(w, mode, hit):
    """The next mode after a gap was closed: a slide is released, a kink is crossed or slid on."""
    i = hit % D
    if mode[SLIDE + i] < 0:
        return begin(w, mode, i)
    mode[PIECE + i] = mode[SLIDE + i] + (1 if hit >= D else 0)
    mode[SLIDE + i] = -1
    settle(w, mode)
    return field(w, Y, NODE)


def begin(w, mode, hit):
    """Choose the mode at Y and evaluate it; whether there is one."""
    found = choose(w, mode, hit)
    settle(w, mode)
    return found and field(w, Y, NODE)


def piece_of(z, ends):
    """How many of the ends z is beyond."""
    piece = 0
    for k in range(ends.size):
        piece += z > ends[k]
    return piece


def travel(w, theta, i):
    """The integral of a component of the records over a fraction of the step, whose length counts as 1."""
    total = 0.0
    for j in range(NODES + 1):
        weight = 0.0
        for p in range(NODES, -1, -1):
            weight = theta * (weight + CUMULATIVE[j, p])
        total += weight * w[NODE + RECORD * j + i]
    return total


def above(w, i, level):
    """How far it leads while component i of the state is above the level."""
    w[LEVEL], total = level, 0.0
    before = w[Y + i] - level
    for j in range(1, NODES + 1):
        after = between(w, j / NODES, i) - level
        if (after > 0.0) != (before > 0.0):
            here = travel(w, root(w, 2 * D + i, (j - 1) / NODES, j / NODES, before, after, ROUNDING), i)
            total += here if before > 0.0 else -here
        before = after
    return total + travel(w, 1.0, i) if before > 0.0 else total


def dissipated(w, h):
    """∫ −dH/dt over the step. The slopes of κ at m and of κ* at λx jump where these are at kinks."""
    total = travel(w, 1.0, 3 * D)
    for i in range(D):
        total -= w[C] * SLOPES[0] * travel(w, 1.0, D + i)
        for k in range(NK):
            total -= w[C] * (SLOPES[k + 1] - SLOPES[k]) * above(w, D + i, KINKS[k])
        if w[LA] > SMALLEST_LAM:
            total -= w[DRIFT] * KINKS[0] * travel(w, 1.0, i)
            for k in range(1, NK):
                total -= w[DRIFT] * (KINKS[k] - KINKS[k - 1]) * above(w, i, SLOPES[k] / w[LA])
        else:
            total -= w[DRIFT] * AT_ZERO * travel(w, 1.0, i)
    return h * total


def energy(w):
    """H at Y, in dom κ*."""
    conjugate, kinetic, pairing, limit = 0.0, 0.0, 0.0, 0.0
    for i in range(D):
        y, z = w[LA] * w[Y + i], w[Y + D + i]
        conjugate += KINKS[0] * (y - SLOPES[0]) - FIRST
        kinetic += FIRST + SLOPES[0] * z
        for k in range(NK):
            kinetic += (SLOPES[k + 1] - SLOPES[k]) * max(z - KINKS[k], 0.0)
            if k > 0:
                conjugate += (KINKS[k] - KINKS[k - 1]) * max(y - SLOPES[k], 0.0)
        pairing += y * z
        # At λ = 0 the penalty γκ*(λx)/λ is its limit.
        limit += w[GA] * AT_ZERO * w[Y + i] if w[LA] <= SMALLEST_LAM else 0.0
    return w[AL] * value(w, Y) + limit + (w[PENALTY] + w[C]) * conjugate + w[C] * (kinetic - pairing)


def outside(w, theta, edge):
    """How far λx is outside dom κ*, scaled by edge, in the maximum norm, at a fraction of the step."""
    far = 0.0
    for i in range(D):
        y = w[LA] * (between(w, theta, i) if theta > 0.0 else w[Y + i])
        far = max(far, y - SLOPES[-1] * edge, SLOPES[0] * edge - y)
    return far


def entry(w, edge):
    """The fraction of the step at which λx enters."""
    low, high = 0.0, 1.0
    for _ in range(52):
        middle = (low + high) / 2
        if outside(w, middle, edge) == 0.0:
            high = middle
        else:
            low = middle
    return high


def trajectory(w, mode, grid, t_end, rtol, atol, max_steps, states, report):
    """One trajectory from Y; see `lanes.advance` for what it writes. The way it ended."""
    t, h, cursor, stalled = 0.0, min(t_end, rtol**0.2 / (w[AL] + w[GA] + w[EP] + w[LA])), 0, 0
    edge, far = w[EDGE], outside(w, 0.0, 1.0)
    noise = ERRORS * (rtol * SPAN + atol * w[LA])
    inside = outside(w, 0.0, edge) == 0.0
    report[2], report[3] = (0.0 if inside else inf), -inf
    before = energy(w)
    while cursor < grid.size and grid[cursor] <= 0.0:
        for i in range(2 * D):
            states[cursor, i] = w[Y + i]
        cursor += 1
    gradient(w, Y)
    for i in range(D):
        mode[PIECE + i], mode[SLIDE + i] = piece_of(ahead(w, Y, i), KINKS), -1
    if not begin(w, mode, -1):
        return TIE
    while True:
        if report[5] + report[6] >= max_steps:
            return OUT_OF_STEPS
        h = min(h, STABLE / max(w[LA], w[GA], 1.0 / w[EP] if w[SLIDING] > 0.0 else 0.0))
        last = h >= t_end - t
        h = t_end - t if last else h
        error = attempt(w, h, rtol, atol)
        # `error` is a square and of order h¹⁰: its power −3/32 stands for −1/10.
        following = h * min(5.0, 0.85 * thirty_second(max(error, 1e-12), 3))
        theta, hit = first_end(w) if error <= 1.0 else (1.0, -1)
        if hit >= 0:
            last = False
            if theta * h <= 1e-14 * max(t, 1e-6 * t_end):
                stalled += 1
                if stalled > 2 * D + 8 or not switch(w, mode, hit):
                    return TIE
                continue
            following = h
            h *= theta
            if w[SLIDES + hit % D] == 0.0:
                w[KINK + hit % D] = w[ENDS + hit]
            error = attempt(w, h, rtol, atol)
        if not error <= 1.0:
            # A kink that may have been set is not reached.
            settle(w, mode)
            report[6] += 1
            h *= max(0.2, 0.85 * thirty_second(error, 3)) if error < inf else 0.2
            if h < 1e-15 * max(t, 1e-6 * t_end):
                return STUCK
            continue
        stalled = 0
        reached = t_end if last else t + h
        while cursor < grid.size and grid[cursor] <= reached:
            for i in range(2 * D):
                states[cursor, i] = between(w, (grid[cursor] - t) / h, i)
            cursor += 1
        now = outside(w, 1.0, edge) == 0.0
        if now and not inside and report[2] == inf:
            when = t + entry(w, edge) * h
            if edge > 1.0 and far * np.exp(-w[LA] * when) <= noise:
                # Mere decay would have come as near: λx has to be inside by more than the noise.
                edge = max(0.0, 1.0 - noise / min(SLOPES[-1], -SLOPES[0]))
                now = outside(w, 1.0, edge) == 0.0
                when = t + entry(w, edge) * h if now else inf
            report[2] = when
        lost = dissipated(w, h) if inside and now else 0.0
        for i in range(2 * D):
            w[Y + i] = w[NEW + i]
        after = energy(w)
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
        if hit < 0:
            for i in range(RECORD):
                w[NODE + i] = w[END + i]
        elif not switch(w, mode, hit):
            return TIE
        h = following


def advance(starts, coefficients, grid, t_end, rtol, atol, max_steps, first, last, states, report):
    """Integrate the starts ``first … last−1``; as `lanes.advance`."""
    w, mode = np.zeros(PLACES), np.zeros(3 * D, np.int64)
    for k in range(first, last):
        for i in range(coefficients.shape[1]):
            w[i] = coefficients[k, i]
        for i in range(2 * D):
            w[Y + i] = starts[k, i]
        states[k] = np.nan
        report[k] = 0.0
        report[k, 0] = trajectory(w, mode, grid, t_end, rtol, atol, max_steps, states[k], report[k])
        for i in range(2 * D):
            report[k, 7 + i] = w[Y + i]
