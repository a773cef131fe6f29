"""A model fitted to blocks is the model fitted to the array that they make, wherever
blocks end, and for mixtures to the bit; what is wrong with rows that were never in
memory together is still said with its place, and a disk that fills up costs nothing
that was there before."""

import contextlib
import errno
import os

import dask.array
import numpy as np
import pyarrow.dataset
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastem
from fastem import GaussianMixture
from fastem.data import blocks
from fastem.data.source import is_source, open_source
from fastem.execution import rows as execution
from fastem.kernels.tiles import LANES

from .common import (
    COVARIANCE_TYPES,
    INIT_PARAMS,
    assert_same_bits,
    assert_same_fit,
    blobs,
    fit,
    random_params,
    start_from,
)
from .test_hmm_cases import case, model_of, new_model
from .test_hmm_cases import fit as fit_chain
from .test_sources import (
    NAMES,
    SOURCES,
    STORES,
    parquet,
    table,
    weights,
)

pytestmark = pytest.mark.usefixtures("one_thread")

N, D, K = 500, 3, 3

TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}
DTYPES = (np.float64, np.float32)


@pytest.fixture(autouse=True)
def portions_of_a_tile(monkeypatch):
    """So that rows as few as here are summed in several portions."""
    monkeypatch.setattr(blocks, "PORTION_BYTES", 1)


def rows(dtype=np.float64, n_rows=N):
    return blobs(n_rows, D, K, seed=2).astype(dtype)


def mixture(covariance_type="full", max_iter=6, **kwargs):
    """A mixture that begins where all others of its type do."""
    start = start_from(random_params(rows(), K, covariance_type), covariance_type)
    return GaussianMixture(**start, tol=0.0, max_iter=max_iter, **kwargs)


def fitted(covariance_type="full", dtype=np.float64):
    return fit(mixture(covariance_type), rows(dtype))


class TestSameModel:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("store", SOURCES)
    def test_every_source(self, store, dtype, tmp_path):
        X = rows(dtype)
        data, want = STORES[store](X, tmp_path), fitted(dtype=dtype)
        in_blocks = fit(mixture(), open_source(data, block_rows=130))
        assert_same_fit(in_blocks, want)
        assert_same_fit(fit(mixture(), data), want)

    @pytest.mark.parametrize("block_rows", [1, 32, 100, 499, 500, 1000])
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_every_size_of_blocks(self, covariance_type, dtype, block_rows, tmp_path):
        X = rows(dtype)
        max_iter = 2 if block_rows == 1 else 6  # a pass over 500 blocks takes a while
        want = fit(mixture(covariance_type, max_iter), X)
        for data in [X], parquet(X, tmp_path / "x.parquet"):
            source = open_source(data, block_rows=block_rows)
            got = fit(mixture(covariance_type, max_iter), source)
            assert_same_fit(got, want)

    @pytest.mark.parametrize("block_rows", [1000, 9_999, 40_000, None])
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_many_parts(
        self, covariance_type, dtype, block_rows, tmp_path, monkeypatch
    ):
        """Portions of 48 parts, one of one, and features that wait for a block."""
        monkeypatch.setattr(blocks, "PORTION_BYTES", 12_288 * 13 * dtype().itemsize)
        X = blobs(25_300, 13, K, seed=2).astype(dtype)
        start = start_from(random_params(X, K, covariance_type), covariance_type)
        path = tmp_path / "x.parquet"
        pyarrow.parquet.write_table(table(X, [f"x{j}" for j in range(13)]), path)
        want, got = (
            fit(GaussianMixture(**start, tol=0.0, max_iter=3), data)
            for data in (X, open_source(path, block_rows=block_rows))
        )
        assert_same_fit(got, want)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_portions_are_whole_tiles(self, dtype):
        for n_features in 1, 8, 100, 10**6:
            n_rows = blocks.rows_per_portion(n_features, np.dtype(dtype))
            assert n_rows % LANES == 0 and n_rows > 0

    @given(data=st.data())
    @settings(max_examples=30)
    def test_any_cuts(self, data):
        covariance_type = data.draw(st.sampled_from(COVARIANCE_TYPES))
        cuts = data.draw(st.lists(st.integers(0, N), max_size=9).map(sorted))
        weight = data.draw(st.sampled_from([None, weights()]))
        X = rows()
        want = fit(mixture(covariance_type), X, sample_weight=weight)
        got = fit(mixture(covariance_type), np.split(X, cuts), sample_weight=weight)
        assert_same_fit(got, want)

    @pytest.mark.parametrize("block_rows", [7, 100, 130, N])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_weights(self, dtype, block_rows):
        X, weight = rows(dtype), weights()
        want = fit(mixture(), X, sample_weight=weight)
        for data in [X], lambda: iter([X]):
            source = open_source(data, block_rows=block_rows)
            got = fit(mixture(), source, sample_weight=weight)
            assert_same_fit(got, want)
            assert got.score(source, sample_weight=weight) == want.score(
                X, sample_weight=weight
            )

    def test_warm_start(self):
        X = rows()
        want, got = mixture(warm_start=True), mixture(warm_start=True)
        for _ in range(2):
            fit(want, X)
            fit(got, np.split(X, [77, 300]))
            assert_same_fit(got, want)


