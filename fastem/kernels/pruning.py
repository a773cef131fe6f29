"""Log densities only where they can matter.

The squared norm of a whitened row is a sum that grows feature by feature, so its first
few terms bound a component's density from above. Where that bound lies so far below the
density of the row's likeliest component that the responsibility would be lost in
rounding, the other terms are not computed.
"""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.lanes import WIDE
from fastem.kernels.maxima import set_best
from fastem.kernels.sparse import list_positive
from fastem.kernels.tiles import LANES, STRIDE, fill_rows

# exp(-SHARE_MARGIN) is less than the share of a row that is negligible.
SHARE_MARGIN = 40.0
# To be the likeliest takes no margin but for rounding, by which bounds may be too low.
LABEL_MARGIN = 1.0
# Where pruning spared less than half the work, so many tiles go without it.
REST = 15


@tile_function
def relevant_log_density(subtract_leading, finish, margin, tile_params, scratch, out):
    """Set joint log densities, -inf where one is further than a margin below the best.

    ``subtract_leading(k, n_leading, tile_params, scratch, p)`` subtracts the first
    terms of the norm of component k from all lanes, ``finish(k, lanes, tile_params,
    scratch, p)`` sets the log density of some.
    """
    n_components = tile_params.log_norm.size
    largest, best, lanes = scratch.largest, scratch.best, scratch.lanes
    n_leading = _count_leading(tile_params.centers.shape[1], scratch.lead[0])
    fill_rows(tile_params.log_norm, out)
    for k in range(n_components):
        p = out[k * STRIDE : k * STRIDE + LANES]
        subtract_leading(k, n_leading, tile_params, scratch, p)
    set_best(out, n_components, largest, best, WIDE)

    ends = scratch.ends
    _sort_lanes(best, lanes, ends)
    begin = 0
    for k in range(n_components):
        p = out[k * STRIDE : k * STRIDE + LANES]
        if ends[k] > begin:
            finish(k, lanes[begin : ends[k]], tile_params, scratch, p)
        begin = ends[k]
    finished = 0

    zero, nothing = largest.dtype.type(0), largest.dtype.type(-np.inf)
    for b in range(LANES):
        largest[b] = out[np.int64(best[b]) * STRIDE + b] - largest.dtype.type(margin)
    unfinished = scratch.roots
    for k in range(n_components):
        component = best.dtype.type(k)
        p = out[k * STRIDE : k * STRIDE + LANES]
        for b in range(LANES):
            value, bound, holder = p[b], largest[b], best[b]
            own = holder == component
            unfinished[b] = (value > bound) & (not own)
            # A choice between two numbers would be stored under a condition.
            p[b] = value + (zero if (value > bound) | own else nothing)
        count = list_positive(unfinished, lanes)
        if count > 0:
            finish(k, lanes[:count], tile_params, scratch, p)
            finished += count
    if 8 * finished > n_components * LANES:
        scratch.lead[0] += 4
    if 2 * (finished + LANES) > n_components * LANES:
        scratch.rest[0] = REST


@tile_function
def _count_leading(n_features, more):
    """Return how many terms to begin with, a multiple of four.

    They must outweigh the margin and the likeliest component's own terms, each about a
    half; where centres are scattered at four standard deviations, those of others are
    about sixteen, of which a third is nearly sure. For labels as many are best, for to
    finish a component costs more than to bound it.
    """
    wanted = np.int64(3 * (2 * SHARE_MARGIN + n_features) / 128 + 0.5)
    return min(4 * max(1, wanted) + more, n_features // 4 * 4)


@tile_function
def _sort_lanes(best, lanes, ends):
    """List the lanes of each component in turn; those of k end before ``ends[k]``."""
    for k in range(ends.size):
        ends[k] = 0
    for b in range(LANES):
        ends[np.int64(best[b])] += 1
    total = 0
    for k in range(ends.size):
        count = ends[k]
        ends[k] = total
        total += count
    for b in range(LANES):
        k = np.int64(best[b])
        lanes[ends[k]] = b
        ends[k] += 1
