"""What compiled lanes compute with: its source is compiled together with the step of one f and κ."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["OPTIONS", "about_one_over", "rsqrt", "thirty_second", "widest"]

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
def thirty_second(s, k):
    """s^{−k/32} of a positive normal s to 6 %, by its exponent bits: a step size needs no more."""
    one = 0x3FF0000000000000
    return np.int64(one - k * ((np.float64(s).view(np.int64) - one) >> 5)).view(np.float64)
