"""Rows as they lie in memory, each with a component of its own.

Where few of a tile's rows have to do with a component, turning them on their side would
cost more than what is then done with them.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastem.compile import SUBROUTINE_OPTIONS
from fastem.kernels.lanes import CONTRACT, INDEX, REGISTER_BYTES, loop, open_arguments
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
                total = builder.fadd(*(_add_up(builder, part) for part in parts))
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


def _add_up(builder, vector):
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
