"""Tile functions of Gaussians whose covariances are matrices of their own.

Those of few features take whole tiles, or lanes that are gathered. Those of many spare
what is negligible, and take rows as they lie for what is not.
"""

from typing import NamedTuple

import numpy as np

from fastem.compile import allocating_function, tile_function, tile_subroutine
from fastem.families.family import TileFunctions
from fastem.families.gaussian import load
from fastem.kernels.entries import ABREAST
from fastem.kernels.lanes import WIDE
from fastem.kernels.maxima import set_best
from fastem.kernels.memory import empty, zeros, zeros_from
from fastem.kernels.products import subtract_lower_norm
from fastem.kernels.pruning import (
    Bounds,
    allocate_bounds,
    compare_all,
    set_likeliest,
    set_relevant,
)
from fastem.kernels.sparse import (
    PENDING,
    PENDING_STRIDE,
    accumulate_components,
    add_outer_of_lanes,
    add_outer_of_tile,
    add_root_outer_of_tile,
    flush_outer,
)
from fastem.kernels.tiles import LANES, STRIDE, at_address, fill_rows, prefetch
from fastem.kernels.triangles import (
    add_deviations_of_rows,
    add_lower_outer_of_rows,
    subtract_norms_of_rows,
)
from fastem.kernels.upright import note_rows, turn, turn_leading

# With fewer features, gathering the lanes that count costs more than it saves.
GATHER_MIN_FEATURES = 8


class FullScratch(NamedTuple):
    """Working memory of one part of rows of few features."""

    tile: np.ndarray
    deviations: np.ndarray
    spare: np.ndarray  # deviations, too
    pending: np.ndarray
    held: np.ndarray
    lanes: np.ndarray
    roots: np.ndarray


class WideFullScratch(NamedTuple):
    """Working memory of one part of rows of many features."""

    tile: np.ndarray
    turned: np.ndarray  # (1,): whether the rows are in the tile
    place: np.ndarray  # (1,): where they lie upright, or zero: in the copy
    copy: np.ndarray  # (LANES, D)
    origin: np.ndarray  # (D,): what takes upright rows to tile coordinates
    inverse_scale: np.ndarray  # (D,)
    whitened: np.ndarray  # of some rows
    deviations: np.ndarray
    pending: np.ndarray
    held: np.ndarray
    lanes: np.ndarray
    roots: np.ndarray
    bounds: Bounds


@allocating_function
def _allocate(tile_params):
    n_components, size = tile_params.centers.shape
    dtype = tile_params.centers.dtype
    return FullScratch(
        zeros_from(tile_params.origin.size * STRIDE, size * STRIDE, dtype),
        empty(size * STRIDE, dtype),
        empty(size * STRIDE, dtype),
        empty((n_components, size * PENDING_STRIDE), dtype),
        zeros(n_components, np.int64),
        empty(LANES, np.int64),
        empty(LANES, dtype),
    )


@allocating_function
def _allocate_wide(tile_params):
    n_components, size = tile_params.centers.shape
    n_features, dtype = tile_params.origin.size, tile_params.centers.dtype
    width = tile_params.whitening.shape[2]
    pending = empty((n_components, PENDING * width), dtype)
    for k in range(n_components):  # what rows are padded with stays zero
        for n in range(PENDING):
            for i in range(n_features, width):
                pending[k, n * width + i] = 0
    return WideFullScratch(
        zeros_from(n_features * STRIDE, size * STRIDE, dtype),
        zeros(1, np.bool_),
        zeros(1, np.int64),
        empty((LANES, n_features), dtype),
        zeros(n_features, dtype),
        zeros(n_features, dtype),
        empty(ABREAST * width, dtype),
        empty(size * STRIDE, dtype),
        pending,
        zeros(n_components, np.int64),
        empty(LANES, np.int64),
        empty(LANES, dtype),
        allocate_bounds(tile_params),
    )


@tile_subroutine
def _log_density(tile_params, scratch, out):
    """Set the joint log density of each component and lane, less ``log_offset``."""
    n_components, n_features = tile_params.centers.shape
    fill_rows(tile_params.log_norm, out)
    for k in range(n_components):
        subtract_lower_norm(
            tile_params.whitening[k],
            tile_params.shift[k],
            n_features,
            scratch.tile,
            out[k * STRIDE : k * STRIDE + LANES],
        )


@tile_subroutine
def _log_density_wide(tile_params, scratch, out):
    turn(scratch)
    _log_density(tile_params, scratch, out)


@tile_function
def _likeliest(tile_params, scratch, out, largest, best):
    compare_all(_log_density, tile_params, scratch, out, largest, best)


@tile_function
def _copy_leading(n, tile_params, bounds):
    bounds.size[0] = bounds.size[1] = 0.0
    for k in range(tile_params.log_norm.size):
        for i in range(n):
            total = 0.0
            for j in range(i + 1):
                entry = tile_params.whitening[k, j, i]
                bounds.whitening[k, j, i] = entry
                total += abs(entry)
            bounds.shift[k, i] = tile_params.shift[k, i]
            bounds.size[0] = max(bounds.size[0], total)
            bounds.size[1] = max(bounds.size[1], abs(bounds.shift[k, i]))


