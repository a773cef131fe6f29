"""EM iterations of fastem.GaussianMixture against the textbook, written in NumPy."""

import numpy as np
import pytest

from fastem import GaussianMixture

from .common import COVARIANCE_TYPES, blobs, fit, random_params, start_from
from .reference import mixture as oracle

# Every way a D can fall into blocks of four and two, with K around them, and rows that
# overhang a tile of 256 by one to three, fill it, or do not reach it.
SHAPES = [
    # N, D, K
    (257, 1, 3),
    (258, 2, 5),
    (259, 3, 2),
    (256, 4, 4),
    (515, 5, 1),
    (513, 7, 6),
    (97, 8, 3),
    (770, 9, 7),
    (512, 13, 2),
    (300, 23, 4),
    (1027, 33, 3),
]
SHAPE_IDS = [f"N{n}-D{d}-K{k}" for n, d, k in SHAPES]

# Sums of a few hundred terms and solves with condition numbers of at most about a
# hundred lose three digits of sixteen in fastem and as many in the oracle.
FLOAT64 = {"rtol": 1e-11, "atol": 1e-11}
# In float32 a squared distance of D terms is off by about D * 2**-24 of its size, some
# 1e-4 at D = 33; responsibilities and what is averaged by them inherit that.
FLOAT32 = {"rtol": 5e-4, "atol": 5e-4}
TOLERANCE = {np.float64: FLOAT64, np.float32: FLOAT32}


def weights_for(X, kind):
    rng = np.random.default_rng(len(X))
    return {
        "unweighted": None,
        "weighted": rng.exponential(size=len(X)),
        "mostly zero": rng.exponential(size=len(X)) * (rng.random(len(X)) < 0.4),
    }[kind]


def assert_params_close(model, params, covariance_type, tolerance):
    np.testing.assert_allclose(model.weights_, params.weights, **tolerance)
    np.testing.assert_allclose(model.means_, params.means, **tolerance)
    np.testing.assert_allclose(model.covariances_, params.covariances, **tolerance)
    # An inverse loses as many digits as its matrix's condition number has.
    loss = 1.0
    identity = model.precisions_ * model.covariances_
    if covariance_type in ("full", "tied"):
        loss = max(1.0, np.linalg.cond(params.covariances).max() / 100)
        identity = model.precisions_ @ model.covariances_
        want = np.broadcast_to(np.eye(params.means.shape[1]), identity.shape)
        factors = model.precisions_cholesky_
        np.testing.assert_array_equal(factors, np.triu(factors))
        squared = factors @ np.swapaxes(factors, -1, -2)
    else:
        want = np.ones_like(identity)
        squared = model.precisions_cholesky_**2
    np.testing.assert_allclose(identity, want, atol=loss * tolerance["atol"])
    np.testing.assert_allclose(squared, model.precisions_, rtol=tolerance["rtol"])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize(("n", "d", "k"), SHAPES, ids=SHAPE_IDS)
def test_one_iteration(n, d, k, covariance_type, dtype):
    X = blobs(n, d, k, seed=n).astype(dtype)
    start = random_params(X, k, covariance_type, seed=d)
    want, bounds = oracle.em(X, start, covariance_type, 1, reg_covar=1e-3)
    model = GaussianMixture(
        **start_from(start, covariance_type), max_iter=1, reg_covar=1e-3
    )
    fit(model, X)
    np.testing.assert_allclose(model.lower_bounds_, bounds, **TOLERANCE[dtype])
    assert_params_close(model, want, covariance_type, TOLERANCE[dtype])


@pytest.mark.parametrize("weighting", ["unweighted", "weighted", "mostly zero"])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_several_iterations(covariance_type, weighting):
    n, d, k, n_iter = 771, 5, 3, 4
    X = blobs(n, d, k, seed=3, spread=1.5)
    w = weights_for(X, weighting)
    start = random_params(X, k, covariance_type, seed=4)
    want, bounds = oracle.em(X, start, covariance_type, n_iter, w, reg_covar=1e-6)
    model = GaussianMixture(
        **start_from(start, covariance_type), max_iter=n_iter, tol=0.0
    )
    fit(model, X, sample_weight=w)
    assert model.n_iter_ == n_iter
    # Each iteration hands its rounding to the next, somewhat enlarged.
    tolerance = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(model.lower_bounds_, bounds, **tolerance)
    assert_params_close(model, want, covariance_type, tolerance)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("spread", [4.0, 30.0])
