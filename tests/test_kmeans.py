"""fastem.KMeans against the textbook and against scikit-learn's Lloyd iterations."""

import inspect
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastem import GaussianMixture, KMeans
from fastem.models.kmeans import Centers, centers_frame, e_step

from .common import assert_same_bits, blobs
from .reference import kmeans as oracle

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [
    # N, D, K
    (257, 1, 3),
    (258, 2, 5),
    (259, 3, 2),
    (256, 4, 1),
    (515, 5, 9),
    (770, 8, 4),
    (1027, 13, 6),
    (300, 33, 3),
]
SHAPE_IDS = [f"N{n}-D{d}-K{k}" for n, d, k in SHAPES]

# Means of some hundred rows, summed in another order.
CLOSE = {"rtol": 1e-11, "atol": 1e-11}
CLOSE_32 = {"rtol": 2e-5, "atol": 2e-5}


def start(X, n_clusters, seed=0):
    rows = np.random.default_rng(seed).choice(len(X), n_clusters, replace=False)
    return X[rows].copy()


def quiet_fit(model, X, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, **kwargs)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES, ids=SHAPE_IDS)
@pytest.mark.parametrize("max_iter", [1, 4])
def test_iterations_of_the_textbook(n, d, k, dtype, weighted, max_iter):
    X = blobs(n, d, k, seed=n).astype(dtype)
    rng = np.random.default_rng(d)
    w = rng.exponential(size=n) if weighted else None
    centers = start(X, k)
    labels, means, inertia = oracle.run(X, centers, max_iter, w)
    assert not np.isnan(means).any(), "the data of this test empties no cluster"
    model = KMeans(k, init=centers, n_init=1, max_iter=max_iter, tol=0.0)
    model.fit(X, sample_weight=w)
    tolerance = CLOSE if dtype == np.float64 else CLOSE_32
    np.testing.assert_allclose(model.cluster_centers_, means, **tolerance)
    np.testing.assert_allclose(model.inertia_, inertia, rtol=tolerance["rtol"])
    # A row within rounding of the middle between two centres may go either way.
    nearest = np.sort(oracle.squared_distances(X, means), axis=1)
    clear = k == 1 or nearest[:, 1] - nearest[:, 0] > 1e-3
    np.testing.assert_array_equal(model.labels_[clear], labels[clear])


