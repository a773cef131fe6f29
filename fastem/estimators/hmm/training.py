"""Training: Baum and Welch's iteration, or that over best paths."""

import copy
from typing import Any, NamedTuple

import numpy as np

from fastem.em.passes import PassStatistics
from fastem.em.stepwise import StepwiseState
from fastem.estimators.checkpoints import FitRecord
from fastem.estimators.fits import Fit
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
from fastem.statistics import add


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
    learning : Learning
    """

    model: Any
    learning: Learning

    def e_step(self, params, parts, weight=None):
        """Return the statistics of parts of sequences.

        A chain that comes from before may have come in any state.

        Raises
        ------
        ImpossibleObservation
            If no state allows what was observed.
        """
        anywhere = np.full_like(params.startprob, 1 / len(params.startprob))
        total = None
        for part in parts:
            at = params if part.begins else params._replace(startprob=anywhere)
            try:
                found = _statistics(self.model, at, part)
            except ImpossibleObservation as error:
                if part.rows is None:
                    raise
                raise ImpossibleObservation(part.rows[error.row]) from None
            total = found if total is None else add(total, found)
        return total

    def m_step(self, statistics, params):
        """Return the most probable parameters and which components were repaired."""
        return self.maximize(statistics, params)[:2]

    def maximize(self, statistics, params):
        """Return the same, and whether priors dropped any."""
        return self.model._m_step(statistics, params, self.learning)

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
    params : HMMParams or StepwiseState
    monitor : dict
        The attributes of the monitor.
    converged : bool
        Whether it says so.
    repaired : ndarray of bool
        Components repaired in some iteration.
    excused : bool
        Whether the objective may fall in the next iteration.
    memory : tuple
        How far recursions had to reach.
    statistics : HMMStatistics, StepwiseState or None
        Of the last iteration, about the means of ``params``.
    """

    params: Any
    monitor: dict
    converged: bool
    repaired: np.ndarray
    excused: bool
    memory: tuple
    statistics: Any

    @property
    def n_iter(self):
        """The number of iterations so far."""
        return self.monitor["iter"]

    @property
    def lower_bound(self):
        """The log-likelihood that the last iteration began with."""
        return [-np.inf, *self.monitor["history"]][-1]

    @property
    def rank(self):
        """By which starts compare: what EM raised, after the last iteration."""
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
    StepwiseState,
    PassStatistics,
)


def _statistics(model, params, part):
    """Return the statistics of a part for a model's kind of training.

    Hard training takes the best paths for the truth, which raises
    ``log p(x, path)``: B.-H. Juang and L. R. Rabiner, *IEEE Trans. Acoust. Speech
    Signal Process.* 38 (1990), 1639-1641.
    """
    sequences = part.sequences
    if model.training == "viterbi":
        bounds = np.append(part.starts, len(sequences.X))
        chains = sequences._replace(bounds=bounds, sequence_weight=np.empty(0))
        decoding = viterbi(model._family, params, chains, part.reach)
        if decoding.impossible_row >= 0:
            raise ImpossibleObservation(decoding.impossible_row)
        sequences = sequences._replace(states=decoding.path)
    return e_step(model._family, params, sequences, part.effort, part.starts)


class ChainFit(Fit):
    """One call of ``fit``.

    Parameters
    ----------
    model : Chains
    draw : callable
        Returns parameters to begin with.
    n_iter : int
        Largest number of iterations.
    record : ConvergenceMonitor
        What says when it is enough.
    **shared
        Of :class:`~fastem.estimators.fits.Fit`.
    """

    def __init__(self, *, draw, n_iter, record, **shared):
        super().__init__(**shared)
        self._draw, self._n_iter, self._record = draw, n_iter, record

    def begin(self):  # noqa: D102
        self._record._reset()
        record, nothing = dict(vars(self._record)), np.zeros(1, bool)
        return TrainingState(self._draw(), record, False, nothing, False, None, None)

    def iterate(self, state, e_step, m_step, recenter, on_iteration):
        """Return the state after iterations until the record says that it is enough.

        L. E. Baum et al., *Ann. Math. Statist.* 41 (1970), 164-171.
        """
        record, chains, batches = self._record, self.model, self.minibatch is not None
        vars(record).update(copy.deepcopy(state.monitor))
        self.rows.memory = state.memory
        finished = record.iter > 0 and record.converged
        while record.iter < self._n_iter and not finished:
            before = state.params
            statistics = e_step(before)
            log_likelihood = float(statistics.log_likelihood)
            prior = chains.log_prior(getattr(before, "params", before))
            change = log_likelihood - state.lower_bound
            # What batches met on the way is no sequence that has to rise.
            excused = state.excused or batches
            record.report(log_likelihood, log_likelihood + prior, excused)
            if batches:
                (params, repaired), dropped = m_step(statistics, before), False
            else:
                params, repaired, dropped = chains.maximize(statistics, before)
            state = TrainingState(
                params,
                copy.deepcopy(vars(record)),
                getattr(record, "status", None) == "converged",
                state.repaired | repaired,
                bool(dropped or np.any(repaired)),
                self.rows.memory,
                recenter(statistics, before, params),
            )
            finished = bool(on_iteration(state, change)) or record.converged
        return state
