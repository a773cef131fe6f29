"""Streams and mini-batches, as estimators offer them: one batch is one iteration of EM,
many come to where batch EM comes, and a batch that is refused was never there.

The steps' own laws are in test_stepwise.py.
"""

import pickle

import numpy as np
import pandas as pd
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import fastem
from fastem import GaussianMixture
from fastem.data import blocks as data_blocks
from fastem.data.source import is_source, open_source
from fastem.em.passes import add_block, row_batches
from fastem.estimators import checkpoints, fits

from .common import (
    COVARIANCE_TYPES,
    PARAMETERS,
    assert_same_bits,
    assert_same_fit,
    blobs,
    fit,
    random_params,
    start_from,
)
from .reference import chains as oracle
from .test_hmm_cases import (
    ONE_OF_EACH,
    case,
    model_of,
    new_model,
    sample,
)
from .test_hmm_cases import fit as fit_chain
from .test_persistence import assert_same_model
from .test_sources import STORES

pytestmark = pytest.mark.usefixtures("one_thread")

K, D = 3, 3
EMPTY = np.empty(0)
# One batch under the parameters that are shared; the sums are about other means.
ONE_STEP = {"rtol": 1e-9, "atol": 1e-11}


def mixture(n_components=K, **params):
    return GaussianMixture(n_components, random_state=0, **params)


def given_start(X, covariance_type, **params):
    """A mixture that begins where all others of its type do."""
    start = start_from(random_params(X, K, covariance_type), covariance_type)
    return GaussianMixture(**start, **params)


def stream(model, X, size):
    for first in range(0, len(X), size):
        model.partial_fit(X[first : first + size])
    return model


def assert_close(a, b, names=PARAMETERS, **tolerance):
    for name in names:
        np.testing.assert_allclose(
            getattr(a, name), getattr(b, name), err_msg=name, **tolerance
        )


def best_of(model, X):
    """What batch EM comes to from the same start."""
    model = clone(model).set_params(algorithm="batch", tol=1e-6, max_iter=300)
    return fit(model, X)


class TestOneBatch:
    @pytest.mark.parametrize("average", [True, False])
    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_is_one_iteration(self, covariance_type, average):
        X = blobs(400, D, K)
        model = mixture(covariance_type=covariance_type, average=average)
        want = fit(clone(model).set_params(max_iter=1), X)
        got = model.partial_fit(X)
        assert_close(got, want, **ONE_STEP)
        assert_same_bits(got.lower_bound_, want.lower_bound_)
        assert got.n_iter_ == 1

    def test_of_single_precision(self):
        X = blobs(400, D, K).astype(np.float32)
        want = fit(mixture(max_iter=1), X)
        assert_close(mixture().partial_fit(X), want, rtol=1e-5, atol=1e-6)

    @settings(max_examples=20)
    @given(seed=st.integers(0, 999), covariance_type=st.sampled_from(COVARIANCE_TYPES))
    def test_weight_two_is_a_row_twice(self, seed, covariance_type):
        """And weight zero is no row, in the first batch and in later ones."""
        X = blobs(300, D, K, seed=seed)
        counts = np.random.default_rng(seed).integers(0, 4, len(X))
        weighted = given_start(X, covariance_type)
        repeated = clone(weighted)
        for batch in np.split(np.arange(len(X)), [150, 250]):
            weighted.partial_fit(X[batch], sample_weight=counts[batch])
            repeated.partial_fit(np.repeat(X[batch], counts[batch], axis=0))
        assert_close(weighted, repeated, rtol=1e-7, atol=1e-8)
        assert weighted.n_iter_ == repeated.n_iter_ == 3

    def test_only_proportions_of_weights_matter(self):
        X = blobs(300, D, K)
        weight = np.random.default_rng(1).exponential(size=len(X))
        models = [given_start(X, "full") for _ in range(2)]
        for model, unit in zip(models, (1.0, 1e-3), strict=True):
            for half in (slice(0, 200), slice(200, 300)):
                model.partial_fit(X[half], sample_weight=unit * weight[half])
        assert_close(*models, rtol=1e-9, atol=1e-11)

    def test_a_single_row_is_one_too(self):
        X = blobs(301, D, K)
        model = mixture().partial_fit(X[:300])
        before = model.means_
        model.partial_fit(X[300:])
        assert model.n_iter_ == 2
        assert 0 < np.abs(model.means_ - before).max() < 0.1


