"""Hidden Markov models of fastem against the textbook, written in NumPy."""

import numpy as np
import pytest

import fastem

from .common import assert_same_bits
from .reference import chains as oracle
from .test_hmm_cases import (
    FITTED,
    ONE_OF_EACH,
    TRANSMATS,
    assert_params,
    case,
    fit,
    model_of,
    normalized,
    random_params,
    sample,
)

pytestmark = pytest.mark.usefixtures("one_thread")

ODD = [1, 2, 3, 50]
# K, D, lengths; a single state, a single row, sequences too short for a transition.
SHAPES = [
    (1, 1, [1]),
    (1, 3, [7, 1]),
    (2, 1, ODD),
    (3, 2, ODD[::-1]),
    (5, 4, [1, 1, 1, 97]),
    (9, 7, [64, 65, 3]),
]
SHAPE_IDS = [f"K{k}-D{d}-{len(lengths)}seq" for k, d, lengths in SHAPES]

# Densities lose a digit or two to their sums of D terms, recursions as many to a
# hundred steps; the logarithms of whole sequences are of order a thousand.
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def assert_best_paths(kind, params, X, lengths, states):
    """The oracle's own paths or, where counts and symbols recur and so do sums of the
    same terms in another order, paths as probable."""
    found = oracle.infer(kind, params, X, lengths)
    if kind in oracle.GAUSSIAN or kind in oracle.GMM:
        np.testing.assert_array_equal(states, np.concatenate([f.path for f in found]))
    emissions = oracle.split(oracle.log_emission(kind, params, X), lengths)
    chain = oracle.log(params["startprob"]), oracle.log(params["transmat"])
    for one, rows, path in zip(
        found, emissions, oracle.split(states, lengths), strict=True
    ):
        got = oracle.log_path(*chain, rows, path)
        np.testing.assert_allclose(got, one.log_path, **CLOSE)


def assert_inference(model, kind, params, X, lengths, lag=2):
    """Every public method that reads X against the same of the oracle."""
    found = oracle.infer(kind, params, X, lengths)
    gamma = np.concatenate([one.gamma for one in found])
    log_likelihood = sum(one.log_likelihood for one in found)
    np.testing.assert_allclose(model.score(X, lengths), log_likelihood, **CLOSE)
    total, posteriors = model.score_samples(X, lengths)
    np.testing.assert_allclose(total, log_likelihood, **CLOSE)
    np.testing.assert_allclose(posteriors, gamma, **CLOSE)
    np.testing.assert_allclose(model.predict_proba(X, lengths), gamma, **CLOSE)
    filtered = np.concatenate([one.filtered for one in found])
    np.testing.assert_allclose(model.filter(X, lengths), filtered, **CLOSE)
    following = np.array([one.following for one in found])
    np.testing.assert_allclose(model.predict_next(X, lengths), following, **CLOSE)
    log_path, states = model.decode(X, lengths)
    want = sum(one.log_path for one in found)
    np.testing.assert_allclose(log_path, want, **CLOSE)
    assert_best_paths(kind, params, X, lengths, states)
    assert_same_bits(model.predict(X, lengths), states)
    # hmmlearn's figure of merit for this one: posteriors summed, no logarithm.
    merit, states = model.decode(X, lengths, algorithm="map")
    np.testing.assert_allclose(merit, gamma.max(axis=1).sum(), **CLOSE)
    np.testing.assert_array_equal(states, gamma.argmax(axis=1))
    if lag is not None:
        emissions = oracle.log_emission(kind, params, X)
        chain = oracle.log(params["startprob"]), oracle.log(params["transmat"])
        parts = oracle.split(emissions, lengths)
        want = np.concatenate([oracle.smooth(*chain, rows, lag) for rows in parts])
        np.testing.assert_allclose(model.smooth(X, lag, lengths), want, **CLOSE)