@pytest.mark.parametrize(
    ("n", "d", "k"),
    [
        (2051, 3, 4),
        (2051, 8, 9),
        # Odd sizes that reach, once padded, what kernels decide by; the last of few
        # features and the first of many.
        (1500, 7, 6),
        (1500, 23, 6),
        (1500, 24, 6),
        (1500, 25, 6),
        (1500, 31, 5),
        (1100, 40, 11),
    ],
)
def test_negligible_responsibilities(n, d, k, spread, covariance_type, dtype):
    """Clusters so far apart that most responsibilities round to nothing: kernels may
    skip and gather lanes, and few or none may be left of a tile."""
    X = blobs(n, d, k, seed=d, spread=spread).astype(dtype)
    w = weights_for(X, "mostly zero")
    start = random_params(X, k, covariance_type, seed=k)
    start = start._replace(covariances=start.covariances / 30)
    _, gamma = oracle.posterior(X, start, covariance_type)
    assert np.mean(gamma < 1e-17) > 0.3
    want, bounds = oracle.em(X, start, covariance_type, 1, w, reg_covar=1e-3)
    model = GaussianMixture(
        **start_from(start, covariance_type), max_iter=1, reg_covar=1e-3
    )
    fit(model, X, sample_weight=w)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(model.lower_bounds_, bounds, **tolerance)
    assert_params_close(model, want, covariance_type, tolerance)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_many_tiles_and_parts(covariance_type):
    """Enough rows that threads and tiles share the work, and an odd rest."""
    X = blobs(50_003, 3, 4, seed=5, spread=1.5)
    start = random_params(X, 4, covariance_type, seed=6)
    w = weights_for(X, "weighted")
    want, bounds = oracle.em(X, start, covariance_type, 1, w)
    model = GaussianMixture(
        **start_from(start, covariance_type), max_iter=1, reg_covar=0.0
    )
    fit(model, X, sample_weight=w)
    np.testing.assert_allclose(model.lower_bounds_, bounds, **FLOAT64)
    assert_params_close(model, want, covariance_type, FLOAT64)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize(("n", "d", "k"), SHAPES, ids=SHAPE_IDS)
def test_posterior_of_a_known_mixture(n, d, k, covariance_type, dtype):
    """score_samples, predict_proba, predict and score, no fit in between."""
    X = blobs(n, d, k, seed=n).astype(dtype)
    start = random_params(X, k, covariance_type, seed=d)
    model = GaussianMixture(**start_from(start, covariance_type), max_iter=0).fit(X)
    log_evidence, gamma = oracle.posterior(X, start, covariance_type)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(model.score_samples(X), log_evidence, **tolerance)
    np.testing.assert_allclose(model.predict_proba(X), gamma, **tolerance)
    np.testing.assert_allclose(model.score(X), log_evidence.mean(), **tolerance)
    decided = np.sort(gamma, axis=1)
    decided = k == 1 or decided[:, -1] - decided[:, -2] > 10 * tolerance["atol"]
    labels = model.predict(X)
    np.testing.assert_array_equal(
        labels[decided], gamma.argmax(axis=1)[decided], strict=False
    )


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_far_rows_keep_their_log_density(covariance_type):
    """A row a thousand deviations away: density underflows, its logarithm does not."""
    X = blobs(300, 3, 2, seed=1)
    start = random_params(X, 2, covariance_type)
    model = GaussianMixture(**start_from(start, covariance_type), max_iter=0).fit(X)
    far = np.array([[1e3, -1e3, 1e3], [-1e6, 0, 1e6]])
    log_evidence, gamma = oracle.posterior(far, start, covariance_type)
    np.testing.assert_allclose(model.score_samples(far), log_evidence, rtol=1e-12)
    np.testing.assert_allclose(model.predict_proba(far), gamma, atol=1e-12)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_weighted_score_and_information_criteria(covariance_type):
    n, d, k = 333, 4, 3
    X = blobs(n, d, k, seed=8)
    w = weights_for(X, "weighted")
    start = random_params(X, k, covariance_type)
    model = GaussianMixture(**start_from(start, covariance_type), max_iter=0).fit(X)
    log_evidence, _ = oracle.posterior(X, start, covariance_type)
    free = oracle.n_parameters(k, d, covariance_type)
    for sample_weight in (None, w):
        full_weight = np.ones(n) if sample_weight is None else sample_weight
        total = np.sum(full_weight * log_evidence)
        mass = full_weight.sum()
        kwargs = {"sample_weight": sample_weight}
        np.testing.assert_allclose(model.score(X, **kwargs), total / mass, rtol=1e-12)
        want_bic = -2 * total + free * np.log(mass)
        np.testing.assert_allclose(model.bic(X, **kwargs), want_bic, rtol=1e-12)
        want_aic = -2 * total + 2 * free
        np.testing.assert_allclose(model.aic(X, **kwargs), want_aic, rtol=1e-12)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_converges_to_a_stationary_point_of_the_textbook(covariance_type):
    """At the end of a long fit, one more textbook iteration moves nothing."""
    X = blobs(600, 2, 3, seed=2, spread=5)
    model = GaussianMixture(
        3,
        covariance_type=covariance_type,
        random_state=0,
        tol=1e-13,
        max_iter=2000,
        reg_covar=0.0,
    )
    model.fit(X)
    at_end = oracle.Params(model.weights_, model.means_, model.covariances_)
    after, bounds = oracle.em(X, at_end, covariance_type, 1)
    # EM converges linearly: a step of the bound below 1e-13 leaves the parameters,
    # where the bound is flat to second order, within about its square root.
    for name in oracle.Params._fields:
        np.testing.assert_allclose(
            getattr(at_end, name), getattr(after, name), rtol=1e-5, atol=1e-5
        )
    np.testing.assert_allclose(model.lower_bound_, bounds[0], rtol=1e-11)
