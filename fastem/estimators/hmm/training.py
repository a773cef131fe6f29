"""Training: Baum and Welch's iteration, or that over best paths."""

import copy
from typing import Any, NamedTuple

import numpy as np

from fastem.execution.rows import SoFar
from fastem.families.categorical import CategoricalParams, CategoricalStatistics
from fastem.families.gaussian import GaussianParams, GaussianStatistics
from fastem.families.gaussian_mixture import GMMParams, GMMStatistics
from fastem.families.multinomial import MultinomialParams, MultinomialStatistics
from fastem.families.poisson import PoissonParams, PoissonStatistics
from fastem.models.decoding import viterbi
from fastem.models.hmm import (
    HMMParams,
    HMMStatistics,
    ImpossibleObservation,
    e_step,
)


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
    """

    params: Any
    monitor: dict
    repaired: np.ndarray
    excused: bool
    memory: tuple

    @property
    def objective(self):
        """What EM raised, after the last iteration."""
        return (self.monitor.get("objectives") or [-np.inf])[-1]


class TrainingRecord(NamedTuple):
    """How far a fit has come; a fit goes on from it as if never interrupted.

    Attributes
    ----------
    n_finished : int
        Starts that are finished.
    best : TrainingState or None
        The best of them.
    state : TrainingState or None
        The start under way.
    so_far : SoFar or None
        Its pass under way.
    random_state : tuple or None
        The generator's state once the start under way was drawn.
    """

    n_finished: int = 0
    best: TrainingState | None = None
    state: TrainingState | None = None
    so_far: SoFar | None = None
    random_state: tuple | None = None


RECORDS = (
    TrainingRecord,
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


def train(e_step, m_step, log_prior, state, *, monitor, n_iter, memory, on_iteration):
    """Iterate until the monitor says that it is enough.

    L. E. Baum et al., *Ann. Math. Statist.* 41 (1970), 164-171.

    Parameters
    ----------
    e_step : callable
        ``e_step(params) -> statistics``.
    m_step : callable
        ``m_step(statistics, params) -> (params, repaired, dropped)``: the second says
        which components were repaired, the third whether the objective may fall.
    log_prior : callable
    state : TrainingState
        Where to start, or to go on.
    monitor : ConvergenceMonitor
        Its attributes are those in ``state``.
    n_iter : int
        Largest number of iterations, those behind ``state`` included.
    memory : callable
        Returns how far recursions had to reach so far.
    on_iteration : callable
        Called with the state after each iteration.

    Returns
    -------
    TrainingState
    """
    finished = monitor.iter > 0 and monitor.converged
    while monitor.iter < n_iter and not finished:
        statistics = e_step(state.params)
        log_likelihood = float(statistics.log_likelihood)
        objective = log_likelihood + log_prior(state.params)
        monitor.report(log_likelihood, objective, state.excused)
        params, repaired, dropped = m_step(statistics, state.params)
        state = TrainingState(
            params,
            copy.deepcopy(vars(monitor)),
            state.repaired | repaired,
            bool(dropped or repaired.any()),
            memory(),
        )
        on_iteration(state)
        finished = monitor.converged
    return state
