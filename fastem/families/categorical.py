"""One symbol a row, drawn from probabilities of its own for each component.

C. M. Bishop, *Pattern Recognition and Machine Learning*, eqs. 13.22 and 13.23; symbols
are looked up as they are, never spread out into indicators.
"""

from typing import NamedTuple

import numpy as np

from fastem.compile import allocating_function, tile_function
from fastem.families.family import Family, TileFunctions, without_center
from fastem.families.gaussian import EMPTY_SHARE, add_slots
from fastem.kernels.memory import zeros
from fastem.kernels.tiles import LANES, STRIDE, lane_sum, padded

# Up to so many symbols, a masked pass for each beats adding lane by lane (measured: 0.2
# against 0.4 ns a lane and component at four symbols, 0.4 against 0.4 at eight).
MASKED_MAX_SYMBOLS = 4


class CategoricalParams(NamedTuple):
    """Probabilities of the symbols 0 to F - 1."""

    emissionprob: np.ndarray  # (K, F)


class CategoricalTileParams(NamedTuple):
    """Log probabilities, those of one symbol side by side.

    With thousands of symbols a lane then touches a few cache lines, not one for each
    component (measured at F = 10000: 0.4 against 0.8 ns a lane and component).
    """

    log_norm: np.ndarray  # (K,): the log weights, which the table holds already
    log_offset: np.ndarray  # (1,), float64
    table: np.ndarray  # (F + 1, K), K padded: the last row is of impossible symbols


class CategoricalScratch(NamedTuple):
    """Working memory of one part of the rows."""

    offsets: np.ndarray  # where each lane's row of the table begins


class CategoricalSlots(NamedTuple):
    """Sums over the rows of each part."""

    log_likelihood: np.ndarray  # (P,)
    total_weight: np.ndarray  # (P,)
    weight: np.ndarray  # (P, K)
    counts: np.ndarray  # (P, F + 1, K), shaped as the table


class CategoricalStatistics(NamedTuple):
    """Sums over rows."""

    log_likelihood: float
    total_weight: float
    weight: np.ndarray  # (K,)
    counts: np.ndarray  # (K, F)


@allocating_function
def allocate(tile_params):
    """Return the working memory of one part."""
    return CategoricalScratch(zeros(LANES, np.uint64))


@tile_function
def load(X, start, stop, tile_params, scratch):
    """Fetch a tile of symbols; all but 0 to F - 1 become the impossible one."""
    n_symbols = tile_params.table.shape[0] - 1
    width = tile_params.table.shape[1]
    offsets = scratch.offsets
    for b in range(stop - start):
        x = X[start + b, 0]
        symbol = np.int64(x) if (x >= 0) & (x < n_symbols) else n_symbols
        symbol = symbol if symbol == x else n_symbols
        offsets[b] = np.uint64(symbol * width)
    for b in range(stop - start, LANES):
        offsets[b] = np.uint64(0)


@tile_function
def log_density(tile_params, scratch, out):
    """Set the joint log density of each component and lane.

    Offsets are unsigned, for a signed index is tested for counting from the end.
    """
    n_components = tile_params.log_norm.size
    table = tile_params.table.reshape(tile_params.table.size)
    offsets = scratch.offsets
    k = 0
    while k + 4 <= n_components:
        p = out[k * STRIDE : (k + 4) * STRIDE]
        k0, k1, k2, k3 = (
            np.uint64(k),
            np.uint64(k + 1),
            np.uint64(k + 2),
            np.uint64(k + 3),
        )
        for b in range(LANES):
            offset = offsets[b]
            p[b] = table[offset + k0]
            p[STRIDE + b] = table[offset + k1]
            p[2 * STRIDE + b] = table[offset + k2]
            p[3 * STRIDE + b] = table[offset + k3]
        k += 4
    while k < n_components:
        p = out[k * STRIDE : k * STRIDE + LANES]
        k0 = np.uint64(k)
        for b in range(LANES):
            p[b] = table[offsets[b] + k0]
        k += 1


@tile_function
def accumulate(tile_params, scratch, responsibilities, slots, slot):
    """Add the tile's responsibilities to the counts of its symbols."""
    n_components = tile_params.log_norm.size
    for k in range(n_components):
        r = responsibilities[k * STRIDE : k * STRIDE + LANES]
        slots.weight[slot, k] += lane_sum(r, LANES)
    counts = slots.counts[slot]
    if counts.shape[0] <= MASKED_MAX_SYMBOLS + 1:
        _add_masked(scratch.offsets, n_components, responsibilities, counts)
    else:
        _add_four_by_four(
            scratch.offsets,
            n_components,
            responsibilities,
            counts.reshape(counts.size),
        )


