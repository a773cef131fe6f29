"""A fit of a mixture: its starts, their iterations, and what is kept on the way."""

from functools import partial

import numpy as np

from fastem.em.loop import EMState, begin, run_em
from fastem.em.passes import PassStatistics, add_block
from fastem.em.stepwise import StepwiseState, finish
from fastem.estimators.callbacks import WatchedProgress
from fastem.estimators.checkpoints import FitRecord
from fastem.execution.rows import SoFar
from fastem.families.gaussian import GaussianParams, GaussianStatistics
from fastem.models.mixture import MixtureParams

RECORDS = (
    FitRecord,
    EMState,
    SoFar,
    MixtureParams,
    GaussianParams,
    GaussianStatistics,
    StepwiseState,
    PassStatistics,
)


class Fit:
    """One call of ``fit``.

    Parameters
    ----------
    model : MixtureModel
    rows : ArrayRows, BlockRows or ClusterRows
    minibatch : Minibatch or None
        How parameters move within passes; None if they do so between passes only.
    max_iter : int
    tol : float
    monitor : SilentMonitor
    keep : callable
        ``keep(record)`` is called whenever a fit could go on from a new record.
    """

    def __init__(self, model, rows, *, minibatch, max_iter, tol, monitor, keep):
        self._model = model
        self._rows = rows
        self._minibatch = minibatch
        self._max_iter, self._tol = max_iter, tol
        self._monitor = monitor
        self._keep = keep

    def run(self, record, start, n_init, random_state):
        """Return the best of ``n_init`` starts, going on from a record.

        ``start()`` returns parameters to begin with and the mean log-likelihood
        before them; it draws from ``random_state``.
        """
        if record.random_state is not None:
            random_state.set_state(record.random_state)
        self._monitor.start(n_init)
        for init in range(record.n_finished, n_init):
            self._monitor.begin_init(init)
            if record.state is None:
                params, previous = start()
                state = begin(params, len(params.weights), previous)
                record = record._replace(
                    state=state, random_state=random_state.get_state()
                )
                self._keep(record)
            state = self._run_start(record)
            stopped = self._monitor.end_init(state.lower_bound, state.converged)
            best = record.best
            if best is None or _rank(state) > _rank(best):
                best = state
            record = FitRecord(init + 1, best, None, None, record.random_state)
            self._keep(record)
            if stopped:
                break
        best = record.best
        self._monitor.reach(lambda: best)
        self._monitor.end(len(best.lower_bounds), best.lower_bound, best.converged)
        return best

    def _run_start(self, record):
        model, monitor = self._model, self._monitor
        progress = WatchedProgress(record, self._keep, monitor, self._rows.n_rows)
        monitor.reach(lambda: self._finish(record.state))

        def on_iteration(state, change):
            progress.on_iteration(state)
            monitor.reach(lambda: self._finish(state))
            return monitor.iteration(len(state.lower_bounds), state.lower_bound, change)

        options = {
            "max_iter": self._max_iter,
            "tol": self._tol,
            "on_iteration": on_iteration,
        }
        if self._minibatch is None:
            return run_em(
                lambda params: self._rows.statistics(
                    model.e_step, params, progress.take(), progress.on_block
                ),
                model.m_step,
                model.recenter,
                record.state,
                eps=model.regularization.eps,
                **options,
            )
        state = run_em(
            lambda state: self._rows.fold(
                partial(
                    add_block,
                    model,
                    self._minibatch,
                    isinstance(state, StepwiseState),
                ),
                PassStatistics(0.0, 0.0, state),
                progress.take(),
                progress.on_block,
            ),
            # Parameters moved on the way.
            lambda statistics, _: (statistics.state, False),
            lambda statistics, *_: statistics.state,
            record.state,
            # What batches met on the way is no sequence that has to rise.
            eps=np.inf,
            **options,
        )
        return self._finish(state)

    def _finish(self, state):
        """Return a state with parameters, where batches left statistics of them."""
        if not isinstance(state.params, StepwiseState):
            return state
        params, repaired = finish(
            state.params, self._model.m_step, average=self._minibatch.average
        )
        return state._replace(params=params, repaired=repaired)


def _rank(state):
    """Order starts: whole ones before repaired ones, then by likelihood."""
    return not np.any(state.repaired), state.lower_bound
