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