@pytest.mark.parametrize("tol", [0.0, 1e-4, 1e-2])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES, ids=SHAPE_IDS)
def test_same_fit_as_scikit_learn(n, d, k, weighted, tol):
    X = blobs(n, d, k, seed=n + 1)
    w = np.random.default_rng(d).exponential(size=n) if weighted else None
    ours, theirs = (
        kind(k, init=start(X, k), n_init=1, tol=tol).fit(X, sample_weight=w)
        for kind in (KMeans, SklearnKMeans)
    )
    assert ours.n_iter_ == theirs.n_iter_
    assert_same_bits(ours.labels_, theirs.labels_)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, **CLOSE)
    np.testing.assert_allclose(ours.inertia_, theirs.inertia_, rtol=1e-11)

    fresh = blobs(200, d, k, seed=n + 2)
    assert_same_bits(ours.predict(fresh), theirs.predict(fresh))
    np.testing.assert_allclose(
        ours.transform(fresh), theirs.transform(fresh), rtol=1e-9, atol=1e-9
    )
    v = None if w is None else np.random.default_rng(d + 1).exponential(size=200)
    np.testing.assert_allclose(
        ours.score(fresh, sample_weight=v),
        theirs.score(fresh, sample_weight=v),
        rtol=1e-10,
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_dtypes_are_scikit_learns(dtype):
    X = blobs(300, 3, 3, seed=1).astype(dtype)
    ours, theirs = (
        kind(3, init=start(X, 3), n_init=1).fit(X) for kind in (KMeans, SklearnKMeans)
    )
    assert type(ours.inertia_) is type(theirs.inertia_)
    assert type(ours.n_iter_) is type(theirs.n_iter_)
    assert type(ours.score(X)) is type(theirs.score(X))
    for name in ("cluster_centers_", "labels_"):
        got, want = getattr(ours, name), getattr(theirs, name)
        assert (got.dtype, got.shape) == (want.dtype, want.shape), name
    for method in ("predict", "transform"):
        got, want = getattr(ours, method)(X), getattr(theirs, method)(X)
        assert (got.dtype, got.shape) == (want.dtype, want.shape), method


def test_float32_far_from_the_origin():
    """Squared norms of 1e4 ** 2 swallow the distances if nothing is centred."""
    X = blobs(600, 3, 3, seed=2, spread=6.0)
    far = (X + 1e4).astype(np.float32)
    ours = KMeans(3, init=start(far, 3), n_init=1).fit(far)
    labels, _, inertia = oracle.run(
        far.astype(float), start(far, 3).astype(float), ours.n_iter_
    )
    np.testing.assert_array_equal(ours.labels_, labels)
    np.testing.assert_allclose(ours.inertia_, inertia, rtol=1e-4)


class TestNearestByFloat32:
    """Float64 rows are compared in float32 first; what that cannot tell, again."""

    @staticmethod
    def check(X, centers, left_out=()):
        """One step counts and sums the rows that differences in float64 assign."""
        weight = np.ones(len(X))
        weight[list(left_out)] = 0
        frame = centers_frame(centers, X.dtype)
        got = e_step(Centers(centers, frame), X, weight)
        labels = oracle.squared_distances(X, centers).argmin(axis=1)
        np.testing.assert_array_equal(
            got.weight, np.bincount(labels, weight, minlength=len(centers))
        )
        for k in range(len(centers)):
            rows = frame.to_tile(X[(labels == k) & (weight > 0)])
            size = np.abs(rows).sum(axis=0).max(initial=1.0)
            np.testing.assert_allclose(got.sums[k], rows.sum(axis=0), atol=1e-13 * size)

    @pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-6])
    @pytest.mark.parametrize("d", [5, 16, 41])
    def test_centres_that_float32_does_not_tell_apart(self, d, gap):
        rng = np.random.default_rng(0)
        centers = np.repeat(rng.normal(size=(5, d)), 2, axis=0)
        centers[::2, -1] += gap
        X = centers[rng.integers(10, size=900)]
        # Some of the rows are in doubt, or all of a tile.
        X[300:] += rng.normal(size=(600, d))
        X[300:, -1] += rng.choice([-1, 1], size=600)
        self.check(X, centers)

    def test_rows_beyond_float32(self):
        rng = np.random.default_rng(0)
        centers = rng.normal(scale=4.0, size=(6, 9))
        X = centers[rng.integers(6, size=700)] + rng.normal(size=(700, 9))
        X[3], X[300] = 1e25, -1e60
        self.check(X, centers, left_out=[3, 300])

    @pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e140])
    def test_scales_beyond_float32(self, scale):
        rng = np.random.default_rng(0)
        centers = rng.normal(scale=4.0, size=(6, 9))
        X = centers[rng.integers(6, size=700)] + rng.normal(size=(700, 9))
        got, want = (
            e_step(Centers(c, centers_frame(c, X.dtype)), x, np.full(700, 1e10))
            for x, c in ((X * scale, centers * scale), (X, centers))
        )
        np.testing.assert_array_equal(got.weight, want.weight)
        assert np.isfinite(got.sums).all()

    def test_the_first_of_equal_centres(self):
        rng = np.random.default_rng(0)
        centers = rng.normal(scale=4.0, size=(3, 16))[[0, 1, 1, 2, 0]]
        X = centers[rng.integers(5, size=700)] + rng.normal(size=(700, 16))
        self.check(X, centers)


