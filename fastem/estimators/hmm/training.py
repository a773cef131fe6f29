"""Training: Baum and Welch's iteration, or that over best paths."""

import copy
from typing import Any, NamedTuple

import numpy as np

from fastem.estimators.callbacks import WatchedProgress
from fastem.estimators.checkpoints import FitRecord
from fastem.execution.rows import SoFar
from fastem.families.categorical import CategoricalParams, CategoricalStatistics
from fastem.families.gaussian import GaussianParams, GaussianStatistics
from fastem.families.gaussian_mixture import GMMParams, GMMStatistics
from fastem.families.multinomial import MultinomialParams, MultinomialStatistics
from fastem.families.poisson import PoissonParams, PoissonStatistics
from fastem.models.decoding import viterbi
from fastem.models.hmm import (
    Effort,
    HMMParams,
    HMMStatistics,
    ImpossibleObservation,
    e_step,
)
from fastem.models.stretches import Reach


class Learning(NamedTuple):
    """What the M-step is told beside the statistics.

    Attributes
    ----------
    fixed : dict of ndarray of bool
        Entries that keep their values, by parameter.
    startprob_prior : ndarray of shape (K,)
    transmat_prior : ndarray of shape (K, K)
    emissions : object
        The emissions' priors, in the form their M-step takes.
    """

    fixed: dict
    startprob_prior: np.ndarray
    transmat_prior: np.ndarray
    emissions: Any


class Beginning(NamedTuple):
    """What a fit begins with.

    Attributes
    ----------
    n_features : int
    shapes : dict
        The shape of each parameter.
    learned : dict
        Further attributes of the model.
    learning : Learning
    draw : callable
        Returns parameters to begin with, what is not given drawn.
    """

    n_features: int
    shapes: dict
    learned: dict
    learning: Learning
    draw: Any


class Chains(NamedTuple):
    """What EM knows of a hidden Markov model.

    Attributes
    ----------
    model : BaseHMM
    shapes : dict
    learning : Learning
    """

    model: Any
    shapes: dict
    learning: Learning

    def e_step(self, params, sequences, weight=None):
        """Return the statistics of sequences, without experience of any."""
        return statistics(self.model, params, sequences, Effort(), Reach())

    def maximize(self, statistics, params):
        """Return parameters, repaired components, and whether priors dropped any."""
        return self.model._m_step(statistics, params, self.learning)

    def m_step(self, statistics, params):
        """Return the most probable parameters and which components were repaired."""
        return self.maximize(statistics, params)[:2]

    def recenter(self, statistics, params, new_params):
        """Return statistics about the means of ``params`` as about new ones."""
        recenter = self.model._family.recenter
        return statistics._replace(
            emissions=recenter(
                statistics.emissions, params.emissions, new_params.emissions
            )
        )

    def log_prior(self, params):
        """Return the log density of the priors, up to a constant."""
        return self.model._log_prior(params, self.learning)


class TrainingState(NamedTuple):
    """How far one start has come; training goes on from it as if never interrupted.

    Attributes
    ----------
    params : HMMParams
    monitor : dict
        The attributes of the monitor.
    repaired : ndarray of bool
        Components repaired in some iteration.
    excused : bool
        Whether the objective may fall in the next iteration.
    memory : tuple
        How far recursions had to reach.
    statistics : HMMStatistics or None
        Of the last iteration, about the means of ``params``.
    """

    params: Any
    monitor: dict
    repaired: np.ndarray
    excused: bool
    memory: tuple
    statistics: Any

    @property
    def objective(self):
        """What EM raised, after the last iteration."""
        return (self.monitor.get("objectives") or [-np.inf])[-1]


RECORDS = (
    FitRecord,
    TrainingState,
    SoFar,
    HMMParams,
    HMMStatistics,
    CategoricalParams,
    CategoricalStatistics,
    GMMParams,
    GMMStatistics,
    GaussianParams,
    GaussianStatistics,
    MultinomialParams,
    MultinomialStatistics,
    PoissonParams,
    PoissonStatistics,
)


def statistics(model, params, sequences, effort, reach):
    """Return the statistics of sequences for a model's kind of training.

    Hard training takes the best paths for the truth, which raises
    ``log p(x, path)``: B.-H. Juang and L. R. Rabiner, *IEEE Trans. Acoust. Speech
    Signal Process.* 38 (1990), 1639-1641.

    Raises
    ------
    ImpossibleObservation
        If no state allows what was observed.
    """
    if model.training == "viterbi":
        decoding = viterbi(model._family, params, sequences, reach)
        if decoding.impossible_row >= 0:
            raise ImpossibleObservation(decoding.impossible_row)
        sequences = sequences._replace(states=decoding.path)
    return e_step(model._family, params, sequences, effort)


