"""fastem's hidden Markov models, behind the same interface as their peers."""

from functools import partial

from benchmarks.data import chain
from benchmarks.peers import hmmlearn_face
from fastem import GaussianHMM

NAME = "fastem"


def missing():
    return None


make = partial(hmmlearn_face.make, GaussianHMM)
fit = partial(hmmlearn_face.fit, GaussianHMM)


def runner(X, start, n_iter):
    """Return a function that runs and times EM."""
    return partial(hmmlearn_face.run, GaussianHMM, X, start, n_iter)


def warm_up(dtype):
    """Compile or load the kernels of fitting, decoding and smoothing."""
    X, start = chain(1_000, n_features=1, n_states=2)
    X = X.astype(dtype)
    model = fit(X, start, n_iter=1)
    for method in ("score", "decode", "predict_proba", "filter"):
        getattr(model, method)(X)
