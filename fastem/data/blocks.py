"""Blocks of rows, and how storage of any kind becomes blocks."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from fastem.checkpoint.fingerprints import checksum
from fastem.data.files import check_unchanged, identify

# Large enough that a block's overhead is nothing beside its E-step, small enough that
# the few blocks alive at once are a small part of any machine's memory.
BLOCK_BYTES = 32 << 20
# Rows are summed in portions of about this size, wherever blocks end. Of wide rows a
# smaller one has too few tiles (measured at D = 128, K = 32 on two busy cores: 32 MB
# took 2 600 to 2 680 ns a row, 64 MB 2 320 to 2 400, all rows at once 2 060 to 2 350).
PORTION_BYTES = 64 << 20
# As many rows make a tile of the kernels: portions are of whole ones.
PORTION_MULTIPLE = 256
_DIGEST_ROWS = 64
_NO_SEQUENCE = np.empty(0, np.int64)


class Block(NamedTuple):
    """Rows that are in memory together.

    Attributes
    ----------
    X : ndarray of shape (n, D)
        Float32 or float64, C-contiguous, of one row at least.
    sequence : ndarray of shape (n,) or (0,)
        Each row's sequence as an int64; of size zero where the source knows none.
    """

    X: np.ndarray
    sequence: np.ndarray = _NO_SEQUENCE


@dataclass(frozen=True, eq=False)
class BlockSource:
    """A source of rows, all of one type; see :class:`fastem.data.source.Source`.

    Attributes
    ----------
    kind : str
    name : str
    n_rows : int or None
    n_features : int
    dtype : dtype
    block_rows : int or None
        Rows in each block but the last; None leaves pieces as they are.
    pieces : callable
        ``pieces(first_row, block_rows)`` yields Blocks of any size, from that row on;
        best of so many, counted from row 0. None leaves them as they are.
    feature_names : ndarray of shape (D,) or None
    sequence_column : str or None
    files : tuple of FileState
        What must not change from pass to pass.
    piece_rows : list of int or None
        Rows of each piece of a list.
    in_memory : bool
        Whether all rows are at hand, so that a fingerprint is of all of them.
    open_column : callable or None
        ``open_column(name)`` returns a source of another column of the same table.
    """

    kind: str
    name: str
    n_rows: int | None
    n_features: int
    dtype: np.dtype
    block_rows: int | None
    pieces: Callable
    feature_names: np.ndarray | None = None
    sequence_column: str | None = None
    files: tuple = ()
    piece_rows: list | None = None
    in_memory: bool = False
    open_column: Callable | None = None

    def __post_init__(self):
        if self.n_rows == 0:
            raise ValueError(f"{self.name} has no rows")
        if self.n_features == 0:
            raise ValueError(f"{self.name} has no columns")

    def blocks(self, start=0):
        """Yield the blocks from number `start` on."""
        check_unchanged(self.files)
        if self.block_rows is None:
            blocks = islice(self.pieces(0, None), start, None)
        else:
            pieces = self.pieces(start * self.block_rows, self.block_rows)
            blocks = rechunk(pieces, self.block_rows)
        empty = start == 0
        for block in blocks:
            empty = False
            yield block
        if empty:
            raise ValueError(f"{self.name} has no rows")

    def column(self, name):
        """Return another column of the same table, (N,), NaN where it is empty.

        Raises
        ------
        ValueError
            If there is none of that name, or it is one of those that blocks hold.
        """
        if name in self.feature_names:
            raise ValueError(
                f"column {name!r} of {self.name} is one of the features: name these "
                "with fastem.source(..., columns=[...])"
            )
        return np.concatenate([X[:, 0] for X, _ in self.open_column(name).blocks()])

    def fingerprint(self):
        """Return what tells this data from other data.

        Of rows in memory that is a checksum of all, and of the sequence column's; of
        files size, time and a digest of where they begin and end; of other storage a
        digest of the first rows and, if it is known how many there are, of the last.
        """
        about = {
            "kind": self.kind,
            "n_rows": self.n_rows,
            "n_features": self.n_features,
            "dtype": self.dtype.name,
            "columns": None if self.feature_names is None else [*self.feature_names],
            "sequence_column": self.sequence_column,
            "block_rows": self.block_rows or self.piece_rows,
        }
        if self.files:
            about["files"] = {
                f"{number}: {file.path.name}": identify(file.path)
                for number, file in enumerate(self.files)
            }
        if self.in_memory:
            about["rows"] = about["sequences"] = 0
            for X, sequence in self.pieces(0, None):
                about["rows"] = checksum(X, about["rows"])
                if self.sequence_column is not None:
                    about["sequences"] = checksum(sequence, about["sequences"])
        elif self.n_rows is None:
            # A filter or a function stands between the files, if any, and the rows.
            first = next(self.blocks()).X
            about["first_block_rows"] = len(first)
            about["head"] = _digest(first[:_DIGEST_ROWS])
        elif not self.files:
            about["head"] = _digest(next(self.pieces(0, None)).X[:_DIGEST_ROWS])
            last = max(0, self.n_rows - _DIGEST_ROWS)
            about["tail"] = [_digest(block.X) for block in self.pieces(last, None)]
        return about


def in_larger_blocks(source, least):
    """Return a source of the same rows in blocks of at least so many, where it can."""
    if not isinstance(source, BlockSource) or (source.block_rows or 0) >= least:
        return source
    usual = rows_per_block(source.n_features, source.dtype)
    return replace(source, block_rows=max(least, usual))


def portions(source, start=0):
    """Return an iterator of the portions that rows are summed in, from one on."""
    n_rows = rows_per_portion(source.n_features, source.dtype)
    if isinstance(source, BlockSource):
        return replace(source, block_rows=n_rows).blocks(start)
    return islice(rechunk(source.blocks(), n_rows), start, None)


def _digest(X):
    return hashlib.blake2b(X.tobytes(), digest_size=16).hexdigest()


def rechunk(pieces, block_rows):
    """Yield blocks of `block_rows` rows each, but for the last.

    A block that lies within one piece is a view of it.
    """
    held, n_held = [], 0
    for piece in pieces:
        first, n_rows = 0, len(piece.X)
        while first < n_rows:
            stop = min(n_rows, first + block_rows - n_held)
            held.append(Block(*(field[first:stop] for field in piece)))
            n_held += stop - first
            first = stop
            if n_held == block_rows:
                yield _join(held)
                held, n_held = [], 0
    if held:
        yield _join(held)


def _join(blocks):
    if len(blocks) == 1:
        return blocks[0]
    return Block(*(np.concatenate(fields) for fields in zip(*blocks, strict=True)))


def float_type(dtype):
    """Return the type that numbers of a type are read as, or None if they are none."""
    if dtype.kind not in "biuf":
        return None
    single = dtype.kind == "f" and dtype.itemsize == 4
    return np.dtype(np.float32 if single else np.float64)


def common_type(dtypes):
    """Return float32 if all types are, else float64."""
    return np.result_type(*dtypes)


def rows_per_block(n_features, dtype):
    """Return the number of rows that make a block of the usual size."""
    return max(1, BLOCK_BYTES // (max(1, n_features) * dtype.itemsize))


def rows_per_portion(n_features, dtype):
    """Return the number of rows of a portion, all but the last of some rows."""
    n_rows = PORTION_BYTES // (max(1, n_features) * dtype.itemsize)
    return max(1, n_rows // PORTION_MULTIPLE) * PORTION_MULTIPLE


def portion_slices(X):
    """Return slices of an array's portions, at least one."""
    n_rows = rows_per_portion(X.shape[1], X.dtype)
    return [slice(i, i + n_rows) for i in range(0, max(1, len(X)), n_rows)]


def same_sequence(number, n_rows):
    """Return one sequence id for each of some rows, which takes no memory."""
    return np.broadcast_to(np.int64(number), n_rows)
