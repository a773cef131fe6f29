"""What all hidden Markov models share: their constructor, ``fit`` and ``partial_fit``.

Their parts are in modules of their own: what is learned and how (fitting.py), the
parameters by name (parameters.py), answers (inference.py), and what an emission
distribution has to say (emissions.py).
"""

import copy
import math
from functools import partial
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from fastem.em.monitors import SilentMonitor
from fastem.em.passes import PassStatistics, add_block
from fastem.em.stepwise import finish
from fastem.estimators.callbacks import CallbackSupportMixin, watch, with_callbacks
from fastem.estimators.checkpoints import Checkpoint, NoCheckpoint
from fastem.estimators.fits import STEPWISE_CONSTRAINTS
from fastem.estimators.hmm.emissions import Emissions
from fastem.estimators.hmm.fitting import Fitting
from fastem.estimators.hmm.inference import ALGORITHMS, Inference
from fastem.estimators.hmm.monitor import ConvergenceMonitor
from fastem.estimators.hmm.parameters import Parameters
from fastem.estimators.hmm.rows import ArraySequences, read_sequences
from fastem.estimators.hmm.training import RECORDS
from fastem.estimators.persistence import Saveable
from fastem.estimators.validation import features_kept_on_error
from fastem.execution.blas import one_blas_thread