class TestStreams:
    N_ROWS = 40_000

    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_twenty_batches_come_near_the_best(self, covariance_type):
        X = blobs(self.N_ROWS, D, 4, seed=3)
        model = mixture(4, covariance_type=covariance_type)
        best = best_of(model, X).score(X)
        first = clone(model).partial_fit(X[:2000]).score(X)
        found = stream(model, X, 2000)
        assert best - found.score(X) < min(1e-3 * abs(best), 0.2 * (best - first))
        assert found.lower_bound_ == pytest.approx(best, rel=0.02)
        assert found.n_iter_ == 20
        assert found.lower_bounds_ == [found.lower_bound_]  # streams have no end

    def test_rows_that_never_come_again(self):
        """Are forgotten: here a fifth of them, and a mean that drifts by fifty."""
        early, late = blobs(10_000, D, 1), 50 + blobs(self.N_ROWS, D, 1)
        model = stream(mixture(1), np.concatenate([early, late]), 2000)
        assert np.abs(model.means_ - late.mean(axis=0)).max() < 2

    @pytest.mark.parametrize("algorithm", ["batch", "minibatch"])
    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_a_fit_is_the_first_batch(self, covariance_type, algorithm):
        """Against which a hundred more rows weigh little."""
        X = blobs(self.N_ROWS + 100, D, K, seed=5)
        model = mixture(covariance_type=covariance_type, algorithm=algorithm)
        fit(model, X[:-100])
        fresh = clone(model).set_params(warm_start=True)
        before = {name: getattr(model, name) for name in PARAMETERS}
        model.partial_fit(X[-100:])
        for name in ("weights_", "means_", "covariances_"):
            moved = np.abs(getattr(model, name) - before[name]).max()
            assert 0 < moved < 0.02, name
        # Fitted to these rows alone, it would be another one.
        fit(fresh.set_params(max_iter=1), X[-100:])
        assert np.abs(fresh.means_ - before["means_"]).max() > 0.1

    def test_a_fit_without_iterations_is_where_to_begin(self):
        X = blobs(600, D, K)
        start = fit(given_start(X, "full", max_iter=0), X)
        elsewhere = pickle.loads(pickle.dumps(start)).set_params(
            weights_init=None, means_init=None, precisions_init=None, random_state=5
        )
        assert_same_fit(start.partial_fit(X[:200]), elsewhere.partial_fit(X[:200]))
        want = fit(given_start(X, "full", max_iter=1), X[:200])
        assert_close(start, want, **ONE_STEP)

    def test_fit_begins_anew(self):
        X = blobs(600, D, K)
        again = fit(stream(mixture(), X, 100), X[:300])
        assert_same_fit(again, fit(mixture(), X[:300]))
        want = fit(mixture(), X[:300]).partial_fit(X[300:])
        assert_same_fit(again.partial_fit(X[300:]), want)

    def test_a_warm_start_goes_on_from_a_stream(self):
        X = blobs(600, D, K)
        model = stream(mixture(warm_start=True), X, 100)
        begins = model.score(X)
        assert fit(model, X).lower_bounds_[0] == pytest.approx(begins, rel=1e-12)

    def test_averages_are_only_what_is_shown(self):
        X = blobs(2000, D, K)
        shown = stream(mixture(), X[:1500], 100)
        other = stream(mixture(average=False), X[:1500], 100)
        assert np.abs(shown.means_ - other.means_).max() > 1e-4
        shown.set_params(average=False)
        assert_same_fit(shown.partial_fit(X[1500:]), other.partial_fit(X[1500:]))

    def test_precisions_may_alternate(self):
        X = blobs(2000, D, K)
        model, want = mixture(), mixture()
        for n, batch in enumerate(np.split(X, 10)):
            model.partial_fit(batch.astype(np.float32 if n % 2 else np.float64))
            want.partial_fit(batch)
        assert_close(model, want, rtol=1e-4, atol=1e-5)
        assert model.means_.dtype == np.float64

    def test_estimators_that_are_cloned_remember_nothing(self):
        X = blobs(600, D, K)
        model = mixture().partial_fit(X[:300])
        got = clone(model).partial_fit(X[300:])
        assert_same_fit(got, mixture().partial_fit(X[300:]))


def through_a_file(model, folder):
    model.save(folder / "model.npz")
    return fastem.load(folder / "model.npz")


def through_pickle(model, folder):
    return pickle.loads(pickle.dumps(model))


