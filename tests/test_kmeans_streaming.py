"""Clusters of rows in blocks, on disk or on a Dask cluster, are those of the rows in
memory, wherever blocks end; and what is wrong with such rows is said with its place."""

import warnings

import dask.array as da
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

import fastem
from fastem import KMeans
from fastem.data import blocks
from fastem.data.source import open_source
from fastem.em.kmeans import find_farthest, merge_farthest
from fastem.estimators import checkpoints
from fastem.execution import rows as execution

from .common import assert_same_bits, blobs
from .reference import kmeans as oracle
from .test_sources import (
    NAMES,
    SOURCES,
    STORES,
    parquet,
    table,
    weights,
)

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.usefixtures("one_thread")

N, D, K = 500, 3, 4

# Kernels in single precision round within tiles of rows, which blocks cut elsewhere.
TOLERANCE = {
    np.float64: {"rtol": 1e-10, "atol": 1e-10},
    np.float32: {"rtol": 3e-6, "atol": 3e-6},
}
DTYPES = tuple(TOLERANCE)


@pytest.fixture(autouse=True)
def portions_of_a_tile(monkeypatch):
    """So that rows as few as here are summed in several portions."""
    monkeypatch.setattr(blocks, "PORTION_BYTES", 1)


def rows(dtype=np.float64, n_rows=N):
    return blobs(n_rows, D, K, seed=2, spread=1.0).astype(dtype)


def kmeans(**kwargs):
    """A start that all others share."""
    return KMeans(K, init=rows()[:K], n_init=1, **{"tol": 1e-3, **kwargs})


def fitted(dtype=np.float64, **kwargs):
    return kmeans().fit(rows(dtype), **kwargs)


def assert_same_clusters(got, want, dtype=np.float64):
    """The same centres to the bit; distances may be summed in another order."""
    assert got.n_iter_ == want.n_iter_
    assert_same_bits(got.cluster_centers_, want.cluster_centers_)
    np.testing.assert_allclose(got.inertia_, want.inertia_, **TOLERANCE[dtype])


class TestSameClusters:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("store", SOURCES)
    def test_every_source(self, store, dtype, tmp_path):
        X = rows(dtype)
        data, want = STORES[store](X, tmp_path), fitted(dtype)
        assert want.n_iter_ > 3
        for source in data, open_source(data, block_rows=130):
            got = kmeans().fit(source)
            assert_same_clusters(got, want, dtype)
            assert not hasattr(got, "labels_")
            assert_same_bits(np.asarray(got.predict(source)), want.labels_)
            np.testing.assert_allclose(
                np.asarray(got.transform(source)),
                want.transform(X),
                **TOLERANCE[dtype],
            )
            np.testing.assert_allclose(
                got.score(source), -want.inertia_, **TOLERANCE[dtype]
            )
            assert_same_bits(np.asarray(kmeans().fit_predict(source)), want.labels_)

    @pytest.mark.parametrize("block_rows", [1, 32, 100, 499, 500, 1000])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_size_of_blocks(self, dtype, block_rows):
        want = fitted(dtype)
        got = kmeans().fit(open_source([rows(dtype)], block_rows=block_rows))
        assert_same_clusters(got, want, dtype)

    @given(data=st.data())
    @settings(max_examples=30)
    def test_any_cuts(self, data):
        cuts = data.draw(st.lists(st.integers(0, N), max_size=9).map(sorted))
        weight = data.draw(st.sampled_from([None, weights()]))
        want = fitted(sample_weight=weight)
        source = np.split(rows(), cuts)
        got = kmeans().fit(source, sample_weight=weight)
        assert_same_clusters(got, want)
        np.testing.assert_allclose(
            got.score(source, sample_weight=weight), -want.inertia_, rtol=1e-10
        )

    def test_a_mapped_array_is_an_array(self, tmp_path):
        np.save(tmp_path / "x.npy", rows())
        got = kmeans().fit(np.load(tmp_path / "x.npy", mmap_mode="r"))
        assert_same_bits(got.labels_, fitted().labels_)

    def test_a_later_fit_forgets_labels(self):
        model = fitted()
        model.fit([rows()])
        assert not hasattr(model, "labels_")
        model.fit(rows())
        assert_same_bits(model.labels_, fitted().labels_)


