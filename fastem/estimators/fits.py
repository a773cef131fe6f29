"""A fit: its starts, their iterations, and what is kept on the way."""

from functools import partial
from numbers import Integral, Real

from sklearn.utils._param_validation import Interval

from fastem.em.passes import Minibatch, PassStatistics, add_block
from fastem.em.stepwise import Schedule, StepwiseState, finish
from fastem.estimators.callbacks import WatchedProgress
from fastem.estimators.checkpoints import FitRecord

# Rows of the first batch for each number that it has to settle.
FIRST_ROWS_PER_NUMBER = 10

STEPWISE_CONSTRAINTS = {
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "step_exponent": [Interval(Real, 0.5, 1.0, closed="right")],
    "step_offset": [Interval(Real, 0.0, None, closed="left")],
    "average": ["boolean"],
}


def minibatch_of(estimator, n_numbers, cut):
    """Return how an estimator's parameters move with batches."""
    return Minibatch(
        estimator.batch_size,
        FIRST_ROWS_PER_NUMBER * n_numbers,
        Schedule(estimator.step_exponent, estimator.step_offset),
        estimator.average,
        cut,
    )


class Fit:
    """One call of ``fit``; a subclass says what models are and when to stop.

    States of starts have ``params``, ``statistics``, ``repaired``, ``converged``,
    ``n_iter``, ``lower_bound`` and ``rank``, by which the best is chosen.

    Parameters
    ----------
    model : MixtureModel or Chains
    rows : object
        With ``n_rows``, ``statistics`` and ``fold``.
    minibatch : Minibatch or None
        How parameters move within passes; None if they do so between passes only.
    monitor : SilentMonitor
    keeper : NoCheckpoint
    """

    def __init__(self, model, rows, *, minibatch, monitor, keeper):
        self.model, self.rows, self.minibatch = model, rows, minibatch
        self.monitor, self.keeper = monitor, keeper

    def begin(self):
        """Return the state of a start before its first iteration."""
        raise NotImplementedError

    def iterate(self, state, e_step, m_step, recenter, on_iteration):
        """Return the state that iterations from another come to.

        ``on_iteration(state, change)`` is called after each; what is true ends them.
        """
        raise NotImplementedError

    def run(self, n_init, random_state):
        """Return where the best of the starts ends.

        It goes on from what was kept, and ``random_state``, from which starts are
        drawn, with it.
        """
        monitor, keep = self.monitor, self.keeper.save
        record = self.keeper.load(FitRecord())
        if record.random_state is not None:
            random_state.set_state(record.random_state)
        monitor.start(n_init)
        for init in range(record.n_finished, n_init):
            monitor.begin_init(init)
            if record.state is None:
                # A start is drawn before the generator's state is kept.
                record = record._replace(
                    state=self.begin(), random_state=random_state.get_state()
                )
                keep(record)
            state = self._run_start(record)
            stopped = monitor.end_init(state.lower_bound, state.converged)
            best = record.best
            if best is None or state.rank > best.rank:
                best = state
            record = FitRecord(init + 1, best, None, None, record.random_state)
            keep(record)
            if stopped:
                break
        best = record.best
        monitor.reach(lambda: best)
        monitor.end(best.n_iter, best.lower_bound, best.converged)
        return best

    def _run_start(self, record):
        monitor, save = self.monitor, self.keeper.save
        progress = WatchedProgress(record, save, monitor, self.rows.n_rows)
        monitor.reach(lambda: self._finish(record.state))

        def on_iteration(state, change):
            progress.on_iteration(state)
            monitor.reach(lambda: self._finish(state))
            return monitor.iteration(state.n_iter, state.lower_bound, change)

        steps = self._steps(progress)
        return self._finish(self.iterate(record.state, *steps, on_iteration))

    def _steps(self, progress):
        """Return the E-step, M-step and recentring of an iteration."""
        model, rows = self.model, self.rows
        if self.minibatch is None:
            return (
                lambda params: rows.statistics(
                    model.e_step, params, progress.take(), progress.on_block
                ),
                model.m_step,
                model.recenter,
            )

        def follow_batches(state):
            repeated = isinstance(state, StepwiseState)
            return rows.fold(
                partial(add_block, model, self.minibatch, repeated),
                PassStatistics(0.0, 0.0, state),
                progress.take(),
                progress.on_block,
            )

        # Parameters moved on the way.
        return (
            follow_batches,
            lambda statistics, _: (statistics.state, False),
            lambda statistics, *_: statistics.state,
        )

    def _finish(self, state):
        """Return a state with parameters, where batches left statistics of them."""
        if not isinstance(state.params, StepwiseState):
            return state
        params, repaired = finish(
            state.params, self.model.m_step, average=self.minibatch.average
        )
        return state._replace(params=params, repaired=repaired)
