"""Tile functions of k-means: nearest centres, sums of clusters, seeding potentials."""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.lanes import WIDE
from fastem.kernels.products import add_block_product
from fastem.kernels.tiles import LANES, STRIDE, prefetch_rows

# Up to so many sums, masked passes over the tile beat adding row by row.
MASKED_MAX_SIZE = 32


@tile_function
def nearest(centers, half_norms, tile, scores, largest, best, X, following):
    """Set each lane's largest ``x @ c - |c|**2 / 2`` and the first centre to reach it.

    Both sizes of ``centers`` are multiples of four; ``scores`` holds four rows, so that
    they stay in the first cache however many centres there are. Meanwhile the rows of X
    from ``following`` on, those of the next tile, are on their way from memory.
    """
    n_centers, n_features = centers.shape
    n_blocks = n_centers * n_features // 16
    for b in range(LANES):
        largest[b] = -np.inf
        best[b] = 0
    for block in range(n_blocks):
        row = block // (n_features // 4) * 4
        column = block % (n_features // 4) * 4
        prefetch_rows(
            X,
            following + LANES * block // n_blocks,
            following + LANES * (block + 1) // n_blocks,
        )
        if n_features == 4:
            _keep_larger_of_one_block(centers, half_norms, row, tile, largest, best)
        elif column == 0:
            _set_first_block(centers, half_norms, row, tile, scores)
        elif column + 4 < n_features:
            add_block_product(centers, row, column, tile, scores, WIDE)
        else:
            _keep_larger_with_last_block(
                centers, row, column, tile, scores, largest, best
            )


@tile_function
def _set_first_block(centers, half_norms, row, tile, scores):
    block = _block(centers, row, 0)
    h0, h1, h2, h3 = _four(half_norms, row)
    for b in range(LANES):
        s0, s1, s2, s3 = _block_product(block, tile, b)
        scores[b] = h0 + s0
        scores[STRIDE + b] = h1 + s1
        scores[2 * STRIDE + b] = h2 + s2
        scores[3 * STRIDE + b] = h3 + s3


@tile_function
def _keep_larger_with_last_block(centers, row, column, tile, scores, largest, best):
    block = _block(centers, row, column)
    x = tile[column * STRIDE : (column + 4) * STRIDE]
    for b in range(LANES):
        s0, s1, s2, s3 = _block_product(block, x, b)
        s0 += scores[b]
        s1 += scores[STRIDE + b]
        s2 += scores[2 * STRIDE + b]
        s3 += scores[3 * STRIDE + b]
        _keep_larger(s0, s1, s2, s3, row, b, largest, best)


@tile_function
def _keep_larger_of_one_block(centers, half_norms, row, tile, largest, best):
    block = _block(centers, row, 0)
    h0, h1, h2, h3 = _four(half_norms, row)
    for b in range(LANES):
        s0, s1, s2, s3 = _block_product(block, tile, b)
        _keep_larger(h0 + s0, h1 + s1, h2 + s2, h3 + s3, row, b, largest, best)


@tile_function
def _four(values, begin):
    return values[begin], values[begin + 1], values[begin + 2], values[begin + 3]


@tile_function
def _block(matrix, row, column):
    return (
        _four(matrix[row], column),
        _four(matrix[row + 1], column),
        _four(matrix[row + 2], column),
        _four(matrix[row + 3], column),
    )


@tile_function
def _block_product(block, x, b):
    x0, x1, x2, x3 = x[b], x[STRIDE + b], x[2 * STRIDE + b], x[3 * STRIDE + b]
    (m00, m01, m02, m03), (m10, m11, m12, m13) = block[0], block[1]
    (m20, m21, m22, m23), (m30, m31, m32, m33) = block[2], block[3]
    return (
        m00 * x0 + m01 * x1 + m02 * x2 + m03 * x3,
        m10 * x0 + m11 * x1 + m12 * x2 + m13 * x3,
        m20 * x0 + m21 * x1 + m22 * x2 + m23 * x3,
        m30 * x0 + m31 * x1 + m32 * x2 + m33 * x3,
    )


@tile_function
def _keep_larger(s0, s1, s2, s3, row, b, largest, best):
    first = best.dtype.type(row)
    one = best.dtype.type(1)
    record, holder = largest[b], best[b]
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