class TestSeeding:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("init_params", INIT_PARAMS)
    def test_from_all_rows_if_the_sample_holds_them(self, init_params, dtype):
        X, weight = rows(dtype), weights()
        for sample_weight in None, weight:
            want, got = (
                fit(
                    GaussianMixture(
                        K,
                        init_params=init_params,
                        random_state=0,
                        max_iter=5,
                    ),
                    data,
                    sample_weight=sample_weight,
                )
                for data in (X, np.split(X, [130, 260]))
            )
            assert_same_fit(got, want)

    @pytest.mark.parametrize("init_params", ["kmeans", "k-means++"])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_from_a_sample(self, init_params, weighted, monkeypatch):
        """Three quarters of the rows seed the fit, which finds the same optimum."""
        X = blobs(4 * 256 * K, D, K, seed=1, spread=6.0)
        weight = weights(len(X)) if weighted else None
        sizes = []
        monkeypatch.setattr(execution, "SAMPLE_BYTES", 3 * 256 * K * D * 8)
        monkeypatch.setattr(
            execution,
            "sample_rows",
            lambda *args, draw=execution.sample_rows: (
                found := draw(*args),
                sizes.append(len(found[0])),
            )[0],
        )
        model = GaussianMixture(
            K, init_params=init_params, random_state=0, tol=1e-9, max_iter=200
        )
        got = model.fit(np.array_split(X, 10), sample_weight=weight)
        assert sizes == [3 * 256 * K]
        # From the rows' own clusters, as no other start is as near the optimum.
        want = GaussianMixture(K, random_state=0, tol=1e-9, max_iter=200).fit(
            X, sample_weight=weight
        )
        np.testing.assert_allclose(got.lower_bound_, want.lower_bound_, atol=1e-6)
        order, other = (np.argsort(model.means_[:, 0]) for model in (got, want))
        np.testing.assert_allclose(got.means_[order], want.means_[other], atol=1e-3)

    def test_a_sample_is_never_too_small(self, monkeypatch):
        monkeypatch.setattr(execution, "SAMPLE_BYTES", 1)
        model = fit(GaussianMixture(K, random_state=0, max_iter=2), [rows(), rows()])
        assert np.isfinite(model.lower_bound_)


