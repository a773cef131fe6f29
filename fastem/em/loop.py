"""The EM iteration, for any model that offers an E-step and an M-step."""

from typing import Any, NamedTuple

import numpy as np

# A fall of the log-likelihood by less than this share of its size is rounding: that of
# the kernels' type, or what nearly singular covariances make of float64's (measured
# 2e-13 where a feature's variance is reg_covar alone).
ROUNDING_STEPS = 64
ROUNDING_SHARE = 1e-9


class EMResult(NamedTuple):
    """What one start of EM came to.

    Attributes
    ----------
    params : NamedTuple
    lower_bounds : list of float
        Mean log-likelihood at the parameters each iteration began with.
    converged : bool
    repaired : ndarray of shape (K,) of bool
        Components that collapsed or emptied in some iteration.
    n_decreases : int
        Iterations whose log-likelihood fell by more than rounding explains, less
        those after a repair, which says the same.
    """

    params: Any
    lower_bounds: list
    converged: bool
    repaired: np.ndarray
    n_decreases: int

    @property
    def lower_bound(self):
        """The last mean log-likelihood, -inf before the first iteration."""
        return self.lower_bounds[-1] if self.lower_bounds else -np.inf


def run_em(e_step, m_step, params, *, max_iter, tol, eps, previous=-np.inf, monitor):
    """Iterate E and M steps until the mean log-likelihood changes by less than tol.

    Dempster, Laird and Rubin, *J. R. Statist. Soc. B* 39 (1977), 1-38.

    Parameters
    ----------
    e_step : callable
        ``e_step(params) -> statistics`` with ``log_likelihood`` and ``total_weight``.
    m_step : callable
        ``m_step(statistics, params) -> (params, repaired)``.
    params : NamedTuple
        Where to start.
    max_iter : int
    tol : float
    eps : float
        Relative spacing of the floating-point type the E-step works in.
    previous : float
        Mean log-likelihood before the first iteration, for warm starts.
    monitor : SilentMonitor

    Returns
    -------
    EMResult
    """
    lower_bounds, converged, repaired, n_decreases = [], False, False, 0
    rounding = max(ROUNDING_STEPS * eps, ROUNDING_SHARE)
    repaired_before = False
    for n_iter in range(1, max_iter + 1):
        statistics = e_step(params)
        params, just_repaired = m_step(statistics, params)
        repaired = repaired | just_repaired
        bound = statistics.log_likelihood / statistics.total_weight
        change = bound - previous
        lower_bounds.append(bound)
        monitor.iteration(n_iter, bound, change)
        fell = change < -rounding * max(1.0, abs(bound))
        if fell and not np.any(repaired_before):
            n_decreases += 1
        repaired_before = just_repaired
        if abs(change) < tol:
            converged = True
            break
        previous = bound
    return EMResult(params, lower_bounds, converged, np.asarray(repaired), n_decreases)
