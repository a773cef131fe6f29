"""What all hidden Markov models share beside their answers: parameters and fitting."""

import copy
import logging
import math
import warnings
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from fastem.em.monitors import SilentMonitor
from fastem.em.stepwise import DEFAULT_SCHEDULE, after, finish
from fastem.estimators.callbacks import (
    CallbackSupportMixin,
    watch,
    with_callbacks,
)
from fastem.estimators.checkpoints import Checkpoint, NoCheckpoint
from fastem.estimators.hmm.emissions import Emissions
from fastem.estimators.hmm.inference import (
    ALGORITHMS,
    Inference,
)
from fastem.estimators.hmm.monitor import ConvergenceMonitor
from fastem.estimators.hmm.probabilities import (
    check_probabilities,
    log_dirichlet,
    most_probable,
)
from fastem.estimators.hmm.rows import ArraySequences, read_sequences
from fastem.estimators.hmm.training import (
    RECORDS,
    Beginning,
    Chains,
    Learning,
    count_rows,
    run_starts,
)
from fastem.estimators.hmm.validation import (
    broadcast_prior,
    check_fixed,
    check_n_features,
)
from fastem.estimators.persistence import Saveable
from fastem.estimators.validation import features_kept_on_error
from fastem.exceptions import DegenerateComponentWarning, LikelihoodDecreaseWarning
from fastem.models.hmm import HMMParams

# What hmmlearn logs is logged here, too; warnings are for what a fit came to.
_log = logging.getLogger(__name__)

_CHAIN_LETTERS = {"s": "startprob", "t": "transmat"}


