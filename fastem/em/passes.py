"""Passes over data in which parameters move after every batch."""

from typing import NamedTuple

import numpy as np

from fastem.em.stepwise import Schedule, StepwiseState, begin, step


class Minibatch(NamedTuple):
    """How rows are cut into batches, and what follows each.

    Attributes
    ----------
    size : int
        Rows of a batch, about.
    schedule : Schedule
    average : bool
        Whether the parameters to keep are those of averaged statistics.
    """

    size: int
    schedule: Schedule
    average: bool


class PassStatistics(NamedTuple):
    """What a pass has come to; ``state`` is parameters before the first batch of all.

    Each batch counts with the log-likelihood at the parameters that it met.
    """

    log_likelihood: float
    total_weight: float
    state: StepwiseState


def add_block(model, minibatch, repeated, so_far, X, weight):
    """Return what a pass has come to, one block of rows further.

    Parameters
    ----------
    model : MixtureModel
    minibatch : Minibatch
    repeated : bool
        Whether an earlier pass saw the block.
    so_far : PassStatistics
    X : ndarray of shape (n, D)
    weight : ndarray of shape (n,), of size zero for ones

    Returns
    -------
    PassStatistics
    """
    for rows, row_weight in batches(X, weight, minibatch.size):
        statistics = follow(
            model, minibatch.schedule, so_far.state, rows, row_weight, repeated
        )
        so_far = PassStatistics(
            so_far.log_likelihood + statistics.log_likelihood,
            so_far.total_weight + statistics.total_weight,
            statistics.state,
        )
    return so_far


def follow(model, schedule, state, X, weight, repeated=False):
    """Return what one batch says, and the state after it."""
    moves = model.m_step, model.recenter
    first = not isinstance(state, StepwiseState)
    params = state if first else state.params
    found = model.e_step(params, X, weight)
    if not first:
        state = step(state, found, *moves, schedule, repeated=repeated)
    elif found.total_weight > 0:
        state = begin(params, found, *moves)
    return PassStatistics(found.log_likelihood, found.total_weight, state)


def batches(X, weight, size):
    """Yield about equal batches of a block, each spread evenly over it.

    So rows that are stored in some order, as most are, are mixed within a block.
    """
    n_batches = max(1, round(len(X) / size))
    for first in range(n_batches):
        yield np.ascontiguousarray(X[first::n_batches]), weight[first::n_batches]
