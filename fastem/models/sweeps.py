"""One chain after the other, step by step: exact messages where stretches meet."""

import functools

import numpy as np
from numba import get_thread_id, typeof, types

from fastem.compile import parallel_kernel
from fastem.kernels.chains import CHAINS, STEPS
from fastem.kernels.memory import full, zeros
from fastem.kernels.tiles import LANES, STRIDE
from fastem.lowering import unpack
from fastem.models.chain_tiles import condition
from fastem.models.observations import EMISSIONS, set_log_density
from fastem.models.smoothing import make_chain
from fastem.models.stretches import SEQUENCES, Cut, Sequences, stage, stage_memory


def sweep(steps, sequences, starts, chain, emissions, length, start):
    """Return the messages that enter stretches of some length, from both ends.

    Parameters
    ----------
    steps : tuple of callable
        Functions of :mod:`fastem.kernels.steps`, forward and, if wanted, backward,
        which runs at the same time.
    sequences : Sequences
        With rows for kernels.
    starts : ndarray of uint8
        Of :func:`~fastem.models.stretches.starts_by_step`.
    chain : Chain
    emissions : Emissions
    length : int
    start : float
        What messages begin with.

    Returns
    -------
    list of ndarray of shape (G, K)
    """
    n_stretches = -(-sequences.X.n_rows // length)
    shape = (2, n_stretches, len(chain.start))
    messages = np.full(shape, start)
    kernel = make_sweep(steps)
    kernel(len(steps), *sequences, starts, chain, emissions, length, start, messages)
    return messages[0], messages[1]


@functools.cache
def make_sweep(steps):
    """Build the kernel that follows chains forward in one part, back in the other."""
    forward_step, backward_step = steps[0], steps[-1]
    arguments = (
        *SEQUENCES,
        typeof(make_chain(np.ones(1), np.ones((1, 1)))),
        EMISSIONS,
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
            emissions,
            length,
            start,
            messages,
        ) = unpack(packed)
        sequences = Sequences(X, bounds, sequence_weight, step_weight, states)
        n_rows, n_states = X.n_rows, chain.start.size
        # Stretches of one tile's steps, side by side, are consecutive rows.
        consecutive = Cut(STEPS, 0, 1, 1)
        staged = stage_memory(X.n_features)
        thread = get_thread_id() % len(emissions.kept)
        log_b = zeros(chain.out.shape[0] * STRIDE, np.float64)
        message = full(n_states, start, np.float64)
        work = zeros(n_states, np.float64)
        n_tiles = (n_rows + LANES - 1) // LANES
        for t in range(n_tiles):
            tile = t if part == 0 else n_tiles - 1 - t
            stage(sequences, starts, consecutive, tile, 0, staged)
            set_log_density(emissions, thread, staged.rows, log_b)
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