@tile_function
def _load_leading(n, tile_params, scratch):
    turn_leading(n, scratch, scratch.bounds.tile)


@tile_function
def _bound(n, tile_params, bounds):
    """Set bounds, while the rows of the next tile are on their way from memory."""
    n_components, n_features = tile_params.centers.shape
    total = LANES * n_features * tile_params.centers.itemsize
    address = bounds.ahead[0]
    n_bytes = total // n_components + 1 if address != 0 else 0
    for k in range(n_components):
        prefetch(address, address + n_bytes)
        address += n_bytes
        p = bounds.bound[k * STRIDE : k * STRIDE + LANES]
        for b in range(LANES):
            p[b] = bounds.log_norm[k]
        subtract_lower_norm(bounds.whitening[k], bounds.shift[k], n, bounds.tile, p)
    largest, second, best = bounds.least, bounds.second, bounds.likely
    set_best(bounds.bound, n_components, largest, second, best, WIDE)


@tile_subroutine
def _finish(lanes, components, tile_params, scratch, out):
    """Set the log densities of pairs, of rows as they lie upright.

    All of them, lest equal components get unequal bits from another order of sums.
    """
    rows = at_address(scratch.place[0], scratch.copy)
    begin = 0
    while begin < lanes.size:
        k, end = components[begin], begin + 1
        while end < lanes.size and components[end] == k:
            end += 1
        subtract_norms_of_rows(
            tile_params.log_norm[k],
            tile_params.whitening[k],
            tile_params.shift[k],
            rows,
            scratch.origin,
            scratch.inverse_scale,
            lanes[begin:end],
            scratch.whitened,
            out[k * STRIDE : k * STRIDE + LANES],
        )
        begin = end


@tile_function
def _joint_log_density(tile_params, scratch, out):
    set_relevant(
        _copy_leading,
        _load_leading,
        _bound,
        _finish,
        _log_density_wide,
        tile_params,
        scratch,
        out,
    )


@tile_function
def _likeliest_wide(tile_params, scratch, out, largest, best):
    set_likeliest(
        _copy_leading,
        _load_leading,
        _bound,
        _finish,
        _log_density_wide,
        tile_params,
        scratch,
        out,
        largest,
        best,
    )


@tile_function
def _accumulate(tile_params, scratch, responsibilities, slots, slot):
    """Add the tile's first and second moments about each component's centre."""
    accumulate_components(
        add_outer_of_tile,
        add_outer_of_lanes,
        GATHER_MIN_FEATURES,
        tile_params.centers,
        responsibilities,
        scratch,
        slots,
        slot,
    )


@tile_function
def _accumulate_wide(tile_params, scratch, responsibilities, slots, slot):
    accumulate_components(
        _add_turned,
        _add_upright,
        GATHER_MIN_FEATURES,
        tile_params.centers,
        responsibilities,
        scratch,
        slots,
        slot,
    )


@tile_function
def _add_turned(center, r, scratch, first, second):
    turn(scratch)
    add_root_outer_of_tile(center, r, scratch, first, second)


@tile_function
def _add_upright(center, r, lanes, count, scratch, pool, first, second):
    """As ``add_outer_of_lanes``, of rows as they lie upright."""
    rows, roots = at_address(scratch.place[0], scratch.copy), scratch.roots
    block, width = scratch.pending[pool], scratch.whitened.size // ABREAST
    for n in range(count):
        roots[n] = np.sqrt(r[lanes[n]])
    done = 0
    while done < count:
        held = scratch.held[pool]
        end = min(count, done + PENDING - held)
        add_deviations_of_rows(
            rows,
            scratch.origin,
            scratch.inverse_scale,
            center,
            roots[done:end],
            lanes[done:end],
            first,
            block[held * width :],
            width,
        )
        held += end - done
        done = end
        if held == PENDING:
            add_lower_outer_of_rows(block, center.size, PENDING, width, second)
            held = 0
        scratch.held[pool] = held


@tile_function
def _flush(tile_params, scratch, slots, slot):
    flush_outer(scratch, slots, slot)


@tile_function
def _flush_wide(tile_params, scratch, slots, slot):
    size, width = tile_params.centers.shape[1], tile_params.whitening.shape[2]
    for k in range(scratch.held.size):
        block, second = scratch.pending[k], slots.second[slot, k]
        add_lower_outer_of_rows(block, size, scratch.held[k], width, second)
        scratch.held[k] = 0


NARROW_TILES = TileFunctions(
    _allocate, load, _log_density, _log_density, _accumulate, _flush, _likeliest
)
WIDE_TILES = TileFunctions(
    _allocate_wide,
    note_rows,
    _log_density_wide,
    _joint_log_density,
    _accumulate_wide,
    _flush_wide,
    _likeliest_wide,
)
