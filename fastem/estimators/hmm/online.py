"""States while data come in: fixed-lag smoothing and streams."""

import copy

import numpy as np
from scipy.special import logsumexp

from fastem.models.hmm import ImpossibleObservation
from fastem.models.stream import ViterbiStream

# What underflow loses of a message is below 1e-300 of it: no more than rounding where
# message and filtered probabilities still have this much in common.
_SAFE_OVERLAP = 1e-200


def fixed_lag(filtered, log_density, transmat, bounds, lag):
    """Return ``P(z_t | x_1, ..., x_min(t + lag, T))`` of each step.

    The message from the steps ahead, ``p(x_t+1, ..., x_t+lag | z_t)``, is a product of
    ``lag`` matrices for every t, taken for all t at once (L. R. Rabiner, *Proc. IEEE*
    77 (1989), eq. 25, begun anew at each t).

    Parameters
    ----------
    filtered : ndarray of shape (N, K)
    log_density : ndarray of shape (N, K)
    transmat : ndarray of shape (K, K)
    bounds : ndarray of shape (n_sequences + 1,)
    lag : int

    Returns
    -------
    ndarray of shape (N, K)
    """
    ends = np.repeat(bounds[1:], np.diff(bounds))
    with np.errstate(under="ignore"):
        relative = np.exp(log_density - log_density.max(axis=1, keepdims=True))
        message = np.ones_like(filtered)
        for ahead in range(lag, 0, -1):
            rows = np.flatnonzero(np.arange(len(ends)) + ahead < ends)
            coming = relative[rows + ahead] * message[rows] @ transmat.T
            largest = coming.max(axis=1, keepdims=True)
            message[rows] = coming / np.where(largest > 0, largest, 1.0)
        joint = filtered * message
        total = joint.sum(axis=1, keepdims=True)
        lost = np.flatnonzero(total[:, 0] < _SAFE_OVERLAP)
        smoothed = joint / np.where(total > 0, total, 1.0)
        if lost.size:
            smoothed[lost] = _fixed_lag_of_rows(
                lost, filtered, log_density, transmat, ends, lag
            )
    return smoothed


def _fixed_lag_of_rows(rows, filtered, log_density, transmat, ends, lag):
    """Return the same of some rows in the log domain, where nothing underflows."""
    with np.errstate(divide="ignore"):
        log_transmat, log_joint = np.log(transmat), np.log(filtered[rows])
    message = np.zeros_like(log_joint)
    for ahead in range(lag, 0, -1):
        within = np.flatnonzero(rows + ahead < ends[rows])
        coming = log_density[rows[within] + ahead] + message[within]
        message[within] = logsumexp(log_transmat + coming[:, None, :], axis=2)
    log_joint += message
    return np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))


class Stream:
    """The most probable path of one sequence that comes in chunks.

    States are returned as soon as no further observation can change them.
    :meth:`fastem.GaussianHMM.stream` and its like make streams.

    Parameters
    ----------
    model : BaseHMM
        A fitted model; later changes to it do not matter.
    """

    def __init__(self, model):
        self._model = copy.copy(model)
        self._params, self._shapes = model._read_params()
        with np.errstate(divide="ignore"):
            self._decoder = ViterbiStream(
                np.log(self._params.startprob), np.log(self._params.transmat)
            )
        self._n_steps, self._finished = 0, False

    def push(self, X):
        """Take further steps and return the states that are now certain.

        Parameters
        ----------
        X : array-like of shape (n, D)
            The next steps, of which there may be none.

        Returns
        -------
        ndarray of shape (n_states,) of int
            The states after those that were returned before.

        Raises
        ------
        ValueError
            For anything but finite numbers of the model's features, for an observation
            that no state allows, and after :meth:`finish`.
        """
        if self._finished:
            raise ValueError("The stream is finished; begin another one with stream().")
        X = self._model._check_rows(X, self._shapes, ensure_min_samples=0)
        if not len(X):
            return np.empty(0, np.int64)
        log_density = self._model._log_density(self._params, X)
        try:
            states = self._decoder.push(log_density)
        except ImpossibleObservation as impossible:
            raise ValueError(
                f"No state allows the observation at step "
                f"{self._n_steps + impossible.row} of the stream, given those before."
            ) from None
        self._n_steps += len(X)
        return states

    def finish(self):
        """End the sequence and return the states not returned before, (n,) of int."""
        self._finished = True
        return self._decoder.finish()
