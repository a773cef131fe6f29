"""How fastem's hidden Markov models learn beyond hmmlearn: weights, known states, hard
training, fixed entries and several starts, against the textbook written in NumPy."""

import contextlib

import numpy as np
import pytest

import fastem
from fastem.exceptions import LikelihoodDecreaseWarning

from .common import assert_same_bits
from .reference import chains as oracle
from .test_hmm_cases import (
    FITTED,
    ONE_OF_EACH,
    assert_params,
    case,
    fit,
    model_of,
    normalized,
    random_params,
    sample,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def weights_and_states(X, lengths, seed=0):
    """Sequences and steps weighted, some of either not at all, and some states told."""
    rng = np.random.default_rng(seed)
    sequence_weight = rng.exponential(size=len(lengths))
    sequence_weight[1] = 0.0
    step_weight = rng.choice([0.0, 0.5, 1.0, 2.0], size=len(X))
    states = np.where(rng.random(len(X)) < 0.2, rng.integers(3, size=len(X)), -1)
    return {
        "sequence_weight": sequence_weight,
        "step_weight": step_weight,
        "states": states,
    }


@pytest.mark.parametrize("training", ["baum-welch", "viterbi"])
class TestWeightsAndStates:
    LENGTHS = (60, 7, 1, 40)

    def problem(self, kind, seed=4):
        _, X, start = case(kind, 3, 2, self.LENGTHS, seed=seed)
        return X, start, weights_and_states(X, self.LENGTHS, seed)

    def check(self, kind, X, start, training, n_iter=2, **given):
        lengths = given.pop("lengths", self.LENGTHS)
        want, history = oracle.em(
            kind, start, X, n_iter, lengths=lengths, hard=training == "viterbi", **given
        )
        model = model_of(fastem, kind, start, n_iter=n_iter, training=training)
        fit(model, X, lengths, **given)
        np.testing.assert_allclose(model.monitor_.history, history, **FITTED)
        assert_params(model, kind, want, **FITTED)
        return model

    @pytest.mark.parametrize("name", ["sequence_weight", "step_weight", "states"])
    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_each(self, kind, name, training):
        X, start, given = self.problem(kind)
        # After hard counts, ratios of small integers, paths through missing rows tie,
        # and rounding decides which is taken.
        n_iter = 1 if training == "viterbi" else 2
        self.check(kind, X, start, training, n_iter=n_iter, **{name: given[name]})

    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    def test_together(self, kind, training):
        X, start, given = self.problem(kind)
        # From the second iteration on, hard training may have emptied a state.
        self.check(kind, X, start, training, n_iter=1, **given)

    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    def test_sequence_weight_two_is_a_sequence_twice(self, kind, training):
        X, start, _ = self.problem(kind)
        parts = oracle.split(X, self.LENGTHS)
        # The second sequence is left out, the third stands twice.
        repeated = np.concatenate([parts[0], parts[2], parts[2], parts[3]])
        weighted, plain = (
            model_of(fastem, kind, start, training=training) for _ in range(2)
        )
        fit(weighted, X, self.LENGTHS, sequence_weight=[1, 0, 2, 1])
        fit(plain, repeated, [60, 1, 1, 40])
        for name in start:
            np.testing.assert_allclose(
                getattr(weighted, f"{name}_"), getattr(plain, f"{name}_"), **FITTED
            )
        np.testing.assert_allclose(
            weighted.monitor_.history, plain.monitor_.history, **FITTED
        )

    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    def test_rows_of_weight_zero_do_not_matter(self, kind, training):
        X, start, _ = self.problem(kind)
        missing = np.random.default_rng(0).random(len(X)) < 0.3
        other = np.where(missing[:, None], X[::-1], X)
        one, two = (
            fit(
                model_of(fastem, kind, start, training=training),
                rows,
                self.LENGTHS,
                step_weight=~missing,
            )
            for rows in (X, other)
        )
        for name in start:
            got, want = getattr(one, f"{name}_"), getattr(two, f"{name}_")
            np.testing.assert_allclose(got, want, **FITTED)

    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    def test_all_states_known_is_counting(self, kind, training):
        X, start, _ = self.problem(kind)
        states = np.random.default_rng(1).integers(3, size=len(X))
        model = self.check(kind, X, start, training, n_iter=1, states=states)
        counts = np.zeros((3, 3))
        for one in oracle.split(states, self.LENGTHS):
            np.add.at(counts, (one[:-1], one[1:]), 1)
        np.testing.assert_allclose(model.transmat_, normalized(counts), rtol=1e-12)
        first = np.bincount([0, 1, 2, *states[[0, 60, 67, 68]]]) - 1
        np.testing.assert_allclose(model.startprob_, first / 4, rtol=1e-12)

    def test_weights_of_one_and_unknown_states_change_nothing(self, training):
        X, start, _ = self.problem("gaussian-diag")
        plain, given = (
            model_of(fastem, "gaussian-diag", start, training=training)
            for _ in range(2)
        )
        fit(plain, X, self.LENGTHS)
        fit(
            given,
            X,
            self.LENGTHS,
            sequence_weight=np.ones(4),
            step_weight=np.ones(len(X)),
            states=np.full(len(X), -1),
        )
        for name in start:
            got, want = getattr(given, f"{name}_"), getattr(plain, f"{name}_")
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


class TestHardTraining:
    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_three_iterations(self, kind):
        lengths = [90, 1, 60]
        _, X, start = case(kind, 3, 2, lengths, seed=4)
        want, history = oracle.em(kind, start, X, 3, lengths=lengths, hard=True)
        model = model_of(fastem, kind, start, n_iter=3, training="viterbi")
        fit(model, X, lengths)
        # Three iterations or fewer, where the paths no longer change.
        n_iter = model.monitor_.iter
        np.testing.assert_allclose(model.monitor_.history, history[:n_iter], **FITTED)
        if n_iter < 3:
            np.testing.assert_allclose(history[n_iter:], history[n_iter - 1], rtol=1e-9)
        assert_params(model, kind, want, **FITTED)

    @pytest.mark.parametrize("kind", oracle.KINDS)
    @pytest.mark.parametrize("seed", range(3))
    def test_never_lowers_its_objective(self, kind, seed):
        _, X, start = case(kind, 3, 3, [80, 40], seed=seed)
        priors = {"covars_prior": 0.0} if kind in oracle.GAUSSIAN else {}
        if kind == "gmm-spherical":
            # The default divides by too little unless there are D components.
            priors = {"covars_prior": -(3 + 2) / 2}
        model = model_of(
            fastem, kind, start, training="viterbi", n_iter=15, tol=1e-12, **priors
        )
        history = np.array(fit(model, X, [80, 40]).monitor_.history)
        assert len(history) > 1
        assert np.diff(history).min() > -1e-9
        assert history[-1] > history[0] + 0.1


class TestFixed:
    FIXED = (
        ("gaussian-diag", "means", [[True], [False], [False]]),
        ("gaussian-full", "means", [[True, False], [False] * 2, [False, True]]),
        ("gaussian-full", "covars", [[[False]], [[True]], [[False]]]),
        ("gaussian-diag", "covars", [[False], [True], [False]]),
        ("gaussian-tied", "covars", True),
        ("gaussian-spherical", "covars", [True, False, False]),
        ("gmm-diag", "weights", [[True], [False], [False]]),
        ("gmm-full", "means", [[[True], [False]]]),
        ("poisson", "lambdas", [[False, True]]),
        ("categorical", "emissionprob", [[True, False, False]]),
        ("multinomial", "emissionprob", [[True], [False], [False]]),
        ("poisson", "startprob", [True, False, False]),
        ("poisson", "transmat", np.eye(3, dtype=bool)),
        ("gaussian-diag", "transmat", True),
    )

    @pytest.mark.parametrize("training", ["baum-welch", "viterbi"])
    @pytest.mark.parametrize(("kind", "name", "mask"), FIXED)
    def test_keeps_initial_values(self, kind, name, mask, training):
        lengths = [60, 50]
        _, X, start = case(kind, 3, 2, lengths, seed=5)
        fixed = {name: np.array(mask)}
        want, _ = oracle.em(
            kind, start, X, 2, lengths=lengths, fixed=fixed, hard=training == "viterbi"
        )
        model = model_of(fastem, kind, start, n_iter=2, fixed=fixed, training=training)
        fit(model, X, lengths)
        assert_params(model, kind, want, **FITTED)
        if name != "covars" and np.shape(mask) == start[name].shape:
            got = getattr(model, f"{name}_")[np.array(mask)]
            np.testing.assert_array_equal(got, start[name][np.array(mask)])

    def test_several_at_once(self):
        kind, fixed = "poisson", {"transmat": True, "startprob": True}
        _, X, start = case(kind, 3, 2, [90], seed=5)
        model = fit(model_of(fastem, kind, start, fixed=fixed), X)
        np.testing.assert_array_equal(model.transmat_, start["transmat"])
        np.testing.assert_array_equal(model.startprob_, start["startprob"])
        assert np.abs(model.lambdas_ - start["lambdas"]).min() > 1e-6


class TestStarts:
    """Several starts of one fit, and how it ended."""

    def start(self, random_state, **kwargs):
        return fastem.CategoricalHMM(
            3, n_iter=300, tol=1e-3, random_state=random_state, **kwargs
        )

    def test_n_init_keeps_the_best(self):
        params = random_params("categorical", 3, 4, seed=1, spread=4.0)
        X = sample("categorical", params, [150], seed=1)
        single = np.array([fit(self.start(seed), X).score(X) for seed in range(20)])
        # There are hills to choose from, and the best is no rare find.
        best = single.max()
        share = np.mean(single > best - 0.5)
        assert 0.05 < share < 0.7
        for seed in range(3):
            model = fit(self.start(seed, n_init=10), X)
            assert model.score(X) > best - 0.5
            # The monitor is that of the start that was kept: where EM converges, each
            # rise is less than the one before, of which the last was less than tol.
            assert model.monitor_.status == "converged"
            rise = model.score(X) - model.monitor_.history[-1]
            assert -1e-9 < rise < 1e-3

    def test_a_seed_gives_one_fit(self):
        _, X, _ = case("categorical", 3, 4, [150], seed=1)
        one, two = (fit(self.start(7, n_init=3), X) for _ in range(2))
        assert_same_bits(one.emissionprob_, two.emissionprob_)
        assert_same_bits(one.transmat_, two.transmat_)

    def test_implementations_are_one(self):
        _, X, start = case("gaussian-diag", 3, 2, [150], seed=1)
        log, scaling = (
            fit(model_of(fastem, "gaussian-diag", start, implementation=name), X)
            for name in ("log", "scaling")
        )
        for name in start:
            assert_same_bits(getattr(log, f"{name}_"), getattr(scaling, f"{name}_"))
        assert log.score(X) == scaling.score(X)

    @pytest.mark.parametrize(
        ("status", "params"),
        [
            ("converged", {"n_iter": 200, "tol": 1e-2}),
            ("max_iter", {"n_iter": 3, "tol": 0.0}),
            # A floor above the variances that the fit begins with.
            ("decreased", {"n_iter": 50, "tol": 1e-9, "min_covar": 5.0}),
        ],
    )
    def test_status(self, status, params):
        _, X, start = case("gaussian-diag", 3, 2, [150], seed=1)
        assert start["covars"].max() < 5
        model = model_of(fastem, "gaussian-diag", start, **params)
        expected = contextlib.nullcontext()
        if status == "decreased":
            expected = pytest.warns(LikelihoodDecreaseWarning, match="iteration 2")
        with expected:
            model.fit(X)
        assert model.monitor_.status == status
        assert model.monitor_.iter == len(model.monitor_.history)
        assert (model.monitor_.iter == params["n_iter"]) == (status == "max_iter")
        assert model.monitor_.converged  # hmmlearn's word for "stopped"


class TestSmallestVariances:
    """`min_covar` is a share of small variances, and never of no variance at all."""

    @pytest.mark.parametrize("kind", [*oracle.GAUSSIAN, *oracle.GMM])
    def test_yields_to_small_scales(self, kind):
        """As of daily returns on calm days and wild ones; the textbook has no floor."""
        rng = np.random.default_rng(1)
        wild = np.repeat(np.arange(6) % 2, 50)
        X = rng.normal(size=(300, 2)) * np.where(wild, 0.03, 0.01)[:, None]
        start = random_params(kind, 2, 2, seed=1)
        start["means"] = 1e-3 * start["means"]
        start["covars"] = 4e-4 * start["covars"]
        start["transmat"] = np.array([[0.9, 0.1], [0.1, 0.9]])
        prior = {"covars_prior": 0.0} if kind in oracle.GAUSSIAN else {}
        want, _ = oracle.em(kind, start, X, 3, priors=prior)
        model = fit(model_of(fastem, kind, start, **prior), X)
        assert_params(model, kind, want, rtol=1e-8, atol=1e-12)

    @pytest.mark.parametrize("kind", ["gaussian-diag", "gaussian-full", "gmm-tied"])
    @pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
    def test_is_a_share_of_variances_below_one(self, kind, scale):
        """One state holds rows that are all alike, of data that are not."""
        X = scale * np.repeat([[0.0, 0.0], [2.0, 4.0]], 50, axis=0)
        start = random_params(kind, 2, 2, seed=1)
        start["means"] = scale * np.zeros_like(start["means"])
        start["means"][1] = X[-1]
        start["covars"] = scale**2 * start["covars"]
        prior = {"covars_prior": 0.0} if kind in oracle.GAUSSIAN else {}
        model = model_of(fastem, kind, start, n_iter=8, min_covar=0.01, **prior)
        fit(model, X)
        found = np.reshape(model.covars_, (-1, *model.covars_.shape[-2:]))
        want = 0.01 * np.minimum(X.var(axis=0), 1)
        np.testing.assert_allclose(
            found, np.diag(want) + np.zeros_like(found), rtol=1e-6, atol=1e-9 * scale**2
        )

    @pytest.mark.parametrize("kind", [*oracle.GAUSSIAN, *oracle.GMM])
    @pytest.mark.parametrize("value", [0.0, 5.3, -1e6])
    def test_stays_where_there_is_no_scale(self, kind, value):
        X = np.full((40, 2), value)
        start = random_params(kind, 2, 2, seed=1)
        start["means"] = value + 0.1 * start["means"]
        prior = {"covars_prior": 0.0} if kind in oracle.GAUSSIAN else {}
        model = model_of(fastem, kind, start, n_iter=4, min_covar=0.01, **prior)
        fit(model, X)
        shape = oracle.covariance_type(kind)
        covars = model.covars_
        if kind in oracle.GAUSSIAN or shape in ("full", "tied"):
            covars = np.diagonal(covars, axis1=-2, axis2=-1)
        np.testing.assert_allclose(covars, 0.01, rtol=1e-6)
