"""Settings that must be in place before Numba is imported."""

import os

import pytest
from hypothesis import settings

# Tests compare one thread with two, so there must be two, also on one core.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, os.cpu_count() or 1)))

# Kernels compile inside the first example, and the suite must not flicker.
settings.register_profile("fastem", deadline=None, derandomize=True)
settings.load_profile("fastem")


@pytest.fixture(scope="module")
def one_thread():
    """Run kernels on one thread, for tests of thousands of fits to a tile or two of
    rows: a second thread has nothing to do there, and on a busy machine costs a wait
    for the scheduler with every call. Results do not depend on it (test_threads.py).
    """
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)
