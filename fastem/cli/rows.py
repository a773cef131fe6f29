"""The rows that commands read, and the options that name them."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import numba
import numpy as np

from fastem.data.blocks import Block
from fastem.data.files import find_files
from fastem.data.source import open_source

_CSV = {".csv", ".tsv", ".txt"}


def source_options(command):
    """Give a command the argument SOURCE and the options of reading it."""
    for decorate in (
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            expose_value=False,
            callback=_set_threads,
            help="Threads of the kernels; all cores without.",
        ),
        click.option(
            "--block-rows",
            type=click.IntRange(min=1),
            help="Rows read at a time; about 32 MB of them without.",
        ),
        click.option(
            "--sequence-column",
            metavar="NAME",
            help="Parquet column whose neighbouring equal values make a sequence; "
            "without, each file is a sequence.",
        ),
        click.option(
            "--columns",
            metavar="A,B,C",
            callback=_split_columns,
            help="Parquet columns to read, in this order; without, all, or those that "
            "the model was fitted to.",
        ),
        click.argument("source"),
    ):
        command = decorate(command)
    return command


def open_rows(
    path, columns, sequence_column, block_rows, *, fitted_names=None, dtype=None
):
    """Return a source of the rows of files.

    Parameters
    ----------
    path : str
    columns : list of str or None
    sequence_column : str or None
    block_rows : int or None
    fitted_names : ndarray of str, optional
        Columns that a table is read by where none are given.
    dtype : str, optional
        What rows become.

    Raises
    ------
    ValueError
        For CSV, and all that :func:`fastem.data.source.open_source` refuses.
    """
    if Path(path).suffix.lower() in _CSV:
        raise ValueError(
            f"cannot read {path}: text would be parsed anew at every pass. Convert it "
            'to Parquet once: python -c "import polars; '
            f"polars.scan_csv('{path}').sink_parquet('rows.parquet')\""
        )
    if columns is None and fitted_names is not None:
        columns = list(fitted_names) if find_files(path)[0] == ".parquet" else None
    source = open_source(
        path, columns=columns, sequence_column=sequence_column, block_rows=block_rows
    )
    if dtype is None or source.dtype == dtype:
        return source
    pieces = partial(_cast, source.pieces, np.dtype(dtype))
    return replace(source, dtype=np.dtype(dtype), pieces=pieces)


def watched(source, on_rows):
    """Return a source that calls ``on_rows(n_read, of)`` as its rows are read."""

    def pieces(first_row, block_rows):
        for piece in source.pieces(first_row, block_rows):
            yield piece
            first_row += len(piece.X)
            on_rows(first_row, source.n_rows)

    return replace(source, pieces=pieces)


def _cast(pieces, dtype, first_row, block_rows):
    for piece in pieces(first_row, block_rows):
        yield Block(piece.X.astype(dtype), piece.sequence)


def _split_columns(context, option, value):
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise click.BadParameter(f"{value!r} should be names with commas in between")
    return names


def _set_threads(context, option, value):
    if value is None:
        return
    largest = numba.config.NUMBA_NUM_THREADS
    if value > largest:
        raise click.BadParameter(f"there are {largest} threads at most")
    context.call_on_close(partial(numba.set_num_threads, numba.get_num_threads()))
    numba.set_num_threads(value)
