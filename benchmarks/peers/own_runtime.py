"""Peers with a runtime of their own: arrays go to their process and back in files."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.peers.interface import Parameters, PeerError, Result
from benchmarks.peers.timing import Timing


def run(command, X, start, covariances, timed_iterations):
    """Run ``command(folder)``, which fits what the folder holds, and read its answer.

    ``X`` is written in the order it has when transposed and read, column by column.

    Raises
    ------
    PeerError
        If the command fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays = (X, start.weights, start.means, covariances)
        files = [folder / field for field in ("data", *Parameters._fields)]
        for file, array in zip(files, arrays, strict=True):
            np.ascontiguousarray(array, dtype=np.float64).tofile(file)
        done = subprocess.run(command(folder), capture_output=True, text=True)
        if done.returncode:
            raise PeerError(done.stderr.strip() or f"code {done.returncode}")
        fitted = Parameters(
            *(
                np.fromfile(file).reshape(array.shape)
                for file, array in zip(files[1:], arrays[1:], strict=True)
            )
        )
    one_seconds, all_seconds, log_likelihood, added_bytes = map(
        float, done.stdout.split()
    )
    timing = Timing(timed_iterations, one_seconds, all_seconds)
    return Result(timing, log_likelihood, fitted, added_bytes)


def covariances(start, covariance_type):
    """Return the covariances of a start, which has their inverses."""
    of_matrices = covariance_type in ("full", "tied")
    return (np.linalg.inv if of_matrices else np.reciprocal)(start.precisions)
