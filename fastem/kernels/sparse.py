"""Accumulation that works only where responsibilities are not negligible.

Where most lanes of a tile count for a component, the whole tile goes at once; elsewhere
the lanes that count are listed and worked alone. Outer products are worth a vectorised
pass only in blocks, so for these lanes are gathered from tile to tile until ``PENDING``
of them wait, as ``sqrt(r) * (x - c)``, whose products are the second moments.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function

from fastem.compile import tile_function
from fastem.kernels.lanes import INDEX, loop, multiply_add, open_arguments, spread
from fastem.kernels.outer import LANE_BLOCK, add_lower_outer
from fastem.kernels.tiles import LANES, STRIDE, lane_sum
from fastem.lowering import lowers

# Lanes are gathered so many at a time.
VECTOR = 4

# Whole vectors of them.
PENDING = 64
PENDING_STRIDE = PENDING + 8
# With more lanes than this the whole tile is less work than gathering (measured at
# D = 8 to 32, float64).
GATHER_MAX_LANES = LANES // 2
# With fewer features a square root a lane costs more than to store deviations twice,
# weighted and plain (measured at D = 2, K = 8: 4.7 against 2.9 ns a row).
ROOT_MIN_FEATURES = 8


@tile_function
def list_positive(values, lanes):
    """List the lanes above zero and return their number."""
    return list_above(values, 0, lanes)


@tile_function
def list_above(values, floor, lanes):
    """List the lanes above a floor, or a floor for each, and return their number."""
    count = 0
    for begin in range(0, LANES, 64):
        bits = _bits_above(values, floor, begin)
        while bits != 0:
            lanes[count] = begin + _lowest_bit(bits)
            count += 1
            bits &= bits - 1
    return count


def _bits_above(values, floor, begin):
    """Return which of 64 lanes are above the floor as the bits of an integer."""
    floor = np.broadcast_to(floor, LANES)
    bits = 0
    for b in range(begin, begin + 64):
        bits |= int(values[b] > floor[b]) << (b - begin)
    return bits


def _lowest_bit(bits):
    """Return the place of the lowest bit that is set."""
    return (bits & -bits).bit_length() - 1


@lowers(_bits_above)
def _lower_bits_above(typing_context, values, floor, begin):
    def generate(context, builder, signature, arguments):
        values, floor, begin = open_arguments(context, builder, signature, arguments)
        vector = ir.VectorType(values.data.type.pointee, 64)
        align = signature.args[0].dtype.bitwidth // 8

        def load(array):
            place = builder.gep(array.data, [begin])
            return builder.load(
                builder.bitcast(place, vector.as_pointer()), align=align
            )

        kind, number = signature.args[1], signature.args[0].dtype
        if isinstance(kind, types.Array):
            least = load(floor)
        else:
            one = context.cast(builder, floor, kind, number)
            least = spread(builder, vector, one)
        above = builder.fcmp_ordered(">", load(values), least)
        return builder.bitcast(above, ir.IntType(64))

    return types.int64(values, floor, types.int64), generate


@lowers(_lowest_bit)
def _lower_lowest_bit(typing_context, bits):
    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate


@tile_function
def accumulate_components(
    add_tile,
    add_lanes,
    min_features,
    centers,
    responsibilities,
    scratch,
    slots,
    slot,
):
    """Add the weight and the first and second moments about each centre to a slot.

    ``add_tile(center, r, scratch, first, second)`` adds those of a whole tile,
    ``add_lanes(center, r, lanes, count, scratch, k, first, second)`` those of the first
    ``count`` of a list of lanes. With fewer than ``min_features`` the whole tile always
    goes. Families that pool have one second moment for all components.
    """
    n_components, n_features = centers.shape
    n_pools = slots.second.shape[1]
    for k in range(n_components):
        r = responsibilities[k * STRIDE : k * STRIDE + LANES]
        if n_features >= min_features:
            weight, count = _sum_and_count(r)
        else:
            weight, count = lane_sum(r, LANES), LANES
        if weight == 0:
            continue
        slots.weight[slot, k] += weight
        pool = min(k, n_pools - 1)
        first, second = slots.first[slot, k], slots.second[slot, pool]
        if count > GATHER_MAX_LANES:
            add_tile(centers[k], r, scratch, first, second)
        else:
            lanes = scratch.lanes
            list_positive(r, lanes)
            add_lanes(centers[k], r, lanes, count, scratch, pool, first, second)


@tile_function
def accumulate_tiles(add_tile, centers, responsibilities, scratch, slots, slot):
    """As :func:`accumulate_components`, of whole tiles always, without pools."""
    for k in range(centers.shape[0]):
        r = responsibilities[k * STRIDE : k * STRIDE + LANES]
        weight = lane_sum(r, LANES)
        if weight != 0:
            slots.weight[slot, k] += weight
            first, second = slots.first[slot, k], slots.second[slot, k]
            add_tile(centers[k], r, scratch, first, second)


@tile_function
def _sum_and_count(values):
    """Return the sum of all lanes and how many are above zero."""
    total, count = values.dtype.type(0), 0
    for b in range(LANES):
        total += values[b]
        count += values[b] > 0
    return total, count


@tile_function
def add_outer_of_tile(center, r, scratch, first, second):
    """Add a whole tile's deviations and their outer products."""
    if center.size >= ROOT_MIN_FEATURES:
        add_root_outer_of_tile(center, r, scratch, first, second)
        return
    _weigh_one_factor(center, r, scratch, first)
    weighted, plain = scratch.deviations, scratch.spare
    add_lower_outer(weighted, plain, center.size, LANES, STRIDE, second)


