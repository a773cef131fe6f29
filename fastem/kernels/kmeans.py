"""Tile functions of k-means: nearest centres, sums of clusters, seeding potentials."""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.products import (
    WIDE,
    multiply_four,
)
from fastem.kernels.tiles import (
    LANES,
    STRIDE,
)

# Up to so many sums, a masked pass over the tile for each beats adding row by row.
MASKED_MAX_SIZE = 32


@tile_function
def nearest(centers, half_norms, tile, scores, largest, best):
    """Set each lane's largest ``x @ c - |c|**2 / 2`` and the first centre to reach it.

    Both sizes of ``centers`` are multiples of four; ``scores`` holds four rows, so that
    they stay in the first cache however many centres there are.
    """
    n_centers, n_features = centers.shape
    for b in range(LANES):
        largest[b] = -np.inf
        best[b] = 0
    for row in range(0, n_centers, 4):
        multiply_four(centers, half_norms, row, n_features, tile, scores, WIDE)
        first = best.dtype.type(row)
        one = best.dtype.type(1)
        for b in range(LANES):
            record, holder = largest[b], best[b]
            s0, s1 = scores[b], scores[STRIDE + b]
            s2, s3 = scores[2 * STRIDE + b], scores[3 * STRIDE + b]
            holder = first if s0 > record else holder
            record = s0 if s0 > record else record
            holder = first + one if s1 > record else holder
            record = s1 if s1 > record else record
            holder = first + one + one if s2 > record else holder
            record = s2 if s2 > record else record
            holder = first + one + one + one if s3 > record else holder
            record = s3 if s3 > record else record
            largest[b] = record
            best[b] = holder


@tile_function
def add_to_clusters(X, start, stop, tiles, tile, best, tile_weight, sums, weight):
    """Add the tile's rows to the sums of their clusters, in tile coordinates."""
    n_clusters, n_features = sums.shape
    if n_clusters * n_features <= MASKED_MAX_SIZE:
        for k in range(n_clusters):
            center = best.dtype.type(k)
            total = tile_weight.dtype.type(0)
            for b in range(LANES):
                total += (
                    tile_weight[b] if best[b] == center else tile_weight.dtype.type(0)
                )
            weight[k] += total
            for i in range(n_features):
                x = tile[i * STRIDE : i * STRIDE + LANES]
                total = x.dtype.type(0)
                for b in range(LANES):
                    w = tile_weight[b] * x[b]
                    total += w if best[b] == center else x.dtype.type(0)
                sums[k, i] += total
        return
    origin, inverse_scale = tiles.origin, tiles.inverse_scale
    for b in range(stop - start):
        k = np.int64(best[b])
        w = tile_weight[b]
        weight[k] += w
        for i in range(n_features):
            sums[k, i] += w * ((X[start + b, i] - origin[i]) * inverse_scale[i])


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
