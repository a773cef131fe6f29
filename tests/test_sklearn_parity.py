"""fastem.GaussianMixture wears the face of scikit-learn's, and computes the same."""

import inspect
import pickle
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastem import GaussianMixture, KMeans

from .common import (
    COVARIANCE_TYPES,
    INIT_PARAMS,
    PARAMETERS,
    assert_same_bits,
    assert_same_fit,
    blobs,
    fit,
    random_params,
    start_from,
    unconverged,
)

pytestmark = pytest.mark.usefixtures("one_thread")

# Both sum the same few hundred products in another order; a dozen iterations carry
# that on. scikit-learn's tied and diagonal covariances subtract squared means, which
# costs it another digit or two on data a few deviations from the origin.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


# scikit-learn lists the same exception for its own KMeans: the check shuffles the rows
# as well, and which rows a seed draws goes by their order. test_laws.py holds seeding
# to weights without the shuffle.
SHUFFLED = {"check_sample_weight_equivalence_on_dense_data": "draws go by row order"}


@parametrize_with_checks(
    [
        *(GaussianMixture(covariance_type=kind) for kind in COVARIANCE_TYPES),
        *(GaussianMixture(init_params=init) for init in INIT_PARAMS),
        KMeans(),
        KMeans(init="random"),
    ],
    expected_failed_checks=lambda e: SHUFFLED if isinstance(e, KMeans) else {},
)
@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_estimator_checks(estimator, check):
    check(estimator)


def both(**params):
    return GaussianMixture(**params), SklearnMixture(**params)


def fitted_pair(X, covariance_type, **params):
    """fastem and scikit-learn from one start on the same rows."""
    start = random_params(X, 3, covariance_type, seed=1)
    models = both(**start_from(start, covariance_type), **params)
    return tuple(fit(model, X) for model in models)


@pytest.fixture(scope="module")
def X():
    return blobs(411, 4, 3, seed=11, spread=2.0)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
