"""Gaussian with a covariance matrix of its own for each component.

C. M. Bishop, *Pattern Recognition and Machine Learning*, eqs. 9.23 to 9.28.
"""

from functools import partial

import numpy as np

from fastem.families.family import WIDE_MIN_FEATURES, Family
from fastem.families.full_tiles import NARROW_TILES, WIDE_TILES
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
from fastem.kernels.tiles import padded
from fastem.kernels.triangles import row_width


def tile_params(params, log_weights, dtype):
    """Return the parameters in tile coordinates."""
    n_features = params.means.shape[1]
    variances = np.diagonal(params.covariances, axis1=1, axis2=2)
    frame = tile_frame(params.means, variances, dtype)
    centers = frame.to_tile(params.means)
    size = padded(n_features)
    is_wide = n_features >= WIDE_MIN_FEATURES
    width = row_width(n_features, dtype) if is_wide else size
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
    NARROW_TILES,
    from_variances,
    tile_params,
    slots,
    statistics,
    maximize,
    partial(recenter, moved_sums),
    partial(from_variances, np.zeros((1, 1)), np.ones(1)),
    WIDE_TILES,
)
