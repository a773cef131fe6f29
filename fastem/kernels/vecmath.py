"""Exponential and logarithm that LLVM can vectorise over the lanes of a tile.

Numba ships no vector maths library, so ``math.exp`` in a loop is a scalar call per
element. These are straight-line arithmetic: range reduction by a power of two, then a
polynomial, the exponent read or written by a bit cast. The coefficients are minimax
(Remez exchange) fits; the error of the polynomial alone is below 4e-18 relative in
float64 and 3e-9 in float32, so rounding dominates: at most 1 ulp for ``exp``, 2 for
``log``.

Method: J.-M. Muller, *Elementary Functions*, 3rd ed., chapters 4 and 11.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastem.compile import ROUNDING_EXACT

LOG2_E = 1.4426950408889634
# ln 2 split so that n * LN2_HIGH is exact for every exponent n.
LN2_HIGH = 0.6931471803691238
LN2_LOW = 1.9082149292705877e-10
# Below these, and for NaN, exp returns its smallest normal value.
LOWEST_EXP = -708.0
LOWEST_EXP_32 = np.float32(-87.0)
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD

LN2_HIGH_32 = np.float32(0.693359375)
LN2_LOW_32 = np.float32(-2.12194440e-4)
SQRT_HALF_BITS_32 = np.int32(0x3F3504F3)


class _Exp(NamedTuple):
    """What the exponential of a floating-point type is made of."""

    bits: int
    mantissa_bits: int
    one_bits: int  # those of 1.0
    magic: float  # added, it rounds to an integer and leaves it in the low bits
    lowest: float
    ln2_high: float
    ln2_low: float
    coefficients: tuple  # of the polynomial, the highest power first


_EXP_64 = _Exp(
    64,
    52,
    0x3FF0000000000000,
    1.5 * 2**52,
    LOWEST_EXP,
    LN2_HIGH,
    LN2_LOW,
    (
        2.4999965359640575e-08,
        2.7630378625210986e-07,
        2.7557587342164025e-06,
        2.480149276278181e-05,
        0.00019841269504765384,
        0.0013888888943922656,
        0.008333333333495624,
        0.04166666666652919,
        0.1666666666666641,
        0.5000000000000011,
        1.0,
        1.0,
    ),
)
_EXP_32 = _Exp(
    32,
    23,
    0x3F800000,
    1.5 * 2**23,
    float(LOWEST_EXP_32),
    float(LN2_HIGH_32),
    float(LN2_LOW_32),
    (
        0.001381446705932651,
        0.008368780411180533,
        0.04166839421089387,
        0.1666652010781959,
        0.49999993412501564,
        1.0,
        1.0,
    ),
)
# A multiply-add may round once; nothing may be reassociated. The function around must
# be one of ROUNDING_EXACT: Numba gives its flags to all that is in it.
_EXACT = ("contract",)

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
    return _exp


@overload(log, jit_options=ROUNDING_EXACT)
def _overload_log(x):
    return _log_float32 if x == types.float32 else _log_float64


def _exp(x):
    return _exp_of_number(x)


@intrinsic
def _exp_of_number(typing_context, x):
    def generate(context, builder, signature, arguments):
        return exp_of_lanes(builder, arguments[0])

    return x(x), generate


def exp_of_lanes(builder, x):
    """Return e**x, as :func:`exp` does, of one number or of a vector of lanes."""
    scalar = x.type.element if isinstance(x.type, ir.VectorType) else x.type
    number = _EXP_64 if scalar == ir.DoubleType() else _EXP_32
    integer = _shape_like(x.type, ir.IntType(number.bits))

    def constant(value, kind=x.type):
        count = getattr(kind, "count", None)
        return ir.Constant(kind, value if count is None else [value] * count)

    def multiply_add(a, b, c):
        return builder.fadd(builder.fmul(a, b, flags=_EXACT), c, flags=_EXACT)

    x = builder.select(
        builder.fcmp_ordered(">", x, constant(number.lowest)),
        x,
        constant(number.lowest),
    )
    magic = constant(number.magic)
    shifted = multiply_add(x, constant(LOG2_E), magic)
    n = builder.fsub(shifted, magic)
    r = multiply_add(n, constant(-number.ln2_high), x)
    r = multiply_add(n, constant(-number.ln2_low), r)
    p = constant(number.coefficients[0])
    for coefficient in number.coefficients[1:]:
        p = multiply_add(p, r, constant(coefficient))
    # The low bits of `shifted` hold n; shifted left they become the exponent.
    power = builder.bitcast(shifted, integer)
    power = builder.shl(power, constant(number.mantissa_bits, integer))
    power = builder.add(power, constant(number.one_bits, integer))
    return builder.fmul(p, builder.bitcast(power, x.type))


def _shape_like(kind, scalar):
    return ir.VectorType(scalar, kind.count) if hasattr(kind, "count") else scalar


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