class TestFit:
    def test_labels_are_those_of_predict(self):
        X = blobs(700, 3, 6, seed=3, spread=1.0)
        for max_iter in (1, 2, 300):
            model = KMeans(6, random_state=0, max_iter=max_iter).fit(X)
            assert_same_bits(model.labels_, model.predict(X))
            np.testing.assert_allclose(model.score(X), -model.inertia_, rtol=1e-12)

    def test_fit_predict_and_fit_transform(self):
        X = blobs(300, 3, 4, seed=4)
        model = KMeans(4, random_state=0).fit(X)
        assert_same_bits(KMeans(4, random_state=0).fit_predict(X), model.labels_)
        assert_same_bits(KMeans(4, random_state=0).fit_transform(X), model.transform(X))

    @pytest.mark.parametrize("init", ["k-means++", "random"])
    def test_more_starts_never_end_worse(self, init):
        X = blobs(400, 2, 8, seed=5, spread=2.0)
        for seed in range(4):
            inertias = [
                KMeans(8, init=init, n_init=n, random_state=seed).fit(X).inertia_
                for n in (1, 3, 6)
            ]
            assert inertias == sorted(inertias, reverse=True)

    @pytest.mark.parametrize(
        ("init", "n_starts"), [("k-means++", 1), ("random", 10)], ids=str
    )
    def test_n_init_auto(self, init, n_starts):
        X = blobs(400, 2, 8, seed=6, spread=2.0)
        auto = KMeans(8, init=init, random_state=0).fit(X)
        want = KMeans(8, init=init, n_init=n_starts, random_state=0).fit(X)
        assert_same_bits(auto.cluster_centers_, want.cluster_centers_)

    def test_an_array_of_centers_allows_one_start(self):
        X = blobs(300, 2, 3, seed=7)
        with pytest.warns(RuntimeWarning, match="only one init"):
            KMeans(3, init=start(X, 3), n_init=4).fit(X)

    def test_callable_init(self):
        X = blobs(300, 2, 3, seed=8)
        calls = []

        def init(X, n_clusters, random_state):
            calls.append((X.shape, n_clusters))
            return start(np.asarray(X), n_clusters)

        model = KMeans(3, init=init, n_init=2, random_state=0).fit(X)
        assert calls == [(X.shape, 3)] * 2
        want = KMeans(3, init=start(X, 3), n_init=1).fit(X)
        np.testing.assert_allclose(
            model.cluster_centers_, want.cluster_centers_, **CLOSE
        )

    def test_fit_leaves_arguments_alone(self):
        X = blobs(300, 2, 3, seed=9) + 100
        w = np.arange(300.0)
        centers = start(X, 3)
        before = pickle.dumps((X, w, centers))
        for copy_x in (True, False):
            KMeans(3, init=centers, n_init=1, copy_x=copy_x).fit(X, sample_weight=w)
            assert pickle.dumps((X, w, centers)) == before

    def test_well_apart_clusters_are_found(self):
        X = blobs(900, 4, 5, seed=10, spread=30.0)
        ours, theirs = (
            kind(5, random_state=0, n_init=5).fit(X) for kind in (KMeans, SklearnKMeans)
        )
        np.testing.assert_allclose(ours.inertia_, theirs.inertia_, rtol=1e-9)

    def test_random_state(self):
        X = blobs(400, 3, 8, seed=11, spread=1.0)
        params = {"n_clusters": 8, "n_init": 1, "max_iter": 1}
        fits = [
            quiet_fit(KMeans(random_state=seed, **params), X).cluster_centers_
            for seed in (1, 1, np.random.RandomState(1), 2)
        ]
        assert_same_bits(fits[0], fits[1])
        assert_same_bits(fits[0], fits[2])
        assert not np.array_equal(fits[0], fits[3])


