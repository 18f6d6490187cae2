"""What compiled lanes compute with: its source is compiled together with the step of one f and κ."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["OPTIONS", "about_one_over", "exp", "log", "rsqrt", "tanh", "thirty_second", "widest"]

OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "arcp", "nsz"}}
"""Everything that leaves NaN, inf and the order of sums alone."""


@intrinsic
def widest(typingctx):
    """Let the compiler fill the widest registers there are: on some CPUs it takes half of them unasked."""

    def generate(context, builder, signature, args):
        # llvmlite keeps a list of the attributes that it knows; LLVM knows this one.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), generate


@njit(**OPTIONS)
def rsqrt(s):
    """1/√s of a positive normal s to 3 roundings, without the root and the division that SIMD does slowly.

    Halving the exponent bits gives it to 3.4 %. A step y + y·p(e), e = 1 − sy², with the cubic p that is
    nearest to (1−e)^{−1/2} − 1 for such e takes the error to 1.1e-6, and a step of its series to 1e-18. Sums
    are written in pairs: what takes time is the length of a chain of operations, not their number.
    """
    y = np.int64(0x5FE6EB50C7B537A9 - (np.float64(s).view(np.int64) >> 1)).view(np.float64)
    e = 1.0 - s * y * y
    y = y + (y * e) * ((0.500000659 + 0.376059312 * e) + (e * e) * 0.312900551)
    e = 1.0 - s * y * y
    return y + (y * e) * (0.5 + e * 0.375)


@njit(**OPTIONS)
def about_one_over(s):
    """1/s of a positive normal s to 0.3 %, by its exponent bits and one step of Newton's."""
    y = np.int64(0x7FDE600000000000 - np.float64(s).view(np.int64)).view(np.float64)
    return y * (2.0 - s * y)


@njit(**OPTIONS)
def exp(s):
    """e^s to 2 roundings, 0 or inf beyond ±708: 2^n e^r with |r| ≤ log(2)/2, e^r by its series to r¹³."""
    # Added to 1.5·2⁵² a number is rounded to an integer, which lies in its last bits.
    moved = s * 1.4426950408889634 + 6755399441055744.0
    n = moved - 6755399441055744.0
    r = (s - n * 0.6931471803691238) - n * 1.9082149292705877e-10
    r2 = r * r
    r4 = r2 * r2
    low = (1.0 + r) + r2 * (0.5 + r * 0.16666666666666666)
    middle = (0.041666666666666664 + r * 0.008333333333333333) + r2 * (
        0.001388888888888889 + r * 0.0001984126984126984
    )
    high = (2.48015873015873e-05 + r * 2.7557319223985893e-06) + r2 * (
        2.755731922398589e-07 + r * 2.505210838544172e-08
    )
    top = 2.08767569878681e-09 + r * 1.6059043836821613e-10
    power = low + r4 * (middle + r4 * (high + r4 * top))
    value = np.int64(np.float64(power).view(np.int64) + (np.float64(moved).view(np.int64) << 52)).view(
        np.float64
    )
    beyond = np.inf if s > 0.0 else (0.0 if s < 0.0 else s)
    return value if abs(s) < 708.0 else beyond


@njit(**OPTIONS)
def log(s):
    """log s to 3 roundings, −inf below the normal numbers: n·log 2 + log m, √½ ≤ m < √2.

    log m = 2 artanh q, q = (m−1)/(m+1), by its series to q²¹.
    """
    bits = np.float64(s).view(np.int64)
    shifted = (bits - 0x3FE6A09E667F3BCD) >> 52
    n = np.int64(shifted + 0x4338000000000000).view(np.float64) - 6755399441055744.0
    m = np.int64(bits - (shifted << 52)).view(np.float64)
    q = (m - 1.0) / (m + 1.0)
    q2 = q * q
    q4 = q2 * q2
    low = (0.6666666666666666 + q2 * 0.4) + q4 * (0.2857142857142857 + q2 * 0.2222222222222222)
    high = (0.18181818181818182 + q2 * 0.15384615384615385) + q4 * (
        0.13333333333333333 + q2 * 0.11764705882352941
    )
    top = 0.10526315789473684 + q2 * 0.09523809523809523
    series = q * q2 * (low + q4 * q4 * (high + q4 * q4 * top))
    value = n * 0.6931471803691238 + (2.0 * q + (series + n * 1.9082149292705877e-10))
    beyond = -np.inf if (s >= 0.0) & (s < 1.0) else (np.nan if s < 0.0 else s)
    return value if (s > 2.3e-308) & (s < np.inf) else beyond


@njit(**OPTIONS)
def tanh(s):
    """The hyperbolic tangent of s to 2 roundings of 1."""
    decay = exp(-2.0 * abs(s))
    return np.copysign((1.0 - decay) / (1.0 + decay), s)


@njit(**OPTIONS)
def thirty_second(s, k):
    """s^{−k/32} of a positive normal s to 7 %, by its exponent bits: a step size needs no more."""
    one = 0x3FF0000000000000
    return np.int64(one - k * ((np.float64(s).view(np.int64) - one) >> 5)).view(np.float64)
