"""Hidden Markov models by the book.

Rabiner, A tutorial on hidden Markov models (1989), Proc. IEEE 77, gives the formulas;
equation numbers below are his. Two independent ways lead to every quantity: counting
all K**T paths, which is the definition, and recursion over time in logarithms. Both
take logarithms `log_start` (K,), `log_trans` (K, K) and `log_emission` (T, K) of one
sequence, so that whoever calls expresses weights and known states through the latter
(`evidence`). The M-steps are those that hmmlearn documents, priors included.

Letters: N rows in all, T rows of one sequence, K states, M mixture components of a
state, D features. A model is a dictionary of its parameters by hmmlearn's names.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from . import mixture

COVARIANCE_TYPES = ("diag", "full", "tied", "spherical")
GAUSSIAN = tuple(f"gaussian-{kind}" for kind in COVARIANCE_TYPES)
GMM = tuple(f"gmm-{kind}" for kind in COVARIANCE_TYPES)
KINDS = (*GAUSSIAN, *GMM, "categorical", "multinomial", "poisson")
CLASSES = {
    "gaussian": "GaussianHMM",
    "gmm": "GMMHMM",
    "categorical": "CategoricalHMM",
    "multinomial": "MultinomialHMM",
    "poisson": "PoissonHMM",
}


class Inference(NamedTuple):
    """All that can be asked of one sequence under one model."""

    log_likelihood: float
    gamma: np.ndarray
    """`gamma[t, i] = P(z[t] = i | x[1..T])`, (27)."""
    xi: np.ndarray
    """`xi[i, j] = sum_t P(z[t] = i, z[t+1] = j | x[1..T])`, (37) summed."""
    path: np.ndarray
    """The most probable path; of several, the one whose last state is the first,
    then the last but one, and so on."""
    log_path: float
    """`log P(path, x)`."""
    filtered: np.ndarray
    """`P(z[t] = i | x[1..t])`."""
    following: np.ndarray
    """`P(z[T+1] = i | x[1..T])`, shape (K,)."""


def log(p):
    with np.errstate(divide="ignore"):
        return np.log(p)


def by_paths(log_start, log_trans, log_emission):
    """Every path weighed by its probability. The definition, for tiny T and K."""
    n_steps, n_states = log_emission.shape
    # Read backwards, so that the first largest one is the one that `path` promises.
    reverse = itertools.product(range(n_states), repeat=n_steps)
    paths = np.array(list(reverse))[:, ::-1]
    joint = log_start[paths[:, 0]] + log_emission[0, paths[:, 0]]
    for t in range(1, n_steps):
        joint = joint + log_trans[paths[:, t - 1], paths[:, t]]
        joint = joint + log_emission[t, paths[:, t]]
    log_likelihood = logsumexp(joint)
    weight = np.exp(joint - log_likelihood)
    gamma = np.zeros((n_steps, n_states))
    xi = np.zeros((n_states, n_states))
    for t in range(n_steps):
        np.add.at(gamma[t], paths[:, t], weight)
        if t:
            np.add.at(xi, (paths[:, t - 1], paths[:, t]), weight)
    filtered = gamma[-1:]
    if n_steps > 1:
        earlier = by_paths(log_start, log_trans, log_emission[:-1]).filtered
        filtered = np.concatenate([earlier, filtered])
    best = joint.argmax()
    following = filtered[-1] @ np.exp(log_trans)
    return Inference(
        log_likelihood, gamma, xi, paths[best], joint[best], filtered, following
    )


def forward(log_start, log_trans, log_emission):
    """`log P(z[t] = i | x[1..t])` and `log P(x[t] | x[1..t-1])`: (19) to (21), each
    step divided by its sum as in (91), so that logarithms stay small and precise."""
    filtered = np.empty_like(log_emission)
    evidence = np.empty(len(log_emission), dtype=log_emission.dtype)
    ahead = log_start
    for t, emission in enumerate(log_emission):
        alpha = ahead + emission
        evidence[t] = np.logaddexp.reduce(alpha)
        filtered[t] = alpha - evidence[t]
        ahead = np.logaddexp.reduce(filtered[t][:, None] + log_trans, axis=0)
    return filtered, evidence, ahead


def backward(log_trans, log_emission, evidence):
    """(24) and (25), divided by the same sums."""
    beta = np.zeros_like(log_emission)
    for t in range(len(log_emission) - 2, -1, -1):
        ahead = log_emission[t + 1] + beta[t + 1] - evidence[t + 1]
        beta[t] = np.logaddexp.reduce(log_trans + ahead, axis=1)
    return beta


def viterbi(log_start, log_trans, log_emission):
    """The most probable path and its log-probability, (32) to (35)."""
    n_steps = len(log_emission)
    came_from = np.zeros(log_emission.shape, dtype=int)
    delta = log_start + log_emission[0]
    for t in range(1, n_steps):
        candidates = delta[:, None] + log_trans
        came_from[t] = candidates.argmax(axis=0)
        delta = candidates.max(axis=0) + log_emission[t]
    path = np.empty(n_steps, dtype=int)
    path[-1] = delta.argmax()
    for t in range(n_steps - 1, 0, -1):
        path[t - 1] = came_from[t, path[t]]
    return path, delta.max()


def log_path(log_start, log_trans, log_emission, path):
    """`log P(path, x)` of any path."""
    steps = log_trans[path[:-1], path[1:]].sum()
    return log_start[path[0]] + steps + log_emission[range(len(path)), path].sum()


def by_recursion(log_start, log_trans, log_emission):
    """The same as `by_paths`, for sequences of any length."""
    # Emissions against the largest of their step: an outlier costs no digits.
    largest = log_emission.max(axis=1)
    log_emission = log_emission - largest[:, None]
    filtered, evidence, ahead = forward(log_start, log_trans, log_emission)
    beta = backward(log_trans, log_emission, evidence)
    arriving = log_emission[1:] + beta[1:] - evidence[1:, None]
    pairs = filtered[:-1, :, None] + log_trans + arriving[:, None, :]
    path, log_path = viterbi(log_start, log_trans, log_emission)
    return Inference(
        evidence.sum() + largest.sum(),
        np.exp(filtered + beta),
        np.exp(pairs).sum(axis=0),
        path,
        log_path + largest.sum(),
        np.exp(filtered),
        np.exp(ahead),
    )


def smooth(log_start, log_trans, log_emission, lag, infer=by_recursion):
    """`P(z[t] = i | x[1..min(t+lag, T)])`, from the sequence cut off there."""
    out = np.empty_like(log_emission)
    for t in range(len(log_emission)):
        out[t] = infer(log_start, log_trans, log_emission[: t + lag + 1]).gamma[t]
    return out


def split(rows, lengths):
    """The rows of each sequence."""
    return np.split(rows, np.cumsum(lengths)[:-1])


def evidence(log_emission, step_weight=None, states=None):
    """Emissions to the power of their weights, impossible but in a known state."""
    out = np.array(log_emission)
    if step_weight is not None:
        weight = np.asarray(step_weight, dtype=float)[:, None]
        out = np.where(weight == 0, 0.0, out * np.where(weight == 0, 1.0, weight))
    if states is not None:
        known = np.asarray(states)[:, None]
        out[(known >= 0) & (known != np.arange(out.shape[1]))] = -np.inf
    return out


def covariance_type(kind):
    return kind.partition("-")[2]


def log_components(kind, params, X):
    """`out[n, k, m]`: log of weight times density of component m of state k."""
    return np.stack(
        [
            mixture.log_density(X, mixture.Params(None, means, covars), shape)
            + log(weights)
            for weights, means, covars, shape in zip(
                params["weights"],
                params["means"],
                params["covars"],
                itertools.repeat(covariance_type(kind)),
            )
        ],
        axis=1,
    )


def log_emission(kind, params, X):
    """`out[n, k] = log b[k](x[n])`."""
    if kind in GAUSSIAN:
        gaussians = mixture.Params(None, params["means"], params["covars"])
        return mixture.log_density(X, gaussians, covariance_type(kind))
    if kind in GMM:
        return logsumexp(log_components(kind, params, X), axis=2)
    if kind == "categorical":
        return log(params["emissionprob"])[:, X[:, 0]].T
    if kind == "multinomial":
        n = X.sum(axis=1)
        each = [stats.multinomial.logpmf(X, n, p) for p in params["emissionprob"]]
        return np.array(each).reshape(-1, len(X)).T
    return np.stack(
        [stats.poisson.logpmf(X, rate).sum(axis=1) for rate in params["lambdas"]],
        axis=1,
    )


def infer(kind, params, X, lengths=None, infer=by_recursion, **known):
    """An `Inference` for each sequence; `known` is what `evidence` takes."""
    emissions = evidence(log_emission(kind, params, X), **known)
    chain = log(params["startprob"]), log(params["transmat"])
    lengths = [len(X)] if lengths is None else lengths
    return [infer(*chain, rows) for rows in split(emissions, lengths)]


def gaussian_m_step(shape, X, weight, means_prior=0, means_weight=0, **priors):
    """Huang, Acero and Hon, Spoken Language Processing (2001), 9.3. A number as
    `covars_prior` is a multiple of the identity; hmmlearn's, of ones everywhere."""
    covars_prior = priors.get("covars_prior", 1e-2)
    if shape in ("full", "tied") and np.ndim(covars_prior) == 0:
        covars_prior = covars_prior * np.eye(X.shape[1])
    covars_weight = priors.get("covars_weight", 1)
    mass = weight.sum(axis=0)
    means = priors.get("means")
    if means is None:
        means = (means_weight * means_prior + weight.T @ X) / (
            means_weight + mass[:, None]
        )
    scatter = np.stack(
        [
            (w[:, None] * (X - m)).T @ (X - m)
            for w, m in zip(weight.T, means, strict=True)
        ]
    )
    away = means - means_prior
    scatter += means_weight * away[:, :, None] * away[:, None, :]
    diagonal = np.diagonal(scatter, axis1=1, axis2=2)
    if shape in ("diag", "spherical"):
        variances = (covars_prior + diagonal) / (
            max(covars_weight - 1, 0) + mass[:, None]
        )
        return means, variances if shape == "diag" else variances.mean(axis=1)
    extra = max(covars_weight - X.shape[1], 0)
    if shape == "tied":
        return means, (covars_prior + scatter.sum(axis=0)) / (extra + mass.sum())
    return means, (covars_prior + scatter) / (extra + mass[:, None, None])


