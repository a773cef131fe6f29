"""Rows of a matrix times a tile, summed over columns in registers.

Sums of four rows and ``BLOCK_BYTES`` of lanes stay in registers while all columns pass
by: eight multiply-adds take two loads of lanes and four of coefficients, which leaves
even processors with sixteen vector registers bound by arithmetic.
"""

import numpy as np
from numba import types

from fastem.kernels.lanes import (
    CONTRACT,
    INDEX,
    WIDE,
    Lanes,
    count_lanes,
    loop,
    multiply_add,
    open_arguments,
    rows_of_lanes,
)
from fastem.kernels.tiles import prefetch_line
from fastem.lowering import lowers


def block_lanes(tile, width):
    """Return how many lanes go through registers at a time."""
    return count_lanes(tile.itemsize, 2, len(width))


def set_product(matrix, shift, row, rows, n_columns, tile, out, lane, width):
    """Set lanes of ``out`` to rows of ``matrix @ tile + shift``, from a lane on."""
    n_lanes = block_lanes(tile, width)
    x = rows_of_lanes(tile, n_columns, lane, n_lanes)
    some = slice(row, row + len(rows))
    rows_of_lanes(out, len(rows), lane, n_lanes)[:] = (
        matrix[some, :n_columns] @ x + shift[some, None]
    )


def add_product(matrix, row, first, end, fresh, tile, out, lane, width):
    """Add four rows of ``matrix @ tile`` to lanes of ``out``; set them if ``fresh``.

    Columns are those from ``first`` to ``end``, and rows of the tile.
    """
    n_lanes = block_lanes(tile, width)
    x = rows_of_lanes(tile, end, lane, n_lanes)[first:]
    total = rows_of_lanes(out, 4, lane, n_lanes)
    total[:] = matrix[row : row + 4, first:end] @ x + (0 if fresh else total)


def add_best_sum(matrix, row, first, end, fresh, tile, out, lane, width):
    """As :func:`add_product`, with the larger for the sum and sums for products."""
    n_lanes = block_lanes(tile, width)
    x = rows_of_lanes(tile, end, lane, n_lanes)[first:]
    total = rows_of_lanes(out, 4, lane, n_lanes)
    if fresh:
        total[:] = -np.inf
    for m, y in zip(matrix[row : row + 4, first:end].T, x, strict=True):
        total[:] = np.maximum(total, m[:, None] + y)


def set_best_product(matrix, shift, tile, best, lead, lane):
    """Set lanes of ``best`` to the row of the largest of ``matrix @ tile + shift``.

    It is the first of equals; ``lead``, unless that is None, is set to what it is above
    the second. Both sizes of the matrix are multiples of four.
    """
    lanes = slice(lane, lane + block_lanes(tile, WIDE))
    x = rows_of_lanes(tile, matrix.shape[1], lane, lanes.stop - lane)
    values = matrix @ x + shift[:, None]
    best[lanes] = np.argmax(values, axis=0)
    if lead is not None:
        second, largest = np.partition(values, -2, axis=0)[-2:]
        lead[lanes] = largest - second


def set_best_bound(start, factors, shifts, n_columns, tile, out, bests, lane, ahead):
    """Set lanes of ``out`` to ``start - |factors * tile + shifts|**2``, row by row.

    It takes the first columns. ``bests`` are arrays of each lane's largest of these, of
    equals the first, its row, and the second largest. The number of rows is a multiple
    of four. Meanwhile memory is asked, and not waited for, for what lies at ``ahead``,
    an address and how many bytes for each column of four rows; of none it is zero.
    """
    n_lanes = block_lanes(tile, WIDE)
    lanes = slice(lane, lane + n_lanes)
    x = rows_of_lanes(tile, n_columns, lane, n_lanes)
    z = factors[:, :n_columns, None] * x + shifts[:, :n_columns, None]
    values = start[:, None] - (z**2).sum(axis=1)
    rows_of_lanes(out, len(start), lane, n_lanes)[:] = values
    largest, best, second = bests
    best[lanes] = np.argmax(values, axis=0)
    second[lanes], largest[lanes] = np.partition(values, -2, axis=0)[-2:]


def subtract_lower_square(upper, shift, row, rows, tile, out, lane):
    """Subtract squares of rows of ``upper.T @ tile + shift`` from lanes of ``out``."""
    n_lanes = block_lanes(tile, WIDE)
    end = row + len(rows)
    x = rows_of_lanes(tile, end, lane, n_lanes)
    product = np.triu(upper)[:end, row:end].T @ x + shift[row:end, None]
    rows_of_lanes(out, 1, lane, n_lanes)[0] -= (product**2).sum(axis=0)


