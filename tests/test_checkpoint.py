"""Files of arrays and JSON: what is read is what was written, or an error that says
why not, whatever happened to the file or to its writer."""

import errno
import json
import os
import subprocess
import sys
import threading
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastem
from fastem.checkpoint import (
    decode,
    differences,
    encode,
    fingerprint,
    fingerprints,
    read_archive,
    remove_leftovers,
    write_archive,
)

from .common import assert_same_bits
from .test_cache import PACKAGE

ARRAYS = {
    "float64": np.array([[1.5, -0.0], [np.nan, np.inf]]),
    "float32": np.linspace(0, 1, 7, dtype=np.float32),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(10)[::3],
    "number": np.array(3),
    "empty": np.empty((0, 4)),
    "mask": np.array([True, False]),
    "words": np.array(["weiß", "x"]),
    "a.dotted name": np.array(7, np.uint8),
}
META = {"n_iter": 3, "bounds": [-1.5, float("-inf")], "names": {"Größe": None}}

NUMBERS = hnp.arrays(
    hnp.integer_dtypes()
    | hnp.unsigned_integer_dtypes()
    | hnp.floating_dtypes(endianness="<", sizes=(32, 64))
    | hnp.boolean_dtypes(),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "fit.ckpt"
    write_archive(path, "checkpoint", ARRAYS, META)
    return path


def assert_holds(path, arrays=ARRAYS, meta=META):
    found, found_meta = read_archive(path, "checkpoint")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert_same_bits(found[name], array)
    assert found_meta == meta


def refusal(path, kind="checkpoint"):
    """What the ValueError says, which must name the file."""
    with pytest.raises(ValueError) as error:
        read_archive(path, kind)
    assert str(path) in str(error.value)
    return str(error.value)


class TestWhatIsWritten:
    def test_reads_back(self, path):
        assert_holds(path)
        assert read_archive(str(path), "checkpoint")[1] == META

    @given(st.dictionaries(st.text("abc./é", max_size=5), NUMBERS, max_size=4))
    def test_any_numbers_read_back(self, tmp_path_factory, arrays):
        path = tmp_path_factory.mktemp("any") / "x"
        write_archive(path, "checkpoint", arrays, {})
        assert_holds(path, arrays, {})

    def test_layouts_are_kept(self, path):
        """Kernels are compiled for layouts, and these may tell in the last bits."""
        arrays, _ = read_archive(path, "checkpoint")
        assert arrays["columns"].flags.f_contiguous
        assert arrays["float64"].flags.c_contiguous

    def test_numpy_opens_the_arrays(self, path):
        with np.load(path) as found:
            for name, array in ARRAYS.items():
                assert_same_bits(found[name], array)
            head = json.loads(found["meta.json"])
        assert (head["format"], head["kind"]) == (1, "checkpoint")
        assert head["fastem"] == fastem.__version__

    def test_the_same_contents_are_the_same_bytes(self, path, tmp_path):
        write_archive(tmp_path / "again", "checkpoint", ARRAYS, META)
        assert (tmp_path / "again").read_bytes() == path.read_bytes()

    def test_objects_are_refused(self, path):
        with pytest.raises(ValueError, match="'bad' holds Python objects"):
            write_archive(path, "checkpoint", {"bad": np.array([{}, None])}, {})
        with pytest.raises(TypeError, match="not JSON serializable"):
            write_archive(path, "checkpoint", {}, {"bad": object()})
        assert_holds(path)

    def test_a_link_stays_a_link(self, path, tmp_path):
        link = tmp_path / "link"
        link.symlink_to(path)
        write_archive(link, "checkpoint", {}, {"new": 1})
        assert link.is_symlink()
        assert_holds(path, {}, {"new": 1})


class TestDamage:
    def test_flipped_bits(self, path):
        """At every byte: an error, or nothing that matters was changed."""
        intact = path.read_bytes()
        n_unnoticed = 0
        for place in range(len(intact)):
            for flip in (0x01, 0xFF):
                damaged = bytearray(intact)
                damaged[place] ^= flip
                path.write_bytes(damaged)
                try:
                    assert_holds(path)
                except ValueError as error:
                    assert str(path) in str(error)
                else:
                    n_unnoticed += 1
        # What no reader looks at: times, versions, the second copies of sizes.
        assert 0 < n_unnoticed < len(intact)

    @pytest.mark.parametrize("name", ["float64.npy", "meta.json"])
    def test_flipped_bits_of_contents_are_always_noticed(self, path, name):
        with zipfile.ZipFile(path) as zipped:
            content = zipped.read(name)
        intact = path.read_bytes()
        begin = intact.index(content)
        for place in range(begin, begin + len(content)):
            damaged = bytearray(intact)
            damaged[place] ^= 0x10
            path.write_bytes(damaged)
            assert "damaged" in refusal(path)

    def test_cut_short_anywhere(self, path):
        intact = path.read_bytes()
        for length in range(len(intact)):
            path.write_bytes(intact[:length])
            assert "damaged" in refusal(path)

    def test_a_page_of_zeros(self, tmp_path):
        """What a crash of the machine may leave of a file that was not synced."""
        path = tmp_path / "x"
        arrays = {"X": np.random.default_rng(0).normal(size=5000)}
        write_archive(path, "checkpoint", arrays, {})
        intact = path.read_bytes()
        for begin in range(0, len(intact), 4096):
            page = intact[begin : begin + 4096]
            damaged = intact[:begin] + bytes(len(page)) + intact[begin + 4096 :]
            path.write_bytes(damaged)
            assert "damaged" in refusal(path)

    def test_a_missing_file_stays_a_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_archive(tmp_path / "none", "checkpoint")
        with pytest.raises(OSError, match="none"):
            read_archive(tmp_path / "none", "checkpoint")

    @pytest.mark.parametrize(
        "content", [b"", b"PK", b"\x93NUMPY", b"some text\n", bytes(100)]
    )
    def test_other_files(self, tmp_path, content):
        path = tmp_path / "other"
        path.write_bytes(content)
        assert "is no file of fastem" in refusal(path)

    def test_archives_of_others(self, tmp_path):
        path = tmp_path / "other.npz"
        np.savez(path, X=np.eye(2))
        assert "is no file of fastem" in refusal(path)
        np.savez_compressed(path, X=np.eye(2))
        assert "not compressed" in refusal(path)

    def test_pickles_are_not_opened(self, path):
        class Bomb:
            def __reduce__(self):
                return pytest.fail, ("a pickle was opened",)

        head = changed_head(path, arrays=["bomb"])
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("meta.json", head)
            with zipped.open("bomb.npy", "w") as entry:
                np.save(entry, np.array([Bomb()], object), allow_pickle=True)
        assert "Object arrays cannot be loaded" in refusal(path)


def changed_head(path, **changes):
    """The JSON of a file with other entries; None takes one away."""
    with zipfile.ZipFile(path) as zipped:
        head = json.loads(zipped.read("meta.json"))
    head |= changes
    return json.dumps({key: v for key, v in head.items() if v is not None})


def with_head(path, **changes):
    """Change a file's JSON, checksums and all."""
    head = changed_head(path, **changes)
    with zipfile.ZipFile(path) as zipped:
        entries = {name: zipped.read(name) for name in zipped.namelist()}
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in {**entries, "meta.json": head}.items():
            zipped.writestr(name, content)


class TestWholeButWrong:
    def test_another_kind(self, path):
        assert "holds a checkpoint, not a model" in refusal(path, "model")

    def test_a_newer_format(self, path):
        with_head(path, format=2, fastem="9.1", arrays=None, meta=None, more=1)
        message = refusal(path)
        assert "format 2" in message
        assert "9.1" in message
        assert f"this is fastem {fastem.__version__}" in message

    @pytest.mark.parametrize("name", ["format", "fastem", "kind", "arrays", "meta"])
    def test_missing_entries_of_the_head(self, path, name):
        with_head(path, **{name: None})
        assert "fastem" in refusal(path) or "incomplete" in refusal(path)

    def test_missing_arrays(self, path):
        with_head(path, arrays=[*ARRAYS, "lost"])
        assert "lacks the array 'lost'" in refusal(path)

    @pytest.mark.parametrize("head", ["[1, 2]", "null", "{", ""])
    def test_other_json(self, path, head):
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("meta.json", head)
        assert "fastem" in refusal(path) or "damaged" in refusal(path)


class TestTroubleWhileWriting:
    """The older file is there and whole, nothing else is, and the error says why."""

    @pytest.mark.parametrize("function", ["fsync", "replace"])
    def test_trouble_at_the_end(self, path, monkeypatch, function):
        def fail(*args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, function, fail)
        with pytest.raises(OSError) as error:
            write_archive(path, "checkpoint", {}, {"new": 1})
        assert error.value.errno == errno.ENOSPC
        assert error.value.filename == str(path)
        assert "The checkpoint could not be written: No space left" in str(error.value)
        monkeypatch.undo()
        assert_holds(path)
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.skipif(os.name == "nt", reason="limits sizes as POSIX does")
    @pytest.mark.parametrize("limit", [0, 100, 10_000, 300_000])
    def test_no_more_room(self, path, limit):
        """The system itself refuses the bytes beyond a file size."""
        import resource

        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OSError, match="The checkpoint could not be written"):
                write_archive(path, "checkpoint", {"X": np.ones(100_000)}, META)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert_holds(path)
        assert os.listdir(path.parent) == [path.name]

    def test_no_such_folder(self, tmp_path):
        path = tmp_path / "none" / "x"
        with pytest.raises(FileNotFoundError, match="could not be written") as error:
            write_archive(path, "model", {}, {})
        assert str(path) in str(error.value)

    def test_a_folder_in_the_way(self, tmp_path):
        (tmp_path / "x").mkdir()
        with pytest.raises(OSError, match="The model could not be written"):
            write_archive(tmp_path / "x", "model", {}, {})
        assert os.listdir(tmp_path) == ["x"]

    def test_interrupted(self, path, monkeypatch):
        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(np.lib.format, "write_array", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_archive(path, "checkpoint", ARRAYS, META)
        assert_holds(path)
        assert os.listdir(path.parent) == [path.name]

    def test_folders_that_cannot_be_synced(self, path, monkeypatch):
        def fail(*args):
            raise PermissionError(errno.EACCES, "denied")

        monkeypatch.setattr(os, "open", fail)
        write_archive(path, "checkpoint", {}, {"new": 1})
        assert_holds(path, {}, {"new": 1})

    def test_writers_at_the_same_time(self, path):
        contents = [{"X": np.full(1000, value)} for value in range(4)]

        def write(arrays):
            for _ in range(10):
                write_archive(path, "checkpoint", arrays, {})

        threads = [threading.Thread(target=write, args=[c]) for c in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        arrays, _ = read_archive(path, "checkpoint")
        assert len(set(arrays["X"])) == 1
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.skipif(
        not hasattr(os, "fork"), reason="forks, and kills as POSIX does"
    )
    def test_killed(self, path):
        """Whenever it is killed, the file is one of those that were written."""
        script = """
import os, signal, sys, time
import numpy as np
from fastem.checkpoint import read_archive, write_archive

path, last = sys.argv[1], 0
for nap in np.random.default_rng(0).uniform(0.01, 0.1, 20):
    child = os.fork()
    while not child:
        last += 1
        write_archive(path, "checkpoint", {"X": np.full(50_000, last)}, {"n": last})
    time.sleep(nap)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    arrays, meta = read_archive(path, "checkpoint")
    assert (arrays["X"] == meta["n"]).all()
    assert meta["n"] >= last
    last = meta["n"]
print(last)
"""
        write_archive(path, "checkpoint", {"X": np.zeros(1)}, {"n": 0})
        result = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        assert int(result.stdout) > 0
        remove_leftovers(path)
        assert os.listdir(path.parent) == [path.name]

    def test_leftovers_of_others_stay(self, tmp_path):
        names = [".a.1.tmp", ".ab.2.tmp", "a.tmp", ".[a].3.tmp"]
        for name in names:
            (tmp_path / name).touch()
        remove_leftovers(tmp_path / "a")
        assert sorted(os.listdir(tmp_path)) == sorted(names[1:])
        remove_leftovers(tmp_path / "[a]")
        assert sorted(os.listdir(tmp_path)) == sorted(names[1:3])


class Inner(NamedTuple):
    means: Any
    scale: Any


JSONABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | NUMBERS
    | NUMBERS.filter(lambda array: array.size).map(lambda array: array.flat[0]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(["a", "b", "a.b"]), inner, max_size=3)
        | st.builds(Inner, inner, inner)
    ),
    max_leaves=8,
)