class TestEmptyClusters:
    def test_are_relocated_like_scikit_learns(self):
        """A centre that no row is nearest to moves to the farthest row."""
        X = blobs(200, 2, 2, seed=12)
        centers = np.vstack([X[:2], [[1e3, 1e3]]])
        for max_iter in (1, 300):
            ours, theirs = (
                quiet_fit(kind(3, init=centers, n_init=1, max_iter=max_iter), X)
                for kind in (KMeans, SklearnKMeans)
            )
            assert_same_bits(ours.labels_, theirs.labels_)
            np.testing.assert_allclose(
                ours.cluster_centers_, theirs.cluster_centers_, **CLOSE
            )
        assert set(ours.labels_) == {0, 1, 2}

    def test_several_at_once(self):
        X = blobs(200, 2, 2, seed=13)
        far = 1e3 + np.arange(6.0).reshape(3, 2)
        model = KMeans(5, init=np.vstack([X[:2], far]), n_init=1).fit(X)
        assert set(model.labels_) == set(range(5))
        labels, _, inertia = oracle.run(X, model.cluster_centers_, 0)
        np.testing.assert_array_equal(model.labels_, labels)
        np.testing.assert_allclose(model.inertia_, inertia, rtol=1e-11)

    def test_weightless_rows_attract_nothing(self):
        """The farthest row is no place for a centre if it weighs nothing."""
        X = np.vstack([blobs(100, 2, 2, seed=14), [[1e4, -1e4]]])
        w = np.append(np.ones(100), 0.0)
        centers = np.vstack([X[:2], [[-1e3, 1e3]]])
        model = quiet_fit(KMeans(3, init=centers, n_init=1), X, sample_weight=w)
        assert np.abs(model.cluster_centers_).max() < 1e3

    @pytest.mark.parametrize("init", ["k-means++", "random"])
    @pytest.mark.parametrize("n_distinct", [1, 2, 4])
    def test_fewer_distinct_rows_than_clusters(self, init, n_distinct):
        distinct = blobs(n_distinct, 3, 1, seed=15)
        X = np.repeat(distinct, 20, axis=0)
        model = KMeans(5, init=init, n_init=2, random_state=0)
        with pytest.warns(
            ConvergenceWarning, match=rf"distinct clusters \({n_distinct}\).*\(5\)"
        ):
            model.fit(X)
        assert np.all(np.isfinite(model.cluster_centers_))
        # Every row sits on its centre, but for the rounding of a mean of twenty.
        assert model.inertia_ < 1e-26 * len(X)
        assert len(set(model.labels_)) == n_distinct
        for row in distinct:
            nearest = oracle.squared_distances(row[None], model.cluster_centers_).min()
            assert nearest < 1e-26


