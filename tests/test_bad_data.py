"""Real data is degenerate. Finite rows, at least as many as components, always give a
finite model; anything else gives a ValueError that names what is wrong and where."""

import warnings
from typing import ClassVar

import numpy as np
import pytest

from fastem import GaussianMixture, KMeans
from fastem.exceptions import DegenerateComponentWarning, LikelihoodDecreaseWarning

from .common import (
    COVARIANCE_TYPES,
    INIT_PARAMS,
    PARAMETERS,
    assert_all_finite,
    assert_same_bits,
    blobs,
    fit,
    start_from,
)
from .reference import mixture as oracle

pytestmark = pytest.mark.usefixtures("one_thread")

N, D, K = 120, 3, 3


def healthy(seed=0):
    return blobs(N, D, K, seed=seed)


def collinear():
    X = healthy()
    X[:, 2] = 2 * X[:, 0] - X[:, 1]
    return X


def with_outlier(size):
    X = healthy()
    X[7] = [size, -size, size]
    return X


def tight_cluster():
    """A quarter of the rows all but identical: full of collapsing components."""
    X = healthy()
    X[: N // 4] = 1.0 + 1e-13 * X[: N // 4]
    return X


def unit_start(means, covariance_type):
    """A start from these means, of equal weights and unit covariances."""
    n_components, n_features = means.shape
    eye = np.eye(n_features)
    covariances = {
        "full": np.stack([eye] * n_components),
        "tied": eye,
        "diag": np.ones(means.shape),
        "spherical": np.ones(n_components),
    }[covariance_type]
    weights = np.full(n_components, 1 / n_components)
    return start_from(oracle.Params(weights, means, covariances), covariance_type)


FINITE = {
    "one row repeated": lambda: np.repeat(healthy()[:1], N, axis=0),
    "all zero": lambda: np.zeros((N, D)),
    "every row many times": lambda: np.repeat(healthy()[:8], N // 8, axis=0),
    "two distinct rows": lambda: np.repeat(healthy()[:2], N // 2, axis=0),
    "as many rows as components": lambda: healthy()[:K],
    "as many rows as components, equal": lambda: np.ones((K, D)),
    "constant column": lambda: healthy() * [1, 0, 1] + [0, 5, 0],
    "constant columns but one": lambda: healthy() * [0, 0, 1] + [7, 1e9, 0],
    "collinear": collinear,
    "all columns equal": lambda: np.repeat(healthy()[:, :1], D, axis=1),
    "fewer rows than columns": lambda: blobs(5, 8, 2),
    "integers": lambda: np.round(healthy()),
    "binary": lambda: (healthy() > 0).astype(float),
    "tight cluster": tight_cluster,
    "scale 1e-9": lambda: 1e-9 * healthy(),
    "scale 1e-120": lambda: 1e-120 * healthy(),
    "scale 1e120": lambda: 1e120 * healthy(),
    "mixed scales": lambda: healthy() * [1e-9, 1, 1e120],
    "mixed small scales": lambda: healthy() * [1e-120, 1e-9, 1],
    "outlier 1e9": lambda: with_outlier(1e9),
    "outlier 1e120": lambda: with_outlier(1e120),
    "1e8 from the origin": lambda: healthy() + 1e8,
    "1e15 from the origin": lambda: healthy() + 1e15,
    "1e8 and scale 1e-9": lambda: 1e-9 * healthy() + 1e8,
    "float32": lambda: healthy().astype(np.float32),
    "float32 1e4 from the origin": lambda: (healthy() + 1e4).astype(np.float32),
    "float32 1e7 from the origin": lambda: (healthy() + 1e7).astype(np.float32),
    "float32 scale 1e-9": lambda: (1e-9 * healthy()).astype(np.float32),
    "float32 scale 1e-30": lambda: (1e-30 * healthy()).astype(np.float32),
    "float32 scale 1e30": lambda: (1e30 * healthy()).astype(np.float32),
    "float32 outlier 1e9": lambda: with_outlier(1e9).astype(np.float32),
    "float32 constant column": lambda: (healthy() * [1, 0, 1]).astype(np.float32),
    "float32 two distinct rows": lambda: np.repeat(
        healthy()[:2].astype(np.float32), N // 2, axis=0
    ),
    "float32 scale 1e37": lambda: (1e37 * healthy()).astype(np.float32),
    "float32 integers": lambda: np.round(healthy()).astype(np.float32),
    "float32 binary": lambda: (healthy() > 0).astype(np.float32),
    "one column": lambda: healthy()[:, :1],
    "one constant column": lambda: np.full((N, 1), 3.0),
}


@pytest.mark.parametrize(("n_init", "reg_covar"), [(1, 1e-6), (3, 0.0)])
@pytest.mark.parametrize("init_params", INIT_PARAMS)
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("data", FINITE)
# Whether such fits converge and what they repair is not the question here; that no
# other warning passes is, for a RuntimeWarning is a number gone wrong.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::fastem.exceptions.DegenerateComponentWarning")
def test_finite_data_gives_a_finite_model(
    data, covariance_type, init_params, n_init, reg_covar
):
    X = FINITE[data]()
    model = GaussianMixture(
        K,
        covariance_type=covariance_type,
        init_params=init_params,
        n_init=n_init,
        reg_covar=reg_covar,
        random_state=0,
        max_iter=15,
    )
    labels = model.fit_predict(X)
    assert_all_finite(model)
    assert np.all(np.isfinite(model.lower_bounds_))
    assert model.n_repairs_ >= 0
    np.testing.assert_allclose(model.weights_.sum(), 1, rtol=1e-12)
    assert model.weights_.min() >= 0
    if covariance_type in ("full", "tied"):
        assert np.diagonal(model.covariances_, axis1=-2, axis2=-1).min() > 0
        diagonal = np.diagonal(model.precisions_cholesky_, axis1=-2, axis2=-1)
        assert diagonal.min() > 0
    else:
        assert model.covariances_.min() > 0
    assert np.all(np.isfinite(model.score_samples(X)))
    gamma = model.predict_proba(X)
    rtol = 1e-12 if gamma.dtype == np.float64 else 1e-5
    np.testing.assert_allclose(gamma.sum(axis=1), 1, rtol=rtol)
    assert_same_bits(labels, model.predict(X))
    assert np.isfinite(model.bic(X))
    with warnings.catch_warnings():
        # NumPy's own generator complains of covariances that are near singular.
        warnings.filterwarnings("ignore", message="covariance is not")
        rows, _ = model.sample(10)
    assert np.all(np.isfinite(rows))


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::fastem.exceptions.DegenerateComponentWarning")
class TestWeightsOfAnySize:
    @pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
    def test_all_of_one_scale(self, covariance_type, scale):
        X = healthy()
        model = GaussianMixture(K, covariance_type=covariance_type, random_state=0)
        model.fit(X, sample_weight=np.full(N, scale))
        assert_all_finite(model)

    @pytest.mark.parametrize("init_params", INIT_PARAMS)
    def test_mixed(self, covariance_type, init_params):
        weights = 10.0 ** np.linspace(-200, 200, N)
        model = GaussianMixture(
            K, covariance_type=covariance_type, init_params=init_params, random_state=0
        )
        model.fit(healthy(), sample_weight=weights)
        assert_all_finite(model)

    @pytest.mark.parametrize("init_params", INIT_PARAMS)
    def test_few_rows_of_enough_weight(self, covariance_type, init_params):
        """Two rows of weight two are four rows, of which two are distinct."""
        weights = np.zeros(N)
        weights[[3, 50]] = 2.0
        model = GaussianMixture(
            K, covariance_type=covariance_type, init_params=init_params, random_state=0
        )
        model.fit(healthy(), sample_weight=weights)
        assert_all_finite(model)

    def test_too_few_rows_with_weight(self, covariance_type):
        """Rows of weight zero are absent, so two are left for three components."""
        weights = np.zeros(N)
        weights[[3, 50]] = 1.0
        model = GaussianMixture(K, covariance_type=covariance_type)
        with pytest.raises(ValueError, match="n_components = 3, n_samples = 2"):
            model.fit(healthy(), sample_weight=weights)


class TestOffsets:
    """What a degenerate frame must not cost in accuracy."""

    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    @pytest.mark.parametrize(
        ("offset", "dtype", "tolerance"),
        [
            # The rows themselves are rounded: to 1e-10, 7e-9 and 5e-4 of a deviation.
            (1e6, np.float64, 1e-6),
            (1e8, np.float64, 1e-6),
            (1e4, np.float32, 1e-2),
        ],
    )
    def test_far_from_the_origin(self, covariance_type, offset, dtype, tolerance):
        X = blobs(600, D, K, seed=3, spread=4.0)
        near, far = (
            fit(
                GaussianMixture(
                    K,
                    covariance_type=covariance_type,
                    init_params="k-means++",
                    random_state=0,
                    max_iter=20,
                    tol=0.0,
                ),
                data,
            )
            for data in (X, (X + offset).astype(dtype))
        )
        np.testing.assert_allclose(
            far.covariances_, near.covariances_, rtol=tolerance, atol=tolerance
        )

    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_an_outlier_leaves_the_others_alone(self, covariance_type):
        """A component takes the outlier; the rest is fitted as if it were absent."""
        X = blobs(400, D, 2, seed=4, spread=6.0)
        outlier = np.full((1, D), 1e9)
        params = {"tol": 1e-9, "max_iter": 500}
        alone = GaussianMixture(**unit_start(X[:2], covariance_type), **params).fit(X)
        means = np.vstack([X[:2], outlier])
        both = GaussianMixture(**unit_start(means, covariance_type), **params)
        with warnings.catch_warnings():
            # With its one row, the third component collapses.
            warnings.simplefilter("ignore", DegenerateComponentWarning)
            both.fit(np.vstack([X, outlier]))
        np.testing.assert_allclose(both.means_[2], outlier[0], rtol=1e-9)
        # A shared covariance is one row's share, 1 / 401, too small, of zero spread.
        tolerance = 5e-2 if covariance_type == "tied" else 1e-4
        np.testing.assert_allclose(both.means_[:2], alone.means_, atol=tolerance)


class TestRepair:
    PARAMS: ClassVar = {"reg_covar": 0.0, "tol": 1e-6, "max_iter": 300}

    def collapsing(self, covariance_type="full", **params):
        """Forty rows in one place, which a component of its own settles on."""
        X = np.vstack([healthy(), np.full((40, D), 25.0)])
        start = unit_start(np.vstack([X[:2], X[-1:]]), covariance_type)
        return X, GaussianMixture(**start, **self.PARAMS, **params)

    @pytest.mark.parametrize("n_init", [1, 3])
    @pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
    def test_collapse_is_counted_and_warned_of_once(self, covariance_type, n_init):
        X, model = self.collapsing(covariance_type, n_init=n_init)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X)
        repairs = [w for w in caught if w.category is DegenerateComponentWarning]
        assert len(repairs) == 1
        assert repairs[0].filename == __file__
        assert isinstance(model.n_repairs_, int)
        assert model.n_repairs_ == 1
        assert_all_finite(model)
        np.testing.assert_allclose(model.means_[2], 25.0, rtol=1e-9)
        np.testing.assert_allclose(model.weights_[2], 40 / (N + 40), rtol=1e-9)

    def test_collapse_leaves_the_healthy_components_alone(self):
        X, model = self.collapsing()
        with pytest.warns(DegenerateComponentWarning):
            model.fit(X)
        alone = GaussianMixture(**unit_start(X[:2], "full"), **self.PARAMS).fit(X[:N])
        np.testing.assert_allclose(model.means_[:2], alone.means_, atol=1e-6)
        np.testing.assert_allclose(
            model.covariances_[:2], alone.covariances_, atol=1e-6
        )

    def emptied(self, covariance_type):
        """A component that starts a thousand deviations from every row."""
        X = healthy()
        means = np.array([X.mean(axis=0), np.full(D, 1e4)])
        return X, GaussianMixture(**unit_start(means, covariance_type))

    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_an_emptied_component_stays_where_it_was(self, covariance_type):
        X, model = self.emptied(covariance_type)
        with pytest.warns(DegenerateComponentWarning) as caught:
            model.fit(X)
        assert len(caught) == 1
        assert model.n_repairs_ == 1
        assert_all_finite(model)
        np.testing.assert_array_equal(model.means_[1], 1e4)
        np.testing.assert_allclose(model.weights_, [1, 0], atol=1e-12)
        if covariance_type != "tied":
            one = {"full": np.eye(D), "diag": np.ones(D), "spherical": 1.0}
            want = one[covariance_type]
            np.testing.assert_allclose(model.covariances_[1], want, rtol=1e-12)
        np.testing.assert_allclose(model.means_[0], X.mean(axis=0), atol=1e-9)

    def test_healthy_data_repairs_nothing(self):
        for covariance_type in COVARIANCE_TYPES:
            model = GaussianMixture(K, covariance_type=covariance_type, random_state=0)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                model.fit(blobs(600, D, K, seed=1, spread=6.0))
            assert model.n_repairs_ == 0

    def test_a_warning_can_be_made_an_error_without_losing_the_fit(self):
        """The model is complete before it complains."""
        X, model = self.collapsing()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(DegenerateComponentWarning):
                model.fit(X)
        assert_all_finite(model)

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    @pytest.mark.filterwarnings("ignore::fastem.exceptions.DegenerateComponentWarning")
    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_one_bad_start_never_loses_the_good_ones(self, covariance_type):
        """The best of the starts, each fitted alone, is what n_init finds."""
        X = np.vstack([healthy(), np.full((40, D), 25.0)])
        params = {
            "n_components": 4,
            "covariance_type": covariance_type,
            "init_params": "random_from_data",
            "max_iter": 30,
        }
        shared = np.random.RandomState(0)
        alone = [
            GaussianMixture(random_state=shared, **params).fit(X) for _ in range(5)
        ]
        together = GaussianMixture(random_state=0, n_init=5, **params).fit(X)
        # A collapsed component makes any likelihood; whole models come first.
        best = max(alone, key=lambda m: (m.n_repairs_ == 0, m.lower_bound_))
        for name in PARAMETERS:
            assert_same_bits(getattr(together, name), getattr(best, name))
        assert together.n_repairs_ == best.n_repairs_


class TestLikelihoodDecrease:
    def shrunken(self):
        """Rows of scale 1e-3 under a reg_covar of one: the first M-step, far from
        maximising the likelihood, lowers it by some twenty nats."""
        X = 1e-3 * healthy()
        return X, GaussianMixture(
            1,
            weights_init=[1.0],
            means_init=X.mean(axis=0, keepdims=True),
            precisions_init=[np.linalg.inv(np.cov(X.T))],
            reg_covar=1.0,
        )

    def test_is_reported(self):
        X, model = self.shrunken()
        with pytest.warns(LikelihoodDecreaseWarning) as caught:
            model.fit(X)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert isinstance(model.n_decreases_, int)
        assert model.n_decreases_ == 1
        bounds = model.lower_bounds_
        assert bounds[1] < bounds[0] - 10

    def test_rounding_is_not_reported(self):
        """Hundreds of iterations at the optimum go up and down by rounding alone."""
        model = GaussianMixture(K, random_state=0, tol=0.0, max_iter=300, reg_covar=0)
        fit(model, blobs(2000, D, K, seed=5, spread=6.0))
        assert model.n_decreases_ == 0

    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_rounding_of_ill_conditioned_covariances_is_not_reported(
        self, covariance_type
    ):
        """One component is at its optimum at once; with fewer rows than columns the
        default reg_covar leaves a condition number of 1e6, and six digits fewer."""
        X = np.random.default_rng(0).random((15, 30))
        model = GaussianMixture(covariance_type=covariance_type, tol=0.0, max_iter=9)
        fit(model, X)
        assert np.ptp(model.lower_bounds_) < 1e-9
        assert model.n_decreases_ == 0


X_OK = healthy()


def altered(row, column, value):
    X = healthy()
    X[row, column] = value
    return X


class TestRefused:
    @pytest.mark.parametrize(
        ("value", "name"),
        [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")],
    )
    @pytest.mark.parametrize("estimator", [GaussianMixture(2), KMeans(2)])
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_non_finite_rows(self, estimator, value, name, dtype):
        X = altered(17, 2, value).astype(dtype)
        X[90, 0] = value
        with pytest.raises(ValueError, match=rf"Input X contains {name}") as caught:
            estimator.fit(X)
        assert "row 17, column 2" in str(caught.value)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("method", ["predict", "predict_proba", "score", "bic"])
    def test_non_finite_rows_of_other_methods(self, method, value):
        model = GaussianMixture(2, random_state=0).fit(X_OK)
        with pytest.raises(ValueError, match="row 17, column 2"):
            getattr(model, method)(altered(17, 2, value))

    @pytest.mark.parametrize(
        ("X", "message"),
        [
            (np.empty((0, 3)), "0 sample"),
            (np.empty((5, 0)), "0 feature"),
            (np.arange(9.0), "Expected 2D array, got 1D array"),
            (np.ones((4, 2, 2)), "dim 3"),
            ([["a", "b"], ["c", "d"]], "could not convert string to float"),
            (np.array([["a", 1], [2, 3]], dtype=object), "could not convert"),
            (X_OK + 1j, "Complex data not supported"),
            (X_OK[:1], "n_samples ?= ?1|1 sample"),
            (X_OK[:2], "n_samples ?= ?2"),
        ],
        ids=[
            "no rows",
            "no columns",
            "1-D",
            "3-D",
            "text",
            "objects",
            "complex",
            "one row",
            "fewer rows than components",
        ],
    )
    @pytest.mark.parametrize("estimator", [GaussianMixture(3), KMeans(3)])
    def test_shapes_and_types(self, estimator, X, message):
        with pytest.raises(ValueError, match=message):
            estimator.fit(X)

    def test_fewer_rows_than_components_names_both(self):
        with pytest.raises(ValueError, match="n_components = 9, n_samples = 5"):
            GaussianMixture(9).fit(X_OK[:5])

    def weights(self, **changes):
        weights = np.ones(N)
        for row, value in changes.items():
            weights[int(row[3:])] = value
        return weights

    @pytest.mark.parametrize(
        ("changes", "messages"),
        [
            ({"row11": -0.5}, ["sample_weight", "negative", "11"]),
            ({"row11": np.nan}, ["sample_weight", "NaN", "11"]),
            ({"row11": np.inf}, ["sample_weight", "infinity", "11"]),
        ],
    )
    @pytest.mark.parametrize("estimator", [GaussianMixture(2), KMeans(2)])
    @pytest.mark.parametrize("method", ["fit", "fit_predict"])
    def test_weights_name_the_row(self, estimator, method, changes, messages):
        with pytest.raises(ValueError, match="sample_weight") as caught:
            getattr(estimator, method)(X_OK, sample_weight=self.weights(**changes))
        for message in messages:
            assert message in str(caught.value).replace("Negative", "negative")

    @pytest.mark.parametrize(
        ("sample_weight", "message"),
        [
            (np.zeros(N), "zero"),
            (np.ones(N - 1), rf"\({N - 1},\).*{N}"),
            (np.ones((N, 2)), "1D"),
            (np.ones((N, 1)), "1D"),
            (["heavy"] * N, "could not convert"),
        ],
        ids=["all zero", "too few", "2-D", "a column", "text"],
    )
    @pytest.mark.parametrize("estimator", [GaussianMixture(2), KMeans(2)])
    def test_weights_as_a_whole(self, estimator, sample_weight, message):
        with pytest.raises(ValueError, match=message):
            estimator.fit(X_OK, sample_weight=sample_weight)

    @pytest.mark.parametrize("method", ["score", "bic", "aic"])
    @pytest.mark.parametrize(
        ("sample_weight", "message"),
        [
            (np.zeros(N), "zero"),
            (np.ones(N - 1), "sample_weight"),
            (-np.ones(N), "sample_weight"),
            (np.full(N, np.nan), "sample_weight"),
        ],
        ids=["all zero", "too few", "negative", "NaN"],
    )
    def test_weights_of_scores(self, method, sample_weight, message):
        model = GaussianMixture(2, random_state=0).fit(X_OK)
        with pytest.raises(ValueError, match=message):
            getattr(model, method)(X_OK, sample_weight=sample_weight)


NOT_POSITIVE = {
    "full": np.stack([np.eye(D), -np.eye(D)]),
    "tied": np.diag([1.0, 1.0, -1.0]),
    "diag": np.array([[1.0, 1, 1], [1, 0, 1]]),
    "spherical": np.array([1.0, 0.0]),
}
ASYMMETRIC = {
    "full": np.stack([np.eye(D), np.eye(D) + np.eye(D, k=1)]),
    "tied": np.eye(D) + np.eye(D, k=1),
}


class TestRefusedStarts:
    def refuse(self, message, covariance_type="full", **start):
        model = GaussianMixture(2, covariance_type=covariance_type, **start)
        with pytest.raises(ValueError, match=message) as caught:
            model.fit(X_OK)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ([0.5, 0.4], "weights_init.*sum 1.*0.9"),
            ([1.5, -0.5], "weights_init.*negative.*-0.5"),
            ([0.3, 0.3, 0.4], r"weights.*\(2,\).*\(3,\)"),
            ([[0.5, 0.5]], r"weights.*\(2,\).*\(1, 2\)"),
            ([0.5, np.nan], "NaN"),
        ],
        ids=["sum", "range", "length", "2-D", "NaN"],
    )
    def test_weights(self, weights, message):
        self.refuse(message, weights_init=weights)

    @pytest.mark.parametrize(
        ("means", "message"),
        [
            (X_OK[:3], r"means.*\(2, 3\).*\(3, 3\)"),
            (X_OK[:2, :2], r"means.*\(2, 3\).*\(2, 2\)"),
            (X_OK[0], r"means.*\(2, 3\).*\(3,\)"),
            (altered(0, 0, np.inf)[:2], "infinity"),
            ([["a"] * 3] * 2, "could not convert"),
        ],
        ids=["components", "features", "1-D", "infinite", "text"],
    )
    def test_means(self, means, message):
        self.refuse(message, means_init=means)

    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_shape_of_precisions(self, covariance_type):
        message = self.refuse(
            r"precisions_init.*\(7,\)", covariance_type, precisions_init=np.ones(7)
        )
        want = unit_start(X_OK[:2], covariance_type)["precisions_init"].shape
        assert str(want) in message

    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_precisions_must_be_positive_definite(self, covariance_type):
        self.refuse(
            f"{covariance_type} precision.*positive",
            covariance_type,
            precisions_init=NOT_POSITIVE[covariance_type],
        )

    @pytest.mark.parametrize("covariance_type", ASYMMETRIC)
    def test_precisions_must_be_symmetric(self, covariance_type):
        self.refuse(
            f"{covariance_type} precision.*symmetric",
            covariance_type,
            precisions_init=ASYMMETRIC[covariance_type],
        )


REFUSALS = {
    "NaN": (altered(3, 1, np.nan), None),
    "another number of columns and NaN": (altered(3, 1, np.nan)[:, :2], None),
    "too few rows": (X_OK[:1, :2], None),
    "1-D": (X_OK[:, 0], None),
    "negative weights": (X_OK[:, :2], -np.ones(N)),
    "weights too short": (X_OK[:, :2], np.ones(3)),
    "weights all zero": (X_OK[:, :2], np.zeros(N)),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("warm_start", [False, True])
def test_a_refused_fit_leaves_the_earlier_model(refusal, warm_start):
    model = GaussianMixture(2, random_state=0, warm_start=warm_start).fit(X_OK)
    before = {name: np.copy(getattr(model, name)) for name in PARAMETERS}
    labels = model.predict(X_OK)
    X, sample_weight = REFUSALS[refusal]
    with pytest.raises(ValueError):
        model.fit(X, sample_weight=sample_weight)
    for name, value in before.items():
        assert_same_bits(getattr(model, name), value)
    assert model.converged_
    assert model.n_features_in_ == D
    assert_same_bits(model.predict(X_OK), labels)


@pytest.mark.parametrize(
    "start",
    [
        {"weights_init": [0.5, 0.6]},
        {"means_init": np.ones((5, 5))},
        {"precisions_init": NOT_POSITIVE["full"]},
        {"n_components": 0},
        {"n_components": N + 1},
    ],
    ids=lambda start: next(iter(start)),
)
def test_refused_parameters_leave_the_earlier_model(start):
    model = GaussianMixture(2, random_state=0).fit(X_OK)
    before = {name: np.copy(getattr(model, name)) for name in PARAMETERS}
    with pytest.raises(ValueError):
        model.set_params(**start).fit(X_OK)
    for name, value in before.items():
        assert_same_bits(getattr(model, name), value)


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("data", FINITE)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_finite_data_gives_finite_centers(data, init):
    X = FINITE[data]()
    model = KMeans(K, init=init, n_init=2, random_state=0).fit(X)
    assert np.all(np.isfinite(model.cluster_centers_))
    assert np.isfinite(model.inertia_)
    assert np.all(np.isfinite(model.transform(X)))
    assert_same_bits(model.labels_, model.predict(X))
