"""fastem itself, behind the same interface as its peers."""

from functools import partial

import numpy as np

from benchmarks.peers.scikit_learn_face import run_estimator
from fastem import GaussianMixture

NAME = "fastem"
DTYPE = np.float64
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


def missing():
    return None


run = partial(run_estimator, GaussianMixture)
