"""How calls are timed: compiled first, on several numbers of threads in turn."""

import contextlib
import time
from statistics import median
from typing import NamedTuple

import numba
from threadpoolctl import ThreadpoolController

# Of OpenBLAS's threads, which wait busily for up to 90 ms (measured) after a product.
BLAS_FALLS_ASLEEP_SECONDS = 0.15
# A call that is over at once is repeated more often, up to so many times.
MOST_REPEATS = 50


class Effort(NamedTuple):
    """How long to measure: at least so many calls, and so many seconds of them."""

    repeats: int
    seconds: float


FULL = Effort(7, 0.3)
QUICK = Effort(3, 0.05)


class Spread(NamedTuple):
    """Seconds of the fastest call and of the middle one."""

    minimum: float
    median: float


def spread(seconds):
    """Return the least and the middle of some seconds.

    Examples
    --------
    >>> from fastem.bench.measure import spread
    >>> spread([3.0, 1.0, 2.0])
    Spread(minimum=1.0, median=2.0)
    """
    return Spread(min(seconds), median(seconds))


def thread_counts(most):
    """Return the numbers of threads to measure on: powers of two, and the most.

    Examples
    --------
    >>> from fastem.bench.measure import thread_counts
    >>> thread_counts(6)
    [1, 2, 4, 6]
    """
    return sorted({*(2**i for i in range(most.bit_length()) if 2**i <= most), most})


def time_call(prepare, counts, effort, *, uses_blas=False):
    """Return the seconds of each call, by the number of threads.

    Numbers of threads take turns, so that whatever slows the machine down for a while
    slows all of them.

    Parameters
    ----------
    prepare : callable
        Returns the call to time; what it does itself is not timed.
    counts : list of int
        Numbers of threads.
    effort : Effort
    uses_blas : bool
        Whether the call leaves threads of BLAS that wait busily.

    Returns
    -------
    dict of int to list of float
    """
    call = prepare()
    blas = ThreadpoolController()
    for n_threads in counts:
        with _threads(n_threads, blas):
            call()  # compiles, or touches memory for the first time
    seconds = {n_threads: [] for n_threads in counts}
    while not _enough(seconds.values(), effort):
        for n_threads, those in seconds.items():
            with _threads(n_threads, blas):
                begun = time.perf_counter()
                call()
                those.append(time.perf_counter() - begun)
    if uses_blas:
        time.sleep(BLAS_FALLS_ASLEEP_SECONDS)
    return seconds


def _enough(seconds, effort):
    """Say whether all calls were repeated often, and long, enough."""
    return all(
        len(those) >= effort.repeats
        and (sum(those) >= effort.seconds or len(those) >= MOST_REPEATS)
        for those in seconds
    )


@contextlib.contextmanager
def _threads(n_threads, blas):
    before = numba.get_num_threads()
    numba.set_num_threads(n_threads)
    try:
        with blas.limit(limits=n_threads, user_api="blas"):
            yield
    finally:
        numba.set_num_threads(before)
