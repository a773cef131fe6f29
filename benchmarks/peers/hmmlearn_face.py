"""Chains by any estimator that has the face of hmmlearn's GaussianHMM."""

import logging
from typing import NamedTuple

import numpy as np

from benchmarks.data import ChainStart
from benchmarks.peers.timing import Timing, time_iterations


class Result(NamedTuple):
    """What a run of EM took and where it arrived.

    ``history`` has the log-likelihood that each iteration started from.
    """

    timing: Timing
    history: np.ndarray
    parameters: ChainStart


def make(estimator, start, n_iter=1, implementation="log"):
    """Return a model with all parameters, which fits from them without priors."""
    model = estimator(
        n_components=len(start.startprob),
        covariance_type="diag",
        min_covar=0,
        covars_prior=0,
        n_iter=n_iter,
        tol=-1e300,  # no fall ends it either
        init_params="",
        implementation=implementation,
    )
    for name, value in start._asdict().items():
        setattr(model, f"{name}_", value.copy())
    return model


def fit(estimator, X, start, n_iter, implementation="log", lengths=None):
    """Do so many iterations from a start, whatever they gain."""
    logging.getLogger("hmmlearn").setLevel(logging.ERROR)
    return make(estimator, start, n_iter, implementation).fit(X, lengths)


def run(estimator, X, start, n_iter, implementation="log"):
    """Time iterations; ``implementation`` is hmmlearn's, and nothing to fastem."""

    def fit_for(n_iter):
        return fit(estimator, X, start, n_iter, implementation)

    timing, model = time_iterations(fit_for, n_iter)
    return Result(timing, np.array(model.monitor_.history), parameters(model))


def parameters(model):
    """Return what was learned, covariances as the variances they are."""
    variances = np.diagonal(model.covars_, axis1=1, axis2=2)
    return ChainStart(model.startprob_, model.transmat_, model.means_, variances)
