"""How much memory ``fit`` adds to what its data take, in a process of its own.

``python -m benchmarks.peers.gmm.memory N D K`` is that process.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.peers.gmm.cases import MEMORY

ALLOWED_MB = 40
MB = 2**20


def rows(plan):
    for case in plan.select(MEMORY):
        _megabytes_added(case)  # compiles, so that the next process only loads
        added = _megabytes_added(case)
        yield {
            "N, D, K": case.size,
            "data MB": case.n_rows * case.n_features * 8 / MB,
            "added MB": added,
            "allowed MB": ALLOWED_MB,
            "met": None if plan.smoke else added <= ALLOWED_MB,
        }


def _megabytes_added(case):
    checkout = Path(__file__).parents[3]
    command = [sys.executable, "-m", __spec__.name, *map(str, case.shape)]
    printed = subprocess.run(
        command, cwd=checkout, check=True, capture_output=True, text=True
    ).stdout
    return float(printed)


def measure(n_rows, n_features, n_components):
    """Return the megabytes by which ``fit`` raises this process's peak."""
    import fastem
    from benchmarks.peers.scikit_learn_face import fit_quietly

    rng = np.random.default_rng(0)
    model = fastem.GaussianMixture(n_components, max_iter=3, random_state=0)
    fit_quietly(model, rng.normal(size=(100 * n_features, n_features)))  # loads kernels

    # Filled in place: a temporary array would raise the peak and hide what fit adds.
    X = np.empty((n_rows, n_features))
    rng.standard_normal(out=X)
    before = _peak_bytes()
    fit_quietly(model, X)
    return (_peak_bytes() - before) / MB


def _peak_bytes():
    # Linux lets a child inherit its parent's ru_maxrss; VmHWM is the process's own.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    print(measure(*map(int, sys.argv[1:])))
