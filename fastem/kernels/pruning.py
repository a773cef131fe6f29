"""Log densities only where they can matter.

The squared norm of a whitened row is a sum that grows feature by feature, so its first
few terms bound a component's density from above. Where that bound lies so far below the
density of the row's likeliest component that the responsibility would be lost in
rounding, the other terms are not computed.
"""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.responsibilities import best_components
from fastem.kernels.sparse import list_positive
from fastem.kernels.tiles import LANES, STRIDE, fill_rows

# exp(-MARGIN) is less than the share of a row that is negligible.
MARGIN = 40.0
# Where pruning spared less than half the work, so many tiles go without it.
REST = 15


@tile_function
def relevant_log_density(subtract_leading, finish, tile_params, scratch, out):
    """Set joint log densities, -inf where a component is negligible for a row.

    ``subtract_leading(k, n_leading, tile_params, scratch, p)`` subtracts the first
    terms of the norm of component k from all lanes, ``finish(k, lanes, tile_params,
    scratch, p)`` sets the log density of some.
    """
    n_components = tile_params.log_norm.size
    largest, best, lanes = scratch.largest, scratch.best, scratch.lanes
    # The bound must outweigh the likeliest component's own terms, about one a feature.
    n_leading = 4 * (tile_params.centers.shape[1] // 16 + 1)
    fill_rows(tile_params.log_norm, out)
    for k in range(n_components):
        p = out[k * STRIDE : k * STRIDE + LANES]
        subtract_leading(k, n_leading, tile_params, scratch, p)
    best_components(out, n_components, largest, best)

    ends = scratch.ends
    _sort_lanes(best, lanes, ends)
    begin = 0
    for k in range(n_components):
        p = out[k * STRIDE : k * STRIDE + LANES]
        if ends[k] > begin:
            finish(k, lanes[begin : ends[k]], tile_params, scratch, p)
        begin = ends[k]
    finished = LANES

    margin = largest.dtype.type(MARGIN)
    nothing = largest.dtype.type(-np.inf)
    for b in range(LANES):
        largest[b] = out[np.int64(best[b]) * STRIDE + b] - margin
    unfinished = scratch.roots
    for k in range(n_components):
        component = best.dtype.type(k)
        p = out[k * STRIDE : k * STRIDE + LANES]
        for b in range(LANES):
            value, bound, holder = p[b], largest[b], best[b]
            own = holder == component
            unfinished[b] = (value > bound) & (not own)
            p[b] = value if (value > bound) | own else nothing
        count = list_positive(unfinished, lanes)
        if count > 0:
            finish(k, lanes[:count], tile_params, scratch, p)
            finished += count
    if 2 * finished > n_components * LANES:
        scratch.rest[0] = REST


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
