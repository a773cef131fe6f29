"""scikit-learn, as a peer."""

from functools import partial

import numpy as np
from sklearn.mixture import GaussianMixture

from benchmarks.peers.scikit_learn_face import run_estimator

NAME = "scikit-learn"
DTYPE = np.float64
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


def missing():
    return None


run = partial(run_estimator, GaussianMixture)
