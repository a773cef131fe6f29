"""What hidden Markov models refuse: always a ValueError that says what and where."""

import numpy as np
import pytest

import fastem

from .reference import chains as oracle
from .test_hmm_cases import ONE_OF_EACH, case, fit, model_of, new_model, random_params

LENGTHS = [20, 1, 9]
READING = ("score", "score_samples", "decode", "predict", "predict_proba", "filter")
METHODS = ("fit", *READING, "predict_next", "smooth", "aic", "bic")


def call(model, method, X, lengths=None):
    if method == "smooth":
        return model.smooth(X, 1, lengths)
    return getattr(model, method)(X, lengths)


@pytest.fixture
def gaussian():
    params, X, _ = case("gaussian-diag", 3, 2, LENGTHS, seed=1)
    return model_of(fastem, "gaussian-diag", params), X


def refused(match):
    return pytest.raises(ValueError, match=f"(?is){match}")


@pytest.mark.parametrize("method", METHODS)
class TestRows:
    @pytest.mark.parametrize(("value", "name"), [(np.nan, "nan"), (np.inf, "inf")])
    @pytest.mark.parametrize("kind", ["gaussian-diag", "gaussian-full", "gmm-tied"])
    def test_not_finite(self, kind, method, value, name):
        params, X, _ = case(kind, 3, 2, LENGTHS, seed=1)
        X[22, 1] = value
        model = model_of(fastem, kind, params)
        with refused(f"(?=.*{name})(?=.*row 22)(?=.*column 1)"):
            call(model, method, X, LENGTHS)

    @pytest.mark.parametrize(
        ("lengths", "match"),
        [
            ([20, 9], r"lengths.*29.*30"),
            ([20, 1, 10], r"lengths.*31.*30"),
            ([20, -1, 11], r"lengths.*(-1|negative)"),
            ([[20, 1, 9]], r"lengths"),
            ([20.5, 0.5, 9], r"lengths.*integer"),
            ([], r"lengths"),
        ],
    )
    def test_lengths(self, gaussian, method, lengths, match):
        model, X = gaussian
        with refused(match):
            call(model, method, X, lengths)

    def test_number_of_features(self, gaussian, method):
        model, X = gaussian
        with refused("3.*features.*2|2.*features.*3|features.*3.*2|features.*2.*3"):
            call(model, method, np.c_[X, X[:, 0]])

    @pytest.mark.parametrize("shape", [(0, 2), (30,), (30, 2, 1)])
    def test_shape(self, gaussian, method, shape):
        model, _ = gaussian
        with refused("array|sample|row|dimension|shape"):
            call(model, method, np.zeros(shape))


@pytest.mark.parametrize("method", METHODS)
class TestCounts:
    @pytest.mark.parametrize(
        ("value", "match"), [(-1, "(-1|negative)"), (0.5, "integer"), (7, "7.*2")]
    )
    def test_symbols(self, method, value, match):
        params, X, _ = case("categorical", 3, 2, LENGTHS, seed=1)
        X = X.astype(type(value))
        X[22] = value
        model = model_of(fastem, "categorical", params)
        with refused(f"(?=.*{match})(?=.*22)"):
            call(model, method, X, LENGTHS)

    @pytest.mark.parametrize("value", [-1, 0.5])
    def test_events(self, method, value):
        params, X, _ = case("poisson", 3, 2, LENGTHS, seed=1)
        X = X.astype(type(value))
        X[22, 1] = value
        model = model_of(fastem, "poisson", params)
        with refused("(?=.*(negative|integer))(?=.*22)"):
            call(model, method, X, LENGTHS)

    @pytest.mark.parametrize("value", [-1, 0.5])
    def test_trials(self, method, value):
        params, X, _ = case("multinomial", 3, 2, LENGTHS, seed=1)
        X = X.astype(type(value))
        X[22, 1] = value
        model = model_of(fastem, "multinomial", params)
        with refused("(?=.*(negative|integer))(?=.*22)"):
            call(model, method, X, LENGTHS)


