"""Models that outlive their process: saved, pickled, and handed to scikit-learn."""

import io
import json
import os
import pickle
import zipfile

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn.cluster
import sklearn.mixture
from hmmlearn.hmm import GaussianHMM as HmmlearnGaussianHMM
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastem
from fastem.checkpoint import read_archive, write_archive
from fastem.estimators.hmm.monitor import ConvergenceMonitor
from fastem.estimators.persistence import (
    ESTIMATORS,
    NAMED_TUPLES,
    save,
)

from .common import COVARIANCE_TYPES, assert_same_bits, blobs, fit, unconverged
from .reference import chains as oracle
from .test_checkpoint import assert_equal_in_type
from .test_hmm_cases import ONE_OF_EACH, case, new_model
from .test_hmm_cases import fit as fit_hmm

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = blobs(120, 3, 3)
MIXTURES = [
    (covariance_type, dtype)
    for covariance_type in COVARIANCE_TYPES
    for dtype in (np.float32, np.float64)
]
HMMS = (*ONE_OF_EACH, "gaussian-tied", "gaussian-spherical", "gmm-tied")


def mixture(covariance_type="full", dtype=np.float64, **params):
    params = {"random_state": 0, "max_iter": 3, **params}
    model = fastem.GaussianMixture(3, covariance_type=covariance_type, **params)
    return fit(model, ROWS.astype(dtype))


def kmeans(dtype=np.float64, **params):
    return fastem.KMeans(3, random_state=0, **params).fit(ROWS.astype(dtype))


def hmm(kind, **params):
    """A fitted model and the rows it was fitted to."""
    _, X, _ = case(kind, 3, 2, [60], seed=1)
    params = {"random_state": 0, "n_iter": 2, **params}
    return fit_hmm(new_model(fastem, kind, 2, 3, **params), X), X


def assert_same_model(a, b):
    """Equal in all that they know, in type and to the last bit."""
    assert type(a) is type(b)
    ours, theirs = dict(vars(a)), dict(vars(b))
    for state in (ours, theirs):
        if "monitor_" in state:
            assert type(state["monitor_"]) is ConvergenceMonitor
            state["monitor_"] = vars(state["monitor_"])
        for name in ("random_state", "feature_names_in_"):
            value = state.get(name)
            if isinstance(value, np.random.RandomState):
                state[name] = value.get_state(legacy=False)
            if isinstance(value, np.ndarray):
                assert value.dtype == object
                state[name] = value.tolist()
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        assert_equal_in_type(theirs[name], value)


def assert_same_answers(a, b, X, methods):
    for method in methods:
        assert_same_bits(getattr(a, method)(X), getattr(b, method)(X))


@pytest.fixture
def saved(tmp_path):
    """Save a model and load it."""

    def saved(model):
        model.save(tmp_path / "model.npz")
        return fastem.load(tmp_path / "model.npz")

    return saved


def skopsed(model):
    """Through skops, trusting nothing but what is fastem's own."""
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(model)
    types = skops.get_untrusted_types(data=data)
    ours = (type(model), ConvergenceMonitor, *NAMED_TUPLES)
    assert set(types) <= {f"{kind.__module__}.{kind.__name__}" for kind in ours}
    return skops.loads(data, trusted=types)