class TestAnswers:
    METHODS = ("predict", "predict_proba", "score_samples")

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("store", SOURCES)
    def test_every_source(self, method, store, tmp_path):
        X, model = rows(), fitted()
        want = getattr(model, method)(X)
        data = STORES[store](X, tmp_path)
        for source in data, open_source(data, block_rows=130):
            got = getattr(model, method)(source)
            if isinstance(got, dask.array.Array):
                got = got.compute()
            assert_same_bits(got, want)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("method", METHODS)
    def test_written_as_they_come(self, method, dtype, tmp_path):
        X, model = rows(dtype), fitted(dtype=dtype)
        want = getattr(model, method)(X)
        for data in X, open_source([X], block_rows=130), lambda: iter([X[:99], X[99:]]):
            path = tmp_path / "out.npy"
            assert getattr(model, method)(data, out=path) == path
            assert_same_bits(np.load(path), want)
            path = str(tmp_path / "out.parquet")
            assert getattr(model, method)(data, out=path) == path
            written = pyarrow.parquet.read_table(path)
            assert written.num_columns == (K if want.ndim == 2 else 1)
            columns = [column.to_numpy() for column in written.columns]
            assert_same_bits(np.column_stack(columns), want.reshape(N, -1))
        assert sorted(os.listdir(tmp_path)) == ["out.npy", "out.parquet"]

    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    @pytest.mark.parametrize("method", ["score", "bic", "aic"])
    def test_totals(self, method, covariance_type):
        X, model = rows(), fitted(covariance_type)
        want = getattr(model, method)(X)
        for cuts in [], [1], range(130, N, 130):
            assert getattr(model, method)(np.split(X, cuts)) == want
        weight = weights()
        got = getattr(model, method)(np.split(X, [130]), sample_weight=weight)
        assert got == getattr(model, method)(X, sample_weight=weight)

    def test_an_answer_may_be_read_again(self, tmp_path):
        """Files of answers are sources themselves."""
        path = fitted().predict_proba([rows()], out=tmp_path / "gamma.parquet")
        source = open_source(path)
        assert (source.n_rows, source.n_features) == (N, K)


KINDS = ("gaussian-full", "gaussian-diag", "poisson", "categorical")
LENGTHS = (60, 7, 1, 40, 90, 2)


def chain(kind):
    """Rows, the sequences they make, and a model to begin with."""
    _, X, start = case(kind, 3, 2, LENGTHS, seed=4)
    return X, np.split(X, np.cumsum(LENGTHS)[:-1]), start


def sequences_by_lengths(X, parts, folder):
    np.save(folder / "x.npy", X)
    return open_source(folder / "x.npy", block_rows=33), LENGTHS


def sequences_by_column(X, parts, folder):
    who = np.repeat([f"s{i}" for i in range(len(LENGTHS))], LENGTHS)
    data = table(X, NAMES[: X.shape[1]]).append_column("who", [who])
    path = folder / "x.parquet"
    pyarrow.parquet.write_table(data, path, row_group_size=29)
    return open_source(path, sequence_column="who", block_rows=31), None


def one_npy_file_each(X, parts, folder):
    for i, part in enumerate(parts):
        np.save(folder / f"{i}.npy", part)
    return folder, None


def one_parquet_file_each(X, parts, folder):
    for i, part in enumerate(parts):
        names = NAMES[: X.shape[1]]
        pyarrow.parquet.write_table(table(part, names), folder / f"{i}.parquet")
    return str(folder / "*.parquet"), None


def one_block_each(X, parts, folder):
    return parts, None


def one_block_each_from_a_callable(X, parts, folder):
    return (lambda: iter(parts)), None


def dask_array(X, parts, folder):
    return dask.array.from_array(X, chunks=(45, -1)), LENGTHS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "store",
    [
        sequences_by_lengths,
        sequences_by_column,
        one_npy_file_each,
        one_parquet_file_each,
        one_block_each,
        one_block_each_from_a_callable,
        dask_array,
    ],
)
class TestChains:
    # What rows of two float64 make blocks of: 10 rows, about 70, all.
    @pytest.mark.parametrize("block_bytes", [160, 1120, 1 << 20])
    def test_same_model(self, kind, store, block_bytes, tmp_path, monkeypatch):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
        X, parts, start = chain(kind)
        want = fit_chain(model_of(fastem, kind, start), X, LENGTHS)
        data, lengths = store(X, parts, tmp_path)
        got = fit_chain(model_of(fastem, kind, start), data, lengths)
        for name in start:
            np.testing.assert_allclose(
                getattr(got, f"{name}_"),
                getattr(want, f"{name}_"),
                err_msg=name,
                **TOLERANCE,
            )
        np.testing.assert_allclose(
            got.monitor_.history, want.monitor_.history, rtol=1e-12
        )
        np.testing.assert_allclose(
            want.score(data, lengths), want.score(X, LENGTHS), rtol=1e-12
        )
        # By one model, since paths of symbols tie, and rounding decides.
        assert_same_bits(want.predict(data, lengths), want.predict(X, LENGTHS))

    def test_same_seed(self, kind, store, tmp_path):
        X, parts, start = chain(kind)
        want, got = (
            new_model(fastem, kind, 3, 3, random_state=0, n_iter=3, tol=0.0)
            for _ in range(2)
        )
        fit_chain(want, X, LENGTHS)
        fit_chain(got, *store(X, parts, tmp_path))
        for name in start:
            np.testing.assert_allclose(
                getattr(got, f"{name}_"),
                getattr(want, f"{name}_"),
                err_msg=name,
                **TOLERANCE,
            )


