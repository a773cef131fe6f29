"""Gaussian mixtures by the book.

Bishop, Pattern Recognition and Machine Learning (2006), section 9.2, gives the
formulas; equation numbers below are his. Dempster, Laird and Rubin (1977) prove that
an iteration never lowers the likelihood. Row weights `w[n]` enter as if row n stood
`w[n]` times in the data, so every sum over rows becomes a weighted one.

Letters: N rows, K components, D features.
"""

from typing import NamedTuple

import numpy as np


class Params(NamedTuple):
    """A mixture. `covariances` has scikit-learn's shape for its covariance type."""

    weights: np.ndarray
    """`weights[k] = P(z = k)`, shape (K,)."""
    means: np.ndarray
    """`means[k] = E[x | z = k]`, shape (K, D)."""
    covariances: np.ndarray
    """`Cov[x | z = k]`: (K, D, D), (D, D), (K, D) or (K,)."""


class Statistics(NamedTuple):
    """What one E-step gathers, plain sums over rows."""

    mass: np.ndarray
    """`mass[k] = sum_n w[n] gamma[n, k]`, shape (K,)."""
    first: np.ndarray
    """`first[k] = sum_n w[n] gamma[n, k] (x[n] - origin)`, shape (K, D)."""
    second: np.ndarray
    """`second[k] = sum_n w[n] gamma[n, k] (x[n] - origin)(x[n] - origin)^T`."""
    log_likelihood: float
    """`sum_n w[n] log p(x[n])`."""
    weight: float
    """`sum_n w[n]`."""
    origin: np.ndarray
    """Where the sums are centred, shape (D,); a matter of rounding only."""


def covariance_matrices(covariances, covariance_type, n_components, n_features):
    """All K covariances written out as (K, D, D) matrices."""
    covariances = np.asarray(covariances, dtype=np.float64)
    eye = np.eye(n_features)
    if covariance_type == "full":
        return covariances
    if covariance_type == "tied":
        return np.stack([covariances] * n_components)
    if covariance_type == "diag":
        return np.stack([np.diag(variances) for variances in covariances])
    return np.stack([variance * eye for variance in covariances])


def log_density(X, params, covariance_type):
    """`out[n, k] = log N(x[n] | means[k], covariances[k])`, equation 2.43."""
    X = np.asarray(X, dtype=np.float64)
    n_components, n_features = params.means.shape
    matrices = covariance_matrices(
        params.covariances, covariance_type, n_components, n_features
    )
    out = np.empty((len(X), n_components))
    for k in range(n_components):
        centred = X - params.means[k]
        mahalanobis = np.sum(centred.T * np.linalg.solve(matrices[k], centred.T), 0)
        _, log_determinant = np.linalg.slogdet(matrices[k])
        out[:, k] = -0.5 * (
            n_features * np.log(2 * np.pi) + log_determinant + mahalanobis
        )
    return out


def posterior(X, params, covariance_type):
    """`log p(x[n])`, shape (N,), and `gamma[n, k] = P(z[n] = k | x[n])` (9.13)."""
    joint = log_density(X, params, covariance_type) + np.log(params.weights)
    largest = joint.max(axis=1, keepdims=True)
    log_evidence = np.log(np.exp(joint - largest).sum(axis=1)) + largest[:, 0]
    return log_evidence, np.exp(joint - log_evidence[:, None])


def e_step(X, params, covariance_type, sample_weight=None):
    """The sums that the M-step needs."""
    X = np.asarray(X, dtype=np.float64)
    w = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
    log_evidence, gamma = posterior(X, params, covariance_type)
    origin = X.mean(axis=0)
    centred = X - origin
    weighted = w[:, None] * gamma
    return Statistics(
        mass=weighted.sum(axis=0),
        first=weighted.T @ centred,
        second=np.stack([(r[:, None] * centred).T @ centred for r in weighted.T]),
        log_likelihood=np.sum(w * log_evidence),
        weight=np.sum(w),
        origin=origin,
    )


def m_step(statistics, covariance_type, reg_covar=0.0):
    """The maximum (9.24 to 9.26), with `reg_covar` added to each variance."""
    mass, first, second, _, weight, origin = statistics
    n_features = first.shape[1]
    means = first / mass[:, None]
    scatter = np.stack(
        [s - n * np.outer(m, m) for s, n, m in zip(second, mass, means, strict=True)]
    )
    full = scatter / mass[:, None, None] + reg_covar * np.eye(n_features)
    diagonal = np.diagonal(full, axis1=1, axis2=2)
    covariances = {
        "full": full,
        "tied": scatter.sum(axis=0) / weight + reg_covar * np.eye(n_features),
        "diag": diagonal,
        "spherical": diagonal.mean(axis=1),
    }[covariance_type]
    return Params(mass / weight, means + origin, covariances)


def em(X, params, covariance_type, n_iter, sample_weight=None, reg_covar=0.0):
    """`n_iter` iterations; also the mean log-likelihood that each one started from."""
    lower_bounds = []
    for _ in range(n_iter):
        statistics = e_step(X, params, covariance_type, sample_weight)
        lower_bounds.append(statistics.log_likelihood / statistics.weight)
        params = m_step(statistics, covariance_type, reg_covar)
    return params, np.array(lower_bounds)


def n_parameters(n_components, n_features, covariance_type):
    """Free parameters: proportions, means, and the covariances' distinct entries."""
    triangle = n_features * (n_features + 1) // 2
    covariance = {
        "full": n_components * triangle,
        "tied": triangle,
        "diag": n_components * n_features,
        "spherical": n_components,
    }[covariance_type]
    return n_components - 1 + n_components * n_features + covariance


def precisions(covariances, covariance_type):
    """Inverse covariances, in the shape that `precisions_init` takes."""
    if covariance_type in ("full", "tied"):
        return np.linalg.inv(covariances)
    return 1.0 / np.asarray(covariances)
