"""Blocks of rows that lie on a Dask cluster, and how a task reads one of them."""

import functools
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


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
    weights: list | None = None


class Rows(NamedTuple):
    """One partition in memory; without sequences, the last two are None."""

    X: np.ndarray  # (n, D)
    lengths: np.ndarray | None  # of each sequence
    names: np.ndarray | None  # of each sequence, where a column has them


def is_collection(data):
    """Return whether data are a Dask array or data frame."""
    return _is(data, "dask.array", "Array") or _is(data, "dask.dataframe", "DataFrame")


def _is(data, module, name):
    """Return whether an object is of a class, without importing its module."""
    return module in sys.modules and isinstance(
        data, getattr(sys.modules[module], name)
    )


def partitions_of(data, *, columns=None, sequence_column=None, lengths=None):
    """Return the partitions of a Dask collection or of a source.

    Parameters
    ----------
    data : dask.array.Array, dask.dataframe.DataFrame or Source
        A source's storage must be readable by all workers, and the number of its
        blocks known.
    columns : list of str, optional
        Of a data frame; all but ``sequence_column`` by default.
    sequence_column : str, optional
        Of a data frame: rows that follow each other with equal values are one
        sequence, and each partition holds whole sequences.
    lengths : array-like of shape (n_sequences,), optional
        Rows of the sequences of an array, which is cut anew where sequences end.

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
        return _array_partitions(data, lengths)
    if _is(data, "dask.dataframe", "DataFrame"):
        return _frame_partitions(data, columns, sequence_column)
    return _source_partitions(data)


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


def _array_partitions(data, lengths):
    name = f"dask array ({data.name})"
    if data.ndim != 2 or np.isnan(data.shape[1]):
        raise ValueError(
            f"{name} should have N rows and a known number of columns, but its shape "
            f"is {data.shape}"
        )
    dtype = _float_type(data.dtype, name)
    if lengths is not None:
        data, lengths = _whole_sequences(data, np.asarray(lengths, np.int64), name)
    data = data.rechunk({1: -1})
    blocks = data.to_delayed().ravel().tolist()
    unknown = np.isnan(data.shape[0])
    return Partitions(
        name,
        data.shape[1],
        dtype,
        None,
        None if unknown else np.array(data.chunks[0], np.int64),
        functools.partial(_read_array, dtype),
        list(zip(blocks, lengths or [None] * len(blocks), strict=True)),
    )


def _whole_sequences(data, lengths, name):
    """Return the array cut at ends of sequences, and the lengths in each chunk."""
    if lengths.sum() != data.shape[0] or not lengths.size:
        raise ValueError(
            f"lengths sum to {lengths.sum()}, but {name} has {data.shape[0]} rows; "
            "they should agree (compute_chunk_sizes() finds an unknown number)"
        )
    ends = np.cumsum(lengths)
    last = np.unique(np.searchsorted(ends, np.cumsum(data.chunks[0])))
    chunks = np.diff(ends[last], prepend=0).tolist()
    return data.rechunk({0: tuple(chunks)}), np.split(lengths, last[:-1] + 1)


def _read_array(dtype, chunk, lengths):
    return Rows(np.ascontiguousarray(chunk, dtype), lengths, None)


def _frame_partitions(data, columns, sequence_column):
    name = "dask data frame"
    if columns is None:
        columns = [column for column in data.columns if column != sequence_column]
    wanted = list(columns) if sequence_column is None else [*columns, sequence_column]
    for column in wanted:
        if column not in data.columns:
            raise ValueError(
                f"{name} has no column {column!r}; its columns are {list(data.columns)}"
            )
    data = data[wanted]
    dtypes = {
        _float_type(data.dtypes[column], f"column {column!r} of the {name}")
        for column in columns
    }
    if not dtypes:
        raise ValueError(f"{name} has no column of numbers")
    dtype = np.result_type(*dtypes)
    named = all(isinstance(column, str) for column in columns)
    return Partitions(
        name,
        len(columns),
        dtype,
        np.array(columns, object) if named else None,
        None,
        functools.partial(_read_frame, dtype, list(columns), sequence_column),
        [(block,) for block in data.to_delayed()],
    )


def _read_frame(dtype, columns, sequence_column, frame):
    X = frame[columns].to_numpy(dtype=dtype, na_value=np.nan)
    X = np.ascontiguousarray(X)
    if sequence_column is None:
        return Rows(X, None, None)
    sequence = frame[sequence_column]
    nameless = np.flatnonzero(sequence.isna())
    if nameless.size:
        raise ValueError(
            f"column {sequence_column!r} should name the sequence of each row, but row "
            f"{nameless[0]} has no value"
        )
    return Rows(X, *_runs(sequence.to_numpy()))


def _source_partitions(source):
    if source.n_rows is None or source.block_rows is None:
        raise ValueError(
            f"{source.name} cannot be read on a cluster: the number of its blocks is "
            "not known before they are read. Store it as .npy or Parquet"
        )
    first = np.arange(0, source.n_rows, source.block_rows)
    return Partitions(
        source.name,
        source.n_features,
        source.dtype,
        source.feature_names,
        np.diff(first, append=source.n_rows),
        functools.partial(_read_source, source),
        [(i,) for i in range(len(first))],
    )


def _read_source(source, i):
    block = next(iter(source.blocks(i)))
    if not block.sequence.size:
        return Rows(block.X, None, None)
    return Rows(block.X, *_runs(block.sequence))


def _runs(values):
    """Return the lengths of runs of equal values, and the values."""
    first = np.flatnonzero(np.append(True, values[1:] != values[:-1])[: len(values)])
    return np.diff(first, append=len(values)), values[first]


def _float_type(dtype, name):
    """Return the floating-point type for numbers of a type."""
    # Nullable types name that of their values.
    dtype = getattr(dtype, "numpy_dtype", dtype)
    if dtype.kind not in "biuf":
        raise ValueError(
            f"{name} should be of numbers, but is of type {dtype}; leave it out or "
            "encode it"
        )
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)
