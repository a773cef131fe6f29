"""Accumulation that works only where responsibilities are not negligible.

The moments of a component need, of each row, ``sqrt(r) * (x - c)`` alone: products of
two of these are the second moments, products with ``sqrt(r)`` the first. Where most
lanes count, the whole tile goes at once; elsewhere the lanes that count are gathered
per component, until ``PENDING`` of them fill a block worth a vectorised pass.
"""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.tiles import LANES, STRIDE, count_positive, lane_sum

PENDING = 64
PENDING_STRIDE = PENDING + 8
# With more lanes than this the whole tile is less work than gathering.
GATHER_MAX_LANES = LANES // 2


@tile_function
def accumulate_components(
    add_tile,
    add_rows,
    min_features,
    centers,
    tile,
    responsibilities,
    scratch,
    slots,
    slot,
):
    """Add the weight and the first and second moments about each centre to a slot.

    ``add_tile(tile, center, r, scratch, first, second)`` adds a whole tile's moments,
    ``add_rows(rows, n_lanes, second)`` the second moments of gathered lanes. With fewer
    than ``min_features`` nothing is gathered.
    """
    n_components, n_features = centers.shape
    for k in range(n_components):
        r = responsibilities[k * STRIDE : k * STRIDE + LANES]
        count = count_positive(r)
        if count == 0:
            continue
        slots.weight[slot, k] += lane_sum(r, LANES)
        first, second = slots.first[slot, k], slots.second[slot, k]
        if n_features < min_features or count > GATHER_MAX_LANES:
            add_tile(tile, centers[k], r, scratch, first, second)
            continue
        lanes = scratch.lanes
        count = 0
        for b in range(LANES):
            lanes[count] = b
            count += r[b] > 0
        for n in range(count):
            scratch.roots[n] = np.sqrt(r[lanes[n]])
        done = 0
        while done < count:
            held = scratch.held[k]
            taken = min(count - done, PENDING - held)
            _gather(
                tile,
                centers[k],
                lanes[done : done + taken],
                scratch.roots[done : done + taken],
                scratch.pending[k, :, held:],
                first,
            )
            done += taken
            scratch.held[k] = held + taken
            if held + taken == PENDING:
                add_rows(scratch.pending[k], PENDING, second)
                scratch.held[k] = 0


@tile_function
def flush_components(add_rows, scratch, slots, slot):
    """Add the lanes that still wait in the pending blocks."""
    for k in range(scratch.held.size):
        if scratch.held[k] > 0:
            add_rows(scratch.pending[k], scratch.held[k], slots.second[slot, k])
            scratch.held[k] = 0


@tile_function
def _gather(tile, center, lanes, roots, rows, first):
    for i in range(center.size):
        c = center[i]
        x = tile[i * STRIDE : i * STRIDE + LANES]
        total = roots.dtype.type(0)
        for n in range(lanes.size):
            y = roots[n] * (x[lanes[n]] - c)
            rows[i, n] = y
            total += roots[n] * y
        first[i] += total
