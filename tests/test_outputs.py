"""A file of results holds all rows that were written, or is what it was before."""

import os
import resource
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from fastem.data.outputs import open_output

SUFFIXES = (".npy", ".parquet")


def read(path):
    """All rows of a file of results."""
    if path.suffix == ".npy":
        return np.load(path)
    table = pyarrow.parquet.read_table(path)
    columns = [column.to_numpy() for column in table.columns]
    return columns[0] if table.column_names == ["label"] else np.stack(columns, axis=1)


def write(path, array, sizes, known=True):
    n_columns = array.shape[1] if array.ndim == 2 else None
    n_rows = len(array) if known else None
    with open_output(path, n_rows, n_columns, array.dtype) as output:
        for part in np.split(array, np.cumsum(sizes)):
            output.write(part)


@pytest.fixture
def old(tmp_path, request):
    """A folder with an older file of results, to be found unchanged."""
    path = tmp_path / f"x{request.param}"
    write(path, np.arange(5), [])
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


with_old = pytest.mark.parametrize("old", SUFFIXES, indirect=True)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "i4", "?"])
@pytest.mark.parametrize("shape", [(0,), (1000,), (1000, 1), (1000, 3), (0, 3)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(suffix, shape, dtype, known, tmp_path):
    array = np.random.default_rng(0).normal(scale=9, size=shape).astype(dtype)
    path = tmp_path / f"x{suffix}"
    write(path, array, [10, 0, 500], known)
    got = read(path)
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_orders_and_types_of_arrays(suffix, tmp_path):
    array = np.arange(12).reshape(4, 3)
    path = tmp_path / f"x{suffix}"
    with open_output(str(path), None, 3, np.float32) as output:
        output.write(np.asfortranarray(array)[::2])
        output.write(array[1::2, ::-1].tolist())
    expected = np.concatenate([array[::2], array[1::2, ::-1]])
    np.testing.assert_array_equal(read(path), expected)
    assert read(path).dtype == np.float32


def test_columns_of_a_parquet_file_have_names(tmp_path):
    path = tmp_path / "x.parquet"

    def names(n_columns, columns=None):
        with open_output(path, 1, n_columns, np.float64, columns) as output:
            output.write(np.ones((1,) if n_columns is None else (1, n_columns)))
        return pyarrow.parquet.read_schema(path).names

    assert names(None) == ["label"]
    assert names(None, ["log_likelihood"]) == ["log_likelihood"]
    assert names(3) == ["p0", "p1", "p2"]
    assert names(2, ["a", "b"]) == ["a", "b"]


def test_a_npy_file_can_be_mapped(tmp_path):
    write(tmp_path / "x.npy", np.arange(10.0), [3], known=False)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert mapped.offset % 64 == 0
    np.testing.assert_array_equal(mapped, np.arange(10.0))


@with_old
@pytest.mark.parametrize("error", [ValueError("in block 3"), KeyboardInterrupt()])
def test_an_error_leaves_the_older_file(old, error):
    with pytest.raises(type(error)) as caught:
        with open_output(old, None, 2, np.float64) as output:
            output.write(np.ones((10, 2)))
            raise error
    assert caught.value is error


@with_old
def test_an_unreadable_input_is_not_called_an_unwritable_output(old):
    with pytest.raises(FileNotFoundError, match=r"^input is gone$"):
        with open_output(old, None, 2, np.float64):
            raise FileNotFoundError("input is gone")


@with_old
def test_a_full_disk_is_named_and_leaves_the_older_file(old):
    """A limit on the size of files stands for a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OSError, match=rf"cannot write {old}: File too large"):
            with open_output(old, None, 2, np.float64) as output:
                for seed in range(100):
                    rng = np.random.default_rng(seed)
                    output.write(rng.normal(size=(10_000, 2)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@with_old
def test_a_disk_that_is_full_at_the_end_leaves_the_older_file(old):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match=rf"cannot write {old}: File too large"):
            with open_output(old, None, None, np.float64) as output:
                # Few enough to stay in buffers until the file is closed.
                output.write(np.ones(100))
                resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@with_old
def test_wrong_rows_are_refused(old):
    with pytest.raises(ValueError, match=r"x\.\w+ are of shape \(2,\), not \(3,\)"):
        with open_output(old, None, 2, np.float64) as output:
            output.write(np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"are of shape \(\), not \(1,\)"):
        with open_output(old, None, None, np.float64) as output:
            output.write(np.ones((4, 1)))
    with pytest.raises(ValueError, match=r"x\.\w+ got 4 rows, not 5"):
        with open_output(old, 5, None, np.float64) as output:
            output.write(np.ones(4))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_places_that_cannot_be_written_to_are_named(suffix, tmp_path):
    path = tmp_path / "none" / f"x{suffix}"
    with pytest.raises(FileNotFoundError, match=f"cannot write {path}: No such file"):
        write(path, np.arange(3), [])
    path = tmp_path / f"x{suffix}"
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=f"cannot write {path}: Is a directory"):
        write(path, np.arange(3), [])
    assert os.listdir(tmp_path) == [path.name] and path.is_dir()


@pytest.mark.parametrize("name", ["x.csv", "x", "x.npz"])
def test_other_suffixes_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=rf"{name}: .*\.npy or \.parquet"):
        write(tmp_path / name, np.arange(3), [])
    assert not os.listdir(tmp_path)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    for module in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pyarrow: pip install "fastem\[parquet\]"'):
        write(tmp_path / "x.parquet", np.arange(3), [])
    assert not os.listdir(tmp_path)
