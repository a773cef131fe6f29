"""Every source gives the rows it was made of, in blocks of the size asked for, at each
pass; anything that is not such rows is refused with its place and a way out."""

import datetime
import decimal
import json
import mmap
import os
import subprocess
import sys
import threading

import dask.array
import dask.dataframe
import h5py
import numpy as np
import pandas
import polars
import pyarrow
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from fastem.checkpoint import differences
from fastem.data import blocks
from fastem.data.read_ahead import read_ahead
from fastem.data.sampling import sample_rows
from fastem.data.sequences import sequence_blocks
from fastem.data.source import Source, is_source, open_source

N, D = 500, 3
NAMES = ["a", "b", "c"]


def rows(dtype=np.float64, n_rows=N, seed=0):
    return (100 * np.random.default_rng(seed).normal(size=(n_rows, D))).astype(dtype)


def table(X, names=NAMES):
    return pyarrow.table(
        [np.ascontiguousarray(X[:, j]) for j in range(len(names))], names
    )


def npy(X, path):
    np.save(path, X)
    return path


def parquet(X, path, **options):
    pyarrow.parquet.write_table(table(X), path, **options)
    return path


def in_files(X, folder, write, suffix, cuts=(0, 120, 120, 370)):
    """Write rows to files, one of them empty, whose order is that of their names."""
    folder.mkdir()
    for i, part in enumerate(np.split(X, cuts[1:])):
        write(part, folder / f"part-{i}{suffix}")
    return folder


def hdf5(X, folder, **options):
    path = folder / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("rows", data=X, **options)
    return h5py.File(path)["rows"]


def zarr_array(X, folder):
    array = zarr.create_array(
        folder / "z.zarr", shape=X.shape, chunks=(70, 2), dtype=X.dtype
    )
    array[:] = X
    return array


def frame(X):
    return pandas.DataFrame(X, columns=NAMES)


def ragged(X):
    return [X[:0], X[:120], X[120:121], X[121:121], X[121:]]


STORES = {
    "npy": lambda X, folder: npy(X, folder / "x.npy"),
    "npy as a string": lambda X, folder: str(npy(X, folder / "x.npy")),
    "npy in Fortran order": lambda X, folder: npy(
        np.asfortranarray(X), folder / "x.npy"
    ),
    "npy in the other byte order": lambda X, folder: npy(
        X.astype(X.dtype.newbyteorder()), folder / "x.npy"
    ),
    "npy files of a folder": lambda X, folder: in_files(X, folder / "f", npy, ".npy"),
    "list of npy files": lambda X, folder: sorted(
        in_files(X, folder / "f", npy, ".npy").iterdir()
    ),
    "parquet": lambda X, folder: parquet(X, folder / "x.parquet"),
    "parquet in groups": lambda X, folder: parquet(
        X, folder / "x.parquet", row_group_size=37
    ),
    "parquet files of a folder": lambda X, folder: in_files(
        X, folder / "f", parquet, ".parquet"
    ),
    "parquet files of a glob": lambda X, folder: str(
        in_files(X, folder / "f", parquet, ".parquet") / "part-*.parquet"
    ),
    "arrow table": lambda X, folder: pyarrow.concat_tables(
        [table(part) for part in ragged(X)]
    ),
    "arrow dataset": lambda X, folder: pyarrow.dataset.dataset(
        in_files(X, folder / "f", parquet, ".parquet")
    ),
    "arrow dataset in memory": lambda X, folder: pyarrow.dataset.dataset(table(X)),
    "arrow dataset of feather files": lambda X, folder: pyarrow.dataset.dataset(
        in_files(
            X,
            folder / "f",
            lambda X, path: pyarrow.feather.write_feather(table(X), path),
            ".feather",
        ),
        format="feather",
    ),
    "filtered arrow dataset": lambda X, folder: pyarrow.dataset.dataset(
        parquet(X, folder / "x.parquet")
    ).filter(pyarrow.dataset.field("a").is_valid()),
    "polars LazyFrame": lambda X, folder: polars.scan_parquet(
        parquet(X, folder / "x.parquet", row_group_size=37)
    ),
    "polars DataFrame": lambda X, folder: polars.DataFrame(X, schema=NAMES),
    "zarr": zarr_array,
    "hdf5": hdf5,
    "hdf5 in chunks": lambda X, folder: hdf5(X, folder, chunks=(70, 2)),
    "dask array": lambda X, folder: dask.array.from_array(X, chunks=(70, 2)),
    "dask array of unknown length": lambda X, folder: dask.dataframe.from_pandas(
        frame(X), npartitions=4
    ).to_dask_array(),
    "dask dataframe": lambda X, folder: dask.dataframe.from_pandas(
        frame(X), npartitions=4
    ),
    "list": lambda X, folder: ragged(X),
    "tuple": lambda X, folder: tuple(ragged(X)),
    "callable": lambda X, folder: lambda: iter(ragged(X)),
    "callable of data frames": lambda X, folder: lambda: map(frame, ragged(X)),
}

