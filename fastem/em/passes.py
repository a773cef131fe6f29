"""Passes over data in which parameters move after every batch."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastem.em.stepwise import Schedule, StepwiseState, begin, step


def row_batches(X, weight, size, first_size):
    """Yield about equal batches of rows, but for the first, each spread over them."""
    n_batches = max(1, round(len(X) / size))
    if n_batches == 1:
        yield np.ascontiguousarray(X), weight, len(X)
        return
    for rows in spread(len(X), n_batches, first_size / size):
        row_weight = weight[rows] if weight.size else weight
        yield X.take(rows, axis=0), row_weight, len(rows)


def spread(n, n_batches, n_first):
    """Yield which of ``n`` rows each batch takes, the first as many as some others.

    So rows that are stored in some order, as most are, are mixed within a block: of
    as many neighbours as there are batches each gets one, in turn from a random one
    on, lest batches fall in with an order that comes round, such as hours of a day.
    """
    begins = np.arange(0, n, n_batches)
    turns = np.random.default_rng(0).integers(n_batches, size=len(begins))
    n_first = min(n_batches, max(1, round(n_first)))
    for numbers in (range(n_first), *([i] for i in range(n_first, n_batches))):
        chosen = [begins + (turns + number) % n_batches for number in numbers]
        chosen = np.concatenate(chosen)
        yield chosen[chosen < n]


class Minibatch(NamedTuple):
    """How rows are cut into batches, and what follows each.

    Attributes
    ----------
    size : int
        Rows of a batch, about.
    first_size : int
        Rows of the first batch of all, about. Too few for the parameters, and what
        they lead to is not mended later (measured: K=20, D=16 ends 2.3 % lower after a
        first batch of 500 than after one of 3200).
    schedule : Schedule
    average : bool
        Whether the parameters to keep are those of averaged statistics.
    cut : callable
        ``cut(block, weight, size, first_size)`` yields batches as ``e_step`` takes
        them, their weights and numbers of rows.
    """

    size: int
    first_size: int
    schedule: Schedule
    average: bool
    cut: Callable


class PassStatistics(NamedTuple):
    """What a pass has come to; ``state`` is parameters before the first batch of all.

    Each batch counts with the log-likelihood at the parameters that it met.
    """

    log_likelihood: float
    total_weight: float
    state: StepwiseState


def add_block(model, minibatch, repeated, so_far, block, weight):
    """Return what a pass has come to, one block of rows further.

    Parameters
    ----------
    model : MixtureModel or Chains
    minibatch : Minibatch
    repeated : bool
        Whether an earlier pass saw the block.
    so_far : PassStatistics
    block : ndarray of shape (n, D), or Sequences
    weight : ndarray of shape (n,), of size zero for ones

    Returns
    -------
    PassStatistics
    """
    first_size = minibatch.first_size
    if isinstance(so_far.state, StepwiseState):
        first_size = minibatch.size
    size = minibatch.size
    for batch, batch_weight, n_rows in minibatch.cut(block, weight, size, first_size):
        statistics = _follow(
            model,
            minibatch.schedule,
            so_far.state,
            batch,
            batch_weight,
            repeated=repeated,
            n_batches=max(1.0, n_rows / size),
        )
        so_far = PassStatistics(
            so_far.log_likelihood + statistics.log_likelihood,
            so_far.total_weight + statistics.total_weight,
            statistics.state,
        )
    return so_far


def _follow(model, schedule, state, batch, weight, *, repeated, n_batches):
    """Return what one batch says, and the state after it.

    If it is the first of all it may be as large as ``n_batches`` of the others.
    """
    moves = model.m_step, model.recenter
    first = not isinstance(state, StepwiseState)
    params = state if first else state.params
    found = model.e_step(params, batch, weight)
    if not first:
        state = step(state, found, *moves, schedule, repeated=repeated)
    elif found.total_weight > 0:
        unit = found.total_weight / n_batches
        state = begin(params, found, *moves, unit=unit)
    return PassStatistics(found.log_likelihood, found.total_weight, state)
