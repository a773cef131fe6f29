"""Gaussians with a variance for each feature, or one variance for all features.

The spherical family is the diagonal one with equal variances: the same kernels, another
maximisation.
"""

from functools import partial

import numpy as np

from fastem.families.diag_tiles import (
    NARROW_TILES,
    PRUNING_MIN_FEATURES,
    WIDE_TILES,
)
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
from fastem.families.separation import sure_above
from fastem.kernels.pruning import SHARE_MARGIN
from fastem.kernels.tiles import padded


def tile_params(params, log_weights, dtype):
    """Return the parameters in tile coordinates, of either family."""
    n_features = params.means.shape[1]
    frame = tile_frame(params.means, _by_feature(params.covariances), dtype)
    centers = frame.to_tile(params.means)
    root_precisions = _by_feature(params.precisions_cholesky)
    whitening = np.sqrt(0.5) * root_precisions * frame.scale
    log_determinant = np.log(np.broadcast_to(root_precisions, centers.shape)).sum(
        axis=1
    )
    log_norm = log_weights + log_determinant - n_features / 2 * LOG_2_PI
    size = padded(n_features)
    made = make_tile_params(
        frame,
        log_norm,
        pad_features(whitening, size),
        pad_features(-whitening * centers, size),
        pad_features(centers, size),
        dtype,
    )
    if n_features < PRUNING_MIN_FEATURES:
        return frame, made
    sure = sure_above(
        made.whitening[:, :n_features].astype(np.float64),
        made.centers[:, :n_features].astype(np.float64),
        made.log_norm.astype(np.float64),
        SHARE_MARGIN,
    )
    return frame, made._replace(sure_above=sure.astype(dtype))


def _by_feature(values):
    """Return (K, D) or (K,) values so that they broadcast against (K, D)."""
    return values if values.ndim == 2 else values[:, None]


def diag_from_variances(means, variances):
    """Return parameters with the given means and the same variances for all."""
    variances = np.repeat(variances[None], means.shape[0], axis=0)
    return GaussianParams(means, variances, 1 / np.sqrt(variances))


def spherical_from_variances(means, variances):
    """Return parameters with the given means and the average of the variances."""
    variances = np.full(means.shape[0], variances.mean())
    return GaussianParams(means, variances, 1 / np.sqrt(variances))


def slots(params, n_slots):
    """Return zeroed sums for each of ``n_slots`` parts."""
    n_components, n_features = params.means.shape
    shape = (n_slots, n_components, padded(n_features))
    return GaussianSlots(
        np.zeros(n_slots),
        np.zeros(n_slots),
        np.zeros((n_slots, n_components)),
        np.zeros(shape),
        np.zeros(shape),
    )


def statistics(params, frame, tile_params, slots):
    """Add the slots and return the sums in data units about the means."""
    n_features = params.means.shape[1]
    total = add_slots(slots)
    first = total.first[:, :n_features] * frame.scale
    second = total.second[:, :n_features] * frame.scale**2
    shift = drift(params, tile_params, frame, n_features)
    first, second = moved_sums(total.weight, first, second, shift)
    return GaussianStatistics(
        float(total.log_likelihood),
        float(total.total_weight),
        total.weight,
        first,
        second,
    )


def moved_sums(weight, first, second, shift):
    """Return the sums about points moved by a shift, (K, D)."""
    moved = first - weight[:, None] * shift
    return moved, second - (first + moved) * shift


def _variances(statistics, params):
    """Return new means, raw variances by feature, weights in use, empty components."""
    means, shift, weight, empty = moved_means(statistics, params)
    return means, statistics.second / weight[:, None] - shift**2, empty


def maximize_diag(statistics, params, regularization):
    """Return the likeliest parameters and which components were repaired."""
    means, variances, empty = _variances(statistics, params)
    spread = pooled_variance(statistics.weight, means, variances)
    variances += regularization.reg_covar
    floor = variance_floor(means, spread, regularization.eps)
    repaired = empty | (variances < floor).any(axis=1)
    variances = np.where(
        empty[:, None], params.covariances, np.maximum(variances, floor)
    )
    return GaussianParams(means, variances, 1 / np.sqrt(variances)), repaired


def maximize_spherical(statistics, params, regularization):
    """Return the likeliest parameters and which components were repaired."""
    means, by_feature, empty = _variances(statistics, params)
    spread = pooled_variance(statistics.weight, means, by_feature)
    variances = by_feature.mean(axis=1) + regularization.reg_covar
    floor = variance_floor(means, spread, regularization.eps).mean(axis=1)
    repaired = empty | (variances < floor)
    variances = np.where(empty, params.covariances, np.maximum(variances, floor))
    return GaussianParams(means, variances, 1 / np.sqrt(variances)), repaired


DIAG = Family(
    "diag",
    NARROW_TILES,
    diag_from_variances,
    tile_params,
    slots,
    statistics,
    maximize_diag,
    partial(recenter, moved_sums),
    partial(diag_from_variances, np.zeros((1, 1)), np.ones(1)),
    WIDE_TILES,
)

SPHERICAL = Family(
    "spherical",
    NARROW_TILES,
    spherical_from_variances,
    tile_params,
    slots,
    statistics,
    maximize_spherical,
    partial(recenter, moved_sums),
    partial(spherical_from_variances, np.zeros((1, 1)), np.ones(1)),
    WIDE_TILES,
)
