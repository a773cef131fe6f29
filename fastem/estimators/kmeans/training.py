"""A fit of k-means: its starts, their iterations, and what is kept on the way."""

from functools import cached_property

import numpy as np

from fastem.em.kmeans import LloydState, begin, moments, run_lloyd
from fastem.em.monitors import SilentMonitor
from fastem.estimators.checkpoints import FitRecord
from fastem.estimators.fits import Fit
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


class KMeansFit(Fit):
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
        super().__init__(None, rows, minibatch=None, monitor=monitor, keeper=keeper)
        self._start, self._max_iter, self._tol = start, max_iter, tol
        # The best start run here and, if its rows are one array, their labels.
        self._best, self._labels = None, None

    def begin(self):  # noqa: D102
        return begin(self._start(), self.rows.dtype, self._absolute_tol)

    def iterate(self, state, sums, on_iteration):  # noqa: D102
        return run_lloyd(
            *(self.rows, sums, state),
            max_iter=self._max_iter,
            on_iteration=on_iteration,
        )

    def run(self, n_init, random_state):
        """Return where the best of the starts ends, and its labels if X is an array."""
        best = super().run(n_init, random_state)
        # One that an earlier process found.
        if best is not self._best and isinstance(self.rows, ArrayRows):
            return self._measured(best)
        return best, self._labels

    @cached_property
    def _absolute_tol(self):
        return self._tol and self._tol * moments(self.rows)[1].mean()

    def _steps(self, progress):
        return (
            lambda params: self.rows.statistics(
                e_step, params, progress.take(), progress.on_block
            ),
        )

    def _run_start(self, record):
        state, labels = self._measured(super()._run_start(record))
        self.monitor.reach(lambda: state)
        if self._best is None or state.rank > self._best.rank:
            self._best, self._labels = state, labels
        return state

    def _measured(self, state):
        """Return a state that knows its inertia, and the labels of an array."""
        rows, labels = self.rows, None
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