class TestSameStart:
    @pytest.mark.parametrize(
        "params",
        [
            {},
            {"max_iter": 1},
            {"max_iter": 7, "tol": 0.0},
            {"tol": 1e-6, "max_iter": 400},
            {"reg_covar": 0.1, "tol": 1e-5},
        ],
        ids=str,
    )
    def test_fit(self, X, covariance_type, params):
        ours, theirs = fitted_pair(X, covariance_type, **params)
        assert ours.n_iter_ == theirs.n_iter_
        assert ours.converged_ == theirs.converged_
        for name in (*PARAMETERS, "lower_bounds_", "lower_bound_"):
            np.testing.assert_allclose(
                getattr(ours, name), getattr(theirs, name), err_msg=name, **CLOSE
            )

    def test_predictions_and_scores(self, X, covariance_type):
        ours, theirs = fitted_pair(X, covariance_type, max_iter=5, tol=0.0)
        fresh = blobs(100, 4, 3, seed=12, spread=2.0)
        for data in (X, fresh):
            assert_same_bits(ours.predict(data), theirs.predict(data))
            for method in ("predict_proba", "score_samples", "score", "bic", "aic"):
                got, want = getattr(ours, method)(data), getattr(theirs, method)(data)
                np.testing.assert_allclose(got, want, err_msg=method, **CLOSE)

    def test_scores_are_of_scikit_learns_types(self, X, covariance_type):
        models = fitted_pair(X, covariance_type)
        for method in ("score", "bic", "aic"):
            ours, theirs = (type(getattr(model, method)(X)) for model in models)
            assert ours is theirs, method

    def test_fit_predict(self, X, covariance_type):
        start = start_from(random_params(X, 3, covariance_type), covariance_type)
        ours, theirs = both(**start)
        labels = ours.fit_predict(X)
        assert_same_bits(labels, theirs.fit_predict(X))
        assert_same_bits(labels, ours.predict(X))

    def test_float32(self, X, covariance_type):
        ours, theirs = fitted_pair(
            X.astype(np.float32), covariance_type, max_iter=3, tol=0.0
        )
        # scikit-learn sums in float32 as well: three digits is what it has.
        for name in (*PARAMETERS, "lower_bounds_"):
            np.testing.assert_allclose(
                getattr(ours, name), getattr(theirs, name), rtol=5e-3, atol=5e-3
            )

    def test_warm_start_goes_on_where_it_stopped(self, X, covariance_type):
        start = start_from(random_params(X, 3, covariance_type), covariance_type)
        ours, theirs = both(**start, warm_start=True, max_iter=2, tol=0.0)
        for _ in range(3):
            fit(ours, X)
            fit(theirs, X)
            np.testing.assert_allclose(
                ours.lower_bounds_, theirs.lower_bounds_, **CLOSE
            )
            assert ours.n_iter_ == theirs.n_iter_ == 2
        at_once = fit(GaussianMixture(**start, max_iter=6, tol=0.0), X)
        for name in PARAMETERS:
            np.testing.assert_allclose(
                getattr(ours, name), getattr(at_once, name), **CLOSE
            )

    def test_warm_start_on_other_columns_is_refused(self, X, covariance_type):
        model = GaussianMixture(2, covariance_type=covariance_type, warm_start=True)
        model.fit(X)
        with pytest.raises(ValueError, match=r"features|columns|shape"):
            model.fit(X[:, :3])

    def test_attributes(self, X, covariance_type):
        ours, theirs = fitted_pair(X, covariance_type)
        public = {name for name in vars(theirs) if not name.startswith("_")}
        assert public <= set(vars(ours))
        for name in PARAMETERS:
            got, want = getattr(ours, name), getattr(theirs, name)
            assert (got.shape, got.dtype) == (want.shape, want.dtype), name
        assert isinstance(ours.converged_, bool)
        assert isinstance(ours.n_iter_, int)
        assert isinstance(ours.lower_bound_, float)
        assert len(ours.lower_bounds_) == ours.n_iter_
        assert ours.lower_bound_ == ours.lower_bounds_[-1]
        assert (ours.n_repairs_, ours.n_decreases_) == (0, 0)

    def test_max_iter_0_is_the_start(self, X, covariance_type):
        start = random_params(X, 3, covariance_type)
        model = GaussianMixture(**start_from(start, covariance_type), max_iter=0)
        model.fit(X)
        assert_same_bits(model.weights_, start.weights)
        assert_same_bits(model.means_, start.means)
        # Through an inversion and back, at condition numbers of about ten.
        np.testing.assert_allclose(model.covariances_, start.covariances, rtol=1e-12)
        assert model.n_iter_ == 0
        assert model.lower_bound_ == -np.inf
        assert len(model.lower_bounds_) == 0
        assert not model.converged_

    @pytest.mark.parametrize("init_params", INIT_PARAMS)
    @pytest.mark.parametrize("given", ["weights", "means", "precisions"])
    def test_part_of_a_start(self, X, covariance_type, init_params, given):
        start = start_from(random_params(X, 3, covariance_type), covariance_type)
        name = f"{given}_init"
        model = GaussianMixture(
            3,
            covariance_type=covariance_type,
            init_params=init_params,
            max_iter=0,
            random_state=0,
            **{name: start[name]},
        )
        model.fit(X)
        np.testing.assert_allclose(getattr(model, f"{given}_"), start[name], rtol=1e-12)

    def test_default_fits_reach_the_same_likelihood(self, covariance_type):
        X = blobs(900, 2, 4, seed=3, spread=12.0)
        ours, theirs = (
            kind(4, covariance_type=covariance_type, random_state=0, n_init=5).fit(X)
            for kind in (GaussianMixture, SklearnMixture)
        )
        # Well apart, every good start leads to one optimum, up to tol.
        np.testing.assert_allclose(ours.lower_bound_, theirs.lower_bound_, atol=1e-3)

    @pytest.mark.parametrize("n", [1, 2, 500])
    def test_sample(self, X, covariance_type, n):
        ours, theirs = fitted_pair(X, covariance_type)
        model = ours.set_params(random_state=5)
        rows, labels = model.sample(n)
        want_rows, want_labels = theirs.set_params(random_state=5).sample(n)
        assert (rows.shape, rows.dtype) == (want_rows.shape, want_rows.dtype)
        assert (labels.shape, labels.dtype) == (want_labels.shape, want_labels.dtype)
        for again, once in zip(model.sample(n), (rows, labels), strict=True):
            assert_same_bits(again, once)

    def test_samples_follow_the_mixture(self, X, covariance_type):
        model, _ = fitted_pair(X, covariance_type)
        rows, labels = model.set_params(random_state=6).sample(40_000)
        counts = np.bincount(labels, minlength=3)
        # Five deviations of a binomial proportion, and of a mean of n draws.
        np.testing.assert_allclose(counts / 40_000, model.weights_, atol=0.0125)
        for k in range(3):
            members = rows[labels == k]
            error = members.mean(axis=0) - model.means_[k]
            assert np.all(np.abs(error) < 5 * members.std(axis=0) / counts[k] ** 0.5)
        # The mean log-likelihood of a mixture's own sample knows all its parameters.
        scores = model.score_samples(rows)
        others = model.score_samples(model.set_params(random_state=7).sample(40_000)[0])
        assert (
            abs(scores.mean() - others.mean()) < 5 * scores.std() * (2 / 40_000) ** 0.5
        )