# To estimators a frame in memory is an array.
SOURCES = sorted(STORES.keys() - {"polars DataFrame"})


def weights(n_rows=N):
    """Some rows count for nothing, among them a whole block."""
    weight = np.random.default_rng(5).choice([0.0, 0.5, 1.0, 3.0], n_rows)
    weight[100:200] = 0.0
    return weight


AS_THEY_COME = ("list", "tuple", "callable", "callable of data frames")


@pytest.mark.parametrize("block_rows", [None, 1, 7, 100, N - 1, N, 10**12])
@pytest.mark.parametrize("store", STORES)
def test_blocks_are_the_rows(store, block_rows, tmp_path):
    X = rows()
    source = open_source(STORES[store](X, tmp_path), block_rows=block_rows)
    assert isinstance(source, Source)
    assert (source.n_features, source.dtype) == (D, np.float64)
    assert source.n_rows in (None, N)
    for _ in range(2):
        got = list(source.blocks())
        np.testing.assert_array_equal(np.concatenate([block.X for block in got]), X)
    for block in got:
        assert block.X.dtype == np.float64 and block.X.flags.c_contiguous
        assert block.sequence.dtype == np.int64
        assert len(block.sequence) in (0, len(block.X))
    sizes = [len(block.X) for block in got]
    if block_rows is not None:
        assert sizes == [
            len(part) for part in np.split(X, range(block_rows, N, block_rows))
        ]
    elif store in AS_THEY_COME:
        assert sizes == [120, 1, 379]
    else:
        assert sizes == [N]


@pytest.mark.parametrize("block_rows", [None, 7, 130])
@pytest.mark.parametrize("store", STORES)
def test_blocks_start_at_any_block(store, block_rows, tmp_path):
    source = open_source(STORES[store](rows(), tmp_path), block_rows=block_rows)
    every = list(source.blocks())
    for start in [0, 1, 2, len(every) // 2, len(every) - 1, len(every)]:
        rest = list(source.blocks(start))
        assert len(rest) == max(0, len(every) - start)
        for block, same in zip(rest, every[start:], strict=True):
            np.testing.assert_array_equal(block.X, same.X)
            np.testing.assert_array_equal(block.sequence, same.sequence)


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "u2", "i1", "?"])
@pytest.mark.parametrize("store", STORES)
def test_numbers_of_any_type(store, dtype, tmp_path):
    X = rows(dtype)
    source = open_source(STORES[store](X, tmp_path), block_rows=100)
    assert source.dtype == (np.float32 if dtype == "f4" else np.float64)
    got = np.concatenate([block.X for block in source.blocks()])
    assert got.dtype == source.dtype
    np.testing.assert_array_equal(got, X.astype(source.dtype))


@pytest.mark.parametrize("store", STORES)
def test_a_fingerprint_is_that_of_the_data(store, tmp_path):
    def fingerprint(X, folder, **options):
        folder.mkdir(exist_ok=True)
        source = open_source(STORES[store](X, folder), **options)
        first, second = source.fingerprint(), source.fingerprint()
        assert first == second == json.loads(json.dumps(first))
        # Files written at other times are other files.
        for file in first.get("files", {}).values():
            del file["mtime_ns"]
        return first

    X = rows()
    of_first = fingerprint(X, tmp_path / "a")
    assert fingerprint(X.copy(), tmp_path / "b") == of_first
    assert fingerprint(X, tmp_path / "c", block_rows=9) != of_first
    X[3, 1] += 1e-9
    assert fingerprint(X, tmp_path / "d") != of_first
    if of_first["n_rows"] is not None:
        X = rows()
        X[-3, 1] += 1e-9
        assert fingerprint(X, tmp_path / "e") != of_first