def joblibbed(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


def pickled(model):
    return pickle.loads(pickle.dumps(model))


@pytest.fixture(params=["fastem", "pickle", "joblib", "skops"])
def kept(request, saved):
    """Take a model through a file and back, in each of the ways there are."""
    ways = {"pickle": pickled, "joblib": joblibbed, "skops": skopsed}
    return ways.get(request.param, saved)


class TestRoundTrips:
    @pytest.mark.parametrize(("covariance_type", "dtype"), MIXTURES)
    def test_mixtures(self, covariance_type, dtype, kept):
        model = mixture(covariance_type, dtype)
        copy = kept(model)
        assert_same_model(copy, model)
        methods = ("predict", "predict_proba", "score_samples", "score", "bic")
        assert_same_answers(copy, model, ROWS.astype(dtype), methods)
        assert_same_bits(copy.sample(9)[0], model.sample(9)[0])

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_kmeans(self, dtype, kept):
        model = kmeans(dtype)
        copy = kept(model)
        assert_same_model(copy, model)
        methods = ("predict", "transform", "score")
        assert_same_answers(copy, model, ROWS.astype(dtype), methods)

    @pytest.mark.parametrize("kind", HMMS)
    def test_hidden_markov_models(self, kind, kept):
        model, X = hmm(kind)
        copy = kept(model)
        assert_same_model(copy, model)
        methods = ("predict", "predict_proba", "score", "filter")
        assert_same_answers(copy, model, X, methods)
        assert copy.monitor_.status == model.monitor_.status
        assert_same_bits(fit_hmm(copy, X).transmat_, fit_hmm(model, X).transmat_)

    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_models_that_are_not_fitted(self, name, kept):
        model = getattr(fastem, name)()
        assert_same_model(kept(model), model)

    def test_parameters_of_every_sort(self, kept):
        model = fastem.GaussianMixture(
            np.int64(3),
            weights_init=(0.5, 0.25, 0.25),
            means_init=ROWS[:3].tolist(),
            precisions_init=np.asfortranarray(np.stack([np.eye(3)] * 3)),
            tol=np.float32(1e-3),
            random_state=np.random.RandomState(4),
        )
        copy = kept(model)
        assert_same_model(copy, model)
        assert_same_bits(fit(copy, ROWS).means_, fit(model, ROWS).means_)
        # Generators that went on alike.
        assert_same_bits(copy.random_state.uniform(), model.random_state.uniform())

    def test_fixed_entries_and_priors(self, kept):
        model = fastem.GMMHMM(
            2,
            2,
            fixed={"transmat": np.eye(2, dtype=bool), "startprob": [True, False]},
            covars_prior=[[1.0], [2.0]],
            tol=float("-inf"),
        )
        copy = kept(model)
        assert_same_model(copy, model)
        assert_same_model(clone(copy), model)

    def test_parameters_set_by_hand(self, kept):
        model = fastem.CategoricalHMM(2)
        model.startprob_, model.transmat_ = [0.6, 0.4], [[0.7, 0.3], [0.4, 0.6]]
        model.emissionprob_ = np.array([[0.1, 0.4, 0.5], [0.6, 0.3, 0.1]])
        copy = kept(model)
        assert_same_model(copy, model)
        assert copy.score([[0], [1], [2]]) == model.score([[0], [1], [2]])

    def test_column_names(self, kept):
        X = pd.DataFrame(ROWS, columns=["a", "Größe", "c"])
        copy = kept(fit(fastem.GaussianMixture(2, random_state=0), X))
        assert copy.feature_names_in_.tolist() == ["a", "Größe", "c"]
        copy.predict(X)
        with pytest.raises(ValueError, match="feature names"):
            copy.predict(X.rename(columns={"a": "z"}))

    def test_output_as_data_frames(self, kept):
        copy = kept(kmeans().set_output(transform="pandas"))
        assert list(copy.transform(ROWS).columns) == ["kmeans0", "kmeans1", "kmeans2"]

    def test_a_fit_goes_on(self, kept):
        model = mixture(warm_start=True)
        copy = kept(model)
        assert_same_model(fit(copy, ROWS), fit(model, ROWS))

    def test_a_fit_without_iterations(self, kept):
        model = mixture(max_iter=0)
        assert model.lower_bound_ == -np.inf
        assert_same_model(kept(model), model)

    def test_streams_go_on(self, kept):
        """Statistics of the past are a part of the model."""
        model = fastem.GaussianMixture(2, random_state=0).partial_fit(ROWS[:60])
        copy = kept(model)
        assert_same_model(copy.partial_fit(ROWS[60:]), model.partial_fit(ROWS[60:]))
        model, X = hmm("gaussian-diag")
        copy = kept(model)
        assert_same_model(copy.partial_fit(X), model.partial_fit(X))


class TestFiles:
    def test_numpy_reads_the_arrays(self, tmp_path):
        model = mixture()
        model.save(tmp_path / "m")
        with np.load(tmp_path / "m") as arrays:
            assert_same_bits(arrays["means_"], model.means_)

    def test_a_model_is_always_the_same_file(self, tmp_path):
        model, _ = hmm("gaussian-full")
        model.save(tmp_path / "a")
        fastem.load(tmp_path / "a").save(tmp_path / "b")
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    @pytest.mark.filterwarnings("error")
    def test_flipped_bytes(self, tmp_path):
        """Never a wrong model: an error, or the very same."""
        path = tmp_path / "m"
        model = mixture("diag")
        model.save(path)
        intact = path.read_bytes()
        rng = np.random.default_rng(0)
        for place in rng.choice(len(intact), 400, replace=False):
            damaged = bytearray(intact)
            damaged[place] ^= rng.integers(1, 256)
            path.write_bytes(damaged)
            try:
                copy = fastem.load(path)
            except ValueError as error:
                assert str(path) in str(error)
            else:
                assert_same_model(copy, model)

    def test_cut_short(self, tmp_path):
        mixture().save(tmp_path / "m")
        intact = (tmp_path / "m").read_bytes()
        (tmp_path / "m").write_bytes(intact[:-1])
        with pytest.raises(ValueError, match="cut short"):
            fastem.load(tmp_path / "m")

    def test_trouble_while_saving(self, tmp_path, monkeypatch):
        path, model = tmp_path / "m", mixture()
        model.save(path)

        def fail(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=r"model could not be written: No space"):
            kmeans().save(path)
        assert_same_model(fastem.load(path), model)

    def test_other_files(self, tmp_path):
        path = tmp_path / "x"
        with pytest.raises(FileNotFoundError):
            fastem.load(path)
        write_archive(path, "checkpoint", {}, {})
        with pytest.raises(ValueError, match="holds a checkpoint, not a model"):
            fastem.load(path)
        path.write_bytes(pickle.dumps(mixture()))
        with pytest.raises(ValueError, match="is no file of fastem"):
            fastem.load(path)


@pytest.fixture
def changed(tmp_path):
    """Load a model whose file was changed and written anew, checksums and all."""
    path = tmp_path / "m"

    def changed(model, change):
        model.save(path)
        arrays, meta = read_archive(path, "model")
        change(arrays, meta)
        write_archive(path, "model", arrays, meta)
        with pytest.raises(ValueError) as error:
            fastem.load(path)
        assert str(path) in str(error.value)
        return str(error.value)

    return changed


class TestFilesOfOthers:
    @pytest.mark.parametrize("name", ["warmup", "os.system", "StepwiseMixture", None])
    def test_only_estimators_are_made(self, changed, name):
        message = changed(mixture(), lambda arrays, meta: meta.update({"class": name}))
        assert f"it is of class {name}, which this fastem" in message

    def test_parameters_of_the_future(self, changed):
        def change(arrays, meta):
            meta["parameters"] |= {"wisdom": 3, "age": None}

        message = changed(kmeans(), change)
        assert "KMeans has the parameters age, wisdom" in message
        assert f"this fastem, {fastem.__version__}, does not know" in message

    @pytest.mark.parametrize("name", ["class", "parameters", "attributes"])
    def test_missing_entries(self, changed, name):
        assert name in changed(mixture(), lambda arrays, meta: meta.pop(name))

    @pytest.mark.parametrize("name", ["class", "parameters", "attributes"])
    @pytest.mark.parametrize("odd", [None, 3, ["means_"], {"means_": {}}])
    def test_odd_entries(self, changed, name, odd):
        assert changed(mixture(), lambda arrays, meta: meta.update({name: odd}))

    @pytest.mark.parametrize("name", ["means_", "random_state.state.key"])
    def test_missing_arrays(self, changed, name):
        model = mixture(random_state=np.random.RandomState(0))
        message = changed(model, lambda arrays, meta: arrays.pop(name))
        assert f"'{name}' is missing" in message

    @pytest.mark.parametrize(("covariance_type", "_"), MIXTURES[::2])
    @pytest.mark.parametrize(
        "name", ["weights_", "means_", "covariances_", "precisions_cholesky_"]
    )
    def test_arrays_of_other_shapes(self, changed, covariance_type, _, name):
        """Kernels would read beyond their ends."""

        def change(arrays, meta):
            arrays[name] = arrays[name][:-1]

        assert "has the shape" in changed(mixture(covariance_type), change)

    def test_other_numbers_of_columns(self, changed):
        def change(arrays, meta):
            meta["attributes"]["n_features_in_"] = 7

        assert "(3, 7)" in changed(mixture(), change)
        assert "(3, 7)" in changed(kmeans(), change)


class TestRefusals:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"means_init": pd.DataFrame(ROWS)}, "means_init is of type DataFrame"),
            ({"random_state": np.random.default_rng(0)}, "random_state is of type Gen"),
        ],
    )
    def test_parameters_that_are_no_arrays(self, tmp_path, params, message):
        model = fastem.GaussianMixture(**params)
        with pytest.raises(ValueError, match=f"GaussianMixture cannot .*{message}"):
            model.save(tmp_path / "m")
        assert os.listdir(tmp_path) == []

    def test_functions(self, tmp_path):
        model = fastem.KMeans(init=lambda X, k, random_state: X[:k])
        with pytest.raises(ValueError, match=r"init is of type function.*set_params"):
            model.save(tmp_path / "m")

    def test_estimators_of_others(self, tmp_path):
        class GaussianMixture(fastem.GaussianMixture):
            pass

        for model in (GaussianMixture(), sklearn.cluster.KMeans(), 3):
            with pytest.raises(
                ValueError, match=r"no estimator of fastem itself.*jobl"
            ):
                save(model, tmp_path / "m")

    def test_models_changed_after_the_fit(self, tmp_path):
        for kind in ("diag", "elliptic"):
            model = mixture("full").set_params(covariance_type=kind)
            with pytest.raises(ValueError, match=r"covariances_ has the shape \(3, 3,"):
                model.save(tmp_path / "m")


