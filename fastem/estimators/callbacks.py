"""Fits under watch: of what they log, and of scikit-learn's callbacks where it has any.

From scikit-learn 1.9 on estimators take callbacks by ``set_callbacks``, its progress
bar among them. A fit tells them of three levels of tasks: "fit", each "start" in it,
and each "iteration" in that. If it goes on from a checkpoint, it tells of what is left,
counted from 0.
"""

import copy
import functools

from fastem.em.monitors import LogMonitor, SilentMonitor, together
from fastem.estimators.checkpoints import Progress

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:
        """What estimators have from scikit-learn 1.9 on."""

    def with_callbacks(method):
        """Return the method, as deep in the stack as with callbacks: warnings count."""

        @functools.wraps(method)
        def without_callbacks(*arguments, **options):
            return method(*arguments, **options)

        return without_callbacks


__all__ = [
    "CallbackSupportMixin",
    "WatchedProgress",
    "of_the_model",
    "watch",
    "with_callbacks",
]


def of_the_model(attributes):
    """Return attributes without those that scikit-learn keeps callbacks in."""
    return {k: v for k, v in attributes.items() if "_callback" not in k}


def watch(estimator, monitor, data, *, name, shape, max_iter, keep, measure):
    """Return a monitor that also logs a fit and tells the estimator's callbacks of it.

    Parameters
    ----------
    estimator : BaseEstimator
        Its method that calls this is decorated by ``with_callbacks``.
    monitor : SilentMonitor
        A further one.
    data : dict
        What the fit was given: X, perhaps y, and metadata by name, None if missing.
    name : str
        What is fitted, for the log.
    shape : (int or None, int)
        Rows, None where not known, and features.
    max_iter : int
        Iterations of a start at most.
    keep : callable
        ``keep(model, state)`` makes a copy of the estimator the model of a state.
    measure : str
        What monitors get as ``lower_bound``, for the log.
    """
    n_rows, n_features = shape
    of = "rows" if n_rows is None else f"{n_rows} rows"
    log = LogMonitor(name, f"{of} of {n_features} features", measure)
    if not getattr(estimator, "_skl_callbacks", None):
        return together(monitor, log)
    return together(monitor, log, _Callbacks(estimator, data, max_iter, keep))


class WatchedProgress(Progress):
    """Progress of a start that a monitor sees, but for the ends of iterations.

    Parameters
    ----------
    record : NamedTuple
    save : callable
        As for :class:`~fastem.estimators.checkpoints.Progress`.
    monitor : SilentMonitor
    n_rows : int or None
        Rows of a pass, where known.
    """

    def __init__(self, record, save, monitor, n_rows):
        super().__init__(record, save)
        self._monitor, self._n_rows = monitor, n_rows

    def take(self):
        """Begin a pass, and return what it had come to before."""
        so_far = super().take()
        self._monitor.rows(so_far.n_rows if so_far else 0, self._n_rows)
        return so_far

    def on_block(self, so_far):
        """Note a block."""
        self._monitor.rows(so_far.n_rows, self._n_rows)
        super().on_block(so_far)


class _Callbacks(SilentMonitor):
    """Tell the callbacks of an estimator; parameters as of :func:`watch`."""

    def __init__(self, estimator, data, max_iter, keep):
        self._estimator, self._max_iter, self._keep = estimator, max_iter, keep
        metadata = {name: given for name, given in data.items() if given is not None}
        X, y = metadata.pop("X"), metadata.pop("y", None)
        # What can be called, callbacks get the result of; sources may be functions.
        self._data = {"X": lambda: X, "y": y, "metadata": metadata or None}
        self._tasks, self._state = [], None

    def start(self, n_init):
        self._begin(self._estimator._init_callback_context(max_subtasks=n_init))

    def begin_init(self, init):
        self._state = None
        self._begin(self._tasks[-1].subcontext("start", max_subtasks=self._max_iter))

    def reach(self, state):
        self._state = state

    def rows(self, n_rows, of):
        if len(self._tasks) == 2:
            self._begin(self._tasks[-1].subcontext("iteration"))

    def iteration(self, n_iter, lower_bound, change):
        return self._end()

    def end_init(self, lower_bound, converged):
        return self._end()

    def end(self, n_iter, lower_bound, converged):
        self._end()

    def _begin(self, task):
        self._tasks.append(task)
        task.call_on_fit_task_begin(**self._arguments())

    def _end(self):
        return self._tasks.pop().call_on_fit_task_end(**self._arguments())

    def _arguments(self):
        return {
            "estimator": self._estimator,
            "reconstruction_attributes": self._attributes,
            **self._data,
        }

    def _attributes(self):
        """Return what the estimator would keep of the fit as it is, None of nothing."""
        if self._state is None:
            return None
        model = copy.copy(self._estimator)
        self._keep(model, self._state())
        return vars(model)