class TestEmptyClusters:
    """The farthest rows found clusters, in whichever blocks they and their copies."""

    FAR = 1e3 + np.arange(6.0).reshape(2, 3)

    @given(data=st.data())
    @settings(max_examples=30)
    def test_any_cuts(self, data):
        X = rows()
        X[[3, 250, 499]] = X[100] = [20.0, 0.0, 0.0]  # far, and four times
        X[[7, 300]] = [-19.0, 0.0, 0.0]
        weight = data.draw(st.sampled_from([None, weights()]))
        init = np.vstack([X[:2], self.FAR])
        model = KMeans(K, init=init, n_init=1, tol=0.0)
        want = model.fit(X, sample_weight=weight).cluster_centers_
        assert np.abs(want).max() < 100
        cuts = data.draw(st.lists(st.integers(0, N), max_size=9).map(sorted))
        got = model.fit(np.split(X, cuts), sample_weight=weight).cluster_centers_
        np.testing.assert_allclose(got, want, **TOLERANCE[np.float64])

    @given(data=st.data())
    @settings(max_examples=30)
    def test_rows_as_far_as_each_other(self, data):
        """On a grid there are many; which is taken depends on no order of rows."""
        X = np.stack(np.meshgrid(*[np.arange(-3.0, 4.0)] * 2), -1).reshape(-1, 2)
        X = np.vstack([X, X[::3]])
        order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(len(X))
        init = np.vstack([np.zeros(2), [[1e3, 0]], [[0, 1e3]]])
        model = KMeans(3, init=init, n_init=1, max_iter=1, tol=0.0)
        want = fit(model, X).cluster_centers_
        assert_same_bits(want[1:], np.array([[-3.0, -3.0], [-3.0, 3.0]]))
        cuts = data.draw(st.lists(st.integers(0, len(X)), max_size=5).map(sorted))
        got = fit(model, np.split(X[order], cuts)).cluster_centers_
        np.testing.assert_allclose(got, want, atol=1e-12)

    @pytest.mark.parametrize("n", [1, 3, 40])
    def test_farthest_of_two_halves_are_those_of_the_whole(self, n):
        X = rows().round()
        weight = weights()
        centers = X[:2]
        whole = find_farthest(n, centers, X, weight)
        halves = [
            find_farthest(n, centers, X[part], weight[part])
            for part in (slice(230), slice(230, None))
        ]
        for got, want in zip(merge_farthest(n, *halves), whole, strict=True):
            np.testing.assert_array_equal(got, want)
        assert len(whole.rows) == n
        distances = oracle.squared_distances(X[weight > 0], centers).min(axis=1)
        assert distances.max() == pytest.approx(
            oracle.squared_distances(whole.rows[:1], centers).min()
        )

    def test_nowhere_to_go(self):
        X = np.repeat(rows()[:2], 50, axis=0)
        nothing = find_farthest(3, X[[0, 99]], X, X[:0, 0])
        assert len(nothing.rows) == len(merge_farthest(3, nothing, nothing).rows) == 0
        model = KMeans(K, random_state=0)
        with pytest.warns(ConvergenceWarning, match=r"clusters \(2\).*\(4\)") as caught:
            model.fit(np.split(X, [30, 60]))
        assert {w.filename for w in caught} == {__file__}


def fit(model, X, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, **kwargs)


