"""The largest of rows, lane by lane, and which row that is, kept in registers.

Comparisons written as loops end in conditional stores, which processors without
AVX-512 take five times as long for as for the comparison (measured on Zen 3: 0.48 ns an
entry against 0.06).
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastem.compile import TILE_OPTIONS
from fastem.kernels.lanes import (
    INDEX,
    Lanes,
    count_lanes,
    loop,
    open_arguments,
    rows_of_lanes,
)


def set_largest(rows, n_rows, floor, out, width):
    """Set each lane to the largest of its rows, or to ``floor`` if that is more."""
    lanes = rows_of_lanes(rows, n_rows, 0, 16 * len(width))
    out[: 16 * len(width)] = np.fmax.reduce(lanes, axis=0, initial=floor)


def set_best(rows, n_rows, largest, second, best, width):
    """Set each lane's largest row, of one at least, and the first to reach it.

    Unless it is None, ``second`` is set to the largest of the others, or to the largest
    where one is not a number.
    """
    n_lanes = 16 * len(width)
    lanes = rows_of_lanes(rows, n_rows, 0, n_lanes)
    largest[:n_lanes], best[:n_lanes] = lanes[0], 0
    others = np.full(n_lanes, -np.inf)
    for k in range(1, n_rows):
        record = largest[:n_lanes].copy()
        others = np.fmax(np.where(lanes[k] < record, lanes[k], record), others)
        better = lanes[k] > record
        largest[:n_lanes][better] = lanes[k][better]
        best[:n_lanes][better] = k
    if second is not None:
        second[:n_lanes] = others


def set_best_source(matrix, rows, n_rows, state, width):
    """Replace each lane's state k by the first j of the largest ``rows[j] + m[j, k]``.

    It stays where none is above -inf. States are floating-point numbers.
    """
    n_lanes = 16 * len(width)
    sums = rows_of_lanes(rows, n_rows, 0, n_lanes)
    sums = sums + matrix[:n_rows, state[:n_lanes].astype(int)]
    best = np.argmax(sums, axis=0)
    possible = sums.max(axis=0) > -np.inf
    state[:n_lanes] = np.where(possible, best, state[:n_lanes])


def _n_lanes(array_type, n_registers, width_type):
    return count_lanes(array_type.dtype.bitwidth // 8, n_registers, width_type.count)


@overload(set_largest, jit_options=TILE_OPTIONS)
def _overload_set_largest(rows, n_rows, floor, out, width):
    all_lanes, step = 16 * width.count, _n_lanes(rows, 8, width)

    def run(rows, n_rows, floor, out, width):
        for lane in range(0, all_lanes, step):
            _largest(rows, n_rows, rows.dtype.type(floor), out, lane, width)

    return run


@overload(set_best, jit_options=TILE_OPTIONS)
def _overload_set_best(rows, n_rows, largest, second, best, width):
    n_registers = 2 if isinstance(second, types.Array) else 4
    all_lanes, step = 16 * width.count, _n_lanes(rows, n_registers, width)

    def run(rows, n_rows, largest, second, best, width):
        for lane in range(0, all_lanes, step):
            _best(rows, n_rows, largest, second, best, lane, width)

    return run


@overload(set_best_source, jit_options=TILE_OPTIONS)
def _overload_set_best_source(matrix, rows, n_rows, state, width):
    all_lanes, step = 16 * width.count, _n_lanes(rows, 2, width)

    def run(matrix, rows, n_rows, state, width):
        for lane in range(0, all_lanes, step):
            _best_source(matrix, rows, n_rows, state, lane, width)

    return run


@intrinsic
def _largest(typing_context, rows, n_rows, floor, out, lane, width):
    def generate(context, builder, signature, arguments):
        rows, n_rows, floor, out, lane, _ = open_arguments(
            context, builder, signature, arguments
        )
        lanes = Lanes(builder, rows, lane, _n_lanes(signature.args[0], 8, width))

        def step(k, carried):
            return [lanes.larger(lanes.load(rows, k), carried[0])]

        start = [lanes.fill(floor)]
        (largest,) = loop(builder, INDEX(0), n_rows, start, step)
        lanes.store(largest, out, INDEX(0))
        return context.get_dummy_value()

    return types.void(rows, n_rows, floor, out, lane, width), generate


@intrinsic
def _best(typing_context, rows, n_rows, largest, second, best, lane, width):
    def generate(context, builder, signature, arguments):
        rows, n_rows, largest, second, best, lane, _ = open_arguments(
            context, builder, signature, arguments
        )
        with_second = isinstance(signature.args[3], types.Array)
        n_lanes = _n_lanes(signature.args[0], 2 if with_second else 4, width)
        lanes = Lanes(builder, rows, lane, n_lanes)
        start = lanes.load(rows, INDEX(0)), lanes.constant(0.0), lanes.constant(1.0)
        if with_second:
            start = lanes.constant(-np.inf), *start

        def step(k, carried):
            return lanes.keep_better(lanes.load(rows, k), carried)

        *seconds, record, holder, _ = loop(builder, INDEX(1), n_rows, start, step)
        lanes.store(record, largest, INDEX(0))
        lanes.store(holder, best, INDEX(0))
        for value in seconds:
            lanes.store(value, second, INDEX(0))
        return context.get_dummy_value()

    return types.void(rows, n_rows, largest, second, best, lane, width), generate


@intrinsic
def _best_source(typing_context, matrix, rows, n_rows, state, lane, width):
    def generate(context, builder, signature, arguments):
        matrix, rows, n_rows, state, lane, _ = open_arguments(
            context, builder, signature, arguments
        )
        lanes = Lanes(builder, rows, lane, _n_lanes(signature.args[1], 2, width))
        before = lanes.load(state, INDEX(0))
        positions = [ir.IntType(32)(i) for i in range(lanes.vector.count)]
        columns = [
            builder.fptosi(builder.extract_element(before, i), INDEX) for i in positions
        ]
        n_columns = builder.extract_value(matrix.shape, 1)

        def step(j, carried):
            row = builder.gep(matrix.data, [builder.mul(j, n_columns)])
            onward = ir.Constant(lanes.vector, ir.Undefined)
            for i, column in zip(positions, columns, strict=True):
                entry = builder.load(builder.gep(row, [column]), align=lanes.align)
                onward = builder.insert_element(onward, entry, i)
            value = builder.fadd(lanes.load(rows, j), onward)
            return lanes.keep_better(value, carried)

        start = lanes.constant(-np.inf), before, lanes.constant(0.0)
        _, holder, _ = loop(builder, INDEX(0), n_rows, start, step)
        lanes.store(holder, state, INDEX(0))
        return context.get_dummy_value()

    return types.void(matrix, rows, n_rows, state, lane, width), generate