@pytest.mark.parametrize("verbose", [1, 2])
@pytest.mark.parametrize(
    "params",
    [{}, {"verbose_interval": 2}, {"max_iter": 3}, {"max_iter": 0}, {"n_init": 2}],
    ids=str,
)
def test_verbose_prints_what_scikit_learn_prints(capsys, X, verbose, params):
    printed = []
    start = start_from(random_params(X, 3, "full", seed=1), "full")
    if params.get("max_iter") == 0:
        # scikit-learn needs covariances then, which it takes from the data alone.
        del start["precisions_init"]
    for model in both(**start, **params, tol=1e-4, verbose=verbose):
        fit(model, X)
        text = capsys.readouterr().out
        printed.append(re.sub(r"time lapse \S+s", "time lapse s", text))
    ours, theirs = printed
    assert ours == theirs
    assert "Initialization" in ours


def test_silent_by_default(capsys, X):
    GaussianMixture(3, random_state=0).fit(X)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_stopping_early_warns_and_max_iter_0_does_not(X):
    model = GaussianMixture(3, max_iter=2, tol=0.0, random_state=0)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        model.fit(X)
    model.set_params(max_iter=0).fit(X)


class TestFace:
    @pytest.mark.parametrize(
        "name",
        [
            name
            for name, member in inspect.getmembers(SklearnMixture, callable)
            if not name.startswith("_") or name == "__init__"
        ],
    )
    def test_signatures_extend_scikit_learns(self, name):
        """Same names, order, kinds and defaults; only keywords may be added."""
        ours, theirs = (
            inspect.signature(getattr(kind, name)).parameters.values()
            for kind in (GaussianMixture, SklearnMixture)
        )
        names = {p.name for p in theirs}
        added = [p for p in ours if p.name not in names]
        added = [p for p in added if p.name != "sample_weight"]
        assert all(p.kind is p.KEYWORD_ONLY for p in added)
        assert all(p.default is not p.empty for p in added)
        described = [(p.name, p.kind, p.default) for p in ours if p.name in names]
        if name.startswith("set_"):
            described = [entry for entry in described if "sample_weight" not in entry]
        assert described == [(p.name, p.kind, p.default) for p in theirs]

    @pytest.mark.parametrize("method", ["fit", "fit_predict", "score", "bic", "aic"])
    def test_sample_weight_is_offered(self, method):
        parameters = inspect.signature(getattr(GaussianMixture, method)).parameters
        assert parameters["sample_weight"].default is None

    def test_get_and_set_params(self):
        ours, theirs = both()
        assert theirs.get_params().items() <= ours.get_params().items()
        ours.set_params(n_components=4, covariance_type="tied", tol=0.5)
        assert (ours.n_components, ours.covariance_type, ours.tol) == (4, "tied", 0.5)
        with pytest.raises(ValueError, match="no_such_parameter"):
            ours.set_params(no_such_parameter=1)

    def test_repr_shows_what_was_changed(self):
        assert repr(GaussianMixture(3, tol=0.1)) == repr(SklearnMixture(3, tol=0.1))

    @pytest.mark.parametrize(
        "params",
        [
            {"n_components": 0},
            {"n_components": 2.0},
            {"covariance_type": "block"},
            {"tol": -1e-3},
            {"reg_covar": -1.0},
            {"max_iter": -1},
            {"n_init": 0},
            {"init_params": "guess"},
            {"random_state": "seed"},
            {"warm_start": "yes"},
            {"verbose": -1},
            {"verbose_interval": 0},
        ],
        ids=str,
    )
    def test_wrong_parameters_get_the_same_message(self, X, params):
        messages = []
        for model in both(**params):
            with pytest.raises(ValueError, match=next(iter(params))) as caught:
                model.fit(X)
            messages.append(str(caught.value))
        # The options of a set come in any order.
        ours, theirs = (sorted(re.findall(r"[\w.-]+", text)) for text in messages)
        assert ours == theirs

    @pytest.mark.parametrize(
        "method", ["predict", "predict_proba", "score", "score_samples", "bic", "aic"]
    )
    def test_not_fitted(self, X, method):
        with pytest.raises(NotFittedError, match="GaussianMixture"):
            getattr(GaussianMixture(2), method)(X)

    def test_sample_needs_a_fit_and_a_count(self, X):
        with pytest.raises(NotFittedError, match="GaussianMixture"):
            GaussianMixture(2).sample()
        with pytest.raises(ValueError, match="n_samples"):
            GaussianMixture(2, random_state=0).fit(X).sample(0)

    def test_fit_leaves_arguments_alone(self, X):
        start = start_from(random_params(X, 3, "full"), "full")
        before = pickle.dumps((X, start))
        model = GaussianMixture(**start).fit(X)
        assert pickle.dumps((X, start)) == before
        for name in ("weights_init", "means_init", "precisions_init"):
            np.testing.assert_array_equal(getattr(model, name), start[name])

    def test_fitted_arrays_are_the_callers_own(self, X):
        """Writing into a fitted model must not reach the start it came from."""
        start = random_params(X, 3, "full")
        model = GaussianMixture(**start_from(start, "full"), max_iter=0).fit(X)
        want = start.means.copy()
        model.means_[:] = 0
        np.testing.assert_array_equal(start.means, want)

    def test_array_likes(self, X):
        want = GaussianMixture(2, random_state=0).fit(X)
        assert_same_fit(GaussianMixture(2, random_state=0).fit(X.tolist()), want)
        integers = np.round(X * 10).astype(np.int32)
        assert_same_fit(
            GaussianMixture(2, random_state=0).fit(integers),
            GaussianMixture(2, random_state=0).fit(integers.astype(float)),
        )