@tile_function
def add_root_outer_of_tile(center, r, scratch, first, second):
    """As :func:`add_outer_of_tile`, by deviations times roots of weights."""
    _weigh_both_factors(center, r, scratch, first)
    both = scratch.deviations
    add_lower_outer(both, both, center.size, LANES, STRIDE, second)


@tile_function
def _weigh_one_factor(center, r, scratch, first):
    for i in range(center.size):
        c = center[i]
        x = scratch.tile[i * STRIDE : i * STRIDE + LANES]
        deviation = scratch.spare[i * STRIDE : i * STRIDE + LANES]
        weighted = scratch.deviations[i * STRIDE : i * STRIDE + LANES]
        total = r.dtype.type(0)
        for b in range(LANES):
            y = x[b] - c
            deviation[b] = y
            y *= r[b]
            weighted[b] = y
            total += y
        first[i] += total


@tile_function
def _weigh_both_factors(center, r, scratch, first):
    roots = scratch.roots
    for b in range(LANES):
        roots[b] = np.sqrt(r[b])
    for i in range(center.size):
        c = center[i]
        x = scratch.tile[i * STRIDE : i * STRIDE + LANES]
        weighted = scratch.deviations[i * STRIDE : i * STRIDE + LANES]
        total = r.dtype.type(0)
        for b in range(LANES):
            y = roots[b] * (x[b] - c)
            weighted[b] = y
            total += roots[b] * y
        first[i] += total


@tile_function
def add_outer_of_lanes(center, r, lanes, count, scratch, pool, first, second):
    """Add listed lanes' deviations; their outer products as soon as a block is full.

    The list is filled up to whole vectors with lanes that weigh nothing.
    """
    roots = scratch.roots
    n_lanes = (count + VECTOR - 1) // VECTOR * VECTOR
    for n in range(count, n_lanes):
        lanes[n] = lanes[0]
    gather_roots(r, lanes[:n_lanes], roots)
    for n in range(count, n_lanes):
        roots[n] = 0
    done = 0
    while done < n_lanes:
        held = scratch.held[pool]
        end = min(n_lanes, done + PENDING - held)
        for i in range(center.size):
            x = scratch.tile[i * STRIDE : i * STRIDE + LANES]
            first[i] += gather_deviations(
                x,
                center[i],
                lanes[done:end],
                roots[done:end],
                scratch.pending[pool, i * PENDING_STRIDE + held :],
            )
        held += end - done
        done = end
        if held == PENDING:
            block = scratch.pending[pool]
            add_lower_outer(block, block, center.size, PENDING, PENDING_STRIDE, second)
            held = 0
        scratch.held[pool] = held


