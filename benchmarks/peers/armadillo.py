"""Armadillo's gmm_full and gmm_diag, as a peer: a C++ program compiled on the fly."""

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.peers.interface import Parameters, Result
from benchmarks.peers.timing import Timing

NAME = "Armadillo"
DTYPE = np.float64
COVARIANCE_TYPES = ("full", "diag")

_SOURCE = Path(__file__).with_name("armadillo_peer.cpp")
_FLAGS = ("-O3", "-march=native", "-fopenmp")


@functools.cache
def missing():
    if shutil.which("g++") is None:
        return "g++ is not installed"
    try:
        _program()
    except subprocess.CalledProcessError as error:
        return f"{_SOURCE.name} does not compile: {error.stderr.splitlines()[0]}"
    return None


def run(X, start, covariance_type, n_iter):
    with tempfile.TemporaryDirectory() as folder:
        _write_inputs(Path(folder), X, start, covariance_type)
        printed = subprocess.run(
            [_program(), folder, *map(str, X.shape), covariance_type, str(n_iter)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        parameters = _read_parameters(Path(folder), start)
    one_seconds, all_seconds, log_likelihood = map(float, printed.split())
    timing = Timing(n_iter, one_seconds, all_seconds)
    return Result(timing, log_likelihood, parameters)


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


def _write_inputs(folder, X, start, covariance_type):
    # A row-major (N, D) array has the bytes of Armadillo's column-major (D, N) matrix.
    inverse = np.linalg.inv if covariance_type == "full" else np.reciprocal
    arrays = {
        "data": X,
        "weights": start.weights,
        "means": start.means,
        "covariances": inverse(start.precisions),
    }
    for name, array in arrays.items():
        np.ascontiguousarray(array, dtype=DTYPE).tofile(folder / name)


def _read_parameters(folder, start):
    shapes = Parameters(start.weights.shape, start.means.shape, start.precisions.shape)
    return Parameters(
        *(
            np.fromfile(folder / name, dtype=DTYPE).reshape(shape)
            for name, shape in shapes._asdict().items()
        )
    )