@tile_function
def _add_masked(offsets, n_components, responsibilities, counts):
    n_rows, width = counts.shape
    zero = responsibilities.dtype.type(0)
    for k in range(0, n_components, 4):
        r0, r1, r2, r3 = _four_rows(responsibilities, k, n_components)
        for symbol in range(n_rows - 1):
            own = np.uint64(symbol * width)
            s0 = s1 = s2 = s3 = zero
            for b in range(LANES):
                hit = offsets[b] == own
                v0, v1, v2, v3 = r0[b], r1[b], r2[b], r3[b]
                s0 += v0 if hit else zero
                s1 += v1 if hit else zero
                s2 += v2 if hit else zero
                s3 += v3 if hit else zero
            counts[symbol, k] += s0
            counts[symbol, k + 1] += s1
            counts[symbol, k + 2] += s2
            counts[symbol, k + 3] += s3


@tile_function
def _four_rows(rows, k, n_rows):
    """Return rows k to k + 3; those past the last repeat it.

    What they add goes to padded columns that nobody reads.
    """
    j1, j2, j3 = min(k + 1, n_rows - 1), min(k + 2, n_rows - 1), min(k + 3, n_rows - 1)
    return (
        rows[k * STRIDE : k * STRIDE + LANES],
        rows[j1 * STRIDE : j1 * STRIDE + LANES],
        rows[j2 * STRIDE : j2 * STRIDE + LANES],
        rows[j3 * STRIDE : j3 * STRIDE + LANES],
    )


@tile_function
def _add_four_by_four(offsets, n_components, responsibilities, counts):
    """Add lane by lane, four components at once.

    A lane waits for the one before it where the symbols agree, so one component at a
    time takes three times as long.
    """
    for k in range(0, n_components, 4):
        r0, r1, r2, r3 = _four_rows(responsibilities, k, n_components)
        k0, k1, k2, k3 = (
            np.uint64(k),
            np.uint64(k + 1),
            np.uint64(k + 2),
            np.uint64(k + 3),
        )
        for b in range(LANES):
            offset = offsets[b]
            c0 = counts[offset + k0] + r0[b]
            c1 = counts[offset + k1] + r1[b]
            c2 = counts[offset + k2] + r2[b]
            c3 = counts[offset + k3] + r3[b]
            counts[offset + k0] = c0
            counts[offset + k1] = c1
            counts[offset + k2] = c2
            counts[offset + k3] = c3


@tile_function
def flush(tile_params, scratch, slots, slot):
    """Nothing waits."""


def tile_params(params, log_weights, dtype):
    """Return the table of log probabilities; there is no frame."""
    n_components, n_symbols = params.emissionprob.shape
    table = np.full((n_symbols + 1, padded(n_components, 4)), -np.inf, dtype)
    with np.errstate(divide="ignore"):
        table[:n_symbols, :n_components] = np.log(params.emissionprob.T) + log_weights
    return None, CategoricalTileParams(log_weights.astype(dtype), np.zeros(1), table)


def slots(params, n_slots):
    """Return zeroed sums for each of ``n_slots`` parts."""
    n_components, n_symbols = params.emissionprob.shape
    return CategoricalSlots(
        np.zeros(n_slots),
        np.zeros(n_slots),
        np.zeros((n_slots, n_components)),
        np.zeros((n_slots, n_symbols + 1, padded(n_components, 4))),
    )


def statistics(params, frame, tile_params, slots):
    """Add the slots and return the sums."""
    n_components, n_symbols = params.emissionprob.shape
    total = add_slots(slots)
    return CategoricalStatistics(
        float(total.log_likelihood),
        float(total.total_weight),
        total.weight,
        np.ascontiguousarray(total.counts[:n_symbols, :n_components].T),
    )


def likeliest_probabilities(counts, weight, total_weight, probabilities):
    """Return each component's shares of its counts, and which components are empty.

    An empty component keeps its probabilities.
    """
    totals = counts.sum(axis=1)
    empty = (weight <= EMPTY_SHARE * total_weight) | (totals <= 0)
    shares = counts / np.where(empty, 1.0, totals)[:, None]
    return np.where(empty[:, None], probabilities, shares), empty


def maximize(statistics, params, regularization):
    """Return the likeliest parameters and which components kept their old ones.

    PRML eq. 13.23.
    """
    emissionprob, empty = likeliest_probabilities(
        statistics.counts,
        statistics.weight,
        statistics.total_weight,
        params.emissionprob,
    )
    return CategoricalParams(emissionprob), empty


def example_params():
    """Return the smallest parameters, whose types every model shares."""
    return CategoricalParams(np.ones((1, 1)))


CATEGORICAL = Family(
    "categorical",
    TileFunctions(
        allocate,
        load,
        log_density,
        log_density,
        accumulate,
        flush,
    ),
    None,
    tile_params,
    slots,
    statistics,
    maximize,
    without_center,
    example_params,
)
