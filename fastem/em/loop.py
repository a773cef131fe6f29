"""The EM iteration, for any model that offers an E-step and an M-step."""

from typing import Any, NamedTuple

import numpy as np

# A fall of the log-likelihood by less than this share of its size is rounding: that of
# the kernels' type, or what nearly singular covariances make of float64's (measured
# 2e-13 where a feature's variance is reg_covar alone).
ROUNDING_STEPS = 64
ROUNDING_SHARE = 1e-9


class EMState(NamedTuple):
    """How far one start of EM has come; EM goes on from it as if never interrupted.

    Attributes
    ----------
    params : NamedTuple
    lower_bounds : ndarray of shape (n_iter,)
        Mean log-likelihood at the parameters each iteration began with.
    previous : float
        Mean log-likelihood before the first iteration, for warm starts.
    converged : bool
    repaired : ndarray of shape (K,) of bool
        Components that collapsed or emptied in some iteration.
    just_repaired : bool
        Whether some did in the last one.
    n_decreases : int
        Iterations whose log-likelihood fell by more than rounding explains, less
        those after a repair, which says the same.
    statistics : NamedTuple or None
        Of the last iteration, about the means of ``params``.
    """

    params: Any
    lower_bounds: np.ndarray
    previous: float
    converged: bool
    repaired: np.ndarray
    just_repaired: bool
    n_decreases: int
    statistics: Any

    @property
    def lower_bound(self):
        """The last mean log-likelihood, the one before if there is no iteration."""
        return float(self.lower_bounds[-1]) if len(self.lower_bounds) else self.previous

    @property
    def n_iter(self):
        """The number of iterations so far."""
        return len(self.lower_bounds)

    @property
    def rank(self):
        """By which starts compare: whole before repaired ones, then by likelihood."""
        return not np.any(self.repaired), self.lower_bound


def begin(params, n_components, previous=-np.inf):
    """Return the state before the first iteration."""
    nothing = np.zeros(n_components, bool)
    return EMState(params, np.empty(0), previous, False, nothing, False, 0, None)


def run_em(e_step, m_step, recenter, state, *, max_iter, tol, eps, on_iteration):
    """Iterate E and M steps until the mean log-likelihood changes by less than tol.

    Dempster, Laird and Rubin, *J. R. Statist. Soc. B* 39 (1977), 1-38.

    Parameters
    ----------
    e_step : callable
        ``e_step(params) -> statistics`` with ``log_likelihood`` and ``total_weight``.
    m_step : callable
        ``m_step(statistics, params) -> (params, repaired)``.
    recenter : callable
        ``recenter(statistics, params, new_params) -> statistics``.
    state : EMState
        Where to start, or to go on.
    max_iter : int
        Largest number of iterations, those behind ``state`` included.
    tol : float
    eps : float
        Relative spacing of the floating-point type the E-step works in.
    on_iteration : callable
        ``on_iteration(state, change)`` is called after each iteration; what is true
        ends the iterations.

    Returns
    -------
    EMState
    """
    rounding = max(ROUNDING_STEPS * eps, ROUNDING_SHARE)
    stopped = False
    while len(state.lower_bounds) < max_iter and not (state.converged or stopped):
        statistics = e_step(state.params)
        params, repaired = m_step(statistics, state.params)
        bound = statistics.log_likelihood / statistics.total_weight
        change = bound - state.lower_bound
        fell = change < -rounding * max(1.0, abs(bound))
        state = EMState(
            params,
            np.append(state.lower_bounds, bound),
            state.previous,
            bool(abs(change) < tol),
            state.repaired | repaired,
            bool(np.any(repaired)),
            state.n_decreases + int(fell and not state.just_repaired),
            recenter(statistics, state.params, params),
        )
        stopped = on_iteration(state, change)
    return state
