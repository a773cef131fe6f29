"""Gaussians with priors: the mode of the posterior from centred sums.

J.-L. Gauvain and C.-H. Lee, "Maximum a posteriori estimation for multivariate Gaussian
mixture observations of Markov chains", *IEEE Trans. Speech Audio Process.* 2 (1994),
291-298, eqs. 19 to 25. Sums are about the means of the E-step, never about the origin,
so that data far from it lose no digits.

Covariances are stacked by *kind*: (C, D, D) if full, (G, D, D) if tied, where the C
Gaussians fall into G groups of one covariance each, (C, D) if diag, (C,) if spherical.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import lapack

from fastem.families.gaussian import (
    EMPTY_SHARE,
    SMALLEST_VARIANCE,
    GaussianParams,
    pooled_variance,
    variance_floor,
)
from fastem.families.repair import decompose_covariances

EPS = np.finfo(np.float64).eps


class GaussianPrior(NamedTuple):
    """What is known beforehand, as sums over rows never seen.

    The log density of the prior is, but for a constant, minus half of

        mass * log|S| + tr(S^-1 (scatter + sum_c means_weight[c] d[c] d[c]^T))

    over the covariances S, with d the means less the prior's.
    """

    means: np.ndarray  # (C, D)
    means_weight: np.ndarray  # (C,)
    scatter: np.ndarray  # shaped as the covariances
    mass: np.ndarray  # one for each covariance, or one for each variance


def with_precisions(kind, means, covariances):
    """Return parameters of given means and covariances, which are positive."""
    if kind in ("diag", "spherical"):
        return GaussianParams(means, covariances, 1 / np.sqrt(covariances))
    floor = np.full(covariances.shape[:2], SMALLEST_VARIANCE)
    return GaussianParams(means, *decompose_covariances(covariances, floor, EPS)[:2])


def log_prior(kind, params, prior):
    """Return the log density of the prior at the parameters, but for a constant."""
    away = params.means - prior.means
    if kind in ("diag", "spherical"):
        pull = prior.means_weight[:, None] * away**2
        if kind == "spherical":
            pull = pull.sum(axis=1)
        variances = params.covariances
        total = prior.mass * np.log(variances) + (prior.scatter + pull) / variances
        return -0.5 * float(total.sum())
    factors = params.precisions_cholesky
    pull = _pooled(_outer(prior.means_weight[:, None] * away, away), len(factors))
    whitened = np.swapaxes(factors, 1, 2) @ (prior.scatter + pull) @ factors
    log_determinant = -2 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    total = prior.mass * log_determinant + np.trace(whitened, axis1=1, axis2=2)
    return -0.5 * float(total.sum())


def maximize(kind, statistics, params, prior, fixed, min_covar, *, recentre=True):
    """Return the most probable parameters and which Gaussians were repaired.

    An empty Gaussian keeps its parameters, whatever the prior says.

    Parameters
    ----------
    kind : {'full', 'tied', 'diag', 'spherical'}
    statistics : GaussianStatistics
        ``second`` is (C, D) where covariances are diagonal, stacked as they are else.
    params : GaussianParams
    prior : GaussianPrior
    fixed : pair of ndarray of bool
        Entries of the means, (C, D), and of the covariances to keep.
    min_covar : float
        No variance is less, and no eigenvalue of a covariance, in units in which the
        variance over all rows is one for features where it is less.
    recentre : bool
        Take scatter about the new means. About those of the E-step, the step is one
        of generalised EM: it, too, never lowers the posterior where means have no
        prior.

    Returns
    -------
    params : GaussianParams
    repaired : ndarray of shape (C,) of bool
    """
    fixed_means, fixed_covariances = fixed
    empty = statistics.weight <= EMPTY_SHARE * statistics.total_weight
    if empty.all():
        return params, empty
    means = _means(statistics, params.means, prior, empty, fixed_means)
    if fixed_covariances.all():
        return params._replace(means=means), empty
    shift = means - params.means if recentre else np.zeros_like(means)
    unit = _units(kind, statistics, params.means)
    estimate = _variances if kind in ("diag", "spherical") else _matrices
    covariances, factors, collapsed = estimate(
        kind,
        statistics,
        GaussianParams(means, params.covariances, params.precisions_cholesky),
        prior,
        fixed_covariances,
        min_covar,
        unit,
        shift,
        empty,
    )
    return GaussianParams(means, covariances, factors), empty | collapsed


def variance_units(variances, rounding):
    """Return the unit of each feature's variance: one, or less if that of all data is.

    A feature that is constant but for rounding is of no known scale, so of unit one.
    """
    return np.where(variances > rounding, np.minimum(variances, 1.0), 1.0)


def _units(kind, statistics, means):
    """Return units by the variances over all rows, which no iteration changes."""
    weight, first, second = statistics[2:5]
    if kind in ("full", "tied"):
        second = np.diagonal(second, axis1=1, axis2=2)
    total = weight.sum()
    center = (weight @ means + first.sum(axis=0)) / total
    away = means - center
    scatter = second.sum(axis=0) + weight @ away**2
    variances = (scatter + 2 * (first * away).sum(axis=0)) / total
    # What is lost where terms cancel, and what was lost when rows were rounded.
    lost = EPS * scatter / total + (EPS * center) ** 2
    return variance_units(variances, 16 * lost)


def _means(statistics, means, prior, empty, fixed):
    mass = np.where(empty, 1.0, statistics.weight + prior.means_weight)[:, None]
    pull = prior.means_weight[:, None] * (prior.means - means)
    moved = means + (pull + statistics.first) / mass
    return np.where(fixed | empty[:, None], means, moved)


def _variances(kind, statistics, params, prior, fixed, min_covar, unit, shift, empty):
    """Return variances, their inverse roots and which were lost to rounding."""
    weight, first = statistics.weight[:, None], statistics.first
    scatter = statistics.second - 2 * first * shift + weight * shift**2
    weight = np.where(empty[:, None], 1.0, weight)
    spread = pooled_variance(statistics.weight, params.means, scatter / weight)
    floor = variance_floor(params.means, spread, EPS)
    scatter += prior.means_weight[:, None] * (params.means - prior.means) ** 2
    if kind == "spherical":
        scatter, floor = scatter.sum(axis=1), floor.mean(axis=1)
        weight = weight[:, 0] * params.means.shape[1]
        unit = unit.mean()
    else:
        empty = empty[:, None]
    mass = _positive(weight + prior.mass, weight)
    variances = np.maximum((prior.scatter + scatter) / mass, min_covar * unit)
    keep = fixed | empty
    collapsed = (variances < floor) & ~keep
    variances = np.where(keep, params.covariances, np.maximum(variances, floor))
    if kind == "diag":
        collapsed = collapsed.any(axis=1)
    return variances, 1 / np.sqrt(variances), collapsed


def _matrices(kind, statistics, params, prior, fixed, min_covar, unit, shift, empty):
    """Return covariances, factors of their inverses and which Gaussians were raised."""
    n_groups = len(params.covariances)
    weight, first = statistics.weight, statistics.first
    change = _outer(weight[:, None] * shift - first, shift) - _outer(shift, first)
    scatter = statistics.second + _pooled(change, n_groups)
    group_weight = _pooled(weight, n_groups)
    group_empty = group_weight <= EMPTY_SHARE * statistics.total_weight
    group_weight = np.where(group_empty, 1.0, group_weight)
    variances = np.diagonal(scatter, axis1=1, axis2=2) / group_weight[:, None]
    group_size = len(weight) // n_groups
    spread = pooled_variance(weight, params.means, variances.repeat(group_size, axis=0))
    floor = variance_floor(params.means, spread, EPS)
    floor = floor.reshape(n_groups, group_size, -1).max(axis=1)

    away = params.means - prior.means
    pull = _pooled(_outer(prior.means_weight[:, None] * away, away), n_groups)
    mass = _positive(group_weight + prior.mass, group_weight)
    covariances = (prior.scatter + pull + scatter) / mass[:, None, None]
    covariances = (covariances + np.swapaxes(covariances, 1, 2)) / 2
    covariances[group_empty] = params.covariances[group_empty]
    scale = np.sqrt(unit)
    covariances /= scale * scale[:, None]
    raise_eigenvalues(covariances, min_covar)
    covariances *= scale * scale[:, None]
    keep = fixed | group_empty[:, None, None]
    covariances = np.where(keep, params.covariances, covariances)
    covariances, factors, collapsed = decompose_covariances(covariances, floor, EPS)
    untouched = keep.all(axis=(1, 2))
    covariances[untouched] = params.covariances[untouched]
    factors[untouched] = params.precisions_cholesky[untouched]
    return covariances, factors, (collapsed & ~untouched).repeat(group_size)


def raise_eigenvalues(covariances, lowest):
    """Raise eigenvalues that are less to ``lowest``, in place.

    Of all covariances so bounded, that is the likeliest.
    """
    if lowest <= 0:
        return
    eye = np.eye(covariances.shape[1])
    for k, covariance in enumerate(covariances):
        # A factor exists just where all eigenvalues are above.
        if lapack.dpotrf(covariance - lowest * eye, lower=1)[1]:
            values, vectors = np.linalg.eigh(covariance)
            covariances[k] = (vectors * np.maximum(values, lowest)) @ vectors.T


def _positive(mass, otherwise):
    """Return what to divide by; a prior that takes away all mass is left out."""
    return np.where(mass > 0, mass, otherwise)


def _outer(a, b):
    return a[:, :, None] * b[:, None, :]


def _pooled(values, n_groups):
    """Return the sums over equal groups of the first axis."""
    return values.reshape(n_groups, -1, *values.shape[1:]).sum(axis=1)
