"""K-means by the book.

Lloyd (1982) alternates nearest centre and mean; Arthur and Vassilvitskii (2007) seed
it by drawing rows with probability proportional to their squared distance to the
nearest centre drawn so far. A row of weight w counts as w rows in the same place.
"""

import numpy as np


def squared_distances(X, centers):
    """`out[n, k] = |x[n] - centers[k]|^2`, by differences, not by expansion."""
    X, centers = np.asarray(X, float), np.asarray(centers, float)
    return ((X[:, None, :] - centers[None, :, :]) ** 2).sum(axis=2)


def potential(X, centers, sample_weight=None):
    """`sum_n w[n] min_k |x[n] - centers[k]|^2`: inertia, and k-means++'s potential."""
    nearest = squared_distances(X, centers).min(axis=1)
    return np.sum(nearest if sample_weight is None else sample_weight * nearest)


def seeding_probabilities(X, centers, sample_weight=None):
    """`out[n]`: the chance that k-means++ draws row n as its next candidate."""
    w = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
    mass = w * squared_distances(X, centers).min(axis=1) if len(centers) else w
    return mass / mass.sum()


def lloyd(X, centers, sample_weight=None):
    """One iteration: labels under `centers`, then each cluster's weighted mean.

    A cluster without rows is left to the caller: its mean is NaN.
    """
    X = np.asarray(X, float)
    w = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
    labels = squared_distances(X, centers).argmin(axis=1)
    means = np.full(np.shape(centers), np.nan)
    for k in range(len(centers)):
        members = labels == k
        if w[members].sum() > 0:
            means[k] = np.average(X[members], axis=0, weights=w[members])
    return labels, means


def run(X, centers, n_iter, sample_weight=None):
    """`n_iter` iterations, then labels and inertia under the final centres."""
    for _ in range(n_iter):
        _, centers = lloyd(X, centers, sample_weight)
    labels, _ = lloyd(X, centers, sample_weight)
    return labels, centers, potential(X, centers, sample_weight)
