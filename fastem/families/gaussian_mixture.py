"""Components that are mixtures of M Gaussians themselves.

The K * M Gaussians are one family's, Gaussian m of component k being its component
``k * M + m``. L. R. Rabiner, "A tutorial on hidden Markov models and selected
applications in speech recognition", Proc. IEEE 77 (1989), eqs. 49 and 52 to 54.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from fastem.compile import allocating_function, tile_function
from fastem.families.family import Family, TileFunctions
from fastem.families.gaussian import (
    EMPTY_SHARE,
    GaussianParams,
    GaussianSlots,
    GaussianStatistics,
    GaussianTileParams,
)
from fastem.families.gaussian_diag import DIAG, SPHERICAL
from fastem.families.gaussian_full import FULL
from fastem.kernels.memory import empty, zeros
from fastem.kernels.responsibilities import (
    LOWEST_FLOAT32,
    LOWEST_FLOAT64,
    NEGLIGIBLE,
)
from fastem.kernels.tiles import LANES, STRIDE, lane_sum
from fastem.kernels.vecmath import exp, log


class GMMParams(NamedTuple):
    """Mixing proportions within components, and the Gaussians of all components."""

    weights: np.ndarray  # (K, M)
    gaussians: GaussianParams  # K * M of them


class GMMTileParams(NamedTuple):
    """The Gaussians' tile params, both weights of each folded in.

    They lie flat, for Numba's parallel loops take no tuples within tuples.
    """

    log_norm: np.ndarray  # (K,): the log weights of components
    log_offset: np.ndarray  # (1,), float64
    origin: np.ndarray
    inverse_scale: np.ndarray
    gaussian_log_norm: np.ndarray  # (K * M,)
    whitening: np.ndarray
    shift: np.ndarray
    centers: np.ndarray
    sure_above: np.ndarray


class GMMScratch(NamedTuple):
    """Working memory of one part of the rows."""

    gaussians: Any
    shares: np.ndarray  # P(m | k, x): of each component, over its Gaussians
    largest: np.ndarray
    total: np.ndarray


class GMMSlots(NamedTuple):
    """Sums over the rows of each part; the last three are the Gaussian family's."""

    log_likelihood: np.ndarray  # (P,)
    total_weight: np.ndarray  # (P,)
    weight: np.ndarray  # (P, K)
    mixture: np.ndarray  # (P, K * M)
    first: np.ndarray
    second: np.ndarray


class GMMStatistics(NamedTuple):
    """Sums over rows, about the means they were computed from, in data units."""

    log_likelihood: float
    total_weight: float
    weight: np.ndarray  # (K,)
    mixture: np.ndarray  # (K, M)
    first: np.ndarray  # (K * M, D)
    second: np.ndarray  # (K * M, ...)


def mixture_of(family):
    """Return the family of components that are mixtures of a Gaussian family's.

    Parameters
    ----------
    family : Family
        One with a covariance for each component: FULL, DIAG or SPHERICAL.

    Returns
    -------
    Family
        Its ``accumulate`` uses up what the last density of the same tile left behind.
        ``from_variances`` gives each component one Gaussian.
    """

    def from_variances(means, variances):
        weights = np.ones((means.shape[0], 1))
        return GMMParams(weights, family.from_variances(means, variances))

    def tile_params(params, log_weights, dtype):
        with np.errstate(divide="ignore"):
            joint = log_weights[:, None] + np.log(params.weights)
        frame, gaussians = family.tile_params(params.gaussians, joint.ravel(), dtype)
        return frame, GMMTileParams(
            log_weights.astype(dtype),
            gaussians.log_offset,
            gaussians.origin,
            gaussians.inverse_scale,
            gaussians.log_norm,
            gaussians.whitening,
            gaussians.shift,
            gaussians.centers,
            gaussians.sure_above,
        )

    def slots(params, n_slots):
        gaussians = family.slots(params.gaussians, n_slots)
        weight = np.zeros((n_slots, params.weights.shape[0]))
        return GMMSlots(
            gaussians.log_likelihood,
            gaussians.total_weight,
            weight,
            gaussians.weight,
            gaussians.first,
            gaussians.second,
        )

    def statistics(params, frame, tile_params, slots):
        total = family.statistics(
            params.gaussians,
            frame,
            _gaussian_tile_params(tile_params),
            _gaussian_slots(slots),
        )
        return GMMStatistics(
            total.log_likelihood,
            total.total_weight,
            slots.weight.sum(axis=0),
            total.weight.reshape(params.weights.shape),
            total.first,
            total.second,
        )

    def maximize(statistics, params, regularization):
        gaussians, repaired = family.maximize(
            gaussian_statistics(statistics), params.gaussians, regularization
        )
        weights = mixing_proportions(statistics, params)
        repaired = repaired.reshape(weights.shape).any(axis=1)
        return GMMParams(weights, gaussians), repaired

    def recenter(statistics, params, new_params):
        moved = family.recenter(
            gaussian_statistics(statistics), params.gaussians, new_params.gaussians
        )
        return statistics._replace(first=moved.first, second=moved.second)

    return Family(
        f"gmm-{family.name}",
        _tile_functions(family.narrow),
        from_variances,
        tile_params,
        slots,
        statistics,
        maximize,
        recenter,
        partial(from_variances, np.zeros((1, 1)), np.ones(1)),
        _tile_functions(family.wide),
    )


