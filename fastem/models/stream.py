"""The likeliest path of a sequence that comes in chunks."""

import functools

import numpy as np
from numba import types

from fastem.compile import serial_kernel
from fastem.models.hmm import ImpossibleObservation


class ViterbiStream:
    """Viterbi's recursion, with memory for undecided steps alone.

    A state is final once the best paths into all states that are still possible go
    through it (R. Šrámek, B. Brejová and T. Vinař, "On-line Viterbi algorithm for
    analysis of long biological sequences", WABI 2007).

    Parameters
    ----------
    log_startprob : ndarray of shape (K,)
    log_transmat : ndarray of shape (K, K)
    """

    def __init__(self, log_startprob, log_transmat):
        self._start = np.ascontiguousarray(log_startprob, np.float64)
        self._transmat = np.ascontiguousarray(log_transmat, np.float64)
        self._begin()

    def _begin(self):
        n_states = len(self._start)
        self._score = np.full(n_states, np.nan)
        # Row by undecided step: where the best path into each state came from.
        self._origins = np.empty((0, n_states), np.int64)

    def push(self, log_density):
        """Take the log densities of further steps, (T, K); return what is final.

        Raises
        ------
        ImpossibleObservation
            With the first of the steps to which no path leads; none are taken then.
        """
        log_density = np.ascontiguousarray(log_density, np.float64)
        origins = np.empty(log_density.shape, np.int64)
        score = self._score.copy()
        step = _make_extend()(log_density, self._start, self._transmat, score, origins)
        if step >= 0:
            raise ImpossibleObservation(step)
        self._score = score
        self._origins = np.concatenate([self._origins, origins])
        path = np.empty(len(self._origins), np.int64)
        n_final = _make_settle()(self._origins, self._score, path)
        self._origins = self._origins[n_final:]
        return path[:n_final]

    def finish(self):
        """Return the states of the steps that are left, and begin anew."""
        path = np.empty(len(self._origins), np.int64)
        if len(path):
            _trace(self._origins, len(path), self._score.argmax(), path)
        self._begin()
        return path


@functools.cache
def _make_extend():
    """Build the recursion; a score of NaN means that there was no step before."""
    matrix, vector = types.float64[:, ::1], types.float64[::1]

    arguments = matrix, vector, matrix, vector, types.int64[:, ::1]

    @serial_kernel(*arguments, returns=types.int64)
    def extend(log_density, start, transmat, score, origins):
        n_states = start.size
        before = np.empty(n_states)
        for t in range(log_density.shape[0]):
            for k in range(n_states):
                before[k] = score[k]
            top = -np.inf
            for k in range(n_states):
                best, origin = start[k], 0
                if not np.isnan(before[k]):
                    best = -np.inf
                    for j in range(n_states):
                        value = before[j] + transmat[j, k]
                        if value > best:
                            best, origin = value, j
                origins[t, k] = origin
                score[k] = best + log_density[t, k]
                top = max(top, score[k])
            if top == -np.inf:
                return t
            for k in range(n_states):
                score[k] -= top
        return -1

    return extend


@functools.cache
def _make_settle():
    """Build the search for the last step that all best paths share."""
    arguments = types.int64[:, ::1], types.float64[::1], types.int64[::1]

    @serial_kernel(*arguments, returns=types.int64)
    def settle(origins, score, path):
        n_steps, n_states = origins.shape
        alive = score > -np.inf
        for step in range(n_steps - 1, -1, -1):
            n_alive, state = 0, 0
            for k in range(n_states):
                if alive[k]:
                    n_alive, state = n_alive + 1, k
            if n_alive == 1:
                for t in range(step, -1, -1):
                    path[t] = state
                    state = origins[t, state]
                return step + 1
            before = np.zeros(n_states, np.bool_)
            for k in range(n_states):
                if alive[k]:
                    before[origins[step, k]] = True
            alive = before
        return 0

    return settle


def _trace(origins, n_steps, state, path):
    for t in range(n_steps - 1, -1, -1):
        path[t] = state
        state = origins[t, state]
