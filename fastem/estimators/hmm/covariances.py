"""Means and covariances as users give them, and rows drawn with them."""

import numpy as np
from scipy.linalg import lapack


def check_means(values, shape, name):
    """Return means as a float64 array of the given shape, finite.

    Raises
    ------
    ValueError
        If they are anything else.
    """
    values = np.array(values, np.float64, order="C")
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, but got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, but is {values}")
    return values


def check_covariances(covars, kind, leading, name, n_features=None):
    """Return covariances as a float64 array in the shape of their kind.

    Parameters
    ----------
    covars : array-like
    kind : {'full', 'tied', 'diag', 'spherical'}
    leading : tuple of int
        (K,), or (K, M) for mixtures, where 'tied' is one matrix for each state.
    name : str
    n_features : int, optional
        Without, whatever number they have.

    Raises
    ------
    ValueError
        For a wrong shape, and covariances that are not symmetric and positive.
    """
    covars = np.array(covars, np.float64, order="C")
    if kind == "spherical":
        covars = _one_variance_each(covars, leading)
        _check_shape(covars, leading, kind, name)
        _check_positive(covars, kind, name)
        return covars
    if kind not in ("full", "tied", "diag"):
        raise ValueError(
            "covariance_type must be one of 'full', 'tied', 'diag', 'spherical', but "
            f"is {kind!r}"
        )
    if kind == "tied":
        leading = leading[:-1]
    if n_features is None:
        n_features = covars.shape[-1] if covars.ndim else 0
    tail = (n_features,) if kind == "diag" else (n_features, n_features)
    _check_shape(covars, leading + tail, kind, name)
    if kind == "diag":
        _check_positive(covars, kind, name)
        return covars
    for where in np.ndindex(leading):
        _check_matrix(covars[where], kind, name, where)
    return covars


def _one_variance_each(covars, leading):
    """Return covariances without the axes that spherical ones have none of."""
    n = int(np.prod(leading))
    if covars.shape[:1] == leading[:1] and covars.size % n == 0 and covars.size:
        by_state = covars.reshape(n, -1)
        if (by_state == by_state[:, :1]).all():
            return by_state[:, 0].reshape(leading).copy()
    return covars


def _check_shape(covars, shape, kind, name):
    if covars.shape != shape:
        raise ValueError(
            f"{kind!r} covars ({name}) must have shape {shape}, but got {covars.shape}"
        )


def _check_positive(covars, kind, name):
    bad = np.argwhere(~((covars > 0) & np.isfinite(covars)))
    if bad.size:
        where = tuple(bad[0].tolist())
        raise ValueError(
            f"{kind!r} covars ({name}) must be positive, but that at {where} is "
            f"{covars[where]}"
        )


def _check_matrix(matrix, kind, name, where):
    """Judge a matrix by its correlations, where scales of features do not matter."""
    variances = np.diagonal(matrix)
    sound = np.isfinite(matrix).all() and np.allclose(matrix, matrix.T)
    sound = sound and (variances > 0).all()
    if sound:
        scale = np.sqrt(variances)
        sound = not lapack.dpotrf(matrix / scale / scale[:, None], lower=1)[1]
    if not sound:
        which = f" {list(where)}" if where else ""
        raise ValueError(
            f"{kind!r} covars ({name}{which}) must be symmetric and positive definite"
        )


def n_covariance_scalars(kind, n_features):
    """Return the number of free parameters of one covariance."""
    if kind in ("full", "tied"):
        return n_features * (n_features + 1) // 2
    return n_features if kind == "diag" else 1


def like(covariance, kind, shape):
    """Return covariances of a kind that are all like one matrix, (D, D)."""
    variances = np.diagonal(covariance)
    if kind == "spherical":
        return np.full(shape, variances.mean())
    return np.broadcast_to(variances if kind == "diag" else covariance, shape).copy()


def color(noise, covariances, which):
    """Give standard normal rows the covariances that ``which`` names for each.

    Parameters
    ----------
    noise : ndarray of shape (N, D)
    covariances : ndarray of shape (C,), (C, D) or (C, D, D)
    which : ndarray of shape (N,) of int
    """
    if covariances.ndim < 3:
        roots = np.sqrt(covariances)
        roots = roots if roots.ndim == 2 else roots[:, None]
        return noise * roots[which]
    colored = np.empty_like(noise)
    for c, factor in enumerate(np.linalg.cholesky(covariances)):
        rows = which == c
        colored[rows] = noise[rows] @ factor.T
    return colored
