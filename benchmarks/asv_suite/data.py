"""Rows, and models that start near what made them."""

import numpy as np

from .common import since

STAY = 0.9  # of a chain in its state


def blobs(shape, dtype="float64"):
    """Return rows of well separated components, and means near theirs."""
    n_rows, n_features, n_components = shape
    rng = np.random.default_rng(0)
    centres = 4 * rng.normal(size=(n_components, n_features))
    X = rng.normal(size=(n_rows, n_features))
    X += centres[rng.integers(n_components, size=n_rows)]
    return X.astype(dtype), (centres + 0.5).astype(dtype)


def cloud(shape, dtype="float64"):
    """Return rows that all components share, and means close together."""
    n_rows, n_features, n_components = shape
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_features))
    means = 0.01 * rng.normal(size=(n_components, n_features))
    return X.astype(dtype), means.astype(dtype)


def mixture(means, covariance_type, max_iter):
    """Return a mixture that does ``max_iter`` iterations, from unit precisions."""
    n_components, n_features = means.shape
    identity = np.eye(n_features, dtype=means.dtype)
    precisions = {
        "full": np.tile(identity, (n_components, 1, 1)),
        "tied": identity,
        "diag": np.ones_like(means),
        "spherical": np.ones(n_components, means.dtype),
    }
    return since("GaussianMixture")(
        n_components,
        covariance_type=covariance_type,
        weights_init=np.full(n_components, 1 / n_components, means.dtype),
        means_init=means,
        precisions_init=precisions[covariance_type],
        tol=0.0,
        max_iter=max_iter,
    )


def kmeans(X, n_clusters, max_iter):
    """Return a k-means that does ``max_iter`` iterations, from the first rows."""
    return since("KMeans")(
        n_clusters, init=X[:n_clusters], n_init=1, max_iter=max_iter, tol=0
    )


def chain(n_states, n_steps, n_features=2):
    """Return rows of a chain that stays where it is most of the time, and its means."""
    rng = np.random.default_rng(0)
    means = 3 * rng.normal(size=(n_states, n_features))
    leaps = np.where(
        rng.random(n_steps) < STAY, 0, rng.integers(1, n_states, size=n_steps)
    )
    X = rng.normal(size=(n_steps, n_features))
    X += means[leaps.cumsum() % n_states]
    return X, means


def hmm(means, n_iter):
    """Return a Markov model with all parameters, which does ``n_iter`` iterations."""
    n_states = len(means)
    model = since("GaussianHMM")(n_states, n_iter=n_iter, tol=-1e300, init_params="")
    model.startprob_ = np.full(n_states, 1 / n_states)
    model.transmat_ = np.full((n_states, n_states), (1 - STAY) / n_states)
    model.transmat_[np.diag_indices(n_states)] += STAY
    model.means_ = means + 0.3
    model.covars_ = np.ones_like(means)
    return model
