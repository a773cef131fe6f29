"""Mixtures: rows independent, each from one of K components.

The E-step reads the data once, a tile at a time, and leaves nothing of size N x K. Rows
are cut into parts whose number depends on shapes alone; each part owns a slot of the
statistics and slots are added in order. So the bits of a result do not depend on the
number of threads.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import typeof, types

from fastem.compile import (
    data_type,
    parallel_kernel,
)
from fastem.families.family import built_once
from fastem.families.gaussian_diag import DIAG, SPHERICAL
from fastem.families.gaussian_full import FULL
from fastem.families.gaussian_tied import TIED
from fastem.kernels.lanes import WIDE
from fastem.kernels.maxima import set_best
from fastem.kernels.memory import empty, full, zeros, zeros_from
from fastem.kernels.responsibilities import (
    NO_DENSITY,
    given_responsibilities,
    hard_responsibilities,
    soft_responsibilities,
    weighted_sum,
)
from fastem.kernels.tiles import (
    LANES,
    MAX_PARTS,
    STRIDE,
    lane_sum,
    load_weights,
    part_tiles,
)
from fastem.lowering import unpack

FAMILIES = {family.name: family for family in (FULL, TIED, DIAG, SPHERICAL)}

SOFT, HARD, GIVEN = 0, 1, 2

# Slots of all parts, together. Where they are large there are fewer: as many as share
# evenly among threads.
SLOTS_BYTES = 32 << 20
PART_COUNTS = tuple(n for n in range(1, MAX_PARTS + 1) if MAX_PARTS % n == 0)


class MixtureParams(NamedTuple):
    """Mixing proportions, (K,), and the components' parameters."""

    weights: np.ndarray
    components: Any


