"""Hidden Markov models and data that the test_hmm_*.py files share, and the two
oracles held against each other."""

import numpy as np
import pytest

from .common import unconverged
from .reference import chains as oracle
from .reference import mixture

N_MIX, N_TRIALS = 2, 6

# Each iteration hands its rounding to the next, somewhat enlarged.
FITTED = {"rtol": 1e-8, "atol": 1e-9}

# One of each class, where the covariances' shape is not the question.
ONE_OF_EACH = ("gaussian-full", "gmm-diag", "categorical", "multinomial", "poisson")

# No row sums to zero, and many a path is impossible.
TRANSMATS = {
    "dense": lambda k, rng: rng.dirichlet(np.full(k, 2.0), size=k),
    "left-right": lambda k, rng: normalized(
        np.triu(rng.uniform(0.2, 1, (k, k))) * (np.tri(k, k, 1) > 0)
    ),
    "banded": lambda k, rng: normalized(
        rng.uniform(0.2, 1, (k, k)) * (np.tri(k, k, 1) - np.tri(k, k, -2))
    ),
    "cyclic": lambda k, rng: np.roll(np.eye(k), 1, axis=1),
}


def normalized(a):
    return a / a.sum(axis=-1, keepdims=True)


def random_covars(shape, leading, n_features, rng):
    """Of unit scale, condition numbers of about ten, in hmmlearn's shapes: `leading`
    is (K,), or (K, M) of a mixture."""

    def matrices(leading):
        A = rng.normal(size=(*leading, n_features, 2 * n_features))
        return A @ A.swapaxes(-1, -2) / (2 * n_features) + 0.3 * np.eye(n_features)

    if shape in ("diag", "spherical"):
        size = (*leading, n_features) if shape == "diag" else leading
        return rng.uniform(0.5, 1.5, size)
    # Tied is one matrix for all states, or one for all components of a state.
    return matrices(leading if shape == "full" else leading[:-1])


def random_params(kind, n_states, n_features, seed=0, transmat="dense", spread=2.0):
    """A model by hmmlearn's names, its states apart but overlapping."""
    rng = np.random.default_rng(seed)
    leading = (n_states, N_MIX) if kind in oracle.GMM else (n_states,)
    params = {
        "startprob": rng.dirichlet(np.full(n_states, 3.0)),
        "transmat": TRANSMATS[transmat](n_states, rng),
    }
    if kind in oracle.GMM:
        params["weights"] = rng.dirichlet(np.full(N_MIX, 5.0), size=n_states)
    if kind in oracle.GMM or kind in oracle.GAUSSIAN:
        params["means"] = spread * rng.normal(size=(*leading, n_features))
        shape = oracle.covariance_type(kind)
        params["covars"] = random_covars(shape, leading, n_features, rng)
    elif kind == "poisson":
        params["lambdas"] = rng.uniform(0.5, 8, (n_states, n_features))
    else:
        size = (n_states, n_features + 1)  # one symbol alone would say nothing
        params["emissionprob"] = normalized(rng.uniform(0.05, 1, size) ** spread)
    return params


def sample(kind, params, lengths, seed=0):
    """Rows that the model emits."""
    rng = np.random.default_rng(seed)
    rows = []
    for n_steps in lengths:
        chances = params["startprob"]
        for _ in range(n_steps):
            state = rng.choice(len(chances), p=chances)
            rows.append(emit(kind, params, state, rng))
            chances = params["transmat"][state]
    return np.array(rows)


def emit(kind, params, state, rng):
    if kind == "categorical":
        chances = params["emissionprob"][state]
        return [rng.choice(len(chances), p=chances)]
    if kind == "multinomial":
        return rng.multinomial(N_TRIALS, params["emissionprob"][state])
    if kind == "poisson":
        return rng.poisson(params["lambdas"][state])
    means, covars = params["means"], params["covars"]
    if kind in oracle.GMM:
        means, covars = means[state], covars[state]
        state = rng.choice(N_MIX, p=params["weights"][state])
    shape = oracle.covariance_type(kind)
    matrices = mixture.covariance_matrices(covars, shape, *means.shape)
    return rng.multivariate_normal(means[state], matrices[state])


def nudged(params, seed=0):
    """A start for EM somewhat off the model that the data come from, with its zeros."""
    rng = np.random.default_rng(seed)
    moved = {}
    for name, value in params.items():
        if name == "means":
            moved[name] = value + 0.4 * rng.normal(size=value.shape)
        elif name == "covars":
            moved[name] = 1.3 * value
        elif name == "lambdas":
            moved[name] = value * rng.uniform(0.7, 1.4, value.shape)
        else:
            moved[name] = normalized(value * rng.uniform(0.5, 1.5, value.shape))
    return moved


def case(kind, n_states, n_features, lengths, seed=0, **kwargs):
    """A model, rows it emitted, and a start for fitting them."""
    params = random_params(kind, n_states, n_features, seed, **kwargs)
    return params, sample(kind, params, lengths, seed), nudged(params, seed)


