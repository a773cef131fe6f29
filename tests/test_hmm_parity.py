"""fastem's hidden Markov models against hmmlearn's: same start, same numbers."""

import inspect
import itertools
import string

import hmmlearn.hmm
import numpy as np
import pytest

import fastem

from .common import assert_same_bits
from .reference import chains as oracle
from .test_hmm_cases import TRANSMATS, as_read, case, fit, model_of, sample

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # hmmlearn's own use of NumPy is not at issue here.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hmmlearn.*"),
]

# hmmlearn sums in another order, and scatter about the origin instead of the mean.
PARAMS = {"rtol": 1e-7, "atol": 1e-7}
SCORES = {"rtol": 1e-8, "atol": 1e-8}

LENGTHS = (120, 1, 2, 33)
CLASSES = tuple(oracle.CLASSES.values())


def params_of(model, kind, names):
    """Fitted parameters, those of hmmlearn as fastem reads them: its spherical
    `covars_` has a matrix for every feature of every state."""
    if isinstance(model, hmmlearn.hmm.GaussianHMM):
        covars = model._covars_
        if model.covariance_type == "spherical" and covars.ndim == 2:
            covars = covars[:, 0]
        params = {name: getattr(model, f"{name}_") for name in names}
        return as_read(kind, {**params, "covars": covars})
    return {name: getattr(model, f"{name}_") for name in names}


def both(kind, start, **kwargs):
    ours, theirs = dict(kwargs), kwargs
    if kind in ("gaussian-full", "gaussian-tied"):
        # A number is a multiple of the identity in fastem, of ones in hmmlearn.
        n_features = start["means"].shape[-1]
        prior = kwargs.get("covars_prior", 1e-2)
        ours["covars_prior"] = np.full((n_features, n_features), prior)
    return (
        model_of(fastem, kind, start, **ours),
        model_of(hmmlearn.hmm, kind, start, **theirs),
    )


def both_fitted(kind, start, X, lengths=LENGTHS, **kwargs):
    models = both(kind, start, **kwargs)
    return tuple(fit(model, X, lengths) for model in models)


def assert_same_model(ours, theirs, kind, names, **tolerance):
    got, want = params_of(ours, kind, names), params_of(theirs, kind, names)
    for name in names:
        np.testing.assert_allclose(
            got[name], want[name], err_msg=name, **(tolerance or PARAMS)
        )