kept_in_each_way = pytest.mark.parametrize("keep", [through_a_file, through_pickle])


@kept_in_each_way
class TestKept:
    """What outlived its process goes on to the same bits."""

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_streams(self, covariance_type, dtype, keep, tmp_path):
        X = blobs(700, D, K).astype(dtype)
        model = stream(mixture(covariance_type=covariance_type), X[:300], 100)
        for batch in np.split(X[300:], 4):
            copy = keep(model, tmp_path)
            model.partial_fit(batch)
            assert_same_model(copy.partial_fit(batch), model)

    @pytest.mark.parametrize("max_iter", [0, 2])
    @pytest.mark.parametrize("algorithm", ["batch", "minibatch"])
    def test_fits(self, algorithm, max_iter, keep, tmp_path):
        X = blobs(700, D, K)
        options = {"algorithm": algorithm, "batch_size": 100, "max_iter": max_iter}
        model = fit(mixture(**options), X[:600])
        copy = keep(model, tmp_path)
        assert_same_model(copy.partial_fit(X[600:]), model.partial_fit(X[600:]))


def with_entry(X, row, column, value):
    X = X.copy()
    X[row, column] = value
    return X


FRAME = pd.DataFrame(blobs(300, D, K), columns=list("abc"))
ROWS = FRAME.to_numpy()

# What a batch can be, and what is said of it.
BAD = {
    "NaN": (with_entry(ROWS, 42, 1, np.nan), {}, "NaN.*row 42, column 1"),
    "infinity": (with_entry(ROWS, 42, 1, -np.inf), {}, "infinity.*row 42, column 1"),
    "NaN in a later block": (
        np.split(with_entry(ROWS, 142, 1, np.nan), 3),
        {},
        "list of 3 blocks contains NaN.*row 142, column 1",
    ),
    "no rows": (ROWS[:0], {}, "0 sample"),
    "one dimension": (ROWS[0], {}, "2D array"),
    "weights of zero": (ROWS, {"sample_weight": np.zeros(300)}, "zero"),
    "negative weights": (ROWS, {"sample_weight": np.full(300, -1)}, "Negative"),
    "weights of another length": (ROWS, {"sample_weight": np.ones(299)}, "299"),
    "weights of another length than that of blocks": (
        lambda: iter(np.split(ROWS, 3)),
        {"sample_weight": np.ones(299)},
        "299",
    ),
    "a generator": ((part for part in [ROWS]), {}, "read only once"),
}
UNLIKE_THE_FIRST = {
    "one column less": (ROWS[:, :2], {}, "2 features"),
    "one column more, in blocks": ([np.c_[ROWS, ROWS[:, :1]]], {}, "4 features"),
    "other names": (FRAME.rename(columns={"a": "z"}), {}, "feature names"),
    "names in another order": (FRAME[["b", "a", "c"]], {}, "feature names"),
    "other names, in a table": (
        pyarrow.Table.from_pandas(FRAME.rename(columns={"a": "z"})),
        {},
        "columns .* are z, b, c, but GaussianMixture was fitted to a, b, c",
    ),
}
OTHER_SETTINGS = {
    "n_components": (4, "goes on from 3 components, but n_components is 4"),
    "covariance_type": ("tied", r"shape \(3, 3, 3\), but covariance_type is 'tied'"),
    "batch_size": (0, "batch_size"),
}


class TestRefusals:
    """After a refusal all is as if it had never been asked."""

    @pytest.mark.parametrize("what", [*BAD, *UNLIKE_THE_FIRST])
    @pytest.mark.parametrize("begin", ["partial_fit", "fit"])
    @pytest.mark.filterwarnings("ignore:X does not have valid feature names")
    def test_batches(self, what, begin):
        X, options, message = (BAD | UNLIKE_THE_FIRST)[what]
        model = getattr(mixture(), begin)(FRAME)
        before = pickle.dumps(model)
        with pytest.raises(ValueError, match=message):
            model.partial_fit(X, **options)
        assert pickle.dumps(model) == before

    @pytest.mark.parametrize("what", BAD)
    def test_first_batches(self, what):
        X, options, _ = BAD[what]
        model = mixture()
        with pytest.raises(ValueError):
            model.partial_fit(X, **options)
        assert vars(model) == vars(mixture())

    def test_too_few_rows_to_begin_with(self):
        model = mixture()
        with pytest.raises(ValueError, match="n_components = 3, n_samples = 2"):
            model.partial_fit(ROWS[:2])
        assert vars(model) == vars(mixture())

    @pytest.mark.parametrize("name", OTHER_SETTINGS)
    @pytest.mark.parametrize("max_iter", [0, 1])
    def test_other_settings(self, name, max_iter):
        value, message = OTHER_SETTINGS[name]
        model = fit(mixture(max_iter=max_iter), FRAME)
        ours = model.get_params()[name]
        before = pickle.dumps(model)
        with pytest.raises(ValueError, match=message):
            model.set_params(**{name: value}).partial_fit(FRAME)
        assert pickle.dumps(model.set_params(**{name: ours})) == before


