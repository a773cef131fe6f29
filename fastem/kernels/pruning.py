"""Log densities only where they can matter.

The squared norm of a whitened row is a sum that grows feature by feature, so its first
few terms bound a component's density from above. Where that bound lies so far below the
density of the row's likeliest component that the responsibility would be lost in
rounding, the other terms are not computed. Bounds are computed in float32, at twice the
rate, and what rounding may have taken from them is added to the margin.
"""

from typing import NamedTuple

import numpy as np

from fastem.compile import allocating_function, tile_subroutine
from fastem.kernels.lanes import WIDE
from fastem.kernels.maxima import set_best
from fastem.kernels.memory import empty, full, zeros, zeros_from
from fastem.kernels.sparse import list_above, list_positive
from fastem.kernels.tiles import LANES, STRIDE

# exp(-SHARE_MARGIN) is less than the share of a row that is negligible.
SHARE_MARGIN = 40.0
# To be the likeliest takes no margin but for rounding of the densities themselves.
LABEL_MARGIN = 2.0**-10
DENSITY_ROUNDING = 1 + 2.0**-30
# Where pruning spared less than half the work, so many tiles go without it.
REST = 15
# Of so many lanes all densities take less than bounds of those of all lanes.
FEW_LANES = LANES // 32
# Beyond this float32 may overflow.
FARTHEST = -1e30
# Components are guessed by so many features, a multiple of four.
GUESSED_FEATURES = 12
ROUNDING = 2.0**-24


class Bounds(NamedTuple):
    """Working memory, and copies in float32 of what leads the parameters."""

    n_leading: np.ndarray  # (1,): how many features the copies have
    more: np.ndarray  # (1,): how many more than usual pruning begins with
    rest: np.ndarray  # (1,): tiles to go before pruning is tried again
    guess_rest: np.ndarray  # (1,): tiles to go before guesses are
    n_pooled: np.ndarray  # (1,): how many features there are products for
    ahead: np.ndarray  # (1,): where the rows of the next tile lie, or zero
    # (3,): largest sum of a row's entries, largest shift, smallest entry of a diagonal
    size: np.ndarray
    log_norm: np.ndarray  # (K,), K a multiple of four; padding is never best
    whitening: np.ndarray
    shift: np.ndarray  # (K, D)
    pooled: np.ndarray  # (K, GUESSED_FEATURES), what guesses multiply with
    offset: np.ndarray  # (K,)
    tile: np.ndarray
    bound: np.ndarray  # of each component and lane that is not finished
    error: np.ndarray  # of each lane, as _set_error says, or whether it is close
    least: np.ndarray  # the highest bound, then what others must exceed
    largest: np.ndarray  # each lane's largest density so far, not in float32
    best: np.ndarray  # its component
    likely: np.ndarray  # its component of the highest bound
    second: np.ndarray  # the second highest
    lanes: np.ndarray  # of pairs to finish, by component
    components: np.ndarray
    open_lanes: np.ndarray  # those that more than one component may matter for
    ends: np.ndarray  # (K,)


@allocating_function
def allocate_bounds(tile_params):
    """Return the working memory of one part."""
    n_components, n_features = tile_params.centers.shape
    dtype = tile_params.centers.dtype
    n_rows = (n_components + 3) // 4 * 4
    return Bounds(
        zeros(1, np.int64),
        zeros(1, np.int64),
        zeros(1, np.int64),
        zeros(1, np.int64),
        zeros(1, np.int64),
        zeros(1, np.int64),
        zeros(3, np.float64),
        full(n_rows, -np.inf, np.float32),
        zeros_from(
            n_components, (n_rows, *tile_params.whitening.shape[1:]), np.float32
        ),
        zeros((n_rows, n_features), np.float32),
        zeros((n_rows, GUESSED_FEATURES), np.float32),
        full(n_rows, -np.inf, np.float32),
        zeros_from(tile_params.origin.size * STRIDE, n_features * STRIDE, np.float32),
        empty(n_rows * STRIDE, np.float32),
        empty(LANES, np.float32),
        empty(LANES, np.float32),
        empty(LANES, dtype),
        empty(LANES, dtype),
        empty(LANES, np.float32),
        empty(LANES, np.float32),
        empty(2 * LANES, np.int64),
        empty(2 * LANES, np.int64),
        empty(LANES, np.int64),
        empty(n_components, np.int64),
    )


