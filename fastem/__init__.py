"""Expectation-maximization at the speed of the machine."""

from fastem.estimators.gaussian_mixture import GaussianMixture
from fastem.estimators.kmeans import KMeans
from fastem.warmup import warmup

__all__ = ["GaussianMixture", "KMeans", "__version__", "warmup"]

__version__ = "0.1.0"
