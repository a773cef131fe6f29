"""Expectation-maximization at the speed of the machine."""

import importlib

from fastem.estimators.gaussian_mixture import GaussianMixture
from fastem.estimators.kmeans import KMeans
from fastem.warmup import warmup

__all__ = [
    "GMMHMM",
    "CategoricalHMM",
    "GaussianHMM",
    "GaussianMixture",
    "KMeans",
    "MultinomialHMM",
    "PoissonHMM",
    "__version__",
    "warmup",
]

__version__ = "0.1.0"

_HIDDEN_MARKOV_MODELS = {
    "CategoricalHMM": "categorical",
    "GMMHMM": "gmm",
    "GaussianHMM": "gaussian",
    "MultinomialHMM": "multinomial",
    "PoissonHMM": "poisson",
}


def __getattr__(name):
    """Import hidden Markov models when they are first asked for."""
    if name not in _HIDDEN_MARKOV_MODELS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = f"fastem.estimators.hmm.{_HIDDEN_MARKOV_MODELS[name]}"
    found = globals()[name] = getattr(importlib.import_module(module), name)
    return found
