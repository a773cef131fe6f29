"""Where hidden Markov models start: cluster centres and moments of the data."""

import numpy as np

from fastem.em.kmeans import kmeans_plusplus, lloyd, weighted_moments
from fastem.em.seeding import KMEANS_MAX_ITER, KMEANS_TOL
from fastem.families.gaussian_map import variance_units
from fastem.models.kmeans import assign

# hmmlearn's number of starts.
N_INIT = 10
# A start needs no more rows, and more would cost as much as the fit.
MAX_ROWS = 1 << 16
MIN_ROWS_PER_CLUSTER = 64
_BLOCK_ENTRIES = 1 << 18


def sampled_rows(X, weight, n_clusters, random_state):
    """Return rows in float64 and their weights, at equal steps of cumulative weight.

    Parameters
    ----------
    X : ndarray of shape (N, D)
    weight : ndarray of shape (N,), of size zero for ones
    n_clusters : int
    random_state : numpy.random.RandomState

    Returns
    -------
    rows : ndarray of shape (n, D)
        All rows, where they are few.
    weight : ndarray of shape (n,), of size zero for ones
    """
    n_rows = X.shape[0]
    n_sampled = max(MAX_ROWS, MIN_ROWS_PER_CLUSTER * n_clusters)
    if n_rows <= n_sampled:
        return np.ascontiguousarray(X, np.float64), weight
    steps = (np.arange(n_sampled) + random_state.random_sample()) / n_sampled
    if weight.size:
        total = np.cumsum(weight)
        rows = np.searchsorted(total, steps * total[-1], side="right")
    else:
        rows = (steps * n_rows).astype(np.int64)
    rows = np.minimum(rows, n_rows - 1)
    return np.ascontiguousarray(X[rows], np.float64), weight[:0]


def cluster(rows, weight, n_clusters, random_state):
    """Return the centres and labels of the best of ten runs of k-means."""
    tol = KMEANS_TOL * weighted_moments(rows, weight)[1].mean()
    best = None
    for _ in range(N_INIT):
        seeds = kmeans_plusplus(rows, n_clusters, weight, random_state)
        result = lloyd(rows, weight, rows[seeds], max_iter=KMEANS_MAX_ITER, tol=tol)
        labels, _, inertia = assign(rows, weight, result.centers, labels=True)
        if best is None or inertia < best[0]:
            best = inertia, result.centers, labels
    return best[1:]


def nested_clusters(rows, weight, n_clusters, n_mix, random_state):
    """Return the centres of clusters within clusters, (n_clusters, n_mix, D).

    A cluster of fewer rows than ``n_mix`` gets centres drawn around it.
    """
    centers, labels = cluster(rows, weight, n_clusters, random_state)
    if n_mix == 1:
        return centers[:, None, :]
    nested = np.empty((n_clusters, n_mix, rows.shape[1]))
    for k, center in enumerate(centers):
        members = labels == k
        part, share = rows[members], weight[members[: weight.size]]
        if share.size:
            part, share = part[share > 0], share[share > 0]
        if len(part) >= n_mix:
            nested[k] = cluster(part, share, n_mix, random_state)[0]
        else:
            around = part if len(part) > 1 else rows
            spread = np.sqrt(weighted_moments(around, weight[:0])[1])
            noise = random_state.standard_normal(nested[k].shape)
            nested[k] = center + spread * noise
    return nested


def start_covariance(X, weight, min_covar):
    """Return the unbiased covariance of rows, (D, D), with the smallest one added."""
    mean, _ = weighted_moments(X, weight)
    n_features = X.shape[1]
    total, scatter = 0.0, np.zeros((n_features, n_features))
    block = max(1, _BLOCK_ENTRIES // n_features)
    for begin in range(0, X.shape[0], block):
        rows = X[begin : begin + block].astype(np.float64) - mean
        share = weight[begin : begin + block]
        scatter += rows.T @ (share[:, None] * rows if share.size else rows)
        total += share.sum() if share.size else len(rows)
    covariance = scatter / max(total - 1, min(total, 1.0))
    rounding = 16 * (np.finfo(np.float64).eps * mean) ** 2
    units = variance_units(np.diagonal(covariance), rounding)
    return covariance + np.diag(min_covar * units)
