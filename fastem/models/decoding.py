"""The likeliest path of states, all stretches at once.

A stretch decoded from a guess of what came before is right if, where it meets the one
before, no state scores better beside the guess than the state the path goes through:
what is added to the other paths is then no more than what is added to this one. Best
paths coalesce, as messages forget (S. Maleki, M. Musuvathi and T. Mytkowicz,
"Parallelizing dynamic programming through rank convergence", PPoPP 2014).
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import get_thread_id, typeof, types

from fastem.compile import launch_threads, parallel_kernel
from fastem.kernels.chains import CHAINS, STEPS
from fastem.kernels.memory import full, zeros
from fastem.kernels.paths import best_scores, best_state, trace_back
from fastem.kernels.steps import best_step
from fastem.kernels.tiles import LANES, STRIDE
from fastem.lowering import unpack
from fastem.models.chain_tiles import (
    add_gain,
    condition,
    copy_message,
    enter,
    leave,
    write_tile,
)
from fastem.models.observations import (
    EMISSIONS,
    emissions_for_kernels,
    rows_for_kernels,
    set_log_density,
)
from fastem.models.smoothing import NO_ROW, make_chain, make_log_chain
from fastem.models.stretches import (
    FIRST_WARM_UP,
    SEQUENCES,
    Cut,
    Reach,
    Sequences,
    cut,
    junctions,
    make_workspace,
    relax,
    slot_of,
    stage,
    stage_memory,
    starts_by_step,
)
from fastem.models.sweeps import sweep

# Scores of thousands of steps agree to rounding within this.
TIE = 1e-8
GUESSED, GIVEN_SCORES, GIVEN_SCORES_AND_STATES = 0, 1, 2


class Decoding(NamedTuple):
    """The likeliest path, its log probability, the first impossible row or -1."""

    log_probability: float
    path: np.ndarray
    impossible_row: int


class Ends(NamedTuple):
    """What stretches know where they meet; column g is of stretch g."""

    score_in: np.ndarray  # (K, G), before its first step
    score_out: np.ndarray  # (K, G), at its last step
    state_before: np.ndarray  # (G,), before its first step
    state_last: np.ndarray  # (G,), at its last step
    gain: np.ndarray  # (G,), what was subtracted from the scores of its steps
    impossible_row: np.ndarray  # (G,)


def viterbi(family, params, sequences, reach=None):
    """Return the likeliest path of each sequence.

    Parameters
    ----------
    family : Family
    params : HMMParams
    sequences : Sequences
    reach : Reach, optional
        What earlier searches on these sequences learned.

    Returns
    -------
    Decoding
    """
    X, n_states = sequences.X, len(params.startprob)
    reach = reach or Reach()
    chain = make_log_chain(params.startprob, params.transmat)
    _, tile_params = family.tile_params(
        params.emissions, np.zeros(n_states), np.dtype(np.float64)
    )
    kernel = make_decoder()
    rows = cut(len(X))
    joined = junctions(rows, sequences.bounds)
    starts = starts_by_step(sequences.bounds)
    ends = _ends(rows.n_bundles * CHAINS, n_states)
    path = np.empty((len(X), 1), np.int64)

    def run(todo, warm_up, given=GUESSED):
        stretch = rows._replace(warm_up=warm_up)
        workspace = make_workspace(stretch, len(todo), len(chain.out))
        kernel(
            len(todo),
            *sequences,
            starts,
            stretch,
            chain,
            emissions,
            tile_params.log_offset[0],
            np.int64(given),
            ends,
            path,
            workspace,
            todo,
        )

    def disagreeing(joined):
        late = joined[wrong(joined)]
        return np.unique(slot_of(rows, np.append(late, late + 1)))

    def wrong(joined):
        state = ends.state_last[joined]
        with np.errstate(invalid="ignore"):
            gained = (ends.score_out[:, :-1] - ends.score_in[:, 1:])[:, joined]
        along_path = gained[state, np.arange(len(joined))]
        return (state != ends.state_before[joined + 1]) | (
            gained > along_path + TIE
        ).any(axis=0)

    with (
        rows_for_kernels(X) as fetched,
        emissions_for_kernels(
            family, X.shape[1], tile_params, rows.n_slots
        ) as emissions,
    ):
        sequences = sequences._replace(X=fetched)
        if not reach.exact:
            relax(run, joined, disagreeing, rows, reach)
        if reach.exact:
            scores, _ = sweep(
                *((best_step,), sequences, starts, chain, emissions),
                *(rows.length, 0.0),
            )
            _decode_exactly(run, scores, rows, ends, joined)
    gain = ends.gain.sum()
    state = ends.state_last[joined]
    gain += (ends.score_out[state, joined] - ends.score_in[state, joined + 1]).sum()
    row = int(ends.impossible_row.min())
    if row < len(X):
        return Decoding(-np.inf, path[:, 0], row)
    return Decoding(float(gain), path[:, 0], -1)


def _decode_exactly(run, scores, rows, ends, joined):
    """Decode from exact scores: try all states at each stretch's end, then join."""
    ends.score_in[:] = 0.0
    ends.score_in[:, : len(scores)] = scores.T
    slots = np.arange(rows.n_slots)
    run(slots, FIRST_WARM_UP, GIVEN_SCORES)
    guessed = ends.state_last.copy()
    n_states = scores.shape[1]
    before = np.empty((n_states, len(guessed)), np.int64)
    for state in range(n_states):
        ends.state_last[:] = state
        run(slots, 0, GIVEN_SCORES_AND_STATES)
        before[state] = ends.state_before
    ends.state_last[:] = guessed
    for stretch in joined[::-1]:
        onward = ends.state_last[stretch + 1]
        ends.state_last[stretch] = before[onward, stretch + 1]
    run(slots, 0, GIVEN_SCORES_AND_STATES)


