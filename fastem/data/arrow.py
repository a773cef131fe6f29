"""Sources that pyarrow reads: Parquet files, datasets and tables."""

from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastem.data.blocks import common_type
from fastem.data.files import file_states, require
from fastem.data.tables import (
    BATCH_ROWS,
    Column,
    choose_columns,
    needed_columns,
    open_table,
)

# Column chunks are read through buffers of this size: read ahead whole, as pyarrow does
# unless told, a row group of 64 MB takes over 600 MB of memory; with these, 140 MB.
_BUFFER_BYTES = 1 << 20


class _Part(NamedTuple):
    """A file or fragment: `n_rows` is None where only reading it tells."""

    name: str | Path
    n_rows: int | None
    read: partial


def open_parquet(paths, columns, sequence_column, block_rows):
    """Return a source of the rows of Parquet files.

    Of several files, each is a sequence, unless a sequence column is named.
    """
    parquet = require("pyarrow.parquet", "parquet", "reading Parquet files")
    name = str(paths[0])
    parts, schemas = [], []
    for path in paths:
        with _named_errors(path), parquet.ParquetFile(path) as file:
            about, schema = file.metadata, file.schema_arrow
        groups = [about.row_group(i).num_rows for i in range(about.num_row_groups)]
        parts.append(_Part(path, sum(groups), partial(_read_parquet, path, groups)))
        schemas.append(_schema(schema, path))
    names, dtype = choose_columns(schemas[0], columns, sequence_column, name)
    dtypes = [dtype]
    for path, schema in zip(paths[1:], schemas[1:], strict=True):
        strange = schema.keys() ^ schemas[0].keys()
        if columns is None and strange:
            raise ValueError(
                f"{path} and {name} have different columns: only one of them has "
                f"{', '.join(sorted(map(repr, strange)))}"
            )
        dtypes.append(choose_columns(schema, names, sequence_column, path)[1])

    def batches(first_row):
        for number, part in enumerate(parts):
            if first_row < part.n_rows:
                with _named_errors(part.name):
                    read = part.read(needed_columns(names, sequence_column), first_row)
                    of_one = None if len(parts) == 1 else number
                    yield from _arrays(read, names, sequence_column, of_one)
            first_row = max(0, first_row - part.n_rows)

    return open_table(
        "parquet",
        name if len(paths) == 1 else f"{name} and {len(paths) - 1} more files",
        names,
        common_type(dtypes),
        batches,
        n_rows=sum(part.n_rows for part in parts),
        sequence_column=sequence_column,
        block_rows=block_rows,
        files=file_states(paths),
    )


def _read_parquet(path, group_rows, columns, first_row):
    """Yield record batches of a file from a row on, passing over whole row groups."""
    parquet = require("pyarrow.parquet", "parquet", "reading Parquet files")
    group = int(np.searchsorted(np.cumsum(group_rows), first_row, "right"))
    options = {"buffer_size": _BUFFER_BYTES, "pre_buffer": False}
    with parquet.ParquetFile(path, **options) as file:
        batches = file.iter_batches(
            BATCH_ROWS,
            row_groups=range(group, len(group_rows)),
            columns=columns,
        )
        yield from _drop(batches, first_row - sum(group_rows[:group]))


def open_arrow_table(table, columns, sequence_column, block_rows):
    """Return a source of the rows of a pyarrow Table."""
    name = f"the table of {table.num_rows} rows"
    schema = _schema(table.schema, name)
    names, dtype = choose_columns(schema, columns, sequence_column, name)
    table = table.select(needed_columns(names, sequence_column))

    def batches(first_row):
        read = table.slice(first_row).to_batches(max_chunksize=BATCH_ROWS)
        return _arrays(read, names, sequence_column)

    return open_table(
        "arrow table",
        name,
        names,
        dtype,
        batches,
        n_rows=table.num_rows,
        sequence_column=sequence_column,
        block_rows=block_rows,
        in_memory=True,
    )