def refusal(call, *args, error=ValueError, **kwargs):
    """Return all that the error says, its notes included."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def five_blocks():
    return np.split(rows(), 5)


class TestBadRows:
    """Row 42 of block 3 of a hundred rows each is row 342."""

    BAD = pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "inf")])

    def stores(self, X, folder):
        """Data in blocks of a hundred rows, and what messages should call them."""
        np.save(folder / "x.npy", X)
        path = parquet(X, folder / "x.parquet")
        return [
            (open_source(folder / "x.npy", block_rows=100), str(folder / "x.npy")),
            (open_source(path, block_rows=100), str(path)),
            (np.split(X, 5), "the list of 5 blocks"),
            (lambda: iter(np.split(X, 5)), "the blocks of"),
        ]

    @BAD
    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    @pytest.mark.parametrize("column", range(D))
    def test_first_pass(self, value, what, covariance_type, column, tmp_path):
        X, model = rows(), fitted(covariance_type)
        X[342, column] = value
        asked = (
            mixture(covariance_type).fit,
            GaussianMixture(K, covariance_type=covariance_type).fit,
            model.predict,
            model.score,
        )
        for data, name in self.stores(X, tmp_path):
            for ask in asked:
                said = refusal(ask, data)
                assert name in said and what in said
                assert f"row 342, column {column}" in said
        said = refusal(
            mixture(covariance_type).fit, np.split(X, 5), sample_weight=np.arange(N)
        )
        assert f"row 342, column {column}" in said

    def test_written_answers(self, tmp_path):
        X, model = rows(), fitted()
        X[342, 1] = np.nan
        for out in tmp_path / "out.npy", tmp_path / "out.parquet":
            out.write_bytes(b"old")
            said = refusal(model.predict, np.split(X, 5), out=out)
            assert "row 342, column 1" in said
            assert out.read_bytes() == b"old"
        assert sorted(os.listdir(tmp_path)) == ["out.npy", "out.parquet"]

    @BAD
    def test_a_later_pass(self, value, what):
        """Rows that went bad after two good passes."""
        passes = []

        def read():
            passes.append(None)
            X = rows()
            if len(passes) > 3:  # the first finds out about columns
                X[342, 1] = value
            return iter(np.split(X, 5))

        model = mixture()
        said = refusal(model.fit, read)
        assert len(passes) == 4
        assert "row 342, column 1" in said and "read" in said
        assert not hasattr(model, "means_") and not hasattr(model, "n_features_in_")

    @pytest.mark.parametrize("kind", ["gaussian-full", "gaussian-diag"])
    def test_chains(self, kind, tmp_path, monkeypatch):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 320)  # 20 rows
        X, _, start = chain(kind)
        X[170, 1] = np.nan
        np.save(tmp_path / "x.npy", X)
        model = model_of(fastem, kind, start)
        for ask in model.fit, model.score, model.predict:
            said = refusal(ask, tmp_path / "x.npy", LENGTHS)
            assert "NaN" in said and "row 170, column 1" in said
            assert str(tmp_path / "x.npy") in said

    def test_counts_that_are_none(self):
        _, parts, start = chain("poisson")
        parts[3] = parts[3] + 0.5
        said = refusal(model_of(fastem, "poisson", start).fit, parts)
        assert "the list of 6 blocks" in said


class TestBadSources:
    def test_text(self, tmp_path):
        path = tmp_path / "x.parquet"
        X = table(rows()).append_column("name", [["x"] * N])
        pyarrow.parquet.write_table(X, path)
        for data in path, X, pyarrow.dataset.dataset(path):
            said = refusal(mixture().fit, data)
            assert "column 'name'" in said and "string" in said and "columns=" in said
        columns = open_source(path, columns=NAMES)
        assert_same_fit(fit(mixture(), columns), fitted())

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
    @pytest.mark.parametrize("write", ["npy", "parquet"])
    def test_cut_short(self, write, share, tmp_path):
        """Both when it is opened and between passes."""
        path = tmp_path / f"x.{write}"
        if write == "npy":
            np.save(path, rows())
        else:
            parquet(rows(), path, row_group_size=100)
        whole, source = path.read_bytes(), open_source(path, block_rows=100)
        fit(mixture(max_iter=1), source)
        path.write_bytes(whole[: int(share * len(whole))])
        assert str(path) in refusal(mixture().fit, path)
        for ask in mixture().fit, fitted().predict:
            assert f"{path} changed" in refusal(ask, source)

    def test_damaged_inside(self, tmp_path):
        """The end is there, so only reading tells."""
        path = parquet(rows(), tmp_path / "x.parquet", row_group_size=100)
        content = bytearray(path.read_bytes())
        half = len(content) // 2
        content[half - 800 : half] = bytes(800)
        path.write_bytes(content)
        for ask in mixture().fit, fitted().predict:
            said = refusal(ask, path)
            assert str(path) in said

    def test_changed_between_passes(self, tmp_path):
        path = tmp_path / "x.npy"
        np.save(path, rows())
        source = open_source(path, block_rows=100)

        class Changing:
            """Writes to the file when the second pass is over."""

            passes = 0

            def __getattr__(self, name):
                return getattr(source, name)

            def blocks(self, start=0):
                yield from source.blocks(start)
                self.passes += 1
                if self.passes == 2:
                    # Another file of that name: what is mapped stays whole, while
                    # kernels may be at it still.
                    np.save(path.with_name("other.npy"), rows()[:400])
                    os.replace(path.with_name("other.npy"), path)

        assert is_source(Changing())
        assert f"{path} changed" in refusal(mixture().fit, Changing())

    @pytest.mark.parametrize("data", [list, lambda X: lambda: iter(X)])
    def test_differing_widths(self, data):
        parts = np.split(rows(), 5)
        parts[3] = parts[3][:, :2]
        for ask in mixture().fit, fitted().predict:
            said = refusal(ask, data(parts))
            assert "block 3" in said and "rows from 300 on" in said
            assert "has 2 columns" in said and "have 3" in said

    def test_files_of_differing_widths(self, tmp_path):
        for i, width in enumerate([3, 3, 2]):
            np.save(tmp_path / f"{i}.npy", rows()[:, :width])
        said = refusal(mixture().fit, tmp_path)
        assert str(tmp_path / "2.npy") in said and "2 columns" in said

    def test_empty_blocks_are_passed_over(self):
        X = rows()
        parts = [X[:0], X[:200], X[:0], X[:0], X[200:], X[:0]]
        for data in parts, lambda: iter(parts):
            assert_same_fit(fit(mixture(), data), fitted())
            assert_same_bits(fitted().predict(data), fitted().predict(X))

    def test_no_rows(self, tmp_path):
        np.save(tmp_path / "x.npy", rows()[:0])
        path = parquet(rows()[:0], tmp_path / "x.parquet")
        empty = [[rows()[:0]], lambda: iter([]), table(rows()[:0])]
        for data in [tmp_path / "x.npy", path, *empty]:
            for ask in mixture().fit, fitted().predict:
                assert "no rows" in refusal(ask, data)

    @pytest.mark.parametrize("n_rows", [400, 499, 501, 0])
    def test_other_rows_in_the_second_pass(self, n_rows):
        passes = []

        def read():
            passes.append(None)
            X = np.concatenate([rows(), rows()])
            # One pass to find out about columns, one to fit.
            return iter([X[: N if len(passes) <= 2 else n_rows]])

        said = refusal(mixture().fit, read)
        assert "read" in said and "rows" in said
        if n_rows:
            assert f"{n_rows} rows" in said and "500" in said

    def test_weights_of_a_wrong_length(self):
        X = rows()
        for data in [X], lambda: iter([X]), lambda: iter(np.split(X, 5)):
            for n_weights in (1, 400, N - 1, N + 1, 2 * N):
                for model in mixture(), GaussianMixture(K, random_state=0):
                    said = refusal(model.fit, data, sample_weight=np.ones(n_weights))
                    assert "sample_weight" in said and str(n_weights) in said
                said = refusal(fitted().score, data, sample_weight=np.ones(n_weights))
                assert "sample_weight" in said

    @pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
    def test_bad_weights(self, bad):
        weight = np.ones(N)
        weight[342] = bad
        said = refusal(mixture().fit, five_blocks(), sample_weight=weight)
        assert "sample_weight" in said and "row 342" in said

    def test_generators(self):
        def make_blocks():
            yield rows()

        for data in make_blocks(), iter([rows()]):
            said = refusal(mixture().fit, data)
            assert type(data).__name__ in said and "only once" in said
        assert "make_blocks" in refusal(mixture().fit, make_blocks())

    def test_fewer_rows_than_components(self):
        X = rows()[: K - 1]
        for data in [X], np.split(X, 2), lambda: iter([X]):
            for model in mixture(), GaussianMixture(K):
                said = refusal(model.fit, data)
                assert f"n_components = {K}, n_samples = {K - 1}" in said

    def test_other_columns_than_those_of_the_fit(self, tmp_path):
        X = rows()
        model = fit(mixture(), parquet(X, tmp_path / "x.parquet"))
        assert list(model.feature_names_in_) == NAMES
        for method in "predict", "predict_proba", "score_samples", "score":
            ask = getattr(model, method)
            said = refusal(ask, [X[:, :2]])
            assert "2 features" in said and "3 features" in said
            said = refusal(ask, table(X, ["a", "b", "d"]))
            assert "a, b, d" in said and "a, b, c" in said
            # Named in the wrong order they would be taken for one another.
            refusal(ask, table(X, ["b", "a", "c"]))
        assert_same_bits(model.predict([X]), model.predict(table(X)))


@contextlib.contextmanager
def no_more_room(limit):
    """Let the system refuse to write any file beyond this size."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full_disk(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestFullDisk:
    @pytest.mark.parametrize("suffix", ["npy", "parquet"])
    @pytest.mark.parametrize("method", TestAnswers.METHODS)
    def test_answers(self, method, suffix, tmp_path, monkeypatch):
        """The limit is met in the first block, in a later one, and at the end."""
        ask, data = getattr(fitted(), method), 20 * five_blocks()
        path = tmp_path / f"out.{suffix}"
        ask(data, out=path)
        old = path.read_bytes()
        for limit in (100, len(old) // 2, len(old) - 10):
            with no_more_room(limit):
                said = refusal(ask, data, out=path, error=OSError)
            assert str(path) in said
            assert path.read_bytes() == old
        monkeypatch.setattr(os, "fsync", full_disk)
        said = refusal(ask, data, out=path, error=OSError)
        assert str(path) in said and "No space left" in said
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == [path.name]

    def test_a_checkpoint(self, tmp_path, monkeypatch):
        """The fit ends with the error, and goes on once there is room."""
        path, data = tmp_path / "fit.ckpt", five_blocks()
        want, sync, saves = fit(mixture(), data), os.fsync, []

        def fill_up(descriptor):
            saves.append(None)
            return full_disk() if len(saves) >= 7 else sync(descriptor)

        monkeypatch.setattr(os, "fsync", fill_up)
        said = refusal(fit, mixture(), data, checkpoint=path, error=OSError)
        assert str(path) in said and "No space left" in said
        assert os.listdir(tmp_path) == [path.name]
        monkeypatch.setattr(os, "fsync", sync)
        assert_same_fit(fit(mixture(), data, checkpoint=path), want)

    def test_a_checkpoint_from_the_beginning(self, tmp_path):
        path = tmp_path / "fit.ckpt"
        with no_more_room(500):
            said = refusal(
                fit, mixture(), five_blocks(), checkpoint=path, error=OSError
            )
        assert str(path) in said
        assert os.listdir(tmp_path) == []
