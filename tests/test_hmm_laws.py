"""Laws of hidden Markov models that hold for any data, and data that test them.

Hypothesis draws the shape of the problem and a seed, as in test_laws.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastem
from fastem.exceptions import ImpossibleObservationWarning

from .reference import chains as oracle
from .test_hmm_cases import (
    case,
    fit,
    model_of,
    normalized,
    random_params,
    sample,
)

EXAMPLES = settings(max_examples=15)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def problems(draw, kinds=oracle.KINDS):
    """A model, rows of it and their lengths, a start, and a generator for the rest."""
    seed = draw(SEEDS)
    kind = draw(st.sampled_from(kinds))
    k, d = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    lengths = draw(st.lists(st.sampled_from([1, 2, 3, 17, 60]), min_size=1, max_size=5))
    # Enough rows for every state to keep a covariance.
    lengths = [*lengths, 80 * k]
    transmat = draw(st.sampled_from(["dense", "banded"]))
    params, X, start = case(kind, k, d, lengths, seed=seed, transmat=transmat)
    return kind, params, X, lengths, start, np.random.default_rng(seed)


def bounds(lengths):
    return np.concatenate([[0], np.cumsum(lengths)])


@pytest.mark.usefixtures("one_thread")
class TestLaws:
    @EXAMPLES
    @given(problems())
    def test_sequences_together_are_sequences_apart(self, problem):
        kind, params, X, lengths, _, _ = problem
        model = model_of(fastem, kind, params)
        parts = oracle.split(X, lengths)
        apart = sum(model.score(part) for part in parts)
        np.testing.assert_allclose(model.score(X, lengths), apart, rtol=1e-12)
        for method in (model.predict_proba, model.filter, model.predict_next):
            want = np.concatenate([method(part) for part in parts])
            np.testing.assert_allclose(method(X, lengths), want, atol=1e-13)
        want = np.concatenate([model.predict(part) for part in parts])
        np.testing.assert_array_equal(model.predict(X, lengths), want)

    @EXAMPLES
    @given(problems())
    def test_order_of_sequences_does_not_matter(self, problem):
        kind, _, X, lengths, start, rng = problem
        order = rng.permutation(len(lengths))
        parts = oracle.split(X, lengths)
        other = np.concatenate([parts[i] for i in order])
        one = fit(model_of(fastem, kind, start), X, lengths)
        two = fit(model_of(fastem, kind, start), other, [lengths[i] for i in order])
        for name in start:
            got, want = getattr(two, f"{name}_"), getattr(one, f"{name}_")
            # Sums in another order, over three iterations.
            np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8)

    @EXAMPLES
    @given(problems())
    def test_names_of_states_do_not_matter(self, problem):
        kind, _, X, lengths, start, rng = problem
        order = rng.permutation(len(start["startprob"]))
        shared = "covars" if kind == "gaussian-tied" else None
        renamed = {
            name: value if name == shared else value[order]
            for name, value in start.items()
        }
        renamed["transmat"] = renamed["transmat"][:, order]
        one, two = (model_of(fastem, kind, params) for params in (start, renamed))
        np.testing.assert_allclose(
            two.predict_proba(X, lengths),
            one.predict_proba(X, lengths)[:, order],
            atol=1e-11,
        )
        np.testing.assert_allclose(
            two.decode(X, lengths)[0], one.decode(X, lengths)[0], rtol=1e-12
        )
        fit(one, X, lengths)
        fit(two, X, lengths)
        for name in start:
            want = getattr(one, f"{name}_")[order]
            want = want[:, order] if name == "transmat" else want
            got = getattr(two, f"{name}_")
            np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8, err_msg=name)

    def assert_never_falls(self, problem, **params):
        kind, _, X, lengths, start, rng = problem
        if kind in oracle.GAUSSIAN:
            params["covars_prior"] = 0.0
        if kind == "gmm-spherical":
            params["covars_prior"] = -(X.shape[1] + 2) / 2  # the default suits M = D
        model = model_of(fastem, kind, start, **params)
        given_weights = {
            "sequence_weight": rng.exponential(size=len(lengths)) + 0.1,
            "step_weight": rng.choice([0.5, 1.0, 2.0], size=len(X)),
        }
        history = np.array(fit(model, X, lengths, **given_weights).monitor_.history)
        # A sum of N terms of order |history|, each rounded to 2**-53 of itself.
        assert np.diff(history).min(initial=0.0) > -1e-12 * np.abs(history).max()
        assert model.monitor_.status != "decreased"

    @EXAMPLES
    @given(problems())
    def test_likelihood_never_falls(self, problem):
        """Baum, Petrie, Soules and Weiss (1970), theorem 2.1."""
        self.assert_never_falls(problem, n_iter=6)

    # Of the others, a state may be left a single row, and so no covariance; of these, a
    # state without rows keeps its parameters.
    @pytest.mark.filterwarnings("ignore::fastem.exceptions.DegenerateComponentWarning")
    @EXAMPLES
    @given(problems(kinds=("gaussian-tied", "categorical", "multinomial", "poisson")))
    def test_probability_of_best_paths_never_falls(self, problem):
        """Juang and Rabiner, The segmental k-means algorithm (1990)."""
        self.assert_never_falls(problem, n_iter=12, tol=1e-10, training="viterbi")

    @EXAMPLES
    @given(problems())
    def test_distributions_stay_distributions(self, problem):
        kind, _, X, lengths, start, _ = problem
        model = fit(model_of(fastem, kind, start), X, lengths)
        arrays = [
            model.startprob_,
            model.transmat_,
            model.predict_proba(X, lengths),
            model.filter(X, lengths),
            model.predict_next(X, lengths),
            model.smooth(X, 3, lengths),
        ]
        for array in arrays:
            assert np.all((array >= 0) & (array <= 1 + 1e-14))
            np.testing.assert_allclose(array.sum(axis=-1), 1, rtol=1e-12)

    @EXAMPLES
    @given(problems())
    def test_filter_and_smooth_meet_at_the_end(self, problem):
        kind, params, X, lengths, _, _ = problem
        model = model_of(fastem, kind, params)
        last = np.cumsum(lengths) - 1
        filtered = model.filter(X, lengths)[last]
        np.testing.assert_allclose(
            filtered, model.predict_proba(X, lengths)[last], atol=1e-12
        )
        np.testing.assert_allclose(
            model.predict_next(X, lengths), filtered @ params["transmat"], atol=1e-13
        )

    @EXAMPLES
    @given(problems(), st.lists(st.floats(0, 1), max_size=12))
    def test_streams_cut_anywhere(self, problem, cuts):
        kind, params, X, _, _, _ = problem
        model = model_of(fastem, kind, params)
        at = sorted(int(cut * len(X)) for cut in cuts)
        stream = model.stream()
        # Two cuts at one place make an empty chunk.
        pieces = [stream.push(chunk) for chunk in np.split(X, at)]
        for piece in pieces:
            assert piece.ndim == 1
            assert piece.dtype.kind == "i"
        found = np.concatenate([*pieces, stream.finish()])
        np.testing.assert_array_equal(found, model.predict(X))

    def test_streams_do_not_wait_for_the_end(self):
        params = random_params("gaussian-diag", 3, 2, seed=1, spread=5.0)
        X = sample("gaussian-diag", params, [2000], seed=1)
        stream = model_of(fastem, "gaussian-diag", params).stream()
        known = sum(len(stream.push(chunk)) for chunk in np.split(X, 20))
        # States far apart: paths merge within some steps.
        assert known > 1900


def impossible(kind):
    """A model of three states that cannot emit row 2 of the second sequence."""
    params = random_params(kind, 3, 2, seed=1)
    lengths = [4, 5, 3]
    X = sample(kind, params, lengths, seed=1)
    if kind == "categorical":
        params["emissionprob"] = normalized(params["emissionprob"] * [1, 1, 0])
        X[:] = 0
        X[4 + 2] = 2
    elif kind == "poisson":
        params["lambdas"][:, 1] = 0.0
        X[:, 1] = 0
        X[4 + 2, 1] = 1
    else:  # a state that is not to be reached, by a row that no other can emit
        params["startprob"] = np.array([0.5, 0.5, 0])
        params["transmat"][:2] = normalized(params["transmat"][:2] * [1, 1, 0])
    return params, X, lengths


METHODS = {
    "decode": lambda model, X, lengths: model.decode(X, lengths),
    "decode map": lambda model, X, lengths: model.decode(X, lengths, "map"),
    "predict": lambda model, X, lengths: model.predict(X, lengths),
    "predict_proba": lambda model, X, lengths: model.predict_proba(X, lengths),
    "score_samples": lambda model, X, lengths: model.score_samples(X, lengths),
    "filter": lambda model, X, lengths: model.filter(X, lengths),
    "predict_next": lambda model, X, lengths: model.predict_next(X, lengths),
    "smooth": lambda model, X, lengths: model.smooth(X, 1, lengths),
}


@pytest.mark.usefixtures("one_thread")
class TestImpossibleObservations:
    WHERE = r"sequence 1\b.*\bstep 2\b"

    @pytest.mark.parametrize("kind", ["categorical", "poisson"])
    def test_score_is_minus_infinity_and_says_where(self, kind):
        params, X, lengths = impossible(kind)
        model = model_of(fastem, kind, params)
        with pytest.warns(ImpossibleObservationWarning, match=self.WHERE):
            assert model.score(X, lengths) == -np.inf
        # The other sequences are as probable as ever.
        others = np.concatenate([X[:4], X[9:]])
        assert np.isfinite(model.score(others, [4, 3]))

    @pytest.mark.parametrize("kind", ["categorical", "poisson"])
    @pytest.mark.parametrize("method", METHODS)
    def test_nothing_is_said_of_states(self, kind, method):
        params, X, lengths = impossible(kind)
        model = model_of(fastem, kind, params)
        with pytest.raises(ValueError, match=self.WHERE):
            METHODS[method](model, X, lengths)

    @pytest.mark.parametrize("kind", ["categorical", "poisson"])
    @pytest.mark.parametrize("training", ["baum-welch", "viterbi"])
    # Of four rows, a state may get none.
    @pytest.mark.filterwarnings("ignore::fastem.exceptions.DegenerateComponentWarning")
    def test_fit_refuses(self, kind, training):
        params, X, lengths = impossible(kind)
        model = model_of(fastem, kind, params, training=training)
        fit(model, X[:4])
        before, history = model.score(X[:4]), model.monitor_.history
        with pytest.raises(ValueError, match=self.WHERE):
            model.fit(X, lengths)
        # The model is what it was.
        assert model.score(X[:4]) == before
        assert model.monitor_.history == history

    @pytest.mark.parametrize("kind", ["gaussian-diag", "categorical"])
    def test_fit_refuses_states_out_of_reach(self, kind):
        params, X, lengths = impossible("gaussian-diag")
        if kind != "gaussian-diag":
            chain = {name: params[name] for name in ("startprob", "transmat")}
            params = {**random_params(kind, 3, 2, seed=1), **chain}
            X = sample(kind, params, lengths)
        states = np.full(12, -1)
        states[4 + 2] = 2
        model = model_of(fastem, kind, params)
        with pytest.raises(ValueError, match=self.WHERE):
            model.fit(X, lengths, states=states)

    def test_missing_observations_are_not_impossible(self):
        params, X, lengths = impossible("categorical")
        weight = np.ones(12)
        weight[4 + 2] = 0.0
        model = model_of(fastem, "categorical", params, n_iter=1)
        fit(model, X, lengths, step_weight=weight)
        assert np.all(np.isfinite(model.monitor_.history))

    def test_far_outliers_are_not_impossible(self):
        """Densities underflow, their logarithms do not."""
        params, X, _ = case("gaussian-diag", 3, 2, [50], seed=1)
        X[20] = [1e6, -1e6]
        model = model_of(fastem, "gaussian-diag", params)
        want = oracle.infer("gaussian-diag", params, X)[0]
        np.testing.assert_allclose(model.score(X), want.log_likelihood, rtol=1e-12)
        np.testing.assert_allclose(model.predict_proba(X), want.gamma, atol=1e-9)
        model = fit(model_of(fastem, "gaussian-diag", params), X)
        assert np.all(np.isfinite(model.means_))
