"""Blocks of rows that lie on a Dask cluster, and how a task reads one of them."""

import functools
import sys
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np

from fastem.data.blocks import float_type
from fastem.data.tables import Column, choose_columns, needed_columns


class Partitions(NamedTuple):
    """Blocks of rows in order, each of which a task reads.

    Attributes
    ----------
    name : str
        For messages.
    n_features : int
    dtype : dtype
        float32 or float64, that of all blocks.
    feature_names : ndarray of shape (D,) of object, or None
        Where columns have names.
    lengths : ndarray of shape (n_partitions,) of int64, or None
        Rows of each partition, where they are known without reading it.
    read : callable
        ``read(*arguments) -> Rows``.
    arguments : list of tuple
        Of each partition; with Delayed objects among them.
    sequences : bool
        Whether rows are those of whole sequences.
    weights : list of (Delayed or ndarray), or None
        Weights of the rows of each partition.
    """

    name: str
    n_features: int
    dtype: np.dtype
    feature_names: np.ndarray | None
    lengths: np.ndarray | None
    read: Callable
    arguments: list
    sequences: bool
    weights: list | None = None


class Rows(NamedTuple):
    """One partition in memory; the last two are None where they are not known."""

    X: np.ndarray  # (n, D)
    lengths: np.ndarray | None = None  # of its sequences
    ends: tuple | None = None  # the first and the last sequence by name


def is_collection(data):
    """Return whether data are a Dask array or data frame."""
    return _is(data, "dask.array", "Array") or _is(data, "dask.dataframe", "DataFrame")


def _is(data, module, name):
    """Return whether an object is of a class, without importing its module."""
    return module in sys.modules and isinstance(
        data, getattr(sys.modules[module], name)
    )


def partitions_of(
    data, *, columns=None, sequence_column=None, lengths=None, sequences=False
):
    """Return the partitions of a Dask collection or of a source.

    Parameters
    ----------
    data : dask.array.Array, dask.dataframe.DataFrame or Source
        A source's storage must be readable by all workers, and the number of its rows
        known.
    columns : list of str, optional
        Of a data frame; all but ``sequence_column`` by default.
    sequence_column : str, optional
        Of a data frame: neighbouring rows of equal values are one sequence.
    lengths : array-like of shape (n_sequences,), optional
        Rows of the sequences of an array or source, which is cut anew where these end.
    sequences : bool, default=False
        Whether to read whole sequences.

    Returns
    -------
    Partitions

    Raises
    ------
    ValueError
        For a shape other than (N, D), an unknown number of columns or blocks, a column
        that is not of numbers, and lengths that do not sum to N.
    """
    if _is(data, "dask.array", "Array"):
        return _array_partitions(data, lengths, sequences)
    if _is(data, "dask.dataframe", "DataFrame"):
        return _frame_partitions(data, columns, sequence_column, sequences)
    return _source_partitions(data, lengths, sequences)


def with_weights(partitions, sample_weight, lengths=None):
    """Return partitions with weights of their rows.

    Parameters
    ----------
    partitions : Partitions
    sample_weight : dask.array.Array, dask.dataframe.Series or array-like, (N,)
        A Dask collection lies in partitions as the rows do. Anything else travels to
        the scheduler with every pass.
    lengths : ndarray of shape (n_partitions,), optional
        Rows of each partition, for weights that are no Dask collection.

    Returns
    -------
    Partitions

    Raises
    ------
    ValueError
        If there are not as many weights as rows, or not as many partitions of them.
    """
    if _is(sample_weight, "dask.array", "Array"):
        n_rows = None if partitions.lengths is None else partitions.lengths.sum()
        if sample_weight.shape == (n_rows,):
            sample_weight = sample_weight.rechunk((tuple(partitions.lengths.tolist()),))
        weights = sample_weight.to_delayed().ravel().tolist()
    elif _is(sample_weight, "dask.dataframe", "Series"):
        weights = sample_weight.to_delayed()
    else:
        sample_weight = np.asarray(sample_weight)
        if sample_weight.shape != (lengths.sum(),):
            raise ValueError(
                f"sample_weight has the shape {sample_weight.shape}, but "
                f"{partitions.name} has {lengths.sum()} rows"
            )
        weights = np.split(sample_weight, np.cumsum(lengths)[:-1])
    if len(weights) != len(partitions.arguments):
        raise ValueError(
            f"sample_weight lies in {len(weights)} partitions, but {partitions.name} "
            f"in {len(partitions.arguments)}; partition them alike"
        )
    return partitions._replace(weights=weights)


