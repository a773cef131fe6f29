"""What a fit of a hidden Markov model begins with, learns by, keeps and warns of."""

import logging
import warnings

import numpy as np
from sklearn.base import clone

from fastem.em.sequence_batches import sequence_batches
from fastem.em.stepwise import StepwiseState, after
from fastem.estimators.fits import minibatch_of
from fastem.estimators.hmm.monitor import ConvergenceMonitor
from fastem.estimators.hmm.parameters import CHAIN_LETTERS
from fastem.estimators.hmm.probabilities import log_dirichlet, most_probable
from fastem.estimators.hmm.rows import ArraySequences
from fastem.estimators.hmm.training import Beginning, ChainFit, Chains, Learning
from fastem.estimators.hmm.validation import (
    broadcast_prior,
    check_fixed,
    check_n_features,
)
from fastem.exceptions import DegenerateComponentWarning, LikelihoodDecreaseWarning
from fastem.models.hmm import HMMParams

# What hmmlearn logs is logged here, too; warnings are for what a fit came to.
_log = logging.getLogger(__name__)


class Fitting:
    """How parameters are learned, and what a model keeps of that."""

    def _beginning(self, rows, given, random_state):
        """Return what a fit to these rows begins with, checked."""
        X, weight = rows.sample(random_state)
        n_features = self._count_features(X, given)
        shapes = self._shapes(n_features)
        given = self._check_parameters(given, shapes)
        check_n_features(self, X, self._n_columns(shapes))
        rows.check(self, shapes)
        self._warn_of_few_data(X, shapes)
        return Beginning(
            n_features,
            shapes,
            self._learn_from(X),
            self._learning(shapes),
            lambda: self._start_params(X, weight, given, shapes, random_state),
        )

    def _learning(self, shapes):
        """Return what the M-step is told beside the statistics, checked."""
        frozen = {
            name for key, name in self._letters().items() if key not in self.params
        }
        return Learning(
            check_fixed(self.fixed, shapes, frozen),
            broadcast_prior(
                self.startprob_prior, shapes["startprob"], "startprob_prior"
            ),
            broadcast_prior(self.transmat_prior, shapes["transmat"], "transmat_prior"),
            self._priors(shapes),
        )

    def _chains(self, rows, begin):
        """Return what EM knows of the model."""
        # What was fitted before is of no use to tasks on a cluster.
        model = self if isinstance(rows, ArraySequences) else clone(self)
        return Chains(model, begin.learning)

    def _minibatch(self, begin):
        n_numbers = self.n_components * max(self.n_components, begin.n_features)
        return minibatch_of(self, n_numbers, sequence_batches)

    def _train(self, rows, begin, random_state, keeper, watcher):
        """Return the best of ``n_init`` starts."""
        monitor = self.monitor_
        before = dict(vars(monitor))
        if type(monitor) is ConvergenceMonitor:
            monitor.tol, monitor.n_iter = self.tol, self.n_iter
            monitor.verbose = self.verbose
        is_batch = self.fit_algorithm == "batch"
        fit = ChainFit(
            model=self._chains(rows, begin),
            rows=rows,
            draw=begin.draw,
            record=monitor,
            n_iter=self.n_iter,
            minibatch=None if is_batch else self._minibatch(begin),
            monitor=watcher,
            keeper=keeper,
        )
        try:
            return fit.run(self.n_init, random_state)
        except BaseException:
            vars(monitor).update(before)
            raise

    def _start_params(self, X, weight, given, shapes, random_state):
        """Return where training begins: what is given, the rest drawn."""
        start = dict(given)
        flat = np.full(self.n_components, 1 / self.n_components)
        for name in CHAIN_LETTERS.values():
            if name not in given:
                size = shapes[name][:-1] or None
                start[name] = random_state.dirichlet(flat, size)
        start |= self._start(X, weight, given, shapes, random_state)
        return self._to_params(start)

    def _m_step(self, statistics, params, learning):
        """Return new parameters, repaired components, and whether priors dropped any.

        L. R. Rabiner, *Proc. IEEE* 77 (1989), eqs. 40a and 40b, with priors.
        """
        startprob, start_dropped = most_probable(
            statistics.start,
            learning.startprob_prior,
            params.startprob,
            learning.fixed["startprob"],
            keep_zeros=True,
        )
        transmat, dropped = most_probable(
            statistics.transitions,
            learning.transmat_prior,
            params.transmat,
            learning.fixed["transmat"],
            keep_zeros=True,
        )
        emissions, repaired, emissions_dropped = self._maximize(
            statistics.emissions, params.emissions, learning
        )
        dropped |= start_dropped | emissions_dropped
        return HMMParams(startprob, transmat, emissions), repaired, dropped

    def _log_prior(self, params, learning):
        return (
            log_dirichlet(params.startprob, learning.startprob_prior)
            + log_dirichlet(params.transmat, learning.transmat_prior)
            + self._log_emission_prior(params.emissions, learning)
        )

    def _keep_state(self, state, begin):
        """Store what training came to."""
        vars(self.monitor_).update(state.monitor)
        self._keep(state.params, begin, state.repaired)
        found = state.statistics
        if not (found is None or isinstance(found, StepwiseState)):
            found = after(state.params, found)
        self._remembered = found

    def _keep(self, params, begin, repaired):
        """Store the fitted attributes."""
        for name, value in self._unpacked(params).items():
            setattr(self, f"{name}_", value)
        for attribute, value in begin.learned.items():
            setattr(self, attribute, value)
        self.n_features = begin.n_features
        self.n_repairs_ = int(repaired.sum())

    def _warn_of_few_data(self, X, shapes):
        n_scalars = sum(self._n_scalars(shapes)[letter] for letter in set(self.params))
        if X.size < n_scalars:
            _log.warning(
                "%d numbers in X are to determine %d free parameters, which gives a "
                "degenerate solution. Use more data or fewer states.",
                X.size,
                n_scalars,
            )

    def _warn(self, repaired):
        """Say once what a user should know of the fit that was kept."""
        if self.n_repairs_:
            which = ", ".join(map(str, np.flatnonzero(repaired)))
            warnings.warn(
                f"{self.n_repairs_} of {repaired.size} components collapsed or "
                f"emptied and were repaired (components {which}); use fewer, or more "
                "data.",
                DegenerateComponentWarning,
                stacklevel=5,
            )
        if getattr(self.monitor_, "status", None) == "decreased":
            warnings.warn(
                f"The objective fell at iteration {self.monitor_.iter}, where the fit "
                "stopped: a floor or a prior is at odds with where it began.",
                LikelihoodDecreaseWarning,
                stacklevel=5,
            )
