"""Sources that are arrays: .npy files, HDF5, zarr and Dask."""

import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastem.data.blocks import (
    Block,
    BlockSource,
    common_type,
    float_type,
    rows_per_block,
    same_sequence,
)
from fastem.data.files import file_states

_PAGE = 4096


class _NpyFile(NamedTuple):
    path: Path
    shape: tuple
    dtype: np.dtype
    offset: int
    fortran: bool


def open_npy(paths, block_rows):
    """Return a source of the rows of .npy files; of several, each is a sequence."""
    files = [_npy_file(path) for path in paths]
    name, n_features = str(files[0].path), files[0].shape[1]
    for file in files[1:]:
        if file.shape[1] != n_features:
            raise ValueError(
                f"{file.path} has {file.shape[1]} columns, but {name} has {n_features}"
            )
    dtype = common_type([float_type(file.dtype) for file in files])
    return BlockSource(
        kind="npy",
        name=name if len(files) == 1 else f"{name} and {len(files) - 1} more files",
        n_rows=sum(file.shape[0] for file in files),
        n_features=n_features,
        dtype=dtype,
        block_rows=block_rows or rows_per_block(n_features, dtype),
        pieces=partial(_npy_pieces, files, dtype),
        files=file_states(paths),
    )


def _npy_file(path):
    """Return what the header says of a file that is as long as it says."""
    try:
        rows = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        reason = error
        if "greater than file size" in str(error):
            reason = "it ends before the last of the rows that its header names"
        raise ValueError(f"cannot read {path} as a .npy file: {reason}") from error
    _check_matrix(rows, str(path))
    return _NpyFile(path, rows.shape, rows.dtype, rows.offset, rows.flags.fnc)


def _npy_pieces(files, dtype, first_row, block_rows):
    """Yield blocks that end where those of the source do, or where a file does."""
    begin = 0
    block_rows = block_rows or rows_per_block(files[0].shape[1], dtype)
    for number, file in enumerate(files):
        first, n_rows = max(0, first_row - begin), file.shape[0]
        with open(file.path, "rb") as stream:
            while first < n_rows:
                stop = min(n_rows, first + block_rows - (begin + first) % block_rows)
                rows = _map_rows(stream, file, first, stop)
                X = np.ascontiguousarray(rows, dtype)
                alone = len(files) == 1
                yield Block(X) if alone else Block(X, same_sequence(number, len(X)))
                first = stop
        begin += n_rows


def _map_rows(stream, file, first, stop):
    """Map some rows of an open .npy file and bring them into memory.

    Each block is a mapping of its own, which ends with the block, so that only a few
    blocks of the file are resident; this and looking at the pages take 0.2 ns a number.
    """
    if file.fortran:
        mapped = np.memmap(stream, file.dtype, "r", file.offset, file.shape, "F")
        return mapped[first:stop]
    shape = stop - first, file.shape[1]
    offset = file.offset + first * shape[1] * file.dtype.itemsize
    try:
        rows = np.memmap(stream, file.dtype, "r", offset, shape)
    except ValueError as error:
        raise ValueError(f"{file.path} lost rows while it was read: {error}") from error
    # One request for all of it, then a look at every page: kernels need not wait for
    # the disk, and neither holds the GIL.
    if hasattr(os, "posix_fadvise"):
        fd = stream.fileno()
        os.posix_fadvise(fd, offset, rows.nbytes, os.POSIX_FADV_WILLNEED)
    rows.reshape(-1).view(np.uint8)[::_PAGE].max()
    return rows


def _check_matrix(array, name):
    """Raise a ValueError for anything but numbers in two dimensions."""
    if len(array.shape) != 2 or float_type(np.dtype(array.dtype)) is None:
        raise ValueError(
            f"{name} should be a 2-D array of numbers, but has the shape "
            f"{tuple(array.shape)} and the type {array.dtype}"
        )


def open_chunked(array, kind, name, block_rows):
    """Return a source of the rows of an HDF5 dataset or a zarr array."""
    _check_matrix(array, name)
    n_rows, n_features = array.shape
    dtype = float_type(array.dtype)
    # Reading a part of a chunk decodes all of it.
    chunk = array.chunks[0] if array.chunks else 1
    step = max(1, rows_per_block(n_features, dtype) // chunk) * chunk

    def pieces(first_row, _):
        while first_row < n_rows:
            stop = min(n_rows, (first_row // step + 1) * step)
            yield Block(np.ascontiguousarray(array[first_row:stop], dtype))
            first_row = stop

    return BlockSource(
        kind=kind,
        name=name,
        n_rows=n_rows,
        n_features=n_features,
        dtype=dtype,
        block_rows=block_rows or step,
        pieces=pieces,
    )


def open_dask_array(array, block_rows):
    """Return a source of the rows of a Dask array, computed in this process."""
    name = f"dask array {array.name}"
    _check_matrix(array, name)
    dtype, n_features = float_type(array.dtype), array.shape[1]
    rows = array.chunks[0]  # NaN where only computing a chunk tells

    def pieces(first_row, _):
        for number, n_rows in enumerate(rows):
            if first_row >= n_rows:
                first_row -= n_rows
                continue
            chunk = array.blocks[number].compute(scheduler="threads")
            yield Block(np.ascontiguousarray(chunk[first_row:], dtype))
            first_row = max(0, first_row - len(chunk))

    return BlockSource(
        kind="dask array",
        name=name,
        n_rows=None if np.isnan(rows).any() else int(sum(rows)),
        n_features=n_features,
        dtype=dtype,
        block_rows=block_rows or rows_per_block(n_features, dtype),
        pieces=pieces,
    )