class BaseHMM(CallbackSupportMixin, Inference, Emissions, Saveable, BaseEstimator):
    """A hidden Markov model but for its emissions.

    A subclass says what these are by the members of :class:`Emissions`. Parameters go
    by names without the underscore that attributes end in.
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
        step_weight : array-like of shape (N,), default=None
            The power to which the density of each row is raised; 0 is a step whose
            observation is missing.
        states : array-like of shape (N,) of int, default=None
            States that are known; -1 where they are not.
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
            Of a source, each block of whole sequences is a batch.
        lengths : array-like of shape (n_sequences,), default=None
        sequence_weight : array-like of shape (n_sequences,), default=None
        step_weight : array-like of shape (N,), default=None
        states : array-like of shape (N,) of int, default=None
            As for ``fit``.

        Returns
        -------
        BaseHMM
            The estimator itself. Its parameters are those of averaged statistics.

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
        with features_kept_on_error(self):
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
            chains = Chains(self, begin.shapes, begin.learning)
            state = rows.fold(
                chains, DEFAULT_SCHEDULE, begin.draw() if first else remembered
            )
            params, repaired = finish(state, chains.m_step)
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
        with features_kept_on_error(self):
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
                shape=(count_rows(rows), begin.n_features),
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

    def _check_letters(self):
        """Return the names of parameters by letter; refuse letters of none."""
        self._validate_params()
        letters = self._letters()
        for name in ("params", "init_params"):
            unknown = sorted(set(getattr(self, name)) - set(letters))
            if unknown:
                raise ValueError(
                    f"{name} names {', '.join(map(repr, unknown))}, but what can be "
                    f"learned is {', '.join(map(repr, letters))}"
                )
        return letters

    def _beginning(self, rows, given, random_state):
        """Return what a fit to these rows begins with, checked."""
        X, weight = rows.sample(random_state)
        n_features = self._count_features(X, given)
        shapes = self._shapes(n_features)
        given = self._check_parameters(given, shapes)
        check_n_features(self, X, self._n_columns(shapes))
        if isinstance(rows, ArraySequences):
            # A block is checked where it is read, where its place is known.
            self._check_values(X, shapes)
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

    def _letters(self):
        return {**_CHAIN_LETTERS, **self._emission_letters}

    def _given(self, letters):
        """Return the parameters that are set and that ``init_params`` leaves alone."""
        given = {}
        for letter, name in letters.items():
            attribute = f"{name}_"
            if not self._has(name):
                continue
            if letter not in self.init_params:
                given[name] = self._get(name)
                continue
            _log.warning(
                "%s is set, but will be overwritten by fit, since init_params contains "
                "%r.",
                attribute,
                letter,
            )
        return given

    def _train(self, rows, begin, random_state, keeper, watcher):
        """Return the best of ``n_init`` starts."""
        chains = Chains(self, begin.shapes, begin.learning)
        monitor = self.monitor_
        before = dict(vars(monitor))
        if type(monitor) is ConvergenceMonitor:
            monitor.tol, monitor.n_iter = self.tol, self.n_iter
            monitor.verbose = self.verbose
        try:
            return run_starts(chains, rows, begin.draw, random_state, keeper, watcher)
        except BaseException:
            vars(monitor).update(before)
            raise

    def _start_params(self, X, weight, given, shapes, random_state):
        """Return where training begins: what is given, the rest drawn."""
        start = dict(given)
        flat = np.full(self.n_components, 1 / self.n_components)
        for name in _CHAIN_LETTERS.values():
            if name not in given:
                size = shapes[name][:-1] or None
                start[name] = random_state.dirichlet(flat, size)
        start |= self._start(X, weight, given, shapes, random_state)
        return self._to_params(start)

    def _to_params(self, values):
        return HMMParams(values["startprob"], values["transmat"], self._pack(values))

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
        self._remembered = None if found is None else after(state.params, found)

    def _keep(self, params, begin, repaired):
        """Store the fitted attributes."""
        for name, value in self._unpacked(params).items():
            setattr(self, f"{name}_", value)
        for attribute, value in begin.learned.items():
            setattr(self, attribute, value)
        self.n_features = begin.n_features
        self.n_repairs_ = int(repaired.sum())

    def _unpacked(self, params):
        """Return parameters by name."""
        return {
            "startprob": params.startprob,
            "transmat": params.transmat,
            **self._unpack(params.emissions),
        }

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

    # --------------------------------------------------------- parameters at hand

    def _read_params(self):
        """Return the parameters, checked, and their shapes by name.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If some are missing.
        ValueError
            If some are not valid; they are named.
        """
        self._validate_params()
        names = self._letters().values()
        check_is_fitted(self, [f"{name}_" for name in names])
        given = {name: self._get(name) for name in names}
        shapes = self._shapes(self._count_features(None, given))
        values = self._check_parameters(given, shapes)
        return self._to_params(values), shapes

    def _read_chain(self):
        """Return the parameters of the chain alone, checked."""
        check_is_fitted(self, "transmat_")
        n = self.n_components
        start = getattr(self, "startprob_", np.full(n, 1 / n))
        return (
            check_probabilities(start, (n,), "startprob_"),
            check_probabilities(self.transmat_, (n, n), "transmat_"),
        )

    def _check_parameters(self, given, shapes):
        checked = {}
        for name, value in given.items():
            check = (
                check_probabilities
                if name in _CHAIN_LETTERS.values()
                else self._check_parameter
            )
            checked[name] = check(value, shapes[name], f"{name}_")
        return checked

    def _shapes(self, n_features):
        n = self.n_components
        emissions = self._emission_shapes(n_features)
        return {"startprob": (n,), "transmat": (n, n), **emissions}

    def _n_scalars(self, shapes=None):
        """Return the number of free parameters by letter, as hmmlearn counts them."""
        if shapes is None:
            given = {name: self._get(name) for name in self._letters().values()}
            shapes = self._shapes(self._count_features(None, given))
        n = self.n_components
        return {"s": n - 1, "t": n * (n - 1), **self._n_emission_scalars(shapes)}

    def _has(self, name):
        return hasattr(self, f"{name}_")

    def _get(self, name):
        """Return a parameter as it is set."""
        return getattr(self, f"{name}_")
