"""Sums over lanes of the products of rows with rows, which is what moments are.

Rows lie as those of a tile do, row ``j`` from ``j * stride`` on. Up to the next
multiple of ``LANE_BLOCK`` lanes must be zero. Blocks of sums stay in registers while
all lanes pass by, so that each vector loaded feeds several of them.
"""

from numba import types

from fastem.compile import MANY_REGISTERS, tile_function, tile_subroutine
from fastem.kernels.lanes import (
    FOUR,
    INDEX,
    REGISTER_BYTES,
    TWO,
    Lanes,
    loop,
    multiply_add,
    open_arguments,
    sum_entries,
)
from fastem.lowering import lowers

LANE_BLOCK = 16
# Sixteen sums and what is added to them need more than sixteen registers.
COLUMNS = FOUR if MANY_REGISTERS else TWO
# With fewer sums, each waits for itself: they are summed in whole blocks of lanes.
FEWEST_SUMS = 8


@tile_function
def add_outer(a, n_rows, b, n_columns, n_lanes, stride, total):
    """Add the sums over lanes of ``a[j] * b[i]`` to ``total[j * n_columns + i]``.

    Both sizes are multiples of four.
    """
    for j in range(0, n_rows, 4):
        for i in range(0, n_columns, 4):
            row = j * n_columns
            add_outer_block(a, j, b, i, n_lanes, stride, total, row, n_columns)


@tile_function
def add_outer_block(a, j, b, i, n_lanes, stride, total, row, width):
    """Add those of four rows and four columns, to rows of ``total`` so wide."""
    places = (row, row + width, row + 2 * width, row + 3 * width)
    for column in range(i, i + 4, len(COLUMNS)):
        add_sums(a, j, b, column, COLUMNS, n_lanes, stride, total, places)


@tile_function
def places_of_four(j):
    """Return where rows j to j + 4 of a packed lower triangle begin."""
    first = j * (j + 1) // 2
    return first, first + j + 1, first + 2 * j + 3, first + 3 * j + 6


@tile_function
def places_of_two(j):
    """Return where rows j and j + 1 of a packed lower triangle begin."""
    first = j * (j + 1) // 2
    return first, first + j + 1


@tile_subroutine
def add_lower_outer(a, b, size, n_lanes, stride, total):
    """Add the sums over lanes of ``a[j] * b[i]``, i <= j, to a packed lower triangle.

    Entry (j, i) of the triangle is ``total[j * (j + 1) // 2 + i]``; ``a[j] * b[i]``
    must be symmetric in i and j, as weighted and plain deviations are. The size is a
    multiple of two.
    """
    n_whole = size // 4 * 4
    for j in range(0, n_whole, 4):
        places = places_of_four(j)
        for i in range(0, j, len(COLUMNS)):
            add_sums(a, j, b, i, COLUMNS, n_lanes, stride, total, places)
        add_sums(a, j, b, j, None, n_lanes, stride, total, places)
    if n_whole < size:
        places = places_of_two(n_whole)
        for i in range(0, n_whole, 4):
            add_sums(a, n_whole, b, i, FOUR, n_lanes, stride, total, places)
        add_sums(a, n_whole, b, n_whole, None, n_lanes, stride, total, places)


def add_sums(a, j, b, i, columns, n_lanes, stride, total, places):
    """Add sums over lanes of ``a[j + r] * b[i + c]`` to ``total[places[r] + i + c]``.

    There is a row for each place, and as many columns as a tuple has items; without
    one, those of the lower triangle.
    """
    for r, place in enumerate(places):
        left = a[(j + r) * stride :][:n_lanes]
        for c in range(r + 1 if columns is None else len(columns)):
            right = b[(i + c) * stride :][:n_lanes]
            total[place + i + c] += left @ right


@lowers(add_sums)
def _lower_add_sums(
    typing_context, a, j, b, i, columns, n_lanes, stride, total, places
):
    def generate(context, builder, signature, arguments):
        a, j, b, i, _, n_lanes, stride, total, places = open_arguments(
            context, builder, signature, arguments
        )
        lower = isinstance(signature.args[4], types.NoneType)
        pairs = [
            (r, c)
            for r in range(len(places))
            for c in range(r + 1 if lower else len(signature.args[4]))
        ]
        in_register = REGISTER_BYTES * 8 // signature.args[0].dtype.bitwidth
        n_abreast = in_register if len(pairs) >= FEWEST_SUMS else LANE_BLOCK

        def add(block, sums):
            for lane in range(0, LANE_BLOCK, n_abreast):
                lane = builder.add(builder.mul(block, INDEX(LANE_BLOCK)), INDEX(lane))
                sums = add_lanes(Lanes(builder, a, lane, n_abreast, stride), sums)
            return sums

        def add_lanes(lanes, sums):
            left, right = (
                {
                    row: lanes.load(array, builder.add(first, INDEX(row)))
                    for row in sorted(set(rows))
                }
                for array, first, rows in zip(
                    (a, b), (j, i), zip(*pairs, strict=True), strict=True
                )
            )
            return [
                multiply_add(builder, total, left[r], right[c])
                for (r, c), total in zip(pairs, sums, strict=True)
            ]

        zero = Lanes(builder, a, INDEX(0), n_abreast).constant(0.0)
        n_blocks = builder.add(n_lanes, INDEX(LANE_BLOCK - 1))
        n_blocks = builder.sdiv(n_blocks, INDEX(LANE_BLOCK))
        sums = loop(builder, INDEX(0), n_blocks, [zero] * len(pairs), add)
        for (r, c), lanes in zip(pairs, sums, strict=True):
            column = builder.add(i, INDEX(c))
            place = builder.gep(total.data, [builder.add(places[r], column)])
            value = sum_entries(builder, lanes)
            if value.type != place.type.pointee:
                value = builder.fpext(value, place.type.pointee)
            builder.store(builder.fadd(builder.load(place), value), place)
        return context.get_dummy_value()

    return types.void(a, j, b, i, columns, n_lanes, stride, total, places), generate
