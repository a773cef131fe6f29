"""Rows as they lie in memory, each with a component of its own.

Where few of a tile's rows have to do with a component, turning them on their side would
cost more than what is then done with them.
"""

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from fastem.compile import SUBROUTINE_OPTIONS, tile_function, tile_subroutine
from fastem.kernels.entries import (
    ABREAST,
    Entries,
    clamped,
    count_groups,
    load_index,
    zero,
)
from fastem.kernels.lanes import (
    CONTRACT,
    INDEX,
    REGISTER_BYTES,
    loop,
    multiply_add,
    open_arguments,
    sum_entries,
)
from fastem.kernels.tiles import (
    LANES,
    STRIDE,
    address_of_rows,
    at_address,
    load_rows,
    load_tile,
    prefetch_line,
    to_tile,
)
from fastem.lowering import lowers

LINE_BYTES = 64


@tile_function
def note_place(X, start, stop, tile_params, scratch):
    """Note where a whole tile of contiguous rows lies, or zero for other rows.

    With it goes what takes them to tile coordinates, and where the next tile lies.
    """
    origin, inverse_scale = tile_params.origin, tile_params.inverse_scale
    scratch.bounds.ahead[0] = address_of_rows(X, stop)
    as_they_are = stop - start == LANES and X.itemsize == scratch.copy.itemsize
    scratch.place[0] = address_of_rows(X, start) if as_they_are else 0
    for i in range(origin.size):
        scratch.origin[i], scratch.inverse_scale[i] = origin[i], inverse_scale[i]


@tile_function
def copy_upright(X, start, stop, tile_params, scratch):
    """Copy rows of which no place was noted, in tile coordinates."""
    origin, inverse_scale = tile_params.origin, tile_params.inverse_scale
    load_rows(X, start, stop, origin, inverse_scale, scratch.copy)
    for i in range(origin.size):
        scratch.origin[i], scratch.inverse_scale[i] = 0, 1


@tile_function
def note_rows(X, start, stop, tile_params, scratch):
    """Note where a tile of rows lies; copy rows of which no place is noted.

    They stay upright until :func:`turn` is asked for them.
    """
    note_place(X, start, stop, tile_params, scratch)
    scratch.turned[0] = False
    if scratch.place[0] == 0:
        copy_upright(X, start, stop, tile_params, scratch)


@tile_subroutine
def turn(scratch):
    """See that the tile holds the rows."""
    if not scratch.turned[0]:
        turn_leading(scratch.origin.size, scratch, scratch.tile)
        scratch.turned[0] = True


@tile_subroutine
def turn_leading(n, scratch, tile):
    """Load a tile with the first n features of the rows."""
    origin, inverse_scale = scratch.origin[:n], scratch.inverse_scale[:n]
    rows = at_address(scratch.place[0], scratch.copy)
    load_tile(rows, 0, LANES, origin, inverse_scale, tile)


def set_norms_of_pairs(
    start, factors, shifts, rows, origin, inverse_scale, lanes, components, out, ahead
):
    """Set log densities of pairs of a row and a component.

    For row b and component k that is ``start[k] - |factors[k] * x + shifts[k]|**2``,
    at ``out[k * STRIDE + b]``, where x is row b in tile coordinates. Meanwhile memory
    is asked, and not waited for, for as much as the rows of all pairs at ``ahead``, an
    address or zero.
    """
    n_features = origin.size
    for b, k in zip(lanes, components, strict=True):
        x = to_tile(rows[b], origin, inverse_scale)
        z = factors[k, :n_features] * x + shifts[k, :n_features]
        out[k * STRIDE + b] = start[k] - np.sum(z * z)


def add_moments_of_rows(
    rows, origin, inverse_scale, center, weights, lanes, first, second
):
    """Add weighted moments of some rows about a centre, in tile coordinates."""
    n_features = origin.size
    y = to_tile(rows[lanes], origin, inverse_scale) - center[:n_features]
    w = weights[lanes, None] * y
    first[:n_features] += w.sum(axis=0)
    second[:n_features] += (w * y).sum(axis=0)


@overload(set_norms_of_pairs, jit_options=SUBROUTINE_OPTIONS)
def _overload_set_norms_of_pairs(
    start, factors, shifts, rows, origin, inverse_scale, lanes, components, out, ahead
):
    def run(
        start,
        factors,
        shifts,
        rows,
        origin,
        inverse_scale,
        lanes,
        components,
        out,
        ahead,
    ):
        parameters = start, factors, shifts
        _norms(parameters, rows, (origin, inverse_scale), lanes, components, out, ahead)

    return run