def gmm_m_step(kind, params, X, weight):
    """Without priors. hmmlearn takes scatter about the means that the iteration began
    with: a conditional maximum, after which the likelihood is no lower either.

    Its default prior of spherical covariances divides by `D mass + D - M`.
    """
    shape = covariance_type(kind)
    n_features = X.shape[1]
    joint = log_components(kind, params, X)
    shares = np.exp(joint - logsumexp(joint, axis=2, keepdims=True))
    shares = weight[:, :, None] * shares
    mass = shares.sum(axis=0)
    means = np.einsum("nkm,nd->kmd", shares, X) / mass[:, :, None]
    centred = X[:, None, None, :] - params["means"]
    scatter = np.einsum("nkm,nkmd,nkme->kmde", shares, centred, centred)
    if shape == "full":
        covars = scatter / mass[:, :, None, None]
    elif shape == "tied":
        covars = scatter.sum(axis=1) / mass.sum(axis=1)[:, None, None]
    else:
        covars = np.diagonal(scatter, axis1=2, axis2=3) / mass[:, :, None]
    if shape == "spherical":
        total = covars.sum(axis=2) * mass
        covars = total / (n_features * mass + n_features - mass.shape[1])
    return mass / mass.sum(axis=1, keepdims=True), means, covars


def keep(mask, old, new, distribution=False):
    """`new` but where `mask` is true; what is left of a distribution is shared out in
    proportion, which is the maximum under that constraint, or as before if nothing
    was counted there."""
    mask = np.broadcast_to(mask, old.shape)
    if not distribution:
        return np.where(mask, old, new)
    free = np.where(mask, 0, new)
    free = np.where(free.sum(axis=-1, keepdims=True) > 0, free, np.where(mask, 0, old))
    total = free.sum(axis=-1, keepdims=True)
    room = 1 - np.where(mask, old, 0).sum(axis=-1, keepdims=True)
    return np.where(mask, old, free * room / np.where(total == 0, 1, total))


