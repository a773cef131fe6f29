"""Counts whose log density is linear in them: Poisson, and what multinomials share.

    log p(x | k) = log_norm[k] + base(x) + sum_d table[k, d] x[d]

is a matrix product over the lanes of a tile; the base, made of log factorials, is the
same for all components and rides along as one more feature with coefficient one.

N. L. Johnson, A. W. Kemp and S. Kotz, *Univariate Discrete Distributions*, 3rd ed.,
eq. 4.1.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from fastem.compile import allocating_function, tile_function
from fastem.families.family import Family, TileFunctions, without_center
from fastem.families.gaussian import EMPTY_SHARE, LOG_2_PI, add_slots
from fastem.kernels.memory import empty, zeros
from fastem.kernels.outer import add_outer
from fastem.kernels.products import multiply_four
from fastem.kernels.tiles import LANES, STRIDE, lane_sum, load_tile, padded
from fastem.kernels.vecmath import log

# Log factorials below this are looked up. From here on what the series leaves out,
# 1 / (1260 x**5), is less than 1e-16 of the sum.
TABLE_SIZE = 128
HALF_LOG_2_PI = 0.5 * LOG_2_PI
# Coefficient of a count that must be zero: finite, so that zero times it is zero, and
# so low that any sum with a positive count in it is below all that counts can explain.
FORBIDDEN = {8: -1e300, 4: -1e37}
IMPOSSIBLE_FLOAT64 = -1e299
IMPOSSIBLE_FLOAT32 = -1e36


class PoissonParams(NamedTuple):
    """Expected counts."""

    rates: np.ndarray  # (K, D)


class CountTileParams(NamedTuple):
    """Coefficients of the counts and, after them, of the base; sizes in fours."""

    log_norm: np.ndarray  # (K,)
    log_offset: np.ndarray  # (1,), float64
    table: np.ndarray  # (K, D + 1), padded
    shift: np.ndarray  # log_norm, padded
    log_factorials: np.ndarray
    zeros: np.ndarray  # (D,)
    ones: np.ndarray  # (D,)


class CountScratch(NamedTuple):
    """Working memory of one part of the rows."""

    tile: np.ndarray  # the counts, then the base, then zeros
    block: np.ndarray  # four rows of lanes
    totals: np.ndarray  # each lane's sum of counts


class CountSlots(NamedTuple):
    """Sums over the rows of each part."""

    log_likelihood: np.ndarray  # (P,)
    total_weight: np.ndarray  # (P,)
    weight: np.ndarray  # (P, K)
    sums: np.ndarray  # (P, K, D + 1), padded; those of the base are of no use


class PoissonStatistics(NamedTuple):
    """Sums over rows."""

    log_likelihood: float
    total_weight: float
    weight: np.ndarray  # (K,)
    sums: np.ndarray  # (K, D)


# ------------------------------------------------------------------- tile functions


@allocating_function
def allocate(tile_params):
    """Return the working memory of one part."""
    dtype = tile_params.table.dtype
    return CountScratch(
        zeros(tile_params.table.shape[1] * STRIDE, dtype),
        zeros(4 * STRIDE, dtype),
        empty(LANES, dtype),
    )


@tile_function
def load(X, start, stop, tile_params, scratch):
    """Fetch a tile of counts and set its base, minus the sum of log factorials."""
    tile, n_features = scratch.tile, tile_params.zeros.size
    load_tile(X, start, stop, tile_params.zeros, tile_params.ones, tile)
    base = tile[n_features * STRIDE : n_features * STRIDE + LANES]
    for b in range(LANES):
        base[b] = 0
    for i in range(n_features):
        x = tile[i * STRIDE : i * STRIDE + LANES]
        add_log_factorials(x, -1.0, tile_params.log_factorials, base)


@tile_function
def add_log_factorials(x, factor, log_factorials, out):
    """Add ``factor * log(x!)`` to each lane, x whole and not negative.

    Stirling's series, DLMF eq. 5.11.1, where a table ends.
    """
    last = np.float64(log_factorials.size - 1)
    n_beyond = np.int64(0)
    for b in range(LANES):
        n_beyond += x[b] > last
    if n_beyond == 0:
        for b in range(LANES):
            out[b] += factor * _look_up(np.float64(x[b]), last, log_factorials)
    else:
        for b in range(LANES):
            value = np.float64(x[b])
            small = _look_up(value, last, log_factorials)
            z = value if value > last else last
            inverse = 1.0 / z
            series = 1.0 / 12.0 - inverse * inverse * (1.0 / 360.0)
            large = (z + 0.5) * log(z) - z + (HALF_LOG_2_PI + inverse * series)
            out[b] += factor * (large if value > last else small)


@tile_function
def _look_up(x, last, log_factorials):
    # NaN and negative counts must not read past the table.
    index = x if x > 0.0 else 0.0
    index = index if index < last else last
    return log_factorials[np.uint64(np.int64(index))]


@tile_function
def log_density(tile_params, scratch, out):
    """Set the joint log density of each component and lane, less ``log_offset``."""
    n_components = tile_params.log_norm.size
    n_columns = tile_params.table.shape[1]
    impossible = _impossible(out)
    nothing = out.dtype.type(-np.inf)
    for k in range(0, n_components, 4):
        multiply_four(
            tile_params.table,
            tile_params.shift,
            k,
            n_columns,
            scratch.tile,
            scratch.block,
        )
        for j in range(min(4, n_components - k)):
            row = scratch.block[j * STRIDE : j * STRIDE + LANES]
            p = out[(k + j) * STRIDE : (k + j) * STRIDE + LANES]
            for b in range(LANES):
                value = row[b]
                p[b] = nothing if value < impossible else value


@tile_function
def _impossible(values):
    if values.itemsize == 4:
        return values.dtype.type(IMPOSSIBLE_FLOAT32)
    return values.dtype.type(IMPOSSIBLE_FLOAT64)


@tile_function
def accumulate(tile_params, scratch, responsibilities, slots, slot):
    """Add the tile's weights and weighted sums of counts."""
    n_components = tile_params.log_norm.size
    n_columns = tile_params.table.shape[1]
    block = scratch.block
    sums = slots.sums[slot]
    for k in range(0, n_components, 4):
        for j in range(4):
            row = block[j * STRIDE : j * STRIDE + LANES]
            if k + j < n_components:
                begin = (k + j) * STRIDE
                r = responsibilities[begin : begin + LANES]
                for b in range(LANES):
                    row[b] = r[b]
                slots.weight[slot, k + j] += lane_sum(row, LANES)
            else:
                for b in range(LANES):
                    row[b] = 0
        total = sums[k : k + 4].reshape(4 * n_columns)
        add_outer(block, 4, scratch.tile, n_columns, LANES, STRIDE, total)


