"""Speed, memory and result of GaussianMixture."""

import time

import numpy as np

from .common import THREADS, Timed, choose, use_threads
from .data import blobs, cloud, mixture

# N, D, K
SIZES = choose(
    (100_000, 8, 16),
    (1_000_000, 2, 8),
    (1_000_000, 8, 16),
    (200_000, 32, 32),
    (50_000, 128, 32),
    quick=1,
)
DENSE_SIZES = choose((20_000, 32, 32), (200_000, 32, 32), (50_000, 128, 32), quick=1)
COVARIANCE_TYPES = choose("full", "diag", "tied", "spherical", quick=2)
DTYPES = choose("float64", "float32", quick=1)
N_ITER = 5
FEW = 1_000
MATRIX_SIZE = 2_048
# OpenBLAS's threads wait busily for up to 90 ms after a product.
BLAS_FALLS_ASLEEP_SECONDS = 0.15


def setup_cache():
    """Compile once a commit, so that each benchmark's process only loads."""
    for covariance_type in COVARIANCE_TYPES:
        for dtype in DTYPES:
            load(covariance_type, dtype)


setup_cache.timeout = 1_200


def load(covariance_type, dtype="float64"):
    """Load the kernels, or compile them."""
    X, means = blobs((FEW, 2, 2), dtype)
    mixture(means, covariance_type, max_iter=1).fit(X).predict(X)


def e_step_from(model, X):
    """Return the E-step of a model without arguments."""
    # The floor below the estimators, which old commits may have built otherwise.
    try:
        from fastem.families.gaussian import GaussianParams
        from fastem.models.mixture import FAMILIES, MixtureParams, e_step
    except ImportError as error:
        raise NotImplementedError("a commit with E-steps elsewhere") from error
    components = GaussianParams(
        model.means_, model.covariances_, model.precisions_cholesky_
    )
    family = FAMILIES[model.covariance_type]
    params = MixtureParams(model.weights_, components)
    return lambda: e_step(family, params, X)


class Fitting(Timed):
    params = (COVARIANCE_TYPES, DTYPES, SIZES, THREADS)
    param_names = ("covariance_type", "dtype", "N_D_K", "threads")

    def setup(self, covariance_type, dtype, size, threads):
        use_threads(threads)
        load(covariance_type, dtype)
        self.X, means = blobs(size, dtype)
        self.model = mixture(means, covariance_type, max_iter=N_ITER)
        fitted = mixture(means, covariance_type, max_iter=1).fit(self.X)
        self.e_step = e_step_from(fitted, self.X)

    def time_e_step(self, covariance_type, dtype, size, threads):
        self.e_step()

    def time_five_iterations(self, covariance_type, dtype, size, threads):
        self.model.fit(self.X)


class Inference(Timed):
    params = (COVARIANCE_TYPES, SIZES, THREADS)
    param_names = ("covariance_type", "N_D_K", "threads")

    def setup(self, covariance_type, size, threads):
        use_threads(threads)
        load(covariance_type)
        self.X, means = blobs(size)
        self.model = mixture(means, covariance_type, max_iter=1).fit(self.X)

    def time_predict(self, covariance_type, size, threads):
        self.model.predict(self.X)

    def time_score_samples(self, covariance_type, size, threads):
        self.model.score_samples(self.X)


class Result:
    """A speed-up that changes results is a fault."""

    params = (COVARIANCE_TYPES, DTYPES, SIZES)
    param_names = ("covariance_type", "dtype", "N_D_K")
    timeout = 300

    def track_log_likelihood(self, covariance_type, dtype, size):
        X, means = blobs(size, dtype)
        return float(mixture(means, covariance_type, N_ITER).fit(X).lower_bound_)

    track_log_likelihood.unit = "nats per row"


class Share:
    """E-steps in which every row is of all components, so that nothing is spared."""

    params = (DENSE_SIZES, DTYPES, THREADS)
    param_names = ("N_D_K", "dtype", "threads")
    timeout = 300

    def setup(self, size, dtype, threads):
        use_threads(threads)
        X, means = cloud(size, dtype)
        self.e_step = e_step_from(mixture(means, "full", max_iter=1).fit(X), X)
        shape = (3, MATRIX_SIZE, MATRIX_SIZE)
        left, right, product = np.random.default_rng(0).normal(size=shape).astype(dtype)
        self.multiply = lambda: np.matmul(left, right, product)

    def track_share_of_matrix_product(self, size, dtype, threads):
        n_rows, n_features, n_components = size
        # A triangular product and a symmetric rank update a row and component.
        operations = 2 * n_features * (n_features + 1) * n_rows * n_components
        rates = {self.e_step: operations, self.multiply: 2 * MATRIX_SIZE**3}
        seconds = dict.fromkeys(rates, np.inf)
        for _ in range(5):
            for call in rates:
                time.sleep(BLAS_FALLS_ASLEEP_SECONDS)
                start = time.perf_counter()
                call()
                seconds[call] = min(seconds[call], time.perf_counter() - start)
        e_step, peak = (rates[call] / seconds[call] for call in rates)
        return 100 * e_step / peak

    track_share_of_matrix_product.unit = "%"


class Memory:
    """Rows come from a file, so that no peak is of their making."""

    params = COVARIANCE_TYPES
    param_names = ("covariance_type",)
    timeout = 300

    def setup_cache(self):
        setup_cache()
        X, means = blobs((1_000_000, 8, 16))
        np.save("rows.npy", X)
        np.save("means.npy", means)

    setup_cache.timeout = 1_200

    def setup(self, covariance_type):
        self.X = np.load("rows.npy")
        self.model = mixture(np.load("means.npy"), covariance_type, N_ITER)

    def peakmem_five_iterations(self, covariance_type):
        self.model.fit(self.X)