def _ends(n_stretches, n_states):
    return Ends(
        np.zeros((n_states, n_stretches)),
        np.zeros((n_states, n_stretches)),
        np.zeros(n_stretches, np.int64),
        np.zeros(n_stretches, np.int64),
        np.zeros(n_stretches),
        np.full(n_stretches, NO_ROW),
    )


@functools.cache
def make_decoder():
    """Build the kernel that finds the likeliest path."""
    launch_threads()
    arguments = (
        *SEQUENCES,
        typeof(Cut(1, 1, 1, 1)),
        typeof(make_chain(np.ones(1), np.ones((1, 1)))),
        EMISSIONS,
        types.float64,
        types.int64,
        typeof(_ends(1, 1)),
        types.Array(types.int64, 2, "C"),
        typeof(np.empty((1, 1, 1))),
        typeof(np.zeros(1, np.int64)),
    )

    @parallel_kernel(*arguments)
    def decode_part(packed, part):
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
            given,
            ends,
            path,
            workspace,
            todo,
        ) = unpack(packed)
        sequences = Sequences(X, bounds, sequence_weight, step_weight, states)
        n_states, size = chain.start.size, chain.out.shape[0]
        margin = cut.warm_up // STEPS
        n_core = cut.length // STEPS
        n_tiles = n_core + 2 * margin
        staged = stage_memory(X.n_features)
        log_b = zeros(size * STRIDE, np.float64)
        thread = get_thread_id() % workspace.shape[0]
        kept = workspace[thread]
        message = full(size * STRIDE, -np.inf, np.float64)
        work = zeros(size * STRIDE, np.float64)
        top = zeros(LANES, np.float64)
        gain = zeros(LANES, np.float64)
        state = zeros(CHAINS, np.float64)
        tile_path = zeros(LANES, np.float64)
        plain_tile = zeros(n_tiles, np.float64)
        first = todo[part] * cut.n_bundles // cut.n_slots
        last = (todo[part] + 1) * cut.n_bundles // cut.n_slots
        for bundle in range(first, last):
            enter(given, ends.score_in, bundle, 0.0, n_states, message)
            gain[:] = 0.0
            for s in range(CHAINS):
                ends.gain[bundle * CHAINS + s] = 0.0
                ends.impossible_row[bundle * CHAINS + s] = NO_ROW
            for tile in range(margin if given else 0, n_tiles):
                step = (tile - margin) * STEPS
                stage(sequences, starts, cut, bundle, step, staged)
                set_log_density(emissions, thread, staged.rows, log_b)
                condition(log_b, n_states, staged, states)
                if tile == margin:
                    leave(message, ends.score_in, bundle, n_states)
                delta, reset = kept[tile, : size * STRIDE], kept[tile, size * STRIDE :]
                copy_message(message, delta, size)
                plain = staged.plain[0] > 0
                plain_tile[tile] = staged.plain[0]
                if not plain:
                    reset[:LANES] = staged.reset
                best_scores(chain, log_b, delta, top, reset, plain, work)
                copy_message(delta[LANES:], message, size)
                if tile == margin + n_core - 1:
                    leave(message, ends.score_out, bundle, n_states)
                if (step >= 0) & (step < cut.length):
                    add_gain(
                        top,
                        staged,
                        log_offset,
                        gain,
                        ends.impossible_row,
                        bundle,
                    )
            for b in range(LANES):
                ends.gain[bundle * CHAINS + b % CHAINS] += gain[b]
            for s in range(CHAINS):
                state[s] = float(best_state(message, n_states, s))
            for reverse in range(n_tiles - margin):
                tile = n_tiles - 1 - reverse
                step = (tile - margin) * STEPS
                if (tile == margin + n_core - 1) & (given == GIVEN_SCORES_AND_STATES):
                    for s in range(CHAINS):
                        state[s] = float(ends.state_last[bundle * CHAINS + s])
                if tile == margin + n_core - 1:
                    for s in range(CHAINS):
                        ends.state_last[bundle * CHAINS + s] = np.int64(state[s])
                delta, reset = kept[tile, : size * STRIDE], kept[tile, size * STRIDE :]
                plain = plain_tile[tile] > 0
                trace_back(chain, delta, reset, plain, state, tile_path)
                if step < cut.length:
                    begin = bundle * CHAINS * cut.length + step
                    write_tile(tile_path, begin, cut.length, path)
            for s in range(CHAINS):
                ends.state_before[bundle * CHAINS + s] = np.int64(state[s])

    return decode_part
