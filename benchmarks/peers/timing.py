"""How things are timed: alternating, and by difference so that set-up cancels."""

import time
from statistics import median
from typing import NamedTuple

# OpenBLAS's threads wait busily for up to 90 ms (measured) after a peer's last product,
# and would take a core from whatever is timed next.
BLAS_FALLS_ASLEEP_SECONDS = 0.15


class Timing(NamedTuple):
    """Seconds of the same call with one iteration and with ``n_iter`` of them."""

    n_iter: int
    one_seconds: float
    all_seconds: float

    @property
    def seconds_per_iteration(self):
        return (self.all_seconds - self.one_seconds) / (self.n_iter - 1)


class Spread(NamedTuple):
    """Seconds over repeated measurements."""

    minimum: float
    median: float


def stopwatch(call, *arguments):
    """Return the seconds a call took and what it returned, on a machine at rest."""
    time.sleep(BLAS_FALLS_ASLEEP_SECONDS)
    start = time.perf_counter()
    returned = call(*arguments)
    return time.perf_counter() - start, returned


def time_iterations(fit, n_iter):
    """Time ``fit(1)`` and ``fit(n_iter)``; return that and what the latter returned."""
    one_seconds, _ = stopwatch(fit, 1)
    all_seconds, fitted = stopwatch(fit, n_iter)
    return Timing(n_iter, one_seconds, all_seconds), fitted


def alternate(repeats, *sides):
    """Call the sides in turn, A B A B ...; return one list of results for each side.

    Whatever slows the machine down for a while then slows both sides.
    """
    rounds = [[side() for side in sides] for _ in range(repeats)]
    return [list(results) for results in zip(*rounds, strict=True)]


def spread(seconds):
    return Spread(min(seconds), median(seconds))


def spread_per_iteration(timings):
    """Return seconds per iteration, the minimum as a difference of two minima.

    The smallest of the differences would reward a slow one-iteration run.
    """
    best = Timing(
        timings[0].n_iter,
        min(timing.one_seconds for timing in timings),
        min(timing.all_seconds for timing in timings),
    )
    return Spread(
        best.seconds_per_iteration,
        median(timing.seconds_per_iteration for timing in timings),
    )
