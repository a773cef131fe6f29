"""What sources with named columns share: which to read, and rows from columns."""

import hashlib
from typing import NamedTuple

import numpy as np

from fastem.data.blocks import (
    Block,
    BlockSource,
    common_type,
    rows_per_block,
    rows_per_portion,
    same_sequence,
)

# Rows read at a time: columns of as many go into rows at 2 ns an element, twice as
# fast as columns that outgrow the cache.
BATCH_ROWS = 1 << 16


class Column(NamedTuple):
    """A column's type: that of its numbers (None if they are none), and its name."""

    dtype: np.dtype | None
    described: str


def choose_columns(schema, columns, sequence_column, where):
    """Return the names of the columns to read and the type that holds them all.

    Parameters
    ----------
    schema : dict of str to Column
    columns : list of str, str or None
        None is all but the sequence column.
    sequence_column : str or None
    where : str
        What messages call the table.

    Raises
    ------
    ValueError
        For columns that are not there, or not of numbers.
    """
    names = [columns] if isinstance(columns, str) else columns
    if names is None:
        names = [name for name in schema if name != sequence_column]
    for name in needed_columns(names, sequence_column):
        if name not in schema:
            raise ValueError(
                f"{where} has no column {name!r}; it has {', '.join(map(repr, schema))}"
            )
    for name in names:
        if schema[name].dtype is None:
            raise ValueError(
                f"column {name!r} of {where} holds {schema[name].described}, not "
                "numbers: name the columns to read with columns=[...]"
            )
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"columns of {where} should be distinct and at least one")
    return list(names), common_type([schema[name].dtype for name in names])


def needed_columns(names, sequence_column):
    """Return names with that of the sequence column, each once."""
    also = [] if sequence_column is None else [sequence_column]
    return list(dict.fromkeys([*names, *also]))


def open_table(
    kind,
    name,
    names,
    dtype,
    batches,
    *,
    n_rows,
    sequence_column,
    block_rows,
    files=(),
    in_memory=False,
):
    """Return a source of the rows of a table.

    Parameters
    ----------
    kind, name : str
    names : list of str
        The columns to read.
    dtype : dtype
    batches : callable
        ``batches(first_row)`` yields pairs from that row on: a list of 1-D arrays of
        equal lengths, one for each column; and the values of the sequence column, the
        number of a sequence, or None.
    n_rows : int or None
    sequence_column : str or None
    block_rows : int or None
    files : tuple of FileState
    in_memory : bool
    """
    usual = rows_per_block(len(names), dtype)
    most = max(usual, rows_per_portion(len(names), dtype))

    def pieces(first_row, block_rows):
        named = _name_sequences(batches(first_row), sequence_column, name, first_row)
        at_once = min(block_rows or usual, most)
        return _fill_blocks(named, len(names), dtype, at_once)

    return BlockSource(
        kind=kind,
        name=name,
        n_rows=n_rows,
        n_features=len(names),
        dtype=dtype,
        block_rows=block_rows or usual,
        pieces=pieces,
        feature_names=np.array(names, dtype=object),
        sequence_column=sequence_column,
        files=files,
        in_memory=in_memory,
    )


def _fill_blocks(batches, n_features, dtype, block_rows):
    """Yield blocks of `block_rows` rows, but for the last, filled column by column."""
    block, filled = None, 0
    for columns, sequence in batches:
        first, n_rows = 0, len(columns[0])
        while first < n_rows:
            if block is None:
                n_ids = block_rows if len(sequence) else 0
                block = Block(
                    np.empty((block_rows, n_features), dtype), np.empty(n_ids, np.int64)
                )
            n_taken = min(n_rows - first, block_rows - filled)
            taken = slice(filled, filled + n_taken)
            for j, column in enumerate(columns):
                block.X[taken, j] = column[first : first + n_taken]
            if len(sequence):
                block.sequence[taken] = sequence[first : first + n_taken]
            first += n_taken
            filled += n_taken
            if filled == block_rows:
                yield block
                block, filled = None, 0
    if filled:
        yield Block(*(field[:filled] for field in block))


def _name_sequences(batches, sequence_column, name, row):
    """Yield batches with a number for each row's sequence, or none for no row."""
    for columns, sequence in batches:
        n_rows = len(columns[0])
        if sequence is None:
            ids = np.empty(0, np.int64)
        elif np.ndim(sequence) == 0:
            ids = same_sequence(sequence, n_rows)
        else:
            ids = _numbers_of(sequence, f"column {sequence_column!r} of {name}", row)
        yield columns, ids
        row += n_rows


def _numbers_of(values, where, first_row):
    """Return an int64 for each sequence id, equal where ids that are neighbours are.

    Integers stay; of anything else each run of equal ones gets a digest of its text,
    which is the same in any block and any process.
    """
    if values.dtype.kind in "biu":
        return values.astype(np.int64)
    missing = (values != values) | np.equal(values, None, dtype=object).astype(bool)
    if missing.any():
        raise ValueError(f"{where} is empty in row {first_row + missing.argmax()}")
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts = np.append(0, changes)[: len(values)]
    numbers = np.array([_digest(value) for value in values[starts]], np.int64)
    return np.repeat(numbers, np.diff(starts, append=len(values)))


def _digest(value):
    digest = hashlib.blake2b(str(value).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
