"""Kernels of Gaussian mixtures: ``pytest benchmarks --benchmark-only``."""

import numpy as np
import pytest

from benchmarks.data import blobs
from fastem import GaussianMixture
from fastem.families.gaussian import GaussianParams
from fastem.models.mixture import FAMILIES, MixtureParams, e_step, posterior

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
DTYPES = ("float64", "float32")
SHAPE = (100_000, 8, 16)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(params=COVARIANCE_TYPES)
def covariance_type(request):
    return request.param


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture
def X(dtype):
    return blobs(*SHAPE)[0].astype(dtype)


@pytest.fixture
def mixture(covariance_type, dtype):
    """A mixture that does one iteration from a given start."""
    start = blobs(*SHAPE, covariance_type)[1].astype(dtype)
    return GaussianMixture(
        len(start.weights),
        covariance_type=covariance_type,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=start.precisions,
        max_iter=1,
    )


@pytest.fixture
def params(mixture, X):
    """Parameters as the kernels know them, one iteration from the start."""
    mixture.fit(X)
    components = GaussianParams(
        mixture.means_, mixture.covariances_, mixture.precisions_cholesky_
    )
    return MixtureParams(mixture.weights_, components)


@pytest.mark.benchmark(group="mixture: E-step and statistics")
def test_e_step(benchmark, covariance_type, params, X):
    family = FAMILIES[covariance_type]
    e_step(family, params, X)  # compiles
    statistics = benchmark(e_step, family, params, X)
    assert np.isclose(statistics.total_weight, len(X))


@pytest.mark.benchmark(group="mixture: posterior")
@pytest.mark.parametrize("wanted", ["log_likelihood", "labels", "probabilities"])
def test_posterior(benchmark, covariance_type, params, X, wanted):
    family = FAMILIES[covariance_type]
    posterior(family, params, X, **{wanted: True})  # compiles
    benchmark(posterior, family, params, X, **{wanted: True})


@pytest.mark.benchmark(group="mixture: one EM iteration, with fit around it")
def test_one_iteration(benchmark, mixture, X):
    mixture.fit(X)  # compiles
    benchmark(mixture.fit, X)
    assert mixture.n_iter_ == 1
