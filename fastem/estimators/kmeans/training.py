"""A fit of k-means: its starts, their iterations, and what is kept on the way."""

from functools import cached_property

import numpy as np

from fastem.em.kmeans import LloydState, begin, moments, run_lloyd
from fastem.em.monitors import SilentMonitor
from fastem.estimators.callbacks import WatchedProgress
from fastem.estimators.checkpoints import FitRecord
from fastem.execution.rows import ArrayRows, SoFar
from fastem.families.gaussian import TileFrame
from fastem.models.kmeans import (
    Centers,
    ClusterSums,
    Inertia,
    assign,
    e_step,
    measure,
)

RECORDS = (FitRecord, LloydState, SoFar, Centers, ClusterSums, TileFrame)


class KMeansFit:
    """One call of ``fit``.

    Parameters
    ----------
    rows : ArrayRows, BlockRows or ClusterRows
    start : callable
        Returns centres to begin with.
    max_iter : int
    tol : float
        As a share of the mean variance of the features.
    monitor : SilentMonitor
    keeper : NoCheckpoint
    """

    def __init__(self, rows, *, start, max_iter, tol, monitor, keeper):
        self._rows, self._start = rows, start
        self._max_iter, self._tol = max_iter, tol
        self._monitor, self._keeper = monitor, keeper
        # Of the best start so far, if its rows are one array.
        self._labels = None

    def run(self, n_init, random_state):
        """Return where the best of the starts ends, and its labels if X is an array.

        It goes on from what was kept, and ``random_state``, from which starts are
        drawn, with it.
        """
        monitor, keep = self._monitor, self._keeper.save
        record = self._keeper.load(FitRecord())
        if record.random_state is not None:
            random_state.set_state(record.random_state)
        monitor.start(n_init)
        for init in range(record.n_finished, n_init):
            monitor.begin_init(init)
            if record.state is None:
                state = begin(self._start(), self._rows.dtype, self._absolute_tol)
                record = record._replace(
                    state=state, random_state=random_state.get_state()
                )
                keep(record)
            state, labels = self._run_start(record)
            stopped = monitor.end_init(state.lower_bound, state.converged)
            best = record.best
            if best is None or state.rank > best.rank:
                best, self._labels = state, labels
            record = FitRecord(init + 1, best, None, None, record.random_state)
            keep(record)
            if stopped:
                break
        best = record.best
        monitor.reach(lambda: best)
        monitor.end(best.n_iter, best.lower_bound, best.converged)
        if self._labels is None and isinstance(self._rows, ArrayRows):
            best, self._labels = self._measured(best)
        return best, self._labels

    @cached_property
    def _absolute_tol(self):
        return self._tol and self._tol * moments(self._rows)[1].mean()

    def _run_start(self, record):
        monitor, rows = self._monitor, self._rows
        progress = WatchedProgress(record, self._keeper.save, monitor, rows.n_rows)
        monitor.reach(lambda: record.state)

        def on_iteration(state, shift):
            progress.on_iteration(state)
            monitor.reach(lambda: state)
            return monitor.iteration(state.n_iter, state.lower_bound, shift)

        state = run_lloyd(
            rows,
            lambda params: rows.statistics(
                e_step, params, progress.take(), progress.on_block
            ),
            record.state,
            max_iter=self._max_iter,
            on_iteration=on_iteration,
        )
        state, labels = self._measured(state)
        monitor.reach(lambda: state)
        return state, labels

    def _measured(self, state):
        """Return a state that knows its inertia, and the labels of an array."""
        rows, labels = self._rows, None
        # As the estimator keeps them.
        centers = state.centers.astype(rows.dtype).astype(np.float64)
        if isinstance(rows, ArrayRows):
            labels, _, inertia = assign(rows.data, rows.weight, centers, labels=True)
            found = Inertia(inertia, np.bincount(labels, minlength=len(centers)))
        else:
            found = rows.statistics(measure, centers)
        return state._replace(**found._asdict()), labels


class LloydPrinter(SilentMonitor):
    """Print what scikit-learn's k-means prints; each inertia takes a pass of its own.

    Parameters
    ----------
    rows : ArrayRows, BlockRows or ClusterRows
    """

    def __init__(self, rows):
        self._rows, self._states = rows, []

    def begin_init(self, init):  # noqa: D102
        print("Initialization complete")

    def reach(self, state):  # noqa: D102
        self._states = [*self._states[-1:], state]

    def iteration(self, n_iter, lower_bound, change):  # noqa: D102
        before, after = (state() for state in self._states)
        inertia = self._rows.statistics(measure, before.centers).inertia
        print(f"Iteration {n_iter - 1}, inertia {inertia}.")
        if change == 0:
            print(f"Converged at iteration {n_iter - 1}: strict convergence.")
        elif after.converged:
            print(
                f"Converged at iteration {n_iter - 1}: center shift {change} within "
                f"tolerance {after.tol}."
            )
