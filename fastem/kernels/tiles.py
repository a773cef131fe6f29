"""Tiles: a few hundred rows turned on their side, so that inner loops run over rows.

A tile holds ``LANES`` rows of data as the lanes of vectors: feature ``i`` of row ``b``
lies at ``tile[i * STRIDE + b]``. Every inner loop then has stride one and a constant
trip count, and LLVM vectorises it. Short tiles are filled up with zeros.
"""

import numpy as np

from fastem.compile import tile_function

LANES = 256
# Rows of a tile must not lie a power of two apart: loads and stores that agree in their
# low twelve address bits wait for each other (measured: 85 to 110 GF/s at D = 128).
STRIDE = LANES + 16

# Rows are cut into at most so many parts, each with a slot of its own for sums,
# whatever the number of threads; 48 share evenly among 2, 3, 4, 6, 8, 12, 16, 24 or 48.
MAX_PARTS = 48


def padded(size, block=2):
    """Return the size rounded up to a multiple of the block."""
    return -(-size // block) * block


@tile_function
def part_tiles(n_rows, n_parts, part):
    """Return the first tile of a part of the rows and the first after it."""
    n_tiles = (n_rows + LANES - 1) // LANES
    return part * n_tiles // n_parts, (part + 1) * n_tiles // n_parts


@tile_function
def load_tile(X, start, stop, origin, inverse_scale, tile):
    """Copy rows start..stop of X into the tile, centred on the origin and scaled.

    Wide rows are read one by one, as memory prefetches them (measured at D = 128: 0.77
    against 1.0 ns an element), narrow ones sixteen at a time, which is less to do.
    """
    n_features = X.shape[1]
    n_rows = stop - start
    n_whole = n_rows // 16 * 16 if n_features < 16 else 0
    if n_features >= 16:
        for b in range(n_rows):
            for i in range(n_features):
                value = (X[start + b, i] - origin[i]) * inverse_scale[i]
                tile[i * STRIDE + b] = value
    for begin in range(0, n_whole, 16):
        rows = X[start + begin : start + begin + 16]
        for i in range(n_features):
            shift = origin[i]
            factor = inverse_scale[i]
            lanes = tile[i * STRIDE + begin : i * STRIDE + LANES]
            for b in range(16):
                lanes[b] = (rows[b, i] - shift) * factor
    for i in range(n_features):
        lanes = tile[i * STRIDE : i * STRIDE + LANES]
        if n_features < 16:
            for b in range(n_whole, n_rows):
                lanes[b] = (X[start + b, i] - origin[i]) * inverse_scale[i]
        for b in range(n_rows, LANES):
            lanes[b] = 0


@tile_function
def load_weights(sample_weight, start, stop, tile_weight):
    """Copy the weights of rows start..stop; ones where there are none, then zeros."""
    n_rows = stop - start
    if sample_weight.size == 0:
        for b in range(n_rows):
            tile_weight[b] = 1
    else:
        for b in range(n_rows):
            tile_weight[b] = sample_weight[start + b]
    for b in range(n_rows, LANES):
        tile_weight[b] = 0


@tile_function
def fill_rows(values, out):
    """Set every lane of row k to ``values[k]``."""
    for k in range(values.size):
        row = out[k * STRIDE : k * STRIDE + LANES]
        for b in range(LANES):
            row[b] = values[k]


@tile_function
def lane_sum(values, n_lanes):
    """Return the sum of the first lanes."""
    total = values.dtype.type(0)
    for b in range(n_lanes):
        total += values[b]
    return total


@tile_function
def count_positive(values):
    """Return how many lanes are above zero."""
    count = np.int64(0)
    for b in range(LANES):
        count += values[b] > 0
    return count
