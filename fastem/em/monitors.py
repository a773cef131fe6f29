"""What watches a fit. A monitor has the methods of :class:`SilentMonitor`."""

import contextlib
import logging
import time
from datetime import timedelta

from numba.core import event

# It has no handler, not even one that does nothing: that would also silence the
# warnings of hidden Markov models, which show without one, as hmmlearn's do.
_log = logging.getLogger("fastem")


class SilentMonitor:
    """Watch and say nothing; the interface of all monitors."""

    def start(self, n_init):
        """Begin a fit of ``n_init`` starts."""

    def begin_init(self, init):
        """Begin start number ``init``, from 0."""

    def reach(self, state):
        """Note where a fit stands, from which the estimator can make a model.

        ``state()`` tells. It changes before a start's first iteration, after each
        iteration, and when the best start is chosen.
        """

    def rows(self, n_rows, of):
        """Note how many rows of a pass are read, of all or of None if not known.

        The first call of a pass begins it, as a rule with 0.
        """

    def iteration(self, n_iter, lower_bound, change):
        """End iteration ``n_iter``, from 1; what is true ends the start.

        ``lower_bound`` is None where it is not known on the way.
        """

    def end_init(self, lower_bound, converged):
        """End a start; what is true ends the fit, without further starts."""

    def end(self, n_iter, lower_bound, converged):
        """End a fit, of which a start of so many iterations is kept."""


def together(*monitors):
    """Return a monitor that tells all of these whatever it is told, in their order.

    What one of them wants to end, ends.
    """

    def tell_all(methods):
        return lambda *arguments: any([method(*arguments) for method in methods])

    everyone = SilentMonitor()
    for name, silence in vars(SilentMonitor).items():
        if name.startswith("_"):
            continue
        methods = [getattr(monitor, name) for monitor in monitors]
        heard = [m for m in methods if getattr(m, "__func__", None) is not silence]
        if heard:
            setattr(everyone, name, tell_all(heard))
    return everyone


class VerboseMonitor(SilentMonitor):
    """Print what scikit-learn's mixtures print at the same ``verbose``."""

    def __init__(self, verbose, interval):
        self._with_times = verbose >= 2
        self._interval = interval

    def begin_init(self, init):  # noqa: D102
        print(f"Initialization {init}")
        self._init_time = self._iteration_time = time.perf_counter()
        self._iterates = False

    def iteration(self, n_iter, lower_bound, change):  # noqa: D102
        self._iterates = True
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
        if not self._iterates:
            return
        message = "converged" if converged else "did not converge"
        if self._with_times:
            lapse = time.perf_counter() - self._init_time
            print(
                f"Initialization {message}. time lapse {lapse:.5f}s"
                f"\t lower bound {lower_bound:.5f}."
            )
        else:
            print(f"Initialization {message}.")


class LogMonitor(SilentMonitor):
    """Log the beginning and the end of a fit, and for debugging its iterations.

    Parameters
    ----------
    name : str
        What is fitted.
    data : str
        What it is fitted to.
    measure : str
        What ``lower_bound`` is.
    """

    def __init__(self, name, data, measure):
        self._name, self._data, self._measure = name, data, measure

    def start(self, n_init):  # noqa: D102
        self._started = time.perf_counter()
        _log.info("%s: fit to %s begins, n_init=%d", self._name, self._data, n_init)

    def begin_init(self, init):  # noqa: D102
        self._init = init

    def iteration(self, n_iter, lower_bound, change):  # noqa: D102
        if not _log.isEnabledFor(logging.DEBUG):
            return
        known = "" if lower_bound is None else f"{self._measure} {lower_bound:.8g}, "
        _log.debug(
            "%s: start %d, iteration %d: %schange %.3g",
            *(self._name, self._init, n_iter, known, change),
        )

    def end(self, n_iter, lower_bound, converged):  # noqa: D102
        _log.info(
            "%s: fit to %s %s: n_iter=%d, %s %.8g, %.3f s",
            *(self._name, self._data),
            "converged" if converged else "did not converge",
            *(n_iter, self._measure, lower_bound),
            time.perf_counter() - self._started,
        )


