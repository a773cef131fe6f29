"""Settings that must be in place before Numba is imported."""

import os

import pytest
from hypothesis import settings

# Tests compare one thread with two, so there must be two, also on one core.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, os.cpu_count() or 1)))

# Kernels compile inside the first example, and the suite must not flicker.
settings.register_profile("fastem", deadline=None, derandomize=True)
settings.load_profile("fastem")


# Of fewer tests than this none is the whole suite.
WHOLE_SUITE = 5_000


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session):
    """Compile the suite's kernels before its first test, each worker a share of them.

    Left to themselves, all workers would compile the same ones at the same time.
    Pytest-xdist begins when all workers are through with this.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and len(session.items) > WHOLE_SUITE:
        n_workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        for build in _shares(n_workers)[int(worker.removeprefix("gw"))]:
            build()


def _shares(n_workers):
    """Return what most tests need, kernels that share functions to one worker."""
    from fastem.warmup import MODELS, warmup_steps

    steps = dict(warmup_steps())
    steps |= warmup_steps(dtypes=["float64"], models=MODELS)
    together = {}
    for name, build in steps.items():
        family = name.split()[0].removeprefix("gmm-")
        # Kernels of spherical covariances are the cached ones of diagonal covariances.
        family = {"spherical": "diag"}.get(family, family)
        of_chains = name.split()[-1] in ("chain", "path", "sweep", "stream")
        key = "chains" if of_chains else (family, "float32" in name)
        together.setdefault(key, []).append(build)
    shares = [[] for _ in range(n_workers)]
    for builds in sorted(together.values(), key=len, reverse=True):
        min(shares, key=len).extend(builds)
    return shares


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
