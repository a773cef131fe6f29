"""The kernels are ordinary Python as well: to debug, and to measure coverage."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# Small problems only: without the JIT a tile of 256 lanes takes tens of milliseconds.
SELECTIONS = {
    "tile functions": ("test_kernels.py", ""),
    "mixtures": (
        "test_gaussian_mixture_oracle.py",
        "(test_one_iteration or test_posterior) and (N257 or N258 or N515 or N97)",
    ),
    "chains": (
        "test_hmm_oracle.py",
        "test_paths_counted or test_from_a_start and (1-2 or 2-1)",
    ),
    "kmeans": ("test_kmeans.py", "textbook and 1- and (N257 or N258 or N515)"),
}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_without_the_jit(selection):
    file, expression = SELECTIONS[selection]
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(str(TESTS / file), "-k", expression),
        ],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    passed = int(re.search(r"(\d+) passed", result.stdout)[1])
    assert passed >= 10
