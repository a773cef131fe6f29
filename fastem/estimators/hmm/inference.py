"""The questions that a hidden Markov model answers."""

import math
import warnings
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state

from fastem.estimators.hmm.online import Stream, fixed_lag
from fastem.estimators.hmm.probabilities import inverse_cdf
from fastem.estimators.hmm.rows import sequence_blocks_of
from fastem.estimators.hmm.validation import (
    check_n_features,
    check_observations,
    describe_impossible,
    make_sequences,
    refuse_impossible,
)
from fastem.estimators.outputs import gather
from fastem.exceptions import ImpossibleObservationWarning
from fastem.models.decoding import viterbi
from fastem.models.hmm import posterior

ALGORITHMS = ("viterbi", "map")


class Inference:
    """Methods of models that are fitted, or were given all their parameters.

    All of them raise a ValueError for X that is not two-dimensional, finite and of the
    model's number of features, and for lengths that are not positive integers with
    the number of rows as their sum.
    """

    def score(self, X, lengths=None):
        """Return the log-likelihood of all sequences.

        Parameters
        ----------
        X : array-like or source of shape (N, D)
            The rows of all sequences, one after another; see :func:`fastem.source`.
        lengths : array-like of shape (n_sequences,), default=None
            The number of rows of each sequence; without, all rows of an array are one
            sequence, and sources know theirs.

        Returns
        -------
        float
            Minus infinity, with an
            :class:`~fastem.exceptions.ImpossibleObservationWarning` that says where, if
            no state allows some observation.
        """
        params, shapes = self._read_params()
        total = 0.0
        for sequences in sequence_blocks_of(self, shapes, X, lengths):
            found = posterior(self._family, params, sequences)
            if found.impossible_row >= 0:
                warnings.warn(
                    describe_impossible(found.impossible_row, sequences.bounds),
                    ImpossibleObservationWarning,
                    stacklevel=2,
                )
                return -math.inf
            total += found.log_likelihood
        return float(total)

    def score_samples(self, X, lengths=None, *, out=None):
        """Return the log-likelihood of all sequences and ``predict_proba``.

        Parameters
        ----------
        X : array-like or source of shape (N, D)
        lengths : array-like of shape (n_sequences,), default=None
        out : path, default=None
            A ``.npy`` or ``.parquet`` file to write the probabilities to as they come,
            which is then there whole or not at all; it is returned in their place.

        Returns
        -------
        log_likelihood : float
        posteriors : ndarray of shape (N, K)

        Raises
        ------
        ValueError
            If no state allows some observation; sequence and step are named.
        """

        def ask(params, sequences):
            found = self._posterior(params, sequences, smoothed=True)
            return found.log_likelihood, found.smoothed

        return self._evaluate(ask, X, lengths, out, None)

    def predict_proba(self, X, lengths=None, *, out=None):
        """Return the probability of each state at each step, given all of its sequence.

        Parameters
        ----------
        X : array-like or source of shape (N, D)
        lengths : array-like of shape (n_sequences,), default=None
        out : path, default=None
            A ``.npy`` or ``.parquet`` file to write the probabilities to as they come,
            which is then there whole or not at all; it is returned in their place.

        Returns
        -------
        ndarray of shape (N, K)

        Raises
        ------
        ValueError
            If no state allows some observation; sequence and step are named.
        """
        return self.score_samples(X, lengths, out=out)[1]

    def decode(self, X, lengths=None, algorithm=None, *, out=None):
        """Return the states behind the observations, and how good they are.

        Parameters
        ----------
        X : array-like or source of shape (N, D)
        lengths : array-like of shape (n_sequences,), default=None
        algorithm : {'viterbi', 'map'}, default=None
            The most probable path, or the most probable state of each step alone;
            without, the model's ``algorithm``.
        out : path, default=None
            A ``.npy`` or ``.parquet`` file to write the states to as they come, which
            is then there whole or not at all; it is returned in their place.

        Returns
        -------
        log_probability : float
            Of the paths and the observations together; with 'map', as in hmmlearn, the
            sum of the states' probabilities.
        states : ndarray of shape (N,) of int

        Raises
        ------
        ValueError
            If no state allows some observation; sequence and step are named.
        """
        algorithm = self.algorithm if algorithm is None else algorithm
        if algorithm not in ALGORITHMS:
            raise ValueError(
                f"Unknown decoder algorithm {algorithm!r}: use 'viterbi' or 'map'."
            )

        def ask_smoother(params, sequences):
            smoothed = self._posterior(params, sequences, smoothed=True).smoothed
            return smoothed.max(axis=1).sum(), smoothed.argmax(axis=1)

        def ask_viterbi(params, sequences):
            decoding = viterbi(self._family, params, sequences)
            refuse_impossible(decoding.impossible_row, sequences.bounds)
            return decoding.log_probability, decoding.path

        ask = ask_smoother if algorithm == "map" else ask_viterbi
        return self._evaluate(ask, X, lengths, out, ["state"])

    def predict(self, X, lengths=None, *, out=None):
        """Return the states that ``decode`` finds, (N,) of int.

        Parameters
        ----------
        X : array-like or source of shape (N, D)
        lengths : array-like of shape (n_sequences,), default=None
        out : path, default=None
            A ``.npy`` or ``.parquet`` file to write the states to as they come, which
            is then there whole or not at all; it is returned in their place.

        Raises
        ------
        ValueError
            If no state allows some observation; sequence and step are named.
        """
        return self.decode(X, lengths, out=out)[1]

    def filter(self, X, lengths=None):
        """Return the probability of each state at each step, given the steps so far.

        Parameters
        ----------
        X : array-like of shape (N, D)
        lengths : array-like of shape (n_sequences,), default=None

        Returns
        -------
        ndarray of shape (N, K)
            ``P(z_t | x_1, ..., x_t)``.

        Raises
        ------
        ValueError
            If no state allows some observation; sequence and step are named.
        """
        return self._posterior(*self._read(X, lengths), filtered=True).filtered

    def predict_next(self, X, lengths=None):
        """Return the probability of each state after the end of each sequence.

        Parameters
        ----------
        X : array-like of shape (N, D)
        lengths : array-like of shape (n_sequences,), default=None

        Returns
        -------
        ndarray of shape (n_sequences, K)
            ``P(z_T+1 | x_1, ..., x_T)``.

        Raises
        ------
        ValueError
            If no state allows some observation; sequence and step are named.
        """
        params, sequences = self._read(X, lengths)
        filtered = self._posterior(params, sequences, filtered=True).filtered
        return filtered[sequences.bounds[1:] - 1] @ params.transmat

    def smooth(self, X, lag, lengths=None):
        """Return the probability of each state, given ``lag`` steps beyond it.

        Parameters
        ----------
        X : array-like of shape (N, D)
        lag : int
            0 is ``filter``; as much as the sequences' length is ``predict_proba``.
        lengths : array-like of shape (n_sequences,), default=None

        Returns
        -------
        ndarray of shape (N, K)
            ``P(z_t | x_1, ..., x_min(t + lag, T))``.

        Raises
        ------
        ValueError
            For a lag that is no count, and if no state allows some observation;
            sequence and step are named.
        """
        if not isinstance(lag, Integral) or lag < 0:
            raise ValueError(f"lag should be an integer from 0 on, but is {lag!r}")
        params, sequences = self._read(X, lengths)
        if lag >= np.diff(sequences.bounds).max() - 1:
            return self._posterior(params, sequences, smoothed=True).smoothed
        found = self._posterior(params, sequences, filtered=True, log_density=True)
        if lag == 0:
            return found.filtered
        return fixed_lag(
            found.filtered, found.log_density, params.transmat, sequences.bounds, lag
        )

    def stream(self):
        """Return a decoder of one sequence that comes in chunks.

        Returns
        -------
        Stream
            Its ``push(X)`` returns the states of the most probable path that have
            become final, its ``finish()`` the rest.
        """
        return Stream(self)

    def sample(self, n_samples=1, random_state=None, currstate=None):
        """Draw a sequence from the model.

        Parameters
        ----------
        n_samples : int, default=1
            Its number of steps.
        random_state : int, RandomState instance or None, default=None
            Without, the model's own.
        currstate : int, default=None
            The first state; without, it is drawn.

        Returns
        -------
        X : ndarray of shape (n_samples, D)
        states : ndarray of shape (n_samples,) of int

        Raises
        ------
        ValueError
            For ``n_samples`` or ``currstate`` out of range.
        """
        params, _ = self._read_params()
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples!r}. Draw at least one."
            )
        n_states = len(params.startprob)
        if currstate is not None and not (
            isinstance(currstate, Integral) and 0 <= currstate < n_states
        ):
            raise ValueError(
                f"currstate should be a state from 0 to {n_states - 1}, but is "
                f"{currstate!r}"
            )
        random_state = check_random_state(
            self.random_state if random_state is None else random_state
        )
        states = _draw_states(params, n_samples, random_state, currstate)
        return self._emit(params.emissions, states, random_state), states

    def aic(self, X, lengths=None):
        """Return the Akaike information criterion; lower is better.

        Parameters
        ----------
        X : array-like of shape (N, D)
        lengths : array-like of shape (n_sequences,), default=None
        """
        return -2 * self.score(X, lengths) + 2 * sum(self._n_scalars().values())

    def bic(self, X, lengths=None):
        """Return the Bayesian information criterion; lower is better.

        Parameters
        ----------
        X : array-like of shape (N, D)
        lengths : array-like of shape (n_sequences,), default=None
        """
        score = self.score(X, lengths)
        return -2 * score + sum(self._n_scalars().values()) * math.log(len(X))

    def get_stationary_distribution(self):
        """Return the distribution of states that a step leaves as it is, (K,).

        Of several, the one nearest to uniform.
        """
        transmat = self._read_chain()[1]
        n_states = len(transmat)
        equations = np.vstack([transmat.T - np.eye(n_states), np.ones(n_states)])
        found = np.linalg.lstsq(equations, np.eye(n_states + 1)[-1], rcond=None)[0]
        found = np.maximum(found, 0.0)
        return found / found.sum()

    # ------------------------------------------------------------------ inside

    def _read(self, X, lengths):
        """Return the parameters and the sequences, both checked."""
        params, shapes = self._read_params()
        return params, make_sequences(self._check_rows(X, shapes), lengths)

    def _evaluate(self, ask, X, lengths, out, columns):
        """Return the sum of the numbers and the rows that are answered.

        ``ask(params, sequences)`` answers for a block of sequences.
        """
        params, shapes = self._read_params()
        total = 0.0

        def answers():
            nonlocal total
            for sequences in sequence_blocks_of(self, shapes, X, lengths):
                number, rows = ask(params, sequences)
                total += number
                yield rows

        rows = gather(answers(), out, None, columns)
        return float(total), rows

    def _check_rows(self, X, shapes, **options):
        """Return X, checked against parameters of the given shapes."""
        X = check_observations(
            self, X, reset=False, dtype=self._integers_become, **options
        )
        check_n_features(self, X, self._n_columns(shapes))
        self._check_values(X, shapes)
        return X

    def _posterior(self, params, sequences, **wanted):
        found = posterior(self._family, params, sequences, **wanted)
        refuse_impossible(found.impossible_row, sequences.bounds)
        return found

    def _log_density(self, params, X):
        """Return the log density of each row in each state, (N, K)."""
        sequences = make_sequences(X)
        found = posterior(self._family, params, sequences, log_density=True)
        return found.log_density


def _draw_states(params, n_steps, random_state, state):
    """Draw a path; ``state`` is its first, None to draw that."""
    draws = random_state.random_sample(n_steps)
    states = np.empty(n_steps, np.int64)
    start, *rows = (inverse_cdf(row) for row in (params.startprob, *params.transmat))
    state = start(draws[0]) if state is None else state
    for t in range(n_steps):
        if t:
            state = rows[state](draws[t])
        states[t] = state
    return states
