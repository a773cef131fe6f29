"""Rows of a matrix times a tile, summed over columns in registers.

LLVM vectorises the innermost loop alone, so that a sum over columns, for many lanes,
goes to memory and back at every block of columns. Here sums of four rows and
``BLOCK_BYTES`` of lanes stay in registers while all columns pass by: eight
multiply-adds take two loads of lanes and four of coefficients, which leaves even
processors with sixteen vector registers bound by arithmetic.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastem.compile import MANY_REGISTERS
from fastem.kernels.tiles import STRIDE

BLOCK_BYTES = 128 if MANY_REGISTERS else 64

# How many rows an operation covers, as a tuple: of a tuple the length is known when
# Numba compiles. So it is with ``width``, which has an item for every sixteen lanes.
FOUR, TWO = (0,) * 4, (0,) * 2

_CONTRACT = ("contract",)


def block_lanes(tile, width):
    """Return how many lanes go through registers at a time."""
    return min(BLOCK_BYTES // tile.itemsize, 16 * len(width))


def set_product(matrix, shift, row, rows, n_columns, tile, out, lane, width):
    """Set lanes of ``out`` to rows of ``matrix @ tile + shift``, from a lane on."""
    x = _lanes(tile, n_columns, lane, width)
    some = slice(row, row + len(rows))
    _lanes(out, len(rows), lane, width)[:] = (
        matrix[some, :n_columns] @ x + shift[some, None]
    )


def subtract_lower_square(lower, shift, row, rows, tile, out, lane, width):
    """Subtract squares of rows of ``lower @ tile + shift`` from lanes of ``out``."""
    end = row + len(rows)
    x = _lanes(tile, end, lane, width)
    product = np.tril(lower)[row:end, :end] @ x + shift[row:end, None]
    _lanes(out, 1, lane, width)[0] -= (product**2).sum(axis=0)


def _lanes(tile, n_rows, lane, width):
    """Return a block's lanes of the first rows of a tile; the last may end early."""
    return np.lib.stride_tricks.as_strided(
        tile[lane:],
        (n_rows, block_lanes(tile, width)),
        (STRIDE * tile.itemsize, tile.itemsize),
    )


