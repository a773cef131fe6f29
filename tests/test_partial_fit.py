"""Streams and mini-batches, as estimators offer them: one batch is one iteration of EM,
many come to where batch EM comes, and a batch that is refused was never there.

The steps' own laws are in test_stepwise.py.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import fastem
from fastem import GaussianMixture
from fastem.data import blocks as data_blocks
from fastem.data.source import open_source
from fastem.em.passes import batches
from fastem.estimators import checkpoints

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
    assert_params,
    case,
    model_of,
    new_model,
    nudged,
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
    @given(
        seed=st.integers(0, 2**32 - 1), covariance_type=st.sampled_from(COVARIANCE_TYPES)
    )
    def test_weight_two_is_a_row_twice(self, seed, covariance_type):
        """And weight zero is no row, in the first batch and in later ones."""
        X = blobs(300, D, K, seed=seed % 1000)
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
        """So many that what was learned first is forgotten."""
        early, late = blobs(2000, D, 2, seed=0), 50 + blobs(self.N_ROWS, D, 2, seed=1)
        model = stream(mixture(2), np.concatenate([early, late]), 2000)
        best = best_of(mixture(2), late).score(late)
        assert model.score(late) > best - 0.5
        assert model.score(early) < -100

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
    "one column less": (ROWS[:, :2], {}, "2 features"),
    "one column more, in blocks": ([np.c_[ROWS, ROWS[:, :1]]], {}, "4 features"),
    "other names": (FRAME.rename(columns={"a": "z"}), {}, "feature names"),
    "names in another order": (FRAME[["b", "a", "c"]], {}, "feature names"),
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
OTHER_SETTINGS = {
    "n_components": (4, "goes on from 3 components, but n_components is 4"),
    "covariance_type": ("tied", r"shape \(3, 3, 3\), but covariance_type is 'tied'"),
    "batch_size": (0, "batch_size"),
}


class TestRefusals:
    """After a refusal all is as if it had never been asked."""

    @pytest.mark.parametrize("what", BAD)
    @pytest.mark.parametrize("begin", ["partial_fit", "fit"])
    @pytest.mark.filterwarnings("ignore:X does not have valid feature names")
    def test_batches(self, what, begin):
        X, options, message = BAD[what]
        model = getattr(mixture(), begin)(FRAME)
        before = pickle.dumps(model)
        with pytest.raises(ValueError, match=message):
            model.partial_fit(X, **options)
        assert pickle.dumps(model) == before

    @pytest.mark.parametrize("what", set(BAD) - {"a generator"})
    def test_first_batches(self, what):
        X, options, _ = BAD[what]
        if "column" in what or "name" in what:
            pytest.skip("nothing to compare with")
        model = mixture()
        before = pickle.dumps(model)
        with pytest.raises(ValueError):
            model.partial_fit(X, **options)
        assert pickle.dumps(model) == before

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
        parts = list(batches(X, X[:, 0] if weighted else EMPTY, size))
        rows = np.concatenate([part for part, _ in parts])
        assert_same_bits(rows[np.argsort(rows[:, 0])], X)
        sizes = [len(part) for part, _ in parts]
        assert max(sizes) - min(sizes) <= 1
        assert len(parts) == max(1, round(n_rows / size))
        for part, weight in parts:
            assert part.flags.c_contiguous
            assert_same_bits(weight, part[:, 0].copy() if weighted else EMPTY)

    @pytest.mark.parametrize("period", [2, 5, 10, 20, 1000, 20_000])
    def test_each_is_like_all_rows(self, period):
        """Whatever order the rows are in, if only it goes through all or comes round."""
        X = (np.arange(20_000) % period * (1.0 / period))[:, None]
        for part, _ in batches(X, EMPTY, 1000):
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


class TestRowsOfAllKinds:
    """The same rows are the same batches, wherever they come from."""

    X = blobs(500, D, K, seed=2)
    OPTIONS = {"algorithm": "minibatch", "batch_size": 60, "max_iter": 2}

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("store", STORES)
    def test_minibatch(self, store, dtype, tmp_path):
        X = self.X.astype(dtype)
        want = fit(mixture(**self.OPTIONS), X)
        got = fit(mixture(**self.OPTIONS), STORES[store](X, tmp_path))
        assert_same_fit(got, want)

    @pytest.mark.parametrize("store", STORES)
    def test_partial_fit(self, store, tmp_path):
        data = STORES[store](self.X, tmp_path)
        for size in (500, 60):
            got, want = mixture(batch_size=size), mixture(batch_size=size)
            for _ in range(2):
                got.partial_fit(data)
                if size == 500:
                    want.partial_fit(self.X)
                else:
                    for part, _ in batches(self.X, EMPTY, size):
                        # Seeded from all, of which the first batch is a part.
                        want.set_params(
                            **start_of(self.X) if want.n_iter_of() else {}
                        )
                        want.partial_fit(part)
            assert_same_fit(got, want)

    @pytest.mark.parametrize("block_rows", [1, 7, 100])
    def test_small_blocks_make_batches_together(self, block_rows):
        source = open_source([self.X], block_rows=block_rows)
        pieces = [self.X[i : i + block_rows] for i in range(0, 500, block_rows)]
        want = fit(mixture(**self.OPTIONS), self.X)
        for data in (source, pieces) if block_rows < 60 else (pieces,):
            assert_same_fit(fit(mixture(**self.OPTIONS), data), want)

    def test_data_frames(self):
        frame = pd.DataFrame(self.X, columns=list("abc"))
        got = fit(mixture(**self.OPTIONS), frame)
        assert_same_fit(got, fit(mixture(**self.OPTIONS), self.X))
        assert list(got.feature_names_in_) == list("abc")