class ProgressMonitor(SilentMonitor):
    """Follow how far a fit has come; a subclass shows it.

    Parameters
    ----------
    max_iter : int
        Iterations of a start at most.
    """

    def __init__(self, max_iter):
        self.max_iter = max_iter
        self.n_init, self.init = 1, 0
        self._n_compiled = 0
        self._begin()

    def _begin(self):
        self.n_iter, self.n_read, self.n_rows = 0, 0, None
        self.log_likelihood = self._since = None

    def start(self, n_init):  # noqa: D102
        self.n_init = n_init

    def begin_init(self, init):  # noqa: D102
        self.init = init
        self._begin()
        self.show()

    def rows(self, n_rows, of):  # noqa: D102
        self.n_read, self.n_rows = n_rows, of
        if self._since is None:
            self._since = time.monotonic(), self.passes
        self.show()

    def iteration(self, n_iter, lower_bound, change):  # noqa: D102
        if n_iter > self.n_iter + 1:
            # The start goes on from a checkpoint, and this pass was its first.
            self._since = time.monotonic(), n_iter
        self.n_iter, self.n_read, self.log_likelihood = n_iter, 0, lower_bound
        self.show()

    @contextlib.contextmanager
    def saying_what_compiles(self):
        """Say within a ``with`` block when the fit waits for Numba."""
        with event.install_listener("numba:compile", _Compilations(self)):
            yield self

    def compiles(self, begun):
        """Note that a function begins to be compiled, or that it is done.

        Those it calls are compiled meanwhile. What that took says nothing of the pace.
        """
        self._n_compiled += 1 if begun else -1
        if self._n_compiled == int(begun):  # it is the first, or the last
            if self._since is not None:
                self._since = time.monotonic(), self.passes
            self.show()

    @property
    def is_compiling(self):
        """Whether the fit waits for Numba."""
        return self._n_compiled > 0

    @property
    def passes(self):
        """Passes of this start over its rows so far, with the part of the last one."""
        return self.n_iter + (min(1.0, self.n_read / self.n_rows) if self.n_rows else 0)

    @property
    def text(self):
        """What there is to say: start, iteration, rows, log-likelihood, pace, rest."""
        if self.is_compiling:
            return "compiling kernels, which later processes will load"
        texts = [f"iteration {self.n_iter}/{self.max_iter}"]
        if self.n_init > 1:
            texts.insert(0, f"start {self.init + 1}/{self.n_init}")
        if self.n_read:
            of = "" if self.n_rows is None else f"/{self.n_rows:,}"
            texts.append(f"row {self.n_read:,}{of}")
        if self.log_likelihood is not None:
            texts.append(f"log-likelihood {self.log_likelihood:.8g}")
        then, passes = self._since or (0, self.passes)
        seconds, done = time.monotonic() - then, self.passes - passes
        if done > 0 and seconds > 0:
            if self.n_rows is not None:
                texts.append(f"{done * self.n_rows / seconds:,.0f} rows/s")
            left = (self.n_init - self.init) * self.max_iter - self.passes
            rest = timedelta(seconds=round(left * seconds / done))
            texts.append(f"at most {rest} left")
        return ", ".join(texts)

    def show(self):
        """Show where the fit is."""


class _Compilations(event.Listener):
    """Tells a monitor of what Numba compiles, and not of what it loads."""

    def __init__(self, monitor):
        self._monitor = monitor

    def on_start(self, event):
        self._monitor.compiles(True)

    def on_end(self, event):
        self._monitor.compiles(False)


class BarMonitor(ProgressMonitor):
    """Draw a bar.

    Parameters
    ----------
    max_iter : int
        Iterations of a start at most.
    progress : rich.progress.Progress
        Where to draw, made of :meth:`columns`.
    """

    def __init__(self, max_iter, progress):
        super().__init__(max_iter)
        self._progress = progress
        self._task = progress.add_task(self.text, total=max_iter)

    @staticmethod
    def columns():
        """Return a column for the bar and one for text.

        On a narrow terminal it is the text that gives way, to a second line.
        """
        from rich.progress import BarColumn, TextColumn
        from rich.table import Column

        bar = BarColumn(24, table_column=Column(no_wrap=True))
        return bar, TextColumn("{task.description}", table_column=Column())

    def show(self):
        """Move the bar, and say where the fit is."""
        self._progress.update(self._task, description=self.text, completed=self.passes)


def make_monitor(verbose, interval):
    """Return the monitor for an estimator's ``verbose`` and ``verbose_interval``."""
    return VerboseMonitor(verbose, interval) if verbose else SilentMonitor()
