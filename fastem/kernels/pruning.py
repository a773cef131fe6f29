"""Log densities only where they can matter.

The squared norm of a whitened row is a sum that grows feature by feature, so its first
few terms bound a component's density from above. Where that bound lies so far below the
density of the row's likeliest component that the responsibility would be lost in
rounding, the other terms are not computed.
"""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.products import NARROW, WIDE
from fastem.kernels.responsibilities import best_components
from fastem.kernels.sparse import list_positive
from fastem.kernels.tiles import LANES, STRIDE, fill_rows

# exp(-MARGIN) is less than the share of a row that is negligible.
MARGIN = 40.0
NARROW_LANES = 16 * len(NARROW)
# Where pruning spared less than half the work, so many tiles go without it.
REST = 15


@tile_function
def relevant_log_density(subtract_norm, tile_params, scratch, out):
    """Set joint log densities, -inf where a component is negligible for a row.

    ``subtract_norm(whitening, shift, n_features, tile, work, out, width)`` subtracts
    the first ``n_features`` terms of a component's norm.
    """
    n_components = tile_params.log_norm.size
    whitening, shift = tile_params.whitening, tile_params.shift
    log_norm, tile, work = tile_params.log_norm, scratch.tile, scratch.work
    largest, best, lanes = scratch.largest, scratch.best, scratch.lanes
    # The bound must outweigh the likeliest component's own terms, about one a feature.
    n_leading = 4 * (tile_params.centers.shape[1] // 16 + 1)
    fill_rows(log_norm, out)
    for k in range(n_components):
        p = out[k * STRIDE : k * STRIDE + LANES]
        subtract_norm(whitening[k], shift[k], n_leading, tile, work, p, WIDE)
    best_components(out, n_components, largest, best)

    ends = scratch.ends
    _sort_lanes(best, lanes, ends)
    begin = 0
    for k in range(n_components):
        p = out[k * STRIDE : k * STRIDE + LANES]
        chosen = lanes[begin : ends[k]]
        _finish(subtract_norm, whitening[k], shift[k], log_norm[k], chosen, scratch, p)
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
        chosen = lanes[:count]
        _finish(subtract_norm, whitening[k], shift[k], log_norm[k], chosen, scratch, p)
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


@tile_function
def _finish(subtract_norm, whitening, shift, log_norm, lanes, scratch, p):
    """Replace bounds by log densities in the given lanes of one component."""
    if lanes.size == 0:
        return
    n_features = shift.size
    value = scratch.roots
    if lanes.size > LANES // 2:
        for b in range(LANES):
            value[b] = log_norm
        subtract_norm(
            whitening, shift, n_features, scratch.tile, scratch.work, value, WIDE
        )
        for n in range(lanes.size):
            p[lanes[n]] = value[lanes[n]]
        return
    gathered = scratch.gathered
    for begin in range(0, lanes.size, NARROW_LANES):
        chosen = lanes[begin : begin + NARROW_LANES]
        for i in range(n_features):
            x = scratch.tile[i * STRIDE : i * STRIDE + LANES]
            row = gathered[i * STRIDE : i * STRIDE + LANES]
            for n in range(chosen.size):
                row[n] = x[chosen[n]]
        for b in range(NARROW_LANES):
            value[b] = log_norm
        subtract_norm(
            whitening, shift, n_features, gathered, scratch.work, value, NARROW
        )
        for n in range(chosen.size):
            p[chosen[n]] = value[n]