class TestFit:
    def test_missing_rows_are_numbers_as_well(self, gaussian):
        """Weight zero says that a row is missing, and NaN says nothing more."""
        model, X = gaussian
        X[22, 1] = np.nan
        with refused("(?=.*nan)(?=.*row 22)"):
            model.fit(X, LENGTHS, step_weight=np.arange(30) != 22)

    def test_trials_that_do_not_add_up(self):
        params, X, _ = case("multinomial", 3, 2, LENGTHS, seed=1)
        X[22, 0] += 1
        with refused("(?=.*n_trials|.*trials)(?=.*22)"):
            model_of(fastem, "multinomial", params).fit(X, LENGTHS)

    @pytest.mark.parametrize(
        ("given", "match"),
        [
            ({"sequence_weight": [1, -1, 1]}, "sequence_weight.*1"),
            ({"sequence_weight": [1, np.nan, 1]}, "sequence_weight.*1"),
            ({"sequence_weight": [1, np.inf, 1]}, "sequence_weight.*1"),
            ({"sequence_weight": [1, 1]}, "sequence_weight.*3"),
            ({"sequence_weight": np.ones(30)}, "sequence_weight.*3"),
            ({"sequence_weight": np.zeros(3)}, "sequence_weight.*zero"),
            ({"step_weight": -np.eye(30)[22]}, "step_weight.*22"),
            ({"step_weight": np.nan * np.eye(30)[22]}, "step_weight"),
            ({"step_weight": np.ones(29)}, "step_weight.*30"),
            ({"step_weight": np.ones((30, 1))}, "step_weight"),
            ({"states": np.where(np.arange(30) == 22, 3, -1)}, "states.*22"),
            ({"states": np.where(np.arange(30) == 22, -2, -1)}, "states.*22"),
            ({"states": np.full(30, 0.5)}, "states.*integer"),
            ({"states": np.zeros(29, int)}, "states.*30"),
        ],
    )
    def test_weights_and_states(self, gaussian, given, match):
        model, X = gaussian
        with refused(match):
            model.fit(X, LENGTHS, **given)

    @pytest.mark.parametrize(
        ("params", "match"),
        [
            ({"training": "hard"}, "training.*viterbi"),
            ({"algorithm": "best"}, "algorithm|decoder"),
            ({"implementation": "fast"}, "implementation.*scaling"),
            ({"covariance_type": "round"}, "covariance_type.*spherical"),
            ({"n_init": 0}, "n_init"),
            ({"fixed": {"trans": True}}, "fixed.*trans.*transmat"),
            ({"fixed": {"lambdas": True}}, "fixed.*lambdas"),
            ({"fixed": {"means": np.ones((4, 2), bool)}}, "fixed.*means"),
            ({"fixed": {"transmat": np.full((3, 3), 0.5)}}, "fixed.*transmat"),
        ],
    )
    def test_constructor(self, gaussian, params, match):
        model, X = gaussian
        model.set_params(**params)
        with refused(match):
            model.fit(X)

    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    @pytest.mark.parametrize("n_states", [0, -1])
    def test_number_of_states(self, kind, n_states):
        X = case(kind, 3, 2, LENGTHS, seed=1)[1]
        with refused("n_components"):
            new_model(fastem, kind, n_states, 3).fit(X)


def test_algorithm(gaussian):
    model, X = gaussian
    with refused("algorithm|decoder"):
        model.decode(X, algorithm="best")


@pytest.mark.parametrize("lag", [-1, 0.5])
def test_lag(gaussian, lag):
    model, X = gaussian
    with refused("lag"):
        model.smooth(X, lag)


def test_streams_look_at_their_rows(gaussian):
    model, X = gaussian
    stream = model.stream()
    stream.push(X)
    for rows in (np.full((1, 2), np.nan), np.zeros((1, 3))):
        with refused("nan|features"):
            stream.push(rows)


CYCLE = np.roll(np.eye(3), 1, axis=1)

# The parameter, how it is spoilt, and what the message names beside it.
SPOILT = {
    "rows that do not sum to one": ("poisson", "transmat", lambda a: 2 * a, "sum"),
    "an all-zero row": ("poisson", "transmat", lambda a: a * [[1], [0], [1]], "sum"),
    "a start of another sum": ("poisson", "startprob", lambda a: 2 * a, "sum"),
    "too short a start": ("poisson", "startprob", lambda a: a[:2] / sum(a[:2]), ""),
    "too few rows": ("poisson", "transmat", lambda a: a[:2], "shape"),
    "no start": ("poisson", "startprob", lambda a: [], ""),
    "negative": ("poisson", "transmat", lambda a: a + 3 * (CYCLE - np.eye(3)), ""),
    "not a number": ("poisson", "transmat", lambda a: np.nan * a, ""),
    "negative rates": ("poisson", "lambdas", lambda a: -a, ""),
    "too few rates": ("poisson", "lambdas", lambda a: a[:2], ""),
    "not a number of a mean": ("gaussian-diag", "means", lambda a: np.nan * a, ""),
    "too few means": ("gaussian-diag", "means", lambda a: a[:2], ""),
    "symbols that do not sum": ("categorical", "emissionprob", lambda a: 2 * a, "sum"),
    "too few states": ("categorical", "emissionprob", lambda a: a[:2], ""),
    "events that do not sum": ("multinomial", "emissionprob", lambda a: 2 * a, "sum"),
    "weights that do not sum": ("gmm-diag", "weights", lambda a: 2 * a, "sum"),
    "too few mixtures": ("gmm-diag", "means", lambda a: a[:, :1], ""),
    "negative variances": ("gmm-diag", "covars", lambda a: -a, ""),
    "no square": ("gmm-full", "covars", lambda a: a[..., :1], ""),
    "not symmetric": ("gmm-full", "covars", lambda a: a + np.eye(2, k=1), ""),
    "not positive": ("gmm-tied", "covars", lambda a: -a, ""),
}


@pytest.mark.parametrize("method", ["fit", "score", "predict"])
@pytest.mark.parametrize("trouble", SPOILT)
def test_parameters(trouble, method):
    kind, name, spoil, match = SPOILT[trouble]
    params, X, _ = case(kind, 3, 2, LENGTHS, seed=1)
    model = model_of(fastem, kind, params)
    with refused(f"{name}_?.*{match}"):
        setattr(model, f"{name}_", spoil(params[name]))
        call(model, method, X)


@pytest.mark.parametrize("shape", oracle.COVARIANCE_TYPES)
def test_covariances(shape):
    """As hmmlearn does, the setter looks at them."""
    kind = f"gaussian-{shape}"
    params = random_params(kind, 3, 2)
    model = model_of(fastem, kind, params)
    for bad in (-params["covars"], 0 * params["covars"]):
        with refused(f"{shape}.*covars|covars.*{shape}|covars.*positive"):
            model.covars_ = bad


def test_a_refused_fit_leaves_the_model_as_it_was(gaussian):
    model, X = gaussian
    before = fit(model, X).score(X)
    with refused("nan"):
        model.fit(np.where(X == X[3], np.nan, X))
    assert model.score(X) == before
