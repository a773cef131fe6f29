"""Where mixtures start: the four ways of ``init_params``."""

import numpy as np

from fastem.em.kmeans import (
    kmeans_plusplus,
    lloyd,
    random_rows,
    weighted_moments,
)
from fastem.models.mixture import GIVEN, HARD, MixtureParams, e_step, m_step
from fastem.statistics import add

# scikit-learn's KMeans defaults, which its mixtures start from.
KMEANS_MAX_ITER = 300
KMEANS_TOL = 1e-4
_RANDOM_BLOCK = 1 << 14


def initial_params(
    family, X, sample_weight, n_components, method, regularization, random_state
):
    """Return the mixture that the first E-step begins with.

    Parameters
    ----------
    family : Family
    X : ndarray of shape (N, D)
    sample_weight : ndarray of shape (N,), of size zero for ones
    n_components : int
    method : {'kmeans', 'k-means++', 'random', 'random_from_data'}
    regularization : Regularization
    random_state : numpy.random.RandomState

    Returns
    -------
    MixtureParams
    """
    mean, variance = weighted_moments(X, sample_weight)
    isotropic = np.full(X.shape[1], variance.mean() or 1.0)

    def around(centers):
        weights = np.full(len(centers), 1 / len(centers))
        return MixtureParams(weights, family.from_variances(centers, isotropic))

    if method == "kmeans":
        seeds = kmeans_plusplus(X, n_components, sample_weight, random_state)
        tol = KMEANS_TOL * variance.mean()
        result = lloyd(X, sample_weight, X[seeds], max_iter=KMEANS_MAX_ITER, tol=tol)
        start = around(result.centers)
        statistics = e_step(family, start, X, sample_weight, assignment=HARD)
    elif method == "random":
        start = around(np.repeat(mean[None], n_components, axis=0))
        statistics = _random_statistics(family, start, X, sample_weight, random_state)
    else:
        choose = kmeans_plusplus if method == "k-means++" else _random_from_data
        seeds = choose(X, n_components, sample_weight, random_state)
        start = around(X[seeds].astype(np.float64))
        statistics = _one_row_each(family, start)
    params, _ = m_step(family, statistics, start, regularization)
    return params


def _random_from_data(X, n_components, sample_weight, random_state):
    return random_rows(X, n_components, sample_weight, random_state)


def _one_row_each(family, params):
    """Return the statistics of K rows, each wholly its own component's."""
    statistics = e_step(family, params, np.empty((0, params.components.means.shape[1])))
    n_components = len(params.weights)
    return statistics._replace(
        weight=np.ones(n_components), total_weight=float(n_components)
    )


def _random_statistics(family, params, X, sample_weight, random_state):
    """Return statistics under random responsibilities, without keeping these."""
    n_components = len(params.weights)
    seed = random_state.randint(np.iinfo(np.int64).max, dtype=np.int64)
    total = None
    for begin in range(0, X.shape[0], _RANDOM_BLOCK):
        rows = X[begin : begin + _RANDOM_BLOCK]
        given = random_responsibilities(rows, n_components, seed)
        weight = sample_weight[begin : begin + _RANDOM_BLOCK]
        block = e_step(family, params, rows, weight, assignment=GIVEN, given=given)
        total = block if total is None else add(total, block)
    return total


def random_responsibilities(X, n_components, seed):
    """Return (N, K) random responsibilities that depend on each row's content alone.

    Equal rows get equal responsibilities wherever they stand, so a row of weight 2
    starts exactly as two rows do. The mixing function is that of SplitMix64 (Steele,
    Lea and Flood, OOPSLA 2014).
    """
    words = np.ascontiguousarray(X, np.float64).view(np.uint64)
    state = np.full(X.shape[0], np.uint64(seed))
    for column in words.T:
        state = _mix(state ^ column)
    step = np.uint64(0x9E3779B97F4A7C15)
    counters = (np.arange(1, n_components + 1, dtype=np.uint64) * step)[None, :]
    draws = (_mix(state[:, None] + counters) >> np.uint64(11)) * 2.0**-53 + 2.0**-54
    return (draws / draws.sum(axis=1, keepdims=True)).astype(X.dtype)


def _mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
