"""Armadillo's gmm_full and gmm_diag, as a peer: a C++ program compiled on the fly."""

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.peers import own_runtime

NAME = "Armadillo"
DTYPE = np.float64
COVARIANCE_TYPES = ("full", "diag")

_SOURCE = Path(__file__).with_name("armadillo_peer.cpp")
# As its manual says to compile for speed, without checks of every access.
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-DARMA_NO_DEBUG")


@functools.cache
def missing():
    if shutil.which("g++") is None:
        return "g++ is not installed"
    try:
        _program()
    except subprocess.CalledProcessError as error:
        return f"{_SOURCE.name} does not compile: {error.stderr.splitlines()[0]}"
    return None


@functools.cache
def describe():
    """Return its version, which its program prints where it is told nothing."""
    return subprocess.run(
        _program(), check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def run(X, start, covariance_type, n_iter):
    n_rows, n_features = map(str, X.shape)

    def command(folder):
        sizes = [n_rows, n_features, covariance_type, str(n_iter)]
        return [_program(), str(folder), *sizes]

    # A row-major (N, D) array has the bytes of Armadillo's column-major (D, N) matrix.
    covariances = own_runtime.covariances(start, covariance_type)
    return own_runtime.run(command, X, start, covariances, n_iter)


@functools.cache
def _program():
    """Compile the program, into a folder that lives as long as this process."""
    program = Path(_build_folder().name) / "armadillo_peer"
    command = ["g++", *_FLAGS, str(_SOURCE), "-o", str(program), "-larmadillo"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return str(program)


@functools.cache
def _build_folder():
    return tempfile.TemporaryDirectory()
