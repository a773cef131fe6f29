"""Tile functions of Gaussians whose covariances are diagonals."""

from typing import NamedTuple

import numpy as np

from fastem.compile import allocating_function, tile_function, tile_subroutine
from fastem.families.family import TileFunctions
from fastem.families.gaussian import load
from fastem.kernels.guessing import set_likeliest_by_guess, set_sole
from fastem.kernels.lanes import WIDE
from fastem.kernels.memory import empty, zeros, zeros_from
from fastem.kernels.products import set_scaled_norms
from fastem.kernels.pruning import (
    GUESSED_FEATURES,
    Bounds,
    allocate_bounds,
    compare_all,
    set_likeliest_by_all_terms,
    set_relevant,
)
from fastem.kernels.registers import (
    block_lanes,
    set_best_bound,
    set_best_product,
)
from fastem.kernels.sparse import accumulate_components, accumulate_tiles
from fastem.kernels.tiles import (
    LANES,
    STRIDE,
    at_address,
)
from fastem.kernels.upright import (
    add_moments_of_rows,
    note_place,
    note_rows,
    set_norms_of_pairs,
    turn,
    turn_leading,
)

# With fewer features, the whole density costs little more than its bound (measured at
# D = 24 to 30, where components overlap: up to half as much again).
PRUNING_MIN_FEATURES = 32


class DiagScratch(NamedTuple):
    """Working memory of one part of the rows."""

    tile: np.ndarray
    turned: np.ndarray  # (1,): whether the rows are in the tile
    place: np.ndarray  # (1,): where they lie upright, or zero: in the copy
    copy: np.ndarray  # (LANES, D)
    origin: np.ndarray  # (D,): what takes them to tile coordinates
    inverse_scale: np.ndarray  # (D,)
    lanes: np.ndarray
    bounds: Bounds


@allocating_function
def _allocate(tile_params):
    """Return the working memory of one part."""
    n_features, dtype = tile_params.origin.size, tile_params.centers.dtype
    size = tile_params.centers.shape[1]
    return DiagScratch(
        zeros_from(n_features * STRIDE, size * STRIDE, dtype),
        zeros(1, np.bool_),
        zeros(1, np.int64),
        empty((LANES, n_features), dtype),
        zeros(n_features, dtype),
        zeros(n_features, dtype),
        empty(LANES, np.int64),
        allocate_bounds(tile_params),
    )


@tile_function
def _load(X, start, stop, tile_params, scratch):
    """Fetch a tile of rows in tile coordinates.

    A whole tile of contiguous rows stays where it is until ``turn`` is asked for it.
    Others are turned at once.
    """
    note_place(X, start, stop, tile_params, scratch)
    scratch.turned[0] = scratch.place[0] == 0
    if scratch.turned[0]:
        load(X, start, stop, tile_params, scratch)


@tile_subroutine
def _log_density(tile_params, scratch, out):
    """Set the joint log density of each component and lane, less ``log_offset``."""
    turn(scratch)
    set_scaled_norms(
        tile_params.log_norm,
        tile_params.whitening,
        tile_params.shift,
        scratch.tile,
        out,
    )


@tile_function
def _copy_leading(n, tile_params, bounds):
    bounds.size[:2], bounds.size[2] = 0.0, np.inf
    for k in range(tile_params.log_norm.size):
        for i in range(n):
            entry, shift = tile_params.whitening[k, i], tile_params.shift[k, i]
            bounds.whitening[k, i], bounds.shift[k, i] = entry, shift
            bounds.size[0] = max(bounds.size[0], bounds.whitening[k, i])
            bounds.size[1] = max(bounds.size[1], abs(bounds.shift[k, i]))
            if i < tile_params.origin.size:  # not of padding
                bounds.size[2] = min(bounds.size[2], bounds.whitening[k, i])


@tile_function
def _load_leading(n, tile_params, scratch):
    turn_leading(n, scratch, scratch.bounds.tile)