@pytest.mark.parametrize(
    "hold",
    [
        lambda X, trip: [X[:200], X[200:]],
        lambda X, trip: table(X).append_column("trip", pyarrow.array(trip)),
        lambda X, trip: polars.DataFrame(X, schema=NAMES).with_columns(
            trip=polars.Series(trip)
        ),
    ],
    ids=["list", "arrow", "polars"],
)
def test_any_change_in_memory_is_seen(hold):
    X, trip = rows(), np.arange(N) // 50

    def fingerprint(X, trip, **options):
        data = hold(X, trip)
        if not isinstance(data, list):
            options |= {"sequence_column": "trip"}
        return open_source(data, **options).fingerprint()

    before = fingerprint(X, trip, block_rows=70)
    assert fingerprint(X.copy(), trip.copy(), block_rows=70) == before
    X[250, 1] += 1e-9
    assert fingerprint(X, trip, block_rows=70) != before
    X = rows()
    trip[250] = 99
    said = differences(before, fingerprint(X, trip, block_rows=70))
    assert said.startswith("sequences" if not isinstance(hold(X, trip), list) else "")
    assert bool(said) != isinstance(hold(X, trip), list)


def test_npy_blocks_are_views_of_the_file(tmp_path):
    source = open_source(npy(rows(np.float32), tmp_path / "x.npy"), block_rows=200)
    for block in source.blocks():
        owner = block.X
        while isinstance(owner, np.ndarray):
            owner = owner.base
        assert isinstance(owner, mmap.mmap)


def test_blocks_are_of_a_size_and_read_whole_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 200 * D * 8)
    X = rows()

    def sizes(data):
        return [len(block.X) for block in open_source(data).blocks()]

    assert sizes(npy(X, tmp_path / "x.npy")) == [200, 200, 100]
    assert sizes(npy(X.astype("f4"), tmp_path / "x.npy")) == [400, 100]
    assert sizes(table(X)) == [200, 200, 100]
    assert sizes(hdf5(X, tmp_path, chunks=(70, 2))) == [140, 140, 140, 80]
    assert sizes(dask.array.from_array(X, chunks=(70, 2))) == [200, 200, 100]


# Columns


def mixed_table():
    return pyarrow.table(
        {
            "who": ["x", "x", "y", "y", "x"],
            "whole": pyarrow.array([1, None, 3, 4, 5]),
            "real": pyarrow.array([0.5, 1.5, None, 3.5, 4.5], pyarrow.float32()),
            "flag": pyarrow.array([True, None, False, True, True]),
            "price": pyarrow.array(
                [None, *map(decimal.Decimal, ["1.25", "2.50", "3.75", "5"])]
            ),
            "id": pyarrow.array([7, 7, 8, 8, 8], pyarrow.uint16()),
        }
    )


def mixed_parquet(folder):
    pyarrow.parquet.write_table(mixed_table(), folder / "x.parquet")
    return folder / "x.parquet"


MIXED = {
    "parquet": mixed_parquet,
    "arrow table": lambda folder: mixed_table(),
    "arrow dataset": lambda folder: pyarrow.dataset.dataset(mixed_parquet(folder)),
    "polars LazyFrame": lambda folder: polars.scan_parquet(mixed_parquet(folder)),
    "polars DataFrame": lambda folder: polars.from_arrow(mixed_table()),
    "dask dataframe": lambda folder: dask.dataframe.from_pandas(
        mixed_table().drop(["price"]).to_pandas().convert_dtypes(), npartitions=2
    ),
}


@pytest.mark.parametrize("kind", MIXED)
def test_columns_are_chosen_by_name_and_nulls_become_nan(kind, tmp_path):
    columns = ["flag", "whole", "real"]
    expected = [
        [1, np.nan, 0, 1, 1],
        [1, np.nan, 3, 4, 5],
        [0.5, 1.5, np.nan, 3.5, 4.5],
    ]
    if kind != "dask dataframe":
        columns.append("price")
        expected.append([np.nan, 1.25, 2.5, 3.75, 5])
    source = open_source(MIXED[kind](tmp_path), columns=columns)
    assert source.dtype == np.float64
    assert source.feature_names.dtype == object
    assert source.feature_names.tolist() == columns
    (block,) = source.blocks()
    np.testing.assert_array_equal(block.X, np.transpose(expected))


