"""Rows as they lie in memory, each with a component of its own, four abreast.

Where few of a tile's rows have to do with a component, turning them on their side would
cost more than what is then done with them.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastem.compile import TILE_OPTIONS
from fastem.kernels.lanes import (
    CONTRACT,
    INDEX,
    REGISTER_BYTES,
    loop,
    open_arguments,
)
from fastem.kernels.tiles import STRIDE, prefetch_line, to_tile

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


@overload(set_norms_of_pairs, jit_options=TILE_OPTIONS)
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
        _norms(
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
        )

    return run


@intrinsic
def _norms(
    typing_context,
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
    """As :func:`set_norms_of_pairs`.

    Of two rows abreast written as loops, LLVM's vectors took three times as long
    (measured on Zen 3 at D = 64, float64).
    """

    def generate(context, builder, signature, arguments):
        *arrays, ahead = open_arguments(context, builder, signature, arguments)
        start, factors, shifts, rows, origin, inverse_scale, lanes, components, out = (
            arrays
        )
        n_features = builder.extract_value(rows.shape, 1)
        width = builder.extract_value(factors.shape, 1)
        n_pairs = builder.extract_value(lanes.shape, 0)
        number = rows.data.type.pointee
        align = 4 if number == ir.FloatType() else 8
        size = REGISTER_BYTES // align
        vector = ir.VectorType(number, size)
        in_vectors = builder.sdiv(n_features, INDEX(size))
        absent = builder.icmp_signed("==", ahead, INDEX(0))
        asked = builder.select(absent, INDEX(0), INDEX(LINE_BYTES))
        n_bytes = builder.mul(asked, INDEX(ABREAST * REGISTER_BYTES // LINE_BYTES))

        def load(kind, array, *offsets):
            place = builder.gep(array.data, [sum_of(*offsets)])
            return builder.load(
                builder.bitcast(place, kind.as_pointer()), align=align
            )

        def sum_of(first, *others):
            for other in others:
                first = builder.add(first, other)
            return first

        def step(group, carried):
            (address,) = carried
            first = builder.mul(group, INDEX(ABREAST))
            last = builder.sub(n_pairs, INDEX(1))
            pairs = []
            for j in range(ABREAST):
                n = builder.add(first, INDEX(j))
                n = builder.select(builder.icmp_signed("<", n, last), n, last)
                pairs.append([load(INDEX, array, n) for array in (lanes, components)])
            places = [
                (builder.mul(b, n_features), builder.mul(k, width)) for b, k in pairs
            ]

            def add(kind, column, sums):
                middle = load(kind, origin, column)
                scale = load(kind, inverse_scale, column)
                added = []
                for (row, component), total in zip(places, sums, strict=True):
                    x = load(kind, rows, row, column)
                    x = builder.fmul(builder.fsub(x, middle), scale)
                    factor = load(kind, factors, component, column)
                    shift = load(kind, shifts, component, column)
                    z = builder.fmul(factor, x, flags=CONTRACT)
                    z = builder.fadd(z, shift, flags=CONTRACT)
                    square = builder.fmul(z, z, flags=CONTRACT)
                    added.append(builder.fadd(total, square, flags=CONTRACT))
                return added

            def add_vector(i, carried):
                *sums, address = carried
                # A vector of each of four rows is two lines, or four.
                for n in range(ABREAST * REGISTER_BYTES // LINE_BYTES):
                    line = builder.add(address, builder.mul(asked, INDEX(n)))
                    prefetch_line(builder, line)
                sums = add(vector, builder.mul(i, INDEX(size)), sums)
                return *sums, builder.add(address, n_bytes)

            carried = [ir.Constant(vector, [0.0] * size)] * ABREAST + [address]
            *sums, address = loop(builder, INDEX(0), in_vectors, carried, add_vector)
            sums = [_sum_of_entries(builder, total) for total in sums]
            rest = builder.mul(in_vectors, INDEX(size))
            sums = loop(
                builder, rest, n_features, sums, lambda i, sums: add(number, i, sums)
            )
            for (b, k), total in zip(pairs, sums, strict=True):
                log_norm = load(number, start, k)
                place = sum_of(builder.mul(k, INDEX(STRIDE)), b)
                place = builder.gep(out.data, [place])
                builder.store(builder.fsub(log_norm, total), place, align=align)
            return [address]

        rounded_up = builder.add(n_pairs, INDEX(ABREAST - 1))
        n_groups = builder.sdiv(rounded_up, INDEX(ABREAST))
        own = builder.ptrtoint(rows.data, INDEX)
        first = builder.select(absent, own, ahead)
        loop(builder, INDEX(0), n_groups, [first], step)
        return context.get_dummy_value()

    signature = types.void(
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
    )
    return signature, generate


def _sum_of_entries(builder, vector):
    """Return the sum of a vector's entries, halves added to halves."""
    size = vector.type.count
    while size > 1:
        size //= 2
        halves = (
            builder.shuffle_vector(
                vector,
                vector,
                ir.Constant(ir.VectorType(ir.IntType(32), size), [*range(at, at + size)]),
            )
            for at in (0, size)
        )
        vector = builder.fadd(*halves)
    return builder.extract_element(vector, ir.IntType(32)(0))