class TestNInit:
    @pytest.mark.parametrize("init_params", INIT_PARAMS)
    @pytest.mark.parametrize("seed", range(4))
    def test_more_starts_never_end_lower(self, X, init_params, seed):
        model = GaussianMixture(
            6, init_params=init_params, random_state=seed, tol=1e-4, max_iter=30
        )
        with unconverged():
            bounds = [
                model.set_params(n_init=n_init).fit(X).lower_bound_
                for n_init in (1, 2, 4)
            ]
        assert bounds == sorted(bounds)

    def test_starts_differ(self, X):
        model = GaussianMixture(
            6, init_params="random_from_data", max_iter=1, random_state=0
        )
        found = {fit(model.set_params(n_init=n), X).lower_bound_ for n in (1, 8)}
        assert len(found) == 2

    def test_a_given_start_is_used_each_time(self, X):
        start = start_from(random_params(X, 3, "full"), "full")
        assert_same_fit(
            GaussianMixture(**start, n_init=3).fit(X), GaussianMixture(**start).fit(X)
        )


@pytest.mark.parametrize("init_params", INIT_PARAMS)
def test_random_state(X, init_params):
    def mixture(random_state):
        return GaussianMixture(
            5, init_params=init_params, random_state=random_state, max_iter=0
        ).fit(X)

    assert_same_fit(mixture(3), mixture(3))
    assert_same_fit(mixture(3), mixture(np.random.RandomState(3)))
    assert not np.array_equal(mixture(3).means_, mixture(4).means_)
    shared = np.random.RandomState(3)
    assert not np.array_equal(mixture(shared).means_, mixture(shared).means_)