class TestInference:
    @pytest.mark.parametrize("kind", oracle.KINDS)
    @pytest.mark.parametrize(("k", "d", "lengths"), SHAPES, ids=SHAPE_IDS)
    def test_all_methods(self, kind, k, d, lengths):
        params, X, _ = case(kind, k, d, lengths, seed=k)
        model = model_of(fastem, kind, params)
        assert_inference(model, kind, params, X, lengths)

    @pytest.mark.parametrize("transmat", TRANSMATS)
    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    def test_impossible_transitions(self, kind, transmat):
        params, X, _ = case(kind, 4, 2, ODD, seed=3, transmat=transmat)
        params["startprob"] = normalized(params["startprob"] * [1, 0, 1, 0])
        X = sample(kind, params, ODD, seed=4)
        model = model_of(fastem, kind, params)
        assert_inference(model, kind, params, X, ODD)

    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    def test_paths_counted(self, kind):
        """Not by recursion but by the definition."""
        lengths = [4, 1, 5]
        params, X, _ = case(kind, 3, 2, lengths, seed=8)
        model = model_of(fastem, kind, params)
        found = oracle.infer(kind, params, X, lengths, infer=oracle.by_paths)
        gamma = np.concatenate([one.gamma for one in found])
        np.testing.assert_allclose(model.predict_proba(X, lengths), gamma, **CLOSE)
        total = sum(one.log_likelihood for one in found)
        np.testing.assert_allclose(model.score(X, lengths), total, **CLOSE)
        best = sum(one.log_path for one in found)
        np.testing.assert_allclose(model.decode(X, lengths)[0], best, **CLOSE)

    @pytest.mark.parametrize(("k", "d"), [(2, 1), (4, 3)])
    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    def test_long_sequence(self, kind, k, d):
        params, X, _ = case(kind, k, d, [5000], seed=1)
        model = model_of(fastem, kind, params)
        # Every row's cut-off sequence anew would take the oracle hours.
        assert_inference(model, kind, params, X, [5000], lag=None)
        model.n_iter = 1
        want, _ = oracle.em_step(kind, params, X)
        assert_params(fit(model, X), kind, want, **FITTED)

    def test_any_lag(self):
        kind, lengths = "gaussian-diag", [40, 1, 9]
        params, X, _ = case(kind, 3, 2, lengths, seed=2)
        model = model_of(fastem, kind, params)
        for lag, want in [
            (0, model.filter(X, lengths)),
            (39, model.predict_proba(X, lengths)),
            (10**6, model.predict_proba(X, lengths)),
        ]:
            np.testing.assert_allclose(model.smooth(X, lag, lengths), want, **CLOSE)
        emissions = oracle.log_emission(kind, params, X[:40])
        chain = oracle.log(params["startprob"]), oracle.log(params["transmat"])
        for lag in (1, 7, 38):
            want = oracle.smooth(*chain, emissions, lag)
            np.testing.assert_allclose(model.smooth(X[:40], lag), want, **CLOSE)

    def test_equal_paths_give_the_first_state(self):
        params = random_params("poisson", 3, 2)
        params["lambdas"][:] = params["lambdas"][0]
        params["startprob"][:] = params["transmat"][:] = 1 / 3
        model = model_of(fastem, "poisson", params)
        X = sample("poisson", params, [30])
        np.testing.assert_array_equal(model.predict(X), np.zeros(30))

    @pytest.mark.parametrize("algorithm", ["viterbi", "map"])
    def test_predict_takes_the_models_algorithm(self, algorithm):
        params, X, _ = case("poisson", 3, 1, [200], seed=6)
        model = model_of(fastem, "poisson", params, algorithm=algorithm)
        viterbi, each = (
            model.decode(X, algorithm=name)[1] for name in ("viterbi", "map")
        )
        assert np.any(viterbi != each)
        want = viterbi if algorithm == "viterbi" else each
        np.testing.assert_array_equal(model.predict(X), want)
        np.testing.assert_array_equal(model.decode(X)[1], want)

    def test_stationary_distribution(self):
        params = random_params("poisson", 5, 1, seed=4)
        found = model_of(fastem, "poisson", params).get_stationary_distribution()
        np.testing.assert_allclose(found @ params["transmat"], found, atol=1e-12)
        np.testing.assert_allclose(found.sum(), 1, rtol=1e-12)
        assert found.min() > 0

    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_sample_follows_the_model(self, kind):
        params = random_params(kind, 3, 2, seed=2)
        model = model_of(fastem, kind, params)
        X, states = model.sample(3000, random_state=5)
        counts = np.zeros((3, 3))
        np.add.at(counts, (states[:-1], states[1:]), 1)
        # Five standard deviations of a share of some 500 draws or more.
        assert counts.sum(axis=1).min() > 400
        np.testing.assert_allclose(normalized(counts), params["transmat"], atol=0.12)
        log_emission = oracle.log_emission(kind, params, X)
        own = log_emission[np.arange(3000), states].mean()
        # What the oracle itself samples is as probable in its own state.
        again = sample(kind, {**params, "transmat": np.eye(3)}, [1] * 3000, seed=1)
        assert X.shape == again.shape
        for state in range(3):
            mean = X[states == state].mean(axis=0)
            alone = {**params, "startprob": np.eye(3)[state]}
            drawn = sample(kind, alone, [1] * 1000, seed=2)
            error = drawn.std(axis=0) * np.sqrt(1 / 400 + 1 / 1000)
            assert np.all(np.abs(mean - drawn.mean(axis=0)) < 5 * error)
        assert own > log_emission.mean()


