"""Tile functions of k-means: nearest centres, sums of clusters, seeding potentials."""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.lanes import WIDE
from fastem.kernels.registers import block_lanes, set_best_product
from fastem.kernels.tiles import LANES, STRIDE, prefetch_rows

# Up to so many sums, masked passes over the tile beat adding row by row.
MASKED_MAX_SIZE = 32


@tile_function
def nearest(centers, half_norms, tile, best, X, following):
    """Set each lane's first centre of the largest ``x @ c - |c|**2 / 2``.

    Both sizes of ``centers`` are multiples of four. Meanwhile the rows of X from
    ``following`` on, those of the next tile, are on their way from memory.
    """
    step = block_lanes(tile, WIDE)
    for lane in range(0, LANES, step):
        prefetch_rows(X, following + lane, following + lane + step)
        set_best_product(centers, half_norms, tile, best, lane)


@tile_function
def add_to_clusters(X, start, stop, tiles, tile, best, tile_weight, sums, weight):
    """Add the tile's rows to the sums of their clusters, in tile coordinates."""
    n_clusters, n_features = sums.shape
    if n_clusters * n_features <= MASKED_MAX_SIZE:
        for k in range(n_clusters):
            for i in range(0, n_features, 2):
                _add_masked_pair(k, i, tile, best, tile_weight, sums, weight)
        return
    origin, scale = tiles.origin, tiles.inverse_scale[0]
    rows = X[start:stop]
    # Of unsigned indices Numba does not ask whether they count from the end, which
    # takes a third of the time here.
    for b in range(np.uint64(stop - start)):
        k = np.uint64(best[b])
        w = tile_weight[b]
        weight[k] += w
        for i in range(np.uint64(n_features)):
            sums[k, i] += w * ((rows[b, i] - origin[i]) * scale)


@tile_function
def _add_masked_pair(k, i, tile, best, tile_weight, sums, weight):
    """Add features i and i + 1 of the lanes in cluster k; past the last one is zero."""
    center = best.dtype.type(k)
    zero = tile.dtype.type(0)
    x = tile[i * STRIDE : (i + 2) * STRIDE]
    total = total0 = total1 = zero
    for b in range(LANES):
        w = tile_weight[b]
        w = w if best[b] == center else zero
        total += w
        total0 += w * x[b]
        total1 += w * x[STRIDE + b]
    sums[k, i] += total0
    if i + 1 < sums.shape[1]:
        sums[k, i + 1] += total1
    if i == 0:
        weight[k] += total


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