@tile_function
def flush_outer(scratch, slots, slot):
    """Add the outer products of the lanes that still wait."""
    size = scratch.pending.shape[1] // PENDING_STRIDE
    for pool in range(scratch.held.size):
        held, block = scratch.held[pool], scratch.pending[pool]
        for i in range(size):
            for n in range(held, (held + LANE_BLOCK - 1) // LANE_BLOCK * LANE_BLOCK):
                block[i * PENDING_STRIDE + n] = 0
        second = slots.second[slot, pool]
        add_lower_outer(block, block, size, held, PENDING_STRIDE, second)
        scratch.held[pool] = 0


def gather_roots(values, lanes, out):
    """Set ``out`` to ``sqrt(values[lanes])``; lanes come in whole vectors."""
    out[: lanes.size] = np.sqrt(values[lanes])


def gather_deviations(x, center, lanes, roots, out):
    """Set ``out`` to ``roots * (x[lanes] - center)``; return the sum of roots times it.

    Lanes come in whole vectors.
    """
    out[: lanes.size] = roots * (x[lanes] - center)
    return (roots * out[: lanes.size]).sum()


class _Gathered:
    """Vectors of the lanes of an array that a list names, one vector after another."""

    def __init__(self, builder, array, lanes):
        self.builder, self.array, self.lanes = builder, array, lanes
        self.vector = ir.VectorType(array.data.type.pointee, VECTOR)
        self.align = 4 if self.vector.element == ir.FloatType() else 8

    def fill(self, value):
        """Return a vector of one number."""
        return self._pack([value] * VECTOR)

    def _pack(self, values):
        packed = ir.Constant(self.vector, ir.Undefined)
        for j, value in enumerate(values):
            packed = self.builder.insert_element(packed, value, ir.IntType(32)(j))
        return packed

    def gather(self, n):
        """Return the n-th vector of lanes."""
        builder, values = self.builder, []
        first = builder.mul(n, INDEX(VECTOR))
        for j in range(VECTOR):
            place = builder.gep(self.lanes.data, [builder.add(first, INDEX(j))])
            entry = builder.gep(self.array.data, [builder.load(place)])
            values.append(builder.load(entry, align=self.align))
        return self._pack(values)

    def address(self, array, n):
        """Return where the n-th vector of an array is."""
        place = self.builder.gep(array.data, [self.builder.mul(n, INDEX(VECTOR))])
        return self.builder.bitcast(place, self.vector.as_pointer())

    def visit(self, carried, step):
        """Return what ``carried = step(n, carried)`` comes to over all vectors."""
        size = self.builder.extract_value(self.lanes.shape, 0)
        n_vectors = self.builder.sdiv(size, INDEX(VECTOR))
        return loop(self.builder, INDEX(0), n_vectors, carried, step)


@lowers(gather_roots)
def _lower_gather_roots(typing_context, values, lanes, out):
    def generate(context, builder, signature, arguments):
        values, lanes, out = open_arguments(context, builder, signature, arguments)
        gathered = _Gathered(builder, values, lanes)
        vector = gathered.vector
        root = get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector]),
            f"llvm.sqrt.v{VECTOR}f{8 * gathered.align}",
        )

        def step(n, carried):
            result = builder.call(root, [gathered.gather(n)])
            builder.store(result, gathered.address(out, n), align=gathered.align)
            return []

        gathered.visit([], step)
        return context.get_dummy_value()

    return types.void(values, lanes, out), generate


@lowers(gather_deviations)
def _lower_gather_deviations(typing_context, x, center, lanes, roots, out):
    """As :func:`gather_deviations`.

    Left to itself LLVM gathers, stores and sums lane by lane (measured on Zen 3 at
    D = 8, 16 lanes of 256: 222 against 160 ns a component and tile).
    """

    def generate(context, builder, signature, arguments):
        x, center, lanes, roots, out = open_arguments(
            context, builder, signature, arguments
        )
        gathered = _Gathered(builder, x, lanes)
        middle, align = gathered.fill(center), gathered.align

        def step(n, carried):
            root = builder.load(gathered.address(roots, n), align=align)
            deviation = builder.fmul(root, builder.fsub(gathered.gather(n), middle))
            builder.store(deviation, gathered.address(out, n), align=align)
            return [multiply_add(builder, carried[0], root, deviation)]

        nothing = ir.Constant(gathered.vector, [0.0] * VECTOR)
        (sums,) = gathered.visit([nothing], step)
        total = builder.extract_element(sums, ir.IntType(32)(0))
        for j in range(1, VECTOR):
            lane = builder.extract_element(sums, ir.IntType(32)(j))
            total = builder.fadd(total, lane)
        return total

    return x.dtype(x, x.dtype, lanes, roots, out), generate
