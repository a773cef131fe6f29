"""Kernels of k-means: ``pytest benchmarks --benchmark-only``."""

import numpy as np
import pytest

from benchmarks.data import blobs
from fastem import KMeans
from fastem.em.kmeans import kmeans_plusplus
from fastem.models.kmeans import Centers, assign, centers_frame, e_step

SHAPE = (100_000, 8, 16)
N_CLUSTERS = SHAPE[2]


@pytest.fixture(params=("float64", "float32"))
def X(request):
    return blobs(*SHAPE)[0].astype(request.param)


@pytest.fixture
def centers(X):
    return X[:N_CLUSTERS].astype(np.float64)


@pytest.fixture
def no_weight(X):
    return np.empty(0, X.dtype)


@pytest.mark.benchmark(group="k-means: k-means++")
def test_plus_plus(benchmark, X, no_weight):
    def seed():
        return kmeans_plusplus(X, N_CLUSTERS, no_weight, np.random.RandomState(0))

    seed()  # compiles
    assert len(benchmark(seed)) == N_CLUSTERS


@pytest.mark.benchmark(group="k-means: one step of Lloyd")
def test_lloyd_step(benchmark, X, no_weight, centers):
    params = Centers(centers, centers_frame(centers, X.dtype))
    e_step(params, X, no_weight)  # compiles
    _, weight = benchmark(e_step, params, X, no_weight)
    assert weight.sum() == len(X)


@pytest.mark.benchmark(group="k-means: assignment")
@pytest.mark.parametrize("wanted", ["inertia", "labels", "distances"])
def test_assign(benchmark, X, no_weight, centers, wanted):
    options = {} if wanted == "inertia" else {wanted: True}
    assign(X, no_weight, centers, **options)  # compiles
    assert benchmark(assign, X, no_weight, centers, **options)[2] > 0


@pytest.mark.benchmark(group="k-means: ten iterations, with fit around them")
def test_ten_iterations(benchmark, X):
    model = KMeans(N_CLUSTERS, init=X[:N_CLUSTERS], n_init=1, max_iter=10, tol=0)
    model.fit(X)  # compiles
    benchmark(model.fit, X)
    assert model.n_iter_ == 10
