"""Accumulation that works only where responsibilities are not negligible.

Where most lanes of a tile count for a component, the whole tile goes at once; elsewhere
the lanes that count are listed and worked alone. Outer products are worth a vectorised
pass only in blocks, so for these lanes are gathered from tile to tile until ``PENDING``
of them wait, as ``sqrt(r) * (x - c)``, whose products are the second moments.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastem.compile import tile_function
from fastem.kernels.products import add_lower_outer
from fastem.kernels.tiles import LANES, STRIDE, lane_sum

PENDING = 64
PENDING_STRIDE = PENDING + 8
# With more lanes than this the whole tile is less work than gathering.
GATHER_MAX_LANES = LANES // 2
# With fewer features a square root a lane costs more than to store deviations twice,
# weighted and plain (measured at D = 2, K = 8: 4.7 against 2.9 ns a row).
ROOT_MIN_FEATURES = 8


@tile_function
def list_positive(values, lanes):
    """List the lanes above zero and return their number."""
    count = 0
    for begin in range(0, LANES, 64):
        bits = _positive_bits(values, begin)
        while bits != 0:
            lanes[count] = begin + _lowest_bit(bits)
            count += 1
            bits &= bits - 1
    return count


def _positive_bits(values, begin):
    """Return which of 64 lanes are above zero as the bits of an integer."""
    bits = 0
    for b in range(64):
        bits |= int(values[begin + b] > 0) << b
    return bits


def _lowest_bit(bits):
    """Return the place of the lowest bit that is set."""
    return (bits & -bits).bit_length() - 1


@overload(_positive_bits)
def _positive_bits_of_array(values, begin):
    return lambda values, begin: _compare_with_zero(values, begin)


@overload(_lowest_bit)
def _lowest_bit_of_word(bits):
    return lambda bits: _count_trailing_zeros(bits)


@intrinsic
def _compare_with_zero(typing_context, values, begin):
    def generate(context, builder, signature, arguments):
        data = context.make_array(values)(context, builder, arguments[0]).data
        vector = ir.VectorType(data.type.pointee, 64)
        address = builder.bitcast(
            builder.gep(data, [arguments[1]]), vector.as_pointer()
        )
        x = builder.load(address, align=values.dtype.bitwidth // 8)
        positive = builder.fcmp_ordered(">", x, ir.Constant(vector, None))
        return builder.bitcast(positive, ir.IntType(64))

    return types.int64(values, types.int64), generate


@intrinsic
def _count_trailing_zeros(typing_context, bits):
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
    ``add_lanes(center, r, lanes, scratch, k, first, second)`` those of some lanes. With
    fewer than ``min_features`` the whole tile always goes. Families that pool have one
    second moment for all components.
    """
    n_components, n_features = centers.shape
    n_pools = slots.second.shape[1]
    for k in range(n_components):
        r = responsibilities[k * STRIDE : k * STRIDE + LANES]
        weight = lane_sum(r, LANES)
        if weight == 0:
            continue
        slots.weight[slot, k] += weight
        pool = min(k, n_pools - 1)
        first, second = slots.first[slot, k], slots.second[slot, pool]
        if n_features < min_features:
            add_tile(centers[k], r, scratch, first, second)
            continue
        lanes = scratch.lanes
        count = list_positive(r, lanes)
        if count > GATHER_MAX_LANES:
            add_tile(centers[k], r, scratch, first, second)
        else:
            add_lanes(centers[k], r, lanes[:count], scratch, pool, first, second)


@tile_function
def add_outer_of_tile(center, r, scratch, first, second):
    """Add a whole tile's deviations and their outer products."""
    if center.size < ROOT_MIN_FEATURES:
        plain = scratch.spare.reshape(center.size, STRIDE)
        _weigh_one_factor(center, r, scratch, plain, first)
    else:
        plain = scratch.deviations
        _weigh_both_factors(center, r, scratch, first)
    add_lower_outer(scratch.deviations, plain, center.size, LANES, second)


@tile_function
def _weigh_one_factor(center, r, scratch, plain, first):
    for i in range(center.size):
        c = center[i]
        x = scratch.tile[i * STRIDE : i * STRIDE + LANES]
        total = r.dtype.type(0)
        for b in range(LANES):
            y = x[b] - c
            plain[i, b] = y
            y *= r[b]
            scratch.deviations[i, b] = y
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
        total = r.dtype.type(0)
        for b in range(LANES):
            y = roots[b] * (x[b] - c)
            scratch.deviations[i, b] = y
            total += roots[b] * y
        first[i] += total


@tile_function
def add_outer_of_lanes(center, r, lanes, scratch, pool, first, second):
    """Add some lanes' deviations; their outer products as soon as a block is full."""
    roots = scratch.roots
    for n in range(lanes.size):
        roots[n] = np.sqrt(r[lanes[n]])
    done = 0
    while done < lanes.size:
        held = scratch.held[pool]
        taken = min(lanes.size - done, PENDING - held)
        _gather(
            scratch.tile,
            center,
            lanes[done : done + taken],
            roots[done : done + taken],
            scratch.pending[pool, :, held:],
            first,
        )
        done += taken
        scratch.held[pool] = held + taken
        if held + taken == PENDING:
            block = scratch.pending[pool]
            add_lower_outer(block, block, center.size, PENDING, second)
            scratch.held[pool] = 0


@tile_function
def flush_outer(scratch, slots, slot):
    """Add the outer products of the lanes that still wait."""
    for pool in range(scratch.held.size):
        held = scratch.held[pool]
        block = scratch.pending[pool]
        add_lower_outer(block, block, block.shape[0], held, slots.second[slot, pool])
        scratch.held[pool] = 0


@tile_function
def _gather(tile, center, lanes, roots, rows, first):
    for i in range(center.size):
        c = center[i]
        x = tile[i * STRIDE : i * STRIDE + LANES]
        total = roots.dtype.type(0)
        for n in range(lanes.size):
            y = roots[n] * (x[lanes[n]] - c)
            rows[i, n] = y
            total += roots[n] * y
        first[i] += total