@cache
def _tile_functions(inner):
    """Return those of mixtures, made of those of their Gaussians."""
    inner_allocate, inner_load = inner.allocate, inner.load
    inner_log_density = inner.log_density
    inner_joint_log_density = inner.joint_log_density
    inner_accumulate, inner_flush = inner.accumulate, inner.flush

    @allocating_function
    def allocate(tile_params):
        log_norm = tile_params.gaussian_log_norm
        return GMMScratch(
            # Sized by the centres, which lie here under the same name. Arrays returned
            # by a tile function are not counted, and here a reference would be dropped.
            inner_allocate(tile_params),
            zeros(log_norm.size * STRIDE, log_norm.dtype),
            empty(LANES, log_norm.dtype),
            empty(LANES, log_norm.dtype),
        )

    @tile_function
    def load(X, start, stop, tile_params, scratch):
        inner_load(
            X, start, stop, _gaussian_tile_params(tile_params), scratch.gaussians
        )

    @tile_function
    def log_density(tile_params, scratch, out):
        inner_log_density(
            _gaussian_tile_params(tile_params), scratch.gaussians, scratch.shares
        )
        _add_up(tile_params.log_norm.size, scratch, out)

    @tile_function
    def joint_log_density(tile_params, scratch, out):
        inner_joint_log_density(
            _gaussian_tile_params(tile_params), scratch.gaussians, scratch.shares
        )
        _add_up(tile_params.log_norm.size, scratch, out)

    @tile_function
    def accumulate(tile_params, scratch, responsibilities, slots, slot):
        n_components = tile_params.log_norm.size
        n_gaussians = tile_params.gaussian_log_norm.size // n_components
        for k in range(n_components):
            r = responsibilities[k * STRIDE : k * STRIDE + LANES]
            slots.weight[slot, k] += lane_sum(r, LANES)
            for j in range(k * n_gaussians, (k + 1) * n_gaussians):
                share = scratch.shares[j * STRIDE : j * STRIDE + LANES]
                for b in range(LANES):
                    share[b] *= r[b]
        inner_accumulate(
            _gaussian_tile_params(tile_params),
            scratch.gaussians,
            scratch.shares,
            _gaussian_slots(slots),
            slot,
        )

    @tile_function
    def flush(tile_params, scratch, slots, slot):
        inner_flush(
            _gaussian_tile_params(tile_params),
            scratch.gaussians,
            _gaussian_slots(slots),
            slot,
        )

    return TileFunctions(
        allocate,
        load,
        log_density,
        joint_log_density,
        accumulate,
        flush,
        density_first=True,
    )


@tile_function
def _gaussian_tile_params(tile_params):
    return GaussianTileParams(
        tile_params.origin,
        tile_params.inverse_scale,
        tile_params.log_offset,
        tile_params.gaussian_log_norm,
        tile_params.whitening,
        tile_params.shift,
        tile_params.centers,
        tile_params.sure_above,
    )


@tile_function
def _gaussian_slots(slots):
    return GaussianSlots(
        slots.log_likelihood,
        slots.total_weight,
        slots.mixture,
        slots.first,
        slots.second,
    )


@tile_function
def _add_up(n_components, scratch, out):
    """Set each component's log density, and in place the shares of its Gaussians.

    Shares that rounding would swallow become zeros, as responsibilities do; where no
    Gaussian explains a row they are even, and its log density is -inf.
    """
    one_type = out.dtype.type
    lowest = one_type(LOWEST_FLOAT32 if out.itemsize == 4 else LOWEST_FLOAT64)
    nothing, zero = one_type(-np.inf), one_type(0)
    largest, total = scratch.largest, scratch.total
    n_gaussians = scratch.shares.size // STRIDE // n_components
    for k in range(n_components):
        first = k * n_gaussians
        for b in range(LANES):
            largest[b] = lowest
            total[b] = 0
        for j in range(first, first + n_gaussians):
            p = scratch.shares[j * STRIDE : j * STRIDE + LANES]
            for b in range(LANES):
                value, record = p[b], largest[b]
                largest[b] = value if value > record else record
        for j in range(first, first + n_gaussians):
            p = scratch.shares[j * STRIDE : j * STRIDE + LANES]
            for b in range(LANES):
                p[b] = exp(p[b] - largest[b])
                total[b] += p[b]
        log_p = out[k * STRIDE : k * STRIDE + LANES]
        for b in range(LANES):
            record = largest[b]
            value = record + log(total[b])
            log_p[b] = value if record > lowest else nothing
            total[b] = one_type(1) / total[b]
        for j in range(first, first + n_gaussians):
            p = scratch.shares[j * STRIDE : j * STRIDE + LANES]
            for b in range(LANES):
                share = p[b] * total[b]
                p[b] = share if share > one_type(NEGLIGIBLE) else zero


# ------------------------------------------------------------------ maximisation


def gaussian_statistics(statistics):
    """Return the statistics of all Gaussians alone."""
    return GaussianStatistics(
        statistics.log_likelihood,
        statistics.total_weight,
        statistics.mixture.ravel(),
        statistics.first,
        statistics.second,
    )


def mixing_proportions(statistics, params):
    """Return the likeliest mixing proportions; an empty component keeps its own."""
    weight = statistics.mixture.sum(axis=1)
    empty = weight <= EMPTY_SHARE * statistics.total_weight
    shares = statistics.mixture / np.where(empty, 1.0, weight)[:, None]
    return np.where(empty[:, None], params.weights, shares)


GMM_FULL, GMM_DIAG, GMM_SPHERICAL = map(mixture_of, (FULL, DIAG, SPHERICAL))
