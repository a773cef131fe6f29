"""Log densities only where they can matter.

The squared norm of a whitened row is a sum that grows feature by feature, so its first
few terms bound a component's density from above. Where that bound lies so far below the
density of the row's likeliest component that the responsibility would be lost in
rounding, the other terms are not computed. Bounds are computed in float32, at twice the
rate, and what rounding may have taken from them is added to the margin.
"""

from typing import NamedTuple

import numpy as np

from fastem.compile import allocating_function, tile_function
from fastem.kernels.lanes import WIDE
from fastem.kernels.maxima import set_best
from fastem.kernels.sparse import list_above
from fastem.kernels.tiles import LANES, STRIDE

# exp(-SHARE_MARGIN) is less than the share of a row that is negligible.
SHARE_MARGIN = 40.0
# To be the likeliest takes no margin but for rounding of the densities themselves.
LABEL_MARGIN = 1.0
# Where pruning spared less than half the work, so many tiles go without it.
REST = 15
# Up to so many lanes are looked at one by one.
FEW_LANES = LANES // 8
# Beyond this float32 may overflow.
FARTHEST = -1e30
ROUNDING = 2.0**-24


class Bounds(NamedTuple):
    """Working memory, and copies in float32 of what leads the parameters."""

    n_leading: np.ndarray  # (1,): how many features the copies have
    more: np.ndarray  # (1,): how many more than usual pruning begins with
    rest: np.ndarray  # (1,): tiles to go before pruning is tried again
    ahead: np.ndarray  # (1,): where the rows of the next tile lie, or zero
    size: np.ndarray  # (2,): largest sum of a row's entries, largest shift
    log_norm: np.ndarray  # (K,), K a multiple of four; padding is never best
    whitening: np.ndarray
    shift: np.ndarray  # (K, D)
    tile: np.ndarray
    bound: np.ndarray  # of each component and lane that is not finished
    least: np.ndarray  # what each lane's bounds must exceed
    largest: np.ndarray  # each lane's largest density so far, not in float32
    best: np.ndarray  # its component
    likely: np.ndarray  # its component of the highest bound
    second: np.ndarray  # the second highest
    lanes: np.ndarray
    open_lanes: np.ndarray  # those that more than one component may matter for
    ends: np.ndarray  # (K,)


@allocating_function
def allocate_bounds(tile_params):
    """Return the working memory of one part."""
    n_components, n_features = tile_params.centers.shape
    dtype = tile_params.centers.dtype
    n_rows = (n_components + 3) // 4 * 4
    return Bounds(
        np.zeros(1, np.int64),
        np.zeros(1, np.int64),
        np.zeros(1, np.int64),
        np.zeros(1, np.int64),
        np.zeros(2),
        np.full(n_rows, -np.inf, np.float32),
        np.zeros((n_rows, *tile_params.whitening.shape[1:]), np.float32),
        np.zeros((n_rows, n_features), np.float32),
        np.empty(n_features * STRIDE, np.float32),
        np.empty(n_rows * STRIDE, np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, dtype),
        np.empty(LANES, dtype),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.int64),
        np.empty(LANES, np.int64),
        np.empty(n_components, np.int64),
    )


@tile_function
def set_relevant(
    copy_leading, load_leading, bound, finish, log_density, tile_params, scratch, out
):
    """Set joint log densities, -inf where one is negligible beside the best.

    Of a family: ``copy_leading(n, tile_params, bounds)`` copies what leads the
    parameters, ``load_leading(n, tile_params, scratch)`` the first features of a tile;
    ``bound(k, n, bounds, p)`` sets ``p`` to the log density of component k but for the
    other terms; ``finish(k, lanes, tile_params, scratch, p)`` sets the log density of
    some lanes, and ``log_density(tile_params, scratch, out)`` all.
    """
    bounds = scratch.bounds
    if bounds.rest[0] > 0:
        bounds.rest[0] -= 1
        log_density(tile_params, scratch, out)
        return
    for k in range(tile_params.log_norm.size):
        p = out[k * STRIDE : k * STRIDE + LANES]
        for b in range(LANES):
            p[b] = -np.inf
    _bound_all(copy_leading, load_leading, bound, tile_params, scratch)
    if not _finish_all(SHARE_MARGIN, finish, tile_params, scratch, out):
        log_density(tile_params, scratch, out)


@tile_function
def set_likeliest(
    copy_leading,
    load_leading,
    bound,
    finish,
    log_density,
    tile_params,
    scratch,
    out,
    largest,
    best,
):
    """Set each lane's likeliest component, of equals the first, and its log density.

    Other log densities are not left in ``out``.
    """
    bounds = scratch.bounds
    if bounds.rest[0] > 0:
        bounds.rest[0] -= 1
        compare_all(log_density, tile_params, scratch, out, largest, best)
        return
    _bound_all(copy_leading, load_leading, bound, tile_params, scratch)
    if _finish_all(LABEL_MARGIN, finish, tile_params, scratch, out):
        for b in range(LANES):
            largest[b], best[b] = bounds.largest[b], bounds.best[b]
    else:
        compare_all(log_density, tile_params, scratch, out, largest, best)


@tile_function
def compare_all(log_density, tile_params, scratch, out, largest, best):
    """As :func:`set_likeliest`, from all log densities."""
    log_density(tile_params, scratch, out)
    set_best(out, tile_params.log_norm.size, largest, None, best, WIDE)