class Patient(ConvergenceMonitor):
    @property
    def converged(self):
        return self.iter == 4


class TestMonitors:
    @pytest.mark.parametrize(
        "monitor",
        [Patient(0.1, 10, False), HmmlearnGaussianHMM(n_iter=10, tol=0.1).monitor_],
        ids=["subclass", "hmmlearn's"],
    )
    def test_of_ones_own_become_plain(self, tmp_path, monitor):
        model, _ = hmm("gaussian-diag")
        for value in (-3.0, -2.0, -1.0):
            monitor.report(value)
        model.monitor_ = monitor
        with pytest.warns(UserWarning, match=f"a {type(monitor).__name__}; its") as w:
            model.save(tmp_path / "m")
        assert w[0].filename == __file__
        copy = fastem.load(tmp_path / "m").monitor_
        assert type(copy) is ConvergenceMonitor
        assert (copy.history, copy.iter, copy.tol) == ([-3.0, -2.0, -1.0], 3, 0.1)


class TestToSklearn:
    @pytest.mark.parametrize(("covariance_type", "dtype"), MIXTURES)
    def test_mixtures(self, covariance_type, dtype):
        model = mixture(covariance_type, dtype)
        twin = model.to_sklearn()
        assert type(twin) is sklearn.mixture.GaussianMixture
        np.testing.assert_array_equal(twin.predict(ROWS), model.predict(ROWS))
        for method in ("predict_proba", "score_samples", "score", "bic", "aic"):
            ours, theirs = (getattr(m, method)(ROWS) for m in (model, twin))
            np.testing.assert_allclose(theirs, ours, rtol=1e-10, atol=1e-10)

    def test_all_that_scikit_learn_knows_is_there(self):
        with unconverged():
            fitted = sklearn.mixture.GaussianMixture(3, max_iter=3).fit(ROWS)
        twin = mixture().to_sklearn()
        assert set(vars(twin)) == set(vars(fitted))
        for name, value in vars(fitted).items():
            assert np.shape(getattr(twin, name)) == np.shape(value), name
        fitted = sklearn.cluster.KMeans(3, n_init=1).fit(ROWS)
        twin = kmeans().to_sklearn()
        assert set(vars(twin)) == set(vars(fitted))
        assert twin.labels_.shape == (120,)

    def test_parameters_come_along(self):
        params = {"tol": 0.5, "max_iter": 2, "init_params": "random", "reg_covar": 1e-3}
        twin = mixture(**params).to_sklearn()
        assert {name: twin.get_params()[name] for name in params} == params
        assert twin.n_components == 3
        twin = kmeans(n_init=2, algorithm="elkan").to_sklearn()
        assert (twin.n_clusters, twin.n_init, twin.algorithm) == (3, 2, "elkan")
        assert twin.init == "k-means++"
        assert clone(twin).fit(ROWS).n_init == 2

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_kmeans(self, dtype):
        model, X = kmeans(dtype), ROWS.astype(dtype)
        twin = model.to_sklearn()
        assert_same_bits(twin.predict(X), model.predict(X))
        assert_same_bits(twin.cluster_centers_, model.cluster_centers_)
        rtol = 1e-10 if dtype == np.float64 else 1e-4
        np.testing.assert_allclose(twin.transform(X), model.transform(X), rtol=rtol)
        np.testing.assert_allclose(twin.score(X), model.score(X), rtol=rtol)

    def test_kmeans_whose_centers_coincide(self):
        X = np.repeat(ROWS[:2], 9, axis=0)
        with pytest.warns(UserWarning, match="distinct clusters"):
            model = fastem.KMeans(3, random_state=0).fit(X)
        assert_same_bits(model.to_sklearn().cluster_centers_, model.cluster_centers_)

    def test_nothing_is_shared(self):
        model = mixture()
        before = model.means_.copy()
        model.to_sklearn().means_ += 1
        assert_same_bits(model.means_, before)

    @pytest.mark.parametrize("make", [mixture, kmeans])
    def test_in_a_pipeline(self, make):
        """As the last step of one that was fitted, and fitted again, and cloned."""
        scaler = StandardScaler().fit(ROWS)
        scaled = fit(make(), scaler.transform(ROWS))
        pipeline = make_pipeline(scaler, scaled.to_sklearn())
        wanted = scaled.predict(scaler.transform(ROWS))
        np.testing.assert_array_equal(pipeline.predict(ROWS), wanted)
        np.testing.assert_array_equal(pickled(pipeline).predict(ROWS), wanted)
        again = fit(clone(pipeline), ROWS)
        assert again.predict(ROWS).shape == (120,)

    def test_column_names(self):
        X = pd.DataFrame(ROWS, columns=list("abc"))
        for model in (fastem.GaussianMixture(3), fastem.KMeans(3)):
            twin = model.set_params(random_state=0).fit(X).to_sklearn()
            np.testing.assert_array_equal(twin.predict(X), model.predict(X))
            with pytest.raises(ValueError, match="feature names"):
                twin.predict(X.rename(columns={"a": "z"}))
        assert list(twin.get_feature_names_out()) == ["kmeans0", "kmeans1", "kmeans2"]

    @pytest.mark.parametrize("name", ["GaussianMixture", "KMeans"])
    def test_fitted_models_only(self, name):
        with pytest.raises(NotFittedError):
            getattr(fastem, name)().to_sklearn()


def test_the_json_is_for_people_too(tmp_path):
    mixture("diag").save(tmp_path / "m")
    with zipfile.ZipFile(tmp_path / "m") as zipped:
        head = json.loads(zipped.read("meta.json"))
    assert head["meta"]["class"] == "GaussianMixture"
    assert head["meta"]["parameters"]["covariance_type"] == "diag"


def test_every_estimator_can_be_saved():
    """A new class must be named in ESTIMATORS."""
    classes = {name for name in fastem.__all__ if name[0].isupper()}
    assert classes == set(ESTIMATORS)
    assert set(oracle.CLASSES.values()) < set(ESTIMATORS)
