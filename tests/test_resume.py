"""A fit that is killed goes on where it was, and ends with the bits of one that was
never disturbed.

What SIGKILL ends are forks of one process that has fastem loaded, since loading takes
longer than such a fit. They run kernels serially, for a fork must not run threads if
its parent did; that bits do not depend on threads is for test_threads.py to show. To
end fits at all kinds of blocks and writes that takes too long, so there an exception
does it.
"""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

import fastem
from fastem import GaussianHMM, GaussianMixture, KMeans
from fastem.compile import serial_kernels
from fastem.data import blocks
from fastem.data.source import open_source
from fastem.estimators import checkpoints

from .common import assert_same_bits, assert_same_fit, blobs
from .test_sources import NAMES, table

pytestmark = pytest.mark.usefixtures("one_thread")

N, D, K = 600, 2, 3
N_BLOCKS = 6
# Rows are summed in portions of this size, and sequences are read until they make a
# block of it: each makes one here.
BLOCK_BYTES = N // N_BLOCKS * D * 8
SIZES = {
    "BLOCK_BYTES": BLOCK_BYTES,
    "PORTION_BYTES": BLOCK_BYTES,
    "PORTION_MULTIPLE": 1,
}
N_KILLS, LONGEST_SECONDS = 20, 0.25


def rows(n_rows=N, seed=3):
    return blobs(n_rows, D, K, seed=seed)


def mixture(**kwargs):
    """Starts are drawn from a stream of random numbers, which has to go on, too."""
    params = {"init_params": "random_from_data", "n_init": 3, "max_iter": 7, **kwargs}
    return GaussianMixture(K, tol=0.0, random_state=0, **params)


def chain(**kwargs):
    params = {"n_init": 2, "n_iter": 4, **kwargs}
    return GaussianHMM(K, "diag", tol=0.0, random_state=0, **params)


def kmeans(**kwargs):
    """Starts with a cluster that is empty."""
    params = {"init": lost_centers, "n_init": 3, "max_iter": 5, "tol": 0.0}
    return KMeans(2 * K, random_state=0, **{**params, **kwargs})


def lost_centers(X, n_clusters, random_state):
    centers = X[random_state.choice(len(X), n_clusters, replace=False)]
    centers[-1] += 1e3
    return centers


MODELS = {"mixture": mixture, "chain": chain, "kmeans": kmeans}


class Watched:
    """A source that calls ``on_block(number)`` before it hands a block out."""

    def __init__(self, data, on_block):
        self._source, self._on_block = open_source(data), on_block

    def __getattr__(self, name):
        return getattr(self._source, name)

    def blocks(self, start=0):
        for number, block in enumerate(self._source.blocks(start), start):
            self._on_block(number)
            yield block


def parts(X):
    return np.split(X, N_BLOCKS)


