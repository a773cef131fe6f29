"""The sequences that hidden Markov models read, wherever they lie."""

from functools import partial

import numpy as np
from sklearn.base import clone

from fastem.data.read_ahead import read_ahead
from fastem.data.sequences import sequence_blocks
from fastem.data.source import is_source, open_source
from fastem.em.passes import PassStatistics, follow
from fastem.estimators.hmm.training import statistics
from fastem.estimators.hmm.validation import (
    check_n_features,
    check_observations,
    describe_impossible,
    make_sequences,
    row_weights,
)
from fastem.estimators.rows import check_features, refuse_bad_rows
from fastem.estimators.validation import check_finite
from fastem.execution import cluster
from fastem.execution.rows import BlockSequences, ClusterRows, naming_rows
from fastem.models.hmm import DOMAINS, Effort, ImpossibleObservation
from fastem.models.stretches import Reach


class ArraySequences:
    """Sequences in memory or mapped into it.

    Parameters
    ----------
    sequences : Sequences
    """

    def __init__(self, sequences):
        self._sequences = sequences
        self.data = sequences._asdict()
        self.memory = None

    @property
    def memory(self):
        """How far recursions had to reach: warm-ups, and whether none sufficed."""
        reaches = (*(self._effort[domain] for domain in DOMAINS), self._reach)
        return tuple((reach.warm_up, reach.exact) for reach in reaches)

    @memory.setter
    def memory(self, kept):
        # Recursions over best paths are another problem than the search for these.
        self._effort, self._reach = Effort(), Reach()
        reaches = (*(self._effort[domain] for domain in DOMAINS), self._reach)
        for reach, (warm_up, exact) in zip(reaches, kept or (), strict=False):
            reach.warm_up = None if warm_up is None else warm_up.copy()
            reach.exact = exact

    def sample(self, random_state):
        """Return rows and weights to seed from: all of them."""
        return self._sequences.X, row_weights(self._sequences)

    def statistics(self, model, shapes, params, so_far=None, on_block=None):
        """Return the statistics of all sequences under a model's parameters."""
        try:
            return statistics(model, params, self._sequences, self._effort, self._reach)
        except ImpossibleObservation as error:
            bounds = self._sequences.bounds
            raise ValueError(describe_impossible(error.row, bounds)) from None

    def fold(self, chains, schedule, state):
        """Return the state after one batch of all sequences."""
        try:
            found = follow(chains, schedule, state, self._sequences, None)
        except ImpossibleObservation as error:
            bounds = self._sequences.bounds
            raise ValueError(describe_impossible(error.row, bounds)) from None
        return found.state


class SourceSequences:
    """Sequences of a source or on a cluster, block by block.

    Parameters
    ----------
    rows : BlockSequences or ClusterRows
    """

    memory = None  # each block is worked without experience

    def __init__(self, estimator, rows):
        self._estimator, self._rows = estimator, rows
        self.data = {"X": rows.data}

    def sample(self, random_state):
        """Return some rows to seed from, all if they are few."""
        X, _ = self._rows.sample(1, random_state)
        return _typed(self._estimator, X), np.empty(0)

    def statistics(self, model, shapes, params, so_far=None, on_block=None):
        """Return the statistics of all sequences under a model's parameters."""
        function = partial(_block_statistics, clone(model), shapes)
        return self._rows.statistics(function, params, so_far, on_block)

    def fold(self, chains, schedule, state):
        """Return the state after a batch for each block of sequences."""

        def step(so_far, block, weight):
            sequences = _read_block(chains.model, chains.shapes, *block)
            state = ArraySequences(sequences).fold(chains, schedule, so_far.state)
            return PassStatistics(0.0, 0.0, state)

        return self._rows.fold(step, PassStatistics(0.0, 0.0, state)).state


def read_sequences(
    estimator,
    X,
    lengths,
    sequence_weight,
    step_weight,
    states,
    *,
    reset,
    here=False,
):
    """Return the sequences of an array, a source or a Dask collection.

    Raises
    ------
    ValueError
        For anything but numbers in two dimensions, and what does not go with them.
    """
    if not is_source(X):
        X = check_observations(
            estimator, X, reset=reset, dtype=estimator._integers_become
        )
        return ArraySequences(
            make_sequences(
                X, lengths, sequence_weight, step_weight, states, estimator.n_components
            )
        )
    known = {
        "sequence_weight": sequence_weight,
        "step_weight": step_weight,
        "states": states,
    }
    for name, value in known.items():
        if value is not None:
            raise ValueError(
                f"{name} goes with X in memory or a memory map, not with a source"
            )
    client = None if here else cluster.client_for(X)
    if client is None:
        source = open_source(X)
        check_features(estimator, source, reset=reset)
        return SourceSequences(
            estimator, BlockSequences(source, lengths, refuse_bad_rows)
        )
    data = X if cluster.is_collection(X) else open_source(X)
    partitions = cluster.partitions_of(data, lengths=lengths, sequences=True)
    check_features(estimator, partitions, reset=reset)
    return SourceSequences(estimator, ClusterRows(client, partitions, refuse_bad_rows))


def sequence_blocks_of(model, shapes, X, lengths):
    """Yield the sequences of an array, all at once, or of a source, block by block."""
    if not is_source(X):
        yield make_sequences(model._check_rows(X, shapes), lengths)
        return
    source = open_source(X)
    check_features(model, source, reset=False)
    first_row = 0
    for rows, in_block in read_ahead(sequence_blocks(source, lengths)):
        with naming_rows(source.name, first_row):
            yield _read_block(model, shapes, rows, in_block)
        first_row += len(rows)


def _read_block(model, shapes, X, lengths):
    """Return the sequences of a block, checked."""
    check_finite(X, "X")
    check_n_features(model, X, model._n_columns(shapes))
    X = _typed(model, X)
    model._check_values(X, shapes)
    return make_sequences(X, lengths)


def _typed(model, X):
    """Return rows as the model's emissions take them; sources give floats only."""
    whole = model._integers_become is None and (X == np.floor(X)).all()
    return X.astype(np.int64) if whole else X


def _block_statistics(model, shapes, params, block, weight):
    sequences = _read_block(model, shapes, *block)
    return ArraySequences(sequences).statistics(model, shapes, params)