def run_starts(chains, rows, draw, random_state, keeper, watcher):
    """Return the best of as many starts as the model wants.

    Parameters
    ----------
    chains : Chains
    rows : ArraySequences or SourceSequences
    draw : callable
        Returns parameters to begin with; it draws from ``random_state``.
    random_state : numpy.random.RandomState
    keeper : NoCheckpoint
    watcher : SilentMonitor
        Told of everything, beside the model's own monitor.

    Returns
    -------
    TrainingState
    """
    monitor = chains.model.monitor_
    record = keeper.load(FitRecord())
    if record.random_state is not None:
        random_state.set_state(record.random_state)
    watcher.start(chains.model.n_init)
    for init in range(record.n_finished, chains.model.n_init):
        watcher.begin_init(init)
        if record.state is None:
            monitor._reset()
            rows.memory = None
            state = TrainingState(
                draw(), dict(vars(monitor)), np.zeros(1, bool), False, None, None
            )
            record = record._replace(state=state, random_state=random_state.get_state())
            keeper.save(record)
        vars(monitor).update(copy.deepcopy(record.state.monitor))
        rows.memory = record.state.memory
        state = _run_start(chains, rows, record, keeper, watcher)
        stopped = watcher.end_init(*_reached(monitor)[1:])
        best = record.best
        if best is None or state.objective > best.objective:
            best = state
        record = FitRecord(init + 1, best, None, None, record.random_state)
        keeper.save(record)
        if stopped:
            break
    best = record.best
    vars(monitor).update(best.monitor)
    watcher.reach(lambda: best)
    watcher.end(*_reached(monitor))
    return best


def _run_start(chains, rows, record, keeper, watcher):
    model = chains.model
    progress = WatchedProgress(record, keeper.save, watcher, count_rows(rows))
    watcher.reach(lambda: record.state)

    def on_iteration(state):
        progress.on_iteration(state)
        watcher.reach(lambda: state)
        n_iter, log_likelihood, _ = _reached(model.monitor_)
        before = [-np.inf, -np.inf, *model.monitor_.history][-2]
        return watcher.iteration(n_iter, log_likelihood, log_likelihood - before)

    return train(
        chains,
        lambda params: rows.statistics(
            model, chains.shapes, params, progress.take(), progress.on_block
        ),
        record.state,
        monitor=model.monitor_,
        n_iter=model.n_iter,
        memory=lambda: rows.memory,
        on_iteration=on_iteration,
    )


def _reached(monitor):
    """Return iterations and log-likelihood so far, and whether training converged."""
    log_likelihood = [-np.inf, *monitor.history][-1]
    return monitor.iter, log_likelihood, getattr(monitor, "status", None) == "converged"


def count_rows(rows):
    """Return the rows of a pass, None where only the pass tells."""
    data = rows.data["X"]
    return len(data) if isinstance(data, np.ndarray) else getattr(data, "n_rows", None)


def train(chains, e_step, state, *, monitor, n_iter, memory, on_iteration):
    """Iterate until the monitor says that it is enough.

    L. E. Baum et al., *Ann. Math. Statist.* 41 (1970), 164-171.

    Parameters
    ----------
    chains : Chains
    e_step : callable
        ``e_step(params) -> statistics`` of all sequences.
    state : TrainingState
        Where to start, or to go on.
    monitor : ConvergenceMonitor
        Its attributes are those in ``state``.
    n_iter : int
        Largest number of iterations, those behind ``state`` included.
    memory : callable
        Returns how far recursions had to reach so far.
    on_iteration : callable
        Called with the state after each iteration; what is true ends training.

    Returns
    -------
    TrainingState
    """
    finished = monitor.iter > 0 and monitor.converged
    while monitor.iter < n_iter and not finished:
        statistics = e_step(state.params)
        log_likelihood = float(statistics.log_likelihood)
        objective = log_likelihood + chains.log_prior(state.params)
        monitor.report(log_likelihood, objective, state.excused)
        params, repaired, dropped = chains.maximize(statistics, state.params)
        state = TrainingState(
            params,
            copy.deepcopy(vars(monitor)),
            state.repaired | repaired,
            bool(dropped or repaired.any()),
            memory(),
            chains.recenter(statistics, state.params, params),
        )
        finished = bool(on_iteration(state)) or monitor.converged
    return state
