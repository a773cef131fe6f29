"""Data sets that every benchmark draws from, and the start EM gets on them."""

from typing import NamedTuple

import numpy as np


class Start(NamedTuple):
    """Parameters EM starts from, shaped as scikit-learn's ``*_init`` arguments."""

    weights: np.ndarray
    means: np.ndarray
    precisions: np.ndarray

    def astype(self, dtype):
        return Start(*(field.astype(dtype) for field in self))


class ChainStart(NamedTuple):
    """A hidden Markov model with diagonal covariances, by hmmlearn's names."""

    startprob: np.ndarray
    transmat: np.ndarray
    means: np.ndarray
    covars: np.ndarray


def blobs(n_rows, n_features, n_components, covariance_type="full", seed=0):
    """Return blobs of unit covariance, mostly far apart, and a start near them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_components, n_features)) * 4
    X = rng.normal(size=(n_rows, n_features))
    X += centres[rng.integers(n_components, size=n_rows)]
    means = centres + 0.5 * rng.normal(size=centres.shape)
    return X, _unit_start(means, covariance_type)


def overlapping(n_rows, n_features, n_components, covariance_type="full", seed=0):
    """Return one cloud and a start so tight that every row is of all components."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_features))
    means = 0.01 * rng.normal(size=(n_components, n_features))
    return X, _unit_start(means, covariance_type)


def _unit_start(means, covariance_type):
    n_components, n_features = means.shape
    identity = np.eye(n_features)
    precisions = {
        "full": np.tile(identity, (n_components, 1, 1)),
        "tied": identity,
        "diag": np.ones((n_components, n_features)),
        "spherical": np.ones(n_components),
    }
    weights = np.full(n_components, 1 / n_components)
    return Start(weights, means, precisions[covariance_type])


def chain(n_rows, n_features, n_states, stay=0.9, distance=3.0, seed=0):
    """Return rows that a hidden Markov chain emits, and a start near their model.

    The chain stays in its state with a given probability and leaves for any other;
    ``distance`` is that of neighbouring means, in standard deviations.
    """
    rng = np.random.default_rng(seed)
    if n_features == 1:
        means = distance * np.arange(n_states, dtype=float)[:, None]
    else:
        means = distance * rng.normal(size=(n_states, n_features))
    states = np.where(rng.random(n_rows) < stay, 0, rng.integers(1, n_states, n_rows))
    np.cumsum(states, out=states)
    states %= n_states
    X = rng.normal(size=(n_rows, n_features))
    X += means[states]
    return X, _start_near(means, stay, distance, rng)


def _start_near(means, stay, distance, rng):
    n_states = len(means)
    wandering = rng.dirichlet(np.full(n_states, 3.0), n_states)
    return ChainStart(
        np.full(n_states, 1 / n_states),
        0.9 * stay * np.eye(n_states) + (1 - 0.9 * stay) * wandering,
        means + distance / 10 * rng.normal(size=means.shape),
        np.full(means.shape, 1.2),
    )
