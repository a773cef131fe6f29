"""The kernel of forward-backward recursions over stretches of sequences."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import get_thread_id, typeof, types

from fastem.compile import launch_threads, parallel_kernel
from fastem.kernels import chains, log_chains
from fastem.kernels.chains import CHAINS, STEPS
from fastem.kernels.memory import zeros
from fastem.kernels.tiles import LANES, STRIDE, padded
from fastem.lowering import unpack
from fastem.models.chain_tiles import (
    add_log_likelihood,
    condition,
    copy_message,
    enter,
    leave,
    weigh_posteriors,
    write_tile,
)
from fastem.models.observations import (
    EMISSIONS,
    add_statistics,
    add_what_waits,
    set_log_density,
)
from fastem.models.stretches import (
    SEQUENCES,
    Cut,
    Sequences,
    split_tile,
    stage,
    stage_memory,
)


class Recursions(NamedTuple):
    """Tile functions of one domain, and the logarithm or value of a message of ones."""

    prepare: Callable
    forward: Callable
    backward: Callable
    add_transitions: Callable
    balance: Callable
    log_scale_of: Callable
    log_scale_of_four: Callable
    suspicious: Callable
    uniform: float


SCALED = Recursions(
    chains.likelihoods,
    chains.forward,
    chains.backward,
    chains.add_transitions,
    chains.balance,
    chains.log_scale_of,
    chains.log_scale_of_four,
    chains.underflows,
    1.0,
)
LOG = Recursions(
    log_chains.log_densities,
    log_chains.log_forward,
    log_chains.log_backward,
    log_chains.log_add_transitions,
    log_chains.log_balance,
    log_chains.log_scale_of,
    log_chains.log_scale_of_four,
    log_chains.impossible,
    0.0,
)


# No row of the data.
NO_ROW = np.iinfo(np.int64).max


class Chain(NamedTuple):
    """A transition matrix for kernels, in blocks of four by four that are not zero."""

    start: np.ndarray  # (K,)
    into: np.ndarray  # transposed, (K, K), padded
    into_offsets: np.ndarray
    into_columns: np.ndarray
    out: np.ndarray  # (K, K), padded
    out_offsets: np.ndarray
    out_columns: np.ndarray


class Messages(NamedTuple):
    """Messages where stretches meet, (K, G): column ``g`` is of stretch g."""

    forward_in: np.ndarray
    forward_out: np.ndarray
    backward_in: np.ndarray
    backward_out: np.ndarray


class ChainSlots(NamedTuple):
    """Sums of each slot."""

    log_likelihood: np.ndarray  # (P,)
    weight: np.ndarray  # (P,)
    start: np.ndarray  # (P, K)
    transitions: np.ndarray  # (P, K, K), padded
    suspect_row: np.ndarray  # (P,)


class Outputs(NamedTuple):
    """Arrays to fill, of size zero where they are not asked for."""

    smoothed: np.ndarray
    filtered: np.ndarray
    log_density: np.ndarray


def make_chain(startprob, transmat):
    """Return a chain in the form that kernels read."""
    n_states = len(startprob)
    size = padded_states(n_states)
    out = np.zeros((size, size))
    out[:n_states, :n_states] = transmat
    into = np.ascontiguousarray(out.T)
    return Chain(
        np.ascontiguousarray(startprob, np.float64),
        into,
        *_nonzero_blocks(into),
        out,
        *_nonzero_blocks(out),
    )


def make_log_chain(startprob, transmat):
    """Return a chain of log probabilities, in the same blocks."""
    n_states = len(startprob)
    with np.errstate(divide="ignore"):
        log_start, log_transmat = np.log(startprob), np.log(transmat)
    chain = make_chain(startprob, transmat)
    for matrix, values in ((chain.out, log_transmat), (chain.into, log_transmat.T)):
        matrix[:] = -np.inf
        matrix[:n_states, :n_states] = values
    return chain._replace(start=log_start)


def padded_states(n_states):
    """Return the number of rows that kernels work: two, or a multiple of four."""
    return 2 if n_states <= 2 else padded(n_states, 4)


def _nonzero_blocks(matrix):
    n_blocks = len(matrix) // 4
    size = 4 * n_blocks  # none of a matrix of two by two
    blocks = matrix[:size, :size].reshape(n_blocks, 4, n_blocks, 4).any(axis=(1, 3))
    offsets = np.concatenate([[0], blocks.sum(axis=1).cumsum()])
    return offsets.astype(np.int64), np.nonzero(blocks)[1].astype(np.int64)


def chain_slots(n_slots, n_states):
    """Return zeroed sums."""
    size = padded_states(n_states)
    return ChainSlots(
        np.zeros(n_slots),
        np.zeros(n_slots),
        np.zeros((n_slots, n_states)),
        np.zeros((n_slots, size, size)),
        np.full(n_slots, NO_ROW),
    )


def outputs(n_rows, n_states, *, smoothed=False, filtered=False, log_density=False):
    """Return arrays for what is asked for, of size zero for the rest."""
    return Outputs(
        np.empty((n_rows if smoothed else 0, n_states)),
        np.empty((n_rows if filtered else 0, n_states)),
        np.empty((n_rows if log_density else 0, n_states)),
    )


@functools.cache
def make_smoother(recursions):
    """Build the kernel of the forward-backward recursions in one domain."""
    prepare, forward, backward = recursions[:3]
    add_transitions, balance, log_scale_of = recursions[3:6]
    log_scale_of_four, suspicious, uniform = recursions[6:]
    launch_threads()
    messages = np.zeros((1, 1))
    arguments = (
        *SEQUENCES,
        typeof(Cut(1, 1, 1, 1)),
        typeof(make_chain(np.ones(1), np.ones((1, 1)))),
        EMISSIONS,
        types.float64,
        types.int64,
        types.int64,
        typeof(Messages(messages, messages, messages, messages)),
        typeof(chain_slots(1, 1)),
        typeof(outputs(1, 1)),
        typeof(np.empty((1, 1, 1))),
        typeof(np.zeros(1, np.int64)),
    )

    @parallel_kernel(*arguments)
    def smooth_part(packed, part):
        (
            X,
            bounds,
            sequence_weight,
            step_weight,
            states,
            starts,
            cut,
            chain,
            emissions,
            log_offset,
            accumulates,
            given,
            messages,
            sums,
            out,
            workspace,
            todo,
        ) = unpack(packed)
        sequences = Sequences(X, bounds, sequence_weight, step_weight, states)
        n_states = chain.start.size
        size = chain.out.shape[0]
        margin = cut.warm_up // STEPS
        n_core = cut.length // STEPS
        n_tiles = n_core + 2 * margin
        staged = stage_memory(X.n_features)
        thread = get_thread_id() % workspace.shape[0]
        kept = workspace[thread]
        message = zeros(size * STRIDE, np.float64)
        # Families take responsibilities by four rows at least.
        gamma = zeros(max(4, size) * STRIDE, np.float64)
        v = zeros(size * STRIDE, np.float64)
        largest = zeros(LANES, np.float64)
        plain_tile = zeros(n_tiles, np.float64)
        slot = todo[part]
        backwards = (accumulates > 0) | (out.smoothed.size > 0)
        total = sums.transitions[slot]
        first = slot * cut.n_bundles // cut.n_slots
        last = (slot + 1) * cut.n_bundles // cut.n_slots
        for bundle in range(first, last):
            enter(given, messages.forward_in, bundle, uniform, n_states, message)
            # What comes after the stretch is for the way back alone.
            for tile in range(n_tiles if backwards else margin + n_core):
                step = (tile - margin) * STEPS
                stage(sequences, starts, cut, bundle, step, staged)
                memory = kept[tile if backwards else 0]
                density, alpha, scale, reset = split_tile(memory, size * STRIDE)
                set_log_density(emissions, thread, staged.rows, density)
                core = (step >= 0) & (step < cut.length)
                here = bundle * CHAINS * cut.length + step
                if (out.log_density.size > 0) & core:
                    write_tile(density, here, cut.length, out.log_density)
                condition(density, n_states, staged, states)
                prepare(density, n_states, largest)
                density[n_states * STRIDE :] = 0.0
                if tile == margin:
                    leave(message, messages.forward_in, bundle, n_states)
                copy_message(message, alpha, size)
                plain = staged.plain[0] > 0
                plain_tile[tile] = staged.plain[0]
                if not plain:
                    reset[:] = staged.reset
                forward(chain, density, alpha, scale, reset, plain, gamma)
                copy_message(alpha[LANES:], message, size)
                if tile == margin + n_core - 1:
                    leave(message, messages.forward_out, bundle, n_states)
                if core:
                    add_log_likelihood(
                        log_scale_of,
                        log_scale_of_four,
                        suspicious,
                        largest,
                        scale,
                        staged,
                        log_offset,
                        sums,
                        slot,
                    )
                    if out.filtered.size > 0:
                        write_tile(alpha[CHAINS:], here, cut.length, out.filtered)

            if not backwards:
                continue
            enter(given, messages.backward_in, bundle, uniform, n_states, gamma)
            balance(message, gamma, n_states)
            copy_message(gamma, message, n_states)
            for reverse in range(n_tiles - margin):
                tile = n_tiles - 1 - reverse
                step = (tile - margin) * STEPS
                if tile == margin + n_core - 1:
                    leave(message, messages.backward_in, bundle, n_states)
                density, alpha, scale, reset = split_tile(kept[tile], size * STRIDE)
                plain = plain_tile[tile] > 0
                backward(chain, density, alpha, scale, reset, plain, message, gamma, v)
                if step >= cut.length:
                    continue
                here = bundle * CHAINS * cut.length + step
                if out.smoothed.size > 0:
                    write_tile(gamma, here, cut.length, out.smoothed)
                if accumulates:
                    stage(sequences, starts, cut, bundle, step, staged)
                    add_transitions(chain, alpha, v, plain, staged.weight, total)
                    weigh_posteriors(gamma, n_states, staged, sums, slot)
                    add_statistics(emissions, thread, staged.rows, gamma, v, slot)
            leave(message, messages.backward_out, bundle, n_states)
        if accumulates:
            add_what_waits(emissions, thread, slot)

    return smooth_part
