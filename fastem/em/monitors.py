"""What watches a fit. A monitor has the methods of :class:`SilentMonitor`."""

import time


class SilentMonitor:
    """Watch and say nothing; the interface of all monitors."""

    def start(self, n_init):
        """Begin a fit of ``n_init`` starts."""

    def begin_init(self, init):
        """Begin start number ``init``, from 0."""

    def rows(self, n_rows, of):
        """Note how many rows of a pass are read, of all or of None if not known."""

    def iteration(self, n_iter, lower_bound, change):
        """End iteration ``n_iter``, from 1; what is true ends the fit."""

    def end_init(self, lower_bound, converged):
        """End a start."""


class VerboseMonitor(SilentMonitor):
    """Print what scikit-learn's mixtures print at the same ``verbose``."""

    def __init__(self, verbose, interval):
        self._with_times = verbose >= 2
        self._interval = interval

    def begin_init(self, init):  # noqa: D102
        print(f"Initialization {init}")
        self._init_time = self._iteration_time = time.perf_counter()

    def iteration(self, n_iter, lower_bound, change):  # noqa: D102
        if n_iter % self._interval:
            return
        if self._with_times:
            now = time.perf_counter()
            lapse = now - self._iteration_time
            self._iteration_time = now
            print(
                f"  Iteration {n_iter}\t time lapse {lapse:.5f}s"
                f"\t ll change {change:.5f}"
            )
        else:
            print(f"  Iteration {n_iter}")

    def end_init(self, lower_bound, converged):  # noqa: D102
        message = "converged" if converged else "did not converge"
        if self._with_times:
            lapse = time.perf_counter() - self._init_time
            print(
                f"Initialization {message}. time lapse {lapse:.5f}s"
                f"\t lower bound {lower_bound:.5f}."
            )
        else:
            print(f"Initialization {message}.")


def make_monitor(verbose, interval):
    """Return the monitor for an estimator's ``verbose`` and ``verbose_interval``."""
    return VerboseMonitor(verbose, interval) if verbose else SilentMonitor()