def _n_lanes(tile_type, width_type):
    return min(8 * BLOCK_BYTES // tile_type.dtype.bitwidth, 16 * width_type.count)


@overload(block_lanes)
def _overload_block_lanes(tile, width):
    n_lanes = _n_lanes(tile, width)
    return lambda tile, width: n_lanes


@overload(set_product)
def _overload_set_product(matrix, shift, row, rows, n_columns, tile, out, lane, width):
    return lambda matrix, shift, row, rows, n_columns, tile, out, lane, width: (
        _store_rows(matrix, shift, row, rows, n_columns, tile, out, lane, width)
    )


@overload(subtract_lower_square)
def _overload_subtract_lower_square(lower, shift, row, rows, tile, out, lane, width):
    return lambda lower, shift, row, rows, tile, out, lane, width: _subtract_rows(
        lower, shift, row, rows, tile, out, lane, width
    )


@intrinsic
def _store_rows(
    typing_context, matrix, shift, row, rows, n_columns, tile, out, lane, width
):
    """As :func:`set_product`."""

    def generate(context, builder, signature, arguments):
        matrix, shift, row, _, n_columns, tile, out, lane, _ = _open_arrays(
            context, builder, signature, arguments
        )
        lanes = _Lanes(builder, tile, lane, _n_lanes(signature.args[5], width))
        sums = _start(lanes, shift, row, rows.count)
        sums = _add_columns(lanes, matrix, row, n_columns, sums)
        for j, total in enumerate(sums):
            lanes.store(total, out, ir.IntType(64)(j))
        return context.get_dummy_value()

    return (
        types.void(matrix, shift, row, rows, n_columns, tile, out, lane, width),
        generate,
    )


@intrinsic
def _subtract_rows(typing_context, lower, shift, row, rows, tile, out, lane, width):
    """As :func:`subtract_lower_square`."""

    def generate(context, builder, signature, arguments):
        lower, shift, row, _, tile, out, lane, _ = _open_arrays(
            context, builder, signature, arguments
        )
        lanes = _Lanes(builder, tile, lane, _n_lanes(signature.args[4], width))
        sums = _start(lanes, shift, row, rows.count)
        sums = _add_columns(lanes, lower, row, row, sums)
        for j in range(rows.count):  # the triangle on the diagonal
            column = builder.add(row, row.type(j))
            sums[j:] = _add_column(lanes, lower, row, j, column, sums[j:])
        first = ir.IntType(64)(0)
        rest = lanes.load(out, first)
        for total in sums:
            square = builder.fmul(total, total, flags=_CONTRACT)
            rest = builder.fsub(rest, square, flags=_CONTRACT)
        lanes.store(rest, out, first)
        return context.get_dummy_value()

    return types.void(lower, shift, row, rows, tile, out, lane, width), generate


def _open_arrays(context, builder, signature, arguments):
    return [
        context.make_array(kind)(context, builder, value)
        if isinstance(kind, types.Array)
        else value
        for kind, value in zip(signature.args, arguments, strict=True)
    ]


class _Lanes:
    """Vectors of the lanes from one on, in any row of a tile."""

    def __init__(self, builder, tile, lane, n_lanes):
        self.builder = builder
        self.tile = tile
        self.lane = lane
        self.scalar = tile.data.type.pointee
        self.vector = ir.VectorType(self.scalar, n_lanes)
        self.align = 4 if self.scalar == ir.FloatType() else 8

    def _address(self, array, row):
        builder = self.builder
        entry = builder.add(builder.mul(row, row.type(STRIDE)), self.lane)
        place = builder.gep(array.data, [entry])
        return builder.bitcast(place, self.vector.as_pointer())

    def load(self, array, row):
        return self.builder.load(self._address(array, row), align=self.align)

    def store(self, value, array, row):
        self.builder.store(value, self._address(array, row), align=self.align)

    def fill(self, array, entry):
        """Return a number of an array in all lanes."""
        builder = self.builder
        value = builder.load(builder.gep(array.data, [entry]), align=self.align)
        nothing = ir.Constant(self.vector, ir.Undefined)
        one = builder.insert_element(nothing, value, ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.vector.count), None)
        return builder.shuffle_vector(one, nothing, mask)


def _start(lanes, shift, row, n_rows):
    builder = lanes.builder
    return [lanes.fill(shift, builder.add(row, row.type(j))) for j in range(n_rows)]


def _add_columns(lanes, matrix, row, n_columns, sums):
    """Return the sums with columns 0..n_columns added, in a loop."""
    builder = lanes.builder
    before = builder.block
    body = builder.append_basic_block("column")
    after = builder.append_basic_block("columns_added")
    zero = n_columns.type(0)
    builder.cbranch(builder.icmp_signed(">", n_columns, zero), body, after)

    builder.position_at_end(body)
    column = builder.phi(n_columns.type)
    carried = [builder.phi(lanes.vector) for _ in sums]
    added = _add_column(lanes, matrix, row, 0, column, carried)
    following = builder.add(column, n_columns.type(1))
    end = builder.block
    builder.cbranch(builder.icmp_signed("<", following, n_columns), body, after)
    column.add_incoming(zero, before)
    column.add_incoming(following, end)

    builder.position_at_end(after)
    results = [builder.phi(lanes.vector) for _ in sums]
    for start, phi, total, result in zip(sums, carried, added, results, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(total, end)
        result.add_incoming(start, before)
        result.add_incoming(total, end)
    return results


def _add_column(lanes, matrix, row, first, column, sums):
    """Return sums of rows ``row + first`` and on, with one column added."""
    builder = lanes.builder
    x = lanes.load(lanes.tile, column)
    width = builder.extract_value(matrix.shape, 1)
    added = []
    for j, total in enumerate(sums, start=first):
        entry = builder.add(builder.mul(builder.add(row, row.type(j)), width), column)
        product = builder.fmul(lanes.fill(matrix, entry), x, flags=_CONTRACT)
        added.append(builder.fadd(total, product, flags=_CONTRACT))
    return added
