"""Speed, memory and result of GaussianHMM."""

import contextlib

import numpy as np

from .common import THREADS, Timed, choose, use_threads
from .data import chain, hmm

# States and steps.
SIZES = choose(
    (2, 10_000),
    (16, 10_000),
    (2, 100),
    (2, 1_000_000),
    (4, 1_000_000),
    (4, 10_000_000),
    (16, 1_000_000),
    (64, 100_000),
    (256, 1_000),
    (256, 10_000),
    quick=2,
)
MEMORY_SIZES = choose((4, 1_000_000), (4, 10_000_000), (16, 1_000_000), quick=1)
N_ITER = 3
FEW = 1_000


def setup_cache():
    """Compile once a commit, so that each benchmark's process only loads."""
    with contextlib.suppress(NotImplementedError):
        load()


setup_cache.timeout = 1_200


def load():
    """Load the kernels, or compile them."""
    X, means = chain(2, FEW)
    model = hmm(means, n_iter=1).fit(X)
    model.decode(X)
    model.predict_proba(X)


class Recursions(Timed):
    params = (SIZES, THREADS)
    param_names = ("K_T", "threads")

    def setup(self, size, threads):
        use_threads(threads)
        load()
        self.X, self.means = chain(*size)
        self.model = hmm(self.means, n_iter=0)

    def time_score(self, size, threads):
        """Forward."""
        self.model.score(self.X)

    def time_filter(self, size, threads):
        """Forward, with each step's probabilities."""
        self.model.filter(self.X)

    def time_predict_proba(self, size, threads):
        """Forward and backward."""
        self.model.predict_proba(self.X)

    def time_decode(self, size, threads):
        """Viterbi."""
        self.model.decode(self.X)

    def time_three_iterations(self, size, threads):
        """Baum-Welch."""
        hmm(self.means, N_ITER).fit(self.X)  # another one: it learns


class Result:
    params = (SIZES,)
    param_names = ("K_T",)
    timeout = 300

    def setup(self, size):
        self.X, means = chain(*size)
        self.model = hmm(means, N_ITER)

    def track_log_likelihood(self, size):
        return float(self.model.fit(self.X).score(self.X)) / len(self.X)

    track_log_likelihood.unit = "nats per step"


class Memory:
    """Rows come from a file, so that no peak is of their making."""

    params = (MEMORY_SIZES,)
    param_names = ("K_T",)
    timeout = 300

    def setup_cache(self):
        setup_cache()
        for size in MEMORY_SIZES:
            X, means = chain(*size)
            np.save(f"rows-{size}.npy", X)
            np.save(f"means-{size}.npy", means)

    setup_cache.timeout = 1_200

    def setup(self, size):
        self.path = f"rows-{size}.npy"
        self.means = np.load(f"means-{size}.npy")
        hmm(self.means, n_iter=0)  # commits without are told

    def peakmem_three_iterations(self, size):
        hmm(self.means, N_ITER).fit(np.load(self.path))

    def peakmem_three_iterations_on_a_map(self, size):
        hmm(self.means, N_ITER).fit(np.load(self.path, mmap_mode="r"))

    def peakmem_decode(self, size):
        hmm(self.means, N_ITER).decode(np.load(self.path))