class TestSeeding:
    @pytest.mark.parametrize("init_params", ["k-means++", "random_from_data"])
    def test_the_first_row_is_drawn_by_weight(self, init_params):
        """Through a mixture of one component, whose start is the row drawn."""
        X = np.arange(4.0)[:, None] * 10
        w = np.array([1.0, 0.0, 2.0, 5.0])
        model = GaussianMixture(1, init_params=init_params, max_iter=0)
        n_draws = 400
        rows = [
            round(model.set_params(random_state=seed).fit(X, None, w).means_[0, 0])
            for seed in range(n_draws)
        ]
        counts = np.bincount(np.array(rows) // 10, minlength=4)
        assert counts[1] == 0
        want = n_draws * oracle.seeding_probabilities(X, X[:0], w)
        # A fair draw fails this once in ten thousand times; the seeds are fixed.
        drawn = [0, 2, 3]
        assert stats.chisquare(counts[drawn], want[drawn]).pvalue > 1e-4

    def seedings(self, X, n_clusters, n_draws, init, sample_weight=None):
        """Centres one iteration after each of several seedings."""
        for seed in range(n_draws):
            model = KMeans(
                n_clusters, init=init, n_init=1, max_iter=1, random_state=seed
            )
            yield quiet_fit(model, X, sample_weight=sample_weight).cluster_centers_

    def test_kmeans_plus_plus_puts_a_center_in_each_cluster(self):
        """A hundred deviations apart, missing one has a chance of about 1e-4."""
        X = blobs(300, 2, 6, seed=16, spread=100.0)
        best = KMeans(6, n_init=10, random_state=0).fit(X).inertia_
        for centers in self.seedings(X, 6, 20, "k-means++"):
            assert oracle.potential(X, centers) < 1.5 * best

    @pytest.mark.parametrize("init", ["k-means++", "random"])
    def test_rows_without_weight_are_never_drawn(self, init):
        X = np.vstack([blobs(50, 2, 2, seed=17), np.full((50, 2), 1e3)])
        w = np.repeat([1.0, 0.0], 50)
        for centers in self.seedings(X, 3, 20, init, w):
            assert np.abs(centers).max() < 100


class TestFace:
    @pytest.mark.parametrize(
        "name",
        [
            name
            for name, member in inspect.getmembers(SklearnKMeans, callable)
            if not name.startswith("_") or name == "__init__"
        ],
    )
    def test_signatures(self, name):
        ours, theirs = (
            inspect.signature(getattr(kind, name)).parameters.values()
            for kind in (KMeans, SklearnKMeans)
        )
        names = {p.name for p in theirs}
        added = [p for p in ours if p.name not in names]
        assert {p.name for p in added} <= {"checkpoint", "out"}
        assert all(p.kind is p.KEYWORD_ONLY for p in added)
        described = [(p.name, p.kind, p.default) for p in ours if p.name in names]
        assert described == [(p.name, p.kind, p.default) for p in theirs]

    def test_params_and_attributes(self):
        X = blobs(200, 3, 3, seed=18)
        ours, theirs = KMeans(3, random_state=0), SklearnKMeans(3, random_state=0)
        assert ours.get_params() == theirs.get_params()
        assert repr(ours) == repr(theirs)
        ours.fit(X)
        theirs.fit(X)
        public = {name for name in vars(theirs) if not name.startswith("_")}
        assert public <= set(vars(ours))
        np.testing.assert_array_equal(
            ours.get_feature_names_out(), theirs.get_feature_names_out()
        )

    @pytest.mark.parametrize(
        "params",
        [
            {"n_clusters": 0},
            {"init": "guess"},
            {"n_init": 0},
            {"max_iter": 0},
            {"tol": -1.0},
            {"algorithm": "hamerly"},
        ],
        ids=str,
    )
    def test_wrong_parameters(self, params):
        with pytest.raises(ValueError, match=next(iter(params))):
            KMeans(**params).fit(blobs(50, 2, 2))

    def test_wrong_centers(self):
        X = blobs(50, 2, 2)
        with pytest.raises(ValueError, match=r"init.*\(3, 2\).*\(2, 2\)"):
            KMeans(3, init=X[:2], n_init=1).fit(X)
        with pytest.raises(ValueError, match=r"init.*\(3, 2\).*\(3, 1\)"):
            KMeans(3, init=X[:3, :1], n_init=1).fit(X)

    @pytest.mark.parametrize("method", ["predict", "transform", "score"])
    def test_not_fitted(self, method):
        with pytest.raises(NotFittedError, match="KMeans"):
            getattr(KMeans(2), method)(blobs(50, 2, 2))

    def test_clone_pickle_pipeline_and_frames(self):
        X = blobs(300, 3, 3, seed=19)
        model = KMeans(3, random_state=0).fit(X)
        copy = pickle.loads(pickle.dumps(model))
        assert_same_bits(copy.predict(X), model.predict(X))
        assert_same_bits(clone(model).fit(X).cluster_centers_, model.cluster_centers_)
        pipeline = make_pipeline(StandardScaler(), KMeans(3, random_state=0)).fit(X)
        assert pipeline.transform(X).shape == (300, 3)
        frame = pd.DataFrame(X, columns=list("abc"))
        named = KMeans(3, random_state=0).fit(frame)
        assert list(named.feature_names_in_) == list("abc")
        assert_same_bits(named.labels_, model.labels_)

    def test_verbose(self, capsys):
        X = blobs(200, 2, 3, seed=20)
        printed = []
        for kind in (KMeans, SklearnKMeans):
            kind(3, init=start(X, 3), n_init=1, verbose=1).fit(X)
            printed.append(capsys.readouterr().out)
        ours, theirs = (
            [line.split(",")[0] for line in p.splitlines()] for p in printed
        )
        assert ours == theirs
