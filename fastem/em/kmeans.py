"""Seeding and Lloyd's iterations: the drivers of k-means."""

from functools import partial
from typing import NamedTuple

import numpy as np

from fastem.execution.rows import ArrayRows
from fastem.models.kmeans import (
    Centers,
    Seeder,
    assign,
    centers_frame,
    e_step,
    m_step,
)

# k-means++ needs random access to distances, so it works in memory: on all rows up to
# this many bytes, on a systematic sample of so many from there.
SEEDING_BYTES = 8 << 20
SEEDING_MIN_ROWS_PER_CLUSTER = 64
# Entries that NumPy works at a time: temporaries stay in the second cache.
_BLOCK_ENTRIES = 1 << 15


class LloydState(NamedTuple):
    """How far one start has come; iterations go on from it as if never interrupted.

    Attributes
    ----------
    params : Centers
    tol : float
        Rest is a sum of squared shifts of at most this.
    n_iter : int
    converged : bool
    inertia : float or None
        None until the start has ended.
    n_rows : ndarray of shape (K,) of int, or None
        Rows of each cluster.
    """

    params: Centers
    tol: float
    n_iter: int = 0
    converged: bool = False
    inertia: float | None = None
    n_rows: np.ndarray | None = None

    @property
    def centers(self):
        """The centres, (K, D)."""
        return self.params.centers

    @property
    def lower_bound(self):
        """What monitors are told: the inertia, None on the way."""
        return self.inertia

    @property
    def rank(self):
        """By which starts compare."""
        return -self.inertia


class Farthest(NamedTuple):
    """Distinct rows, those farthest from their centres first."""

    rows: np.ndarray  # (n, D)
    labels: np.ndarray  # (n,)
    distances: np.ndarray  # (n,), squared, in units of the tile
    weight: np.ndarray  # (n,), of all rows that equal each


class RowSums(NamedTuple):
    """Weighted sums of some function of rows; they add over blocks."""

    sums: np.ndarray  # (D,)
    weight: float


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


def begin(centers, dtype, tol):
    """Return the state before the first iteration on rows of a type."""
    centers = np.array(centers, np.float64)
    return LloydState(Centers(centers, centers_frame(centers, dtype)), float(tol))


def lloyd(X, sample_weight, centers, *, max_iter, tol):
    """Move centres to the means of their rows, in memory, until they rest.

    Parameters
    ----------
    X : ndarray of shape (N, D)
    sample_weight : ndarray of shape (N,), of size zero for ones
    centers : ndarray of shape (K, D)
    max_iter : int
    tol : float
        Rest is a sum of squared shifts of at most this.

    Returns
    -------
    LloydState
    """
    rows = ArrayRows(X, sample_weight)
    sums = partial(rows.statistics, e_step)
    return run_lloyd(rows, sums, begin(centers, X.dtype, tol), max_iter=max_iter)


def run_lloyd(rows, sums, state, *, max_iter, on_iteration=None):
    """Move centres to the means of their rows until they rest.

    Parameters
    ----------
    rows : ArrayRows, BlockRows or ClusterRows
        Read once more where a cluster empties.
    sums : callable
        ``sums(params) -> ClusterSums`` of all rows.
    state : LloydState
        Where to start, or to go on.
    max_iter : int
        Largest number of iterations, those behind ``state`` included.
    on_iteration : callable, optional
        ``on_iteration(state, shift)`` is called after each iteration; what is true
        ends the iterations.

    Returns
    -------
    LloydState
    """
    stopped = False
    while state.n_iter < max_iter and not (state.converged or stopped):
        found = sums(state.params)
        moved = m_step(found, state.params)
        if (found.weight == 0).any():
            _relocate_empty(rows, state.centers, moved, found.weight.copy())
        shift = float(((moved - state.centers) ** 2).sum())
        state = state._replace(
            params=state.params._replace(centers=moved),
            n_iter=state.n_iter + 1,
            converged=shift <= state.tol,
        )
        stopped = on_iteration is not None and on_iteration(state, shift)
    return state


def _relocate_empty(rows, centers, moved, weight):
    """Move each empty cluster's centre to a row far from its own, in place.

    As scikit-learn does, the farthest rows found clusters and leave those they were in;
    equal rows go together, as one row of their weight would.
    """
    empty = np.flatnonzero(weight == 0)
    found = rows.statistics(
        partial(find_farthest, len(empty)),
        centers,
        merge=partial(merge_farthest, len(empty)),
    )
    # Where there are fewer distinct rows than clusters, some have nowhere to go.
    for k, row, left, _, lost in zip(empty, *found, strict=False):
        moved[k] = row
        rest = weight[left] - lost
        if rest > 0:
            moved[left] += (moved[left] - row) * (lost / rest)
        weight[left] = rest


def find_farthest(n, centers, X, sample_weight):
    """Return the ``n`` distinct rows of a block that are farthest from their centres.

    Of rows as far as each other the least in lexical order comes first, which does not
    depend on the order of rows.
    """
    labels, distances, _ = assign(
        X, sample_weight, centers, labels=True, distances=True
    )
    row_weight = sample_weight if sample_weight.size else np.ones(X.shape[0], X.dtype)
    distances[row_weight == 0] = 0
    chosen, far, weight = [], [], []
    for _ in range(n):
        farthest = distances.max()
        if farthest == 0:
            break
        tied = np.flatnonzero(~(distances < farthest))
        for column in range(X.shape[1]):
            values = X[tied, column]
            tied = tied[values == values.min()]
        chosen.append(tied[0])
        far.append(farthest)
        equal = _equal_rows(X, X[tied[0]])
        weight.append(row_weight[equal].sum(dtype=np.float64))
        distances[equal] = 0
    chosen = np.array(chosen, np.int64)
    return Farthest(X[chosen], labels[chosen], np.array(far), np.array(weight))


def merge_farthest(n, first, second):
    """Return the ``n`` farthest distinct rows of two blocks."""
    both = Farthest(*map(np.concatenate, zip(first, second, strict=True)))
    _, index, copies = np.unique(
        both.rows, axis=0, return_index=True, return_inverse=True
    )
    weight = np.bincount(copies.ravel(), both.weight, len(index))
    order = np.argsort(-both.distances[index], kind="stable")[:n]
    index = index[order]
    return Farthest(*(field[index] for field in both[:3]), weight[order])


def weighted_moments(X, sample_weight):
    """Return the mean and variance of each feature, (D,) in float64, in two passes."""
    return moments(ArrayRows(X, sample_weight))


def moments(rows):
    """Return the mean and variance of each feature, (D,) in float64, in two passes."""
    found = rows.statistics(_sum_rows, None)
    mean = found.sums / found.weight
    found = rows.statistics(_sum_rows, mean)
    return mean, found.sums / found.weight


def _sum_rows(mean, X, sample_weight):
    """Return the sums of rows, or of their squared distances from a mean."""
    total, weight = np.zeros(X.shape[1]), 0.0
    block = max(1, _BLOCK_ENTRIES // X.shape[1])
    for start in range(0, X.shape[0], block):
        rows = X[start : start + block].astype(np.float64, order="C")
        if mean is not None:
            rows = (rows - mean) ** 2
        w = sample_weight[start : start + block].astype(np.float64)
        if not w.size:
            w = np.ones(len(rows))
        total = total + w @ rows
        weight += w.sum()
    return RowSums(total, float(weight))
