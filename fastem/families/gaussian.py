"""What the four Gaussian families share: parameters, coordinates, statistics, repair.

Kernels see the data in *tile coordinates*: centred on an origin among the means and
scaled by a power of two per feature. That keeps float32 exact far from the origin and
squares in range for features of any scale, and costs one multiplication an element.
"""

from typing import NamedTuple

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.tiles import load_tile

LOG_2_PI = np.log(2 * np.pi)
# A component holding less of the total weight than this is empty.
EMPTY_SHARE = 10 * np.finfo(np.float64).eps
# Variance of a feature that is constant in the whole data: scikit-learn's reg_covar.
CONSTANT_VARIANCE = 1e-6
# Its root and the inverse of that are far from overflow.
SMALLEST_VARIANCE = 1e-300


class GaussianParams(NamedTuple):
    """Parameters in data units; shapes of the last two follow the covariance type.

    ``precisions_cholesky`` is upper triangular with
    ``precision = precisions_cholesky @ precisions_cholesky.T`` (its square root where
    the covariance is a diagonal).
    """

    means: np.ndarray  # (K, D)
    covariances: np.ndarray
    precisions_cholesky: np.ndarray


class GaussianTileParams(NamedTuple):
    """Parameters in tile coordinates, sizes padded, halving of squares folded in.

    ``log p(x, k) = log_norm[k] + log_offset - |x @ whitening[k] + shift[k]|**2``, or
    ``x * whitening[k]`` where that is a diagonal.
    """

    origin: np.ndarray  # (D,)
    inverse_scale: np.ndarray  # (D,)
    log_offset: np.ndarray  # (1,), float64
    log_norm: np.ndarray  # (K,)
    whitening: np.ndarray
    shift: np.ndarray  # (K, D)
    centers: np.ndarray  # (K, D)
    sure_above: np.ndarray  # (K,): log densities that leave nothing to others


class GaussianSlots(NamedTuple):
    """Sums over the rows of each part, about the centres, in tile coordinates."""

    log_likelihood: np.ndarray  # (P,)
    total_weight: np.ndarray  # (P,)
    weight: np.ndarray  # (P, K)
    first: np.ndarray  # (P, K, D): sum of r (x - c)
    second: np.ndarray  # (P, ...): sum of r (x - c)(x - c)^T, as the family packs it


class GaussianStatistics(NamedTuple):
    """Sums over rows, about the means they were computed from, in data units."""

    log_likelihood: float
    total_weight: float
    weight: np.ndarray  # (K,)
    first: np.ndarray  # (K, D)
    second: np.ndarray


class Regularization(NamedTuple):
    """What the M-step adds and what it holds to be lost in rounding."""

    reg_covar: float
    eps: float  # relative spacing of the data's floating-point type


# ------------------------------------------------------------------- tile functions


@tile_function
def load(X, start, stop, tile_params, scratch):
    """Fetch a tile of rows in tile coordinates; padded features stay zero."""
    load_tile(
        X, start, stop, tile_params.origin, tile_params.inverse_scale, scratch.tile
    )


# ---------------------------------------------------------------- tile coordinates


class TileFrame(NamedTuple):
    """The map from data units to tile coordinates."""

    origin: np.ndarray
    scale: np.ndarray

    def to_tile(self, points):
        """Return points, (K, D), in tile coordinates."""
        return (points - self.origin) / self.scale

    def from_tile(self, points):
        """Return points, (K, D), in data units."""
        return points * self.scale + self.origin


def tile_frame(means, variances, dtype):
    """Choose an origin among the means and a power of two near each feature's spread.

    The middle mean of each feature, unlike their average, is not dragged from the data
    by one component on an outlier.
    """
    middle = np.sort(means, axis=0)[means.shape[0] // 2]
    origin = middle.astype(dtype).astype(np.float64)
    spread = np.maximum(np.abs(means - origin), np.sqrt(variances)).max(axis=0)
    largest = np.finfo(dtype).maxexp - 2
    exponent = np.clip(np.frexp(spread)[1], -largest, largest)
    return TileFrame(origin, np.where(spread > 0, np.ldexp(1.0, exponent), 1.0))


def pad_features(array, size):
    """Return the array with zeros appended up to ``size`` along the last axis."""
    # By hand, as np.pad takes 20 µs, which calls of short sequences would feel.
    padded = np.zeros((*array.shape[:-1], size), array.dtype)
    padded[..., : array.shape[-1]] = array
    return padded


def make_tile_params(frame, log_norm, whitening, shift, centers, dtype):
    """Cast to the kernels' dtype; the largest normaliser is kept apart in float64.

    No component is ever sure of a row.
    """
    offset = np.max(log_norm, initial=-np.inf)
    offset = offset if np.isfinite(offset) else 0.0
    return GaussianTileParams(
        frame.origin.astype(dtype),
        (1.0 / frame.scale).astype(dtype),
        np.array([offset]),
        (log_norm - offset).astype(dtype),
        np.ascontiguousarray(whitening, dtype),
        np.ascontiguousarray(shift, dtype),
        np.ascontiguousarray(centers, dtype),
        np.full(len(log_norm), np.inf, dtype),
    )


def drift(params, tile_params, frame, n_features):
    """Return how far the means lie from the rounded centres, (K, D), in data units."""
    centers = tile_params.centers[:, :n_features].astype(np.float64)
    return params.means - frame.from_tile(centers)


def add_slots(slots):
    """Add the slots in their order, which does not depend on the number of threads."""
    return type(slots)(*(field.sum(axis=0) for field in slots))


def recenter(moved_sums, statistics, params, new_params):
    """Return sums about the means of ``params`` as sums about those of ``new_params``.

    ``moved_sums(weight, first, second, shift)`` knows how a family packs the second.
    """
    first, second = moved_sums(
        statistics.weight,
        statistics.first,
        statistics.second,
        new_params.means - params.means,
    )
    return statistics._replace(first=first, second=second)


# ------------------------------------------------------------------ maximisation


def moved_means(statistics, params):
    """Return the new means, their shift, the weights in use and the empty components.

    An empty component keeps its mean, which is what EM's limit of no data says.
    """
    empty = statistics.weight <= EMPTY_SHARE * statistics.total_weight
    weight = np.where(empty, 1.0, statistics.weight)
    shift = np.where(empty[:, None], 0.0, statistics.first / weight[:, None])
    return params.means + shift, shift, weight, empty


def variance_floor(means, spread, eps):
    """Return the variance, per component and feature, that rounding alone explains.

    ``spread`` is the variance of each feature over all components: a feature constant
    in the whole data gets a nominal variance, for its scale is unknown.
    """
    rounding = (4 * eps * np.maximum(np.abs(means), np.sqrt(spread))) ** 2
    constant = np.where(spread > 0, SMALLEST_VARIANCE, CONSTANT_VARIANCE)
    return np.maximum(rounding, constant)


def pooled_variance(weight, means, variances):
    """Return each feature's variance over the whole mixture, (D,)."""
    share = weight / weight.sum()
    center = share @ means
    # Rounding may leave a variance of nothing below zero.
    return np.maximum(share @ (variances + (means - center) ** 2), 0.0)