def new_model(module, kind, n_states, n_features, **kwargs):
    """A model of `module`, fastem or hmmlearn.hmm, that has no parameters yet."""
    if shape := oracle.covariance_type(kind):
        kwargs["covariance_type"] = shape
    if kind in oracle.GMM:
        kwargs["n_mix"] = N_MIX
    if kind == "categorical":
        kwargs["n_features"] = n_features
    if kind == "multinomial":
        kwargs["n_trials"] = N_TRIALS
    name = oracle.CLASSES[kind.partition("-")[0]]
    return getattr(module, name)(n_states, **kwargs)


def model_of(module, kind, start, **kwargs):
    """A model that has these parameters and fits from them for `n_iter` iterations."""
    kwargs = {"init_params": "", "n_iter": 3, "tol": 0.0, **kwargs}
    n_features = start["emissionprob"].shape[1] if "emissionprob" in start else None
    model = new_model(module, kind, len(start["startprob"]), n_features, **kwargs)
    for name, value in start.items():
        setattr(model, f"{name}_", np.array(value))
    return model


def fit(model, X, lengths=None, **kwargs):
    """Fit for a fixed number of iterations, where not converging is intended."""
    with unconverged():
        return model.fit(X, lengths, **kwargs)


def as_read(kind, params):
    """`params` in the shapes in which a model's attributes read: GaussianHMM writes
    all covariances out as matrices."""
    if kind not in oracle.GAUSSIAN:
        return params
    covars = mixture.covariance_matrices(
        params["covars"], oracle.covariance_type(kind), *params["means"].shape
    )
    return {**params, "covars": covars}


def assert_params(model, kind, params, **tolerance):
    for name, want in as_read(kind, params).items():
        got = getattr(model, f"{name}_")
        assert np.shape(got) == want.shape, name
        np.testing.assert_allclose(got, want, err_msg=name, **tolerance)


class TestOracles:
    """Counting paths and recursion know nothing of each other."""

    @pytest.mark.parametrize("transmat", TRANSMATS)
    @pytest.mark.parametrize(("k", "n_steps"), [(1, 1), (1, 4), (2, 6), (3, 5), (4, 4)])
    def test_recursion_counts_paths(self, transmat, k, n_steps):
        params = random_params("gaussian-diag", k, 2, seed=k, transmat=transmat)
        X = sample("gaussian-diag", params, [n_steps], seed=n_steps)
        chain = oracle.log(params["startprob"]), oracle.log(params["transmat"])
        emission = oracle.log_emission("gaussian-diag", params, X)
        a, b = oracle.by_paths(*chain, emission), oracle.by_recursion(*chain, emission)
        for name, counted, recursive in zip(a._fields, a, b, strict=True):
            np.testing.assert_allclose(recursive, counted, atol=1e-13, err_msg=name)
        for lag in (0, 1, n_steps):
            counted = oracle.smooth(*chain, emission, lag, infer=oracle.by_paths)
            recursive = oracle.smooth(*chain, emission, lag)
            np.testing.assert_allclose(recursive, counted, atol=1e-13)
        last = oracle.smooth(*chain, emission, n_steps)
        np.testing.assert_allclose(last, a.gamma, atol=1e-13)
        first = oracle.smooth(*chain, emission, 0)
        np.testing.assert_allclose(first, a.filtered, atol=1e-13)

    def test_recursion_loses_no_digits(self):
        """In long double there are three more; the chain remembers all its steps."""
        rng = np.random.default_rng(0)
        chance = np.full(3, 1 / 3), 0.9998 * np.eye(3) + 1e-4 * (1 - np.eye(3))
        emission = 0.01 * rng.normal(size=(5000, 3))
        found, exact = (
            oracle.by_recursion(
                *(np.log(p.astype(dtype)) for p in chance), emission.astype(dtype)
            )
            for dtype in (np.float64, np.longdouble)
        )
        np.testing.assert_allclose(found.gamma, exact.gamma.astype(float), atol=1e-12)
        np.testing.assert_array_equal(found.path, exact.path)

    def test_ties_go_to_the_first_state_from_the_end(self):
        chain = np.log([0.5, 0.5]), np.log([[0.25, 0.75], [0.75, 0.25]])
        emission = np.zeros((3, 2))
        for infer in (oracle.by_paths, oracle.by_recursion):
            np.testing.assert_array_equal(infer(*chain, emission).path, [0, 1, 0])

    @pytest.mark.parametrize("kind", oracle.KINDS)
    def test_likelihood_never_falls(self, kind):
        _, X, start = case(kind, 3, 2, [40, 30], seed=5)
        priors = {"covars_prior": 0.0, "covars_weight": 1}
        _, history = oracle.em(
            kind, start, X, 8, lengths=[40, 30], hard=False, priors=priors
        )
        # Sums of some hundred terms of order one.
        assert np.diff(history).min() > -1e-10
        assert history[-1] > history[0] + 0.1