class TestSeeding:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("init", ["k-means++", "random"])
    def test_from_all_rows_if_the_sample_holds_them(self, init, dtype):
        X = rows(dtype)
        for weight in None, weights():
            want, got = (
                KMeans(K, init=init, n_init=2, random_state=0).fit(
                    data, sample_weight=weight
                )
                for data in (X, np.split(X, [130, 260]))
            )
            assert_same_clusters(got, want, dtype)

    def test_from_a_sample(self, monkeypatch):
        """Three quarters of the rows seed the fit, which finds the same optimum."""
        X = blobs(4 * 256 * K, D, K, seed=1, spread=6.0)
        monkeypatch.setattr(execution, "SAMPLE_BYTES", 3 * 256 * K * D * 8)
        given = []

        def init(X, n_clusters, random_state):
            given.append(len(X))
            return X[:: len(X) // n_clusters][:n_clusters]

        KMeans(K, init=init, n_init=1, random_state=0).fit(np.array_split(X, 10))
        assert given == [3 * 256 * K]
        model = KMeans(K, n_init=3, tol=1e-9, random_state=0)
        got = model.fit(np.array_split(X, 10)).inertia_
        np.testing.assert_allclose(got, model.fit(X).inertia_, rtol=1e-6)


class TestAnswers:
    @pytest.mark.parametrize("suffix", ["npy", "parquet"])
    @pytest.mark.parametrize("method", ["predict", "transform"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_written_as_they_come(self, method, dtype, suffix, tmp_path):
        X, model, out = rows(dtype), fitted(dtype), tmp_path / f"out.{suffix}"
        want = getattr(model, method)(X)
        for data in X, open_source([X], block_rows=130):
            assert getattr(model, method)(data, out=out) == out
            if suffix == "npy":
                assert_same_bits(np.load(out), want)
                continue
            found = pyarrow.parquet.read_table(out)
            names = [f"distance{k}" for k in range(K)]
            assert found.column_names == (["label"] if want.ndim == 1 else names)
            columns = np.column_stack([column.to_numpy() for column in found.columns])
            assert_same_bits(columns.reshape(want.shape), want)

    def test_data_frames_of_distances(self):
        model = fitted().set_output(transform="pandas")
        named = model.transform([rows()[:200], rows()[200:]])
        assert list(named.columns) == [f"kmeans{k}" for k in range(K)]
        np.testing.assert_array_equal(named, fitted().transform(rows()))

    def test_names_of_columns(self, tmp_path):
        X, path = rows(), tmp_path / "x.parquet"
        parquet(X, path)
        model = kmeans().fit(path)
        assert list(model.feature_names_in_) == list(NAMES[:D])
        assert model.n_features_in_ == D
        other = tmp_path / "y.parquet"
        pyarrow.parquet.write_table(table(X, ["c", "b", "a"]), other)
        for call in model.predict, model.transform, model.score:
            with pytest.raises(ValueError, match=r"columns of .* are c, b, a, but KMe"):
                call(other)

    def test_printed_as_of_an_array(self, capsys):
        printed = []
        for data in rows(), [rows()]:
            kmeans(verbose=1).fit(data)
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1]
        assert "Converged" in printed[0]


class TestSaved:
    def test_after_a_fit_to_a_source(self, tmp_path):
        model = kmeans().fit([rows()])
        model.save(tmp_path / "model")
        loaded = fastem.load(tmp_path / "model")
        assert_same_bits(loaded.predict(rows()), model.predict(rows()))
        assert not hasattr(loaded, "labels_")
        twin = model.to_sklearn()
        assert not hasattr(twin, "labels_")
        np.testing.assert_array_equal(twin.predict(rows()), model.predict(rows()))


class TestRefused:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("init", ["k-means++", "given"])
    def test_rows_that_are_not_finite(self, init, value, tmp_path):
        """With given centres the first pass meets them, else the sample."""
        X = rows()
        X[321, 1] = value
        np.save(tmp_path / "x.npy", X)
        source = open_source(tmp_path / "x.npy", block_rows=100)
        model = kmeans() if init == "given" else KMeans(K, random_state=0)
        where = "row 321, column 1" if init == "given" else "column 1"
        with pytest.raises(ValueError, match=where) as error:
            model.fit(source)
        assert "x.npy" in str(error.value)
        assert not hasattr(model, "n_features_in_")
        model = fitted()
        for call in model.predict, model.transform, model.score:
            with pytest.raises(ValueError, match=r"x.npy.*row 321, column 1"):
                call(source)
        old = np.arange(3)
        np.save(tmp_path / "labels.npy", old)
        with pytest.raises(ValueError, match="row 321"):
            model.predict(source, out=tmp_path / "labels.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), old)

    @pytest.mark.parametrize("given", [False, True])
    @pytest.mark.parametrize("known", [False, True])
    def test_fewer_rows_than_clusters(self, known, given):
        few = [rows()[:2], rows()[2:3]]
        model = kmeans() if given else KMeans(K)
        with pytest.raises(ValueError, match="n_samples=3 should be >= n_clusters=4"):
            model.fit(few if known else lambda: iter(few))
        assert not hasattr(model, "n_features_in_")

    def test_what_is_no_source(self, tmp_path):
        with pytest.raises(ValueError, match="can be read only once"):
            kmeans().fit(x for x in [rows()])
        with pytest.raises(FileNotFoundError, match=r"none\.npy does not exist"):
            kmeans().fit(tmp_path / "none.npy")
        with pytest.raises(ValueError, match=r"block 1 .* has 2 columns"):
            kmeans().fit([rows(), rows()[:, :2]])
        text = pyarrow.table({"a": [1.0, 2.0], "b": ["x", "y"]})
        with pytest.raises(ValueError, match=r"column 'b' .* holds string"):
            kmeans().fit(text)
        with pytest.raises(ValueError, match=r"features, but KMeans is expecting 3"):
            fitted().predict([rows()[:, :2]])

    def test_weights(self):
        with pytest.raises(ValueError, match=r"shape \(499,\).*500 rows"):
            kmeans().fit([rows()], sample_weight=np.ones(N - 1))
        with pytest.raises(ValueError, match="Negative values in sample_weight"):
            kmeans().fit([rows()], sample_weight=-np.ones(N))
        with pytest.raises(ValueError, match="sample_weight has 499 entries"):
            fitted().score(lambda: iter([rows()]), sample_weight=np.ones(N - 1))

    def test_centers_of_a_wrong_shape(self):
        with pytest.raises(ValueError, match=r"init.*\(4, 3\).*\(4, 2\)"):
            KMeans(K, init=rows()[:K, :2]).fit([rows()])

    def test_names_of_outputs(self, tmp_path):
        with pytest.raises(ValueError, match=r"labels\.csv.*\.npy or \.parquet"):
            fitted().predict([rows()], out=tmp_path / "labels.csv")


@pytest.fixture(scope="module")
def client():
    """Two workers of one thread each, in this process."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with (
        distributed.LocalCluster(dashboard_address=":0", **options) as local,
        distributed.Client(local, set_as_default=False) as client,
        client.as_current(),
    ):
        yield client


def assert_near_clusters(got, want, dtype=np.float64):
    """The same but for rounding: partitions are summed one by one."""
    assert got.n_iter_ == want.n_iter_
    for name in ("cluster_centers_", "inertia_"):
        np.testing.assert_allclose(
            getattr(got, name), getattr(want, name), err_msg=name, **TOLERANCE[dtype]
        )


class TestCluster:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_same_clusters(self, client, dtype, weighted):
        X, weight = rows(dtype), weights() if weighted else None
        data = da.from_array(X, chunks=(130, 2))
        got = kmeans().fit(data, sample_weight=weight)
        want = kmeans().fit(X, sample_weight=weight)
        assert_near_clusters(got, want, dtype)
        labels = got.predict(data)
        assert (labels.dtype, labels.shape) == (np.int32, (N,))
        assert_same_bits(labels.compute(), want.labels_)
        np.testing.assert_allclose(
            got.transform(data).compute(), want.transform(X), **TOLERANCE[dtype]
        )
        np.testing.assert_allclose(
            got.score(data, sample_weight=weight), -want.inertia_, **TOLERANCE[dtype]
        )

    def test_seeding(self, client):
        got, want = (
            KMeans(K, random_state=0, n_init=2).fit(data)
            for data in (da.from_array(rows(), chunks=(130, D)), rows())
        )
        assert_near_clusters(got, want)

    def test_empty_clusters(self, client):
        init = np.vstack([rows()[:2], TestEmptyClusters.FAR])
        got, want = (
            KMeans(K, init=init, n_init=1, tol=0.0).fit(data)
            for data in (da.from_array(rows(), chunks=(130, D)), rows())
        )
        assert_near_clusters(got, want)

    def test_a_file_that_workers_read(self, client, tmp_path):
        np.save(tmp_path / "x.npy", rows())
        source = open_source(tmp_path / "x.npy", block_rows=130)
        with fastem.distributed(client):
            assert_near_clusters(kmeans().fit(source), fitted())

    def test_bad_rows(self, client):
        X = rows()
        X[321, 1] = np.nan
        with pytest.raises(ValueError, match="NaN") as error:
            kmeans().fit(da.from_array(X, chunks=(100, D)))
        assert any("partition 3" in note for note in error.value.__notes__)

    def test_checkpoint(self, client, tmp_path, monkeypatch):
        """A fit that was ended goes on, to the bits of one left alone."""
        data, path = da.from_array(rows(), chunks=(130, D)), tmp_path / "fit.ckpt"
        want, seen = kmeans().fit(data), []
        assert want.n_iter_ > 3
        save = checkpoints.Checkpoint.save

        def save_thrice(keeper, record):
            save(keeper, record)
            seen.append(record)
            if len(seen) == 3:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(checkpoints.Checkpoint, "save", save_thrice)
            kmeans().fit(data, checkpoint=path)
        got = kmeans().fit(data, checkpoint=path)
        assert_same_bits(got.cluster_centers_, want.cluster_centers_)
        assert (got.n_iter_, got.inertia_) == (want.n_iter_, want.inertia_)