@tile_subroutine
def set_relevant(
    copy_leading, load_leading, bound, finish, log_density, tile_params, scratch, out
):
    """Set joint log densities, -inf where one is negligible beside the best.

    Of a family: ``copy_leading(n, tile_params, bounds)`` copies what leads the
    parameters, ``load_leading(n, tile_params, scratch)`` the first features of a tile;
    ``bound(n, tile_params, bounds)`` sets log densities but for the other terms, and
    the two highest; ``finish(lanes, components, tile_params, scratch, out)`` sets the
    log densities of pairs, sorted by component, and ``log_density(tile_params, scratch,
    out)`` all.
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
    n = _count_leading(tile_params.centers.shape[1], bounds.more[0])
    _bound_all(n, copy_leading, load_leading, bound, tile_params, scratch)
    if not _finish_all(SHARE_MARGIN, finish, tile_params, scratch, out):
        log_density(tile_params, scratch, out)


@tile_subroutine
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

    The other arguments are those of :func:`set_relevant`, but that other log densities
    are not left in ``out``.
    """
    bounds = scratch.bounds
    if bounds.rest[0] > 0:
        bounds.rest[0] -= 1
        compare_all(log_density, tile_params, scratch, out, largest, best)
        return
    n = _count_leading(tile_params.centers.shape[1], bounds.more[0])
    _bound_all(n, copy_leading, load_leading, bound, tile_params, scratch)
    if _finish_all(LABEL_MARGIN, finish, tile_params, scratch, out):
        copy_best(bounds, largest, best)
    else:
        compare_all(log_density, tile_params, scratch, out, largest, best)


