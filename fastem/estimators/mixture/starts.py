"""Starts that users give: parts of a mixture, checked, in place of drawn ones."""

from typing import NamedTuple

import numpy as np

from fastem.estimators.validation import check_shape
from fastem.families.gaussian import GaussianParams
from fastem.models.mixture import MixtureParams


class GivenStart(NamedTuple):
    """The parts of a start that were given, each None where it was not."""

    weights: np.ndarray | None
    means: np.ndarray | None
    precisions_cholesky: np.ndarray | None
    covariances: np.ndarray | None

    def complete(self):
        """Say whether nothing is left to draw."""
        return all(part is not None for part in self)

    def replace(self, params):
        """Return drawn parameters with the given parts in their place."""
        if params is None:
            params = MixtureParams(None, GaussianParams(None, None, None))
        components = params.components
        if self.means is not None:
            components = components._replace(means=self.means)
        if self.precisions_cholesky is not None:
            components = components._replace(
                covariances=self.covariances,
                precisions_cholesky=self.precisions_cholesky,
            )
        weights = params.weights if self.weights is None else self.weights
        return MixtureParams(weights, components)


def check_start(weights, means, precisions, covariance_type, shape):
    """Return the given parts of a start, checked against ``shape`` = (K, D).

    Raises
    ------
    ValueError
        For a wrong shape, weights that are no proportions, and precisions that are not
        symmetric and positive-definite.
    """
    n_components = shape[0]
    precisions_cholesky = covariances = None
    if weights is not None:
        weights = check_shape(weights, (n_components,), "weights_init")
        if weights.min() < 0 or abs(weights.sum() - 1) > 1e-6:
            raise ValueError(
                "weights_init should be proportions: none negative, with sum 1, but "
                f"the least is {weights.min()} and the sum {weights.sum()}"
            )
    if means is not None:
        means = check_shape(means, shape, "means_init")
    if precisions is not None:
        expected = covariances_shape(covariance_type, shape)
        precisions = check_shape(precisions, expected, "precisions_init")
        precisions_cholesky = _factor_precisions(precisions, covariance_type)
        covariances = _covariances(precisions_cholesky, covariance_type)
    return GivenStart(weights, means, precisions_cholesky, covariances)


def covariances_shape(covariance_type, shape):
    """Return the shape of the covariances of ``shape`` = (K, D) means."""
    n_components, n_features = shape
    return {
        "full": (n_components, n_features, n_features),
        "tied": (n_features, n_features),
        "diag": (n_components, n_features),
        "spherical": (n_components,),
    }[covariance_type]


def _factor_precisions(precisions, covariance_type):
    """Return upper triangular U with ``precision = U @ U.T``, or square roots."""
    if covariance_type in ("diag", "spherical"):
        if precisions.min() <= 0:
            raise ValueError(f"'{covariance_type} precision' should be positive")
        return np.sqrt(precisions)
    stack = precisions if precisions.ndim == 3 else precisions[None]
    factors = np.empty_like(stack)
    for k, precision in enumerate(stack):
        symmetric = np.allclose(precision, precision.T)
        if not symmetric or np.linalg.eigvalsh(precision).min() <= 0:
            which = f" (component {k})" if precisions.ndim == 3 else ""
            raise ValueError(
                f"'{covariance_type} precision' should be symmetric, "
                f"positive-definite{which}"
            )
        # The factor of the reversed matrix, reversed, is upper triangular.
        factors[k] = np.linalg.cholesky(precision[::-1, ::-1])[::-1, ::-1]
    return factors.reshape(precisions.shape)


def _covariances(precisions_cholesky, covariance_type):
    """Return the covariances of given factors of the precisions."""
    if covariance_type in ("diag", "spherical"):
        return precisions_cholesky**-2.0
    inverse = np.linalg.inv(precisions_cholesky)
    return np.swapaxes(inverse, -1, -2) @ inverse