@pytest.mark.parametrize("block_rows", [None, 1, 2, 3])
@pytest.mark.parametrize("sequence_column", ["id", "who"])
@pytest.mark.parametrize("kind", MIXED)
def test_a_sequence_column_makes_sequences(kind, sequence_column, block_rows, tmp_path):
    source = open_source(
        MIXED[kind](tmp_path),
        columns="whole",
        sequence_column=sequence_column,
        block_rows=block_rows,
    )
    X, lengths = map(np.concatenate, zip(*sequence_blocks(source), strict=True))
    np.testing.assert_array_equal(X, np.array([[1, np.nan, 3, 4, 5]]).T)
    assert lengths.tolist() == ([2, 3] if sequence_column == "id" else [2, 2, 1])


@pytest.mark.parametrize("kind", MIXED)
def test_bad_columns_are_named(kind, tmp_path):
    data = MIXED[kind](tmp_path)
    place = str(data) if kind == "parquet" else ""
    with pytest.raises(ValueError, match=r"column 'who' of .*columns=\[") as caught:
        open_source(data)
    assert place in str(caught.value)
    with pytest.raises(ValueError, match=r"no column 'none'.*it has 'who', 'whole'"):
        open_source(data, columns=["whole", "none"])
    with pytest.raises(ValueError, match="no column 'none'"):
        open_source(data, columns=["whole"], sequence_column="none")
    for columns in ([], ["whole", "whole"]):
        with pytest.raises(ValueError, match="distinct and at least one"):
            open_source(data, columns=columns)


def test_all_columns_but_the_sequence_column_are_read_by_default():
    source = open_source(mixed_table().drop(["who"]), sequence_column="id")
    assert source.feature_names.tolist() == ["whole", "real", "flag", "price"]


def test_sequence_ids_of_any_type():
    days = [datetime.date(2024, 1, day) for day in (1, 1, 2)]
    for ids in (
        days,
        [1.5, 1.5, 2.5],
        [True, True, False],
        pyarrow.array(["u", "u", "v"]).dictionary_encode(),
        [-(2**62), -(2**62), 2**62],
    ):
        data = pyarrow.table({"x": [1.0, 2, 3], "id": ids})
        for block_rows in (1, 2, 3):
            source = open_source(data, sequence_column="id", block_rows=block_rows)
            got = list(sequence_blocks(source))
            assert [lengths.tolist() for _, lengths in got] == [[2, 1]]


@pytest.mark.parametrize("ids", [[1, None, 2], ["a", None, "b"], [1.0, None, 2.0]])
@pytest.mark.parametrize(
    "collect",
    [
        lambda data: data,
        polars.from_arrow,
        lambda data: dask.dataframe.from_pandas(data.to_pandas(), npartitions=2),
        lambda data: dask.dataframe.from_pandas(
            data.to_pandas().convert_dtypes(), npartitions=2
        ),
    ],
)
def test_a_row_without_a_sequence_is_named(collect, ids):
    data = collect(pyarrow.table({"x": [1.0, 2, 3], "id": ids}))
    source = open_source(data, sequence_column="id")
    with pytest.raises(ValueError, match=r"column 'id' of .* is empty in row 1"):
        list(source.blocks())


@pytest.mark.parametrize(
    "store", ["npy", "zarr", "hdf5", "dask array", "list", "callable"]
)
@pytest.mark.parametrize("option", [{"columns": ["a"]}, {"sequence_column": "a"}])
def test_arrays_have_no_columns_to_choose(store, option, tmp_path):
    with pytest.raises(ValueError, match="name columns of tables"):
        open_source(STORES[store](rows(), tmp_path), **option)


# What is refused


def write_bytes(path, content):
    path.write_bytes(content)
    return path


def cut(path, size):
    return write_bytes(path, path.read_bytes()[:size])


def spoilt(path):
    """A file whose middle is lost, but not its ends."""
    content = bytearray(path.read_bytes())
    content[len(content) // 8 : len(content) // 2] = bytes(
        len(content) // 2 - len(content) // 8
    )
    return write_bytes(path, bytes(content))