@tile_subroutine
def set_likeliest_by_all_terms(
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
    """As :func:`set_likeliest`, where to bound by all terms costs little more.

    They are log densities but for rounding, so that few rows have to be finished.
    """
    bounds = scratch.bounds
    if bounds.rest[0] > 0:
        bounds.rest[0] -= 1
        compare_all(log_density, tile_params, scratch, out, largest, best)
        return
    n = tile_params.centers.shape[1]
    _bound_all(n, copy_leading, load_leading, bound, tile_params, scratch)
    n_open = _list_close(bounds)
    if n_open > FEW_LANES:
        bounds.rest[0] = REST
        compare_all(log_density, tile_params, scratch, out, largest, best)
        return
    for b in range(LANES):
        largest[b], best[b] = bounds.least[b], bounds.likely[b]
    for b in bounds.open_lanes[:n_open]:
        bounds.largest[b], bounds.best[b] = -np.inf, best[b]
    finish_all_of(n_open, finish, tile_params, scratch, out)
    for b in bounds.open_lanes[:n_open]:
        largest[b], best[b] = bounds.largest[b], bounds.best[b]


@tile_subroutine
def _list_close(bounds):
    """List the lanes of which, by all terms, the second component may be the likeliest.

    Let -u and -v be the two highest of a lane, and e what rounding may have added to a
    whitened row's norm: the second is not if root(v) > root(u) + 2 e, but for the
    slack. Now e <= f (widest |x| + farthest), as ``_set_error`` says, and the row is no
    longer than its whitened norm allows: ``narrowest |x| <= root(u) + e + root(n)
    farthest``. So e <= a + c root(u), if f widest is less than half of narrowest, and
    since 2 root(u) <= u / root(n) + root(n) it takes no root to see that v is large
    enough. Otherwise, and for what float32 cannot hold, nothing is clear.
    """
    n, slack = bounds.n_leading[0], np.float64(_slack(bounds))
    root_n, (widest, farthest, narrowest) = np.sqrt(float(n)), bounds.size
    factor = (n + 4) * ROUNDING * root_n
    steep = factor * widest / narrowest
    c = slack * steep / (1 - steep) if 2 * steep < 1 else np.inf
    a = (c * root_n + 2 * factor) * farthest
    slope = slack**2 * (1 + 2 * c) * (1 + 2 * c + 2 * a / root_n)
    constant = slack**2 * (2 * a * (1 + 2 * c) * root_n + 4 * a**2)
    slope, constant = np.float32(slope), np.float32(constant + slope * LABEL_MARGIN)
    highest, second, close = bounds.least, bounds.second, bounds.error
    for b in range(LANES):
        clear = second[b] < slope * highest[b] - constant
        close[b] = np.float32(0) if clear else np.float32(1)
    return list_positive(close, bounds.open_lanes)


@tile_subroutine
def finish_all_of(n_open, finish, tile_params, scratch, out):
    """Set all log densities of open lanes, and their largest."""
    bounds, count = scratch.bounds, 0
    lanes, components = bounds.lanes, bounds.components
    for k in range(tile_params.log_norm.size):
        for b in bounds.open_lanes[:n_open]:
            lanes[count], components[count] = b, k
            count += 1
        if count > LANES or k == tile_params.log_norm.size - 1:
            finish(lanes[:count], components[:count], tile_params, scratch, out)
            keep_better(lanes[:count], components[:count], out, bounds)
            count = 0


@tile_subroutine
def copy_best(bounds, largest, best):
    """Set what is known to be each lane's largest log density, and its component."""
    for b in range(LANES):
        largest[b], best[b] = bounds.largest[b], bounds.best[b]


@tile_subroutine
def compare_all(log_density, tile_params, scratch, out, largest, best):
    """As :func:`set_likeliest`, from all log densities."""
    log_density(tile_params, scratch, out)
    set_best(out, tile_params.log_norm.size, largest, None, best, WIDE)


@tile_subroutine
def _bound_all(n, copy_leading, load_leading, bound, tile_params, scratch):
    """Bound the log density of each component and lane, and find the two highest."""
    bounds = scratch.bounds
    if bounds.n_leading[0] != n:
        for k in range(tile_params.log_norm.size):
            bounds.log_norm[k] = tile_params.log_norm[k]
        copy_leading(n, tile_params, bounds)
        bounds.n_leading[0] = n
    load_leading(n, tile_params, scratch)
    bound(n, tile_params, bounds)


@tile_subroutine
def _count_leading(n_features, more):
    """Return how many terms to begin with, an even number.

    They must outweigh the margin and the likeliest component's own terms, each about a
    half; where centres are scattered at four standard deviations, those of others are
    about sixteen, of which a third is nearly sure. For labels as many are best, for to
    finish a component costs more than to bound it.
    """
    wanted = np.int64(3 * (2 * SHARE_MARGIN + n_features) / 128 + 0.5)
    return min(4 * max(1, wanted) + more, n_features)


@tile_subroutine
def _finish_all(margin, finish, tile_params, scratch, out):
    """Set the log densities that matter, and each lane's largest.

    Return False where bounds cannot be compared; then all must be computed.
    """
    bounds, n_components = scratch.bounds, tile_params.log_norm.size
    _finish_likeliest(finish, tile_params, scratch, out)
    _set_error(bounds)
    if not _set_least(margin, bounds):
        bounds.rest[0] = REST
        return False
    n_open = list_above(bounds.second, bounds.least, bounds.open_lanes)
    finished = _finish_open(n_open, finish, tile_params, scratch, out)
    # Begin with more terms, or rest, where too much had to be finished.
    if 8 * finished > n_components * LANES:
        bounds.more[0] += 4
    if 2 * (finished + LANES) > n_components * LANES:
        bounds.rest[0] = REST
    return True


@tile_subroutine
def _finish_likeliest(finish, tile_params, scratch, out):
    """Set the log density of each lane's highest bound, which gets out of the way."""
    bounds = scratch.bounds
    sort_lanes(bounds)
    finish(bounds.lanes[:LANES], bounds.components[:LANES], tile_params, scratch, out)
    for b in range(LANES):
        at = np.int64(bounds.likely[b]) * STRIDE + b
        bounds.bound[at] = -np.inf
        bounds.largest[b], bounds.best[b] = out[at], bounds.likely[b]


@tile_subroutine
def _finish_open(n_open, finish, tile_params, scratch, out):
    """Set the log densities of open lanes that may matter; return how many they are."""
    bounds = scratch.bounds
    finished = count = 0
    if n_open == 0:
        return finished
    lanes, components, least = bounds.lanes, bounds.components, bounds.least
    n_components = tile_params.log_norm.size
    for k in range(n_components):
        bound = bounds.bound[k * STRIDE : k * STRIDE + LANES]
        begin = count
        count += list_above(bound, least, lanes[begin:])
        for pair in range(begin, count):
            components[pair] = k
        if count > LANES or k == n_components - 1:
            finish(lanes[:count], components[:count], tile_params, scratch, out)
            keep_better(lanes[:count], components[:count], out, bounds)
            finished += count
            count = 0
    return finished


@tile_subroutine
def sort_lanes(bounds):
    """List each lane with the component of its highest bound, sorted by component.

    Of unsigned indices Numba does not ask whether they count from the end.
    """
    likely, lanes, components = bounds.likely, bounds.lanes, bounds.components
    ends = bounds.ends
    for k in range(ends.size):
        ends[k] = 0
    for b in range(np.uint64(LANES)):
        ends[np.uint64(np.int64(likely[b]))] += 1
    total = 0
    for k in range(ends.size):
        count = ends[k]
        ends[k] = total
        total += count
    for b in range(np.uint64(LANES)):
        k = np.uint64(np.int64(likely[b]))
        end = ends[k]
        lanes[np.uint64(end)] = b
        components[np.uint64(end)] = k
        ends[k] = end + 1


@tile_subroutine
def keep_better(lanes, components, out, bounds):
    """Note which pairs are likelier than those before, or as likely as a later one."""
    largest, best = bounds.largest, bounds.best
    for n in range(lanes.size):
        b, k = lanes[n], components[n]
        p = out[k * STRIDE + b]
        if (p > largest[b]) | ((p == largest[b]) & (k < best[b])):
            largest[b], best[b] = p, k


@tile_subroutine
def _set_error(bounds):
    """Set what rounding may add to a whitened row's norm, at most.

    Each of n terms z = w x + s is wrong by ``(n + 3) ROUNDING (|w| |x| + |s|)`` at
    most, and norms obey the triangle inequality. The largest of a row is at most the
    row's own norm, which takes a quarter of the time.
    """
    n, error = bounds.n_leading[0], bounds.error
    for b in range(LANES):
        error[b] = 0
    for i in range(n):
        x = bounds.tile[i * STRIDE : i * STRIDE + LANES]
        for b in range(LANES):
            error[b] += x[b] * x[b]
    factor = np.float32((n + 4) * ROUNDING * np.sqrt(float(n)))
    widest, farthest = np.float32(bounds.size[0]), np.float32(bounds.size[1])
    for b in range(LANES):
        error[b] = factor * (widest * np.sqrt(error[b]) + farthest)


@tile_subroutine
def _slack(bounds):
    """Return the factor for rounding of a sum of squares, and of what is done to it."""
    return np.float32(1 + (bounds.n_leading[0] + 16) * ROUNDING)


@tile_subroutine
def _largest_norm(squared, error, slack):
    """Return the largest squared norm, or sum of it and a normaliser, for one computed.

    So it is the other way round.
    """
    root = np.sqrt(squared) + error
    return root * root * slack


@tile_subroutine
def _set_least(margin, bounds):
    """Set what bounds of components that matter exceed; say if they can be compared."""
    slack, farthest, beyond = _slack(bounds), np.float32(FARTHEST), 0
    for b in range(LANES):
        reach = np.float32((margin - bounds.largest[b]) * DENSITY_ROUNDING)
        least = -_largest_norm(reach, bounds.error[b], slack)
        beyond += not least > farthest
        bounds.least[b] = least
    return beyond == 0
