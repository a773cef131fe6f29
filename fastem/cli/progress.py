"""How far a command has come, on standard error: a bar on a terminal, else lines."""

import importlib.util
import sys
import time
from contextlib import contextmanager

from fastem.cli.common import note
from fastem.em.monitors import BarMonitor, ProgressMonitor, SilentMonitor

# Between two lines of a log that nobody watches.
SECONDS_BETWEEN_LINES = 10


class _LineMonitor(ProgressMonitor):
    """Print a line now and then, and one at the end of each start."""

    def __init__(self, max_iter, measure):
        self._shown, self._measure = time.monotonic(), measure
        self._has_compiled = False
        super().__init__(max_iter)

    def end_init(self, lower_bound, converged):
        """Print what a start came to."""
        how = "converged" if converged else "did not converge"
        note(
            f"start {self.init + 1}/{self.n_init} {how}: {self.n_iter} iterations, "
            f"{self._measure} {lower_bound:.8g}"
        )

    def show(self):
        """Print where the fit is, if it is time or first has to compile."""
        begins = self.is_compiling and not self._has_compiled
        if begins or time.monotonic() - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            self._has_compiled |= self.is_compiling
            note(self.text)


@contextmanager
def fit_progress(max_iter, measure="log-likelihood"):
    """Yield a monitor that shows a fit; ``measure`` is what starts come to."""
    if not _can_draw():
        with _LineMonitor(max_iter, measure).saying_what_compiles() as monitor:
            yield monitor
        return
    with (
        _drawing(*BarMonitor.columns()) as progress,
        BarMonitor(max_iter, progress).saying_what_compiles() as monitor,
    ):
        yield monitor


@contextmanager
def rows_progress(what, n_rows):
    """Yield ``rows(n_read, of)`` that shows how many rows of one pass are read."""
    if not _can_draw():
        yield SilentMonitor().rows
        return
    from rich.progress import BarColumn, TimeRemainingColumn

    bar = BarColumn(bar_width=None)
    with _drawing("{task.description}", bar, TimeRemainingColumn()) as progress:
        task = progress.add_task(what, total=n_rows)
        yield lambda n_read, of: progress.update(task, completed=n_read)


@contextmanager
def steps_progress(n_steps):
    """Yield ``begin(name)`` that shows which of some steps begins."""
    if not _can_draw():
        yield lambda name: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn

    columns = BarColumn(), MofNCompleteColumn(), "{task.description}"
    with _drawing(*columns) as progress:
        task = progress.add_task("", total=n_steps, completed=-1)
        yield lambda name: progress.update(task, advance=1, description=name)


def _can_draw():
    """Say whether there is a terminal, and rich to draw on it."""
    return sys.stderr.isatty() and importlib.util.find_spec("rich") is not None


def _drawing(*columns):
    """Return a context in which a bar of columns is drawn, and then removed."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
