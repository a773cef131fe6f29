"""The same rows in any memory layout: the same result, and no copy of the whole."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from fastem import GaussianMixture, KMeans

from .common import (
    COVARIANCE_TYPES,
    INIT_PARAMS,
    assert_same_bits,
    assert_same_fit,
    blobs,
    fit,
    random_params,
    start_from,
)

N, D, K = 1203, 5, 3


def memory_mapped(X, path):
    np.save(path, X)
    return np.load(path, mmap_mode="r")


def read_only(X, path):
    X = X.copy()
    X.flags.writeable = False
    return X


def every_second_row(X, path):
    wide = np.full((2 * len(X), X.shape[1]), np.nan, X.dtype)
    wide[::2] = X
    return wide[::2]


def every_second_column(X, path):
    wide = np.full((len(X), 2 * X.shape[1]), np.nan, X.dtype)
    wide[:, 1::2] = X
    return wide[:, 1::2]


def inner_block(X, path):
    wide = np.full((len(X) + 2, X.shape[1] + 3), np.nan, X.dtype)
    wide[1:-1, 2:-1] = X
    return wide[1:-1, 2:-1]


def last_axis_of_three(X, path):
    deep = np.full((*X.shape, 2), np.nan, X.dtype)
    deep[..., 0] = X
    return deep[..., 0]


LAYOUTS = {
    "memory map": memory_mapped,
    "Fortran memory map": lambda X, path: memory_mapped(np.asfortranarray(X), path),
    "read-only": read_only,
    "Fortran": lambda X, path: np.asfortranarray(X),
    "every second row": every_second_row,
    "every second column": every_second_column,
    "inner block": inner_block,
    "one of three axes": last_axis_of_three,
    "rows backwards": lambda X, path: X[::-1].copy()[::-1],
    "columns backwards": lambda X, path: X[:, ::-1].copy()[:, ::-1],
    "both backwards": lambda X, path: X[::-1, ::-1].copy()[::-1, ::-1],
}


@pytest.fixture
def laid_out(tmp_path):
    def arrange(X, layout):
        view = LAYOUTS[layout](X, tmp_path / "X.npy")
        np.testing.assert_array_equal(view, X)
        return view

    return arrange


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
class TestSameBits:
    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_mixture(self, laid_out, layout, dtype, covariance_type):
        X = blobs(N, D, K, seed=1).astype(dtype)
        view = laid_out(X, layout)
        params = {
            "covariance_type": covariance_type,
            "random_state": 0,
            "max_iter": 5,
            "tol": 0.0,
        }
        plain = fit(GaussianMixture(K, **params), X)
        model = fit(GaussianMixture(K, **params), view)
        assert_same_fit(model, plain)
        for method in ("predict", "predict_proba", "score_samples"):
            assert_same_bits(getattr(model, method)(view), getattr(plain, method)(X))
        assert model.score(view) == plain.score(X)

    @pytest.mark.parametrize("init", ["k-means++", "random"])
    def test_kmeans(self, laid_out, layout, dtype, init):
        X = blobs(N, D, K, seed=2).astype(dtype)
        view = laid_out(X, layout)
        plain, model = (
            KMeans(K, init=init, n_init=1, random_state=0).fit(data)
            for data in (X, view)
        )
        assert_same_bits(model.cluster_centers_, plain.cluster_centers_)
        assert_same_bits(model.labels_, plain.labels_)
        assert model.inertia_ == plain.inertia_
        assert_same_bits(model.predict(view), plain.predict(X))
        assert_same_bits(model.transform(view), plain.transform(X))


@pytest.mark.parametrize("init_params", ["k-means++", "random", "random_from_data"])
@pytest.mark.parametrize("layout", ["Fortran", "both backwards", "read-only"])
def test_seeding_does_not_depend_on_the_layout(laid_out, layout, init_params):
    X = blobs(N, D, K, seed=3)
    params = {"init_params": init_params, "random_state": 0, "max_iter": 0}
    assert_same_fit(
        GaussianMixture(K, **params).fit(laid_out(X, layout)),
        GaussianMixture(K, **params).fit(X),
    )


WEIGHT_LAYOUTS = {
    "read-only": lambda w: np.frombuffer(w.tobytes(), w.dtype),
    "strided": lambda w: np.repeat(w, 3)[::3],
    "backwards": lambda w: w[::-1].copy()[::-1],
    "float32": lambda w: w.astype(np.float32),
    "integers": lambda w: w.astype(np.int8),
    "list": lambda w: w.tolist(),
}


@pytest.mark.parametrize("layout", WEIGHT_LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_weights_in_any_layout(layout, dtype):
    X = blobs(N, D, K, seed=4).astype(dtype)
    weights = np.random.default_rng(5).integers(0, 5, N).astype(float)
    plain = GaussianMixture(K, random_state=0).fit(X, sample_weight=weights)
    view = WEIGHT_LAYOUTS[layout](weights)
    model = GaussianMixture(K, random_state=0).fit(X, sample_weight=view)
    assert_same_fit(model, plain)


def test_foreign_byte_order():
    X = blobs(N, D, K, seed=6)
    swapped = X.astype(X.dtype.newbyteorder())
    assert_same_fit(
        GaussianMixture(K, random_state=0).fit(swapped),
        GaussianMixture(K, random_state=0).fit(X),
    )


@pytest.fixture(scope="module")
def big():
    """Seventy-seven megabytes of rows."""
    return blobs(600_000, 16, 8)


class TestNoCopyOfTheWhole:
    """tracemalloc sees what NumPy allocates. The promise is forty megabytes beside any
    array; here that much less as this array is smaller than those it is about. A copy
    of it, even in float32, is 38 MB, and its (N, K) responsibilities are as much."""

    K = 8
    ALLOWED = 16e6

    @pytest.fixture
    def peak(self):
        """Peak of NumPy's allocations during a call, in bytes."""

        def measure(call, X):
            call(X[:500])  # compile, and import what is imported late
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                call(X)
                _, highest = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            return highest - before

        return measure

    def mixture(self, X, covariance_type="full"):
        start = random_params(X[:1000], self.K, covariance_type)
        return GaussianMixture(
            **start_from(start, covariance_type), max_iter=1, reg_covar=1e-3
        )

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_layouts(self, big, laid_out, peak, layout, dtype):
        view = laid_out(big.astype(dtype), layout)
        model = self.mixture(big)
        assert peak(lambda view: fit(model, view), view) < self.ALLOWED

    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_weights_and_covariance_types(self, big, peak, covariance_type):
        model = self.mixture(big, covariance_type)
        weights = np.ones(len(big))

        def call(X):
            fit(model, X, sample_weight=weights[: len(X)])

        assert peak(call, big) < self.ALLOWED

    @pytest.mark.parametrize("init_params", INIT_PARAMS)
    def test_seeding(self, big, peak, init_params):
        model = GaussianMixture(
            self.K, init_params=init_params, max_iter=1, random_state=0, reg_covar=1e-3
        )
        assert peak(lambda X: fit(model, X), big) < self.ALLOWED

    @pytest.mark.parametrize("method", ["predict", "score", "score_samples"])
    def test_other_methods(self, big, peak, method):
        model = fit(self.mixture(big), big[:1000])
        assert peak(getattr(model, method), big) < self.ALLOWED

    @pytest.mark.parametrize("layout", ["Fortran", "every second row", "memory map"])
    def test_kmeans(self, big, laid_out, peak, layout):
        model = KMeans(self.K, random_state=0, max_iter=3)
        assert peak(model.fit, laid_out(big, layout)) < self.ALLOWED

    def test_kmeans_with_an_empty_cluster(self, big, peak):
        centers = np.vstack([big[: self.K - 1], np.full((1, big.shape[1]), 1e6)])
        model = KMeans(self.K, init=centers, n_init=1, max_iter=2)
        assert peak(model.fit, big) < self.ALLOWED


RESIDENT = """
import resource, sys
import numpy as np
from fastem import GaussianMixture

def highest():
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

rng = np.random.default_rng(0)
X = np.empty((2_000_000, 8))
for block in np.split(X, 100):
    block[:] = rng.normal(size=block.shape) + 5 * rng.integers(3, size=(len(block), 1))
for rows in (1000, len(X)):
    model = GaussianMixture(4, random_state=0, max_iter=2, tol=1e9)
    before = highest()
    model.fit(X[:rows])
print(highest() - before, X.nbytes)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module there")
def test_fit_adds_little_to_the_resident_memory():
    """What tracemalloc cannot see, kernels' own allocations, the kernel does."""
    result = subprocess.run(
        [sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True
    )
    added, size = map(int, result.stdout.split())
    # Forty megabytes to 256 MB, the promise, here to 128 MB of rows.
    assert added <= 20e6 * size / 128e6