def fit(model, data, **kwargs):
    """Fit; that so few iterations do not converge is not the question."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge")
        return model.fit(data, **kwargs)


def assert_same(got, want):
    if isinstance(got, GaussianMixture):
        assert_same_fit(got, want)
        return
    if isinstance(got, KMeans):
        for name in ("cluster_centers_", "inertia_", "n_iter_"):
            assert_same_bits(getattr(got, name), getattr(want, name))
        if hasattr(want, "labels_"):
            assert_same_bits(got.labels_, want.labels_)
        return
    for name in ("startprob_", "transmat_", "means_", "covars_"):
        assert_same_bits(getattr(got, name), getattr(want, name))
    assert list(got.monitor_.history) == list(want.monitor_.history)
    assert got.monitor_.iter == want.monitor_.iter


# ---------------------------------------------------------------------- SIGKILL


def run_killed(kind, folder):
    """Kill fits until twenty died; in a process of its own, which prints what came.

    Each is killed at a random moment, wherever that is: reading, computing, or in the
    midst of writing the checkpoint. Should a fit end before, the next begins anew.
    """
    folder, rng = Path(folder), np.random.default_rng(7)
    checkpoints.SECONDS_BETWEEN_SAVES = 0
    vars(blocks).update(SIZES)
    warnings.simplefilter("ignore")
    n_kills = n_finished = 0
    with serial_kernels():
        MODELS[kind]().fit(parts(rows()))  # loads kernels
        while True:
            child = os.fork()
            if child == 0:
                run_once(kind, folder, f"finished-{n_finished}.npz")
            if n_kills < N_KILLS:
                time.sleep(rng.uniform(0, LONGEST_SECONDS))
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                n_kills += 1
                continue
            assert status == 0
            (folder / "fit.ckpt").unlink()
            n_finished += 1
            if n_kills == N_KILLS:
                break
    print(n_finished)


def run_once(kind, folder, name):
    """Fit slowly, save the model and never return."""
    try:
        with open(folder / "log", "a", buffering=1) as log:

            def on_block(number):
                log.write(f"{os.getpid()}\n")
                time.sleep(0.005)

            data = Watched(parts(rows()), on_block)
            model = MODELS[kind]().fit(data, checkpoint=folder / "fit.ckpt")
        if kind == "kmeans":
            model.set_params(init="random")  # A function is not saved.
        model.save(folder / name)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
@pytest.mark.parametrize("kind", MODELS)
def test_killed_twenty_times(kind, tmp_path, monkeypatch):
    script = f"from tests.test_resume import *; run_killed({kind!r}, {str(tmp_path)!r})"
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    n_finished = int(ran.stdout)
    n_blocks = []
    for name, value in SIZES.items():
        monkeypatch.setattr(blocks, name, value)
    want = fit(MODELS[kind](), Watched(parts(rows()), n_blocks.append))
    for i in range(n_finished):
        assert_same(fastem.load(tmp_path / f"finished-{i}.npz"), want)
    # They did go on: a kill costs the pass under way and a new sample, not the fit.
    n_read = len((tmp_path / "log").read_text().splitlines())
    assert n_read <= n_finished * len(n_blocks) + N_KILLS * 2 * (N_BLOCKS + 1)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"log", *(f"finished-{i}.npz" for i in range(n_finished))}


# ------------------------------------------------------------ every block and write


class Interrupted(BaseException):
    """As if killed: no handler of errors takes it."""


class Budget:
    """Raises when a number of calls is spent."""

    def __init__(self, n_calls):
        self.n_left = n_calls

    def __call__(self, *args):
        if self.n_left == 0:
            raise Interrupted
        self.n_left -= 1


def until_finished(attempt, n_calls, seed=0):
    """Return what an attempt returns that is not interrupted, and how many were.

    Each may make fewer than ``n_calls``; how many is random.
    """
    rng = np.random.default_rng(seed)
    for n_interrupted in range(1000):
        budget = Budget(int(rng.integers(n_calls)))
        try:
            return attempt(budget), n_interrupted
        except Interrupted:
            pass
    raise AssertionError("no progress in a thousand attempts")


weight = np.random.default_rng(1).uniform(size=N)

CASES = {
    "array": (mixture, rows, {}),
    "weighted array": (mixture, rows, {"sample_weight": weight}),
    "blocks": (mixture, lambda: parts(rows()), {}),
    "weighted blocks": (mixture, lambda: parts(rows()), {"sample_weight": weight}),
    "float32": (mixture, lambda: parts(rows().astype(np.float32)), {}),
    **{
        shape: (
            lambda shape=shape: mixture(covariance_type=shape),
            lambda: parts(rows()),
            {},
        )
        for shape in ("tied", "diag", "spherical")
    },
    "mini-batches": (
        lambda: mixture(algorithm="minibatch", batch_size=40),
        lambda: parts(rows()),
        {},
    ),
    "clusters of an array": (kmeans, rows, {"sample_weight": weight}),
    "clusters of blocks": (kmeans, lambda: parts(rows()), {}),
    "clusters of weighted blocks": (
        lambda: kmeans(init="random", tol=1e-4),
        lambda: parts(rows()),
        {"sample_weight": weight},
    ),
    "chain of an array": (chain, rows, {"lengths": [250, 50, 300]}),
    "chain of blocks": (chain, lambda: parts(rows()), {}),
    "chain of blocks by lengths": (
        chain,
        lambda: parts(rows()),
        {"lengths": [150, 150, 20, 280]},
    ),
    "hard training": (
        lambda: chain(training="viterbi"),
        lambda: parts(rows()),
        {},
    ),
}


@pytest.fixture(params=[0, 1e9], ids=["blocks kept", "iterations kept"])
def seconds_between_saves(request, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_SAVES", request.param)
    monkeypatch.setattr(os, "fsync", lambda file: None)  # slow, and no power is cut
    for name, value in SIZES.items():
        monkeypatch.setattr(blocks, name, value)
    return request.param


@pytest.mark.usefixtures("seconds_between_saves")
@pytest.mark.parametrize("case", CASES)
class TestInterrupted:
    def test_while_reading(self, case, tmp_path):
        make, data, options = CASES[case]
        if isinstance(data(), np.ndarray):
            pytest.skip("an array is there")
        want = fit(make(), data(), **options)
        path = tmp_path / "fit.ckpt"
        for seed in range(3):
            got, n_interrupted = until_finished(
                lambda budget: fit(
                    make(), Watched(data(), budget), checkpoint=path, **options
                ),
                # Some get past the sample and, of clusters, the variances of features,
                # which take a pass and two.
                5 * N_BLOCKS,
                seed,
            )
            assert n_interrupted > 3
            assert_same(got, want)
            path.unlink()
        assert os.listdir(tmp_path) == []

    def test_while_writing(self, case, tmp_path, monkeypatch):
        """What was there before the write is what the fit goes on from."""
        make, data, options = CASES[case]
        want, path = fit(make(), data(), **options), tmp_path / "fit.ckpt"
        replace = os.replace

        def attempt(budget):
            before = path.read_bytes() if path.exists() else None

            def interrupted_replace(*names):
                nonlocal before
                after = path.read_bytes() if path.exists() else None
                budget()
                replace(*names)
                before = path.read_bytes()
                assert before != after

            monkeypatch.setattr(os, "replace", interrupted_replace)
            try:
                return fit(make(), data(), checkpoint=path, **options)
            finally:
                if before is not None:
                    assert path.read_bytes() == before
                assert os.listdir(tmp_path) in ([], [path.name])

        got, n_interrupted = until_finished(attempt, 5)
        assert n_interrupted > 0
        assert_same(got, want)


def interrupted(make, data, path, n_blocks=3 * N_BLOCKS + 2, **options):
    """Leave the checkpoint of a fit that was interrupted in its second iteration."""
    with pytest.raises(Interrupted):
        fit(make(), Watched(data, Budget(n_blocks)), checkpoint=path, **options)
    return path.read_bytes()


@pytest.mark.parametrize("kind", MODELS)
class TestAfterwards:
    def test_a_fit_that_ended_is_not_repeated(self, kind, tmp_path):
        path = tmp_path / "fit.ckpt"
        want = fit(MODELS[kind](), parts(rows()), checkpoint=path)
        content, n_blocks = path.read_bytes(), []
        data = Watched(parts(rows()), n_blocks.append)
        assert_same(fit(MODELS[kind](), data, checkpoint=path), want)
        assert len(n_blocks) <= N_BLOCKS  # a sample, no iteration
        assert path.read_bytes() == content

    def test_how_much_is_said_does_not_matter(self, kind, tmp_path, capsys):
        path = tmp_path / "fit.ckpt"
        interrupted(MODELS[kind], parts(rows()), path)
        got = fit(MODELS[kind](verbose=1), parts(rows()), checkpoint=path)
        assert_same(got, fit(MODELS[kind](), parts(rows())))


def refusal(path, model, data, **options):
    """Return why a fit does not go on; the checkpoint and the model are left alone."""
    content, before = path.read_bytes(), dict(vars(model))
    with pytest.raises(ValueError) as error:
        fit(model, data, checkpoint=path, **options)
    assert path.read_bytes() == content
    assert vars(model).keys() == before.keys()
    assert str(path) in str(error.value)
    return str(error.value)


class TestRefused:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "fit.ckpt"
        interrupted(mixture, parts(rows()), path)
        return path

    def test_of_other_data(self, path):
        X = rows()
        for other in (parts(X + 1), parts(X.astype(np.float32)), X, parts(X[:-6])):
            said = refusal(path, mixture(), other)
            assert "another fit" in said and "data.X" in said
        said = refusal(path, mixture(), parts(X), sample_weight=weight)
        assert "data.sample_weight" in said

    def test_of_blocks_cut_otherwise(self, path):
        """Of a chain they are other sequences, and of any fit other bits."""
        X = rows()
        for other in [X], np.split(X, [100, 200, 300, 400, 501]), parts(X)[::-1]:
            assert "data.X" in refusal(path, mixture(), other)
        of_callable = path.with_name("callable.ckpt")
        interrupted(mixture, lambda: iter(parts(X)), of_callable)
        refusal(of_callable, mixture(), lambda: iter([X]))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("covariance_type", "diag"),
            ("max_iter", 8),
            ("tol", 1e-3),
            ("random_state", 1),
            ("n_init", 2),
            ("reg_covar", 1e-5),
            ("init_params", "kmeans"),
            ("means_init", np.ones((K, D))),
            ("algorithm", "minibatch"),
        ],
    )
    def test_of_other_settings(self, path, name, value):
        model = mixture().set_params(**{name: value})
        said = refusal(path, model, parts(rows()))
        assert f"settings.{name}" in said

    def test_of_another_model(self, path):
        assert "GaussianHMM" in refusal(path, chain(), parts(rows()))

    def test_other_files(self, path):
        fit(mixture(), rows()).save(path)
        assert "model" in refusal(path, mixture(), parts(rows()))
        np.savez(path.with_suffix(".npz"), rows())
        refusal(path.with_suffix(".npz"), mixture(), parts(rows()))
        path.write_text("not a checkpoint")
        refusal(path, mixture(), parts(rows()))

    @pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.999])
    def test_cut_short(self, path, share):
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        refusal(path, mixture(), parts(rows()))

    def test_changed_inside(self, path):
        content, rng = path.read_bytes(), np.random.default_rng(0)
        want = fit(mixture(), parts(rows()))
        for position in rng.integers(len(content), size=30):
            changed = bytearray(content)
            changed[position] ^= 1 << rng.integers(8)
            path.write_bytes(changed)
            try:
                got = fit(mixture(), parts(rows()), checkpoint=path)
            except ValueError as error:
                assert str(path) in str(error)
                assert path.read_bytes() == changed
            else:  # a byte that says nothing, such as a date of the container's
                assert_same(got, want)

    @pytest.mark.parametrize("suffix", ["npy", "parquet"])
    def test_a_file_that_changed(self, suffix, tmp_path):
        """By one entry, with size and time as they were, and by its time alone."""
        data, path = tmp_path / f"x.{suffix}", tmp_path / "fit.ckpt"

        def write(X):
            if suffix == "npy":
                np.save(data, X)
            else:
                pyarrow.parquet.write_table(table(X, NAMES[:D]), data)

        X = rows()
        write(X)
        interrupted(mixture, open_source(data, block_rows=100), path)
        before = os.stat(data)
        X[-1, -1] += 1
        write(X)
        os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))
        said = refusal(path, mixture(), open_source(data, block_rows=100))
        assert data.name in said
        write(rows())
        os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        said = refusal(path, mixture(), open_source(data, block_rows=100))
        assert data.name in said
        os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))
        got = fit(mixture(), open_source(data, block_rows=100), checkpoint=path)
        assert_same(got, fit(mixture(), open_source(data, block_rows=100)))
