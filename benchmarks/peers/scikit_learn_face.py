"""EM by any estimator that has the face of scikit-learn's GaussianMixture."""

import warnings

from sklearn.exceptions import ConvergenceWarning

from benchmarks.peers.interface import Parameters, Result
from benchmarks.peers.timing import time_iterations


def run_estimator(estimator, X, start, covariance_type, n_iter):
    def fit(max_iter):
        return fit_from(estimator, X, start, covariance_type, max_iter)

    timing, model = time_iterations(fit, n_iter)
    parameters = Parameters(model.weights_, model.means_, model.covariances_)
    return Result(timing, float(model.lower_bound_), parameters)


def fit_from(estimator, X, start, covariance_type, max_iter):
    """Fit from a start; no tolerance is met by tol=0, so every iteration is done."""
    model = estimator(
        n_components=len(start.weights),
        covariance_type=covariance_type,
        tol=0.0,
        reg_covar=0.0,  # Armadillo adds nothing to variances, so nobody does
        max_iter=max_iter,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=start.precisions,
    )
    return fit_quietly(model, X)


def fit_quietly(model, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X)
