"""One chain after the other, step by step: exact messages where stretches meet."""

import functools

import numpy as np
from numba import typeof, types

from fastem.compile import (
    data_type,
    parallel_kernel,
)
from fastem.kernels.chains import CHAINS, STEPS
from fastem.kernels.tiles import LANES, STRIDE
from fastem.lowering import unpack
from fastem.models.chain_tiles import condition
from fastem.models.smoothing import example, make_chain
from fastem.models.stretches import Cut, Sequences, stage, stage_memory


def sweep(family, steps, sequences, starts, chain, tile_params, length, start):
    """Return the messages that enter stretches of some length, from both ends.

    Parameters
    ----------
    family : Family
    steps : tuple of callable
        Functions of :mod:`fastem.kernels.steps`, forward and, if wanted, backward,
        which runs at the same time.
    sequences : Sequences
    starts : ndarray of uint8
        Of :func:`~fastem.models.stretches.starts_by_step`.
    chain : Chain
    tile_params : NamedTuple
    length : int
    start : float
        What messages begin with.

    Returns
    -------
    list of ndarray of shape (G, K)
    """
    n_stretches = -(-len(sequences.X) // length)
    shape = (2, n_stretches, len(chain.start))
    messages = np.full(shape, start)
    X = sequences.X
    kernel = make_sweep(family, steps, X.dtype.name)
    kernel(len(steps), *sequences, starts, chain, tile_params, length, start, messages)
    return messages[0], messages[1]


@functools.cache
def make_sweep(family, steps, dtype):
    """Build the kernel that follows chains forward in one part, back in the other."""
    allocate, load, log_density = family.allocate, family.load, family.log_density
    forward_step, backward_step = steps[0], steps[-1]
    tile_params_type, _ = map(typeof, example(family))
    arguments = (
        data_type(dtype, 2),
        types.Array(types.int64, 1, "C"),
        data_type("float64", 1),
        data_type("float64", 1),
        data_type("int64", 1),
        types.Array(types.uint8, 1, "C"),
        typeof(make_chain(np.ones(1), np.ones((1, 1)))),
        tile_params_type,
        types.int64,
        types.float64,
        typeof(np.empty((1, 1, 1))),
    )

    @parallel_kernel(*arguments)
    def sweep_part(packed, part):
        (
            X,
            bounds,
            sequence_weight,
            step_weight,
            states,
            starts,
            chain,
            tile_params,
            length,
            start,
            messages,
        ) = unpack(packed)
        sequences = Sequences(X, bounds, sequence_weight, step_weight, states)
        n_rows, n_states = X.shape[0], chain.start.size
        # Stretches of one tile's steps, side by side, are consecutive rows.
        consecutive = Cut(STEPS, 0, 1, 1)
        scratch = allocate(tile_params)
        staged = stage_memory(X.shape[1])
        log_b = np.zeros(chain.out.shape[0] * STRIDE)
        message = np.full(n_states, start)
        work = np.zeros(n_states)
        n_tiles = (n_rows + LANES - 1) // LANES
        for t in range(n_tiles):
            tile = t if part == 0 else n_tiles - 1 - t
            stage(sequences, starts, consecutive, tile, 0, staged)
            load(staged.rows, 0, LANES, tile_params, scratch)
            log_density(tile_params, scratch, log_b)
            condition(log_b, n_states, staged, states)
            for r in range(LANES):
                offset = r if part == 0 else LANES - 1 - r
                row = tile * LANES + offset
                if row >= n_rows:
                    continue
                lane = offset % STEPS * CHAINS + offset // STEPS
                begins = staged.reset[lane] > 0
                if part == 0:
                    if row % length == 0:
                        messages[0, row // length] = message
                    forward_step(chain, log_b, lane, begins, message, work)
                else:
                    if (row + 1) % length == 0:
                        messages[1, row // length] = message
                    backward_step(chain, log_b, lane, begins, message, work)

    return sweep_part
