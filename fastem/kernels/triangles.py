"""Triangles of a matrix and rows that lie upright: densities and moments of few rows.

Rows of a component are few in a tile; gathered into lanes, half of what is computed
would be of others, and to gather takes longer than to compute. Here vectors run over
the columns of the triangle, four rows at a time.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once

from fastem.compile import tile_subroutine
from fastem.kernels.entries import (
    ABREAST,
    Entries,
    clamped,
    count_groups,
    load_index,
    zero,
)
from fastem.kernels.lanes import (
    INDEX,
    REGISTER_BYTES,
    add_products,
    loop,
    multiply_add,
    open_arguments,
    sum_entries,
)
from fastem.kernels.outer import places_of_four, places_of_two
from fastem.kernels.tiles import to_tile
from fastem.lowering import lowers


def block_entries(array):
    """Return how many columns of a triangle go through registers at a time."""
    return 2 * REGISTER_BYTES // array.dtype.itemsize


@lowers(block_entries)
def _lower_block_entries(typing_context, array):
    n_entries = INDEX(2 * REGISTER_BYTES * 8 // array.dtype.bitwidth)
    return types.int64(array), lambda *_: n_entries


def row_width(n_features, dtype):
    """Return how many entries a row of a triangle takes, an odd number of blocks.

    Rows an even number of lines apart would share few sets of the first cache
    (measured at D = 128: densities of all components took 1.2 times as long).
    """
    block = block_entries(np.empty(0, dtype))
    return (-(-n_features // block) | 1) * block


def subtract_norms_of_rows(
    start, upper, shift, rows, origin, inverse_scale, lanes, work, out
):
    """Set ``out`` of some rows to ``start - |upper.T @ x + shift|**2``.

    There x is the row in tile coordinates. ``upper`` is upper triangular, its columns
    and ``shift`` padded to multiples of ``block_entries``; ``work`` has room
    for ``ABREAST`` rows of it.
    """
    x = to_tile(rows[lanes], origin, inverse_scale)
    z = x @ np.triu(upper)[: origin.size] + shift
    out[lanes] = start - (z**2).sum(axis=1)


def add_deviations_of_rows(
    rows, origin, inverse_scale, center, roots, lanes, first, out, width
):
    """Write ``root * (x - center)`` of some rows, and add root times it to ``first``.

    There x is the row in tile coordinates; what is written takes ``width`` entries.
    """
    n_features = origin.size
    y = to_tile(rows[lanes], origin, inverse_scale) - center[:n_features]
    y *= roots[: lanes.size, None]
    out[: lanes.size * width].reshape(-1, width)[:, :n_features] = y
    first[:n_features] += (roots[: lanes.size, None] * y).sum(axis=0)


@tile_subroutine
def add_lower_outer_of_rows(rows, size, n_rows, width, total):
    """Add sums over rows of ``row[j] * row[i]``, i <= j, to a packed lower triangle.

    It is packed as :func:`~fastem.kernels.outer.add_lower_outer` says. Rows take
    ``width`` entries, a multiple of ``block_entries``; the size is even.
    """
    n_whole = size // 4 * 4
    step = block_entries(rows)
    for j in range(0, n_whole, 4):
        places = places_of_four(j)
        for i in range(0, j + 4, step):
            add_products_of_rows(rows, j, i, n_rows, width, total, places)
    if n_whole < size:
        places = places_of_two(n_whole)
        for i in range(0, size, step):
            add_products_of_rows(rows, n_whole, i, n_rows, width, total, places)


def add_products_of_rows(rows, j, i, n_rows, width, total, places):
    """Add sums over rows of ``row[j + r] * row[i + c]`` to a triangle.

    They go to ``total[places[r] + i + c]``, for columns of a block up to the diagonal.
    """
    table = rows[: n_rows * width].reshape(n_rows, width)
    for r, place in enumerate(places):
        end = min(i + block_entries(rows), j + r + 1)
        total[place + i : place + end] += table[:, j + r] @ table[:, i:end]


@lowers(subtract_norms_of_rows)
def _lower_subtract_norms_of_rows(
    typing_context,
    start,
    upper,
    shift,
    rows,
    origin,
    inverse_scale,
    lanes,
    work,
    out,
):
    """As it says, four rows and two vectors of columns at a time."""
    kinds = start, upper, shift, rows, origin, inverse_scale, lanes, work, out

    def generate(context, builder, signature, arguments):
        start, upper, shift, rows, origin, inverse_scale, lanes, work, out = (
            open_arguments(context, builder, signature, arguments)
        )
        entries = Entries(builder, rows)
        vector = entries.vector
        n_features = builder.extract_value(rows.shape, 1)
        width = builder.extract_value(upper.shape, 1)
        n_lanes = builder.extract_value(lanes.shape, 0)
        last = builder.sub(n_lanes, INDEX(1))

        def in_row(r, i):
            return builder.add(builder.mul(width, INDEX(r)), i)

        def add_four(group, _):
            chosen = [
                load_index(builder, lanes, clamped(builder, group, r, last))
                for r in range(ABREAST)
            ]

            def fetch(kind, i):
                frame = [entries.load(kind, a, i) for a in (origin, inverse_scale)]
                for r, b in enumerate(chosen):
                    entry = builder.add(builder.mul(b, n_features), i)
                    x = entries.in_tile_coordinates(kind, rows, entry, frame)
                    entries.store(x, work, in_row(r, i))

            def add_columns(block, norms):
                first = builder.mul(block, INDEX(2 * vector.count))
                columns = first, builder.add(first, INDEX(vector.count))
                z = [entries.load(vector, shift, column) for column in columns]

                def add_feature(i, z):
                    row = builder.mul(i, width)
                    factors = [
                        entries.load(vector, upper, builder.add(row, column))
                        for column in columns
                    ]
                    xs = [
                        entries.fill(vector, work, in_row(r, i)) for r in range(ABREAST)
                    ]
                    return add_products(builder, z, xs, factors)

                end = builder.add(first, INDEX(2 * vector.count))
                within = builder.icmp_signed("<", end, n_features)
                end = builder.select(within, end, n_features)
                z = loop(builder, INDEX(0), end, z * ABREAST, add_feature)
                sums = []
                for r, norm in enumerate(norms):
                    for value in z[2 * r :][:2]:
                        norm = multiply_add(builder, norm, value, value)
                    sums.append(norm)
                return sums

            entries.visit(n_features, fetch)
            n_blocks = builder.add(n_features, INDEX(2 * vector.count - 1))
            n_blocks = builder.sdiv(n_blocks, INDEX(2 * vector.count))
            nothing = [zero(vector)] * ABREAST
            norms = loop(builder, INDEX(0), n_blocks, nothing, add_columns)
            for b, norm in zip(chosen, norms, strict=True):
                value = builder.fsub(start, sum_entries(builder, norm))
                entries.store(value, out, b)
            return []

        loop(builder, INDEX(0), count_groups(builder, n_lanes), [], add_four)
        return context.get_dummy_value()

    return types.void(*kinds), generate


@lowers(add_deviations_of_rows)
def _lower_add_deviations_of_rows(
    typing_context,
    rows,
    origin,
    inverse_scale,
    center,
    roots,
    lanes,
    first,
    out,
    width,
):
    """As it says, with the sums of some features in registers while rows pass by."""
    kinds = rows, origin, inverse_scale, center, roots, lanes, first, out, width

    def generate(context, builder, signature, arguments):
        rows, origin, inverse_scale, center, roots, lanes, first, out, width = (
            open_arguments(context, builder, signature, arguments)
        )
        entries = Entries(builder, rows)
        n_features = builder.extract_value(rows.shape, 1)
        n_lanes = builder.extract_value(lanes.shape, 0)

        def add_features(kind, i):
            frame = [entries.load(kind, a, i) for a in (origin, inverse_scale)]
            middle = entries.load(kind, center, i)

            def add_row(n, sums):
                b = load_index(builder, lanes, n)
                entry = builder.add(builder.mul(b, n_features), i)
                x = entries.in_tile_coordinates(kind, rows, entry, frame)
                root = entries.fill(kind, roots, n)
                y = builder.fmul(root, builder.fsub(x, middle))
                entries.store(y, out, builder.add(builder.mul(n, width), i))
                return [multiply_add(builder, sums[0], root, y)]

            (total,) = loop(builder, INDEX(0), n_lanes, [zero(kind)], add_row)
            entries.add_to(first, i, total)

        entries.visit(n_features, add_features)
        return context.get_dummy_value()

    return types.void(*kinds), generate


@lowers(add_products_of_rows)
def _lower_add_products_of_rows(
    typing_context, rows, j, i, n_rows, width, total, places
):
    """As it says, with all sums in registers while rows pass by."""

    def generate(context, builder, signature, arguments):
        rows, j, i, n_rows, width, total, places = open_arguments(
            context, builder, signature, arguments
        )
        entries = Entries(builder, rows)
        vector = entries.vector
        starts = INDEX(0), INDEX(vector.count)

        def add_row(n, sums):
            begin = builder.mul(n, width)
            column = builder.add(begin, i)
            right = [
                entries.load(vector, rows, builder.add(column, start))
                for start in starts
            ]
            row = builder.add(begin, j)
            left = [
                entries.fill(vector, rows, builder.add(row, INDEX(r)))
                for r in range(len(places))
            ]
            return add_products(builder, sums, left, right)

        nothing = [zero(vector)] * 2 * len(places)
        sums = loop(builder, INDEX(0), n_rows, nothing, add_row)
        block = ir.ArrayType(entries.number, 2 * vector.count)
        kept = alloca_once(builder, block)
        for r, place in enumerate(places):
            row, values = builder.add(place, i), sums[2 * r :][:2]
            # Up to the diagonal, which may be within the block.
            n_below = builder.add(builder.sub(j, i), INDEX(r + 1))
            whole = builder.icmp_signed(">=", n_below, INDEX(block.count))
            with builder.if_else(whole) as (then, otherwise):
                with then:
                    for start, value in zip(starts, values, strict=True):
                        entries.add_to(total, builder.add(row, start), value)
                with otherwise:
                    for start, value in zip(starts, values, strict=True):
                        target = builder.gep(kept, [INDEX(0), start])
                        target = builder.bitcast(target, vector.as_pointer())
                        builder.store(value, target, align=entries.itemsize)

                    def add_entry(c, carried, row=row):
                        value = builder.load(builder.gep(kept, [INDEX(0), c]))
                        entries.add_to(total, builder.add(row, c), value)
                        return []

                    loop(builder, INDEX(0), n_below, [], add_entry)
        return context.get_dummy_value()

    return types.void(rows, j, i, n_rows, width, total, places), generate
