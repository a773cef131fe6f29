"""K-means: hard EM with one spherical covariance shared by all components.

With equal weights and one variance, the likeliest component is the nearest centre and
the M-step is a mean, so the E-step here is a matrix product and an argmax: centres are
compared by ``x @ c - |c|**2 / 2`` in coordinates centred on the data.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import typeof, types

from fastem.compile import (
    data_type,
    parallel_kernel,
)
from fastem.families.gaussian import TileFrame, pad_features, tile_frame
from fastem.kernels.kmeans import (
    MASKED_MAX_SIZE,
    add_rows,
    add_tile,
    allocate_nearest,
    distances_to_best,
    distances_to_point,
    set_nearest,
)
from fastem.kernels.memory import empty, zeros
from fastem.kernels.pruning import ROUNDING
from fastem.kernels.responsibilities import weighted_sum
from fastem.kernels.tiles import (
    LANES,
    MAX_PARTS,
    STRIDE,
    load_tile,
    load_weights,
    padded,
    part_tiles,
)
from fastem.lowering import unpack


class Centers(NamedTuple):
    """Centres, and the tile coordinates of all iterations from their start on.

    They are the same ones throughout, so that centres rest to the bit where labels do.
    """

    centers: np.ndarray  # (K, D)
    frame: TileFrame


class ClusterSums(NamedTuple):
    """Sums over the rows of each cluster, in tile coordinates; in kernels, by parts."""

    sums: np.ndarray  # (K, D)
    weight: np.ndarray  # (K,)


class Inertia(NamedTuple):
    """Weighted squared distances of rows to their centres, and rows of each cluster."""

    inertia: float
    n_rows: np.ndarray  # (K,)


class Assignment(NamedTuple):
    """Each row's nearest centre and squared distance to it; size zero: not computed.

    Distances are in units of the tile, inertia sums them with weights, part by part.
    """

    labels: np.ndarray  # (N,), int32
    distances: np.ndarray  # (N,)
    inertia: np.ndarray  # (P,)


class CenterTiles(NamedTuple):
    """Centres in tile coordinates, sizes padded to multiples of four."""

    origin: np.ndarray  # (D,)
    inverse_scale: np.ndarray  # (D,)
    centers: np.ndarray  # (K, D)
    half_norms: np.ndarray  # (K,), minus half the squared norms; -inf in the padding
    float32_centers: np.ndarray
    float32_half_norms: np.ndarray
    doubt: np.ndarray  # (2,), of a score in float32: a constant, and beside |x|


def e_step(params, X, sample_weight):
    """Return the sums of rows by their nearest centres.

    S. P. Lloyd, *IEEE Trans. Inf. Theory* 28 (1982), 129-137.

    Parameters
    ----------
    params : Centers
    X : ndarray of shape (N, D), float32 or float64
    sample_weight : ndarray of shape (N,), of size zero for ones

    Returns
    -------
    ClusterSums
        They add over blocks.
    """
    centers, frame = params
    tiles = _center_tiles(centers, frame, X.dtype)
    n_parts = _count_parts(X)
    parts = ClusterSums(
        np.zeros((n_parts, *centers.shape)), np.zeros((n_parts, len(centers)))
    )
    make_lloyd(X.dtype.name)(n_parts, X, sample_weight, tiles, parts)
    return ClusterSums(parts.sums.sum(axis=0), parts.weight.sum(axis=0))


def m_step(statistics, params):
    """Return the means of clusters, (K, D); a centre without rows stays."""
    means = params.centers.copy()
    filled = statistics.weight > 0
    sums, weight = statistics.sums[filled], statistics.weight[filled]
    means[filled] = params.frame.from_tile(sums / weight[:, None])
    return means


def measure(centers, X, sample_weight):
    """Return the inertia of rows about given centres, (K, D)."""
    labels, _, inertia = assign(X, sample_weight, centers, labels=True)
    return Inertia(inertia, np.bincount(labels, minlength=len(centers)))


def assign(X, sample_weight, centers, *, labels=False, distances=False):
    """Return labels, squared distances to the nearest centres, and the inertia.

    Distances are in units of the tile, where they cannot overflow.
    """
    frame = centers_frame(centers, X.dtype)
    tiles = _center_tiles(centers, frame, X.dtype)
    n_parts = _count_parts(X)
    out = Assignment(
        np.empty(X.shape[0] if labels else 0, np.int32),
        np.empty(X.shape[0] if distances else 0, X.dtype),
        np.zeros(n_parts),
    )
    make_assign(X.dtype.name)(n_parts, X, sample_weight, tiles, out)
    inertia = float(out.inertia.sum() * frame.scale[0] ** 2)
    return out.labels, out.distances, inertia


class Seeder:
    """Squared distances of rows to the nearest seed chosen so far, and potentials."""

    def __init__(self, X, sample_weight):
        self._X, self._weight = X, sample_weight
        corners = np.stack([X.min(axis=0), X[len(X) // 2], X.max(axis=0)])
        corners = corners.astype(np.float64)
        self._frame = _isotropic(tile_frame(corners, np.zeros((1, 1)), X.dtype))
        self.closest = np.full(X.shape[0], np.finfo(X.dtype).max, X.dtype)

    def add(self, index):
        """Make a row a seed."""
        self._run([index], True)

    def potentials(self, indices):
        """Return the weighted sum of distances were each of the rows a seed, too."""
        return self._run(indices, False)

    def _run(self, indices, update):
        dtype = self._X.dtype
        points = self._frame.to_tile(self._X[indices].astype(np.float64)).astype(dtype)
        sums = np.zeros((_count_parts(self._X), len(points)))
        make_seeding(dtype.name)(
            len(sums),
            self._X,
            self._weight,
            self._frame.origin.astype(dtype),
            (1 / self._frame.scale).astype(dtype),
            points,
            np.int64(update),
            self.closest,
            sums,
        )
        return sums.sum(axis=0)


def _count_parts(X):
    return min(-(-X.shape[0] // LANES), MAX_PARTS)


def _isotropic(frame):
    """Return the frame with one scale for all features, which keeps distances."""
    return TileFrame(frame.origin, np.full_like(frame.scale, frame.scale.max()))


def centers_frame(centers, dtype):
    """Return tile coordinates about the given centres."""
    return _isotropic(tile_frame(centers, np.zeros_like(centers), dtype))


def _center_tiles(centers, frame, dtype):
    n_clusters, n_features = centers.shape
    tile_centers = pad_features(frame.to_tile(centers), padded(n_features, 4))
    rows = padded(n_clusters, 4) - n_clusters
    half_norms = -0.5 * (tile_centers**2).sum(axis=1)
    tile_centers = np.pad(tile_centers, [(0, rows), (0, 0)])
    longest = np.sqrt(-2 * half_norms.min())
    half_norms = np.pad(half_norms, (0, rows), constant_values=-np.inf)
    # A score of n products is wrong by (n + 3) roundings of |c| |x| + |c|**2 / 2 at
    # most, and so is the one it leads; in float32 this is itself rounded.
    doubt = 2.1 * (tile_centers.shape[1] + 3) * ROUNDING * longest
    underflow = np.finfo(np.float32).tiny
    # What is beyond float32 leaves rows in doubt.
    with np.errstate(over="ignore"):
        return CenterTiles(
            frame.origin.astype(dtype),
            (1 / frame.scale).astype(dtype),
            tile_centers.astype(dtype),
            half_norms.astype(dtype),
            tile_centers.astype(np.float32),
            half_norms.astype(np.float32),
            np.array([doubt * longest / 2 + underflow, doubt], np.float32),
        )


def _example_tiles(dtype):
    center = np.zeros((1, 1))
    return _center_tiles(center, centers_frame(center, dtype), dtype)


@functools.cache
def make_lloyd(dtype):
    """Build the kernel that finds nearest centres and sums their rows."""
    arguments = (
        data_type(dtype, 2),
        data_type(dtype, 1),
        typeof(_example_tiles(np.dtype(dtype))),
        typeof(ClusterSums(np.zeros((1, 1, 1)), np.zeros((1, 1)))),
    )
    exact = dtype == "float64"

    @parallel_kernel(*arguments)
    def add_part(packed, part):
        X, sample_weight, tiles, clusters = unpack(packed)
        scratch = allocate_nearest(tiles.centers)
        tile_weight = empty(LANES, X.dtype)
        sums, weight = clusters.sums[part], clusters.weight[part]
        small = sums.size <= MASKED_MAX_SIZE
        first, last = part_tiles(X.shape[0], clusters.weight.shape[0], part)
        for t in range(first, last):
            start = t * LANES
            stop = min(start + LANES, X.shape[0])
            load_weights(sample_weight, start, stop, tile_weight)
            set_nearest(X, start, stop, tiles, scratch, exact and not small)
            if small:
                add_tile(scratch, tile_weight, sums, weight)
            else:
                add_rows(X, start, stop, tiles, scratch.best, tile_weight, sums, weight)

    return add_part


@functools.cache
def make_assign(dtype):
    """Build the kernel that labels rows and measures them against their centres."""
    arguments = (
        data_type(dtype, 2),
        data_type(dtype, 1),
        typeof(_example_tiles(np.dtype(dtype))),
        typeof(Assignment(np.empty(0, np.int32), np.empty(0, dtype), np.empty(0))),
    )

    @parallel_kernel(*arguments)
    def assign_part(packed, part):
        X, sample_weight, tiles, out = unpack(packed)
        n_features = tiles.centers.shape[1]
        scratch = allocate_nearest(tiles.centers)
        tile, best = scratch.tile, scratch.best
        tile_weight = empty(LANES, X.dtype)
        distance = empty(LANES, X.dtype)
        first, last = part_tiles(X.shape[0], out.inertia.size, part)
        for t in range(first, last):
            start = t * LANES
            stop = min(start + LANES, X.shape[0])
            load_weights(sample_weight, start, stop, tile_weight)
            set_nearest(X, start, stop, tiles, scratch, False)
            distances_to_best(tile, n_features, tiles.centers, best, distance)
            out.inertia[part] += weighted_sum(distance, tile_weight)
            if out.labels.size > 0:
                for b in range(stop - start):
                    out.labels[start + b] = np.int32(best[b])
            if out.distances.size > 0:
                for b in range(stop - start):
                    out.distances[start + b] = distance[b]

    return assign_part


@functools.cache
def make_seeding(dtype):
    """Build the kernel of k-means++: distances to points beside the closest so far."""
    arguments = (
        data_type(dtype, 2),
        data_type(dtype, 1),
        typeof(np.empty(1, dtype)),
        typeof(np.empty(1, dtype)),
        typeof(np.empty((1, 1), dtype)),
        types.int64,
        typeof(np.empty(1, dtype)),
        typeof(np.empty((1, 1))),
    )

    @parallel_kernel(*arguments)
    def seed_part(packed, part):
        X, sample_weight, origin, inverse_scale, points, update, closest, sums = unpack(
            packed
        )
        tile = zeros(X.shape[1] * STRIDE, X.dtype)
        tile_weight = empty(LANES, X.dtype)
        tile_closest = zeros(LANES, X.dtype)
        distance = empty(LANES, X.dtype)
        first, last = part_tiles(X.shape[0], sums.shape[0], part)
        for t in range(first, last):
            start = t * LANES
            stop = min(start + LANES, X.shape[0])
            load_tile(X, start, stop, origin, inverse_scale, tile)
            load_weights(sample_weight, start, stop, tile_weight)
            for b in range(stop - start):
                tile_closest[b] = closest[start + b]
            for j in range(points.shape[0]):
                distances_to_point(tile, points[j], distance)
                for b in range(LANES):
                    distance[b] = min(distance[b], tile_closest[b])
                sums[part, j] += weighted_sum(distance, tile_weight)
                if update:
                    for b in range(stop - start):
                        closest[start + b] = distance[b]

    return seed_part
