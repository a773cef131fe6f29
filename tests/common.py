"""What several test files share: data, starts, and comparisons."""

import contextlib
import warnings

import numpy as np

from .reference import mixture as oracle

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
INIT_PARAMS = ("kmeans", "k-means++", "random", "random_from_data")

PARAMETERS = (
    "weights_",
    "means_",
    "covariances_",
    "precisions_",
    "precisions_cholesky_",
)


def blobs(n_rows, n_features, n_components, seed=0, spread=3.0):
    """Rows around `n_components` centres: unit-scale noise, correlated columns."""
    rng = np.random.default_rng(seed)
    centers = spread * rng.normal(size=(n_components, n_features))
    mixing = np.eye(n_features) + 0.3 * rng.normal(size=(n_features, n_features))
    labels = rng.integers(n_components, size=n_rows)
    return centers[labels] + rng.normal(size=(n_rows, n_features)) @ mixing


def random_params(X, n_components, covariance_type, seed=0):
    """A start that is neither converged nor symmetric: rows of X as means, and
    covariances of about X's own scale, condition numbers of about ten."""
    rng = np.random.default_rng(seed)
    n_features = X.shape[1]
    rows = rng.choice(len(X), size=n_components, replace=False)
    scale = X.astype(np.float64).var(axis=0).mean()

    def matrix():
        A = rng.normal(size=(n_features, 2 * n_features))
        return scale * (A @ A.T / (2 * n_features) + 0.3 * np.eye(n_features))

    covariances = {
        "full": lambda: np.stack([matrix() for _ in range(n_components)]),
        "tied": matrix,
        "diag": lambda: scale * rng.uniform(0.4, 2, (n_components, n_features)),
        "spherical": lambda: scale * rng.uniform(0.4, 2, n_components),
    }[covariance_type]()
    return oracle.Params(
        weights=rng.dirichlet(np.full(n_components, 5.0)),
        means=X[rows].astype(np.float64),
        covariances=covariances,
    )


def start_from(params, covariance_type):
    """`params` as constructor arguments of a mixture."""
    return {
        "n_components": len(params.weights),
        "covariance_type": covariance_type,
        "weights_init": params.weights,
        "means_init": params.means,
        "precisions_init": oracle.precisions(params.covariances, covariance_type),
    }


@contextlib.contextmanager
def unconverged():
    """Let a fit stop at `max_iter` without complaint; no other warning passes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge")
        yield


def fit(model, X, **kwargs):
    """Fit for a fixed number of iterations, where not converging is intended."""
    with unconverged():
        return model.fit(X, **kwargs)


def assert_same_bits(a, b):
    """Equal in type, shape and every bit (so 0.0 differs from -0.0)."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tobytes() == b.tobytes()


def assert_same_fit(a, b):
    """Two mixtures that are one model to the last bit."""
    for name in (*PARAMETERS, "lower_bounds_", "lower_bound_", "n_iter_"):
        assert_same_bits(getattr(a, name), getattr(b, name))


def assert_all_finite(model):
    for name in (*PARAMETERS, "lower_bound_"):
        assert np.all(np.isfinite(getattr(model, name))), name
