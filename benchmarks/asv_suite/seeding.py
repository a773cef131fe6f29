"""Speed, memory and result of KMeans and of k-means++, which seed the mixtures."""

import numpy as np

from .common import THREADS, Timed, choose, since, use_threads
from .data import blobs, kmeans

# N, D, K
SIZES = choose(
    (100_000, 8, 16),
    (1_000_000, 2, 8),
    (1_000_000, 8, 16),
    (50_000, 128, 32),
    quick=1,
)
DTYPES = choose("float64", "float32", quick=1)
N_ITER = 10
FEW = 1_000


def plus_plus(n_clusters):
    """Return a k-means that does little but seed itself."""
    return since("KMeans")(n_clusters, n_init=1, max_iter=1, random_state=0)


def setup_cache():
    """Compile once a commit, so that each benchmark's process only loads."""
    for dtype in DTYPES:
        load(dtype)


setup_cache.timeout = 1_200


def load(dtype):
    """Load the kernels, or compile them."""
    X, _ = blobs((FEW, 2, 2), dtype)
    plus_plus(2).fit(X).predict(X)


class Seeding(Timed):
    params = (DTYPES, SIZES, THREADS)
    param_names = ("dtype", "N_D_K", "threads")

    def setup(self, dtype, size, threads):
        use_threads(threads)
        load(dtype)
        self.X, _ = blobs(size, dtype)
        self.seeding = plus_plus(size[2])
        self.model = kmeans(self.X, size[2], N_ITER)
        self.fitted = kmeans(self.X, size[2], 1).fit(self.X)

    def time_plus_plus(self, dtype, size, threads):
        self.seeding.fit(self.X)

    def time_ten_iterations(self, dtype, size, threads):
        self.model.fit(self.X)

    def time_predict(self, dtype, size, threads):
        self.fitted.predict(self.X)


class Result:
    params = (DTYPES, SIZES)
    param_names = ("dtype", "N_D_K")
    timeout = 300

    def track_inertia(self, dtype, size):
        X, _ = blobs(size, dtype)
        return float(kmeans(X, size[2], N_ITER).fit(X).inertia_) / len(X)

    track_inertia.unit = "per row"


class Memory:
    """Rows come from a file, so that no peak is of their making."""

    timeout = 300

    def setup_cache(self):
        setup_cache()
        np.save("rows.npy", blobs((1_000_000, 8, 16))[0])

    setup_cache.timeout = 1_200

    def setup(self):
        self.X = np.load("rows.npy")

    def peakmem_ten_iterations(self):
        kmeans(self.X, 16, N_ITER).fit(self.X)

    def peakmem_plus_plus(self):
        plus_plus(16).fit(self.X)
