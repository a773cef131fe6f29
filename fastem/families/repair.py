"""Covariances that are positive definite to working precision, whatever the data."""

import numpy as np
from scipy.linalg import lapack

# Eigenvalues of a correlation matrix below this many eps are lost in rounding: the
# whitened coordinates would carry errors of 1 / sqrt(RIDGE) and the fit would be noise.
RIDGE = 100


def decompose_covariances(covariances, floor, eps):
    """Return covariances, Cholesky factors of their inverses and what was repaired.

    Work is done on correlations, so that features of any scale mix. A variance below
    its floor is raised to it; eigenvalues of the correlation matrix below ``RIDGE *
    eps`` are raised to that, the smallest change that leaves the component usable.

    Parameters
    ----------
    covariances : ndarray of shape (K, D, D)
    floor : ndarray of shape (K, D)
    eps : float
        Relative spacing of the floating-point type the kernels work in.

    Returns
    -------
    covariances : ndarray of shape (K, D, D)
    precisions_cholesky : ndarray of shape (K, D, D)
        Upper triangular.
    repaired : ndarray of shape (K,) of bool
    """
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    raised = np.maximum(variances, floor)
    # A variance that is lost to rounding has covariances that are noise, too.
    lost = raised > variances
    scale = np.sqrt(raised)
    correlations = covariances / scale[:, :, None] / scale[:, None, :]
    correlations[lost[:, :, None] | lost[:, None, :]] = 0.0
    n_features = covariances.shape[1]
    correlations[:, range(n_features), range(n_features)] = 1.0

    ridge = RIDGE * eps
    repaired = lost.any(axis=1)
    cholesky = np.empty_like(correlations)
    for k, correlation in enumerate(correlations):
        factor, failed = lapack.dpotrf(correlation, lower=1)
        if failed or np.min(np.diagonal(factor)) ** 2 < ridge:
            correlations[k] = _raise_eigenvalues(correlation, ridge)
            factor, _ = lapack.dpotrf(correlations[k], lower=1)
            repaired[k] = True
        cholesky[k] = lapack.dtrtri(np.tril(factor), lower=1)[0]
    if repaired.any():
        outer = scale[repaired, :, None] * scale[repaired, None, :]
        covariances = covariances.copy()
        covariances[repaired] = correlations[repaired] * outer
    precisions_cholesky = np.ascontiguousarray(np.swapaxes(cholesky, 1, 2))
    precisions_cholesky /= scale[:, :, None]
    return covariances, precisions_cholesky, repaired


def _raise_eigenvalues(correlation, lowest):
    values, vectors = np.linalg.eigh(correlation)
    # Twice the floor, so that the factor of the result passes the test it failed.
    raised = (vectors * np.maximum(values, 2 * lowest)) @ vectors.T
    scale = np.sqrt(np.diagonal(raised))
    return raised / scale[:, None] / scale[None, :]