@intrinsic
def _norms(typing_context, parameters, rows, frame, lanes, components, out, ahead):
    """As :func:`set_norms_of_pairs`.

    Written as a loop over two pairs abreast, labels took a quarter longer (measured on
    Zen 3 at D = 64, K = 64).
    """

    def generate(context, builder, signature, arguments):
        parameters, rows, frame, lanes, components, out, ahead = open_arguments(
            context, builder, signature, arguments
        )
        start, factors, shifts = parameters
        entries = Entries(builder, rows)
        vector, single = entries.vector, entries.single
        n_features = builder.extract_value(rows.shape, 1)
        n_vectors = builder.sdiv(n_features, INDEX(vector.count))
        in_vectors = builder.mul(n_vectors, INDEX(vector.count))
        width = builder.extract_value(factors.shape, 1)
        n_pairs = builder.extract_value(lanes.shape, 0)
        last = builder.sub(n_pairs, INDEX(1))
        # A vector of each of four rows is two lines of memory, or four.
        n_lines = ABREAST * REGISTER_BYTES // LINE_BYTES
        absent = builder.icmp_signed("==", ahead, INDEX(0))
        line = builder.select(absent, INDEX(0), INDEX(LINE_BYTES))
        address = builder.select(absent, builder.ptrtoint(rows.data, INDEX), ahead)

        def add(kind, i, pairs, sums):
            here = [entries.load(kind, array, i) for array in frame]
            added = []
            for (b, k), total in zip(pairs, sums, strict=True):
                entry = builder.add(builder.mul(b, n_features), i)
                x = entries.in_tile_coordinates(kind, rows, entry, here)
                entry = builder.add(builder.mul(k, width), i)
                factor = entries.load(kind, factors, entry)
                shift = entries.load(kind, shifts, entry)
                z = multiply_add(builder, shift, factor, x)
                added.append(multiply_add(builder, total, z, z))
            return added

        def add_four(group, carried):
            pairs = []
            for r in range(ABREAST):
                n = clamped(builder, group, r, last)
                pairs.append([load_index(builder, a, n) for a in (lanes, components)])

            def add_vector(n, carried):
                *sums, address = carried
                for _ in range(n_lines):
                    prefetch_line(builder, address)
                    address = builder.add(address, line)
                i = builder.mul(n, INDEX(vector.count))
                return *add(vector, i, pairs, sums), address

            def add_single(i, sums):
                return add(single, i, pairs, sums)

            nothing = [zero(single)] * ABREAST
            rest = loop(builder, in_vectors, n_features, nothing, add_single)
            carried = [zero(vector)] * ABREAST + carried
            *sums, address = loop(builder, INDEX(0), n_vectors, carried, add_vector)
            for (b, k), *parts in zip(pairs, sums, rest, strict=True):
                total = builder.fadd(*(sum_entries(builder, part) for part in parts))
                value = entries.load(entries.number, start, k)
                entry = builder.add(builder.mul(k, INDEX(STRIDE)), b)
                entries.store(builder.fsub(value, total), out, entry)
            return [address]

        loop(builder, INDEX(0), count_groups(builder, n_pairs), [address], add_four)
        return context.get_dummy_value()

    arguments = parameters, rows, frame, lanes, components, out, ahead
    return types.void(*arguments), generate


@lowers(add_moments_of_rows)
def _lower_add_moments_of_rows(
    typing_context, rows, origin, inverse_scale, center, weights, lanes, first, second
):
    """As it says, with the sums of some features in registers while rows pass by."""

    def generate(context, builder, signature, arguments):
        rows, origin, inverse_scale, center, weights, lanes, *moments = open_arguments(
            context, builder, signature, arguments
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
                y = builder.fsub(x, middle)
                w = builder.fmul(entries.fill(kind, weights, b), y)
                first, second = sums
                first = builder.fadd(first, w, flags=CONTRACT)
                return [first, multiply_add(builder, second, w, y)]

            sums = loop(builder, INDEX(0), n_lanes, [zero(kind)] * 2, add_row)
            for total, array in zip(sums, moments, strict=True):
                entries.add_to(array, i, total)

        entries.visit(n_features, add_features)
        return context.get_dummy_value()

    return types.void(
        rows, origin, inverse_scale, center, weights, lanes, first, second
    ), generate
