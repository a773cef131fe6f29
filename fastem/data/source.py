"""Sources: data that is read in blocks, as often as there are iterations."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from numbers import Integral
from os import PathLike
from typing import Protocol, runtime_checkable

import numpy as np

from fastem.data.arrays import open_chunked, open_dask_array, open_npy
from fastem.data.arrow import open_arrow_table, open_dataset, open_parquet
from fastem.data.blocks import Block
from fastem.data.files import find_files
from fastem.data.frames import open_dask_frame, open_polars
from fastem.data.given import open_callable, open_list

__all__ = ["Block", "Source", "is_source", "open_source"]


@runtime_checkable
class Source(Protocol):
    """Rows that are read in blocks, the same ones at each pass.

    Attributes
    ----------
    name : str
        What messages call it.
    n_rows : int or None
        None where only a pass tells.
    n_features : int
    dtype : dtype
        Float32 or float64, that of all blocks.
    feature_names : ndarray of shape (D,) of str, or None
        Names of columns where there are some.
    """

    name: str
    n_rows: int | None
    n_features: int
    dtype: np.dtype
    feature_names: np.ndarray | None

    def blocks(self, start=0) -> Iterator[Block]:
        """Return an iterator of the blocks from number `start` on."""

    def fingerprint(self) -> dict:
        """Return what tells this data from other data, of JSON's types."""


def _open_h5py(data, block_rows):
    return open_chunked(
        data, "hdf5", f"{data.name} of {data.file.filename}", block_rows
    )


def _open_zarr(data, block_rows):
    return open_chunked(data, "zarr", f"the zarr array {data.name or ''}", block_rows)


# By package and class, so that no optional package is imported to ask.
_TABLES = {
    ("pyarrow", "Table"): open_arrow_table,
    ("pyarrow", "Dataset"): open_dataset,
    ("polars", "LazyFrame"): open_polars,
    ("polars", "DataFrame"): open_polars,
    ("dask", "DataFrame"): open_dask_frame,
}
_ARRAYS = {
    ("h5py", "Dataset"): _open_h5py,
    ("zarr", "Array"): _open_zarr,
    ("dask", "Array"): open_dask_array,
}
_IN_MEMORY = {("polars", "DataFrame")}


def is_source(X):
    """Tell whether data is read through :func:`open_source`, not as an array in memory.

    So it is with paths, callables, lists of paths or of 2-D blocks, collections of
    pyarrow, polars (lazy), zarr, h5py and Dask, and any :class:`Source`; also with
    generators, which :func:`open_source` refuses with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> is_source("rows.npy"), is_source([np.ones((3, 2)), np.ones((4, 2))])
    (True, True)
    >>> is_source(np.ones((3, 2))), is_source([[1, 2], [3, 4]])
    (False, False)
    """
    return not isinstance(X, np.ndarray) and (
        _is_path(X)
        or isinstance(X, Iterator | Source)
        or callable(X)
        or _is_list(X)
        or not _names(X).isdisjoint((_TABLES.keys() | _ARRAYS.keys()) - _IN_MEMORY)
    )


def open_source(data, *, columns=None, sequence_column=None, block_rows=None):
    """Return a source of the rows of data.

    Parameters
    ----------
    data : path, collection, list of blocks, callable or Source
        - A path to a ``.npy`` or Parquet file, a folder or glob of such files, or a
          list of paths. Files are read in sorted order, a list in its own.
        - A `pyarrow.Table` or `pyarrow.dataset.Dataset`, a polars LazyFrame or
          DataFrame, a zarr array, an h5py dataset, a Dask array or DataFrame.
        - A list or tuple of 2-D arrays, or a callable that returns a new iterator of
          them each time it is called. Empty ones are passed over.
        - A source, which is returned as it is.
    columns : list of str, default=None
        Columns of a table to read, in this order. All, but for the sequence column, if
        None.
    sequence_column : str, default=None
        Column of a table whose neighbouring equal values make a sequence.
    block_rows : int, default=None
        Rows in each block but the last. If None, blocks are of about 32 MB, and those
        of a list or callable are as they come. Passes of EM and k-means read portions
        of 64 MB all the same.

    Returns
    -------
    Source

    Raises
    ------
    ValueError
        For data that is no 2-D table of numbers or cannot be read, naming where; for a
        generator or any other iterator, which can be read only once.
    FileNotFoundError
        If there is no such file.
    ImportError
        If a package is not installed that reading needs.

    Examples
    --------
    >>> import numpy as np
    >>> source = open_source([np.zeros((3, 2)), np.ones((4, 2))])
    >>> source.n_rows, source.n_features
    (7, 2)
    >>> [len(block.X) for block in source.blocks()]
    [3, 4]
    """
    if block_rows is not None and not (
        isinstance(block_rows, Integral) and block_rows >= 1
    ):
        raise ValueError(f"block_rows should be a positive integer, got {block_rows!r}")
    if isinstance(data, Iterator):
        raise ValueError(_why_not_an_iterator(data))
    names_columns = columns is not None or sequence_column is not None
    if isinstance(data, Source):
        if names_columns or block_rows is not None:
            raise ValueError(
                f"{data.name} is open already: give columns, sequence_column and "
                "block_rows where it is opened"
            )
        return data
    opener, is_table = _find_opener(data)
    if is_table:
        source = opener(columns, sequence_column, block_rows)
        return replace(source, open_column=lambda name: opener([name], None, None))
    if names_columns:
        raise ValueError(
            "columns and sequence_column name columns of tables, and this "
            f"{type(data).__name__} has no named columns"
        )
    return opener(block_rows)


def _find_opener(data):
    """Return what opens data, given options, and whether its columns have names."""
    if _is_path(data) or (_is_list(data) and _is_path(data[0])):
        suffix, paths = find_files(data)
        is_table = suffix == ".parquet"
        return partial(open_parquet if is_table else open_npy, paths), is_table
    for name in _names(data):
        if name in _TABLES:
            return partial(_TABLES[name], data), True
        if name in _ARRAYS:
            return partial(_ARRAYS[name], data), False
    if _is_list(data):
        return partial(open_list, data), False
    if callable(data):
        return partial(open_callable, data), False
    raise ValueError(
        f"cannot read blocks of rows from {type(data).__name__}: give a path, a "
        "collection, a list of 2-D blocks, or a callable that returns an iterator of "
        "them"
    )


def _is_path(data):
    return isinstance(data, str | PathLike)


def _is_list(data):
    """Tell whether data is a list or tuple of paths or 2-D blocks, by its first."""
    return (
        isinstance(data, list | tuple)
        and len(data) > 0
        and (_is_path(data[0]) or getattr(data[0], "ndim", None) == 2)
    )


def _names(data):
    """Return package and name of each class that data is an instance of."""
    return {(c.__module__.partition(".")[0], c.__name__) for c in type(data).__mro__}


def _why_not_an_iterator(data):
    kind = type(data).__name__
    name = getattr(data, "__name__", "")
    return (
        f"cannot read the {kind} {name}".rstrip() + ": EM reads the data once an "
        f"iteration, and a {kind} can be read only once. Give a callable that returns "
        "a new iterator of blocks each time it is called, or a list of blocks."
    )