def em_step(
    kind,
    params,
    X,
    lengths=None,
    sequence_weight=None,
    step_weight=None,
    states=None,
    hard=False,
    fixed=None,
    priors=None,
):
    """The parameters after one iteration, (40) and on, and what it started from: the
    log-likelihood, or with `hard` the log-probability of the best paths."""
    fixed, priors = fixed or {}, priors or {}
    lengths = [len(X)] if lengths is None else lengths
    counts = np.ones(len(lengths)) if sequence_weight is None else sequence_weight
    power = np.ones(len(X)) if step_weight is None else np.asarray(step_weight)
    n_states = len(params["startprob"])
    start, trans, gammas = np.zeros(n_states), np.zeros((n_states, n_states)), []
    objective = 0.0
    found = infer(kind, params, X, lengths, step_weight=step_weight, states=states)
    for count, one in zip(counts, found, strict=True):
        gamma, xi = one.gamma, one.xi
        if hard:
            gamma = np.eye(n_states)[one.path]
            xi = gamma[:-1].T @ gamma[1:]
        start += count * gamma[0]
        trans += count * xi
        gammas.append(count * gamma)
        objective += count * (one.log_path if hard else one.log_likelihood)
    weight = power[:, None] * np.concatenate(gammas)

    def distribution(name, counts, prior=1.0):
        old = params[name]
        raised = np.where(old == 0, 0, np.maximum(prior - 1 + counts, 0))
        new = raised / raised.sum(axis=-1, keepdims=True)
        return keep(fixed.get(name, False), old, new, distribution=True)

    new = {
        "startprob": distribution("startprob", start, priors.get("startprob_prior", 1)),
        "transmat": distribution("transmat", trans, priors.get("transmat_prior", 1)),
    }
    if kind in GAUSSIAN:
        shape = covariance_type(kind)
        others = {k: v for k, v in priors.items() if k[:5] in ("means", "covar")}
        means, _ = gaussian_m_step(shape, X, weight, **others)
        new["means"] = keep(fixed.get("means", False), params["means"], means)
        others["means"] = new["means"]
        _, covars = gaussian_m_step(shape, X, weight, **others)
        new["covars"] = keep(fixed.get("covars", False), params["covars"], covars)
    elif kind in GMM:
        weights, means, covars = gmm_m_step(kind, params, X, weight)
        new["weights"] = keep(
            fixed.get("weights", False), params["weights"], weights, distribution=True
        )
        new["means"] = keep(fixed.get("means", False), params["means"], means)
        new["covars"] = keep(fixed.get("covars", False), params["covars"], covars)
    elif kind == "poisson":
        # hmmlearn weighs the prior against the rows of all states together.
        rates = weight.T @ X / weight.sum(axis=0)[:, None]
        n, alpha = weight.sum(), priors.get("lambdas_prior", 0.0)
        rates = (alpha + n * rates) / (priors.get("lambdas_weight", 0.0) + n)
        new["lambdas"] = keep(fixed.get("lambdas", False), params["lambdas"], rates)
    else:
        n_symbols = params["emissionprob"].shape[1]
        seen = np.eye(n_symbols)[X[:, 0]] if kind == "categorical" else X
        prior = priors.get("emissionprob_prior", 1.0)
        raised = np.maximum(prior - 1 + weight.T @ seen, 0)
        total = raised.sum(axis=1, keepdims=True)
        new["emissionprob"] = keep(
            fixed.get("emissionprob", False),
            params["emissionprob"],
            raised / total,
            distribution=True,
        )
    return new, objective


def em(kind, params, X, n_iter, **kwargs):
    """`n_iter` iterations, and what each one started from."""
    history = []
    for _ in range(n_iter):
        params, objective = em_step(kind, params, X, **kwargs)
        history.append(objective)
    return params, np.array(history)