class TestFit:
    @pytest.mark.parametrize("implementation", ["log", "scaling"])
    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_five_iterations(self, kind, implementation):
        _, X, start = case(kind, 3, 2, LENGTHS, seed=3)
        ours, theirs = both_fitted(
            kind, start, X, n_iter=5, implementation=implementation
        )
        assert ours.monitor_.iter == theirs.monitor_.iter == 5
        history = list(theirs.monitor_.history)
        np.testing.assert_allclose(list(ours.monitor_.history), history, **SCORES)
        assert_same_model(ours, theirs, kind, start)
        score = theirs.score(X, LENGTHS)
        np.testing.assert_allclose(ours.score(X, LENGTHS), score, **SCORES)

    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_convergence_comes_at_the_same_iteration(self, kind):
        _, X, start = case(kind, 2, 3, LENGTHS, seed=2)
        ours, theirs = both_fitted(kind, start, X, n_iter=100, tol=1e-2)
        assert 2 < ours.monitor_.iter == theirs.monitor_.iter < 100
        assert_same_model(ours, theirs, kind, start, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("transmat", TRANSMATS)
    @pytest.mark.parametrize("kind", ["gaussian-diag", "categorical"])
    def test_impossible_transitions(self, kind, transmat):
        params, X, _ = case(kind, 4, 2, [60, 25], seed=4, transmat=transmat)
        ours, theirs = both_fitted(kind, params, X, [60, 25])
        assert_same_model(ours, theirs, kind, params)

    @pytest.mark.parametrize(
        ("kind", "priors"),
        [
            ("gaussian-diag", {"startprob_prior": 2.0, "transmat_prior": 3.0}),
            ("poisson", {"startprob_prior": 0.5, "transmat_prior": 0.5}),
            ("poisson", {"lambdas_prior": 4.0, "lambdas_weight": 2.0}),
            ("categorical", {"emissionprob_prior": 3.0}),
            *(
                (
                    kind,
                    {
                        "means_prior": np.array([[1.0, -1], [0, 1], [2, 2]]),
                        "means_weight": 4.0,
                        "covars_prior": 0.3,
                        "covars_weight": 5.0,
                    },
                )
                for kind in oracle.GAUSSIAN
            ),
            *(
                (kind, {"means_prior": 1.0, "means_weight": 4.0, "weights_prior": 3.0})
                for kind in oracle.GMM
            ),
            ("gmm-diag", {"covars_prior": 2.0, "covars_weight": 1.5}),
            ("gmm-spherical", {"covars_prior": 2.0, "covars_weight": 1.5}),
            ("gmm-full", {"covars_prior": np.eye(2), "covars_weight": 4.0}),
            ("gmm-tied", {"covars_prior": np.eye(2), "covars_weight": 4.0}),
        ],
    )
    def test_priors(self, kind, priors):
        _, X, start = case(kind, 3, 2, LENGTHS, seed=3)
        ours, theirs = both_fitted(kind, start, X, n_iter=1, **priors)
        assert_same_model(ours, theirs, kind, start)
        # They did make a difference.
        plain, _ = both_fitted(kind, start, X, n_iter=1)
        assert any(
            np.abs(getattr(plain, f"{name}_") - getattr(ours, f"{name}_")).max() > 1e-4
            for name in start
        )

    @pytest.mark.parametrize(
        ("kind", "params"),
        [
            *itertools.product(oracle.KINDS, ["s", "t", "st", ""]),
            # Without "m", GaussianHMM of hmmlearn gathers no mass to divide "c" by.
            *itertools.product(oracle.GAUSSIAN, ["m", "mc"]),
            *itertools.product(oracle.GMM, ["m", "c", "mc", "w"]),
        ],
    )
    def test_params(self, kind, params):
        _, X, start = case(kind, 3, 2, LENGTHS, seed=3)
        ours, theirs = both_fitted(kind, start, X, n_iter=2, params=params)
        assert_same_model(ours, theirs, kind, start)

    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_lists_and_one_sequence(self, kind):
        _, X, start = case(kind, 2, 2, [50], seed=1)
        ours, theirs = both(kind, start)
        fit(ours, X.tolist(), None)
        fit(theirs, X, None)
        assert_same_model(ours, theirs, kind, start)
        score = theirs.score(X)
        np.testing.assert_allclose(ours.score(X.tolist()), score, **SCORES)


class TestInference:
    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_scores(self, kind):
        params, X, _ = case(kind, 3, 3, LENGTHS, seed=5)
        ours, theirs = both(kind, params)
        np.testing.assert_allclose(
            ours.score(X, LENGTHS), theirs.score(X, LENGTHS), **SCORES
        )
        for got, want in zip(
            ours.score_samples(X, LENGTHS),
            theirs.score_samples(X, LENGTHS),
            strict=True,
        ):
            np.testing.assert_allclose(got, want, **SCORES)
        for criterion in ("aic", "bic"):
            np.testing.assert_allclose(
                getattr(ours, criterion)(X, LENGTHS),
                getattr(theirs, criterion)(X, LENGTHS),
                **SCORES,
            )

    @pytest.mark.parametrize("algorithm", ["viterbi", "map"])
    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_decode(self, kind, algorithm):
        params, X, _ = case(kind, 3, 3, LENGTHS, seed=5)
        ours, theirs = both(kind, params)
        got, path = ours.decode(X, LENGTHS, algorithm)
        want, their_path = theirs.decode(X, LENGTHS, algorithm)
        np.testing.assert_allclose(got, want, **SCORES)
        if X.dtype.kind == "f":  # of equal paths among counts, either may be chosen
            np.testing.assert_array_equal(path, their_path)
        assert path.dtype.kind == their_path.dtype.kind == "i"

    @pytest.mark.parametrize("transmat", ["dense", "banded"])
    def test_stationary_distribution(self, transmat):
        params, _, _ = case("poisson", 4, 1, [5], seed=6, transmat=transmat)
        ours, theirs = both("poisson", params)
        want = theirs.get_stationary_distribution()
        got = ours.get_stationary_distribution()
        np.testing.assert_allclose(got, want, atol=1e-12)
        assert got.dtype == float

    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_sample(self, kind):
        params, _, _ = case(kind, 3, 2, [5], seed=7)
        ours, theirs = both(kind, params, random_state=3)
        X, states = ours.sample(50)
        their_X, their_states = theirs.sample(50)
        assert X.shape == their_X.shape
        assert X.dtype.kind == their_X.dtype.kind
        assert states.shape == their_states.shape
        assert states.dtype.kind == "i"
        for again in (ours.sample(50), ours.sample(50, random_state=3)):
            assert_same_bits(again[0], X)
            assert_same_bits(again[1], states)
        other, _ = ours.sample(50, random_state=4)
        assert np.any(other != X)
        assert ours.sample(5, currstate=2)[1][0] == 2
        assert len(ours.sample()[0]) == 1


class TestFace:
    @pytest.mark.parametrize("name", CLASSES)
    def test_constructor(self, name):
        """hmmlearn's parameters in its order and with its defaults; ours by keyword."""
        ours, theirs = (
            inspect.signature(getattr(module, name)).parameters
            for module in (fastem, hmmlearn.hmm)
        )
        shared = {key: ours[key] for key in theirs}
        for key, want in theirs.items():
            assert (shared[key].kind, shared[key].default) == (want.kind, want.default)
        positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
        for parameters in (ours, theirs):
            assert "n_components" == next(iter(parameters))
        assert [key for key, one in ours.items() if one.kind is positional] == [
            key for key, one in theirs.items() if one.kind is positional
        ]
        new = {key: one for key, one in ours.items() if key not in theirs}
        assert {"training", "n_init", "fixed"} <= set(new)
        assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in new.values())
        assert getattr(fastem, name)(2).get_params()["n_components"] == 2

    @pytest.mark.parametrize("name", CLASSES)
    def test_methods(self, name):
        ours, theirs = getattr(fastem, name), getattr(hmmlearn.hmm, name)
        for method in dir(theirs):
            if method[0] not in string.ascii_lowercase or not callable(
                getattr(theirs, method)
            ):
                continue
            # scikit-learn's own come with its base class.
            if method.endswith("_request") or method.endswith("_params"):
                continue
            want = list(inspect.signature(getattr(theirs, method)).parameters)
            got = list(inspect.signature(getattr(ours, method)).parameters)
            if want == ["args", "kwargs"]:  # wrapped
                want = got
            assert got[: len(want)] == want, method

    @pytest.mark.parametrize("covariance_type", oracle.COVARIANCE_TYPES)
    def test_covars_are_set_compact_and_read_as_matrices(self, covariance_type):
        kind = f"gaussian-{covariance_type}"
        params, _, _ = case(kind, 3, 2, [5], seed=1)
        ours, theirs = both(kind, params)
        for model in (ours, theirs):
            model.n_features = 2
        np.testing.assert_allclose(ours.covars_, theirs.covars_, rtol=1e-15)
        assert ours.covars_.shape == (3, 2, 2)

    def test_unfitted(self):
        from sklearn.exceptions import NotFittedError

        X = sample("poisson", case("poisson", 2, 1, [5])[0], [5])
        for module in (fastem, hmmlearn.hmm):
            for method in ("score", "predict", "predict_proba", "decode"):
                with pytest.raises(NotFittedError):
                    getattr(module.PoissonHMM(2), method)(X)
            with pytest.raises(NotFittedError):
                module.PoissonHMM(2).sample(3)