class TestBatches:
    @given(
        n_rows=st.integers(1, 300),
        size=st.integers(1, 400),
        weighted=st.booleans(),
    )
    def test_every_row_once(self, n_rows, size, weighted):
        X = np.arange(2.0 * n_rows).reshape(n_rows, 2)
        parts = list(row_batches(X, X[:, 0] if weighted else EMPTY, size, 0))
        rows = np.concatenate([part for part, *_ in parts])
        assert_same_bits(rows[np.argsort(rows[:, 0])], X)
        sizes = [n_rows for *_, n_rows in parts]
        assert sizes == [len(part) for part, *_ in parts]
        assert max(sizes) - min(sizes) <= 1
        assert len(parts) == max(1, round(n_rows / size))
        for part, weight, _ in parts:
            assert part.flags.c_contiguous
            assert_same_bits(weight, part[:, 0].copy() if weighted else EMPTY)

    @pytest.mark.parametrize("period", [2, 5, 10, 20, 1000, 20_000])
    def test_each_is_like_all_rows(self, period):
        """Whether the rows' order goes through all or comes round."""
        X = (np.arange(20_000) % period * (1.0 / period))[:, None]
        for part, *_ in row_batches(X, EMPTY, 1000, 0):
            # Twenty batches of 1000 rows, whose mean has the deviation 0.009 at most
            # (more, by nothing but the spread of the rows, where there are few values).
            assert abs(part.mean() - X.mean()) < 0.06


class TestMinibatch:
    """Two passes over 200 000 rows."""

    N_ROWS = 200_000

    def check(self, X, model, order=None):
        best = best_of(model, X).score(X)
        rows = X if order is None else X[order]
        found = fit(model.set_params(algorithm="minibatch", max_iter=2), rows)
        assert best - found.score(X) < 1e-3 * abs(best)
        assert found.n_iter_ == len(found.lower_bounds_) == 2
        assert found.lower_bound_ == pytest.approx(found.score(X), rel=1e-3)
        assert found.n_repairs_ == found.n_decreases_ == 0

    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_four_kinds_of_covariances(self, covariance_type):
        X = blobs(self.N_ROWS, D, 4, seed=3)
        self.check(X, mixture(4, covariance_type=covariance_type))

    def test_single_precision(self):
        X = blobs(self.N_ROWS, D, 4, seed=3).astype(np.float32)
        self.check(X, mixture(4))

    @pytest.mark.parametrize("order", ["by component", "in turn"])
    def test_rows_in_order(self, order):
        X = blobs(self.N_ROWS, D, 4, seed=3)
        labels = fit(mixture(4), X).predict(X)
        rank = np.arange(len(X))
        for k in range(4):
            rank[labels == k] = np.arange(np.count_nonzero(labels == k))
        by = (labels,) if order == "by component" else (labels, rank)
        self.check(X, mixture(4), np.lexsort(by))

    def test_converges(self):
        X = blobs(20_000, D, 4, seed=3)
        best = best_of(mixture(4), X).score(X)
        model = mixture(4, algorithm="minibatch", batch_size=1000).fit(X)
        assert model.converged_ and 1 < model.n_iter_ < 100
        assert best - model.score(X) < 1e-3 * abs(best)

    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_a_batch_of_all_rows_is_an_iteration(self, covariance_type):
        X = blobs(500, D, K)
        options = {"covariance_type": covariance_type, "max_iter": 1}
        want = fit(mixture(**options), X)
        got = fit(mixture(algorithm="minibatch", **options), X)
        assert_close(got, want, **ONE_STEP)
        assert_same_bits(got.lower_bounds_, want.lower_bounds_)

    def test_weights(self):
        X = blobs(5000, D, K)
        options = {"algorithm": "minibatch", "batch_size": 500, "max_iter": 2}
        want = fit(given_start(X, "full", **options), X)
        for weight in (np.full(len(X), 2.0), np.full(len(X), 1e-3)):
            got = fit(clone(want), X, sample_weight=weight)
            assert_close(got, want, rtol=1e-8, atol=1e-10)
        absent = np.r_[np.ones(len(X)), np.zeros(len(X))]
        far = np.r_[X, 1e6 + X]
        got = fit(clone(want), far, sample_weight=absent)
        assert got.score(X) == pytest.approx(want.score(X), rel=0.01)
        assert np.abs(got.means_).max() < 100

    def test_without_weight_a_batch_is_passed_over(self):
        X = blobs(3000, D, K)
        options = {"algorithm": "minibatch", "batch_size": 1000, "max_iter": 2}
        weight = np.repeat([0.0, 1.0, 0.0], 1000)
        source = open_source([X], block_rows=1000)
        got = fit(given_start(X, "full", **options), source, sample_weight=weight)
        want = fit(clone(got), [X[1000:2000]])
        assert_close(got, want, rtol=1e-12, atol=1e-14)

    def test_the_best_of_several_starts(self):
        X = blobs(5000, 2, 6, seed=7)
        options = {
            "algorithm": "minibatch",
            "batch_size": 500,
            "init_params": "random_from_data",
            "max_iter": 5,
        }
        several = fit(mixture(6, n_init=4, **options), X)
        assert several.lower_bound_ > fit(mixture(6, **options), X).lower_bound_

    def test_warm_starts(self):
        X = blobs(5000, D, K)
        options = {"algorithm": "minibatch", "batch_size": 500, "max_iter": 1}
        model = fit(mixture(warm_start=True, init_params="random", **options), X)
        first = model.lower_bound_
        assert fit(model, X).lower_bound_ > first
        assert model.n_iter_ == 1


