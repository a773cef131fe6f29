"""Hidden Markov models: rows tied into chains by a Markov chain of K states.

The E-step reads the rows once, a bundle of stretches at a time, and keeps messages for
one bundle a thread. A stretch begins its recursions a few steps outside itself from a
uniform message; where two stretches meet, their messages must agree to rounding, and
those that do not run again with a longer warm-up. For chains that never forget, one
sweep, step after step, finds the messages exactly. Where scaled messages underflow, the
log domain takes over.

Bundles depend on the number of rows alone and add to slots in order, so that the bits
of a result do not depend on the number of threads.
"""

from typing import Any, NamedTuple

import numpy as np

from fastem.kernels import steps
from fastem.kernels.chains import CHAINS, TINY
from fastem.models.observations import emissions_for_kernels, rows_for_kernels
from fastem.models.smoothing import (
    LOG,
    NO_ROW,
    SCALED,
    Messages,
    chain_slots,
    make_chain,
    make_log_chain,
    make_smoother,
    outputs,
)
from fastem.models.stretches import (
    Reach,
    Sequences,
    cut,
    junctions,
    make_workspace,
    relax,
    slot_of,
    starts_by_step,
)
from fastem.models.sweeps import sweep

__all__ = [
    "ChainPosterior",
    "Effort",
    "HMMParams",
    "HMMStatistics",
    "ImpossibleObservation",
    "Sequences",
    "e_step",
    "posterior",
]

# The second runs where the first may have lost what matters to underflow.
DOMAINS = SCALED, LOG
# Messages, which sum to one, agree where two stretches meet if within this.
AGREEMENT = 1e-13
STEPS_OF = {
    SCALED: (steps.forward_step, steps.backward_step),
    LOG: (steps.log_forward_step, steps.log_backward_step),
}


class HMMParams(NamedTuple):
    """Start and transition probabilities, (K,) and (K, K), and the emissions'."""

    startprob: np.ndarray
    transmat: np.ndarray
    emissions: Any


class HMMStatistics(NamedTuple):
    """Sums over steps; ``transitions[j, k]`` is the expected number of j to k."""

    log_likelihood: float
    total_weight: float
    start: np.ndarray
    transitions: np.ndarray
    emissions: Any


class ChainPosterior(NamedTuple):
    """What is known of each step; arrays not asked for have size zero."""

    log_likelihood: float
    impossible_row: int
    smoothed: np.ndarray
    filtered: np.ndarray
    log_density: np.ndarray


class Effort(dict):
    """How far recursions had to reach, by domain; kept from one E-step to the next."""

    def __missing__(self, recursions):
        """Begin with no experience."""
        self[recursions] = Reach()
        return self[recursions]


class ImpossibleObservation(Exception):
    """No state allows what was observed at row :attr:`row`, given the rows before."""

    def __init__(self, row):
        super().__init__(row)
        self.row = row


def e_step(family, params, sequences, effort=None, starts=None):
    """Return the statistics of sequences under the parameters.

    L. R. Rabiner, *Proc. IEEE* 77 (1989), eqs. 19 to 40, 95 and 109 to 111.

    Parameters
    ----------
    family : Family
    params : HMMParams
    sequences : Sequences
    effort : Effort, optional
        What earlier E-steps on these sequences learned.
    starts : ndarray of int64, optional
        Bounds at which chains start; at the others only weights change. All bounds but
        the last by default.

    Returns
    -------
    HMMStatistics

    Raises
    ------
    ImpossibleObservation
        Where no state allows what was observed.
    """
    out = outputs(0, len(params.startprob))
    sums, emissions, impossible_row = _smooth(
        family,
        params,
        sequences,
        out,
        Effort() if effort is None else effort,
        starts,
        accumulate=True,
    )
    if impossible_row >= 0:
        raise ImpossibleObservation(impossible_row)
    return HMMStatistics(
        float(sums.log_likelihood.sum()),
        float(sums.weight.sum()),
        sums.start.sum(axis=0),
        sums.transitions,
        emissions,
    )


def posterior(
    family,
    params,
    sequences,
    *,
    smoothed=False,
    filtered=False,
    log_density=False,
):
    """Return what is asked for of each step, and the log-likelihood of all.

    Parameters
    ----------
    family : Family
    params : HMMParams
    sequences : Sequences
    smoothed, filtered : bool
        P(z_t | x_1..T) and P(z_t | x_1..t), (N, K).
    log_density : bool
        log p(x_t | z_t), (N, K).

    Returns
    -------
    ChainPosterior
        With ``log_likelihood`` -inf where ``impossible_row`` is not -1.
    """
    out = outputs(
        len(sequences.X),
        len(params.startprob),
        smoothed=smoothed,
        filtered=filtered,
        log_density=log_density,
    )
    sums, _, impossible_row = _smooth(
        family, params, sequences, out, Effort(), accumulate=False
    )
    log_likelihood = float(sums.log_likelihood.sum())
    if impossible_row >= 0:
        log_likelihood = -np.inf
    return ChainPosterior(log_likelihood, impossible_row, *out)


