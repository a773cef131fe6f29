"""What is written in LLVM's own language: vectors of lanes, and loops that carry them.

LLVM vectorises the innermost loop alone, so that what an outer loop sums or compares,
for many lanes, goes to memory and back at every step. Code made of these pieces keeps
it in registers.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import unpack_tuple

from fastem.compile import MANY_REGISTERS
from fastem.kernels.tiles import LANES, STRIDE

# How many lanes an operation covers, as a tuple with an item for every sixteen: of a
# tuple the length is known when Numba compiles. So it is with rows.
WIDE = (0,) * (LANES // 16)
FOUR, TWO = (0,) * 4, (0,) * 2

REGISTER_BYTES = 64 if MANY_REGISTERS else 32
INDEX = ir.IntType(64)
CONTRACT = ("contract",)


def count_lanes(itemsize, n_registers, width):
    """Return how many lanes fill some registers, at most those of a product's width."""
    return min(n_registers * REGISTER_BYTES // itemsize, 16 * width)


def rows_of_lanes(tile, n_rows, lane, n_lanes):
    """Return some lanes of the first rows of a tile, without the JIT."""
    return np.lib.stride_tricks.as_strided(
        tile[lane:], (n_rows, n_lanes), (STRIDE * tile.itemsize, tile.itemsize)
    )


def open_arguments(context, builder, signature, arguments):
    """Return an intrinsic's arguments, arrays opened so that their data can be had.

    Of tuples of arrays they are, too.
    """

    def open_one(kind, value):
        if isinstance(kind, types.Array):
            return context.make_array(kind)(context, builder, value)
        if isinstance(kind, types.BaseTuple):
            return open_all(kind.types, unpack_tuple(builder, value))
        return value

    def open_all(kinds, values):
        return [open_one(*pair) for pair in zip(kinds, values, strict=True)]

    return open_all(signature.args, arguments)


def spread(builder, vector, value):
    """Return a vector of a type with one number in all its entries."""
    nothing = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(nothing, value, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(one, nothing, mask)


def multiply_add(builder, total, a, b):
    """Return ``total + a * b``, rounded once where the processor can."""
    product = builder.fmul(a, b, flags=CONTRACT)
    return builder.fadd(total, product, flags=CONTRACT)


def add_products(builder, sums, left, right):
    """Return sums with the product of each on the left and each on the right added.

    All of the first on the left come first.
    """
    pairs = [(a, b) for a in left for b in right]
    return [
        multiply_add(builder, total, a, b)
        for total, (a, b) in zip(sums, pairs, strict=True)
    ]


def sum_entries(builder, vector):
    """Return the sum of a vector's entries, halves added to halves."""
    size = vector.type.count
    while size > 1:
        size //= 2
        kind = ir.VectorType(ir.IntType(32), size)
        halves = (
            builder.shuffle_vector(vector, vector, ir.Constant(kind, [*entries]))
            for entries in (range(size), range(size, 2 * size))
        )
        vector = builder.fadd(*halves)
    return builder.extract_element(vector, ir.IntType(32)(0))


class Lanes:
    """Vectors of the lanes from one on, in any row of tiles of one type."""

    def __init__(self, builder, tile, lane, n_lanes, stride=None):
        self.builder = builder
        self.lane = lane
        self.stride = INDEX(STRIDE) if stride is None else stride
        self.scalar = tile.data.type.pointee
        self.vector = ir.VectorType(self.scalar, n_lanes)
        self.align = 4 if self.scalar == ir.FloatType() else 8

    def _address(self, array, row):
        builder = self.builder
        entry = builder.add(builder.mul(row, self.stride), self.lane)
        place = builder.gep(array.data, [entry])
        return builder.bitcast(place, self.vector.as_pointer())

    def load(self, array, row):
        """Return the lanes of a row."""
        return self.builder.load(self._address(array, row), align=self.align)

    def store(self, value, array, row):
        """Set the lanes of a row."""
        self.builder.store(value, self._address(array, row), align=self.align)

    def entry(self, array, index):
        """Return a number of a contiguous array."""
        place = self.builder.gep(array.data, [index])
        return self.builder.load(place, align=self.align)

    def fill(self, value):
        """Return a number in all lanes."""
        return spread(self.builder, self.vector, value)

    def constant(self, value):
        """Return a number that is known now in all lanes."""
        return ir.Constant(self.vector, [value] * self.vector.count)

    def larger(self, a, b):
        """Return the larger of each lane; b where one is not a number."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def smaller(self, a, b):
        """Return the smaller of each lane; b where one is not a number."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def keep_better(self, value, carried):
        """Return the record, its holder and the next number after one number's value.

        What is carried is the same three before it. A fourth before those, the second
        best, is kept, too; of equals and of what is no number it is the record.
        """
        *seconds, record, holder, number = carried
        better = self.builder.fcmp_ordered(">", value, record)
        return (
            *(self.larger(self.smaller(value, record), other) for other in seconds),
            self.builder.select(better, value, record),
            self.builder.select(better, number, holder),
            self.builder.fadd(number, self.constant(1.0)),
        )


def loop(builder, first, end, carried, step):
    """Return what ``carried = step(index, carried)`` comes to over indices."""
    before = builder.block
    body = builder.append_basic_block("step")
    after = builder.append_basic_block("steps_taken")
    builder.cbranch(builder.icmp_signed("<", first, end), body, after)

    builder.position_at_end(body)
    index = builder.phi(INDEX)
    inside = [builder.phi(value.type) for value in carried]
    results = step(index, inside)
    following = builder.add(index, INDEX(1))
    last = builder.block
    builder.cbranch(builder.icmp_signed("<", following, end), body, after)
    index.add_incoming(first, before)
    index.add_incoming(following, last)

    builder.position_at_end(after)
    outside = [builder.phi(value.type) for value in carried]
    for start, phi, result, out in zip(carried, inside, results, outside, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(result, last)
        out.add_incoming(start, before)
        out.add_incoming(result, last)
    return outside
