"""Tile functions of k-means: nearest centres, sums of clusters, seeding potentials."""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.tiles import LANES, STRIDE


@tile_function
def add_to_clusters(X, start, stop, origin, best, tile_weight, sums, weight):
    """Add each row, less the origin, to the sums of its cluster."""
    for b in range(stop - start):
        k = np.int64(best[b])
        w = tile_weight[b]
        weight[k] += w
        for i in range(origin.size):
            sums[k, i] += w * (X[start + b, i] - origin[i])


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