class TestOneIteration:
    @pytest.mark.parametrize("kind", oracle.KINDS)
    @pytest.mark.parametrize(
        ("k", "d", "lengths"), [(1, 2, [9]), (2, 1, ODD), (4, 3, [150, 1, 60])]
    )
    def test_from_a_start(self, kind, k, d, lengths):
        _, X, start = case(kind, k, d, lengths, seed=2)
        want, objective = oracle.em_step(kind, start, X, lengths)
        model = fit(model_of(fastem, kind, start, n_iter=1), X, lengths)
        np.testing.assert_allclose(model.monitor_.history[-1], objective, **CLOSE)
        assert model.monitor_.iter == 1
        assert_params(model, kind, want, **FITTED)

    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_and_three_more(self, kind):
        lengths = [150, 1, 60]
        _, X, start = case(kind, 3, 2, lengths, seed=2)
        want, history = oracle.em(kind, start, X, 4, lengths=lengths)
        model = fit(model_of(fastem, kind, start, n_iter=4), X, lengths)
        np.testing.assert_allclose(model.monitor_.history, history, **FITTED)
        assert_params(model, kind, want, **FITTED)

    @pytest.mark.parametrize("transmat", TRANSMATS)
    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    def test_zeros_stay_zero(self, kind, transmat):
        lengths = [40] * 6
        params = random_params(kind, 4, 2, seed=3, transmat=transmat)
        params["startprob"] = normalized(params["startprob"] * [1, 0, 1, 1])
        X = sample(kind, params, lengths, seed=4)
        want, _ = oracle.em(kind, params, X, 3, lengths=lengths)
        model = fit(model_of(fastem, kind, params), X, lengths)
        assert np.all(model.transmat_[params["transmat"] == 0] == 0)
        assert model.startprob_[1] == 0
        assert_params(model, kind, want, **FITTED)

    @pytest.mark.parametrize(
        ("kind", "priors"),
        [
            *(
                (kind, {"means_prior": 0.5, "means_weight": 3.0, "covars_weight": 7.0})
                for kind in oracle.GAUSSIAN
            ),
            ("gaussian-diag", {"covars_prior": 0.5, "covars_weight": 1.5}),
            ("gaussian-diag", {"startprob_prior": 3.0, "transmat_prior": 0.2}),
            ("gaussian-full", {"transmat_prior": np.diag([5.0, 6, 7]) + 1}),
            ("categorical", {"emissionprob_prior": 2.5}),
            ("categorical", {"emissionprob_prior": 0.1}),
        ],
    )
    def test_priors(self, kind, priors):
        _, X, start = case(kind, 3, 2, [60, 5], seed=7)
        want, _ = oracle.em_step(kind, start, X, [60, 5], priors=priors)
        model = model_of(fastem, kind, start, n_iter=1, **priors)
        assert_params(fit(model, X, [60, 5]), kind, want, **FITTED)

    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_params_choose_what_is_learned(self, kind):
        _, X, start = case(kind, 3, 2, [80], seed=1)
        model = fit(model_of(fastem, kind, start, params="t", n_iter=1), X)
        want = {**start, "transmat": oracle.em_step(kind, start, X)[0]["transmat"]}
        assert_params(model, kind, want, **FITTED)
