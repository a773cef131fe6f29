"""Rows as they lie in memory, each with a component of its own.

Where few of a tile's rows have to do with a component, turning them on their side would
cost more than what is then done with them.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once
from numba.extending import intrinsic, overload

from fastem.compile import SUBROUTINE_OPTIONS, tile_function, tile_subroutine
from fastem.kernels.lanes import (
    CONTRACT,
    INDEX,
    REGISTER_BYTES,
    loop,
    open_arguments,
    spread,
    sum_entries,
)
from fastem.kernels.tiles import (
    LANES,
    STRIDE,
    address_of_rows,
    load_rows,
    prefetch_line,
    to_tile,
)
from fastem.lowering import lowers

# Sums of so many rows grow at a time, so that none waits for its last addition.
ABREAST = 4
LINE_BYTES = 64


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


@tile_function
def note_place(X, start, stop, origin, inverse_scale, scratch):
    """Note where a whole tile of contiguous rows lies, or zero for other rows.

    With it goes what takes them to tile coordinates.
    """
    as_they_are = stop - start == LANES and X.itemsize == scratch.copy.itemsize
    scratch.place[0] = address_of_rows(X, start) if as_they_are else 0
    for i in range(origin.size):
        scratch.origin[i], scratch.inverse_scale[i] = origin[i], inverse_scale[i]


@tile_function
def copy_upright(X, start, stop, origin, inverse_scale, scratch):
    """Copy rows of which no place was noted, in tile coordinates."""
    load_rows(X, start, stop, origin, inverse_scale, scratch.copy)
    for i in range(origin.size):
        scratch.origin[i], scratch.inverse_scale[i] = 0, 1


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
        first = j * (j + 1) // 2
        places = (first, first + j + 1, first + 2 * j + 3, first + 3 * j + 6)
        for i in range(0, j + 4, step):
            add_products_of_rows(rows, j, i, n_rows, width, total, places)
    if n_whole < size:
        first = n_whole * (n_whole + 1) // 2
        places = (first, first + n_whole + 1)
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
                _add_to(builder, total, array, i)

        _visit_features(builder, n_features, number, add_features)
        return context.get_dummy_value()

    return types.void(
        rows, origin, inverse_scale, center, weights, lanes, first, second
    ), generate


def _visit_features(builder, n_features, number, visit):
    """Call ``visit(kind, i)`` for features from i on, as many as the vector has."""
    begin, in_register = INDEX(0), REGISTER_BYTES * 8 // _bits(number)
    for size in (ABREAST * in_register, in_register, 1):
        kind = ir.VectorType(number, size)

        def visit_block(n, carried, kind=kind, begin=begin):
            visit(kind, builder.add(begin, builder.mul(n, INDEX(kind.count))))
            return []

        n_blocks = builder.sdiv(builder.sub(n_features, begin), INDEX(size))
        loop(builder, INDEX(0), n_blocks, [], visit_block)
        begin = builder.add(begin, builder.mul(n_blocks, INDEX(size)))


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
        number = rows.data.type.pointee
        align = _bits(number) // 8
        n_features = builder.extract_value(rows.shape, 1)
        n_lanes = builder.extract_value(lanes.shape, 0)

        def place(kind, array, index):
            place = builder.gep(array.data, [index])
            return builder.bitcast(place, kind.as_pointer())

        def load(kind, array, index):
            return builder.load(place(kind, array, index), align=align)

        def add_features(kind, i):
            frame = [load(kind, array, i) for array in (origin, inverse_scale, center)]

            def add_row(n, sums):
                b = builder.load(builder.gep(lanes.data, [n]))
                entry = builder.add(builder.mul(b, n_features), i)
                x = builder.fsub(load(kind, rows, entry), frame[0])
                x = builder.fmul(x, frame[1])
                root = spread(builder, kind, load(number, roots, n))
                y = builder.fmul(root, builder.fsub(x, frame[2]))
                entry = builder.add(builder.mul(n, width), i)
                builder.store(y, place(kind, out, entry), align=align)
                product = builder.fmul(root, y, flags=CONTRACT)
                return [builder.fadd(sums[0], product, flags=CONTRACT)]

            (total,) = loop(builder, INDEX(0), n_lanes, [_zero(kind)], add_row)
            _add_to(builder, total, first, i)

        _visit_features(builder, n_features, number, add_features)
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
        number = rows.data.type.pointee
        align = _bits(number) // 8
        vector = ir.VectorType(number, REGISTER_BYTES // align)
        block = 2 * vector.count

        def load(kind, entry):
            place = builder.bitcast(builder.gep(rows.data, [entry]), kind.as_pointer())
            return builder.load(place, align=align)

        def add_row(n, sums):
            begin = builder.mul(n, width)
            right = [
                load(vector, builder.add(builder.add(begin, i), INDEX(c)))
                for c in (0, vector.count)
            ]
            added = []
            for r in range(len(places)):
                entry = builder.add(builder.add(begin, j), INDEX(r))
                left = spread(builder, vector, load(number, entry))
                for factor, value in zip(right, sums[2 * r :][:2], strict=True):
                    product = builder.fmul(left, factor, flags=CONTRACT)
                    added.append(builder.fadd(value, product, flags=CONTRACT))
            return added

        nothing = [_zero(vector)] * 2 * len(places)
        sums = loop(builder, INDEX(0), n_rows, nothing, add_row)
        kept = alloca_once(builder, ir.ArrayType(number, block))
        for r, place in enumerate(places):
            row = builder.add(place, i)
            # Up to the diagonal, which may be within the block.
            n_below = builder.add(builder.sub(j, i), INDEX(r + 1))
            whole = builder.icmp_signed(">=", n_below, INDEX(block))
            with builder.if_else(whole) as (then, otherwise):
                with then:
                    for c, value in enumerate(sums[2 * r :][:2]):
                        column = builder.add(row, INDEX(c * vector.count))
                        _add_to(builder, value, total, column)
                with otherwise:
                    for c, value in enumerate(sums[2 * r :][:2]):
                        index = [INDEX(0), INDEX(c * vector.count)]
                        target = builder.gep(kept, index)
                        target = builder.bitcast(target, vector.as_pointer())
                        builder.store(value, target, align=align)

                    def add_entry(c, carried, row=row):
                        value = builder.load(builder.gep(kept, [INDEX(0), c]))
                        _add_to(builder, value, total, builder.add(row, c))
                        return []

                    loop(builder, INDEX(0), n_below, [], add_entry)
        return context.get_dummy_value()

    return types.void(rows, j, i, n_rows, width, total, places), generate


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
    """As it says, four rows and two vectors of columns at a time.

    Gathered into lanes, sixteen rows at a time, half of which were another's, it took
    three times as long (measured on Zen 3 at D = 128, K = 32).
    """
    kinds = start, upper, shift, rows, origin, inverse_scale, lanes, work, out

    def generate(context, builder, signature, arguments):
        start, upper, shift, rows, origin, inverse_scale, lanes, work, out = (
            open_arguments(context, builder, signature, arguments)
        )
        number = rows.data.type.pointee
        align = 4 if number == ir.FloatType() else 8
        vector, single = (
            ir.VectorType(number, size) for size in (REGISTER_BYTES // align, 1)
        )
        n_features = builder.extract_value(rows.shape, 1)
        width = builder.extract_value(upper.shape, 1)
        n_lanes = builder.extract_value(lanes.shape, 0)
        last = builder.sub(n_lanes, INDEX(1))
        n_vectors = builder.sdiv(n_features, INDEX(vector.count))
        in_vectors = builder.mul(n_vectors, INDEX(vector.count))

        def place(kind, array, index):
            place = builder.gep(array.data, [index])
            return builder.bitcast(place, kind.as_pointer())

        def load(kind, array, index):
            return builder.load(place(kind, array, index), align=align)

        def to_work(kind, i, chosen):
            shift, factor = (load(kind, array, i) for array in (origin, inverse_scale))
            for r, b in enumerate(chosen):
                entry = builder.add(builder.mul(b, n_features), i)
                x = builder.fmul(builder.fsub(load(kind, rows, entry), shift), factor)
                entry = builder.add(builder.mul(width, INDEX(r)), i)
                builder.store(x, place(kind, work, entry), align=align)
            return []

        def add_four(group, _):
            chosen = []
            for r in range(ABREAST):
                n = builder.add(builder.mul(group, INDEX(ABREAST)), INDEX(r))
                n = builder.select(builder.icmp_signed("<", n, last), n, last)
                chosen.append(builder.load(builder.gep(lanes.data, [n])))

            def fetch_vector(n, _):
                return to_work(vector, builder.mul(n, INDEX(vector.count)), chosen)

            loop(builder, INDEX(0), n_vectors, [], fetch_vector)

            def fetch_single(i, _):
                return to_work(single, i, chosen)

            loop(builder, in_vectors, n_features, [], fetch_single)

            def add_columns(block, norms):
                first = builder.mul(block, INDEX(2 * vector.count))
                columns = first, builder.add(first, INDEX(vector.count))
                z = [load(vector, shift, column) for column in columns] * ABREAST

                def add_feature(i, z):
                    row = builder.mul(i, width)
                    factors = [
                        load(vector, upper, builder.add(row, column))
                        for column in columns
                    ]
                    added = []
                    for r in range(ABREAST):
                        entry = builder.add(builder.mul(width, INDEX(r)), i)
                        x = spread(builder, vector, load(number, work, entry))
                        for factor, total in zip(
                            factors, z[2 * r : 2 * r + 2], strict=True
                        ):
                            product = builder.fmul(factor, x, flags=CONTRACT)
                            added.append(builder.fadd(total, product, flags=CONTRACT))
                    return added

                end = builder.add(first, INDEX(2 * vector.count))
                end = builder.select(
                    builder.icmp_signed("<", end, n_features), end, n_features
                )
                z = loop(builder, INDEX(0), end, z, add_feature)
                sums = []
                for r, norm in enumerate(norms):
                    for value in z[2 * r : 2 * r + 2]:
                        square = builder.fmul(value, value, flags=CONTRACT)
                        norm = builder.fadd(norm, square, flags=CONTRACT)
                    sums.append(norm)
                return sums

            n_blocks = builder.add(n_features, INDEX(2 * vector.count - 1))
            n_blocks = builder.sdiv(n_blocks, INDEX(2 * vector.count))
            nothing = [_zero(vector)] * ABREAST
            norms = loop(builder, INDEX(0), n_blocks, nothing, add_columns)
            for b, norm in zip(chosen, norms, strict=True):
                value = builder.fsub(start, sum_entries(builder, norm))
                builder.store(value, place(number, out, b), align=align)
            return []

        rounded_up = builder.add(n_lanes, INDEX(ABREAST - 1))
        n_groups = builder.sdiv(rounded_up, INDEX(ABREAST))
        loop(builder, INDEX(0), n_groups, [], add_four)
        return context.get_dummy_value()

    return types.void(*kinds), generate


def _bits(number):
    return 32 if number == ir.FloatType() else 64


def _add_to(builder, value, array, index):
    """Add a number, or a vector of them, to what an array has from an index on."""
    kind, wide = value.type, array.data.type.pointee
    if isinstance(kind, ir.VectorType):
        wide = ir.VectorType(wide, kind.count)
    if wide != kind:
        value = builder.fpext(value, wide)
    place = builder.bitcast(builder.gep(array.data, [index]), wide.as_pointer())
    total = builder.fadd(builder.load(place, align=8), value)
    builder.store(total, place, align=8)
