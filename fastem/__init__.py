"""Expectation-maximization at the speed of the machine."""

from fastem.data.source import open_source as source
from fastem.estimators.hmm.categorical import CategoricalHMM
from fastem.estimators.hmm.gaussian import GaussianHMM
from fastem.estimators.hmm.gmm import GMMHMM
from fastem.estimators.hmm.multinomial import MultinomialHMM
from fastem.estimators.hmm.poisson import PoissonHMM
from fastem.estimators.kmeans.estimator import KMeans
from fastem.estimators.mixture.gaussian import GaussianMixture
from fastem.estimators.persistence import load
from fastem.execution.cluster import distributed
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
    "distributed",
    "load",
    "source",
    "warmup",
]

__version__ = "0.1.0"
