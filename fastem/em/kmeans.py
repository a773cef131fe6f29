"""Seeding and Lloyd's iterations: the drivers of k-means."""

from typing import NamedTuple

import numpy as np

from fastem.models.kmeans import Seeder, assign, centers_frame, lloyd_step

# k-means++ needs random access to distances, so it works in memory: on all rows up to
# this many bytes, on a systematic sample of so many from there.
SEEDING_BYTES = 8 << 20
SEEDING_MIN_ROWS_PER_CLUSTER = 64
# Entries that NumPy works at a time: temporaries stay in the second cache.
_BLOCK_ENTRIES = 1 << 15


class KMeansResult(NamedTuple):
    """Centres, (K, D), and how many iterations led to them."""

    centers: np.ndarray
    n_iter: int
    converged: bool


def kmeans_plusplus(X, n_clusters, sample_weight, random_state):
    """Return indices of rows far from each other, by greedy k-means++.

    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007,
    with the best of 2 + log K trials for each seed. Draws are made against cumulative
    weights, so that a row of weight 2 is drawn exactly as two rows are. Where fewer
    distinct rows than seeds exist, rows repeat.

    Parameters
    ----------
    X : ndarray of shape (N, D)
    n_clusters : int
    sample_weight : ndarray of shape (N,), of size zero for ones
    random_state : numpy.random.RandomState

    Returns
    -------
    ndarray of shape (n_clusters,) of int
    """
    rows = _seeding_rows(X, n_clusters, sample_weight, random_state)
    if rows is None:
        return _greedy_plusplus(X, n_clusters, sample_weight, random_state)
    sampled = np.ascontiguousarray(X[rows])
    chosen = _greedy_plusplus(sampled, n_clusters, sample_weight[:0], random_state)
    return rows[chosen]


def _seeding_rows(X, n_clusters, sample_weight, random_state):
    """Return rows at equal steps of cumulative weight, or None for all rows."""
    n_rows = X.shape[0]
    n_sampled = max(
        SEEDING_BYTES // (X.shape[1] * X.itemsize),
        SEEDING_MIN_ROWS_PER_CLUSTER * n_clusters,
    )
    if n_rows <= n_sampled:
        return None
    steps = (np.arange(n_sampled) + random_state.random_sample()) / n_sampled
    if sample_weight.size == 0:
        return np.minimum((steps * n_rows).astype(np.int64), n_rows - 1)
    total = np.cumsum(sample_weight, dtype=np.float64)
    rows = np.searchsorted(total, steps * total[-1], side="right")
    return np.minimum(rows, n_rows - 1)


def _greedy_plusplus(X, n_clusters, sample_weight, random_state):
    n_trials = 2 + int(np.log(n_clusters))
    weight = sample_weight if sample_weight.size else np.ones(X.shape[0], X.dtype)
    seeder = Seeder(X, weight)
    indices = np.empty(n_clusters, np.int64)
    indices[0] = _draw(weight, random_state.random_sample(1), "right")[0]
    seeder.add(indices[0])
    for k in range(1, n_clusters):
        shares = random_state.uniform(size=n_trials)
        candidates = _draw(weight * seeder.closest, shares, "left")
        best = np.argmin(seeder.potentials(candidates))
        indices[k] = candidates[best]
        seeder.add(indices[k])
    return indices


def _draw(masses, shares, side):
    """Return the rows at the given shares of cumulative mass, none without mass."""
    total = np.cumsum(masses, dtype=np.float64)
    rows = np.searchsorted(total, shares * total[-1], side=side)
    if total[-1] == 0:
        return rows
    # Rounding may step past the last row with mass, ties onto one without.
    return np.minimum(rows, np.searchsorted(total, total[-1]))


def random_rows(X, n_rows, sample_weight, random_state):
    """Return rows drawn by weight, distinct in value while there are such.

    After each draw all copies of the drawn row are out, which makes a row of weight 2
    the same as two rows.
    """
    everyone = sample_weight if sample_weight.size else np.ones(X.shape[0], X.dtype)
    masses = everyone.copy()
    indices = np.empty(n_rows, np.int64)
    for k in range(n_rows):
        if not masses.any():
            masses = everyone.copy()
        indices[k] = _draw(masses, random_state.random_sample(1), "right")[0]
        masses[_equal_rows(X, X[indices[k]])] = 0
    return indices


def _equal_rows(X, row):
    """Return the indices of the rows that equal one."""
    block = max(1, _BLOCK_ENTRIES // X.shape[1])
    found = [
        begin + np.flatnonzero((X[begin : begin + block] == row).all(axis=1))
        for begin in range(0, X.shape[0], block)
    ]
    return np.concatenate(found)


def lloyd(X, sample_weight, centers, *, max_iter, tol, on_iteration=None):
    """Move centres to the means of their rows until they rest.

    Parameters
    ----------
    X : ndarray of shape (N, D)
    sample_weight : ndarray of shape (N,), of size zero for ones
    centers : ndarray of shape (K, D)
    max_iter : int
    tol : float
        Rest is a sum of squared shifts of at most this.
    on_iteration : callable, optional
        Called as ``on_iteration(n_iter, centers, shift)`` with the centres before.

    Returns
    -------
    KMeansResult
    """
    centers = np.array(centers, np.float64)
    frame = centers_frame(centers, X.dtype)
    for n_iter in range(1, max_iter + 1):
        moved, weight = lloyd_step(X, sample_weight, centers, frame)
        if (weight == 0).any():
            _relocate_empty(X, sample_weight, centers, moved, weight)
        shift = ((moved - centers) ** 2).sum()
        if on_iteration is not None:
            on_iteration(n_iter, centers, shift)
        centers = moved
        if shift <= tol:
            return KMeansResult(centers, n_iter, True)
    return KMeansResult(centers, max_iter, False)


def _relocate_empty(X, sample_weight, centers, moved, weight):
    """Move each empty cluster's centre to a row far from its own, in place.

    As scikit-learn does, the farthest rows found clusters and leave those they were in;
    equal rows go together, as one row of their weight would.
    """
    labels, distances, _ = assign(
        X, sample_weight, centers, labels=True, distances=True
    )
    row_weight = sample_weight if sample_weight.size else np.ones(X.shape[0], X.dtype)
    distances[row_weight == 0] = 0
    for k in np.flatnonzero(weight == 0):
        farthest = np.argmax(distances)
        if distances[farthest] == 0:
            return  # fewer distinct rows than clusters: nowhere to go
        equal = _equal_rows(X, X[farthest])
        left = labels[farthest]
        lost = row_weight[equal].sum(dtype=np.float64)
        moved[k] = X[farthest]
        rest = weight[left] - lost
        if rest > 0:
            moved[left] += (moved[left] - X[farthest]) * (lost / rest)
        weight[left] = rest
        distances[equal] = 0


def weighted_moments(X, sample_weight):
    """Return the mean and variance of each feature, (D,) in float64, in two passes."""
    mean = _weighted_mean(X, sample_weight, lambda rows: rows)
    return mean, _weighted_mean(X, sample_weight, lambda rows: (rows - mean) ** 2)


def _weighted_mean(X, sample_weight, values):
    total, weight = 0.0, 0.0
    block = max(1, _BLOCK_ENTRIES // X.shape[1])
    for start in range(0, X.shape[0], block):
        rows = X[start : start + block].astype(np.float64, order="C")
        rows = values(rows)
        w = sample_weight[start : start + block].astype(np.float64)
        if not w.size:
            w = np.ones(len(rows))
        total = total + w @ rows
        weight += w.sum()
    return total / weight
