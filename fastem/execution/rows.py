"""The rows of a fit, wherever they lie: an array, blocks of a source, a cluster.

Because statistics add, a fit knows no more of its rows than ``statistics``, which reads
them once, and ``sample``, which it is seeded from; in this process, ``fold``, too,
which goes through blocks one after another. A function of rows is
``function(params, X, weight)``, where ``weight`` of size zero stands for ones.
"""

from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastem.data.blocks import portion_slices, portions
from fastem.data.read_ahead import read_ahead
from fastem.data.sampling import sample_rows
from fastem.data.sequences import sequence_blocks
from fastem.execution import cluster
from fastem.kernels.responsibilities import NO_DENSITY
from fastem.statistics import add

# Seeding reads rows many times over, so of blocks it gets a sample of this size.
SAMPLE_BYTES = 64 << 20
MIN_SAMPLE_PER_COMPONENT = 256


class SoFar(NamedTuple):
    """What the first blocks of a pass have come to."""

    value: Any
    n_blocks: int
    n_rows: int


class _Here:
    """Rows that are folded in this process."""

    def statistics(self, function, params, so_far=None, on_block=None, merge=add):
        """Return the sum of ``function`` over portions, in their order.

        Parameters
        ----------
        function : callable
        params : NamedTuple
        so_far : SoFar, optional
            What an interrupted pass had come to.
        on_block : callable, optional
            ``on_block(so_far)`` is called after each portion.
        merge : callable, default=add
            ``merge(first, second)`` is what two portions come to together.
        """

        def add_block(total, *block):
            statistics = function(params, *block)
            return statistics if total is None else merge(total, statistics)

        return self.fold(add_block, None, so_far, on_block, in_portions=True)


class ArrayRows(_Here):
    """Rows of an array, in memory or mapped into it: a single block.

    Parameters
    ----------
    X : ndarray of shape (N, D), float32 or float64
    weight : ndarray of shape (N,), of size zero for ones
    """

    def __init__(self, X, weight):
        self.data = X
        self.weight = weight
        self.n_rows, self.n_features = X.shape
        self.dtype = X.dtype

    def fold(self, step, value, so_far=None, on_block=None, *, in_portions=False):
        """Return ``step(value, X, weight)``, or that portion by portion."""
        for rows in portion_slices(self.data) if in_portions else [slice(None)]:
            value = step(value, self.data[rows], self.weight[rows])
        return value

    def sample(self, n_components, random_state):
        """Return rows and weights to seed from: all of them."""
        return self.data, self.weight


class BlockRows(_Here):
    """Rows of a source, read once a pass, ahead of the kernels.

    Parameters
    ----------
    source : Source
    weight : ndarray of shape (N,), of size zero for ones
    check : callable
        ``check(X, name, numbers)`` raises what is wrong with rows that led to
        something odd; their numbers are those of all, of the first, or None.
    """

    def __init__(self, source, weight, check):
        self.data = source
        self.weight = weight
        self.n_rows, self.n_features = source.n_rows, source.n_features
        self.dtype = source.dtype
        self._check = check
        self._one_a_row = {"sample_weight": weight}

    def blocks(self, n_blocks, n_rows, *, in_portions):
        """Iterate over blocks and their weights, from some number and row on."""
        source = self.data
        read = portions(source, n_blocks) if in_portions else source.blocks(n_blocks)
        for block in read_ahead(read):
            weight = self.weight[n_rows : n_rows + len(block.X)]
            n_rows += len(block.X)
            self._check_sizes(n_rows, "rows", self._one_a_row, more=True)
            yield block.X, block.X, weight

    def fold(self, step, value, so_far=None, on_block=None, *, in_portions=False):
        """Return what ``value = step(value, block, weight)`` comes to over all blocks.

        Parameters
        ----------
        step : callable
        value : NamedTuple or None
        so_far : SoFar, optional
            What an interrupted pass had come to.
        on_block : callable, optional
            ``on_block(so_far)`` is called after each block.
        in_portions : bool, default=False
            Whether to go through the portions that rows are summed in, not blocks.

        Raises
        ------
        ValueError
            If rows are refused, or are not as many as in the pass before.
        """
        value, n_blocks, n_rows = so_far or (value, 0, 0)
        for X, block, weight in self.blocks(n_blocks, n_rows, in_portions=in_portions):
            with naming_rows(self.data.name, n_rows):
                check = partial(self._check, X, self.data.name, n_rows)
                value = _examine(check, step, value, block, weight)
            n_blocks += 1
            n_rows += len(X)
            if on_block is not None:
                on_block(SoFar(value, n_blocks, n_rows))
        self._count(n_rows)
        return value

    def sample(self, n_components, random_state):
        """Return a sample of rows, all if they are few, and their weights."""
        wanted = _sample_size(self, n_components)
        X, rows, n_rows = sample_rows(self.data, wanted, random_state)
        self._count(n_rows)
        self._check(X, self.data.name, rows)
        return X, self._weight_of(rows)

    def _weight_of(self, rows):
        return self.weight[rows] if self.weight.size else self.weight

    def _count(self, n_rows):
        """Note how many rows a pass found; refuse another number than expected."""
        if self.n_rows not in (None, n_rows):
            raise ValueError(
                f"{self.data.name} gave {n_rows} rows, but {self.n_rows} before; EM "
                "reads its rows anew with every iteration, and they must be the same"
            )
        self._check_sizes(n_rows, "rows", self._one_a_row)
        self.n_rows = n_rows

    def _check_sizes(self, n, of, arrays, more=False):
        """Refuse arrays that lack an entry or have one too many."""
        for name, array in arrays.items():
            if array.size in (0, n) or (more and array.size > n):
                continue
            raise ValueError(
                f"{name} has {array.size} entries, but {self.data.name} has {n} "
                f"{of}{' or more' if n > array.size else ''}; one each is needed"
            )