OPTIONS = {"algorithm": "minibatch", "batch_size": 50, "max_iter": 2}


class TestRowsOfAllKinds:
    """The same rows are the same batches, wherever they come from."""

    X = blobs(500, D, K, seed=2)

    @pytest.mark.parametrize("store", STORES)
    def test_minibatch(self, store, tmp_path):
        want = fit(mixture(**OPTIONS), self.X)
        got = fit(mixture(**OPTIONS), STORES[store](self.X, tmp_path))
        assert_same_fit(got, want)

    def test_single_precision(self, tmp_path):
        X = self.X.astype(np.float32)
        want = fit(mixture(**OPTIONS), X)
        for store in ("npy", "parquet", "list"):
            got = fit(mixture(**OPTIONS), STORES[store](X, tmp_path))
            assert_same_fit(got, want)

    @pytest.mark.parametrize("store", STORES)
    def test_partial_fit(self, store, tmp_path):
        data = STORES[store](self.X, tmp_path)
        in_blocks = [self.X] if is_source(data) else self.X
        for size, same in ((50, in_blocks), (500, self.X)):
            got, want = (mixture(batch_size=size) for _ in range(2))
            for _ in range(2):
                assert_same_fit(got.partial_fit(data), want.partial_fit(same))

    @pytest.mark.parametrize("block_rows", [1, 7, 100])
    def test_small_blocks_make_batches_together(self, block_rows):
        source = open_source([self.X], block_rows=block_rows)
        pieces = [self.X[i : i + block_rows] for i in range(0, 500, block_rows)]
        want = fit(mixture(**OPTIONS), self.X)
        for data in (source, pieces) if block_rows < 50 else (pieces,):
            assert_same_fit(fit(mixture(**OPTIONS), data), want)

    def test_data_frames(self):
        frame = pd.DataFrame(self.X, columns=list("abc"))
        got = fit(mixture(**OPTIONS), frame)
        assert_same_fit(got, fit(mixture(**OPTIONS), self.X))
        assert list(got.feature_names_in_) == list("abc")


class Interrupted(Exception):
    """Raised where a process might be killed."""


class Blocks:
    """Blocks of rows, of which only so many can be read."""

    def __init__(self, X, n_blocks):
        self.parts = np.split(X, n_blocks)
        self.left = np.inf

    def __call__(self):
        for part in self.parts:
            if self.left <= 0:
                raise Interrupted
            self.left -= 1
            yield part


OF_PASSES = {**OPTIONS, "max_iter": 3, "tol": 0.0}


