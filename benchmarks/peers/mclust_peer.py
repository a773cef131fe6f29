"""mclust, as a peer where R and r-cran-mclust are installed; it uses one thread."""

import functools
import shutil
import subprocess
from pathlib import Path

import numpy as np

from benchmarks.peers import own_runtime

NAME = "mclust"
DTYPE = np.float64
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")

_SCRIPT = Path(__file__).with_name("mclust_peer.R")
_MODELS = {"full": "VVV", "tied": "EEE", "diag": "VVI", "spherical": "VII"}
_VERSIONS = (
    'blas <- basename(dirname(extSoftVersion()["BLAS"]));'
    'cat("mclust", format(packageVersion("mclust")),'
    ' sprintf("(R %s, BLAS %s)", getRversion(), blas))'
)


@functools.cache
def missing():
    if shutil.which("Rscript") is None:
        return "R is not installed"
    return None if describe() else "R's package mclust is not installed"


@functools.cache
def describe():
    """Return its version and R's, nothing where it is not installed."""
    command = ["Rscript", "-e", _VERSIONS]
    return subprocess.run(command, capture_output=True, text=True).stdout


def run(X, start, covariance_type, n_iter):
    n_rows, n_features = map(str, X.shape)
    model = _MODELS[covariance_type]

    def command(folder):
        script = ["Rscript", "--vanilla", str(_SCRIPT), str(folder)]
        return [*script, n_rows, n_features, model, str(n_iter)]

    # The log-likelihood asked for is that before the last iteration: mclust's loop ends
    # there, so one iteration fewer is timed.
    covariances = own_runtime.covariances(start, covariance_type)
    return own_runtime.run(command, X.T, start, covariances, n_iter - 1)