def _array_partitions(data, lengths, sequences):
    name = f"dask array {data.name}"
    if data.ndim != 2 or np.isnan(data.shape[1]) or float_type(data.dtype) is None:
        raise ValueError(
            f"{name} should be a 2-D array of numbers, but has the shape {data.shape} "
            f"and the type {data.dtype}"
        )
    ended = None
    if lengths is not None:
        sizes, ended = _whole_sequences(data.chunks[0], lengths, name)
        data = data.rechunk({0: tuple(sizes.tolist())})
    data = data.rechunk({1: -1})
    blocks = data.to_delayed().ravel().tolist()
    unknown = np.isnan(data.shape[0])
    dtype = float_type(data.dtype)
    return Partitions(
        name,
        data.shape[1],
        dtype,
        None,
        None if unknown else np.array(data.chunks[0], np.int64),
        functools.partial(_read_array, dtype),
        list(zip(blocks, ended or [None] * len(blocks), strict=True)),
        sequences,
    )


def _whole_sequences(sizes, lengths, name):
    """Return sizes near some that end where sequences do, and the lengths in each."""
    lengths = np.asarray(lengths, np.int64)
    n_rows = np.sum(sizes)
    if lengths.sum() != n_rows or not lengths.size:
        raise ValueError(
            f"lengths sum to {lengths.sum()}, but {name} has {n_rows} rows"
        )
    ends = np.cumsum(lengths)
    last = np.unique(np.searchsorted(ends, np.cumsum(sizes)))
    return np.diff(ends[last], prepend=0), np.split(lengths, last[:-1] + 1)


def _read_array(dtype, chunk, lengths):
    return Rows(np.ascontiguousarray(chunk, dtype), lengths)


def _frame_partitions(data, columns, sequence_column, sequences):
    name = f"the dask DataFrame of {data.npartitions} partitions"
    schema = {
        column: Column(float_type(dtype), str(dtype))
        for column, dtype in data.dtypes.items()
    }
    names, dtype = choose_columns(schema, columns, sequence_column, name)
    data = data[needed_columns(names, sequence_column)]
    return Partitions(
        name,
        len(names),
        dtype,
        np.array(names, object),
        None,
        functools.partial(_read_frame, dtype, names, sequence_column),
        [(block,) for block in data.to_delayed()],
        sequences,
    )


def _read_frame(dtype, names, sequence_column, frame):
    X = frame[names].to_numpy(dtype=dtype, na_value=np.nan)
    X = np.ascontiguousarray(X)
    if sequence_column is None:
        return Rows(X)
    sequence = frame[sequence_column]
    missing = np.flatnonzero(sequence.isna())
    if missing.size:
        raise ValueError(f"column {sequence_column!r} is empty in row {missing[0]}")
    return _in_runs(X, sequence.to_numpy())


def _source_partitions(source, lengths, sequences):
    block_rows = getattr(source, "block_rows", None)
    if source.n_rows is None or block_rows is None:
        raise ValueError(
            f"{source.name} cannot be read on a cluster: the number of its blocks is "
            "not known before they are read. Store it as .npy or Parquet"
        )
    starts = np.arange(0, source.n_rows, block_rows)
    sizes, ended = np.diff(starts, append=source.n_rows), [None] * len(starts)
    if lengths is not None:
        sizes, ended = _whole_sequences(sizes, lengths, source.name)
    stops = np.cumsum(sizes)
    return Partitions(
        source.name,
        source.n_features,
        source.dtype,
        source.feature_names,
        sizes,
        functools.partial(_read_source, source),
        list(zip((stops - sizes).tolist(), stops.tolist(), ended, strict=True)),
        sequences,
    )


def _read_source(source, start, stop, lengths):
    """Return rows that may begin and end within blocks."""
    first, skipped = divmod(start, source.block_rows)
    blocks = islice(source.blocks(first), -(-stop // source.block_rows) - first)
    rows = slice(skipped, skipped + stop - start)
    X, sequence = (_joined(field)[rows] for field in zip(*blocks, strict=True))
    if lengths is None and sequence.size:
        return _in_runs(X, sequence)
    return Rows(X, lengths)


def _joined(arrays):
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _in_runs(X, names):
    """Return rows whose sequences are runs of equal names."""
    if not names.size:
        return Rows(X, np.empty(0, np.int64))
    first = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    return Rows(X, np.diff(first, append=len(names)), tuple(names[[0, -1]].tolist()))
