"""Sources that are data frames: those of polars and of Dask."""

import numpy as np

from fastem.data.blocks import float_type
from fastem.data.tables import (
    BATCH_ROWS,
    Column,
    choose_columns,
    needed_columns,
    open_table,
)


def open_polars(frame, columns, sequence_column, block_rows):
    """Return a source of the rows of a polars LazyFrame or DataFrame."""
    lazy = hasattr(frame, "collect_batches")
    name = f"the polars {type(frame).__name__}"
    schema = {
        column: Column(_polars_type(dtype), str(dtype))
        for column, dtype in frame.collect_schema().items()
    }
    names, dtype = choose_columns(schema, columns, sequence_column, name)
    frame = frame.select(needed_columns(names, sequence_column))

    def batches(first_row):
        rows = frame.slice(first_row)
        if lazy:
            read = rows.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)
        else:
            read = rows.iter_slices(BATCH_ROWS)
        for batch in read:
            yield (
                [_polars_numbers(batch[column]) for column in names],
                None if sequence_column is None else batch[sequence_column].to_numpy(),
            )

    return open_table(
        "polars",
        name,
        names,
        dtype,
        batches,
        n_rows=None if lazy else frame.height,
        sequence_column=sequence_column,
        block_rows=block_rows,
        in_memory=not lazy,
    )


def _polars_type(dtype):
    """Return the type that a column's numbers are read as, None if they are none."""
    if str(dtype) == "Float32":
        return np.dtype(np.float32)
    numbers = dtype.is_numeric() or str(dtype) == "Boolean"
    return np.dtype(np.float64) if numbers else None


def _polars_numbers(column):
    """Return a column as an array, with NaN where it has nulls."""
    import polars

    if not (column.dtype.is_integer() or column.dtype.is_float()):
        column = column.cast(polars.Float64)
    return column.to_numpy()


def open_dask_frame(frame, columns, sequence_column, block_rows):
    """Return a source of the rows of a Dask DataFrame, computed in this process."""
    name = f"the dask DataFrame of {frame.npartitions} partitions"
    schema = {
        column: Column(float_type(dtype), str(dtype))
        for column, dtype in frame.dtypes.items()
    }
    names, dtype = choose_columns(schema, columns, sequence_column, name)
    frame = frame[needed_columns(names, sequence_column)]

    def batches(first_row):
        for number in range(frame.npartitions):
            part = frame.partitions[number].compute(scheduler="threads")
            rows = part.iloc[first_row:]
            ids = None
            if sequence_column is not None:
                ids = _pandas_ids(rows[sequence_column])
            yield [_pandas_numbers(rows[column], dtype) for column in names], ids
            first_row = max(0, first_row - len(part))

    return open_table(
        "dask dataframe",
        name,
        names,
        dtype,
        batches,
        n_rows=None,
        sequence_column=sequence_column,
        block_rows=block_rows,
    )


def _pandas_numbers(column, dtype):
    """Return a column as an array, with NaN where it has nulls."""
    if isinstance(column.dtype, np.dtype):
        return column.to_numpy()
    return column.to_numpy(dtype=dtype, na_value=np.nan)


def _pandas_ids(column):
    """Return a column as an array, of objects with None for nulls if not of NumPy's."""
    if isinstance(column.dtype, np.dtype):
        return column.to_numpy()
    if column.dtype.kind in "iu" and not column.hasnans:
        return column.to_numpy(dtype=np.int64)
    return column.to_numpy(dtype=object, na_value=None)
