"""Hidden Markov models as objects: cloned, pickled, compiled once, interrupted."""

import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone

import fastem

from .reference import chains as oracle
from .test_cache import PACKAGE, run
from .test_hmm_cases import ONE_OF_EACH, case, fit, new_model

CLASSES = tuple(oracle.CLASSES.values())


@pytest.mark.parametrize("name", CLASSES)
def test_clones_have_the_same_parameters(name):
    given = {
        "n_components": 3,
        "params": "st",
        "n_iter": 7,
        "fixed": {"transmat": True},
    }
    model = getattr(fastem, name)(**given)
    copy = clone(model)
    assert copy is not model
    assert copy.get_params() == model.get_params()
    assert {key: copy.get_params()[key] for key in given} == given


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_clones_forget_what_was_fitted(kind):
    _, X, _ = case(kind, 3, 2, [60], seed=1)
    model = fit(new_model(fastem, kind, 2, 3, random_state=0, n_iter=2), X)
    copy = clone(model)
    assert not hasattr(copy, "transmat_")
    assert copy.monitor_.history == []
    np.testing.assert_array_equal(fit(copy, X).transmat_, model.transmat_)


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_pickles_are_the_same_model(kind):
    _, X, _ = case(kind, 3, 2, [60], seed=1)
    model = fit(new_model(fastem, kind, 2, 3, random_state=0, n_iter=2), X)
    copy = pickle.loads(pickle.dumps(model))
    assert copy.score(X) == model.score(X)
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    assert copy.monitor_.history == model.monitor_.history
    assert copy.get_params() == model.get_params()


def test_after_warmup_nothing_compiles():
    """In the suite's own cache, so that what is compiled here serves other tests."""
    script = """
import fastem
fastem.warmup(["diag"], ["float64"], ["GaussianHMM"])
warm = list(Compiled.names)
cycle = np.roll(np.eye(3), 1, axis=1)
for training in ("baum-welch", "viterbi"):
    model = fastem.GaussianHMM(3, training=training, random_state=0).fit(X, [400, 200])
    model.score(X), model.decode(X), model.predict_proba(X), model.filter(X)
    model.predict_next(X), model.smooth(X, 3), model.sample(5)
    model.stream().push(X)
    # Chains that never forget, and rows that underflow.
    model.transmat_ = cycle
    model.score(X), model.decode(X)
    model.score(1e6 * X), model.decode(1e6 * X)
print(json.dumps([warm, Compiled.names[len(warm):]]))
"""
    assert run(script)[1] == []
    # All of it is kept on disk.
    assert run(script) == [[], []]


@pytest.mark.skipif(os.name == "nt", reason="sends a signal of POSIX")
@pytest.mark.parametrize("training", ["baum-welch", "viterbi"])
def test_fits_can_be_interrupted(training):
    script = f"""
import signal
# Shells have what they run in the background ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np, fastem
X = np.random.default_rng(0).normal(size=(20_000, 2))
fastem.GaussianHMM(
    3, n_iter=10**9, tol=-1.0, verbose=True, training={training!r}
).fit(X)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr.readline().split()[0] == "1"
            process.send_signal(signal.SIGINT)
            # An iteration takes milliseconds; the rest is for machines that are busy.
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert error.rstrip().endswith("KeyboardInterrupt")
