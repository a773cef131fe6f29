"""Files that results are written to as they come."""

import errno
import os
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.lib import format

from fastem.data.files import require


@contextmanager
def open_output(path, n_rows, n_columns, dtype, columns=None):
    """Open a file for rows of results; it appears when all are written.

    They are written beside it first. If anything fails, an older file of that name
    stays as it was.

    Parameters
    ----------
    path : str or PathLike
        Ends in ``.npy`` or ``.parquet``.
    n_rows : int or None
        How many there will be, None if that is not known.
    n_columns : int or None
        None for one number a row: a 1-D array, or a column ``label``.
    dtype : dtype
    columns : list of str, default=None
        Names of a Parquet file's columns; ``p0``, ``p1`` ... if None.

    Yields
    ------
    output
        ``output.write(array)`` writes an array of shape (n, n_columns) or (n,).

    Raises
    ------
    ValueError
        For other suffixes, shapes or numbers of rows.
    OSError
        If the file cannot be written, by name.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/labels.npy"
    >>> with open_output(path, 3, None, np.int64) as output:
    ...     output.write(np.array([0, 1]))
    ...     output.write(np.array([2]))
    >>> np.load(path)
    array([0, 1, 2])
    """
    path, dtype = Path(path), np.dtype(dtype)
    kinds = {".npy": _NpyForm, ".parquet": _ParquetForm}
    if path.suffix.lower() not in kinds:
        raise ValueError(
            f"cannot write {path}: its name should end in .npy or .parquet"
        )
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _named_errors(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        file = open(unfinished, "wb")
    form = None
    try:
        with _named_errors(path):
            form = kinds[path.suffix.lower()](file, n_columns, dtype, columns)
        output = _Output(path, n_columns, dtype, form)
        yield output
        if n_rows not in (None, output.n_rows):
            raise ValueError(f"{path} got {output.n_rows} rows, not {n_rows}")
        with _named_errors(path):
            form.finish()
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(unfinished, path)
    except BaseException:
        # What is still held back may not fit on a full disk, and is not wanted.
        with suppress(OSError):
            if form is not None:
                form.finish()
        with suppress(OSError):
            file.close()
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def _named_errors(path):
    """Say which file could not be written."""
    try:
        yield
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror or error}"
        raise OSError(error.errno, reason) from error


class _Output:
    """An open file of results."""

    def __init__(self, path, n_columns, dtype, form):
        self.n_rows = 0
        self._path, self._dtype, self._form = path, dtype, form
        self._row_shape = () if n_columns is None else (n_columns,)

    def write(self, array):
        """Write some more rows."""
        array = np.ascontiguousarray(array, self._dtype)
        if array.shape[1:] != self._row_shape:
            raise ValueError(
                f"rows of {self._path} are of shape {self._row_shape}, not "
                f"{array.shape[1:]}"
            )
        with _named_errors(self._path):
            self._form.write(array)
        self.n_rows += len(array)


class _NpyForm:
    """Rows in NumPy's format, whose header has room for any number of them."""

    def __init__(self, file, n_columns, dtype, columns):
        self._file, self._n_rows = file, 0
        self._header = {"descr": format.dtype_to_descr(dtype), "fortran_order": False}
        self._row_shape = () if n_columns is None else (n_columns,)
        self._write_header()

    def _write_header(self):
        shape = (self._n_rows, *self._row_shape)
        format.write_array_header_1_0(self._file, self._header | {"shape": shape})

    def write(self, array):
        self._file.write(array.data)
        self._n_rows += len(array)

    def finish(self):
        self._file.seek(0)
        self._write_header()


class _ParquetForm:
    """Columns in a Parquet file."""

    def __init__(self, file, n_columns, dtype, columns):
        arrow = require("pyarrow", "parquet", "writing Parquet files")
        parquet = require("pyarrow.parquet", "parquet", "writing Parquet files")
        if columns is None:
            numbered = [f"p{k}" for k in range(n_columns or 0)]
            columns = ["label"] if n_columns is None else numbered
        kind = arrow.from_numpy_dtype(dtype)
        self._table = arrow.Table.from_arrays
        self._schema = arrow.schema([(name, kind) for name in columns])
        self._writer = parquet.ParquetWriter(file, self._schema)

    def write(self, array):
        columns = np.ascontiguousarray(array.reshape(len(array), len(self._schema)).T)
        self._writer.write_table(self._table(list(columns), schema=self._schema))

    def finish(self):
        try:
            self._writer.close()
        finally:
            self._writer.is_open = False  # else it tries again when it is deleted
