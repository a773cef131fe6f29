"""Settings that must be in place before Numba is imported."""

import os

from hypothesis import settings

# Tests compare one thread with two, so there must be two, also on one core.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, os.cpu_count() or 1)))

# Kernels compile inside the first example, and the suite must not flicker.
settings.register_profile("fastem", deadline=None, derandomize=True)
settings.load_profile("fastem")
