"""Covariances that are positive definite to working precision, whatever the data."""

import numpy as np
from scipy.linalg import blas, lapack

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
    inverse_scale = 1 / scale
    correlations = covariances * inverse_scale[:, :, None]
    correlations *= inverse_scale[:, None, :]
    repaired = lost.any(axis=1)
    if repaired.any():
        correlations[lost[:, :, None] | lost[:, None, :]] = 0.0
    n_features = covariances.shape[1]
    correlations[:, range(n_features), range(n_features)] = 1.0

    ridge, identity = RIDGE * eps, np.eye(n_features, order="F")
    precisions_cholesky = np.empty_like(correlations)
    for k, correlation in enumerate(correlations):
        # Transposed, for LAPACK counts by columns and would be given copies.
        factor, failed = lapack.dpotrf(correlation.T, lower=1)
        if failed or np.min(np.diagonal(factor)) ** 2 < ridge:
            correlations[k] = _raise_eigenvalues(correlation, ridge)
            factor, _ = lapack.dpotrf(correlations[k].T, lower=1)
            repaired[k] = True
        # Half the time of LAPACK's own inverse, dtrtri.
        inverse = blas.dtrsm(1.0, factor, identity, lower=1)
        precisions_cholesky[k] = inverse.T
    if repaired.any():
        outer = scale[repaired, :, None] * scale[repaired, None, :]
        covariances = covariances.copy()
        covariances[repaired] = correlations[repaired] * outer
    precisions_cholesky *= inverse_scale[:, :, None]
    return covariances, precisions_cholesky, repaired


def _raise_eigenvalues(correlation, lowest):
    values, vectors = np.linalg.eigh(correlation)
    # Twice the floor, so that the factor of the result passes the test it failed.
    raised = (vectors * np.maximum(values, 2 * lowest)) @ vectors.T
    scale = np.sqrt(np.diagonal(raised))
    return raised / scale[:, None] / scale[None, :]
