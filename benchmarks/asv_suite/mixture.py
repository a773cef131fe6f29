"""Speed, memory and result of GaussianMixture."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

import fastem
from fastem import GaussianMixture

COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]
DTYPES = ["float64", "float32"]
N_ROWS, N_FEATURES, N_COMPONENTS = 100_000, 8, 16

# The number of iterations is fixed, whether or not EM has converged by then.
warnings.simplefilter("ignore", ConvergenceWarning)


def blobs(dtype="float64"):
    """Return rows of well separated components, and means near them."""
    rng = np.random.default_rng(0)
    centres = 4 * rng.normal(size=(N_COMPONENTS, N_FEATURES))
    X = rng.normal(size=(N_ROWS, N_FEATURES))
    X += centres[rng.integers(N_COMPONENTS, size=N_ROWS)]
    return X.astype(dtype), (centres + 0.5).astype(dtype)


def mixture(means, covariance_type, max_iter):
    """Return a mixture that does ``max_iter`` iterations, from unit precisions."""
    identity = np.eye(N_FEATURES, dtype=means.dtype)
    precisions = {
        "full": np.tile(identity, (N_COMPONENTS, 1, 1)),
        "tied": identity,
        "diag": np.ones_like(means),
        "spherical": np.ones(N_COMPONENTS, means.dtype),
    }
    return GaussianMixture(
        N_COMPONENTS,
        covariance_type=covariance_type,
        weights_init=np.full(N_COMPONENTS, 1 / N_COMPONENTS, means.dtype),
        means_init=means,
        precisions_init=precisions[covariance_type],
        tol=0.0,
        max_iter=max_iter,
    )


def setup_cache():
    """Compile once a commit, so that each benchmark's process only loads."""
    fastem.warmup()


setup_cache.timeout = 600


class Fitting:
    params = (COVARIANCE_TYPES, DTYPES)
    param_names = ("covariance_type", "dtype")

    def setup(self, covariance_type, dtype):
        self.X, means = blobs(dtype)
        self.model = mixture(means, covariance_type, max_iter=5)
        self.model.fit(self.X)  # loads the kernels

    def time_five_iterations(self, covariance_type, dtype):
        self.model.fit(self.X)


class Fitted:
    params = COVARIANCE_TYPES
    param_names = ("covariance_type",)

    def setup(self, covariance_type):
        self.X, means = blobs()
        self.model = mixture(means, covariance_type, max_iter=5)
        self.model.fit(self.X)

    def peakmem_five_iterations(self, covariance_type):
        self.model.fit(self.X)

    def track_log_likelihood(self, covariance_type):
        return self.model.lower_bound_

    track_log_likelihood.unit = "nats per row"


class Predicting:
    params = COVARIANCE_TYPES
    param_names = ("covariance_type",)

    def setup(self, covariance_type):
        self.X, means = blobs()
        self.model = mixture(means, covariance_type, max_iter=1).fit(self.X)
        self.model.predict(self.X)

    def time_predict(self, covariance_type):
        self.model.predict(self.X)

    def time_score_samples(self, covariance_type):
        self.model.score_samples(self.X)