class TestCheckpoints:
    N_BLOCKS = 8

    @pytest.fixture(autouse=True)
    def every_block(self, monkeypatch):
        monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_SAVES", 0)
        monkeypatch.setattr(data_blocks, "BLOCK_BYTES", 100 * D * 8)

    @pytest.fixture
    def followed(self, monkeypatch):
        """The blocks that fits go through."""
        followed = []

        def add(*arguments):
            followed.append(arguments[-2])
            return add_block(*arguments)

        monkeypatch.setattr(fits, "add_block", add)
        return followed

    def blocks(self):
        return Blocks(blobs(100 * self.N_BLOCKS, D, K, seed=6), self.N_BLOCKS)

    # Opening looks at one block, a start at all to be seeded, and then three times.
    @pytest.mark.parametrize(
        ("n_init", "n_blocks"),
        [
            (1, 10),
            (1, 12),
            (1, 17),
            (1, 25),
            (1, 32),
            (2, 33),
            (2, 40),
            (2, 50),
            (2, 64),
        ],
    )
    def test_resumed_to_the_same_bits(self, n_init, n_blocks, tmp_path, followed):
        options = {**OF_PASSES, "n_init": n_init}
        read = self.blocks()
        want = fit(mixture(**options), read)
        assert len(followed) == n_init * 3 * self.N_BLOCKS
        read.left = n_blocks
        path = tmp_path / "fit.ckpt"
        with pytest.raises(Interrupted):
            fit(mixture(**options), read, checkpoint=path)
        assert path.exists()
        read.left = np.inf
        got = fit(mixture(**options), read, checkpoint=path)
        assert_same_model(got, want)
        assert len(followed) == 2 * n_init * 3 * self.N_BLOCKS  # each block but once
        X = np.concatenate(read.parts)
        assert_same_model(got.partial_fit(X), want.partial_fit(X))

    def test_interrupted_again_and_again(self, tmp_path):
        read = self.blocks()
        want, path = fit(mixture(**OF_PASSES), read), tmp_path / "fit.ckpt"
        for n_interruptions in range(100):
            read.left = 9 + 3 * (n_interruptions > 0)
            try:
                got = fit(mixture(**OF_PASSES), read, checkpoint=path)
                break
            except Interrupted:
                pass
        assert n_interruptions > 3
        assert_same_model(got, want)

    @pytest.mark.parametrize("name", ["batch_size", "step_exponent", "average"])
    def test_of_another_fit(self, name, tmp_path):
        options = dict(OF_PASSES)
        path = tmp_path / "fit.ckpt"
        fit(mixture(**options), self.blocks(), checkpoint=path)
        options[name] = {"batch_size": 60, "step_exponent": 0.7, "average": False}[name]
        with pytest.raises(ValueError, match=f"{name}"):
            mixture(**options).fit(self.blocks(), checkpoint=path)


# -------------------------------------------------------------- hidden Markov models

LENGTHS = [20] * 10
KINDS = (*ONE_OF_EACH, "gaussian-tied", "gaussian-spherical", "gmm-tied")


def batch(kind, params, seed, lengths=LENGTHS):
    return sample(kind, params, lengths, seed)


def chain(kind, start, **params):
    """A model that begins with these parameters."""
    return model_of(fastem, kind, start, **params)


