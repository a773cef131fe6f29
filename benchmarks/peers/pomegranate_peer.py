"""pomegranate, as a peer where it is installed; it computes in float32."""

from importlib.util import find_spec

import numpy as np

from benchmarks.peers.interface import Parameters, Result
from benchmarks.peers.timing import time_iterations

NAME = "pomegranate"
DTYPE = np.float32
COVARIANCE_TYPES = ("full", "diag")


def missing():
    return None if find_spec("pomegranate") else "pomegranate is not installed"


def run(X, start, covariance_type, n_iter):
    import torch

    rows = torch.from_numpy(X)
    _model(start, covariance_type)  # importing pomegranate is no part of a fit

    def fit(n_iterations):
        model = _model(start, covariance_type)
        for _ in range(n_iterations):
            log_likelihood = model.summarize(rows)
            model.from_summaries()
        return model, float(log_likelihood) / len(X)

    timing, (model, log_likelihood) = time_iterations(fit, n_iter)
    components = model.distributions
    parameters = Parameters(
        model.priors.numpy(),
        np.stack([component.means.numpy() for component in components]),
        np.stack([component.covs.numpy() for component in components]),
    )
    return Result(timing, log_likelihood, parameters)


def _model(start, covariance_type):
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    inverse = np.linalg.inv if covariance_type == "full" else np.reciprocal
    components = [
        Normal(mean, covariance, covariance_type=covariance_type)
        for mean, covariance in zip(start.means, inverse(start.precisions), strict=True)
    ]
    return GeneralMixtureModel(components, priors=start.weights)