@tile_subroutine
def _guess(tile_params, scratch):
    """Set the nearest centre of each lane by some features, in the pooled measure."""
    bounds = scratch.bounds
    if bounds.n_pooled[0] == 0:
        _copy_pooled(tile_params, bounds)
        bounds.n_pooled[0] = GUESSED_FEATURES
    turn_leading(GUESSED_FEATURES, scratch, bounds.tile)
    for lane in range(0, LANES, block_lanes(bounds.tile, WIDE)):
        set_best_product(
            bounds.pooled, bounds.offset, bounds.tile, bounds.likely, None, lane
        )


@tile_function
def _copy_pooled(tile_params, bounds):
    """Set products whose largest is that of the nearest centre, as likely as it is."""
    n_components = tile_params.log_norm.size
    for k in range(n_components):
        bounds.offset[k] = tile_params.log_norm[k]
    for i in range(GUESSED_FEATURES):
        variance = 0.0
        for k in range(n_components):
            variance += 1 / np.float64(tile_params.whitening[k, i]) ** 2
        for k in range(n_components):
            center = np.float64(tile_params.centers[k, i])
            product = n_components / variance * center
            bounds.pooled[k, i] = 2 * product
            bounds.offset[k] -= product * center


@tile_subroutine
def _bound(n, tile_params, bounds):
    """Set bounds, while the rows of the next tile are on their way from memory."""
    tile, bests = bounds.tile, (bounds.least, bounds.likely, bounds.second)
    step = block_lanes(tile, WIDE)
    n_columns = bounds.log_norm.size // 4 * n
    total = LANES * tile_params.centers.shape[1] * tile_params.centers.itemsize
    address = bounds.ahead[0]
    n_bytes = total // (LANES // step * n_columns) + 1 if address != 0 else 0
    for lane in range(0, LANES, step):
        set_best_bound(
            bounds.log_norm,
            bounds.whitening,
            bounds.shift,
            n,
            tile,
            bounds.bound,
            bests,
            lane,
            (address, n_bytes),
        )
        address += n_bytes * n_columns
    bounds.ahead[0] = 0


@tile_function
def _finish(lanes, components, tile_params, scratch, out):
    """Set the log densities of pairs, and ask for the next tile if that is not done."""
    ahead = scratch.bounds.ahead[0]
    scratch.bounds.ahead[0] = 0
    set_norms_of_pairs(
        tile_params.log_norm,
        tile_params.whitening,
        tile_params.shift,
        at_address(scratch.place[0], scratch.copy),
        scratch.origin,
        scratch.inverse_scale,
        lanes,
        components,
        out,
        ahead,
    )


@tile_function
def _joint_log_density(tile_params, scratch, out):
    if tile_params.centers.shape[1] < PRUNING_MIN_FEATURES:
        _log_density(tile_params, scratch, out)
    else:
        set_relevant(
            _copy_leading,
            _load_leading,
            _bound,
            _finish,
            _log_density,
            tile_params,
            scratch,
            out,
        )


@tile_function
def _likeliest(tile_params, scratch, out, largest, best):
    if scratch.place[0] != 0:
        set_likeliest_by_all_terms(
            _copy_leading,
            _load_leading,
            _bound,
            _finish,
            _log_density,
            tile_params,
            scratch,
            out,
            largest,
            best,
        )
    else:
        compare_all(_log_density, tile_params, scratch, out, largest, best)


@tile_function
def _likeliest_wide(tile_params, scratch, out, largest, best):
    if tile_params.centers.shape[1] < PRUNING_MIN_FEATURES:
        _likeliest(tile_params, scratch, out, largest, best)
    else:
        set_likeliest_by_guess(
            _guess,
            _copy_leading,
            _load_leading,
            _bound,
            _finish,
            _log_density,
            tile_params,
            scratch,
            out,
            largest,
            best,
        )


@tile_function
def _sole(tile_params, scratch, out, largest, best):
    if tile_params.centers.shape[1] < PRUNING_MIN_FEATURES:
        return False
    return set_sole(_guess, _finish, tile_params, scratch, out, largest, best)


