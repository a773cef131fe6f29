"""Gaussian with a covariance matrix of its own for each component.

C. M. Bishop, *Pattern Recognition and Machine Learning*, eqs. 9.23 to 9.28.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from fastem.compile import allocating_function, tile_function, tile_subroutine
from fastem.families.family import Family
from fastem.families.gaussian import (
    LOG_2_PI,
    GaussianParams,
    GaussianSlots,
    GaussianStatistics,
    add_slots,
    drift,
    make_tile_params,
    moved_means,
    pad_features,
    pooled_variance,
    recenter,
    tile_frame,
    variance_floor,
)
from fastem.families.repair import decompose_covariances
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
    flush_outer,
)
from fastem.kernels.tiles import (
    LANES,
    STRIDE,
    at_address,
    fill_rows,
    load_tile,
    padded,
)
from fastem.kernels.triangles import (
    add_deviations_of_rows,
    add_lower_outer_of_rows,
    row_width,
    subtract_norms_of_rows,
)
from fastem.kernels.upright import copy_upright, note_place

# With fewer features, gathering the lanes that count costs more than it saves.
GATHER_MIN_FEATURES = 8
# With fewer, padded, the whole density costs little more than its bound.
PRUNING_MIN_FEATURES = 24


class GaussianScratch(NamedTuple):
    """Working memory of one part of the rows."""

    tile: np.ndarray
    place: np.ndarray  # (1,): where its rows lie upright, or zero: in the copy
    copy: np.ndarray  # (LANES, D)
    origin: np.ndarray  # (D,): what takes upright rows to tile coordinates
    inverse_scale: np.ndarray  # (D,)
    whitened: np.ndarray  # of some rows
    deviations: np.ndarray
    spare: np.ndarray  # deviations, too
    pending: np.ndarray
    held: np.ndarray
    lanes: np.ndarray
    roots: np.ndarray
    bounds: Bounds


@allocating_function
def allocate(tile_params):
    """Return the working memory of one part."""
    n_components, size = tile_params.centers.shape
    n_features, dtype = tile_params.origin.size, tile_params.centers.dtype
    width = tile_params.whitening.shape[2]
    pending = empty((n_components, max(size * PENDING_STRIDE, PENDING * width)), dtype)
    if size >= PRUNING_MIN_FEATURES:  # what rows are padded with stays zero
        for k in range(n_components):
            for n in range(PENDING):
                for i in range(n_features, width):
                    pending[k, n * width + i] = 0
    return GaussianScratch(
        zeros_from(n_features * STRIDE, size * STRIDE, dtype),
        zeros(1, np.int64),
        empty((LANES, n_features), dtype),
        zeros(n_features, dtype),
        zeros(n_features, dtype),
        empty(ABREAST * width, dtype),
        empty(size * STRIDE, dtype),
        empty(size * STRIDE, dtype),
        pending,
        zeros(n_components, np.int64),
        empty(LANES, np.int64),
        empty(LANES, dtype),
        allocate_bounds(tile_params),
    )


@tile_function
def load(X, start, stop, tile_params, scratch):
    """Fetch a tile of rows in tile coordinates; padded features stay zero."""
    origin, inverse_scale = tile_params.origin, tile_params.inverse_scale
    load_tile(X, start, stop, origin, inverse_scale, scratch.tile)
    if tile_params.centers.shape[1] >= PRUNING_MIN_FEATURES:
        note_place(X, start, stop, origin, inverse_scale, scratch)
        if scratch.place[0] == 0:
            copy_upright(X, start, stop, origin, inverse_scale, scratch)


@tile_subroutine
def log_density(tile_params, scratch, out):
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
    for i in range(n):
        x = scratch.tile[i * STRIDE : i * STRIDE + LANES]
        row = scratch.bounds.tile[i * STRIDE : i * STRIDE + LANES]
        for b in range(LANES):
            row[b] = x[b]


@tile_function
def _bound(n, tile_params, bounds):
    for k in range(tile_params.log_norm.size):
        p = bounds.bound[k * STRIDE : k * STRIDE + LANES]
        for b in range(LANES):
            p[b] = bounds.log_norm[k]
        subtract_lower_norm(bounds.whitening[k], bounds.shift[k], n, bounds.tile, p)
    largest, second, best = bounds.least, bounds.second, bounds.likely
    set_best(bounds.bound, tile_params.log_norm.size, largest, second, best, WIDE)


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
def joint_log_density(tile_params, scratch, out):
    """As ``log_density``, but -inf where a component is negligible for a row."""
    if tile_params.centers.shape[1] < PRUNING_MIN_FEATURES:
        log_density(tile_params, scratch, out)
    else:
        set_relevant(
            _copy_leading,
            _load_leading,
            _bound,
            _finish,
            log_density,
            tile_params,
            scratch,
            out,
        )


@tile_function
def likeliest(tile_params, scratch, out, largest, best):
    """Set the likeliest component of each lane, and its joint log density."""
    if tile_params.centers.shape[1] < PRUNING_MIN_FEATURES:
        compare_all(log_density, tile_params, scratch, out, largest, best)
    else:
        set_likeliest(
            _copy_leading,
            _load_leading,
            _bound,
            _finish,
            log_density,
            tile_params,
            scratch,
            out,
            largest,
            best,
        )


@tile_function
def _add_lanes(center, r, lanes, count, scratch, pool, first, second):
    if center.size >= PRUNING_MIN_FEATURES:
        _add_upright(center, r, lanes, count, scratch, pool, first, second)
    else:
        add_outer_of_lanes(center, r, lanes, count, scratch, pool, first, second)


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
def accumulate(tile_params, scratch, responsibilities, slots, slot):
    """Add the tile's first and second moments about each component's centre."""
    accumulate_components(
        add_outer_of_tile,
        _add_lanes,
        GATHER_MIN_FEATURES,
        tile_params.centers,
        responsibilities,
        scratch,
        slots,
        slot,
    )


@tile_function
def flush(tile_params, scratch, slots, slot):
    """Add the lanes that wait in the pending blocks."""
    size, width = tile_params.centers.shape[1], tile_params.whitening.shape[2]
    if size < PRUNING_MIN_FEATURES:
        flush_outer(scratch, slots, slot)
        return
    for k in range(scratch.held.size):
        block, second = scratch.pending[k], slots.second[slot, k]
        add_lower_outer_of_rows(block, size, scratch.held[k], width, second)
        scratch.held[k] = 0


def tile_params(params, log_weights, dtype):
    """Return the parameters in tile coordinates."""
    n_features = params.means.shape[1]
    variances = np.diagonal(params.covariances, axis1=1, axis2=2)
    frame = tile_frame(params.means, variances, dtype)
    centers = frame.to_tile(params.means)
    size = padded(n_features)
    width = row_width(n_features, dtype) if size >= PRUNING_MIN_FEATURES else size
    whitening = np.zeros((len(centers), size, width))
    inner = whitening[:, :n_features, :n_features]
    factors = np.sqrt(0.5) * frame.scale[:, None]
    np.multiply(params.precisions_cholesky, factors, out=inner)
    diagonal = np.diagonal(params.precisions_cholesky, axis1=1, axis2=2)
    log_norm = log_weights + np.log(diagonal).sum(axis=1) - n_features / 2 * LOG_2_PI
    # BLAS gives equal components unequal bits, for its sums depend on alignment.
    shift = -np.einsum("ki,kij->kj", centers, inner)
    return frame, make_tile_params(
        frame,
        log_norm,
        whitening,
        pad_features(shift, width),
        pad_features(centers, size),
        dtype,
    )


def from_variances(means, variances):
    """Return parameters with the given means and one diagonal covariance for all."""
    n_components = means.shape[0]
    return GaussianParams(
        means,
        np.repeat(np.diag(variances)[None], n_components, axis=0),
        np.repeat(np.diag(1 / np.sqrt(variances))[None], n_components, axis=0),
    )


def slots(params, n_slots):
    """Return zeroed sums for each of ``n_slots`` parts."""
    n_components, n_features = params.means.shape
    size = padded(n_features)
    return GaussianSlots(
        np.zeros(n_slots),
        np.zeros(n_slots),
        np.zeros((n_slots, n_components)),
        np.zeros((n_slots, n_components, size)),
        np.zeros((n_slots, n_components, size * (size + 1) // 2)),
    )


def statistics(params, frame, tile_params, slots):
    """Add the slots and return the sums in data units about the means."""
    n_features = params.means.shape[1]
    total = add_slots(slots)
    # One gather takes a fifth of the time of two assignments to triangles.
    second = total.second.take(_packed_index(n_features), axis=1)
    second *= np.multiply.outer(frame.scale, frame.scale)
    first = total.first[:, :n_features] * frame.scale
    shift = drift(params, tile_params, frame, n_features)
    first, second = moved_sums(total.weight, first, second, shift)
    return GaussianStatistics(
        float(total.log_likelihood),
        float(total.total_weight),
        total.weight,
        first,
        second,
    )


def _packed_index(n_features):
    """Return where each entry of a symmetric matrix is in its packed triangle."""
    larger, smaller = (
        compare.outer(range(n_features), range(n_features))
        for compare in (np.maximum, np.minimum)
    )
    return larger * (larger + 1) // 2 + smaller


def moved_sums(weight, first, second, shift):
    """Return the sums about points moved by a shift, (K, D)."""
    moved = first - weight[:, None] * shift
    cross = ((first + moved) / 2)[:, :, None] * shift[:, None, :]
    both = cross + np.swapaxes(cross, 1, 2)
    return moved, np.subtract(second, both, out=both)


def maximize(statistics, params, regularization):
    """Return the likeliest parameters and which components were repaired.

    PRML eqs. 9.24 and 9.25, with ``reg_covar`` added to the diagonals.
    """
    means, shift, weight, empty = moved_means(statistics, params)
    covariances = statistics.second / weight[:, None, None]
    covariances -= shift[:, :, None] * shift[:, None, :]
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    spread = pooled_variance(statistics.weight, means, variances)
    n_features = means.shape[1]
    covariances[:, range(n_features), range(n_features)] += regularization.reg_covar
    floor = variance_floor(means, spread, regularization.eps)
    covariances[empty] = params.covariances[empty]
    covariances, precisions_cholesky, collapsed = decompose_covariances(
        covariances, floor, regularization.eps
    )
    return GaussianParams(means, covariances, precisions_cholesky), empty | collapsed


FULL = Family(
    "full",
    allocate,
    load,
    log_density,
    joint_log_density,
    accumulate,
    flush,
    from_variances,
    tile_params,
    slots,
    statistics,
    maximize,
    partial(recenter, moved_sums),
    partial(from_variances, np.zeros((1, 1)), np.ones(1)),
    likeliest,
)
