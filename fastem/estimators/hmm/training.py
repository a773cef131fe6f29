"""Training: Baum and Welch's iteration, or that over best paths."""

from typing import Any, NamedTuple

import numpy as np

from fastem.models.decoding import viterbi
from fastem.models.hmm import Effort, ImpossibleObservation, e_step
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


class Trained(NamedTuple):
    """What one start came to; ``monitor`` is the state of its monitor."""

    params: Any
    repaired: np.ndarray
    objective: float
    monitor: dict


def train(family, params, sequences, *, m_step, log_prior, monitor, n_iter, hard):
    """Iterate until the monitor says that it is enough.

    L. E. Baum et al., *Ann. Math. Statist.* 41 (1970), 164-171. Hard training takes the
    best paths for the truth, which raises ``log p(x, path)``: B.-H. Juang and
    L. R. Rabiner, *IEEE Trans. Acoust. Speech Signal Process.* 38 (1990), 1639-1641.

    Parameters
    ----------
    family : Family
    params : HMMParams
    sequences : Sequences
    m_step : callable
        ``m_step(statistics, params) -> (params, repaired, dropped)``: the second says
        which components were repaired, the third whether the objective may fall.
    log_prior : callable
    monitor : ConvergenceMonitor
    n_iter : int
    hard : bool

    Returns
    -------
    params : HMMParams
    repaired : ndarray of bool
        Components repaired in some iteration.

    Raises
    ------
    ImpossibleObservation
        If no state allows what was observed.
    """
    repaired = np.zeros(1, bool)
    excused = False
    # Recursions over best paths are another problem than the search for these.
    effort, reach = Effort(), Reach()
    monitor._reset()
    for _ in range(n_iter):
        given = sequences
        if hard:
            decoding = viterbi(family, params, sequences, reach)
            if decoding.impossible_row >= 0:
                raise ImpossibleObservation(decoding.impossible_row)
            given = sequences._replace(states=decoding.path)
        statistics = e_step(family, params, given, effort)
        log_likelihood = float(statistics.log_likelihood)
        monitor.report(log_likelihood, log_likelihood + log_prior(params), excused)
        params, just_repaired, dropped = m_step(statistics, params)
        repaired = repaired | just_repaired
        excused = dropped or bool(just_repaired.any())
        if monitor.converged:
            break
    return params, repaired
