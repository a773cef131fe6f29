"""What a process pays before its first fit."""

import os
import subprocess
import sys
import tempfile

WARM_UP = """
import time
import fastem
start = time.perf_counter()
fastem.warmup(covariance_types=("full",), dtypes=("float64",))
print(time.perf_counter() - start)
"""


class Import:
    def timeraw_import(self):
        return "import fastem"


class Compilation:
    timeout = 300

    def track_cold(self):
        with tempfile.TemporaryDirectory() as empty:
            return _seconds_to_warm_up(NUMBA_CACHE_DIR=empty)

    def track_cached(self):
        _seconds_to_warm_up()
        return _seconds_to_warm_up()

    track_cold.unit = track_cached.unit = "seconds"


def _seconds_to_warm_up(**environment):
    printed = subprocess.run(
        [sys.executable, "-c", WARM_UP],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return float(printed)