def _smooth(family, params, sequences, out, effort, starts=None, *, accumulate):
    """Run the recursions; return chain and emission statistics and the bad row."""
    ends = sequences.bounds
    if starts is not None:
        ends = np.append(starts, ends[-1])
    frame, tile_params = family.tile_params(
        params.emissions, np.zeros(len(params.startprob)), np.dtype(np.float64)
    )
    for recursions in DOMAINS:
        sums, slots = _run(
            family,
            recursions,
            params,
            tile_params,
            sequences,
            ends,
            out,
            effort[recursions],
            accumulate,
        )
        suspect = int(sums.suspect_row.min())
        if suspect == NO_ROW:
            break
    if recursions is LOG and out.filtered.size:
        np.exp(out.filtered, out=out.filtered)
    if out.log_density.size:
        out.log_density[:] += tile_params.log_offset[0]
    n_states = len(params.startprob)
    transitions = sums.transitions.sum(axis=0)[:n_states, :n_states]
    if recursions is SCALED:
        transitions = transitions * params.transmat
    emissions = None
    if accumulate:
        emissions = family.statistics(params.emissions, frame, tile_params, slots)
    impossible_row = -1 if suspect == NO_ROW else suspect
    return sums._replace(transitions=transitions), emissions, impossible_row


def _run(
    family, recursions, params, tile_params, sequences, ends, out, reach, accumulate
):
    """Run one domain's recursions until neighbouring stretches agree."""
    X, n_states = sequences.X, len(params.startprob)
    build = make_chain if recursions is SCALED else make_log_chain
    chain = build(params.startprob, params.transmat)
    kernel = make_smoother(recursions)
    rows = cut(len(X))
    n_stretches = rows.n_bundles * CHAINS
    messages = Messages(*np.zeros((4, n_states, n_stretches)))
    sums = chain_slots(rows.n_slots, n_states)
    slots = family.slots(params.emissions, rows.n_slots if accumulate else 0)
    joined = junctions(rows, ends)
    starts = starts_by_step(ends)

    def run(todo, warm_up, given=False):
        stretch = rows._replace(warm_up=warm_up)
        kernel(
            len(todo),
            *sequences,
            starts,
            stretch,
            chain,
            emissions,
            tile_params.log_offset[0],
            np.int64(accumulate),
            np.int64(given),
            messages,
            sums,
            out,
            make_workspace(stretch, len(todo), 2 * len(chain.out)),
            todo,
        )

    def clear(todo):
        for field in (*sums, *(slots if accumulate else ())):
            field[todo] = 0
        sums.suspect_row[todo] = NO_ROW

    def disagreeing(joined):
        late = joined[_differ(messages.forward_out, messages.forward_in)[joined]]
        early = joined[_differ(messages.backward_in, messages.backward_out)[joined]]
        todo = np.unique(slot_of(rows, np.append(late + 1, early)))
        clear(todo)
        return todo

    def _differ(at_end, at_start):
        """Say which stretches end in another message than that the next starts with."""
        a, b = at_end[:, :-1], at_start[:, 1:]
        if recursions is LOG:
            # Where nothing is possible all are -inf, and nothing agrees.
            with np.errstate(invalid="ignore"):
                a, b = (np.exp(m - m.max(axis=0)) for m in (a, b))
        # Both are zero where no message was asked for.
        a, b = (m / np.maximum(m.sum(axis=0), TINY) for m in (a, b))
        return ~(np.abs(a - b).max(axis=0) <= AGREEMENT)

    with (
        rows_for_kernels(X) as fetched,
        emissions_for_kernels(
            family, X.shape[1], tile_params, rows.n_slots, slots
        ) as emissions,
    ):
        sequences = sequences._replace(X=fetched)
        if not reach.exact:
            relax(run, joined, disagreeing, rows, reach)
        if reach.exact:
            given = sweep(
                STEPS_OF[recursions],
                sequences,
                starts,
                chain,
                emissions,
                rows.length,
                recursions.uniform,
            )
            for target, exact in zip(messages[::2], given, strict=True):
                target[:] = recursions.uniform
                target[:, : len(exact)] = exact.T
            clear(slice(None))
            run(np.arange(rows.n_slots), 0, given=True)
    return sums, slots
