"""The sequences that hidden Markov models read, wherever they lie."""

from contextlib import contextmanager
from functools import partial

import numpy as np
from sklearn.base import clone

from fastem.data.files import check_unchanged
from fastem.data.read_ahead import read_ahead
from fastem.data.sequences import sequence_blocks
from fastem.data.source import is_source, open_source
from fastem.em.sequence_batches import whole
from fastem.estimators.hmm.validation import (
    check_known,
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
from fastem.models.stretches import Reach, Sequences


class ArraySequences:
    """Sequences in memory or mapped into it.

    Parameters
    ----------
    sequences : Sequences
    source : Source, optional
        What their rows are mapped from.
    """

    def __init__(self, sequences, source=None):
        self._sequences = sequences
        self._files = () if source is None else source.files
        self.data = sequences._asdict()
        if source is not None:
            self.data["X"] = source
        self.n_rows = len(sequences.X)
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

    def check(self, model, shapes):
        """Raise a ValueError for values that the emissions do not know."""
        model._check_values(self._sequences.X, shapes)

    def statistics(self, function, params, so_far=None, on_block=None):
        """Return ``function(params, batch)`` of all sequences."""
        batch = whole(self._sequences, self._effort, self._reach)
        with self._reading():
            return function(params, batch)

    def fold(self, step, value, so_far=None, on_block=None):
        """Return ``step(value, sequences, None)`` of all sequences."""
        with self._reading():
            return step(value, self._sequences, None)

    @contextmanager
    def _reading(self):
        check_unchanged(self._files)
        with _naming_steps(self._sequences.bounds):
            yield


class SourceSequences:
    """Sequences of a source or on a cluster, block by block.

    Parameters
    ----------
    estimator : BaseHMM
    rows : BlockSequences or ClusterRows
    known : dict
        What else is read, by name.
    """

    memory = None  # each block is worked without experience

    def __init__(self, estimator, rows, known):
        self._estimator, self._rows = estimator, rows
        self._read = None
        self.data = {"X": rows.data, **known}

    @property
    def n_rows(self):
        """Rows of a pass, None where not known."""
        return self._rows.n_rows

    def sample(self, random_state):
        """Return some rows to seed from, all if they are few, and their weights."""
        X, weight = self._rows.sample(1, random_state)
        return _typed(self._estimator, X), weight

    def check(self, model, shapes):
        """Note what blocks have to go with; each is checked where it is read."""
        self._read = partial(_read_block, clone(model), shapes)

    def statistics(self, function, params, so_far=None, on_block=None):
        """Return the sum of ``function(params, batch)`` over blocks of sequences."""
        function = partial(_block_statistics, self._read, function)
        return self._rows.statistics(function, params, so_far, on_block)

    def fold(self, step, value, so_far=None, on_block=None):
        """Return what ``value = step(value, sequences, None)`` comes to."""

        def step_of(value, block, weight):
            sequences = self._read(*block)
            with _naming_steps(sequences.bounds):
                return step(value, sequences, None)

        return self._rows.fold(step_of, value, so_far, on_block)


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

    Parameters
    ----------
    estimator : BaseHMM
    X : array-like, source or Dask collection, of shape (N, D)
    lengths : array-like of shape (n_sequences,) or None
    sequence_weight : array-like of shape (n_sequences,) or None
    step_weight : array-like of shape (N,) or None
    states : array-like of shape (N,) or None
        The last two may name columns of a table.
    reset : bool
        Whether to record the features or to compare them.
    here : bool
        Whether to read a Dask collection in this process.

    Raises
    ------
    ValueError
        For anything but numbers in two dimensions, and what does not go with them.
    """
    known = {
        "sequence_weight": sequence_weight,
        "step_weight": step_weight,
        "states": states,
    }
    n_states = estimator.n_components
    if not is_source(X):
        _refuse_names(known, "an array has no named columns")
        X = check_observations(
            estimator, X, reset=reset, dtype=estimator._integers_become
        )
        return ArraySequences(make_sequences(X, lengths, **known, n_states=n_states))
    client = None if here else cluster.client_for(X)
    if client is None:
        source = open_source(X)
        known = _read_columns(source, known)
        mapped = _mapped(estimator, source, lengths)
        if mapped is not None:
            with naming_rows(source.name, 0):
                X = check_observations(estimator, mapped, reset=reset)
                sequences = make_sequences(X, lengths, **known, n_states=n_states)
            return ArraySequences(sequences, source)
        check_features(estimator, source, reset=reset)
        arrays = check_known(**known, n_rows=source.n_rows, n_states=n_states)
        rows = BlockSequences(source, lengths, refuse_bad_rows, *arrays)
        given = {name: value for name, value in known.items() if value is not None}
        return SourceSequences(estimator, rows, given)
    for name, value in known.items():
        if value is not None:
            raise ValueError(
                f"{name} does not go with data on a cluster: give X as an array, or as "
                "a source that is read in this process"
            )
    data = X if cluster.is_collection(X) else open_source(X)
    partitions = cluster.partitions_of(data, lengths=lengths, sequences=True)
    check_features(estimator, partitions, reset=reset)
    rows = ClusterRows(client, partitions, refuse_bad_rows)
    return SourceSequences(estimator, rows, {})


def sequence_blocks_of(model, shapes, X, lengths):
    """Yield the sequences of an array, all at once, or of a source, block by block."""
    if not is_source(X):
        yield make_sequences(model._check_rows(X, shapes), lengths)
        return
    source = open_source(X)
    mapped = _mapped(model, source, lengths)
    if mapped is not None:
        with naming_rows(source.name, 0):
            yield make_sequences(model._check_rows(mapped, shapes), lengths)
        return
    check_features(model, source, reset=False)
    first_row = 0
    for rows, in_block in read_ahead(sequence_blocks(source, lengths)):
        with naming_rows(source.name, first_row):
            yield _read_block(model, shapes, rows, in_block)
        first_row += len(rows)


def _mapped(model, source, lengths):
    """Return the rows of a .npy file with sequences longer than a block, else None.

    They are mapped into memory; all other sequences come into it, some at a time.
    """
    if getattr(source, "kind", None) != "npy" or len(source.files) > 1:
        return None
    lengths = np.asarray([source.n_rows] if lengths is None else lengths)
    if lengths.dtype.kind not in "iu" or lengths.max(initial=0) <= source.block_rows:
        return None
    rows = np.load(source.files[0].path, mmap_mode="r")
    # Whole numbers that are stored as floats have to be read to be told.
    return None if model._integers_become is None and rows.dtype.kind == "f" else rows


def _read_columns(source, known):
    """Return arrays in place of names of columns; a state that is null is unknown."""
    known = dict(known)
    if getattr(source, "open_column", None) is None:
        _refuse_names(known, f"{source.name} has no named columns")
    for name in ("step_weight", "states"):
        if isinstance(known[name], str):
            known[name] = source.column(known[name])
            if name == "states":
                known[name] = _whole_numbers(known[name], source.name)
    _refuse_names(known, "there is no row for each sequence")
    return known


def _refuse_names(known, why):
    for name, value in known.items():
        if isinstance(value, str):
            raise ValueError(f"{name} should be an array, not {value!r}: {why}")


def _whole_numbers(states, where):
    states = np.where(np.isnan(states), -1, states)
    bad = np.flatnonzero(states != np.floor(states))
    if bad.size:
        raise ValueError(
            f"states should be integers, but that of row {bad[0]} of {where} is "
            f"{states[bad[0]]}"
        )
    return states.astype(np.int64)


def _read_block(model, shapes, X, lengths, *known):
    """Return the sequences of a block, checked."""
    check_finite(X, "X")
    check_n_features(model, X, model._n_columns(shapes))
    X = _typed(model, X)
    model._check_values(X, shapes)
    bounds = np.append(0, np.cumsum(lengths, dtype=np.int64))
    return Sequences(X, bounds, *(known or check_known()))


def _typed(model, X):
    """Return rows as the model's emissions take them; sources give floats only."""
    whole = model._integers_become is None and (X == np.floor(X)).all()
    return X.astype(np.int64) if whole else X


def _block_statistics(read, function, params, block, weight):
    sequences = read(*block)
    with _naming_steps(sequences.bounds):
        return function(params, whole(sequences))


@contextmanager
def _naming_steps(bounds):
    """Say of an impossible observation in which sequence and step it is."""
    try:
        yield
    except ImpossibleObservation as error:
        raise ValueError(describe_impossible(error.row, bounds)) from None