class TestChains:
    @pytest.mark.parametrize("training", ["baum-welch", "viterbi"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_one_batch_is_one_iteration(self, kind, training):
        _, X, start = case(kind, 3, 2, LENGTHS, seed=1)
        got = chain(kind, start, training=training).partial_fit(X, LENGTHS)
        want = fit_chain(chain(kind, start, training=training, n_iter=1), X, LENGTHS)
        names = [f"{name}_" for name in start]
        if kind in oracle.GMM:
            # A fit takes scatter about the means before it, as hmmlearn does.
            names.remove("covars_")
        assert_close(got, want, names, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("kind", KINDS)
    def test_thirty_batches_come_near_the_best(self, kind):
        params, _, start = case(kind, 3, 2, [2], seed=2)
        parts = [batch(kind, params, seed) for seed in range(30)]
        X, lengths = np.concatenate(parts), 30 * LENGTHS
        model = chain(kind, start)
        worst = model.score(X, lengths)
        for part in parts:
            model.partial_fit(part, LENGTHS)
        fitted = chain(kind, start, n_iter=200, tol=0.01)
        best = fit_chain(fitted, X, lengths).score(X, lengths)
        lack = best - model.score(X, lengths)
        assert lack < max(0.1 * (best - worst), 1e-3 * abs(best))
        assert lack < 0.3 * (best - worst)

    def test_from_nothing(self):
        """Emissions are seeded from the first batch."""
        params, _, _ = case("gaussian-diag", 3, 2, [2], seed=2, spread=4.0)
        options = {"init_params": "mc", "random_state": 0}
        model = new_model(fastem, "gaussian-diag", 3, 2, **options)
        model.startprob_, model.transmat_ = np.full(3, 1 / 3), np.full((3, 3), 1 / 3)
        for seed in range(20):
            model.partial_fit(batch("gaussian-diag", params, seed), LENGTHS)
        order = np.argsort(model.means_[:, 0])
        truth = np.argsort(params["means"][:, 0])
        np.testing.assert_allclose(
            model.means_[order], params["means"][truth], atol=0.2
        )

    @pytest.mark.parametrize("kind", [k for k in KINDS if k not in oracle.GMM])
    def test_priors_weigh_against_all_batches(self, kind):
        """Where states are known, the same batch again and again is one batch of so
        many times the rows, whatever the steps."""
        _, X, start = case(kind, 3, 2, LENGTHS, seed=3)
        rng = np.random.default_rng(0)
        states = rng.integers(0, 3, len(X))
        priors = {
            "startprob_prior": np.array([30.0, 5.0, 1.0]),
            "transmat_prior": rng.uniform(1, 200, (3, 3)),
        }
        if kind in oracle.GAUSSIAN:
            priors |= {"means_prior": 5.0, "means_weight": 300.0}
            priors |= {"covars_prior": 40.0, "covars_weight": 100.0}
        if kind == "categorical":
            priors["emissionprob_prior"] = 50.0
        if kind == "poisson":
            priors |= {"lambdas_prior": 200.0, "lambdas_weight": 100.0}
        n_batches = 12
        got = chain(kind, start, **priors)
        for _ in range(n_batches):
            got.partial_fit(X, LENGTHS, states=states)
        want = chain(kind, start, n_iter=1, **priors)
        fit_chain(
            want,
            np.tile(X, (n_batches, 1)),
            n_batches * LENGTHS,
            states=np.tile(states, n_batches),
        )
        names = [f"{name}_" for name in start]
        assert_close(got, want, names, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("kind", KINDS)
    def test_paths_that_are_impossible_stay_so(self, kind):
        params, _, start = case(kind, 3, 2, [2], seed=4, transmat="left-right")
        start["startprob"] = np.array([1.0, 0.0, 0.0])
        params["startprob"] = start["startprob"]
        model = chain(kind, start)
        for seed in range(5):
            model.partial_fit(batch(kind, params, seed), LENGTHS)
            assert_same_bits(model.startprob_, start["startprob"])
            assert_same_bits(model.transmat_ == 0, start["transmat"] == 0)
        assert np.abs(model.transmat_ - start["transmat"]).max() > 1e-3

    @pytest.mark.parametrize("kind", KINDS)
    def test_fixed_entries_keep_their_values(self, kind):
        params, _, start = case(kind, 3, 2, [2], seed=5)
        name = next(name for name in start if name not in ("startprob", "transmat"))
        held = np.zeros(start[name].shape, bool)
        held[1] = True
        model = chain(kind, start, fixed={name: held})
        model.params = model.params.replace("t", "")
        for seed in range(4):
            model.partial_fit(batch(kind, params, seed), LENGTHS)
        assert_same_bits(model.transmat_, start["transmat"])
        got = getattr(model, f"{name}_")
        assert_same_bits(got[held], start[name][held])
        assert np.abs(got[~held] - start[name][~held]).max() > 1e-3

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_fit_is_the_first_batch(self, kind):
        params, X, start = case(kind, 3, 2, 40 * LENGTHS, seed=6)
        model = fit_chain(chain(kind, start, n_iter=30), X, 40 * LENGTHS)
        before = {name: getattr(model, f"{name}_") for name in start}
        model.partial_fit(batch(kind, params, 0, [20]), [20])
        for name, value in before.items():
            moved = np.abs(getattr(model, f"{name}_") - value).max()
            assert 0 < moved < 0.03 * max(1, np.abs(value).max()), name

    @pytest.mark.parametrize("kind", KINDS)
    @kept_in_each_way
    def test_kept(self, kind, keep, tmp_path):
        params, _, start = case(kind, 3, 2, [2], seed=7)
        model = chain(kind, start)
        for seed in range(4):
            X = batch(kind, params, seed)
            copy = keep(model, tmp_path)
            model.partial_fit(X, LENGTHS)
            assert_same_model(copy.partial_fit(X, LENGTHS), model)

    @pytest.mark.parametrize("kind", KINDS)
    def test_sources(self, kind, tmp_path, monkeypatch):
        """Each block of whole sequences is a batch."""
        _, X, start = case(kind, 3, 2, LENGTHS, seed=8)
        parts = np.split(X, np.cumsum(LENGTHS)[:-1])
        want = chain(kind, start).partial_fit(X, LENGTHS)
        for data, lengths in (
            (parts, None),
            (lambda: iter(parts), None),
            ([X], LENGTHS),
        ):
            got = chain(kind, start).partial_fit(data, lengths)
            assert_same_model(got, want)
        # Blocks that are full with three sequences.
        monkeypatch.setattr(data_blocks, "BLOCK_BYTES", 50 * X.shape[1] * 8)
        got, want = chain(kind, start).partial_fit(parts), chain(kind, start)
        for first in range(0, len(X), 60):
            rows = X[first : first + 60]
            want.partial_fit(rows, [20] * (len(rows) // 20))
        assert_same_model(got, want)


# What batches can be, by kind of model; and what is said of them.
BAD_CHAINS = {
    "NaN": lambda X: (with_entry(X * 1.0, 42, 0, np.nan), LENGTHS, "NaN.*row 42"),
    "another width": lambda X: (np.c_[X, X], LENGTHS, "features"),
    "lengths": lambda X: (X, [20] * 9, "lengths sum to 180, but X has 200 rows"),
    "a block of NaN": lambda X: (
        np.split(with_entry(X * 1.0, 42, 0, np.nan), 10),
        None,
        "list of 10 blocks.*NaN",
    ),
}


class TestRefusedChains:
    @pytest.mark.parametrize("what", BAD_CHAINS)
    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    @pytest.mark.parametrize("begun", [False, True])
    def test_batches(self, kind, what, begun):
        _, X, start = case(kind, 3, 2, LENGTHS, seed=9)
        model = chain(kind, start)
        if begun:
            model.partial_fit(X, LENGTHS)
        before = pickle.dumps(model)
        bad, lengths, message = BAD_CHAINS[what](X)
        with pytest.raises(ValueError, match=message if begun else None):
            model.partial_fit(bad, lengths)
        assert pickle.dumps(model) == before

    @pytest.mark.parametrize(
        ("kind", "value", "message"),
        [
            ("categorical", 7, "larger than 2"),
            ("categorical", -1, "row 42"),
            ("multinomial", 9, "sum to n_trials"),
            ("poisson", -3, "row 42"),
            ("poisson", 0.5, "row 42"),
        ],
    )
    def test_values(self, kind, value, message):
        _, X, start = case(kind, 3, 2, LENGTHS, seed=9)
        model = chain(kind, start).partial_fit(X, LENGTHS)
        before = pickle.dumps(model)
        bad = with_entry(X.astype(type(value)), 42, 0, value)
        with pytest.raises(ValueError, match=message):
            model.partial_fit(bad, LENGTHS)
        assert pickle.dumps(model) == before

    @pytest.mark.parametrize("in_blocks", [False, True])
    def test_what_no_state_allows(self, in_blocks):
        _, X, start = case("categorical", 3, 2, LENGTHS, seed=9)
        start["emissionprob"][:, 2] = 0
        start["emissionprob"] /= start["emissionprob"].sum(axis=1, keepdims=True)
        good = np.minimum(X, 1)
        model = chain("categorical", start).partial_fit(good, LENGTHS)
        before = pickle.dumps(model)
        bad = with_entry(good, 42, 0, 2)
        data = (np.split(bad, 10), None) if in_blocks else (bad, LENGTHS)
        with pytest.raises(ValueError, match="No state allows"):
            model.partial_fit(*data)
        assert pickle.dumps(model) == before

    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    def test_other_numbers_of_states(self, kind):
        _, X, start = case(kind, 3, 2, LENGTHS, seed=9)
        model = chain(kind, start).partial_fit(X, LENGTHS)
        before = pickle.dumps(model)
        with pytest.raises(ValueError, match="3 states, but n_components is 4"):
            model.set_params(n_components=4).partial_fit(X, LENGTHS)
        assert pickle.dumps(model.set_params(n_components=3)) == before
