"""How far a command has come, on standard error: a bar on a terminal, else lines."""

import importlib.util
import sys
import time
from contextlib import contextmanager
from datetime import timedelta

from fastem.cli.common import note
from fastem.em.monitors import SilentMonitor
from fastem.estimators.hmm.monitor import ConvergenceMonitor

# Between two lines of a log that nobody watches.
SECONDS_BETWEEN_LINES = 10


class _FitProgress(SilentMonitor):
    """Follow a fit; a subclass shows it.

    Parameters
    ----------
    n_rows : int
        Rows of a pass.
    max_iter : int
        Iterations of a start at most.
    """

    def __init__(self, n_rows, max_iter):
        self._n_rows, self._max_iter = n_rows, max_iter
        self._n_init = None
        self.begin_init(0)

    def start(self, n_init):
        """Begin a fit of ``n_init`` starts."""
        self._n_init = n_init

    def begin_init(self, init):
        """Begin a start."""
        self._init, self._n_iter, self._n_read = init, 0, 0
        self._log_likelihood = self._since = None

    def rows(self, n_rows, of):
        """Note how many rows of a pass are read."""
        self._n_read = n_rows
        self._begin_clock()
        self._show()

    def iteration(self, n_iter, lower_bound, change):
        """Note an iteration."""
        if n_iter > self._n_iter + 1:
            self._since = None  # the start goes on from a checkpoint
        self._n_iter, self._n_read = n_iter, 0
        self._log_likelihood = lower_bound
        self._begin_clock()
        self._show()

    def _begin_clock(self):
        if self._since is None:
            self._since = time.monotonic(), self._passes()

    def _passes(self):
        """Return the passes of this start so far, with the part of the last one."""
        return self._n_iter + min(1.0, self._n_read / self._n_rows)

    def _passes_a_second(self):
        """Return the pace since the clock began, None before there is one."""
        then, passes = self._since or (time.monotonic(), 0)
        seconds, done = time.monotonic() - then, self._passes() - passes
        return done / seconds if seconds > 0 and done > 0 else None

    def _text(self):
        """Return what there is to say: start, iteration, likelihood, pace, rest."""
        texts = [f"iteration {self._n_iter}/{self._max_iter}"]
        if self._n_init is not None and self._n_init > 1:
            texts.insert(0, f"start {self._init + 1}/{self._n_init}")
        if self._log_likelihood is not None:
            texts.append(f"log-likelihood {self._log_likelihood:.8g}")
        pace = self._passes_a_second()
        if pace is not None:
            texts.append(f"{pace * self._n_rows:,.0f} rows/s")
            if self._n_init is not None:
                starts = self._n_init - self._init
                passes = starts * self._max_iter - self._passes()
                seconds = timedelta(seconds=round(passes / pace))
                texts.append(f"at most {seconds} left")
        return ", ".join(texts)

    def _show(self):
        """Show where the fit is."""


class _FitLines(_FitProgress):
    """Print a line now and then, and one at the end of each start."""

    def __init__(self, n_rows, max_iter):
        super().__init__(n_rows, max_iter)
        self._shown = time.monotonic()

    def end_init(self, lower_bound, converged):
        """Print what a start came to."""
        how = "converged" if converged else "did not converge"
        note(
            f"start {self._init + 1}/{self._n_init} {how}: {self._n_iter} iterations, "
            f"log-likelihood {lower_bound:.8g}"
        )

    def _show(self):
        if time.monotonic() - self._shown < SECONDS_BETWEEN_LINES:
            return
        self._shown = time.monotonic()
        note(f"{self._text()} (row {self._n_read:,} of {self._n_rows:,})")


class _FitBar(_FitProgress):
    """Draw a bar.

    Parameters
    ----------
    progress : rich.progress.Progress
    """

    def __init__(self, n_rows, max_iter, progress):
        super().__init__(n_rows, max_iter)
        self._progress = progress
        self._task = progress.add_task(self._text(), total=max_iter)

    def _show(self):
        self._progress.update(
            self._task, description=self._text(), completed=self._passes()
        )


class WatchedMonitor(ConvergenceMonitor):
    """A hidden Markov model's monitor that has a fit's progress shown."""

    # Not among vars(), which checkpoints keep.
    __slots__ = ("_progress",)

    def __init__(self, model, progress):
        super().__init__(model.tol, model.n_iter, model.verbose)
        self._progress = progress

    def report(self, log_prob, objective=None, repaired=False):
        """Record an iteration."""
        super().report(log_prob, objective, repaired)
        self._progress.iteration(self.iter, log_prob, None)

    def plain(self):
        """Return a monitor with the same record that models are saved with."""
        monitor = ConvergenceMonitor(self.tol, self.n_iter, self.verbose)
        vars(monitor).update(vars(self))
        return monitor


@contextmanager
def fit_progress(n_rows, max_iter):
    """Yield a monitor that shows a fit."""
    if not _can_draw():
        yield _FitLines(n_rows, max_iter)
        return
    from rich.progress import BarColumn

    columns = BarColumn(bar_width=None), "{task.description}"
    with _drawing(columns) as progress:
        yield _FitBar(n_rows, max_iter, progress)


@contextmanager
def rows_progress(what, n_rows):
    """Yield ``rows(n_read, of)`` that shows how many rows of one pass are read."""
    if not _can_draw():
        yield SilentMonitor().rows
        return
    from rich.progress import BarColumn, TimeRemainingColumn

    columns = "{task.description}", BarColumn(bar_width=None), TimeRemainingColumn()
    with _drawing(columns) as progress:
        task = progress.add_task(what, total=n_rows)
        yield lambda n_read, of: progress.update(task, completed=n_read)


def _can_draw():
    """Say whether there is a terminal, and rich to draw on it."""
    return sys.stderr.isatty() and importlib.util.find_spec("rich") is not None


def _drawing(columns):
    """Return a context in which a bar of columns is drawn, and then removed."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
