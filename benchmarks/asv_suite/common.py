"""What the benchmarks share: how they are timed, and what a commit may lack."""

import logging
import os
import warnings

import numba
import threadpoolctl
from sklearn.exceptions import ConvergenceWarning

import fastem

QUICK = bool(os.environ.get("FASTEM_ASV_QUICK"))

# Iterations are counted, whether or not EM has converged by then; and that short
# sequences say little of many states is no matter here.
warnings.simplefilter("ignore", ConvergenceWarning)
logging.getLogger("fastem").setLevel(logging.ERROR)


def choose(*values, quick):
    """Return a benchmark's parameters: all values, or in the quick profile the first.

    This is all that the quick profile changes, so that its results are of the same
    benchmarks.
    """
    return values[:quick] if QUICK else values


THREADS = choose("all", 1, quick=1)


class Timed:
    """How long and how often to measure: at least eight samples in two processes.

    asv's test of two sets of samples asks for p < 0.002, which six a side never reach:
    sorted apart they have p = 2 / (12 over 6) = 0.0022.
    """

    rounds = 2
    repeat = (4, 10, 5.0)
    warmup_time = 0.2
    timeout = 300


def since(name):
    """Return an attribute of fastem; a commit that lacks it skips the benchmark."""
    if not hasattr(fastem, name):
        raise NotImplementedError(f"a commit before fastem.{name}")
    return getattr(fastem, name)


def use_threads(count):
    """Let kernels and matrix products use one thread or all."""
    if count != "all":
        numba.set_num_threads(count)
        threadpoolctl.threadpool_limits(count)