def assert_equal_in_type(a, b):
    """Equal in type, at every level, and to the last bit."""
    assert type(a) is type(b)
    if isinstance(a, np.ndarray | np.generic):
        assert_same_bits(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal_in_type(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for item, other in zip(a, b, strict=True):
            assert_equal_in_type(item, other)
    else:
        assert repr(a) == repr(b)


class TestEncode:
    @given(JSONABLE)
    def test_round_trip(self, value):
        arrays = {}
        text = json.dumps(encode(value, "x", arrays))
        assert_equal_in_type(decode(json.loads(text), arrays, [Inner]), value)

    @pytest.mark.parametrize("name", ["MT19937", "PCG64", "Philox", "SFC64"])
    def test_random_states_go_on(self, name):
        generator = np.random.RandomState(getattr(np.random, name)(5))
        generator.standard_normal(3)
        arrays = {}
        text = json.dumps(encode(generator, "x", arrays))
        found = decode(json.loads(text), arrays)
        np.testing.assert_array_equal(
            found.standard_normal(999), generator.standard_normal(999)
        )

    def test_column_names(self):
        names = np.array(["a", "Größe"], object)
        found = decode(encode(names, "x", {}), {})
        assert found.dtype == object
        assert found.tolist() == names.tolist()

    @pytest.mark.parametrize(
        "odd",
        [
            object(),
            print,
            1j,
            np.longdouble(1),
            np.array([None]),
            np.ma.masked_array([1.0]),
            np.random.default_rng(0),
            {1: 2},
            {"a", "b"},
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_the_rest_is_refused_by_name(self, odd):
        with pytest.raises(ValueError, match=r"fixed\.transmat\.1 is of type"):
            encode({"transmat": [0, odd]}, "fixed", {})

    @pytest.mark.parametrize(
        "odd",
        [
            {},
            {"type": "array", "name": "lost"},
            {"type": "array"},
            {"type": "scalar", "dtype": "<q9", "value": 1},
            {"type": "system", "items": {"means": 1}},
            {"type": "Inner", "items": {"means": 1}},
            {"type": "Inner", "items": []},
            {"type": "RandomState", "state": 3},
            {
                "type": "RandomState",
                "state": {"type": "dict", "items": {"bit_generator": "seed"}},
            },
        ],
        ids=repr,
    )
    def test_other_json_is_refused(self, odd):
        with pytest.raises(ValueError):
            decode(odd, {}, [Inner])


class TestFingerprint:
    def test_json_can_say_it(self):
        found = fingerprint(np.ones((3, 2), np.float32))
        assert json.loads(json.dumps(found)) == found
        assert (found["shape"], found["dtype"]) == ([3, 2], "<f4")

    @pytest.mark.parametrize("bound", [1, 100, 1 << 20])
    def test_layouts_do_not_matter(self, bound, monkeypatch):
        monkeypatch.setattr(fingerprints, "_CHUNK_BYTES", bound)
        X = np.random.default_rng(0).normal(size=(4000, 3))
        wide = np.zeros((8000, 6))
        wide[::2, ::2] = X
        assert fingerprint(X) == fingerprint(np.asfortranarray(X))
        assert fingerprint(X) == fingerprint(wide[::2, ::2])
        assert fingerprint(X)["checksum"] == zlib.crc32(X.tobytes())

    def test_memory_maps(self, tmp_path):
        X = np.random.default_rng(0).normal(size=(40, 3))
        np.save(tmp_path / "x.npy", X)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert fingerprint(mapped) == fingerprint(X)

    @given(st.integers(0, 299), st.integers(0, 63))
    def test_any_change_is_seen(self, entry, bit):
        X = np.random.default_rng(0).normal(size=(100, 3))
        changed = X.copy()
        changed.reshape(-1).view(np.uint64)[entry] ^= np.uint64(1 << bit)
        assert fingerprint(changed) != fingerprint(X)

    def test_the_same_bytes_otherwise(self):
        X = np.zeros(12)
        others = [X.reshape(3, 4), X.view(np.int64), X.view(np.float32), X[:0]]
        assert all(fingerprint(other) != fingerprint(X) for other in others)

    def test_a_change_amid_a_large_array(self):
        """Rows that change places, signs of a column: what sums would not see."""
        X = np.random.default_rng(0).normal(size=(1 << 20, 4))
        before = fingerprint(X)
        middle = len(X) // 2
        X[[middle, middle + 1]] = X[[middle + 1, middle]]
        assert fingerprint(X) != before
        X[[middle, middle + 1]] = X[[middle + 1, middle]]
        assert fingerprint(X) == before
        X[:, 2] *= -1
        assert fingerprint(X) != before

    def test_objects_are_read_as_numbers(self):
        """Their bytes are addresses, other ones in the next process."""
        assert fingerprint(np.array([1, 2.5], object)) == fingerprint([1, 2.5])
        with pytest.raises(ValueError, match="could not convert"):
            fingerprint(np.array(["a"], object))

    def test_sources_know_theirs(self):
        class Source:
            def fingerprint(self):
                return {"kind": "file"}

        assert fingerprint(Source()) == {"kind": "file"}


class TestDifferences:
    def test_none(self):
        saved = {"tol": 0.1, "data": {"shape": [1, 2], "bound": float("nan")}}
        read = json.loads(json.dumps(saved))
        assert differences(read, {**saved, "data": {**saved["data"]}}) == ""
        assert differences({"shape": [1, 2]}, {"shape": (1, 2)}) == ""

    def test_all_are_named(self):
        saved = {"tol": 0.1, "old": 1, "data": {"digest": "ab" * 32}, "same": 1}
        now = {"tol": 1, "data": {"digest": "cd" * 32}, "same": 1, "new": None}
        assert differences(saved, now) == (
            "tol was 0.1 and is 1; old was 1 and is absent; data.digest differs; "
            "new was absent and is null"
        )