class BaseHMM(
    CallbackSupportMixin,
    Inference,
    Fitting,
    Parameters,
    Emissions,
    Saveable,
    BaseEstimator,
):
    """A hidden Markov model but for its emissions.

    A subclass says what these are by the members of :class:`Emissions`.
    """

    _parameter_constraints: ClassVar = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "algorithm": [StrOptions(set(ALGORITHMS))],
        "random_state": ["random_state"],
        "n_iter": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, -math.inf, None, closed="left")],
        "verbose": ["verbose"],
        "params": [str],
        "init_params": [str],
        "implementation": [StrOptions({"log", "scaling"})],
        "training": [StrOptions({"baum-welch", "viterbi"})],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "fit_algorithm": [StrOptions({"batch", "minibatch"})],
        **STEPWISE_CONSTRAINTS,
    }

    def __init__(
        self,
        n_components,
        startprob_prior,
        transmat_prior,
        algorithm,
        random_state,
        n_iter,
        tol,
        verbose,
        params,
        init_params,
        implementation,
        training,
        n_init,
        fixed,
        fit_algorithm,
        batch_size,
        step_exponent,
        step_offset,
        average,
    ):
        self.n_components = n_components
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.algorithm = algorithm
        self.random_state = random_state
        self.n_iter = n_iter
        self.tol = tol
        self.verbose = verbose
        self.params = params
        self.init_params = init_params
        self.implementation = implementation
        self.training = training
        self.n_init = n_init
        self.fixed = fixed
        self.fit_algorithm = fit_algorithm
        self.batch_size = batch_size
        self.step_exponent = step_exponent
        self.step_offset = step_offset
        self.average = average
        self.monitor_ = ConvergenceMonitor(tol, n_iter, verbose)

    def fit(
        self,
        X,
        lengths=None,
        *,
        sequence_weight=None,
        step_weight=None,
        states=None,
        checkpoint=None,
    ):
        """Learn the parameters from sequences.

        With ``fit_algorithm='minibatch'`` parameters move after every batch of about
        ``batch_size`` rows. Batches are of whole sequences, each spread over all of
        them, but sequences longer than one and a half batches are cut into stretches
        of up to 1024 rows. Each is worked with up to 128 rows before and after it, from
        any state alike; only one that begins a sequence counts for ``startprob``. What
        a chain remembers beyond these rows is lost: nothing to speak of where it
        forgets, but chains that never do, such as those from left to right, need
        batches no shorter than their sequences. ``n_iter`` and ``tol`` are then about
        passes, whose log-likelihood is that which batches met on the way; that it
        falls stops nothing.

        Parameters
        ----------
        X : array-like, source or Dask collection, of shape (N, D)
            The rows of all sequences, one after another; see :func:`fastem.source`.
        lengths : array-like of shape (n_sequences,), default=None
            The number of rows of each sequence; without, all rows of an array are one
            sequence, and sources know theirs.
        sequence_weight : array-like of shape (n_sequences,), default=None
            A sequence of weight 2 counts exactly as the sequence twice, one of weight
            0 not.
        step_weight : array-like of shape (N,) or str, default=None
            The power to which the density of each row is raised; 0 is a step whose
            observation is missing. For a table that is read as a source, also the name
            of a column beside its features, which is read into memory.
        states : array-like of shape (N,) of int, or str, default=None
            States that are known; -1, or null in a column, where they are not.
        checkpoint : path, default=None
            A file to keep the fit in, after every iteration and now and then in long
            passes over blocks. If it is there already, the fit goes on from it, to the
            same bits as if never interrupted.

        Returns
        -------
        BaseHMM
            The estimator itself.

        Raises
        ------
        ValueError
            For X that is not two-dimensional and finite, for lengths, weights and
            states that do not go with it, for parameters that are no valid ones, and
            where no state allows what was observed; what and where is said. The model
            is then what it was before. Also for a checkpoint of another fit.

        References
        ----------
        O. Cappé and E. Moulines, "On-line expectation-maximization algorithm for latent
        data models", *J. R. Statist. Soc. B* 71 (2009), 593-613.
        """
        self._fit(X, lengths, sequence_weight, step_weight, states, checkpoint)
        return self

    def partial_fit(
        self, X, lengths=None, *, sequence_weight=None, step_weight=None, states=None
    ):
        """Go on from a batch of sequences of an unbounded stream.

        Training begins with the first batch of all as by ``fit``; each further one is a
        step of stepwise EM. After ``fit`` the model goes on from there: what it was
        fitted to counts as the first batch.

        Parameters
        ----------
        X : array-like or source of shape (N, D)
            Of a source, blocks of whole sequences are cut into batches of about
            ``batch_size`` rows.
        lengths : array-like of shape (n_sequences,), default=None
        sequence_weight : array-like of shape (n_sequences,), default=None
        step_weight : array-like of shape (N,), default=None
        states : array-like of shape (N,) of int, default=None
            As for ``fit``.

        Returns
        -------
        BaseHMM
            The estimator itself.

        Raises
        ------
        ValueError
            As by ``fit``; the model is then what it was before.

        References
        ----------
        O. Cappé and E. Moulines, "On-line expectation-maximization algorithm for latent
        data models", *J. R. Statist. Soc. B* 71 (2009), 593-613.
        """
        letters = self._check_letters()
        remembered = getattr(self, "_remembered", None)
        first = remembered is None
        with one_blas_thread(), features_kept_on_error(self):
            rows = read_sequences(
                self,
                X,
                lengths,
                sequence_weight,
                step_weight,
                states,
                reset=first,
                here=True,
            )
            random_state = check_random_state(self.random_state)
            if first:
                given = self._given(letters)
            else:
                self._check_goes_on(remembered)
                given = self._unpacked(remembered.params)
            begin = self._beginning(rows, given, random_state)
            chains, minibatch = self._chains(rows, begin), self._minibatch(begin)
            if isinstance(rows, ArraySequences):
                minibatch = minibatch._replace(size=rows.n_rows)
            state = rows.fold(
                partial(add_block, chains, minibatch, False),
                PassStatistics(0.0, 0.0, begin.draw() if first else remembered),
            ).state
            params, repaired = finish(state, chains.m_step, average=self.average)
        self._keep(params, begin, np.atleast_1d(repaired))
        self._remembered = state
        return self

    # ------------------------------------------------------------------ fitting

    @with_callbacks
    def _fit(
        self,
        X,
        lengths=None,
        sequence_weight=None,
        step_weight=None,
        states=None,
        checkpoint=None,
        monitor=None,
    ):
        """Fit; ``monitor`` sees it, beside ``monitor_``."""
        letters = self._check_letters()
        with one_blas_thread(), features_kept_on_error(self):
            rows = read_sequences(
                self, X, lengths, sequence_weight, step_weight, states, reset=True
            )
            random_state = check_random_state(self.random_state)
            begin = self._beginning(rows, self._given(letters), random_state)
            keeper = NoCheckpoint()
            if checkpoint is not None:
                data = {**rows.data, "lengths": lengths}
                keeper = Checkpoint(checkpoint, self, data, RECORDS)

            def keep(model, state):
                model.monitor_ = copy.copy(self.monitor_)
                model._keep_state(state, begin)

            monitor = watch(
                self,
                monitor or SilentMonitor(),
                {
                    "X": X,
                    "lengths": lengths,
                    "sequence_weight": sequence_weight,
                    "step_weight": step_weight,
                    "states": states,
                },
                name=f"{type(self).__name__} of {self.n_components} states",
                shape=(rows.n_rows, begin.n_features),
                max_iter=self.n_iter,
                keep=keep,
                measure="log-likelihood",
            )
            best = self._train(rows, begin, random_state, keeper, monitor)
        self._keep_state(best, begin)
        self._warn(best.repaired)

    def _check_goes_on(self, remembered):
        """Refuse to go on from another number of states."""
        n_components = len(remembered.params.startprob)
        if n_components != self.n_components:
            raise ValueError(
                f"partial_fit goes on from {n_components} states, but n_components is "
                f"{self.n_components}"
            )
