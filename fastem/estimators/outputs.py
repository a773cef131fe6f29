"""What is said of each row: in memory, written as it comes, or left to Dask."""

from functools import partial
from itertools import chain

import numpy as np

from fastem.data.outputs import open_output
from fastem.data.read_ahead import read_ahead
from fastem.data.source import is_source, open_source
from fastem.estimators.rows import check_features
from fastem.estimators.validation import check_finite, check_rows
from fastem.execution.partitions import is_collection, partitions_of

# Rows at a time where outputs are written but X is in memory.
_BLOCK_ROWS = 1 << 20


def evaluate_rows(estimator, function, X, out, columns):
    """Return what a fitted estimator's ``function`` says of rows, whatever X is.

    Parameters
    ----------
    estimator : BaseEstimator
    function : callable
        Of an array, and of a check that raises an error if the array is not finite,
        which it calls unless it knows better; it can be pickled.
    X : array-like, source or Dask collection, of shape (N, D)
    out : path or None
        Where to write it, instead.
    columns : list of str or None
        What Parquet calls its columns.

    Returns
    -------
    ndarray, Dask array or path
    """
    if is_collection(X) and out is None:
        check_features(estimator, partitions_of(X), reset=False)
        function = partial(_checked, function, "a partition", 0)
        example = function(np.empty((0, estimator.n_features_in_)))
        return evaluate_collection(function, X, example)
    if is_source(X):
        source = open_source(X)
        check_features(estimator, source, reset=False)
        return evaluate_source(function, source, out, columns)
    X = check_rows(estimator, X, reset=False, finite=False)
    return evaluate_array(function, X, out, columns)


def evaluate_array(function, X, out, columns):
    """Return what a function says of X, or write it and return that file's path."""
    if out is None:
        return _checked(function, "X", 0, X)
    outputs = (
        _checked(function, "X", begin, X[begin : begin + _BLOCK_ROWS])
        for begin in range(0, len(X), _BLOCK_ROWS)
    )
    return gather(outputs, out, len(X), columns)


def evaluate_source(function, source, out, columns):
    """Return ``function`` of all blocks end to end, or write it as it comes.

    Raises
    ------
    ValueError
        If rows are not finite; the first is named.
    """
    outputs = _source_outputs(function, source)
    return gather(outputs, out, source.n_rows, columns)


def gather(outputs, out, n_rows, columns):
    """Return arrays end to end; or write them to a file, and return its path.

    Parameters
    ----------
    outputs : iterator of ndarray
        Of one row or more together.
    out : path or None
    n_rows : int or None
        Rows of all, if known.
    columns : list of str or None
        What Parquet calls them.
    """
    if out is None:
        parts = list(outputs)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    first = next(outputs)
    n_columns = first.shape[1] if first.ndim == 2 else None
    with open_output(out, n_rows, n_columns, first.dtype, columns) as output:
        for values in chain([first], outputs):
            output.write(values)
    return out


def evaluate_collection(function, X, example):
    """Return a Dask collection of ``function``'s outputs, computed when asked for.

    ``example`` is what the function gives of no rows.
    """
    X = X.to_dask_array() if hasattr(X, "to_dask_array") else X
    X = X.rechunk({1: -1})
    if example.ndim == 1:
        return X.map_blocks(function, drop_axis=1, meta=example)
    chunks = X.chunks[0], (example.shape[1],)
    return X.map_blocks(function, chunks=chunks, meta=example)


def _source_outputs(function, source):
    first_row = 0
    for block in read_ahead(source.blocks()):
        yield _checked(function, source.name, first_row, block.X)
        first_row += len(block.X)


def _checked(function, name, first_row, X):
    """Return what a function says of rows, which has means to check them."""
    return function(X, partial(check_finite, X, name, first_row))
