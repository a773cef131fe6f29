"""Tile functions of k-means: nearest centres, sums of clusters, seeding potentials."""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastem.compile import TILE_OPTIONS, allocating_function, tile_function
from fastem.kernels.lanes import CONTRACT, WIDE, open_arguments, spread
from fastem.kernels.memory import empty, zeros
from fastem.kernels.pruning import REST
from fastem.kernels.registers import block_lanes, set_best_product
from fastem.kernels.sparse import list_positive
from fastem.kernels.tiles import (
    LANES,
    STRIDE,
    as_contiguous,
    load_tile,
    prefetch_rows,
    rows_are_contiguous,
    to_tile,
)

# Up to so many sums, masked passes over the tile beat adding row by row (measured at
# D = 2 to 8: 5 to 8 against 7 to 11 ns a row in all).
MASKED_MAX_SIZE = 32


class Nearest(NamedTuple):
    """Working memory of one part: of each lane, its nearest centre."""

    tile: np.ndarray
    best: np.ndarray
    float32_tile: np.ndarray
    float32_best: np.ndarray
    lead: np.ndarray  # in float32, of the best above the second
    doubt: np.ndarray
    lanes: np.ndarray
    rest: np.ndarray  # (1,): tiles to go before float32 is tried again


@allocating_function
def allocate_nearest(centers):
    """Return the working memory of one part."""
    size, dtype = centers.shape[1] * STRIDE, centers.dtype
    return Nearest(
        zeros(size, dtype),
        empty(LANES, dtype),
        zeros(size, np.float32),
        empty(LANES, np.float32),
        empty(LANES, np.float32),
        empty(LANES, np.float32),
        empty(LANES, np.int64),
        zeros(1, np.int64),
    )


@tile_function
def set_nearest(X, start, stop, tiles, scratch, in_float32):
    """Set each row's first centre of the largest score ``x @ c - |c|**2 / 2``.

    Both sizes of the centres are multiples of four. In float32, at twice the rate, all
    scores are computed, and once more, as they are without, those of rows whose two
    best lie closer than rounding may have moved them: to the same bits. Without, the
    rows are left in the tile. Meanwhile those of the next are on their way from memory.
    """
    in_float32 = in_float32 and scratch.rest[0] == 0
    origin, scale, tile = tiles.origin, tiles.inverse_scale, scratch.tile
    lanes, best, likely = scratch.lanes, scratch.best, scratch.float32_best
    if in_float32:
        narrow = scratch.float32_tile
        load_tile(X, start, stop, origin, scale, narrow)
        centers, half_norms = tiles.float32_centers, tiles.float32_half_norms
        _set_best(X, stop, centers, half_norms, narrow, LANES, likely, scratch.lead)
        count = _list_doubtful(stop - start, tiles.doubt, scratch)
        if 4 * count > LANES:
            scratch.rest[0] = REST
        for n in range(count):
            row = start + lanes[n]
            for i in range(origin.size):
                tile[i * STRIDE + n] = to_tile(X[row, i], origin[i], scale[i])
    else:
        scratch.rest[0] = max(0, scratch.rest[0] - 1)
        count = LANES
        load_tile(X, start, stop, origin, scale, tile)
    _set_best(X, stop, tiles.centers, tiles.half_norms, tile, count, best, None)
    if in_float32:
        for n in range(count):
            likely[lanes[n]] = best[n]
        for b in range(LANES):
            best[b] = likely[b]


@tile_function
def _set_best(X, following, centers, half_norms, tile, count, best, lead):
    step = block_lanes(tile, WIDE)
    for lane in range(0, count, step):
        prefetch_rows(X, following + lane, following + lane + step)
        set_best_product(centers, half_norms, tile, best, lead, lane)


