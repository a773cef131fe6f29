"""Counts of F symbols in a row, drawn from probabilities of each component.

N. L. Johnson, S. Kotz and N. Balakrishnan, *Discrete Multivariate Distributions*,
eq. 35.1; linear in the counts, so the tile functions are Poisson's.
"""

from typing import NamedTuple

import numpy as np

from fastem.compile import tile_function
from fastem.families import poisson
from fastem.families.categorical import likeliest_probabilities
from fastem.families.family import Family, TileFunctions, without_center
from fastem.families.poisson import (
    add_log_factorials,
    count_slots,
    count_statistics,
    count_tile_params,
)
from fastem.kernels.tiles import LANES, STRIDE

_load_counts = poisson.load


class MultinomialParams(NamedTuple):
    """Probabilities of the symbols 0 to F - 1."""

    emissionprob: np.ndarray  # (K, F)


class MultinomialStatistics(NamedTuple):
    """Sums over rows."""

    log_likelihood: float
    total_weight: float
    weight: np.ndarray  # (K,)
    counts: np.ndarray  # (K, F)


@tile_function
def load(X, start, stop, tile_params, scratch):
    """Fetch a tile of counts and set its base, the log multinomial coefficient."""
    _load_counts(X, start, stop, tile_params, scratch)
    tile, totals = scratch.tile, scratch.totals
    n_features = tile_params.zeros.size
    for b in range(LANES):
        totals[b] = 0
    for i in range(n_features):
        x = tile[i * STRIDE : i * STRIDE + LANES]
        for b in range(LANES):
            totals[b] += x[b]
    base = tile[n_features * STRIDE : n_features * STRIDE + LANES]
    add_log_factorials(totals, 1.0, tile_params.log_factorials, base)


def tile_params(params, log_weights, dtype):
    """Return the coefficients of the counts; there is no frame."""
    with np.errstate(divide="ignore"):
        log_probabilities = np.log(params.emissionprob)
    return None, count_tile_params(log_probabilities, log_weights, dtype)


def slots(params, n_slots):
    """Return zeroed sums for each of ``n_slots`` parts."""
    return count_slots(*params.emissionprob.shape, n_slots)


def statistics(params, frame, tile_params, slots):
    """Add the slots and return the sums."""
    return count_statistics(MultinomialStatistics, params.emissionprob.shape[1], slots)


def maximize(statistics, params, regularization):
    """Return the likeliest parameters and which components kept their old ones."""
    emissionprob, empty = likeliest_probabilities(
        statistics.counts,
        statistics.weight,
        statistics.total_weight,
        params.emissionprob,
    )
    return MultinomialParams(emissionprob), empty


def example_params():
    """Return the smallest parameters, whose types every model shares."""
    return MultinomialParams(np.ones((1, 1)))


MULTINOMIAL = Family(
    "multinomial",
    TileFunctions(
        poisson.allocate,
        load,
        poisson.log_density,
        poisson.log_density,
        poisson.accumulate,
        poisson.flush,
    ),
    None,
    tile_params,
    slots,
    statistics,
    maximize,
    without_center,
    example_params,
)
