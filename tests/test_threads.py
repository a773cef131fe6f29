"""The same bits on any number of threads, from run to run, and from two at once."""

import concurrent.futures
import functools
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from fastem import GaussianMixture, KMeans
from fastem.execution.blas import one_blas_thread

from .common import (
    COVARIANCE_TYPES,
    INIT_PARAMS,
    assert_same_bits,
    assert_same_fit,
    blobs,
    fit,
    unconverged,
)

# Odd on purpose: neither tiles nor parts come out even.
N, D, K = 9_973, 6, 5


@pytest.fixture(scope="module", params=[np.float64, np.float32], ids=["f64", "f32"])
def X(request):
    return blobs(N, D, K, seed=1, spread=1.5).astype(request.param)


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(2).exponential(size=N)


@pytest.fixture
def on_threads():
    """Call a function on a given number of threads."""
    before = numba.get_num_threads()

    def call(n_threads, function):
        numba.set_num_threads(n_threads)
        return function()

    yield call
    numba.set_num_threads(before)


def mixture(**params):
    return GaussianMixture(
        K, **{"random_state": 0, "max_iter": 6, "tol": 0.0, **params}
    )


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
class TestMixture:
    def test_fit(self, on_threads, X, weights, covariance_type):
        def run():
            model = mixture(covariance_type=covariance_type)
            return fit(model, X, sample_weight=weights)

        one = on_threads(1, run)
        for n_threads in (2, numba.config.NUMBA_NUM_THREADS, 1):
            assert_same_fit(on_threads(n_threads, run), one)

    def test_predictions(self, on_threads, X, weights, covariance_type):
        model = fit(mixture(covariance_type=covariance_type), X)
        calls = [
            lambda: model.predict(X),
            lambda: model.predict_proba(X),
            lambda: model.score_samples(X),
            lambda: model.score(X, sample_weight=weights),
        ]
        for call in calls:
            assert_same_bits(on_threads(2, call), on_threads(1, call))


@pytest.mark.parametrize("init_params", INIT_PARAMS)
def test_seeding(on_threads, X, weights, init_params):
    def run():
        model = mixture(init_params=init_params, max_iter=0)
        return model.fit(X, sample_weight=weights)

    assert_same_fit(on_threads(2, run), on_threads(1, run))


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_kmeans(on_threads, X, weights, init):
    def run():
        model = KMeans(K, init=init, n_init=2, random_state=0)
        return model.fit(X, sample_weight=weights)

    one, two = on_threads(1, run), on_threads(2, run)
    assert_same_bits(two.cluster_centers_, one.cluster_centers_)
    assert_same_bits(two.labels_, one.labels_)
    assert (two.inertia_, two.n_iter_) == (one.inertia_, one.n_iter_)
    for method in (one.predict, one.transform, one.score):
        call = functools.partial(method, X)
        assert_same_bits(on_threads(1, call), on_threads(2, call))


@pytest.mark.parametrize("n_rows", [2, 255, 256, 257, 511, 513])
@pytest.mark.filterwarnings("ignore::fastem.exceptions.DegenerateComponentWarning")
def test_fewer_tiles_than_threads(on_threads, n_rows):
    data = blobs(n_rows, 2, 2, seed=3)

    def run():
        return fit(GaussianMixture(2, random_state=0, max_iter=3), data)

    assert_same_fit(on_threads(2, run), on_threads(1, run))


def test_the_number_of_threads_is_left_as_it_was(on_threads, X):
    def run():
        fit(mixture(max_iter=1), X)
        KMeans(K, random_state=0).fit(X)
        return numba.get_num_threads()

    assert on_threads(1, run) == 1


def test_python_threads_at_once(X):
    """Four fits in four threads, three times over: what each would give alone."""
    models = [mixture(covariance_type=kind) for kind in COVARIANCE_TYPES]
    alone = [fit(mixture(covariance_type=kind), X) for kind in COVARIANCE_TYPES]
    # Threads share the warning filters, so they are set here and not in each.
    with unconverged(), concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            together = pool.map(lambda model: model.fit(X), models)
            for model, want in zip(together, alone, strict=True):
                assert_same_fit(model, want)


TWO_AT_ONCE = """
import threading, warnings
import numpy as np
from fastem import GaussianMixture, KMeans

warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=(20_000, 4))
barrier = threading.Barrier(3)
found = {}

def work(name, estimator):
    barrier.wait()
    for _ in range(5):
        estimator.fit(X)
    found[name] = estimator

def kinds():
    return {
        "full": GaussianMixture(4, random_state=0, max_iter=5),
        "diag": GaussianMixture(4, covariance_type="diag", random_state=0, max_iter=5),
        "kmeans": KMeans(4, random_state=0),
    }

threads = [threading.Thread(target=work, args=item) for item in kinds().items()]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for name, alone in kinds().items():
    alone.fit(X)
    attribute = "cluster_centers_" if name == "kmeans" else "covariances_"
    want, got = getattr(alone, attribute), getattr(found[name], attribute)
    assert want.tobytes() == got.tobytes(), name
print("equal")
"""

IN_PROCESSES = """
import multiprocessing, warnings
import numpy as np
from fastem import GaussianMixture

warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=(5_000, 3))

def means(seed):
    return GaussianMixture(3, random_state=seed, max_iter=3).fit(X).means_

if __name__ == "__main__":
    here = [means(seed) for seed in range(2)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        there = pool.map(means, range(2))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(here, there))
    print("equal")
"""


def run_script(script, path, **environment):
    file = path / "script.py"
    file.write_text(script)
    return subprocess.run(
        [sys.executable, str(file)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_workqueue_survives_two_threads(tmp_path):
    """The layer Numba always has aborts the process if two threads enter kernels."""
    result = run_script(TWO_AT_ONCE, tmp_path, NUMBA_THREADING_LAYER="workqueue")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "equal"


def test_other_processes_get_the_same_bits(tmp_path):
    result = run_script(IN_PROCESSES, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "equal"


class TestBlasThreads:
    """Fits keep BLAS to one thread and give it back its own number."""

    @pytest.fixture
    def blas(self):
        controller = ThreadpoolController().select(user_api="blas")
        with controller.limit(limits=2, user_api="blas"):
            yield lambda: {library["num_threads"] for library in controller.info()}

    def test_while_fitting(self, blas):
        seen = []

        class Seeing(GaussianMixture):
            def _warn(self, best):
                seen.append(blas())

            def _start(self, *arguments):
                seen.append(blas())
                return super()._start(*arguments)

        Seeing(2, max_iter=1).fit(np.random.default_rng(0).normal(size=(50, 2)))
        assert seen == [{1}, {2}]

    def test_after_an_error(self, blas):
        with pytest.raises(ValueError, match="n_components"):
            GaussianMixture(3).fit(np.zeros((2, 1)))
        assert blas() == {2}

    def test_of_several_threads_the_last_gives_it_back(self, blas):
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert blas() == {1}
        second.__exit__(None, None, None)
        assert blas() == {2}
