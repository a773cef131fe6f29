"""Exponential and logarithm that LLVM can vectorise over the lanes of a tile.

Numba ships no vector maths library, so ``math.exp`` in a loop is a scalar call per
element. These are straight-line arithmetic: range reduction by a power of two, then a
polynomial, the exponent read or written by a bit cast. The coefficients are minimax
(Remez exchange) fits; the error of the polynomial alone is below 4e-18 relative in
float64 and 3e-9 in float32, so rounding dominates: at most 1 ulp for ``exp``, 2 for
``log``.

Method: J.-M. Muller, *Elementary Functions*, 3rd ed., chapters 4 and 11.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastem.compile import ROUNDING_EXACT

LOG2_E = 1.4426950408889634
# ln 2 split so that n * LN2_HIGH is exact for every exponent n.
LN2_HIGH = 0.6931471803691238
LN2_LOW = 1.9082149292705877e-10
# Adding 1.5 * 2**52 rounds to an integer and leaves it in the low bits.
ROUND_MAGIC = 6755399441055744.0
# Below these, and for NaN, exp returns its smallest normal value.
LOWEST_EXP = -708.0
LOWEST_EXP_32 = np.float32(-87.0)
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD

LN2_HIGH_32 = np.float32(0.693359375)
LN2_LOW_32 = np.float32(-2.12194440e-4)
LOG2_E_32 = np.float32(LOG2_E)
ROUND_MAGIC_32 = np.float32(12582912.0)
SQRT_HALF_BITS_32 = np.int32(0x3F3504F3)

_IR_TYPES = {
    types.float64: ir.DoubleType(),
    types.int64: ir.IntType(64),
    types.float32: ir.FloatType(),
    types.int32: ir.IntType(32),
}
_SAME_WIDTH = {
    types.float64: types.int64,
    types.int64: types.float64,
    types.float32: types.int32,
    types.int32: types.float32,
}


@intrinsic
def _bit_cast(typing_context, value):
    """Reinterpret float64 as int64 and back, float32 as int32 and back."""
    result = _SAME_WIDTH[value]

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], _IR_TYPES[result])

    return result(value), codegen


def exp(x):
    """Return e**x for x <= 709 (float32: 88); far below zero a tiny positive number."""
    lowest = type(x)(LOWEST_EXP_32 if isinstance(x, np.float32) else LOWEST_EXP)
    return np.exp(x if x > lowest else lowest)


def log(x):
    """Return the natural logarithm of a positive normal number."""
    return np.log(x)


@overload(exp, jit_options=ROUNDING_EXACT)
def _overload_exp(x):
    return _exp_float32 if x == types.float32 else _exp_float64


@overload(log, jit_options=ROUNDING_EXACT)
def _overload_log(x):
    return _log_float32 if x == types.float32 else _log_float64


def _exp_float64(x):
    x = x if x > LOWEST_EXP else LOWEST_EXP
    shifted = x * LOG2_E + ROUND_MAGIC
    n = shifted - ROUND_MAGIC
    r = x - n * LN2_HIGH
    r = r - n * LN2_LOW
    p = 2.4999965359640575e-08
    p = p * r + 2.7630378625210986e-07
    p = p * r + 2.7557587342164025e-06
    p = p * r + 2.480149276278181e-05
    p = p * r + 0.00019841269504765384
    p = p * r + 0.0013888888943922656
    p = p * r + 0.008333333333495624
    p = p * r + 0.04166666666652919
    p = p * r + 0.1666666666666641
    p = p * r + 0.5000000000000011
    p = p * r + 1.0
    p = p * r + 1.0
    # The low bits of `shifted` hold n; shifted left they become the exponent.
    return p * _bit_cast((_bit_cast(shifted) << 52) + 0x3FF0000000000000)


def _exp_float32(x):
    x = x if x > LOWEST_EXP_32 else LOWEST_EXP_32
    shifted = x * LOG2_E_32 + ROUND_MAGIC_32
    n = shifted - ROUND_MAGIC_32
    r = x - n * LN2_HIGH_32
    r = r - n * LN2_LOW_32
    p = np.float32(0.001381446705932651)
    p = p * r + np.float32(0.008368780411180533)
    p = p * r + np.float32(0.04166839421089387)
    p = p * r + np.float32(0.1666652010781959)
    p = p * r + np.float32(0.49999993412501564)
    p = p * r + np.float32(1.0)
    p = p * r + np.float32(1.0)
    exponent = (_bit_cast(shifted) << np.int32(23)) + np.int32(0x3F800000)
    return p * _bit_cast(np.int32(exponent))


def _log_float64(x):
    bits = _bit_cast(x)
    exponent = (bits - SQRT_HALF_BITS) >> 52
    m = _bit_cast(bits - (exponent << 52))
    n = float(exponent)
    f = (m - 1.0) / (m + 1.0)
    s = f * f
    p = 0.147975078519836
    p = p * s + 0.1531390322167224
    p = p * s + 0.18183569741309427
    p = p * s + 0.22222198475944277
    p = p * s + 0.2857142874326326
    p = p * s + 0.3999999999941109
    p = p * s + 0.6666666666666735
    return n * LN2_HIGH + (2.0 * f + (f * s * p + n * LN2_LOW))


def _log_float32(x):
    bits = _bit_cast(x)
    exponent = np.int32((bits - SQRT_HALF_BITS_32) >> np.int32(23))
    m = _bit_cast(np.int32(bits - (exponent << np.int32(23))))
    n = np.float32(exponent)
    f = (m - np.float32(1.0)) / (m + np.float32(1.0))
    s = f * f
    p = np.float32(0.29873073447184184)
    p = p * s + np.float32(0.3997749557232005)
    p = p * s + np.float32(0.6666677671711368)
    return n * LN2_HIGH_32 + (np.float32(2.0) * f + (f * s * p + n * LN2_LOW_32))