@tile_function
def flush(tile_params, scratch, slots, slot):
    """Nothing waits."""


# ------------------------------------------------------------------------ parameters


def count_tile_params(coefficients, log_norm, dtype):
    """Return the linear log density's tile params; the largest log_norm is kept apart.

    A coefficient of -inf forbids its count to be anything but zero.
    """
    dtype = np.dtype(dtype)
    n_components, n_features = coefficients.shape
    offset = np.max(log_norm, initial=-np.inf)
    offset = offset if np.isfinite(offset) else 0.0
    table = np.zeros((padded(n_components, 4), padded(n_features + 1, 4)), dtype)
    table[:n_components, :n_features] = np.where(
        np.isneginf(coefficients), FORBIDDEN[dtype.itemsize], coefficients
    )
    table[:n_components, n_features] = 1
    shift = np.zeros(len(table), dtype)
    shift[:n_components] = log_norm - offset
    return CountTileParams(
        shift[:n_components].copy(),
        np.array([offset]),
        table,
        shift,
        gammaln(np.arange(TABLE_SIZE) + 1.0),
        np.zeros(n_features, dtype),
        np.ones(n_features, dtype),
    )


def count_slots(n_components, n_features, n_slots):
    """Return zeroed sums for each of ``n_slots`` parts."""
    return CountSlots(
        np.zeros(n_slots),
        np.zeros(n_slots),
        np.zeros((n_slots, n_components)),
        np.zeros((n_slots, padded(n_components, 4), padded(n_features + 1, 4))),
    )


def count_statistics(kind, n_features, slots):
    """Add the slots and return the sums as statistics of a kind."""
    total = add_slots(slots)
    n_components = total.weight.size
    return kind(
        float(total.log_likelihood),
        float(total.total_weight),
        total.weight,
        total.sums[:n_components, :n_features].copy(),
    )


def tile_params(params, log_weights, dtype):
    """Return the coefficients of the counts; there is no frame."""
    with np.errstate(divide="ignore"):
        log_rates = np.log(params.rates)
    log_norm = log_weights - params.rates.sum(axis=1)
    return None, count_tile_params(log_rates, log_norm, dtype)


def slots(params, n_slots):
    """Return zeroed sums for each of ``n_slots`` parts."""
    return count_slots(*params.rates.shape, n_slots)


def statistics(params, frame, tile_params, slots):
    """Add the slots and return the sums."""
    return count_statistics(PoissonStatistics, params.rates.shape[1], slots)


def maximize(statistics, params, regularization):
    """Return the likeliest parameters and which components kept their old ones."""
    empty = statistics.weight <= EMPTY_SHARE * statistics.total_weight
    weight = np.where(empty, 1.0, statistics.weight)[:, None]
    rates = np.where(empty[:, None], params.rates, statistics.sums / weight)
    return PoissonParams(rates), empty


def example_params():
    """Return the smallest parameters, whose types every model shares."""
    return PoissonParams(np.ones((1, 1)))


POISSON = Family(
    "poisson",
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