@tile_function
def _bound_all(copy_leading, load_leading, bound, tile_params, scratch):
    """Bound the log density of each component and lane, and find the two highest."""
    bounds = scratch.bounds
    n_components, n_features = tile_params.centers.shape
    n = _count_leading(n_features, bounds.more[0])
    if bounds.n_leading[0] != n:
        for k in range(n_components):
            bounds.log_norm[k] = tile_params.log_norm[k]
        copy_leading(n, tile_params, bounds)
        bounds.n_leading[0] = n
    load_leading(n, tile_params, scratch)
    bound(n, tile_params, bounds)


@tile_function
def _count_leading(n_features, more):
    """Return how many terms to begin with, an even number.

    They must outweigh the margin and the likeliest component's own terms, each about a
    half; where centres are scattered at four standard deviations, those of others are
    about sixteen, of which a third is nearly sure. For labels as many are best, for to
    finish a component costs more than to bound it.
    """
    wanted = np.int64(3 * (2 * SHARE_MARGIN + n_features) / 128 + 0.5)
    return min(4 * max(1, wanted) + more, n_features)


@tile_function
def _finish_all(margin, finish, tile_params, scratch, out):
    """Set the log densities that matter: of each lane first that of the highest bound.

    Return False where bounds cannot be compared; then all must be computed.
    """
    bounds = scratch.bounds
    lanes, n_components = bounds.lanes, tile_params.log_norm.size
    least = bounds.least
    _sort_lanes(bounds.likely, lanes, bounds.ends)
    begin = 0
    for k in range(n_components):
        end = bounds.ends[k]
        if end > begin:
            p = out[k * STRIDE : k * STRIDE + LANES]
            finish(k, lanes[begin:end], tile_params, scratch, p)
        begin = end
    if not _set_least(margin, bounds, out):
        bounds.rest[0] = REST
        return False
    open_lanes = bounds.open_lanes[
        : list_above(bounds.second, least, bounds.open_lanes)
    ]
    finished = 0
    for k in range(n_components if open_lanes.size > 0 else 0):
        bound = bounds.bound[k * STRIDE : k * STRIDE + LANES]
        if open_lanes.size > FEW_LANES:
            count = list_above(bound, least, lanes)
        else:
            count = 0
            for b in open_lanes:
                lanes[count] = b
                count += bound[b] > least[b]
        if count > 0:
            finished += count
            p = out[k * STRIDE : k * STRIDE + LANES]
            finish(k, lanes[:count], tile_params, scratch, p)
            _keep_better(k, p, lanes[:count], bounds)
    # Begin with more terms, or rest, where too much had to be finished.
    if 8 * finished > n_components * LANES:
        bounds.more[0] += 4
    if 2 * (finished + LANES) > n_components * LANES:
        bounds.rest[0] = REST
    return True


@tile_function
def _sort_lanes(best, lanes, ends):
    """List the lanes of each component in turn; those of k end before ``ends[k]``.

    Of unsigned indices Numba does not ask whether they count from the end.
    """
    for k in range(ends.size):
        ends[k] = 0
    for b in range(np.uint64(LANES)):
        ends[np.uint64(np.int64(best[b]))] += 1
    total = 0
    for k in range(ends.size):
        count = ends[k]
        ends[k] = total
        total += count
    for b in range(np.uint64(LANES)):
        k = np.uint64(np.int64(best[b]))
        end = ends[k]
        lanes[np.uint64(end)] = b
        ends[k] = end + 1


@tile_function
def _keep_better(k, p, lanes, bounds):
    """Note where component k is likelier than those before, or as likely as a later."""
    largest, best = bounds.largest, bounds.best
    for b in lanes:
        if (p[b] > largest[b]) | ((p[b] == largest[b]) & (k < best[b])):
            largest[b], best[b] = p[b], k


@tile_function
def _set_least(margin, bounds, out):
    """Set what bounds must exceed, less rounding; say whether they can be compared.

    Each of n terms z = w x + s is wrong by ``(n + 3) ROUNDING (|w| |x| + |s|)`` at
    most. The squares of a component that matters add up to ``reach`` at most; those of
    the wrong terms, by the triangle inequality, to the square below. What is finished
    gets out of the way.
    """
    n = bounds.n_leading[0]
    farthest = bounds.least
    farthest[:] = 0
    for i in range(n):
        x = bounds.tile[i * STRIDE : i * STRIDE + LANES]
        for b in range(LANES):
            distance = abs(x[b])
            farthest[b] = distance if distance > farthest[b] else farthest[b]
    for b in range(LANES):
        at = np.int64(bounds.likely[b]) * STRIDE + b
        bounds.bound[at] = -np.inf
        bounds.largest[b], bounds.best[b] = out[at], bounds.likely[b]
    error = (n + 3) * ROUNDING * np.sqrt(float(n))
    beyond = 0.0
    for b in range(LANES):
        reach = margin - np.float64(bounds.largest[b])
        size = bounds.size[0] * farthest[b] + bounds.size[1]
        root = np.sqrt(reach) + error * size
        least = -root * root * (1 + (n + 8) * ROUNDING)
        beyond += 0.0 if least > FARTHEST else 1.0
        bounds.least[b] = least
    return beyond == 0.0