def count_parts(X, params, family):
    """Return into how many parts to cut rows, a function of shapes alone."""
    n_tiles = -(-X.shape[0] // LANES)
    slot = sum(field.nbytes for field in family.slots(params.components, 1))
    most = max(1, SLOTS_BYTES // slot)
    most = max(n_parts for n_parts in PART_COUNTS if n_parts <= most)
    return max(1, min(n_tiles, most))


def e_step(family, params, X, sample_weight=None, *, assignment=SOFT, given=None):
    """Return the statistics of rows under the parameters.

    Parameters
    ----------
    family : Family
    params : MixtureParams
    X : ndarray of shape (N, D), float32 or float64
    sample_weight : ndarray of shape (N,), optional
    assignment : {SOFT, HARD, GIVEN}
        Posterior probabilities, all to the likeliest component, or as ``given``.
    given : ndarray of shape (N, K), optional

    Returns
    -------
    NamedTuple
        The family's statistics; they add over blocks.
    """
    frame, tile_params = _tile_params(family, params, X.dtype)
    sample_weight = _or_empty(sample_weight, X.dtype, 1)
    given = _or_empty(given, X.dtype, 2)
    kernel = make_e_step(family, X.shape[1], X.dtype.name)
    slots = family.slots(params.components, count_parts(X, params, family))
    kernel(
        len(slots.log_likelihood),
        X,
        sample_weight,
        given,
        np.int64(assignment),
        tile_params,
        slots,
    )
    return family.statistics(params.components, frame, tile_params, slots)


def m_step(family, statistics, params, regularization):
    """Return the likeliest parameters and which components were repaired."""
    weights = statistics.weight / statistics.weight.sum()
    components, repaired = family.maximize(
        statistics, params.components, regularization
    )
    return MixtureParams(weights, components), repaired


class MixtureModel(NamedTuple):
    """A family and how its M-step is regularized: all that EM knows of a mixture."""

    family: Any
    regularization: Any

    def e_step(self, params, X, sample_weight):
        """Return the statistics of a block of rows."""
        return e_step(self.family, params, X, sample_weight)

    def m_step(self, statistics, params):
        """Return the likeliest parameters and which components were repaired."""
        return m_step(self.family, statistics, params, self.regularization)

    def recenter(self, statistics, params, new_params):
        """Return statistics about the means of ``params`` as about new ones."""
        return self.family.recenter(
            statistics, params.components, new_params.components
        )


class Posterior(NamedTuple):
    """Outputs for each row; arrays of size zero are not computed."""

    log_likelihood: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    n_odd: np.ndarray  # (P,): rows without any density, as those of NaN, by parts


def posterior(
    family, params, X, *, log_likelihood=False, labels=False, probabilities=False
):
    """Return what is asked for of each row: log p(x), the likeliest k, all P(k | x)."""
    n_rows = X.shape[0]
    n_parts = max(1, min(-(-n_rows // LANES), MAX_PARTS))
    out = Posterior(
        np.empty(n_rows if log_likelihood else 0, X.dtype),
        np.empty(n_rows if labels else 0, np.int64),
        np.empty((n_rows if probabilities else 0, len(params.weights)), X.dtype),
        np.zeros(n_parts, np.int64),
    )
    _, tile_params = _tile_params(family, params, X.dtype)
    kernel = make_posterior(family, X.shape[1], X.dtype.name)
    kernel(n_parts, X, tile_params, out)
    return out


def evaluate(family, params, field, X, check):
    """Return one output of :func:`posterior`, by its name.

    Rows are checked, by ``check()``, only if one is odd: the sum of all that shows
    whether they are finite takes a third of the time of labels at D = 8, K = 16.
    """
    out = posterior(family, params, X, **{field: True})
    if out.n_odd.any():
        check()
    return getattr(out, field)


class Score(NamedTuple):
    """The log-likelihood of rows and their weight; they add over blocks."""

    log_likelihood: float
    total_weight: float


def score(family, params, X, sample_weight):
    """Return the weighted log-likelihood of a block of rows.

    Parameters
    ----------
    family : Family
    params : MixtureParams
    X : ndarray of shape (N, D)
    sample_weight : ndarray of shape (N,), of size zero for ones

    Returns
    -------
    Score
    """
    scores = posterior(family, params, X, log_likelihood=True).log_likelihood
    scores = scores.astype(np.float64)
    if not sample_weight.size:
        return Score(float(scores.sum()), float(len(scores)))
    weight = sample_weight.astype(np.float64)
    return Score(float((weight * scores).sum()), float(weight.sum()))


def _tile_params(family, params, dtype):
    with np.errstate(divide="ignore"):
        log_weights = np.log(params.weights)
    return family.tile_params(params.components, log_weights, dtype)


def _or_empty(array, dtype, ndim):
    return np.empty((0,) * ndim, dtype) if array is None else array


@built_once
def make_e_step(functions, dtype, tile_params, slots):
    """Build the E-step kernel of a family for one floating-point type."""
    allocate, load = functions.allocate, functions.load
    joint_log_density, sole = functions.joint_log_density, functions.sole
    accumulate, accumulate_sole = functions.accumulate, functions.accumulate_sole
    flush = functions.flush
    arguments = (
        data_type(dtype, 2),
        data_type(dtype, 1),
        data_type(dtype, 2),
        types.int64,
        typeof(tile_params),
        typeof(slots),
    )

    @parallel_kernel(*arguments)
    def accumulate_part(packed, part):
        X, sample_weight, given, assignment, tile_params, slots = unpack(packed)
        n_components = tile_params.log_norm.size
        scratch = allocate(tile_params)
        # Rows beyond the components stay zero, for families that work four at once.
        n_rows = (n_components + 3) // 4 * 4
        p = zeros_from(n_components * STRIDE, n_rows * STRIDE, X.dtype)
        work = empty(3 * STRIDE, X.dtype)
        tile_weight = empty(LANES, X.dtype)
        log_likelihood = zeros(LANES, X.dtype)
        first, last = part_tiles(X.shape[0], slots.log_likelihood.size, part)
        for t in range(first, last):
            start = t * LANES
            stop = min(start + LANES, X.shape[0])
            load(X, start, stop, tile_params, scratch)
            load_weights(sample_weight, start, stop, tile_weight)
            if assignment != GIVEN and sole(
                tile_params, scratch, p, log_likelihood, work
            ):
                accumulate_sole(tile_params, scratch, tile_weight, slots, part)
            else:
                if assignment == GIVEN:
                    given_responsibilities(given, start, stop, tile_weight, p)
                else:
                    joint_log_density(tile_params, scratch, p)
                    if assignment == HARD:
                        hard_responsibilities(
                            p, n_components, tile_weight, log_likelihood, work
                        )
                    else:
                        soft_responsibilities(
                            p, n_components, tile_weight, log_likelihood, work
                        )
                accumulate(tile_params, scratch, p, slots, part)
            weight = lane_sum(tile_weight, LANES)
            slots.total_weight[part] += weight
            slots.log_likelihood[part] += (
                weighted_sum(log_likelihood, tile_weight)
                + weight * tile_params.log_offset[0]
            )
        flush(tile_params, scratch, slots, part)

    return accumulate_part


@built_once
def make_posterior(functions, dtype, tile_params, slots):
    """Build the kernel that scores and labels rows."""
    allocate, load = functions.allocate, functions.load
    joint_log_density = functions.joint_log_density
    likeliest, sole = functions.likeliest, functions.sole
    integers = np.empty(0, np.int64)
    out_type = typeof(
        Posterior(np.empty(0, dtype), integers, np.empty((0, 1), dtype), integers)
    )

    arguments = (
        data_type(dtype, 2),
        typeof(tile_params),
        out_type,
    )

    @parallel_kernel(*arguments)
    def evaluate_part(packed, part):
        X, tile_params, out = unpack(packed)
        n_components = tile_params.log_norm.size
        scratch = allocate(tile_params)
        p = empty(n_components * STRIDE, X.dtype)
        work = empty(4 * STRIDE, X.dtype)
        ones = full(LANES, 1, X.dtype)
        lane_values = empty(LANES, X.dtype)
        first, last = part_tiles(X.shape[0], out.n_odd.size, part)
        for t in range(first, last):
            start = t * LANES
            stop = min(start + LANES, X.shape[0])
            load(X, start, stop, tile_params, scratch)
            if out.log_likelihood.size == 0 and out.probabilities.size == 0:
                likeliest(tile_params, scratch, p, lane_values, work)
            elif out.probabilities.size > 0 or not sole(
                tile_params, scratch, p, lane_values, work
            ):
                joint_log_density(tile_params, scratch, p)
                if out.labels.size > 0:
                    set_best(p, n_components, lane_values, None, work, WIDE)
                soft_responsibilities(p, n_components, ones, lane_values, work[STRIDE:])
            if out.labels.size > 0:
                for b in range(stop - start):
                    out.labels[start + b] = np.int64(work[b])
            n_odd = 0
            for b in range(stop - start):
                n_odd += not lane_values[b] > NO_DENSITY
            out.n_odd[part] += n_odd
            if out.log_likelihood.size > 0:
                for b in range(stop - start):
                    out.log_likelihood[start + b] = (
                        lane_values[b] + tile_params.log_offset[0]
                    )
            if out.probabilities.size > 0:
                for k in range(n_components):
                    for b in range(stop - start):
                        out.probabilities[start + b, k] = p[k * STRIDE + b]

    return evaluate_part
