"""Stages of kernels by themselves, on a tile that stays in the cache.

Where a kernel is far from its limit, its stages say which part of it is.
"""

import functools

import numpy as np
from numba import typeof, types

from fastem.bench import work
from fastem.compile import data_type, parallel_kernel
from fastem.families.family import built_once
from fastem.families.gaussian_diag import DIAG
from fastem.kernels import chains, paths
from fastem.kernels.chains import CHAINS
from fastem.kernels.responsibilities import soft_responsibilities
from fastem.kernels.tiles import LANES, MAX_PARTS, STRIDE
from fastem.lowering import unpack
from fastem.models.mixture import FAMILIES
from fastem.models.smoothing import make_chain, make_log_chain

# A call does about so many operations in each part: milliseconds.
OPERATIONS = 1e7
EXP_OPERATIONS = 20

MIXTURE_STAGES = work.LOAD, work.DENSITY, work.BAYES, work.MOMENTS
CHAIN_STAGES = (
    *(work.LOAD, work.DENSITY, work.LIKELIHOODS, work.FORWARD, work.BACKWARD),
    *(work.TRANSITIONS, work.MOMENTS, work.BEST_SCORES, work.TRACE_BACK),
)


def rows_of(stage_work):
    """Return how many rows a call works."""
    operations = stage_work.fused + stage_work.plain + EXP_OPERATIONS * stage_work.exp
    return MAX_PARTS * LANES * max(1, round(OPERATIONS / (LANES * operations)))


def mixture_stage(name, covariance_type, D, K, n_rows):
    """Return a call of one stage of an E-step, all components taking a share."""
    family = FAMILIES[covariance_type]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(LANES, D))
    components = family.from_variances(0.01 * rng.normal(size=(K, D)), np.ones(D))
    _, tile_params = family.tile_params(components, np.zeros(K), np.dtype(np.float64))
    slots = family.slots(components, MAX_PARTS)
    stage, n_rounds = MIXTURE_STAGES.index(name), n_rows // (MAX_PARTS * LANES)
    kernel = make_mixture_stages(family, D)
    return functools.partial(kernel, MAX_PARTS, X, tile_params, slots, stage, n_rounds)


@built_once
def make_mixture_stages(functions, dtype, tile_params, slots):
    """Build the kernel that goes through one stage of a family, in rounds."""
    allocate, load = functions.allocate, functions.load
    log_density, accumulate = functions.log_density, functions.accumulate
    loading, weighing, sharing, _ = range(len(MIXTURE_STAGES))
    arguments = (
        data_type(dtype, 2, "C"),
        typeof(tile_params),
        typeof(slots),
        types.int64,
        types.int64,
    )

    @parallel_kernel(*arguments)
    def repeat_part(packed, part):
        X, tile_params, slots, stage, n_rounds = unpack(packed)
        n_components = tile_params.log_norm.size
        scratch = allocate(tile_params)
        # Shares or densities, of which the values do not matter.
        p = np.zeros((n_components + 3) // 4 * 4 * STRIDE)
        p[: n_components * STRIDE] = 1.0 / n_components
        work = np.empty(3 * STRIDE)
        ones, log_likelihood = np.ones(LANES), np.zeros(LANES)
        load(X, 0, LANES, tile_params, scratch)
        for _ in range(n_rounds):
            if stage == loading:
                load(X, 0, LANES, tile_params, scratch)
            elif stage == weighing:
                log_density(tile_params, scratch, p)
            elif stage == sharing:
                soft_responsibilities(p, n_components, ones, log_likelihood, work)
            else:
                accumulate(tile_params, scratch, p, slots, part)

    return repeat_part


def chain_stage(name, K, D, n_rows):
    """Return a call of one stage of chains with diagonal emissions."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(LANES, D))
    components = DIAG.from_variances(rng.normal(size=(K, D)), np.ones(D))
    _, tile_params = DIAG.tile_params(components, np.zeros(K), np.dtype(np.float64))
    start, transmat = np.full(K, 1 / K), np.full((K, K), 0.1 / K) + 0.9 * np.eye(K)
    build = (
        make_log_chain if name in (work.BEST_SCORES, work.TRACE_BACK) else make_chain
    )
    slots = DIAG.slots(components, MAX_PARTS)
    stage, n_rounds = CHAIN_STAGES.index(name), n_rows // (MAX_PARTS * LANES)
    return functools.partial(
        make_chain_stages(DIAG, D),
        MAX_PARTS,
        X,
        build(start, transmat),
        tile_params,
        slots,
        stage,
        n_rounds,
    )


@built_once
def make_chain_stages(functions, dtype, tile_params, slots):
    """Build the kernel that goes through one stage of chains, in rounds."""
    allocate, load = functions.allocate, functions.load
    log_density, accumulate = functions.log_density, functions.accumulate
    likelihoods, forward, backward = chains.likelihoods, chains.forward, chains.backward
    add_transitions = chains.add_transitions
    best_scores, trace_back = paths.best_scores, paths.trace_back
    loading, weighing, comparing, ahead, back, pairing, summing, extending, _ = range(
        len(CHAIN_STAGES)
    )
    arguments = (
        data_type(dtype, 2, "C"),
        typeof(make_chain(np.ones(1), np.ones((1, 1)))),
        typeof(tile_params),
        typeof(slots),
        types.int64,
        types.int64,
    )

    @parallel_kernel(*arguments)
    def repeat_part(packed, part):
        X, chain, tile_params, slots, stage, n_rounds = unpack(packed)
        n_states, size = chain.start.size, chain.out.shape[0]
        scratch = allocate(tile_params)
        even = np.zeros(max(4, size) * STRIDE)
        even[: n_states * STRIDE] = 1.0 / n_states
        b, alpha, gamma, v = even.copy(), even.copy(), even.copy(), even.copy()
        beta, work, total = even.copy(), even.copy(), np.zeros((size, size))
        scale, largest, reset = np.ones(LANES), np.zeros(LANES), np.zeros(LANES)
        state, path = np.zeros(CHAINS), np.zeros(LANES)
        load(X, 0, LANES, tile_params, scratch)
        for _ in range(n_rounds):
            if stage == loading:
                load(X, 0, LANES, tile_params, scratch)
            elif stage == weighing:
                log_density(tile_params, scratch, b)
            elif stage == comparing:
                likelihoods(b, n_states, largest)
            elif stage == ahead:
                forward(chain, b, alpha, scale, reset, True, work)
            elif stage == back:
                for k in range(n_states):
                    for s in range(CHAINS):
                        beta[k * STRIDE + s] = 1.0
                backward(chain, b, alpha, scale, reset, True, beta, gamma, v)
            elif stage == pairing:
                add_transitions(chain, alpha, v, True, largest, total)
            elif stage == summing:
                accumulate(tile_params, scratch, gamma, slots, part)
            elif stage == extending:
                best_scores(chain, b, alpha, scale, reset, True, work)
            else:
                trace_back(chain, alpha, reset, True, state, path)

    return repeat_part