class BlockSequences(BlockRows):
    """Rows of a source in whole sequences.

    A function of sequences is ``function(params, (X, lengths, sequence_weight,
    step_weight, states), weight)``, without a weight.

    Parameters
    ----------
    source : Source
    lengths : array-like of shape (n_sequences,), or None
        Where the source does not know them.
    check : callable
        As for :class:`BlockRows`.
    sequence_weight : ndarray of shape (n_sequences,)
    step_weight : ndarray of shape (N,)
    states : ndarray of shape (N,) of int64
        The last three of size zero where there are none.
    """

    def __init__(self, source, lengths, check, sequence_weight, step_weight, states):
        super().__init__(source, np.empty(0), check)
        self._lengths = lengths
        self._sequence_weight = sequence_weight
        self._step_weight, self._states = step_weight, states
        self._one_a_row = {"step_weight": step_weight, "states": states}

    def blocks(self, n_blocks, n_rows, *, in_portions):
        """Iterate over blocks of sequences, from some number on."""
        row = sequence = 0
        blocks = read_ahead(sequence_blocks(self.data, self._lengths))
        for number, (X, lengths) in enumerate(blocks):
            rows = slice(row, row + len(X))
            sequences = slice(sequence, sequence + len(lengths))
            row, sequence = rows.stop, sequences.stop
            self._check_sizes(row, "rows", self._one_a_row, more=True)
            self._check_sequences(sequence, more=True)
            if number >= n_blocks:
                weight = self._sequence_weight[sequences]
                known = weight, self._step_weight[rows], self._states[rows]
                yield X, (X, lengths, *known), self.weight
        self._check_sequences(sequence)

    def _check_sequences(self, n, more=False):
        weight = {"sequence_weight": self._sequence_weight}
        self._check_sizes(n, "sequences", weight, more)

    def _weight_of(self, rows):
        weight = self._step_weight[rows] if self._step_weight.size else np.ones(1)
        if self._sequence_weight.size:
            lengths = self._lengths
            if lengths is None:
                blocks = read_ahead(sequence_blocks(self.data))
                lengths = np.concatenate([lengths for _, lengths in blocks])
            self._check_sequences(len(lengths))
            sequence = np.searchsorted(np.cumsum(lengths), rows, side="right")
            weight = weight * self._sequence_weight[sequence]
        elif not self._step_weight.size:
            return self._step_weight
        # Few rows of many may weigh nothing, all of them.
        return weight if weight.any() else weight[:0]


class ClusterRows:
    """Rows that lie in partitions on a Dask cluster, and stay there.

    Parameters
    ----------
    client : distributed.Client
    partitions : Partitions
    check : callable
        As for :class:`BlockRows`.
    """

    weight = np.empty(0)

    def __init__(self, client, partitions, check):
        self.data = {
            "kind": "partitions",
            "n_partitions": len(partitions.arguments),
            "n_features": partitions.n_features,
            "dtype": partitions.dtype.name,
        }
        self.n_features, self.dtype = partitions.n_features, partitions.dtype
        self.n_rows = None
        if partitions.lengths is not None:
            self.n_rows = int(partitions.lengths.sum())
        self._client, self._partitions = client, partitions
        self._check = check

    def statistics(self, function, params, so_far=None, on_block=None, merge=add):
        """Return the sum of ``function`` over partitions, computed where they are."""
        checked = _Checked(function, self._check, self._partitions.name)
        return cluster.reduce(self._client, self._partitions, checked, params, merge)

    def sample(self, n_components, random_state):
        """Return a sample of rows, all if they are few, and their weights."""
        lengths = cluster.lengths(self._client, self._partitions)
        self.n_rows = int(lengths.sum())
        wanted = _sample_size(self, n_components)
        X, weight = cluster.sample(
            self._client, self._partitions, lengths, wanted, random_state
        )
        self._check(X, self._partitions.name, None)
        return X, weight


@contextmanager
def naming_rows(name, first_row):
    """Say with any error which rows of a source it is about."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in a block that begins at row {first_row} of {name}")
        raise


class _Checked(NamedTuple):
    """A function of a partition's rows, as a task takes it along."""

    function: Any
    check: Any
    name: str

    def __call__(self, params, X, weight=None):
        rows = X[0] if isinstance(X, tuple) else X
        weight = np.empty(0, rows.dtype) if weight is None else weight
        check = partial(self.check, rows, self.name, 0)
        return _examine(check, self.function, params, X, weight)


def _examine(check, function, *args):
    """Return what a function makes of rows; check the rows if that is odd.

    So rows that are not finite are found without a look at each.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            value = function(*args)
    except Exception:
        check()
        raise
    # k-means knows no densities.
    log_likelihood = getattr(value, "log_likelihood", 0.0)
    if not (log_likelihood > NO_DENSITY and _all_finite(value)):
        check()
    return value


def _all_finite(value):
    """Tell whether all numbers of a tree of tuples are finite."""
    if isinstance(value, tuple):
        return all(map(_all_finite, value))
    return bool(np.isfinite(value).all())


def _sample_size(rows, n_components):
    by_size = SAMPLE_BYTES // (rows.n_features * rows.dtype.itemsize)
    return max(by_size, MIN_SAMPLE_PER_COMPONENT * n_components)
