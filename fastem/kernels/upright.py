"""Rows as they lie in memory, worked one by one with a component of their own.

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
    spread,
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


def add_moments_of_rows(
    rows, origin, inverse_scale, center, weights, lanes, first, second
):
    """Add the weighted sums over some rows of deviations from a centre, and of squares.

    Rows are those of the lanes listed, ``weights`` those of all lanes.
    """
    n_features = origin.size
    y = to_tile(rows[lanes], origin, inverse_scale) - center[:n_features]
    weighted = weights[lanes, None] * y
    first[:n_features] += weighted.sum(axis=0)
    second[:n_features] += (weighted * y).sum(axis=0)


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
        parameters = start, factors, shifts
        _norms(parameters, rows, (origin, inverse_scale), lanes, components, out, ahead)

    return run


@overload(add_moments_of_rows, jit_options=TILE_OPTIONS)
def _overload_add_moments_of_rows(
    rows, origin, inverse_scale, center, weights, lanes, first, second
):
    def run(rows, origin, inverse_scale, center, weights, lanes, first, second):
        _moments(rows, (origin, inverse_scale), center, weights, lanes, first, second)

    return run


class _Rows:
    """Upright rows, of which vectors of features, or single ones, are had."""

    def __init__(self, builder, rows, frame):
        self.builder, self.rows = builder, rows
        self.origin, self.inverse_scale = frame
        self.number = rows.data.type.pointee
        self.align = 4 if self.number == ir.FloatType() else 8
        self.size = REGISTER_BYTES // self.align
        self.vector = ir.VectorType(self.number, self.size)
        self.n_features = builder.extract_value(rows.shape, 1)
        self.in_vectors = self._down_to(self.size)

    def _down_to(self, block):
        whole = self.builder.sdiv(self.n_features, INDEX(block))
        return self.builder.mul(whole, INDEX(block))

    def place(self, kind, array, index):
        """Return where one or more numbers of an array are."""
        place = self.builder.gep(array.data, [index])
        return self.builder.bitcast(place, kind.as_pointer())

    def load(self, kind, array, index):
        """Return one or more numbers of an array."""
        return self.builder.load(self.place(kind, array, index), align=self.align)

    def frame(self, kind, i):
        """Return the origin and the inverse scale of features from i on."""
        return [self.load(kind, a, i) for a in (self.origin, self.inverse_scale)]

    def deviation(self, kind, b, i, frame):
        """Return features of row b, from i on, in tile coordinates."""
        entry = self.builder.add(self.builder.mul(b, self.n_features), i)
        origin, inverse_scale = frame
        x = self.builder.fsub(self.load(kind, self.rows, entry), origin)
        return self.builder.fmul(x, inverse_scale)


@intrinsic
def _norms(typing_context, parameters, rows, frame, lanes, components, out, ahead):
    """As :func:`set_norms_of_pairs`."""

    def generate(context, builder, signature, arguments):
        parameters, rows, frame, lanes, components, out, ahead = open_arguments(
            context, builder, signature, arguments
        )
        start, factors, shifts = parameters
        x = _Rows(builder, rows, frame)
        width = builder.extract_value(factors.shape, 1)
        n_pairs = builder.extract_value(lanes.shape, 0)
        last = builder.sub(n_pairs, INDEX(1))
        # A vector of each of four rows is two lines, or four.
        n_lines = ABREAST * REGISTER_BYTES // LINE_BYTES
        absent = builder.icmp_signed("==", ahead, INDEX(0))
        line = builder.select(absent, INDEX(0), INDEX(LINE_BYTES))
        own = builder.ptrtoint(rows.data, INDEX)

        def add_four(group, carried):
            pairs = []
            for j in range(ABREAST):
                n = builder.add(builder.mul(group, INDEX(ABREAST)), INDEX(j))
                n = builder.select(builder.icmp_signed("<", n, last), n, last)
                pairs.append([x.load(INDEX, array, n) for array in (lanes, components)])

            def add(kind, i, sums):
                added, frame = [], x.frame(kind, i)
                for (b, k), total in zip(pairs, sums, strict=True):
                    entry = builder.add(builder.mul(k, width), i)
                    factor, shift = (
                        x.load(kind, array, entry) for array in (factors, shifts)
                    )
                    value = x.deviation(kind, b, i, frame)
                    value = builder.fmul(factor, value, flags=CONTRACT)
                    value = builder.fadd(value, shift, flags=CONTRACT)
                    square = builder.fmul(value, value, flags=CONTRACT)
                    added.append(builder.fadd(total, square, flags=CONTRACT))
                return added

            def add_vector(n, carried):
                *sums, address = carried
                for _ in range(n_lines):
                    prefetch_line(builder, address)
                    address = builder.add(address, line)
                return *add(x.vector, builder.mul(n, INDEX(x.size)), sums), address

            nothing = ir.Constant(x.vector, [0.0] * x.size)
            n_vectors = builder.sdiv(x.n_features, INDEX(x.size))
            *sums, address = loop(
                builder, INDEX(0), n_vectors, [nothing] * ABREAST + carried, add_vector
            )
            sums = [_sum_of_entries(builder, total) for total in sums]
            sums = loop(
                builder,
                x.in_vectors,
                x.n_features,
                sums,
                lambda i, sums: add(x.number, i, sums),
            )
            for (b, k), total in zip(pairs, sums, strict=True):
                value = builder.fsub(x.load(x.number, start, k), total)
                entry = builder.add(builder.mul(k, INDEX(STRIDE)), b)
                builder.store(value, x.place(x.number, out, entry), align=x.align)
            return [address]

        rounded_up = builder.add(n_pairs, INDEX(ABREAST - 1))
        n_groups = builder.sdiv(rounded_up, INDEX(ABREAST))
        address = builder.select(absent, own, ahead)
        loop(builder, INDEX(0), n_groups, [address], add_four)
        return context.get_dummy_value()

    arguments = parameters, rows, frame, lanes, components, out, ahead
    return types.void(*arguments), generate


@intrinsic
def _moments(typing_context, rows, frame, center, weights, lanes, first, second):
    """As :func:`add_moments_of_rows`: features outside, so that sums are registers."""

    def generate(context, builder, signature, arguments):
        rows, frame, center, weights, lanes, first, second = open_arguments(
            context, builder, signature, arguments
        )
        x = _Rows(builder, rows, frame)
        n_rows = builder.extract_value(lanes.shape, 0)

        def add_block(kind, n_abreast, i):
            columns = [
                builder.add(i, INDEX(j * getattr(kind, "count", 1)))
                for j in range(n_abreast)
            ]
            frames = [x.frame(kind, column) for column in columns]
            middles = [x.load(kind, center, column) for column in columns]

            def add(n, sums):
                b = x.load(INDEX, lanes, n)
                weight = x.load(x.number, weights, b)
                if kind != x.number:
                    weight = spread(builder, kind, weight)
                added = []
                for j, column in enumerate(columns):
                    y = x.deviation(kind, b, column, frames[j])
                    y = builder.fsub(y, middles[j])
                    weighted = builder.fmul(weight, y)
                    square = builder.fmul(weighted, y, flags=CONTRACT)
                    added.append(builder.fadd(sums[2 * j], weighted))
                    added.append(builder.fadd(sums[2 * j + 1], square, flags=CONTRACT))
                return added

            nothing = [_zero(kind)] * (2 * n_abreast)
            sums = loop(builder, INDEX(0), n_rows, nothing, add)
            for n, total in enumerate(sums):
                _add_to(builder, (first, second)[n % 2], columns[n // 2], total)

        def sweep(kind, n_abreast, begin, end):
            step = n_abreast * getattr(kind, "count", 1)

            def block(n, carried):
                add_block(
                    kind, n_abreast, builder.add(begin, builder.mul(n, INDEX(step)))
                )
                return []

            n_blocks = builder.sdiv(builder.sub(end, begin), INDEX(step))
            loop(builder, INDEX(0), n_blocks, [], block)

        in_pairs = x._down_to(2 * x.size)
        sweep(x.vector, 2, INDEX(0), in_pairs)
        sweep(x.vector, 1, in_pairs, x.in_vectors)
        sweep(x.number, 1, x.in_vectors, x.n_features)
        return context.get_dummy_value()

    arguments = rows, frame, center, weights, lanes, first, second
    return types.void(*arguments), generate


def _zero(kind):
    return ir.Constant(kind, [0.0] * kind.count if hasattr(kind, "count") else 0.0)


def _add_to(builder, sums, i, total):
    """Add numbers to those of an array of float64, from i on."""
    double = ir.DoubleType()
    kind = (
        ir.VectorType(double, total.type.count)
        if hasattr(total.type, "count")
        else double
    )
    if total.type != kind:
        total = builder.fpext(total, kind)
    place = builder.bitcast(builder.gep(sums.data, [i]), kind.as_pointer())
    builder.store(builder.fadd(builder.load(place, align=8), total), place, align=8)


def _sum_of_entries(builder, vector):
    """Return the sum of a vector's entries, halves added to halves."""
    size = vector.type.count
    while size > 1:
        size //= 2
        halves = (
            builder.shuffle_vector(
                vector,
                vector,
                ir.Constant(
                    ir.VectorType(ir.IntType(32), size), [*range(at, at + size)]
                ),
            )
            for at in (0, size)
        )
        vector = builder.fadd(*halves)
    return builder.extract_element(vector, ir.IntType(32)(0))
