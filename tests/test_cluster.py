"""Statistics on a Dask cluster: those of one process, whatever becomes of workers."""

import contextlib
import functools
import itertools
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastem import GaussianMixture
from fastem.compile import serial_kernels
from fastem.data.source import open_source
from fastem.execution import cluster
from fastem.families.gaussian import Regularization
from fastem.models import hmm
from fastem.models.mixture import FAMILIES, MixtureParams, e_step, m_step

from .common import assert_same_bits, blobs, fit, random_params, start_from

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")
dask_distributed = pytest.importorskip("distributed")

N, D, K = 6_007, 3, 4
FULL, DIAG = FAMILIES["full"], FAMILIES["diag"]
REGULARIZATION = Regularization(1e-6, np.finfo(float).eps)
LENGTHS = np.random.default_rng(7).multinomial(N - 60, np.full(60, 1 / 60)) + 1


@pytest.fixture(scope="module")
def threads():
    """Two workers of two threads each, in this process."""
    with make_client(n_workers=2, threads_per_worker=2, processes=False) as client:
        yield client


@pytest.fixture(scope="module")
def processes():
    """Three workers, each a process that a nanny starts again if it dies."""
    with make_client(n_workers=3, threads_per_worker=1, processes=True) as client:
        yield client


@contextlib.contextmanager
def make_client(**options):
    # Port 0 is any that is free: of a fixed one in use, Dask warns.
    with (
        dask_distributed.LocalCluster(dashboard_address=":0", **options) as local,
        dask_distributed.Client(local, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def X():
    return blobs(N, D, K, seed=1, spread=1.5)


@pytest.fixture(scope="module")
def weight():
    return np.random.default_rng(2).exponential(size=N)


def start(X, family=FULL):
    means = X[:: len(X) // K][:K].astype(np.float64)
    return MixtureParams(np.full(K, 1 / K), family.from_variances(means, np.ones(D)))


def chain(X):
    transmat = 0.6 * np.eye(K) + 0.4 / K
    return hmm.HMMParams(np.full(K, 1 / K), transmat, start(X, DIAG).components)


def mixture_statistics(params, X, weight=None):
    return e_step(FULL, params, X, weight)


def chain_statistics(params, block):
    X, lengths = block
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    none = np.empty(0)
    sequences = hmm.Sequences(X, bounds, none, none, np.empty(0, np.int64))
    return hmm.e_step(DIAG, params, sequences)


class Extent(NamedTuple):
    """Statistics that need no kernel."""

    n_rows: int
    total: np.ndarray


def extent(params, X, weight=None):
    weight = np.ones(len(X)) if weight is None else weight
    return Extent(len(X), weight @ np.ones_like(X))


def flat(statistics):
    if isinstance(statistics, tuple):
        return [array for field in statistics for array in flat(field)]
    return [np.asarray(statistics)]


def assert_same(got, want):
    for a, b in zip(flat(got), flat(want), strict=True):
        assert_same_bits(a, b)


def assert_close(got, want, rtol=1e-12):
    for a, b in zip(flat(got), flat(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def statistics_of(client, data, function=extent, params=None, **options):
    partitions = cluster.partitions_of(data, **options)
    return cluster.reduce(client, partitions, function, params)


def frame_of(X, n_partitions, **more):
    columns = dict(zip("abcdefgh", X.T, strict=False))
    frame = pd.DataFrame(columns | more)
    return dd.from_pandas(frame, npartitions=n_partitions, sort=False)


def cut_frame(frame, ends):
    """A Dask frame whose partitions end at the given rows."""
    blocks = [frame[a:b] for a, b in zip([0, *ends], [*ends, len(frame)], strict=True)]
    return dd.from_map(lambda block: block, blocks, meta=frame[:0])


class TestSerialKernels:
    def statistics(self, X):
        return (
            mixture_statistics(start(X), X),
            chain_statistics(chain(X), (X, LENGTHS)),
            chain_statistics(chain(X), (X, [N])),
        )

    def test_same_bits(self, X):
        parallel = self.statistics(X)
        with serial_kernels():
            assert_same(self.statistics(X), parallel)

    def test_in_the_calling_thread_only(self, X, monkeypatch):
        """Kernels of other threads go on taking turns."""
        taken = []

        class Lock:
            def __enter__(self):
                taken.append(threading.current_thread())

            def __exit__(self, *error):
                pass

        monkeypatch.setattr("fastem.compile._one_kernel_at_a_time", Lock())
        other = threading.Thread(target=mixture_statistics, args=(start(X), X))
        with serial_kernels():
            mixture_statistics(start(X), X)
            other.start()
            other.join()
        assert taken == [other]
        mixture_statistics(start(X), X)
        assert len(taken) == 2

    def test_two_threads_at_once(self, X):
        want = self.statistics(X)
        barrier = threading.Barrier(2)

        def work(_):
            with serial_kernels():
                barrier.wait()
                return [self.statistics(X) for _ in range(3)]

        with ThreadPoolExecutor(2) as pool:
            for found in pool.map(work, range(2)):
                for got in found:
                    assert_same(got, want)

    def test_workqueue(self):
        """The layer Numba always has aborts the process if two threads enter it."""
        script = (
            "from tests.test_cluster import *\n"
            "X = blobs(N, D, K, seed=1, spread=1.5)\n"
            "TestSerialKernels().test_two_threads_at_once(X)\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "NUMBA_THREADING_LAYER": "workqueue"},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr


class TestOneProcessAndMany:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_mixture(self, threads, X, weight, dtype):
        X, weight = X.astype(dtype), weight.astype(dtype)
        params = start(X)
        # float32 sums in another order differ by its rounding.
        rtol = 1e-12 if dtype == np.float64 else 1e-5
        partitions = cluster.partitions_of(da.from_array(X, chunks=(1000, 2)))
        assert partitions.dtype == dtype
        got = cluster.reduce(threads, partitions, mixture_statistics, params)
        assert_close(got, mixture_statistics(params, X), rtol)
        weighted = cluster.with_weights(partitions, da.from_array(weight, chunks=700))
        got = cluster.reduce(threads, weighted, mixture_statistics, params)
        assert_close(got, mixture_statistics(params, X, weight), rtol)

    def test_a_mixture_of_float32_without_weights(self, threads, X):
        X = X.astype(np.float32)
        model = GaussianMixture(**start_from(random_params(X, K, "full"), "full"))
        model.set_params(max_iter=3, tol=0.0)
        with threads.as_current():
            got = fit(model, da.from_array(X, chunks=(1000, D))).means_
        np.testing.assert_allclose(got, fit(model, X).means_, rtol=1e-4)

    def test_integers_become_float64(self, threads, X):
        X = (10 * X).astype(np.int16)
        got = statistics_of(threads, da.from_array(X, chunks=(1000, D)), block_types)
        assert got.names == "float64 " * 7

    def test_em(self, processes, X):
        data = processes.persist(da.from_array(X, chunks=(500, D)))
        partitions = cluster.partitions_of(data)

        def iterate(statistics_at):
            params, bounds = start(X), []
            for _ in range(10):
                statistics = statistics_at(params)
                bounds.append(statistics.log_likelihood)
                params, _ = m_step(FULL, statistics, params, REGULARIZATION)
            return params, np.array(bounds)

        got = iterate(
            lambda p: cluster.reduce(processes, partitions, mixture_statistics, p)
        )
        want = iterate(lambda p: mixture_statistics(p, X))
        assert want[1][-1] > want[1][0] + 10
        assert_close(got, want, 1e-10)

    @pytest.mark.parametrize("chunk", [190, 900])
    def test_same_bits_on_one_worker_and_three(self, processes, X, chunk):
        data = da.from_array(X, chunks=(chunk, D))
        three = statistics_of(processes, data, mixture_statistics, start(X))
        with make_client(n_workers=1, threads_per_worker=1, processes=False) as one:
            alone = statistics_of(one, data, mixture_statistics, start(X))
        assert_same(three, alone)

    def test_chains(self, processes, X):
        """Chunks that end within sequences are cut anew where these end."""
        want = chain_statistics(chain(X), (X, LENGTHS))
        data = da.from_array(X, chunks=(1000, D))
        options = {"lengths": LENGTHS, "sequences": True}
        got = statistics_of(processes, data, chain_statistics, chain(X), **options)
        assert_close(got, want, 1e-10)
        sequence = np.repeat([f"run {i}" for i in range(60)], LENGTHS)
        frame = pd.DataFrame({"run": sequence, **dict(zip("xyz", X.T, strict=True))})
        data = cut_frame(frame, np.cumsum(LENGTHS)[[9, 25, 26]])
        options = {"sequence_column": "run", "sequences": True}
        got = statistics_of(processes, data, chain_statistics, chain(X), **options)
        assert_close(got, want, 1e-10)

    @given(chunks=st.lists(st.integers(0, 2000), min_size=1, max_size=12))
    @settings(max_examples=10)
    def test_any_partition(self, threads, X, weight, chunks):
        """Partitions may be empty, and their sizes unknown."""
        ends = np.minimum(np.cumsum(chunks), N)
        frame = pd.DataFrame({**dict(zip("xyz", X.T, strict=True)), "w": weight})
        data = cut_frame(frame, ends)
        partitions = cluster.partitions_of(data, columns=["x", "y", "z"])
        lengths = cluster.lengths(threads, partitions)
        assert lengths.tolist() == np.diff([0, *ends, N]).tolist()
        array = cluster.partitions_of(data[["x", "y", "z"]].to_dask_array())
        assert array.lengths is None
        found = []
        for blocks, given_weight in (
            (partitions, data["w"]),
            (partitions, weight),
            (array, data["w"].to_dask_array()),
        ):
            blocks = cluster.with_weights(blocks, given_weight, lengths)
            found.append(cluster.reduce(threads, blocks, mixture_statistics, start(X)))
        assert_close(found[0], mixture_statistics(start(X), X, weight))
        assert_same(found[1], found[0])
        assert_same(found[2], found[0])

    def test_columns_in_chunks_of_unknown_lengths(self, threads, X):
        data = da.from_array(X, chunks=(1000, 1))
        data = data[data[:, 0] > 0]
        partitions = cluster.partitions_of(data)
        lengths = cluster.lengths(threads, partitions)
        assert lengths.sum() == (X[:, 0] > 0).sum()
        got = cluster.reduce(threads, partitions, mixture_statistics, start(X))
        assert_close(got, mixture_statistics(start(X), X[X[:, 0] > 0]))

    @pytest.mark.parametrize("kind", ["own", "npy", "parquet"])
    def test_source(self, threads, X, tmp_path, kind):
        source = self.source(kind, X, tmp_path)
        partitions = cluster.partitions_of(source)
        assert cluster.lengths(threads, partitions).tolist() == [1000] * 6 + [7]
        got = cluster.reduce(threads, partitions, mixture_statistics, start(X))
        assert_close(got, mixture_statistics(start(X), X))
        want = chain_statistics(chain(X), (X, LENGTHS))
        options = {"lengths": LENGTHS, "sequences": True}
        got = statistics_of(threads, source, chain_statistics, chain(X), **options)
        assert_close(got, want, 1e-10)

    def source(self, kind, X, folder):
        if kind == "own":
            return Blocks(X, 1000)
        path = folder / f"rows.{kind}"
        if kind == "npy":
            np.save(path, X)
        else:
            pytest.importorskip("pyarrow")
            pd.DataFrame(X, columns=["x", "y", "z"]).to_parquet(path)
        return open_source(str(path), block_rows=1000)

    def test_source_that_knows_sequences(self, threads, X):
        # One alone goes on in other partitions: of several any may be met first.
        ids = np.arange(N) // 500
        ids[1000:2500] = 2
        source = Blocks(X, 500, ids)
        # A mixture does not ask for them.
        got = statistics_of(threads, source, mixture_statistics, start(X))
        assert_close(got, mixture_statistics(start(X), X))
        with pytest.raises(ValueError, match="sequence 2 goes on from one partition"):
            statistics_of(threads, source, chain_statistics, chain(X), sequences=True)
        ids[1000:] = np.arange(N - 1000) // 500 % 3
        want = chain_statistics(chain(X), (X, [500] * 12 + [7]))
        got = statistics_of(threads, source, chain_statistics, chain(X), sequences=True)
        assert_close(got, want, 1e-10)

    def test_one_sequence(self, threads, X):
        want = chain_statistics(chain(X), (X, [N]))
        call = functools.partial(statistics_of, threads, sequences=True)
        whole = da.from_array(X, chunks=-1)
        assert_close(call(whole, chain_statistics, chain(X)), want, 1e-10)
        for data in (whole.rechunk((3000, D)), Blocks(X, 3000), frame_of(X, 3)):
            with pytest.raises(ValueError, match="is one sequence in 3 partitions"):
                call(data, chain_statistics, chain(X))


class Block(NamedTuple):
    X: np.ndarray
    sequence: np.ndarray


class Blocks:
    """A source by the interface alone."""

    name, n_features, dtype = "blocks", D, np.dtype(np.float64)
    feature_names = None

    def __init__(self, X, size, sequence=None):
        self.X, self.n_rows, self.block_rows = X, len(X), size
        self.sequence = np.empty(0, np.int64) if sequence is None else sequence

    def blocks(self, start=0):
        for i in range(start * self.block_rows, self.n_rows, self.block_rows):
            rows = slice(i, i + self.block_rows)
            yield Block(self.X[rows], self.sequence[rows])


class Names(NamedTuple):
    names: str


def extents(params, block):
    X, lengths = block
    assert sum(lengths) == len(X)
    return Names("".join(f"{n} " for n in lengths))


def block_types(params, X):
    return Names(f"{X.dtype} ")


class Term(str):
    """A sum that shows what was added to what."""

    def __add__(self, other):
        return Term(f"({self}+{other})")


class Written(NamedTuple):
    sum: Any


def write(params, X):
    return Written(Term(int(X[0, 0])))


def test_the_tree_has_one_shape(threads):
    """Eight at a time, from left to right."""
    got = statistics_of(threads, da.arange(10, chunks=1)[:, None], write)
    eight = functools.reduce(lambda a, b: f"({a}+{b})", range(8))
    assert got.sum == f"({eight}+(8+9))"


def test_parameters_are_sent_once(processes, X):
    """Dask itself warns of graphs over 10 MB."""
    params = np.zeros(1 << 18)
    data = da.from_array(X, chunks=(100, D))
    assert statistics_of(processes, data, extent, params).n_rows == N


# Deaths of workers.


def kill_one(client):
    nanny = next(iter(client.cluster.workers.values()))
    os.kill(nanny.pid, signal.SIGKILL)


def test_a_worker_dies_between_passes(processes, X):
    data = processes.persist(da.from_array(X, chunks=(500, D)))
    partitions = cluster.partitions_of(data)
    before = cluster.reduce(processes, partitions, mixture_statistics, start(X))
    kill_one(processes)
    after = cluster.reduce(processes, partitions, mixture_statistics, start(X))
    assert_same(after, before)


def die_once(killed, params, X):
    """Kill the worker this runs in, unless one died already."""
    with contextlib.suppress(FileExistsError):
        killed.touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return mixture_statistics(params, X)


def test_a_worker_dies_in_a_task(processes, X, tmp_path):
    data = da.from_array(X, chunks=(500, D))
    undisturbed = statistics_of(processes, data, mixture_statistics, start(X))
    function = functools.partial(die_once, tmp_path / "killed")
    assert_same(statistics_of(processes, data, function, start(X)), undisturbed)
    assert (tmp_path / "killed").exists()


# What goes wrong.


def refuse_negative(params, X):
    bad = np.argwhere(X < 0)
    if bad.size:
        raise ValueError(f"negative at row {bad[0][0]}, column {bad[0][1]}")
    return extent(params, X)


def test_an_error_reaches_the_caller(threads):
    X = np.ones((100, 2))
    X[73, 1] = -1
    data = da.from_array(X, chunks=(20, 2))
    with pytest.raises(ValueError, match="negative") as caught:
        statistics_of(threads, data, refuse_negative)
    assert str(caught.value) == "negative at row 13, column 1"
    assert caught.value.__notes__ == [f"in partition 3 of dask array {data.name}"]


def test_an_interrupt_cancels(threads, X, monkeypatch):
    waited_for = []

    def interrupt(futures):
        waited_for.extend(futures)
        raise KeyboardInterrupt

    monkeypatch.setattr(threads, "gather", interrupt)
    with pytest.raises(KeyboardInterrupt):
        statistics_of(threads, da.from_array(X, chunks=(100, D)))
    assert [future.status for future in waited_for] == ["cancelled"]


@pytest.mark.parametrize("data", [da.ones((0, 2)), da.ones((9, 2))[da.zeros(9) > 0]])
def test_no_rows(threads, data):
    partitions = cluster.partitions_of(data)
    lengths = cluster.lengths(threads, partitions)
    with pytest.raises(ValueError, match=r"dask array .* has no rows"):
        cluster.reduce(threads, partitions, extent, None)
    with pytest.raises(ValueError, match=r"dask array .* has no rows"):
        cluster.sample(threads, partitions, lengths, 5, 0)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (da.ones(9), {}, r"2-D .* shape \(9,\)"),
        (da.ones((2, 3, 4)), {}, r"2-D .* shape \(2, 3, 4\)"),
        (da.ones((9, 2), dtype=complex), {}, "array of numbers.*complex128"),
        (da.ones((9, 2)), {"lengths": [4, 4]}, "lengths sum to 8, .* has 9 rows"),
        (da.ones((9, 2)), {"lengths": []}, "sum to 0, .* has 9 rows"),
    ],
)
def test_arrays_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        cluster.partitions_of(data, **options)


class TestFrames:
    def test_columns(self, threads, X):
        data = frame_of(X, 5, name=["text"] * N, run=np.arange(N))
        options = {"columns": ["c", "a"], "sequence_column": "run"}
        partitions = cluster.partitions_of(data, **options)
        assert partitions.feature_names.tolist() == ["c", "a"]
        lengths = cluster.lengths(threads, partitions)
        rows, _ = cluster.sample(threads, partitions, lengths, N, 0)
        assert_same_bits(rows, np.ascontiguousarray(X[:, [2, 0]]))

    def test_text_is_refused_by_name(self, X):
        data = frame_of(X, 5, name=["text"] * N)
        with pytest.raises(ValueError, match="column 'name' of the dask DataFrame"):
            cluster.partitions_of(data)
        with pytest.raises(ValueError, match="no column 'nome'; it has"):
            cluster.partitions_of(data, columns=["a", "nome"])
        with pytest.raises(ValueError, match="distinct and at least one"):
            cluster.partitions_of(data[["name"]], sequence_column="name")

    @pytest.mark.parametrize(
        ("dtype", "want"),
        [
            ("Int64", np.float64),
            ("Float32", np.float32),
            ("double[pyarrow]", np.float64),
        ],
    )
    def test_missing_values_become_nan(self, threads, dtype, want):
        frame = pd.DataFrame({"a": pd.array([1, None, 3], dtype=dtype)})
        partitions = cluster.partitions_of(dd.from_pandas(frame, npartitions=1))
        rows, _ = cluster.sample(threads, partitions, np.array([3]), 3, 0)
        assert_same_bits(rows, np.array([[1], [np.nan], [3]], want))

    @pytest.mark.parametrize(
        "runs", ["aab|bcc", "aab|ccd|dda", "aab||bcc", "aaa|aaa|abb", "aab|" * 8 + "b"]
    )
    def test_sequences_in_two_partitions_are_refused(self, threads, runs):
        data = self.runs(runs)
        with pytest.raises(ValueError, match=r"sequence '[abd]' goes on from one"):
            statistics_of(threads, data, extents, sequence_column="run", sequences=True)

    @pytest.mark.parametrize("runs", ["aab|ccd", "aba|bba|b", "aab||ccc", "aab|" * 9])
    def test_runs_are_sequences(self, threads, runs):
        """A name that comes back later begins another sequence."""
        data = self.runs(runs)
        got = statistics_of(
            threads, data, extents, sequence_column="run", sequences=True
        )
        rows = runs.replace("|", "")
        assert got.names == "".join(
            f"{len(list(run))} " for _, run in itertools.groupby(rows)
        )

    def runs(self, runs):
        blocks = [list(block) for block in runs.split("|")]
        names = [name for block in blocks for name in block]
        frame = pd.DataFrame({"run": names, "x": np.ones(len(names))})
        return cut_frame(frame, np.cumsum([len(block) for block in blocks])[:-1])

    def test_a_nameless_sequence(self, threads):
        data = dd.from_pandas(pd.DataFrame({"run": ["a", None], "x": [1.0, 2.0]}))
        with pytest.raises(ValueError, match="column 'run' is empty in row 1"):
            statistics_of(threads, data, sequence_column="run")


class TestWeights:
    def test_too_few(self, threads):
        partitions = cluster.partitions_of(da.ones((9, 2), chunks=(3, 2)))
        with pytest.raises(ValueError, match=r"shape \(8,\), but .* has 9 rows"):
            cluster.with_weights(partitions, np.ones(8), partitions.lengths)
        with pytest.raises(ValueError, match=r"in 2 partitions, but .* in 3"):
            cluster.with_weights(partitions, da.ones(8, chunks=4))
        weighted = cluster.with_weights(partitions, da.ones(8, chunks=(3, 3, 2)))
        with pytest.raises(ValueError, match=r"3 rows, but weights of shape \(2,\)"):
            cluster.reduce(threads, weighted, extent, None)


def test_a_block_of_another_width(threads):
    data = da.concatenate([da.ones((3, 2)), da.ones((3, 2)).map_blocks(widened)])
    with pytest.raises(ValueError, match="3 columns found, but 2 elsewhere") as caught:
        statistics_of(threads, data)
    assert "partition 1" in caught.value.__notes__[0]


def widened(block):
    return np.ones((len(block), 3))


def test_a_source_of_unknown_blocks(X):
    source = Blocks(X, 1000)
    source.n_rows = None
    with pytest.raises(ValueError, match="blocks cannot be read on a cluster"):
        cluster.partitions_of(source)


class TestSample:
    @given(st.integers(1, 2 * N), st.integers(1, N), st.integers(0, 99))
    @settings(max_examples=10)
    def test_no_matter_how_rows_lie(self, threads, X, weight, n_rows, chunk, seed):
        def draw(chunk):
            blocks = cluster.partitions_of(da.from_array(X, chunks=(chunk, D)))
            blocks = cluster.with_weights(blocks, weight, blocks.lengths)
            return cluster.sample(threads, blocks, blocks.lengths, n_rows, seed)

        rows, weights = draw(max(chunk, 200))
        assert_same((rows, weights), draw(N))
        # Rows of continuous noise are all different.
        found = np.flatnonzero(np.isin(X[:, 0], rows[:, 0]))
        assert len(found) == min(n_rows, N)
        assert_same_bits(rows, X[found])
        assert_same_bits(weights, weight[found])

    def test_uniform(self, threads):
        partitions = cluster.partitions_of(da.arange(40, chunks=25)[:, None])
        counts = np.zeros(40)
        random_state = np.random.RandomState(0)
        for _ in range(40):
            rows, weight = cluster.sample(
                threads, partitions, partitions.lengths, 20, random_state
            )
            assert weight.size == 0
            counts[rows[:, 0].astype(int)] += 1
        # Binomial each: 20, with a standard deviation of 3.2.
        assert counts.sum() == 800
        assert 8 < counts.min() < counts.max() < 32


class TestClients:
    def test_which_client_reads_what(self, threads):
        array = da.ones((3, 2))
        assert cluster.current_client() is None
        assert cluster.client_for(array) is None
        with cluster.distributed(threads):
            assert cluster.current_client() is threads
            assert cluster.client_for(array) is threads
            assert cluster.client_for("rows.npy") is threads
        with threads.as_current():
            assert cluster.current_client() is threads
            assert cluster.client_for(array) is threads
            assert cluster.client_for("rows.npy") is None
        assert cluster.current_client() is None

    def test_no_client(self):
        with pytest.raises(
            TypeError, match=r"should be a distributed.Client, but is 'a"
        ):
            with cluster.distributed("an address"):
                pass

    def test_collections(self):
        assert cluster.is_collection(da.ones((3, 2)))
        assert cluster.is_collection(frame_of(np.ones((3, 2)), 1))
        assert not cluster.is_collection(np.ones((3, 2)))