def _n_lanes(tile_type, width_type):
    return count_lanes(tile_type.dtype.bitwidth // 8, 2, width_type.count)


@lowers(block_lanes)
def _lower_block_lanes(typing_context, tile, width):
    n_lanes = INDEX(_n_lanes(tile, width))
    return types.int64(tile, width), lambda *_: n_lanes


@lowers(set_product)
def _lower_set_product(
    typing_context, matrix, shift, row, rows, n_columns, tile, out, lane, width
):
    def generate(context, builder, signature, arguments):
        matrix, shift, row, _, n_columns, tile, out, lane, _ = open_arguments(
            context, builder, signature, arguments
        )
        lanes = Lanes(builder, tile, lane, _n_lanes(signature.args[5], width))
        sums = _start(lanes, shift, row, rows.count)
        columns = _Columns(lanes, matrix, row, tile, _multiply_add)
        sums = loop(builder, INDEX(0), n_columns, sums, columns.add)
        for j, total in enumerate(sums):
            lanes.store(total, out, INDEX(j))
        return context.get_dummy_value()

    return (
        types.void(matrix, shift, row, rows, n_columns, tile, out, lane, width),
        generate,
    )


def _gather_rows(combine, nothing):
    """Return what combines columns of a matrix with rows of a tile."""

    def define(typing_context, matrix, row, first, end, fresh, tile, out, lane, width):
        def generate(context, builder, signature, arguments):
            matrix, row, first, end, fresh, tile, out, lane, _ = open_arguments(
                context, builder, signature, arguments
            )
            lanes = Lanes(builder, tile, lane, _n_lanes(signature.args[5], width))
            start = lanes.constant(nothing)
            sums = [
                builder.select(fresh, start, lanes.load(out, INDEX(j)))
                for j in range(4)
            ]
            columns = _Columns(lanes, matrix, row, tile, combine)
            sums = loop(builder, first, end, sums, columns.add)
            for j, total in enumerate(sums):
                lanes.store(total, out, INDEX(j))
            return context.get_dummy_value()

        arguments = matrix, row, first, end, fresh, tile, out, lane, width
        return types.void(*arguments), generate

    return define


@lowers(set_best_product)
def _lower_set_best_product(typing_context, matrix, shift, tile, best, lead, lane):
    def generate(context, builder, signature, arguments):
        matrix, shift, tile, best, lead, lane = open_arguments(
            context, builder, signature, arguments
        )
        n_lanes = count_lanes(signature.args[2].dtype.bitwidth // 8, 2, len(WIDE))
        lanes = Lanes(builder, tile, lane, n_lanes)
        n_rows, n_columns = (builder.extract_value(matrix.shape, i) for i in (0, 1))

        def add_four(block, carried):
            row = builder.mul(block, INDEX(4))
            sums = _start(lanes, shift, row, 4)
            columns = _Columns(lanes, matrix, row, tile, _multiply_add)
            sums = loop(builder, INDEX(0), n_columns, sums, columns.add)
            for total in sums:
                carried = lanes.keep_better(total, carried)
            return carried

        zero, least = lanes.constant(0.0), lanes.constant(-np.inf)
        with_lead = isinstance(signature.args[4], types.Array)
        start = [least] * with_lead + [least, zero, zero]
        n_blocks = builder.sdiv(n_rows, INDEX(4))
        *seconds, record, holder, _ = loop(builder, INDEX(0), n_blocks, start, add_four)
        lanes.store(holder, best, INDEX(0))
        for second in seconds:
            lanes.store(builder.fsub(record, second), lead, INDEX(0))
        return context.get_dummy_value()

    return types.void(matrix, shift, tile, best, lead, lane), generate


@lowers(set_best_bound)
def _lower_set_best_bound(
    typing_context, start, factors, shifts, n_columns, tile, out, bests, lane, ahead
):
    def generate(context, builder, signature, arguments):
        start, factors, shifts, n_columns, tile, out, bests, lane, ahead = (
            open_arguments(context, builder, signature, arguments)
        )
        (largest, best, second), (address, n_bytes) = bests, ahead
        n_lanes = count_lanes(signature.args[4].dtype.bitwidth // 8, 2, len(WIDE))
        lanes = Lanes(builder, tile, lane, n_lanes)
        n_rows = builder.extract_value(start.shape, 0)
        width = builder.extract_value(factors.shape, 1)

        def add_four(block, carried):
            *bests, address = carried
            rows = [
                builder.add(builder.mul(block, INDEX(4)), INDEX(j)) for j in range(4)
            ]
            sums = [lanes.fill(lanes.entry(start, row)) for row in rows]

            def add(column, carried):
                *sums, address = carried
                prefetch_line(builder, address)
                x = lanes.load(tile, column)
                for j, row in enumerate(rows):
                    entry = builder.add(builder.mul(row, width), column)
                    factor, shift = (
                        lanes.fill(lanes.entry(array, entry))
                        for array in (factors, shifts)
                    )
                    z = _multiply_add(lanes, shift, factor, x)
                    square = builder.fmul(z, z, flags=CONTRACT)
                    sums[j] = builder.fsub(sums[j], square, flags=CONTRACT)
                return *sums, builder.add(address, n_bytes)

            *sums, address = loop(builder, INDEX(0), n_columns, [*sums, address], add)
            for row, total in zip(rows, sums, strict=True):
                lanes.store(total, out, row)
                bests = lanes.keep_better(total, bests)
            return *bests, address

        zero, least = lanes.constant(0.0), lanes.constant(-np.inf)
        own = builder.ptrtoint(tile.data, address.type)
        absent = builder.icmp_signed("==", address, INDEX(0))
        carried = least, least, zero, zero, builder.select(absent, own, address)
        n_blocks = builder.sdiv(n_rows, INDEX(4))
        other, record, holder, *_ = loop(builder, INDEX(0), n_blocks, carried, add_four)
        for value, array in ((record, largest), (holder, best), (other, second)):
            lanes.store(value, array, INDEX(0))
        return context.get_dummy_value()

    return (
        types.void(start, factors, shifts, n_columns, tile, out, bests, lane, ahead),
        generate,
    )


@lowers(subtract_lower_square)
def _lower_subtract_lower_square(
    typing_context, upper, shift, row, rows, tile, out, lane
):
    def generate(context, builder, signature, arguments):
        upper, shift, row, _, tile, out, lane = open_arguments(
            context, builder, signature, arguments
        )
        n_lanes = count_lanes(signature.args[4].dtype.bitwidth // 8, 2, len(WIDE))
        lanes = Lanes(builder, tile, lane, n_lanes)
        sums = _start(lanes, shift, row, rows.count)
        columns = _Columns(lanes, upper, row, tile, _multiply_add, transposed=True)
        sums = loop(builder, INDEX(0), row, sums, columns.add)
        for j in range(rows.count):  # the triangle on the diagonal
            column = builder.add(row, row.type(j))
            sums[j:] = columns.add(column, sums[j:], j)
        first = INDEX(0)
        rest = lanes.load(out, first)
        for total in sums:
            square = builder.fmul(total, total, flags=CONTRACT)
            rest = builder.fsub(rest, square, flags=CONTRACT)
        lanes.store(rest, out, first)
        return context.get_dummy_value()

    return types.void(upper, shift, row, rows, tile, out, lane), generate


def _start(lanes, shift, row, n_rows):
    return [
        lanes.fill(lanes.entry(shift, lanes.builder.add(row, row.type(j))))
        for j in range(n_rows)
    ]


class _Columns:
    """Columns of a matrix, from a row on, and the rows of a tile that they meet."""

    def __init__(self, lanes, matrix, row, tile, combine, transposed=False):
        self._lanes, self._matrix, self._row = lanes, matrix, row
        self._tile, self._combine, self._transposed = tile, combine, transposed

    def add(self, column, sums, skipped=0):
        """Return sums of rows, but for some that are skipped, with one column more."""
        lanes, builder = self._lanes, self._lanes.builder
        x = lanes.load(self._tile, column)
        width = builder.extract_value(self._matrix.shape, 1)
        added = []
        for j, total in enumerate(sums, start=skipped):
            row = builder.add(self._row, self._row.type(j))
            first, then = (column, row) if self._transposed else (row, column)
            entry = builder.add(builder.mul(first, width), then)
            coefficient = lanes.fill(lanes.entry(self._matrix, entry))
            added.append(self._combine(lanes, total, coefficient, x))
        return added


def _multiply_add(lanes, total, coefficient, x):
    return multiply_add(lanes.builder, total, coefficient, x)


def _keep_better(lanes, total, coefficient, x):
    return lanes.larger(lanes.builder.fadd(coefficient, x), total)


lowers(add_product)(_gather_rows(_multiply_add, 0.0))
lowers(add_best_sum)(_gather_rows(_keep_better, -np.inf))