class TestAmongOtherTools:
    def test_pipeline(self, X):
        pipeline = make_pipeline(StandardScaler(), GaussianMixture(3, random_state=0))
        pipeline.fit(X, gaussianmixture__sample_weight=np.ones(len(X)))
        assert pipeline.predict(X).shape == (len(X),)
        assert pipeline.predict_proba(X).shape == (len(X), 3)
        alone = GaussianMixture(3, random_state=0).fit(
            StandardScaler().fit_transform(X)
        )
        np.testing.assert_allclose(pipeline.score(X), alone.lower_bound_, atol=1e-2)

    def test_grid_search(self):
        X = blobs(300, 2, 3, seed=4, spread=15.0)
        search = GridSearchCV(
            GaussianMixture(random_state=0, n_init=3), {"n_components": [1, 2, 3]}
        )
        assert search.fit(X).best_params_ == {"n_components": 3}

    def test_clone(self, X):
        model = GaussianMixture(3, covariance_type="diag", random_state=0).fit(X)
        copy = clone(model)
        assert copy.get_params() == model.get_params()
        assert not hasattr(copy, "means_")
        assert_same_fit(copy.fit(X), model)

    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_pickle(self, X, covariance_type):
        model = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(
            X
        )
        copy = pickle.loads(pickle.dumps(model))
        assert_same_fit(copy, model)
        assert_same_bits(copy.predict_proba(X), model.predict_proba(X))
        for got, want in zip(copy.sample(9), model.sample(9), strict=True):
            assert_same_bits(got, want)

    def test_data_frames(self, X):
        frame = pd.DataFrame(X, columns=list("abcd"))
        model = GaussianMixture(3, random_state=0).fit(frame)
        assert list(model.feature_names_in_) == list("abcd")
        assert model.n_features_in_ == 4
        plain = GaussianMixture(3, random_state=0).fit(X)
        assert not hasattr(plain, "feature_names_in_")
        assert_same_fit(model, plain)
        assert_same_bits(model.predict_proba(frame), plain.predict_proba(X))
        with pytest.raises(ValueError, match="feature names"):
            model.predict(frame[list("dcba")])
        with pytest.warns(UserWarning, match="valid feature names"):
            model.predict(X)

    def test_wrong_number_of_features(self, X):
        model = GaussianMixture(3, random_state=0).fit(X)
        for method in ("predict", "predict_proba", "score", "score_samples"):
            with pytest.raises(ValueError, match="expecting 4 features"):
                getattr(model, method)(X[:, :2])

    def test_weights_may_come_as_a_series(self, X):
        weights = np.linspace(0, 2, len(X))
        model = GaussianMixture(3, random_state=0)
        want = clone(model).fit(X, sample_weight=weights)
        index = np.arange(len(X))[::-1]
        got = clone(model).fit(X, sample_weight=pd.Series(weights, index=index))
        assert_same_fit(got, want)
