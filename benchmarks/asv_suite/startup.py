"""What a process pays before and during its first fit."""

import os
import subprocess
import sys
import tempfile

from .common import choose, since

FIRST_FIT = """
import sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
import fastem
X = np.random.default_rng(0).normal(size=(1000, int(sys.argv[2])))
model = getattr(fastem, sys.argv[1])(2, random_state=0)
start = time.perf_counter()
model.fit(X)
print(time.perf_counter() - start)
"""


class Import:
    def timeraw_import(self):
        return "import fastem"


class FirstFit:
    """Of two features, or of as many as the name says."""

    params = choose(
        *("KMeans", "GaussianMixture", "GaussianMixture 32", "GaussianHMM"), quick=1
    )
    param_names = ("model",)
    timeout = 600

    def setup(self, model):
        since(model.split()[0])

    def track_cold(self, model):
        with tempfile.TemporaryDirectory() as empty:
            return seconds_to_first_fit(model, NUMBA_CACHE_DIR=empty)

    def track_cached(self, model):
        seconds_to_first_fit(model)
        return min(seconds_to_first_fit(model) for _ in range(3))

    track_cold.unit = track_cached.unit = "seconds"


def seconds_to_first_fit(model, **environment):
    """Return how long a new process takes to fit."""
    name, n_features = (*model.split(), "2")[:2]
    printed = subprocess.run(
        [sys.executable, "-c", FIRST_FIT, name, n_features],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return float(printed)
