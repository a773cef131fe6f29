"""hmmlearn, as a peer: by its likelihoods (scaling) or their logarithms (its default).

Viterbi's algorithm it has in logarithms only.
"""

from functools import partial
from importlib.util import find_spec

from benchmarks.peers import hmmlearn_face

NAME = "hmmlearn"
IMPLEMENTATIONS = ("scaling", "log")


def missing():
    return None if find_spec("hmmlearn") else "hmmlearn is not installed"


def make(start, implementation="log"):
    from hmmlearn.hmm import GaussianHMM

    return hmmlearn_face.make(GaussianHMM, start, implementation=implementation)


def runner(X, start, n_iter, implementation):
    """Return a function that runs and times EM."""
    from hmmlearn.hmm import GaussianHMM

    return partial(hmmlearn_face.run, GaussianHMM, X, start, n_iter, implementation)