@tile_function
def _list_doubtful(n_rows, factors, scratch):
    """List the lanes that may have another best, or numbers beyond float32."""
    tile, doubt, lanes = scratch.float32_tile, scratch.doubt, scratch.lanes
    lead, zero, one = scratch.lead, np.float32(0), np.float32(1)
    for b in range(LANES):
        doubt[b] = zero
    for i in range(tile.size // STRIDE):
        x = tile[i * STRIDE : i * STRIDE + LANES]
        for b in range(LANES):
            doubt[b] += x[b] * x[b]
    for b in range(LANES):
        clear = lead[b] > factors[0] + factors[1] * np.sqrt(doubt[b])
        doubt[b] = zero if clear else one
    count = list_positive(doubt, lanes)
    while count > 0 and lanes[count - 1] >= n_rows:
        count -= 1
    return count


def add_rows(X, start, stop, tiles, best, tile_weight, sums, weight):
    """Add the tile's rows to the sums of their clusters, in tile coordinates."""
    _add_in_order(X, start, stop, tiles, best, tile_weight, sums, weight)


@overload(add_rows, jit_options=TILE_OPTIONS)
def _add_rows(X, start, stop, tiles, best, tile_weight, sums, weight):
    def add(X, start, stop, tiles, best, tile_weight, sums, weight):
        if rows_are_contiguous(X):
            rows = as_contiguous(X)
            _add_in_fours(rows, start, stop, tiles, best, tile_weight, sums, weight)
        else:
            _add_in_order(X, start, stop, tiles, best, tile_weight, sums, weight)

    return add


@tile_function
def _add_in_fours(X, start, stop, tiles, best, tile_weight, sums, weight):
    """Add contiguous rows, with nothing in the loop that could be outside.

    Of unsigned indices Numba does not ask whether they count from the end.
    """
    origin, scale = tiles.origin, tiles.inverse_scale[0]
    n_features = np.uint64(sums.shape[1])
    whole = np.uint64(sums.shape[1] // 4 * 4)
    entry = np.uint64(start) * n_features
    for b in range(np.uint64(stop - start)):
        k = np.uint64(np.int64(best[b]))
        w = tile_weight[b]
        weight[k] += w
        place = k * n_features
        for i in range(np.uint64(0), whole, np.uint64(4)):
            _add_four(X, entry + i, origin, i, scale, w, sums, place + i)
        for i in range(whole, n_features):
            x = X[np.uint64(start + b), i]
            sums[k, i] += w * to_tile(x, origin[i], scale)
        entry += n_features


@tile_function
def _add_in_order(X, start, stop, tiles, best, tile_weight, sums, weight):
    origin, scale = tiles.origin, tiles.inverse_scale[0]
    rows = X[start:stop]
    for b in range(np.uint64(stop - start)):
        k = np.uint64(np.int64(best[b]))
        w = tile_weight[b]
        weight[k] += w
        for i in range(np.uint64(sums.shape[1])):
            sums[k, i] += w * to_tile(rows[b, i], origin[i], scale)


@intrinsic
def _add_four(typing_context, X, entry, origin, i, scale, weight, sums, place):
    """Add four entries of X from one on, less those of the origin, scaled, weighted."""
    signature = types.void(X, entry, origin, i, scale, weight, sums, place)

    def generate(context, builder, signature, arguments):
        X, entry, origin, i, scale, weight, sums, place = open_arguments(
            context, builder, signature, arguments
        )
        align = signature.args[0].dtype.bitwidth // 8

        def four(array, entry):
            place = builder.gep(array.data, [entry])
            vector = ir.VectorType(place.type.pointee, 4)
            return builder.bitcast(place, vector.as_pointer())

        x = builder.load(four(X, entry), align=align)
        x = builder.fsub(x, builder.load(four(origin, i), align=align))
        for factor in (scale, weight):
            x = builder.fmul(x, spread(builder, x.type, factor), flags=CONTRACT)
        place = four(sums, place)
        if x.type != place.type.pointee:
            x = builder.fpext(x, place.type.pointee)
        total = builder.fadd(builder.load(place, align=8), x, flags=CONTRACT)
        builder.store(total, place, align=8)
        return context.get_dummy_value()

    return signature, generate


@tile_function
def add_tile(scratch, tile_weight, sums, weight):
    """As :func:`add_rows`, by masked passes over the tile: best for few sums."""
    for k in range(sums.shape[0]):
        for i in range(0, sums.shape[1], 2):
            _add_masked_pair(
                k, i, scratch.tile, scratch.best, tile_weight, sums, weight
            )


@tile_function
def _add_masked_pair(k, i, tile, best, tile_weight, sums, weight):
    """Add features i and i + 1 of the lanes in cluster k; past the last one is zero."""
    center = best.dtype.type(k)
    zero = tile.dtype.type(0)
    x = tile[i * STRIDE : (i + 2) * STRIDE]
    total = total0 = total1 = zero
    for b in range(LANES):
        w = tile_weight[b]
        w = w if best[b] == center else zero
        total += w
        total0 += w * x[b]
        total1 += w * x[STRIDE + b]
    sums[k, i] += total0
    if i + 1 < sums.shape[1]:
        sums[k, i + 1] += total1
    if i == 0:
        weight[k] += total


@tile_function
def distances_to_best(tile, n_features, centers, best, out):
    """Set each lane's squared distance to its own centre, from differences."""
    for b in range(LANES):
        out[b] = 0
    for i in range(n_features):
        x = tile[i * STRIDE : i * STRIDE + LANES]
        for b in range(LANES):
            z = x[b] - centers[np.int64(best[b]), i]
            out[b] += z * z


@tile_function
def distances_to_point(tile, point, out):
    """Set each lane's squared distance to a point in tile coordinates."""
    for b in range(LANES):
        out[b] = 0
    for i in range(point.size):
        c = point[i]
        x = tile[i * STRIDE : i * STRIDE + LANES]
        for b in range(LANES):
            z = x[b] - c
            out[b] += z * z