def open_dataset(dataset, columns, sequence_column, block_rows):
    """Return a source of the rows of a pyarrow Dataset."""
    paths = getattr(dataset, "files", [])
    name = f"the dataset of {paths[0]} …" if paths else "the dataset"
    schema = _schema(dataset.schema, name)
    names, dtype = choose_columns(schema, columns, sequence_column, name)
    options = {
        "columns": needed_columns(names, sequence_column),
        "batch_size": BATCH_ROWS,
    }
    parts = _dataset_parts(dataset, name, options)
    n_rows = [part.n_rows for part in parts]

    def batches(first_row):
        rest = list(parts)
        while rest and rest[0].n_rows is not None and rest[0].n_rows <= first_row:
            first_row -= rest.pop(0).n_rows
        read = chain.from_iterable(map(_read_part, rest))
        return _arrays(_drop(read, first_row), names, sequence_column)

    local = type(getattr(dataset, "filesystem", None)).__name__ == "LocalFileSystem"
    return open_table(
        "arrow dataset",
        name,
        names,
        dtype,
        batches,
        n_rows=None if None in n_rows else sum(n_rows),
        sequence_column=sequence_column,
        block_rows=block_rows,
        files=file_states(paths) if local else (),
    )


def _dataset_parts(dataset, name, options):
    """Return the fragments of a dataset, or all of it as one part if it is filtered."""
    try:
        fragments = list(dataset.get_fragments())
    except ValueError:
        read = partial(dataset.to_batches, **options, **_scan_options(dataset))
        return [_Part(name, None, read)]
    parts = []
    for fragment in fragments:
        where = getattr(fragment, "path", name)
        scan = _scan_options(fragment)
        read = partial(fragment.to_batches, dataset.schema, **options, **scan)
        # Parquet's footers and tables in memory know; other files would be read.
        known = scan or not hasattr(fragment, "path")
        with _named_errors(where):
            parts.append(_Part(where, fragment.count_rows() if known else None, read))
    return parts


def _scan_options(scanned):
    """Return what keeps the memory of a scan small, if it is one of Parquet files."""
    form = getattr(scanned, "format", None)
    if getattr(form, "default_extname", None) != "parquet":
        return {}
    dataset = require("pyarrow.dataset", "parquet", "reading Arrow datasets")
    return {
        "fragment_scan_options": dataset.ParquetFragmentScanOptions(
            use_buffered_stream=True, buffer_size=_BUFFER_BYTES, pre_buffer=False
        )
    }


def _read_part(part):
    with _named_errors(part.name):
        yield from part.read()


def _drop(batches, n_rows):
    """Yield record batches without the first rows."""
    for batch in batches:
        if n_rows < len(batch):
            yield batch.slice(n_rows)
        n_rows = max(0, n_rows - len(batch))


def _arrays(batches, names, sequence_column, number=None):
    """Yield columns of numbers, and those of the sequence column or a given number."""
    for batch in batches:
        if sequence_column is not None:
            number = batch.column(sequence_column).to_numpy(zero_copy_only=False)
        yield [_numbers(batch.column(name)) for name in names], number


def _numbers(column):
    """Return a column as an array, with NaN where it has nulls."""
    arrow = require("pyarrow", "parquet", "reading Arrow data")
    if not (
        arrow.types.is_integer(column.type) or arrow.types.is_floating(column.type)
    ):
        column = column.cast(arrow.float64())
    return column.to_numpy(zero_copy_only=False)


def _schema(schema, name):
    """Return the Column of each name.

    Raises
    ------
    ValueError
        If a name comes twice.
    """
    columns = {
        field.name: Column(_type(field.type), str(field.type)) for field in schema
    }
    if len(columns) < len(schema):
        raise ValueError(
            f"{name} has columns of equal names: {', '.join(schema.names)}"
        )
    return columns


def _type(arrow_type):
    """Return the type that a column's numbers are read as, None if they are none."""
    types = require("pyarrow", "parquet", "reading Arrow data").types
    if types.is_float32(arrow_type):
        return np.dtype(np.float32)
    kinds = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    return np.dtype(np.float64) if any(is_(arrow_type) for is_ in kinds) else None


@contextmanager
def _named_errors(name):
    """Say what could not be read."""
    arrow = require("pyarrow", "parquet", "reading Arrow data")
    try:
        yield
    except (OSError, arrow.ArrowException) as error:
        raise ValueError(f"cannot read {name}: {error}") from error
