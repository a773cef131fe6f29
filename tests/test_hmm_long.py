"""Long sequences, chains all but deterministic, degenerate fits, and threads."""

import warnings

import numba
import numpy as np
import pytest

import fastem
from fastem.exceptions import DegenerateComponentWarning

from .common import assert_same_bits
from .reference import chains as oracle
from .test_hmm_cases import (
    ONE_OF_EACH,
    case,
    fit,
    model_of,
    new_model,
    nudged,
    random_params,
    sample,
)


def sticky(k):
    transmat = np.full((k, k), 1e-4 / (k - 1))
    np.fill_diagonal(transmat, 0.9999)
    return transmat


NEARLY_CERTAIN = {
    "sticky": sticky,
    "permutation": lambda k: np.roll(np.eye(k), 1, axis=1),
    "identity": np.eye,
}


class TestLongSequences:
    @pytest.mark.parametrize("transmat", NEARLY_CERTAIN)
    @pytest.mark.parametrize("lengths", [[20_000], [19_990, 10]])
    def test_memory_of_thousands_of_steps(self, transmat, lengths):
        """Observations say next to nothing, and what is known comes from afar."""
        kind = "gaussian-diag"
        params = random_params(kind, 3, 1, seed=1, spread=0.01)
        params["covars"][:] = 1.0
        params["startprob"][:] = 1 / 3
        params["transmat"] = NEARLY_CERTAIN[transmat](3)
        X = sample(kind, params, lengths, seed=2)
        found = oracle.infer(kind, params, X, lengths)
        model = model_of(fastem, kind, params, n_iter=1)
        gamma = np.concatenate([one.gamma for one in found])
        # The oracle in long double differs from itself by 5e-13.
        np.testing.assert_allclose(model.predict_proba(X, lengths), gamma, atol=1e-9)
        filtered = np.concatenate([one.filtered for one in found])
        np.testing.assert_allclose(model.filter(X, lengths), filtered, atol=1e-9)
        total = sum(one.log_likelihood for one in found)
        np.testing.assert_allclose(model.score(X, lengths), total, rtol=1e-11)
        best = sum(one.log_path for one in found)
        np.testing.assert_allclose(model.decode(X, lengths)[0], best, rtol=1e-11)
        want, _ = oracle.em_step(kind, params, X, lengths)
        fit(model, X, lengths)
        for name in ("startprob", "transmat", "means"):
            got = getattr(model, f"{name}_")
            np.testing.assert_allclose(got, want[name], atol=1e-9, err_msg=name)

    @pytest.mark.parametrize("kind", ["gaussian-diag", "categorical"])
    def test_three_hundred_thousand_steps(self, kind):
        params = random_params(kind, 3, 2, seed=3)
        rows = sample(kind, params, [30_000], seed=3)
        X = np.concatenate([rows] * 10)
        model = model_of(fastem, kind, params, n_iter=2)
        emissions = oracle.log_emission(kind, params, X)
        chain = oracle.log(params["startprob"]), oracle.log(params["transmat"])
        filtered, evidence, _ = oracle.forward(*chain, emissions)
        total, gamma = model.score_samples(X)
        # 3e5 terms in two orders.
        np.testing.assert_allclose(total, evidence.sum(), rtol=1e-10)
        np.testing.assert_allclose(model.filter(X), np.exp(filtered), atol=1e-10)
        np.testing.assert_allclose(gamma.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_allclose(gamma[-1], np.exp(filtered[-1]), atol=1e-10)
        log_path, states = model.decode(X)
        own = oracle.log_path(*chain, emissions, states)
        np.testing.assert_allclose(log_path, own, rtol=1e-10)
        assert log_path < total
        fit(model, X)
        assert np.all(np.isfinite(model.transmat_))
        assert np.diff(model.monitor_.history).min() > 0

    def test_an_unlikely_row_for_every_state(self):
        """exp(-2e5) of each row is nothing in floating point."""
        kind = "gaussian-full"
        params, X, _ = case(kind, 3, 2, [500], seed=1)
        params["covars"] = 1e-5 * params["covars"]
        params["means"] = params["means"] + 1.0
        found = oracle.infer(kind, params, X)[0]
        assert found.log_likelihood / len(X) < -1e4
        model = model_of(fastem, kind, params)
        np.testing.assert_allclose(model.score(X), found.log_likelihood, rtol=1e-11)
        np.testing.assert_allclose(model.predict_proba(X), found.gamma, atol=1e-6)


DEGENERATE = {
    "constant": lambda X: np.zeros_like(X) + X[:1],
    "two rows": lambda X: X[:2],
    "one row": lambda X: X[:1],
    "two distinct rows": lambda X: X[np.arange(len(X)) % 2],
}


def assert_sound(model, kind, X):
    for name in random_params(kind, 3, 2):
        assert np.all(np.isfinite(getattr(model, f"{name}_"))), name
    np.testing.assert_allclose(model.startprob_.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(model.transmat_.sum(axis=1), 1, rtol=1e-12)
    assert np.all(np.isfinite(model.monitor_.history))
    assert np.isfinite(model.score(X))
    assert np.all(np.isfinite(model.predict_proba(X)))


@pytest.mark.usefixtures("one_thread")
# What such fits repair is not the question here; that no other warning passes is.
@pytest.mark.filterwarnings("ignore::fastem.exceptions.DegenerateComponentWarning")
class TestDegenerateFits:
    @pytest.mark.parametrize("training", ["baum-welch", "viterbi"])
    @pytest.mark.parametrize("data", DEGENERATE)
    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_from_given_parameters(self, kind, data, training):
        _, X, start = case(kind, 3, 2, [60], seed=1)
        X = DEGENERATE[data](X)
        model = fit(model_of(fastem, kind, start, n_iter=8, training=training), X)
        assert_sound(model, kind, X)

    @pytest.mark.parametrize("data", ["constant", "two distinct rows"])
    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_from_own_start(self, kind, data):
        X = DEGENERATE[data](case(kind, 3, 2, [60], seed=1)[1])
        model = new_model(fastem, kind, 3, 3, n_iter=4, random_state=0)
        # Fewer distinct rows than clusters for whatever seeds the means.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*distinct.*")
            fit(model, X)
        assert_sound(model, kind, X)

    @pytest.mark.parametrize("training", ["baum-welch", "viterbi"])
    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_a_state_that_is_never_visited(self, kind, training):
        _, X, start = case(kind, 3, 2, [60], seed=1)
        start["startprob"] = np.array([0.5, 0.5, 0])
        start["transmat"] = np.array([[0.5, 0.5, 0], [0.3, 0.7, 0], [0.2, 0.3, 0.5]])
        model = fit(model_of(fastem, kind, start, training=training), X)
        assert_sound(model, kind, X)
        assert np.all(model.predict_proba(X)[:, 2] == 0)
        # It keeps its row, of which the data say nothing.
        np.testing.assert_allclose(model.transmat_[2], start["transmat"][2])

    def test_a_last_state_that_is_never_left(self):
        """hmmlearn gives it an all-zero row here, and then refuses its own model."""
        transmat = np.array([[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1.0]])
        params = random_params("gaussian-diag", 3, 1, seed=1)
        params.update(transmat=transmat, startprob=np.array([1.0, 0, 0]))
        params["means"] = np.array([[0.0], [10], [20]])
        model = model_of(fastem, "gaussian-diag", params, n_iter=3)
        X = np.array([[0.1], [0.2], [9.8], [10.1], [20.0]])
        assert_sound(fit(model, X), "gaussian-diag", X)
        np.testing.assert_array_equal(model.transmat_[2], [0, 0, 1])


class TestThreads:
    @pytest.fixture(params=ONE_OF_EACH)
    def runs(self, request):
        """The same on one thread and on two; more sequences than threads, of which one
        is longer than all others together."""
        kind, lengths = request.param, [1, 700, 2, 3, 50, 4001, 64, 65, 999]
        _, X, start = case(kind, 4, 3, lengths, seed=9)
        before = numba.get_num_threads()

        def run(function):
            found = []
            for n_threads in (1, 2):
                numba.set_num_threads(n_threads)
                found.append(function(kind, start, X, lengths))
            return found

        yield run
        numba.set_num_threads(before)

    @pytest.mark.parametrize("training", ["baum-welch", "viterbi"])
    def test_fit(self, runs, training):
        def function(kind, start, X, lengths):
            rng = np.random.default_rng(1)
            model = model_of(fastem, kind, nudged(start), training=training)
            fit(
                model,
                X,
                lengths,
                sequence_weight=rng.exponential(size=len(lengths)),
                step_weight=rng.exponential(size=len(X)),
            )
            arrays = [getattr(model, f"{name}_") for name in start]
            return [*arrays, list(model.monitor_.history)]

        for one, two in zip(*runs(function), strict=True):
            assert_same_bits(one, two)

    def test_inference(self, runs):
        def function(kind, start, X, lengths):
            model = model_of(fastem, kind, start)
            return [
                *model.score_samples(X, lengths),
                *model.decode(X, lengths),
                model.filter(X, lengths),
                model.smooth(X, 5, lengths),
                model.predict_next(X, lengths),
            ]

        for one, two in zip(*runs(function), strict=True):
            assert_same_bits(one, two)

    def test_own_starts(self, runs):
        def function(kind, start, X, lengths):
            model = new_model(fastem, kind, 4, 4, n_init=2, random_state=0, n_iter=2)
            # Several states may share one cluster of counts.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DegenerateComponentWarning)
                fit(model, X, lengths)
            return [getattr(model, f"{name}_") for name in start]

        for one, two in zip(*runs(function), strict=True):
            assert_same_bits(one, two)
