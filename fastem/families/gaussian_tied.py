"""Gaussians that share one covariance matrix.

With m = sum_k r_k c_k, the mean of the centres under a row's responsibilities,

    sum_k r_k (x - c_k)(x - c_k)^T
        = (x - m)(x - m)^T + sum_{k<l} r_k r_l (c_k - c_l)(c_k - c_l)^T,

so the pooled scatter costs one rank update a row instead of K, and the products
r_k r_l summed over rows. Both terms are sums of squares: nothing cancels.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from fastem.compile import allocating_function, tile_function
from fastem.families.family import Family, TileFunctions
from fastem.families.gaussian import (
    LOG_2_PI,
    GaussianParams,
    GaussianStatistics,
    add_slots,
    load,
    make_tile_params,
    moved_means,
    pad_features,
    pooled_variance,
    recenter,
    tile_frame,
    variance_floor,
)
from fastem.families.repair import decompose_covariances
from fastem.kernels.memory import empty, zeros
from fastem.kernels.outer import add_lower_outer, add_outer
from fastem.kernels.products import (
    multiply,
    multiply_lower,
    set_scaled_norms,
)
from fastem.kernels.pruning import compare_all
from fastem.kernels.sparse import (
    PENDING_STRIDE,
    accumulate_components,
    add_outer_of_lanes,
    add_outer_of_tile,
    flush_outer,
)
from fastem.kernels.tiles import (
    LANES,
    STRIDE,
    count_positive,
    lane_sum,
    padded,
)

# With more pairs of a row and a component that counts, per row, blending is less work.
BLEND_MIN_PAIRS = 3


class TiedScratch(NamedTuple):
    """Working memory of one part of the rows."""

    tile: np.ndarray
    whitened: np.ndarray
    spare: np.ndarray  # the mean m of each lane, or deviations
    row_weight: np.ndarray
    deviations: np.ndarray
    pending: np.ndarray
    held: np.ndarray
    lanes: np.ndarray
    roots: np.ndarray


class TiedSlots(NamedTuple):
    """Sums over the rows of each part, in tile coordinates."""

    log_likelihood: np.ndarray  # (P,)
    total_weight: np.ndarray  # (P,)
    weight: np.ndarray  # (P, K)
    first: np.ndarray  # (P, K, D): sum of r (x - c)
    second: np.ndarray  # (P, 1, D * (D + 1) / 2): sum of outer products
    together: np.ndarray  # (P, K * (K + 1) / 2): sum of r_k r_l where these blend


class TiedTileParams(NamedTuple):
    """As GaussianTileParams, sizes padded to multiples of four."""

    origin: np.ndarray
    inverse_scale: np.ndarray
    log_offset: np.ndarray
    log_norm: np.ndarray  # (K,)
    whitening: np.ndarray  # (D, D)
    shift: np.ndarray  # (K, D), minus the whitened centres
    ones: np.ndarray  # (K, D)
    centers: np.ndarray  # (K, D)
    columns: np.ndarray  # (D, K), the same as columns
    zeros: np.ndarray  # (D,)


@allocating_function
def allocate(tile_params):
    """Return the working memory of one part."""
    size = tile_params.zeros.size * STRIDE
    dtype = tile_params.zeros.dtype
    return TiedScratch(
        zeros(size, dtype),
        empty(size, dtype),
        empty(size, dtype),
        empty(LANES, dtype),
        empty(tile_params.zeros.size * STRIDE, dtype),
        empty((1, tile_params.zeros.size * PENDING_STRIDE), dtype),
        zeros(1, np.int64),
        empty(LANES, np.int64),
        empty(LANES, dtype),
    )


@tile_function
def log_density(tile_params, scratch, out):
    """Set the joint log density of each component and lane, less ``log_offset``."""
    size = tile_params.zeros.size
    multiply_lower(
        tile_params.whitening, tile_params.zeros, size, scratch.tile, scratch.whitened
    )
    set_scaled_norms(
        tile_params.log_norm,
        tile_params.ones,
        tile_params.shift,
        scratch.whitened,
        out,
    )


@tile_function
def likeliest(tile_params, scratch, out, largest, best):
    """Set the likeliest component of each lane, and its joint log density."""
    compare_all(log_density, tile_params, scratch, out, largest, best)


@tile_function
def accumulate(tile_params, scratch, responsibilities, slots, slot):
    """Add the tile's moments; the responsibilities may be used up.

    Where most rows are one component's, each (row, component) pair is added alone.
    """
    n_pairs = 0
    for k in range(tile_params.log_norm.size):
        n_pairs += count_positive(responsibilities[k * STRIDE : k * STRIDE + LANES])
    if n_pairs > BLEND_MIN_PAIRS * LANES:
        _blend(tile_params, scratch, responsibilities, slots, slot)
    else:
        accumulate_components(
            add_outer_of_tile,
            add_outer_of_lanes,
            0,
            tile_params.centers,
            responsibilities,
            scratch,
            slots,
            slot,
        )


@tile_function
def _blend(tile_params, scratch, responsibilities, slots, slot):
    """Add all rows by way of their means of centres m."""
    n_components = tile_params.log_norm.size
    size, padded_components = tile_params.columns.shape
    row_weight = scratch.row_weight
    first = slots.first[slot]
    add_outer(
        responsibilities,
        padded_components,
        scratch.tile,
        size,
        LANES,
        STRIDE,
        first.reshape(first.size),
    )
    for b in range(LANES):
        row_weight[b] = 0
    for k in range(n_components):
        r = responsibilities[k * STRIDE : k * STRIDE + LANES]
        weight = lane_sum(r, LANES)
        slots.weight[slot, k] += weight
        for i in range(size):
            first[k, i] -= weight * tile_params.centers[k, i]
        for b in range(LANES):
            row_weight[b] += r[b]

    multiply(
        tile_params.columns,
        tile_params.zeros,
        size,
        padded_components,
        responsibilities,
        scratch.spare,
    )
    inverse_root = scratch.roots
    for b in range(LANES):
        w = row_weight[b]
        inverse_root[b] = 1 / np.sqrt(w) if w > 0 else w
    deviations = scratch.deviations
    for i in range(size):
        x = scratch.tile[i * STRIDE : i * STRIDE + LANES]
        blend = scratch.spare[i * STRIDE : i * STRIDE + LANES]
        deviation = deviations[i * STRIDE : i * STRIDE + LANES]
        for b in range(LANES):
            deviation[b] = (row_weight[b] * x[b] - blend[b]) * inverse_root[b]
    second = slots.second[slot, 0]
    add_lower_outer(deviations, deviations, size, LANES, STRIDE, second)

    for k in range(n_components):
        r = responsibilities[k * STRIDE : k * STRIDE + LANES]
        for b in range(LANES):
            r[b] *= inverse_root[b]
    add_lower_outer(
        responsibilities,
        responsibilities,
        padded_components,
        LANES,
        STRIDE,
        slots.together[slot],
    )


@tile_function
def flush(tile_params, scratch, slots, slot):
    """Add the lanes that wait in the pending block."""
    flush_outer(scratch, slots, slot)


def tile_params(params, log_weights, dtype):
    """Return the parameters in tile coordinates."""
    n_components, n_features = params.means.shape
    variances = np.diagonal(params.covariances)[None]
    frame = tile_frame(params.means, variances, dtype)
    centers = frame.to_tile(params.means)
    whitening = np.sqrt(0.5) * params.precisions_cholesky.T * frame.scale
    diagonal = np.diagonal(params.precisions_cholesky)
    log_norm = log_weights + np.log(diagonal).sum() - n_features / 2 * LOG_2_PI
    size = padded(n_features, 4)
    square = np.zeros((size, size))
    square[:n_features, :n_features] = whitening
    columns = np.zeros((size, padded(n_components, 4)))
    columns[:n_features, :n_components] = centers.T
    shift = pad_features(-centers @ whitening.T, size)
    base = make_tile_params(frame, log_norm, square, shift, centers, dtype)
    return frame, TiedTileParams(
        base.origin,
        base.inverse_scale,
        base.log_offset,
        base.log_norm,
        base.whitening,
        base.shift,
        np.ones_like(base.shift),
        np.ascontiguousarray(columns.T, dtype),
        columns.astype(dtype),
        np.zeros(size, dtype),
    )


def from_variances(means, variances):
    """Return parameters with the given means and a diagonal covariance."""
    return GaussianParams(means, np.diag(variances), np.diag(1 / np.sqrt(variances)))


def slots(params, n_slots):
    """Return zeroed sums for each of ``n_slots`` parts."""
    n_components, n_features = params.means.shape
    size, components = padded(n_features, 4), padded(n_components, 4)
    return TiedSlots(
        np.zeros(n_slots),
        np.zeros(n_slots),
        np.zeros((n_slots, n_components)),
        np.zeros((n_slots, components, size)),
        np.zeros((n_slots, 1, size * (size + 1) // 2)),
        np.zeros((n_slots, components * (components + 1) // 2)),
    )


def statistics(params, frame, tile_params, slots):
    """Add the slots and return the sums in data units about the means."""
    n_components, n_features = params.means.shape
    total = add_slots(slots)
    weight = total.weight
    first = total.first[:n_components, :n_features] * frame.scale
    second = _unpack(total.second[0], n_features) * np.outer(frame.scale, frame.scale)
    together = _unpack(total.together, n_components)
    centers = tile_params.columns[:n_features, :n_components].T.astype(np.float64)
    centers = frame.from_tile(centers)
    for k, center in enumerate(centers):
        apart = centers[k + 1 :] - center
        second += (apart * together[k, k + 1 :, None]).T @ apart
    first, second = moved_sums(weight, first, second, params.means - centers)
    return GaussianStatistics(
        float(total.log_likelihood), float(total.total_weight), weight, first, second
    )


def moved_sums(weight, first, second, shift):
    """Return the sums about points moved by a shift, (K, D)."""
    moved = first - weight[:, None] * shift
    cross = ((first + moved) / 2).T @ shift
    return moved, second - (cross + cross.T)


def _unpack(packed, size):
    """Return the symmetric matrix of a packed lower triangle's leading block."""
    matrix = np.zeros((size, size))
    rows, columns = np.tril_indices(size)
    matrix[rows, columns] = packed[: rows.size]
    matrix[columns, rows] = packed[: rows.size]
    return matrix


def maximize(statistics, params, regularization):
    """Return the likeliest parameters and which components were repaired.

    A repair of the shared covariance is one of every component.
    """
    means, shift, weight, empty = moved_means(statistics, params)
    total = statistics.weight.sum()
    between = (np.where(empty, 0.0, weight)[:, None] * shift).T @ shift
    covariance = (statistics.second - between) / total
    spread = pooled_variance(statistics.weight, means, np.diagonal(covariance)[None])
    covariance[np.diag_indices_from(covariance)] += regularization.reg_covar
    floor = variance_floor(means, spread, regularization.eps).max(axis=0)
    covariances, precisions_cholesky, collapsed = decompose_covariances(
        covariance[None], floor[None], regularization.eps
    )
    return (
        GaussianParams(means, covariances[0], precisions_cholesky[0]),
        empty | collapsed,
    )


TIED = Family(
    "tied",
    TileFunctions(
        allocate, load, log_density, log_density, accumulate, flush, likeliest
    ),
    from_variances,
    tile_params,
    slots,
    statistics,
    maximize,
    partial(recenter, moved_sums),
    partial(from_variances, np.zeros((1, 1)), np.ones(1)),
)
