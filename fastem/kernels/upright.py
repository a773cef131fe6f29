"""Rows as they lie in memory, each with a component of its own.

Where few of a tile's rows have to do with a component, turning them on their side would
cost more than what is then done with them.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastem.compile import SUBROUTINE_OPTIONS
from fastem.kernels.lanes import (
    CONTRACT,
    INDEX,
    REGISTER_BYTES,
    loop,
    open_arguments,
    spread,
    sum_entries,
)
from fastem.kernels.tiles import STRIDE, prefetch_line, to_tile
from fastem.lowering import lowers

# Sums of so many rows grow at a time, so that none waits for its last addition.
ABREAST = 4
LINE_BYTES = 64


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
        number = rows.data.type.pointee
        align = 4 if number == ir.FloatType() else 8
        vector, single = (
            ir.VectorType(number, size) for size in (REGISTER_BYTES // align, 1)
        )
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

        def place(kind, array, index):
            place = builder.gep(array.data, [index])
            return builder.bitcast(place, kind.as_pointer())

        def load(kind, array, index):
            return builder.load(place(kind, array, index), align=align)

        def add(kind, i, pairs, sums):
            origin, inverse_scale = (load(kind, array, i) for array in frame)
            added = []
            for (b, k), total in zip(pairs, sums, strict=True):
                entry = builder.add(builder.mul(b, n_features), i)
                x = builder.fsub(load(kind, rows, entry), origin)
                x = builder.fmul(x, inverse_scale)
                entry = builder.add(builder.mul(k, width), i)
                z = builder.fmul(load(kind, factors, entry), x, flags=CONTRACT)
                z = builder.fadd(z, load(kind, shifts, entry), flags=CONTRACT)
                square = builder.fmul(z, z, flags=CONTRACT)
                added.append(builder.fadd(total, square, flags=CONTRACT))
            return added

        def add_four(group, carried):
            pairs = []
            for j in range(ABREAST):
                n = builder.add(builder.mul(group, INDEX(ABREAST)), INDEX(j))
                n = builder.select(builder.icmp_signed("<", n, last), n, last)
                pairs.append([load(INDEX, array, n) for array in (lanes, components)])

            def add_vector(n, carried):
                *sums, address = carried
                for _ in range(n_lines):
                    prefetch_line(builder, address)
                    address = builder.add(address, line)
                i = builder.mul(n, INDEX(vector.count))
                return *add(vector, i, pairs, sums), address

            def add_single(i, sums):
                return add(single, i, pairs, sums)

            nothing = [_zero(single)] * ABREAST
            rest = loop(builder, in_vectors, n_features, nothing, add_single)
            carried = [_zero(vector)] * ABREAST + carried
            *sums, address = loop(builder, INDEX(0), n_vectors, carried, add_vector)
            for (b, k), *parts in zip(pairs, sums, rest, strict=True):
                total = builder.fadd(*(sum_entries(builder, part) for part in parts))
                value = builder.fsub(load(number, start, k), total)
                entry = builder.add(builder.mul(k, INDEX(STRIDE)), b)
                builder.store(value, place(number, out, entry), align=align)
            return [address]

        rounded_up = builder.add(n_pairs, INDEX(ABREAST - 1))
        n_groups = builder.sdiv(rounded_up, INDEX(ABREAST))
        loop(builder, INDEX(0), n_groups, [address], add_four)
        return context.get_dummy_value()

    arguments = parameters, rows, frame, lanes, components, out, ahead
    return types.void(*arguments), generate


def _zero(kind):
    return ir.Constant(kind, [0.0] * kind.count)


@lowers(add_moments_of_rows)
def _lower_add_moments_of_rows(
    typing_context, rows, origin, inverse_scale, center, weights, lanes, first, second
):
    """As it says, with the sums of some features in registers while rows pass by."""

    def generate(context, builder, signature, arguments):
        rows, origin, inverse_scale, center, weights, lanes, *moments = open_arguments(
            context, builder, signature, arguments
        )
        number = rows.data.type.pointee
        align = 4 if number == ir.FloatType() else 8
        n_features = builder.extract_value(rows.shape, 1)
        n_lanes = builder.extract_value(lanes.shape, 0)

        def load(kind, array, index):
            place = builder.gep(array.data, [index])
            place = builder.bitcast(place, kind.as_pointer())
            return builder.load(place, align=align)

        def add_features(kind, i):
            frame = [load(kind, array, i) for array in (origin, inverse_scale, center)]

            def add_row(n, sums):
                b = load(INDEX, lanes, n)
                entry = builder.add(builder.mul(b, n_features), i)
                x = builder.fsub(load(kind, rows, entry), frame[0])
                x = builder.fmul(x, frame[1])
                y = builder.fsub(x, frame[2])
                weight = spread(builder, kind, load(number, weights, b))
                w = builder.fmul(weight, y)
                square = builder.fmul(w, y, flags=CONTRACT)
                return [
                    builder.fadd(total, term, flags=CONTRACT)
                    for total, term in zip(sums, (w, square), strict=True)
                ]

            sums = loop(builder, INDEX(0), n_lanes, [_zero(kind)] * 2, add_row)
            for total, array in zip(sums, moments, strict=True):
                wide = ir.VectorType(array.data.type.pointee, kind.count)
                if wide != kind:
                    total = builder.fpext(total, wide)
                place = builder.gep(array.data, [i])
                place = builder.bitcast(place, wide.as_pointer())
                total = builder.fadd(builder.load(place, align=8), total)
                builder.store(total, place, align=8)

        begin, in_register = INDEX(0), REGISTER_BYTES // align
        for size in (ABREAST * in_register, in_register, 1):
            kind = ir.VectorType(number, size)

            def add_block(n, carried, kind=kind, begin=begin):
                i = builder.add(begin, builder.mul(n, INDEX(kind.count)))
                add_features(kind, i)
                return []

            n_blocks = builder.sdiv(builder.sub(n_features, begin), INDEX(size))
            loop(builder, INDEX(0), n_blocks, [], add_block)
            begin = builder.add(begin, builder.mul(n_blocks, INDEX(size)))
        return context.get_dummy_value()

    return types.void(
        rows, origin, inverse_scale, center, weights, lanes, first, second
    ), generate