@tile_function
def _add_tile(center, r, scratch, first, second):
    turn(scratch)
    n_fours = center.size // 4 * 4
    for i in range(0, n_fours, 4):
        _add_four_features(i, center, r, scratch.tile, first, second)
    for i in range(n_fours, center.size):
        c = center[i]
        x = scratch.tile[i * STRIDE : i * STRIDE + LANES]
        sum_first = sum_second = r.dtype.type(0)
        for b in range(LANES):
            y = x[b] - c
            sum_first += r[b] * y
            sum_second += r[b] * y * y
        first[i] += sum_first
        second[i] += sum_second


@tile_function
def _add_four_features(i, center, r, tile, first, second):
    """Add moments of four features, whose sums over lanes end together.

    Measured on one thread at D = 64, K = 64: 130 to 77 ps a feature in ``float32``.
    """
    c0, c1, c2, c3 = center[i], center[i + 1], center[i + 2], center[i + 3]
    x0 = tile[i * STRIDE : i * STRIDE + LANES]
    x1 = tile[(i + 1) * STRIDE : (i + 1) * STRIDE + LANES]
    x2 = tile[(i + 2) * STRIDE : (i + 2) * STRIDE + LANES]
    x3 = tile[(i + 3) * STRIDE : (i + 3) * STRIDE + LANES]
    f0 = f1 = f2 = f3 = s0 = s1 = s2 = s3 = r.dtype.type(0)
    for b in range(LANES):
        y0, y1, y2, y3 = x0[b] - c0, x1[b] - c1, x2[b] - c2, x3[b] - c3
        w0, w1, w2, w3 = r[b] * y0, r[b] * y1, r[b] * y2, r[b] * y3
        f0 += w0
        f1 += w1
        f2 += w2
        f3 += w3
        s0 += w0 * y0
        s1 += w1 * y1
        s2 += w2 * y2
        s3 += w3 * y3
    first[i] += f0
    first[i + 1] += f1
    first[i + 2] += f2
    first[i + 3] += f3
    second[i] += s0
    second[i + 1] += s1
    second[i + 2] += s2
    second[i + 3] += s3


@tile_function
def _add_lanes(center, r, lanes, count, scratch, pool, first, second):
    add_moments_of_rows(
        at_address(scratch.place[0], scratch.copy),
        scratch.origin,
        scratch.inverse_scale,
        center,
        r,
        lanes[:count],
        first,
        second,
    )


@tile_function
def _accumulate(tile_params, scratch, responsibilities, slots, slot):
    """Add the tile's first and second moments about each component's centre."""
    accumulate_tiles(
        _add_tile, tile_params.centers, responsibilities, scratch, slots, slot
    )


@tile_function
def _accumulate_wide(tile_params, scratch, responsibilities, slots, slot):
    accumulate_components(
        _add_tile,
        _add_lanes,
        0,
        tile_params.centers,
        responsibilities,
        scratch,
        slots,
        slot,
    )


@tile_function
def _accumulate_sole(tile_params, scratch, tile_weight, slots, slot):
    """As ``_accumulate``, where ``_sole`` has sorted the rows by component."""
    lanes, ends, begin = scratch.bounds.lanes, scratch.bounds.ends, 0
    for k in range(tile_params.log_norm.size):
        end = ends[k]
        if end > begin:
            for b in lanes[begin:end]:
                slots.weight[slot, k] += tile_weight[b]
            _add_lanes(
                tile_params.centers[k],
                tile_weight,
                lanes[begin:],
                end - begin,
                scratch,
                k,
                slots.first[slot, k],
                slots.second[slot, k],
            )
        begin = end


@tile_function
def _flush(tile_params, scratch, slots, slot):
    """Nothing waits."""


NARROW_TILES = TileFunctions(
    _allocate, _load, _log_density, _log_density, _accumulate, _flush, _likeliest
)
WIDE_TILES = TileFunctions(
    _allocate,
    note_rows,
    _log_density,
    _joint_log_density,
    _accumulate_wide,
    _flush,
    _likeliest_wide,
    _sole,
    _accumulate_sole,
)