BAD_FILES = {
    "missing": (lambda f: f / "x.npy", "x.npy does not exist"),
    "no match": (lambda f: f / "*.npy", r"no file matches .*\*.npy"),
    "empty folder": (lambda f: f, "folder .* holds no .npy and no .parquet"),
    "suffix": (lambda f: write_bytes(f / "x.dat", b""), "x.dat: give .npy or .parquet"),
    "csv": (lambda f: write_bytes(f / "x.csv", b""), "x.csv: .*scan_csv.*polars"),
    "hdf5 path": (lambda f: write_bytes(f / "x.h5", b""), r"x.h5: .*fastem\[hdf5\]"),
    "zarr path": (lambda f: f / "x.zarr", r"x.zarr: .*fastem\[zarr\]"),
    "two kinds": (
        lambda f: [npy(rows(), f / "x.npy"), parquet(rows(), f / "x.parquet")],
        "one kind at once",
    ),
    "npy cut": (lambda f: cut(npy(rows(), f / "x.npy"), 999), "x.npy as a .npy file"),
    "npy header cut": (lambda f: cut(npy(rows(), f / "x.npy"), 60), "x.npy as a .npy"),
    "npy empty": (lambda f: write_bytes(f / "x.npy", b""), "x.npy as a .npy file"),
    "npy no npy": (lambda f: write_bytes(f / "x.npy", b"P" * 99), "x.npy as a .npy"),
    "npy 1-D": (
        lambda f: npy(np.ones(3), f / "x.npy"),
        r"x.npy should be a 2-D.*\(3,\)",
    ),
    "npy 3-D": (
        lambda f: npy(np.ones((3, 2, 2)), f / "x.npy"),
        "x.npy should be a 2-D",
    ),
    "npy text": (lambda f: npy(np.array([["a"]]), f / "x.npy"), "x.npy should .* <U1"),
    "npy complex": (lambda f: npy(np.ones((2, 2), "c16"), f / "x.npy"), "complex128"),
    "npy objects": (lambda f: npy(np.array([[None]]), f / "x.npy"), "x.npy as a .npy"),
    "npy structured": (
        lambda f: npy(np.zeros((3, 2), [("a", "f8")]), f / "x.npy"),
        "x.npy should be a 2-D array of numbers",
    ),
    "npy no rows": (lambda f: npy(np.ones((0, 2)), f / "x.npy"), "x.npy has no rows"),
    "npy no columns": (lambda f: npy(np.ones((2, 0)), f / "x.npy"), "has no columns"),
    "npy widths": (
        lambda f: [npy(rows(), f / "x.npy"), npy(np.ones((2, 2)), f / "y.npy")],
        "y.npy has 2 columns, but .*x.npy has 3",
    ),
    "parquet cut": (
        lambda f: cut(parquet(rows(), f / "x.parquet"), 999),
        "cannot read .*x.parquet",
    ),
    "parquet empty": (
        lambda f: write_bytes(f / "x.parquet", b""),
        "cannot read .*x.par",
    ),
    "parquet no rows": (
        lambda f: parquet(rows(n_rows=0), f / "x.parquet"),
        "x.parquet has no rows",
    ),
    "parquet columns": (
        lambda f: [
            parquet(rows(), f / "x.parquet"),
            mixed_parquet(f).rename(f / "y.parquet"),
            parquet(rows(), f / "x.parquet"),
        ][:2],
        "y.parquet and .*x.parquet have different columns.*'a'",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_named(case, tmp_path):
    make, message = BAD_FILES[case]
    data = make(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_source(data)


def test_parquet_of_a_column_that_turns_to_text_is_named(tmp_path):
    first = parquet(rows(), tmp_path / "x.parquet")
    texts = pyarrow.table({"a": ["1"], "b": [1.0], "c": [1.0]})
    pyarrow.parquet.write_table(texts, tmp_path / "y.parquet")
    with pytest.raises(ValueError, match=r"column 'a' of .*y.parquet holds string"):
        open_source(tmp_path)
    source = open_source(tmp_path, columns=["c", "b"])
    assert source.n_rows == N + 1
    assert first.exists()


def test_a_parquet_file_of_repeated_names_is_refused(tmp_path):
    data = pyarrow.table([[1.0], [2.0]], names=["a", "a"])
    pyarrow.parquet.write_table(data, tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x.parquet has columns of equal names: a, a"):
        open_source(tmp_path / "x.parquet")


@pytest.mark.parametrize("as_dataset", [False, True])
def test_a_spoilt_parquet_file_is_named(as_dataset, tmp_path):
    X = np.round(rows(n_rows=20_000))
    path = spoilt(parquet(X, tmp_path / "x.parquet"))
    source = open_source(pyarrow.dataset.dataset(path) if as_dataset else path)
    with pytest.raises(ValueError, match=r"cannot read .*x.parquet: "):
        list(source.blocks())


@pytest.mark.parametrize("store", ["npy", "parquet", "arrow dataset"])
def test_a_file_that_changes_is_named(store, tmp_path):
    source = open_source(STORES[store](rows(), tmp_path))
    before = source.fingerprint()
    (path, *_) = [file.path for file in source.files]
    write = npy if path.suffix == ".npy" else parquet
    write(rows(n_rows=120, seed=1), path)
    with pytest.raises(ValueError, match=f"{path} changed since it was opened"):
        next(source.blocks())
    assert open_source(path).fingerprint() != before


def test_a_npy_file_that_ends_early_is_named(tmp_path):
    path = npy(rows(), tmp_path / "x.npy")
    os.truncate(path, os.path.getsize(path) - 1)
    with pytest.raises(ValueError, match=f"{path} .* ends before the last of the rows"):
        open_source(path)


def test_a_npy_file_that_ends_while_it_is_read_is_named(tmp_path):
    path = npy(rows(), tmp_path / "x.npy")
    every = open_source(path, block_rows=100).blocks()
    next(every)
    os.truncate(path, 8000)
    with pytest.raises(ValueError, match=f"{path} lost rows while it was read"):
        list(every)


def test_parquet_row_groups_are_not_held_in_memory(tmp_path):
    X = rows(n_rows=1_000_000)
    path = parquet(X, tmp_path / "x.parquet", row_group_size=len(X))
    before, most = pyarrow.total_allocated_bytes(), 0
    for _ in open_source(path, block_rows=10_000).blocks():
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert most < X.nbytes


def test_a_filter_is_part_of_the_fingerprint(tmp_path):
    data = pyarrow.dataset.dataset(parquet(rows(), tmp_path / "x.parquet"))
    column = pyarrow.dataset.field("a")
    assert (
        open_source(data.filter(column > 0)).fingerprint()
        != open_source(data.filter(column < 0)).fingerprint()
    )


BAD_BLOCKS = {
    "width": (
        [np.ones((3, 2)), np.ones((0, 2)), np.ones((4, 3))],
        r"block 2 of .* \(rows from 3 on\) has 3 columns, but those before have 2",
    ),
    "wider type": (
        [np.ones((3, 2), "f4"), np.ones((4, 2))],
        r"block 1 of .* is of float64, but the first is of float32",
    ),
    "whole numbers after float32": (
        [np.ones((3, 2), "f4"), np.ones((4, 2), int)],
        "block 1 .* is of int64, but the first is of float32",
    ),
    "1-D": ([np.ones((3, 2)), np.ones(2)], r"block 1 .* should be a 2-D.*\(2,\)"),
    "text": ([np.array([["a"]])], "block 0 .* should be a 2-D array of numbers.*<U1"),
    "objects": ([frame(rows()).astype(object)], "block 0 .* object"),
    "no columns": ([np.ones((3, 0))], r"block 0 .* \(3, 0\)"),
    "no rows": ([np.ones((0, 2)), np.ones((0, 2))], "blocks.* has no rows"),
}


@pytest.mark.parametrize("give", [list, tuple, lambda given: lambda: iter(given)])
@pytest.mark.parametrize("case", BAD_BLOCKS)
def test_bad_blocks_are_named(case, give):
    given, message = BAD_BLOCKS[case]
    with pytest.raises(ValueError, match=message):
        list(open_source(give(given)).blocks())


def test_float32_blocks_after_a_float64_one_are_widened():
    given = [rows(), rows(np.float32), rows(np.int32)]
    source = open_source(given)
    got = np.concatenate([block.X for block in source.blocks()])
    assert got.dtype == source.dtype == np.float64
    np.testing.assert_array_equal(got, np.concatenate(given))


def generator():
    yield np.ones((3, 2))


@pytest.mark.parametrize(
    ("data", "name"),
    [(generator(), "generator generator"), (iter([np.ones((3, 2))]), "list_iterator")],
)
def test_what_can_be_read_only_once_is_refused(data, name):
    assert is_source(data)
    with pytest.raises(ValueError, match=f"the {name}: .*once.*callable"):
        open_source(data)


@pytest.mark.parametrize("once", [generator(), iter([np.ones((3, 2))] * 3)])
def test_a_callable_that_returns_one_iterator_twice_is_refused(once):
    source = open_source(lambda: once)
    with pytest.raises(ValueError, match="same iterator at each call"):
        list(source.blocks())


def test_a_callable_that_returns_no_iterator_is_refused():
    with pytest.raises(ValueError, match="return an iterator of 2-D blocks, but 'int'"):
        open_source(lambda: 3)


def test_a_source_that_turns_out_empty_is_refused():
    lazy = polars.LazyFrame({"a": [1.0, 2.0]}).filter(polars.col("a") > 5)
    left = [[np.ones((3, 2))], [], []]
    for data in (lazy, lambda: iter(left.pop(0))):
        source = open_source(data)
        with pytest.raises(ValueError, match="has no rows"):
            list(source.blocks())


@pytest.mark.parametrize(
    "data", [np.ones((3, 2)), [[1, 2]], 3, None, {}, frame(rows())]
)
def test_arrays_in_memory_are_no_sources(data):
    assert not is_source(data)
    with pytest.raises(ValueError, match="cannot read blocks of rows from"):
        open_source(data)


@pytest.mark.parametrize("store", STORES)
def test_all_others_are_sources(store, tmp_path):
    data = STORES[store](rows(), tmp_path)
    # Polars frames in memory are converted at once, as ever.
    assert is_source(data) == (store != "polars DataFrame")


def test_an_open_source_is_returned_as_it_is():
    source = open_source([np.ones((3, 2))])
    assert is_source(source) and open_source(source) is source
    with pytest.raises(ValueError, match="is open already"):
        open_source(source, block_rows=3)


@pytest.mark.parametrize("block_rows", [0, -1, 2.5, "3"])
def test_block_rows_are_positive(block_rows):
    with pytest.raises(ValueError, match="block_rows should be a positive integer"):
        open_source([np.ones((3, 2))], block_rows=block_rows)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    path = parquet(rows(), tmp_path / "x.parquet")
    for module in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pyarrow: pip install "fastem\[parquet\]"'):
        open_source(path)


def test_optional_packages_are_not_imported_to_ask():
    program = """
import sys, numpy as np
from fastem.data.source import is_source, open_source
assert not is_source(np.ones((2, 2))) and is_source("x.parquet")
list(open_source([np.ones((2, 2))]).blocks())
print({"polars", "zarr", "h5py", "dask"} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


# Reading ahead


def our_threads():
    return [t for t in threading.enumerate() if t.name == "fastem-read-ahead"]


def test_reading_ahead_keeps_the_order_and_ends_its_thread():
    assert list(read_ahead(range(100))) == list(range(100))
    assert list(read_ahead([])) == []
    assert not our_threads()


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_reading_ahead_goes_as_far_as_its_depth(depth):
    read = []
    patience = threading.Event()
    for taken, _ in enumerate(read_ahead(map(read.append, range(30)), depth), start=1):
        for _ in range(1000):
            if len(read) == min(30, taken + depth):
                break
            patience.wait(0.01)
        patience.wait(0.001)
        assert len(read) == min(30, taken + depth)


@pytest.mark.parametrize("error", [ValueError("bad block"), KeyboardInterrupt()])
def test_an_error_while_reading_comes_after_the_blocks_before_it(error):
    def blocks_of():
        yield 1
        yield 2
        raise error

    got = []
    with pytest.raises(type(error)):
        for block in read_ahead(blocks_of()):
            got.append(block)
    assert got == [1, 2]
    assert not our_threads()


def test_leaving_early_ends_the_thread_and_closes_what_it_read():
    closed = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    for _ in read_ahead(endless()):
        break
    assert closed == ["fastem-read-ahead"] and not our_threads()

    with pytest.raises(KeyboardInterrupt):
        for _ in read_ahead(endless()):
            raise KeyboardInterrupt
    assert len(closed) == 2 and not our_threads()

    ahead = read_ahead(endless())
    next(ahead)
    ahead.close()
    assert len(closed) == 3 and not our_threads()


@pytest.mark.parametrize("store", STORES)
def test_every_source_can_be_read_ahead(store, tmp_path):
    source = open_source(STORES[store](rows(), tmp_path), block_rows=40)
    got = np.concatenate([block.X for block in read_ahead(source.blocks())])
    np.testing.assert_array_equal(got, rows())
    for _ in read_ahead(source.blocks()):
        break
    assert not our_threads()


# Samples


@given(st.integers(1, 3000), st.integers(1, 400), st.integers(0, 99), st.data())
def test_a_sample_does_not_depend_on_the_blocks(n_rows, n_sampled, seed, data):
    X = np.arange(2.0 * n_rows).reshape(n_rows, 2)
    cuts = sorted(data.draw(st.lists(st.integers(0, n_rows), max_size=8)))
    whole = sample_rows(open_source([X]), n_sampled, seed)
    parts = sample_rows(open_source(np.split(X, cuts)), n_sampled, seed)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
    sample, positions, n_seen = whole
    assert n_seen == n_rows and len(sample) == min(n_rows, n_sampled)
    assert (np.diff(positions) > 0).all()
    np.testing.assert_array_equal(sample, X[positions])


@pytest.mark.parametrize("block_rows", [1, 7, 100, N])
def test_a_sample_is_the_same_for_any_block_size(block_rows, tmp_path):
    data = npy(rows(), tmp_path / "x.npy")
    expected = sample_rows(open_source(data), 50, 3)
    got = sample_rows(open_source(data, block_rows=block_rows), 50, 3)
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("n_rows", "n_sampled"), [(5, 2), (6, 1), (5, 4)])
def test_every_set_of_rows_is_as_likely(n_rows, n_sampled):
    source = open_source([np.arange(float(n_rows))[:, None]], block_rows=2)
    random_state = np.random.RandomState(0)
    n_draws = 4000
    drawn = [
        tuple(sample_rows(source, n_sampled, random_state)[1]) for _ in range(n_draws)
    ]
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    n_sets = {(5, 2): 10, (6, 1): 6, (5, 4): 5}[n_rows, n_sampled]
    assert len(found) == n_sets
    expected = n_draws / n_sets
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_a_sample_of_many_rows_is_spread_evenly():
    n_rows, n_sampled = 200_000, 5000
    source = open_source([np.arange(float(n_rows))[:, None]], block_rows=30_000)
    positions = sample_rows(source, n_sampled, 0)[1]
    counts = np.histogram(positions, bins=20, range=(0, n_rows))[0]
    assert np.abs(counts - n_sampled / 20).max() < 5 * np.sqrt(n_sampled / 20)


# Sequences


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(LENGTHS, st.integers(1, 100), st.integers(1, 60), st.booleans())
@settings(max_examples=200)
def test_sequences_come_whole(lengths, block_rows, enough, by_column):
    n_rows = sum(lengths)
    X = np.arange(n_rows, dtype=float)[:, None]
    ids = np.repeat(np.arange(len(lengths)) % 3, lengths)
    data = pyarrow.table({"x": X[:, 0], "id": ids})
    column = "id" if by_column else None
    source = open_source(
        data, columns=["x"], sequence_column=column, block_rows=block_rows
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", enough * 8)
        got = list(sequence_blocks(source, None if by_column else lengths))
    for rows_of, of_each in got:
        assert rows_of.flags.c_contiguous and sum(of_each) == len(rows_of)
    assert all(len(rows_of) >= enough for rows_of, _ in got[:-1])
    np.testing.assert_array_equal(np.concatenate([x for x, _ in got]), X)
    assert np.concatenate([of_each for _, of_each in got]).tolist() == lengths


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        ("npy", [N]),
        ("parquet in groups", [N]),
        ("arrow table", [N]),
        ("dask array", [N]),
        ("npy files of a folder", [120, 250, 130]),
        ("list of npy files", [120, 250, 130]),
        ("parquet files of a folder", [120, 250, 130]),
        ("list", [120, 1, 379]),
        ("callable", [120, 1, 379]),
    ],
)
@pytest.mark.parametrize("block_rows", [None, 33, 250])
def test_files_and_blocks_are_sequences(store, expected, block_rows, tmp_path):
    source = open_source(STORES[store](rows(), tmp_path), block_rows=block_rows)
    X, lengths = map(np.concatenate, zip(*sequence_blocks(source), strict=True))
    np.testing.assert_array_equal(X, rows())
    assert lengths.tolist() == expected
    # Lengths that are given stand above what the source says.
    lengths = np.concatenate(
        [of_each for _, of_each in sequence_blocks(source, [9, 491])]
    )
    assert lengths.tolist() == [9, 491]


@pytest.mark.parametrize("lengths", [[300, 100], [300, 300], [200] * 3])
@pytest.mark.parametrize("store", ["npy", "callable", "polars LazyFrame"])
def test_lengths_that_do_not_sum_to_the_rows(store, lengths, tmp_path):
    source = open_source(STORES[store](rows(), tmp_path), block_rows=100)
    total = sum(lengths)
    with pytest.raises(ValueError, match=f"sum to {total}, but .* has [0-9]+ rows"):
        list(sequence_blocks(source, lengths))


@pytest.mark.parametrize("lengths", [[500, 0], [-1, 501], [1.5], [[500]], ["a"], []])
def test_lengths_are_positive_integers(lengths, tmp_path):
    source = open_source([rows()])
    with pytest.raises(
        ValueError, match="lengths should be a list of positive integers"
    ):
        list(sequence_blocks(source, lengths))
