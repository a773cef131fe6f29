"""Rows of stretches to lanes of a tile and back.

The steps of a stretch are consecutive rows, but lie ``CHAINS`` lanes apart in a tile;
see :mod:`fastem.kernels.chains`. Blocks of four by four are turned in registers
(measured at D = 1: 0.14 ns a step, number by number 0.57).
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastem.compile import TILE_OPTIONS, tile_function
from fastem.kernels.chains import CHAINS, STEPS
from fastem.kernels.tiles import (
    STRIDE,
    as_contiguous,
    prefetch_rows,
    rows_are_contiguous,
)

# Hardware does not foresee so many streams of rows: they are asked for that many steps
# ahead (measured at K = 2, decoding: 4.2 ns a step, else 4.9).
AHEAD = 8 * STEPS
# How many entries to copy: of a tuple the length is known when Numba compiles.
ONE, TWO, FOUR = (0,), (0,) * 2, (0,) * 4


def fetch_rows(X, begin, length, rows):
    """Copy ``STEPS`` rows of each stretch to where the lanes of a tile are loaded from.

    The first stretch's are rows begin.. of X, the others follow ``length`` apart.
    """
    _fetch_in_order(X, begin, length, rows)


@overload(fetch_rows, jit_options=TILE_OPTIONS)
def _fetch_rows(X, begin, length, rows):
    def fetch(X, begin, length, rows):
        if rows_are_contiguous(X):
            _fetch_in_blocks(as_contiguous(X), begin, length, rows)
        else:
            _fetch_in_order(X, begin, length, rows)

    return fetch


@tile_function
def _fetch_in_order(X, begin, length, rows):
    for d in range(X.shape[1]):
        for i in range(STEPS):
            for s in range(CHAINS):
                # Unsigned, as an index that may be negative costs a comparison.
                rows[i * CHAINS + s, d] = X[np.uint64(begin + s * length + i), d]


@tile_function
def _fetch_in_blocks(X, begin, length, rows):
    n_features = X.shape[1]
    for s in range(CHAINS):
        later = begin + s * length + AHEAD
        prefetch_rows(X, later, later + STEPS)
    if n_features == 1:
        for s in range(0, CHAINS, 4):
            first = begin + s * length
            for i in range(0, STEPS, 4):
                p = first + i
                q, r, t = p + length, p + 2 * length, p + 3 * length
                _turn(X, p, q, r, t, rows, i * CHAINS + s, CHAINS)
        return
    for s in range(CHAINS):
        for i in range(STEPS):
            entry = (begin + s * length + i) * n_features
            place = (i * CHAINS + s) * n_features
            d = 0
            while d + 4 <= n_features:
                _copy(X, entry + d, rows, place + d, FOUR)
                d += 4
            if d + 2 <= n_features:
                _copy(X, entry + d, rows, place + d, TWO)
                d += 2
            if d < n_features:
                _copy(X, entry + d, rows, place + d, ONE)


def write_rows(tile, begin, length, out):
    """Copy each lane of a tile to its row of ``out``, which has all of these rows.

    ``out`` is contiguous; of integers, it takes numbers less than 2**31.
    """
    for s in range(CHAINS):
        for i in range(STEPS):
            for k in range(out.shape[1]):
                value = tile[k * STRIDE + i * CHAINS + s]
                out[begin + s * length + i, k] = value


@overload(write_rows)
def _write_rows(tile, begin, length, out):
    def write(tile, begin, length, out):
        n_columns = out.shape[1]
        for s in range(0, CHAINS, 4):
            place = (begin + s * length) * n_columns
            p = s
            for _ in range(STEPS * n_columns // 4):
                q = _next_entry(p, n_columns)
                r = _next_entry(q, n_columns)
                t = _next_entry(r, n_columns)
                _turn(tile, p, q, r, t, out, place, length * n_columns)
                place += 4
                p = _next_entry(t, n_columns)

    return write


@tile_function
def _next_entry(p, n_columns):
    """Return where in a tile the entry is that follows in the order of rows."""
    last = n_columns * STRIDE
    return p + STRIDE if p + STRIDE < last else p + STRIDE - last + CHAINS


@intrinsic
def _turn(typing_context, source, p, q, r, t, target, place, step):
    """Copy columns of four that begin at p, q, r, t to rows ``step`` apart."""

    def generate(context, builder, signature, arguments):
        source, target = (
            context.make_array(signature.args[i])(context, builder, arguments[i]).data
            for i in (0, 5)
        )
        kinds = signature.args[0].dtype, signature.args[5].dtype

        def pick(a, b, *lanes):
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), 4), lanes)
            return builder.shuffle_vector(a, b, lanes)

        a, b, c, d = (_load(builder, source, at, 4, *kinds) for at in arguments[1:5])
        even_ab, odd_ab = (pick(a, b, j, j + 4, j + 2, j + 6) for j in (0, 1))
        even_cd, odd_cd = (pick(c, d, j, j + 4, j + 2, j + 6) for j in (0, 1))
        place, step = arguments[6:]
        for values in (
            pick(even_ab, even_cd, 0, 1, 4, 5),
            pick(odd_ab, odd_cd, 0, 1, 4, 5),
            pick(even_ab, even_cd, 2, 3, 6, 7),
            pick(odd_ab, odd_cd, 2, 3, 6, 7),
        ):
            _store(builder, values, target, place, kinds[1])
            place = builder.add(place, step)
        return context.get_dummy_value()

    return types.void(source, p, q, r, t, target, place, step), generate


@intrinsic
def _copy(typing_context, source, entry, target, place, width):
    """Copy as many entries as the tuple ``width`` has items."""

    def generate(context, builder, signature, arguments):
        source, target = (
            context.make_array(signature.args[i])(context, builder, arguments[i]).data
            for i in (0, 2)
        )
        kinds = signature.args[0].dtype, signature.args[2].dtype
        values = _load(builder, source, arguments[1], width.count, *kinds)
        _store(builder, values, target, arguments[3], kinds[1])
        return context.get_dummy_value()

    return types.void(source, entry, target, place, width), generate


def _load(builder, data, entry, n, kind, wanted):
    """Load a vector of one Numba type as one of another."""
    place = builder.gep(data, [entry])
    vector = ir.VectorType(place.type.pointee, n)
    values = builder.load(
        builder.bitcast(place, vector.as_pointer()), align=kind.bitwidth // 8
    )
    if kind == wanted:
        return values
    if isinstance(wanted, types.Integer):
        # By way of 32 bits, for which every machine has an instruction.
        values = builder.fptosi(values, ir.VectorType(ir.IntType(32), n))
        return builder.sext(values, ir.VectorType(ir.IntType(wanted.bitwidth), n))
    vector = ir.VectorType(ir.DoubleType(), n)
    if isinstance(kind, types.Float):
        return builder.fpext(values, vector)
    convert = builder.sitofp if kind.signed else builder.uitofp
    return convert(values, vector)


def _store(builder, values, data, entry, kind):
    place = builder.gep(data, [entry])
    place = builder.bitcast(place, values.type.as_pointer())
    builder.store(values, place, align=kind.bitwidth // 8)
