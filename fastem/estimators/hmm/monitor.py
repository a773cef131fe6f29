"""What watches a fit, with the face of hmmlearn's monitor."""

import sys

from fastem.em.loop import ROUNDING_SHARE


class ConvergenceMonitor:
    """Record the iterations of a fit, report them, and say when to stop.

    A subclass may redefine :attr:`converged`; put an instance into a model's
    ``monitor_`` before fitting.

    Parameters
    ----------
    tol : float
        A fit stops when its objective rises by less.
    n_iter : int
        Largest number of iterations.
    verbose : bool
        Whether to print each iteration to standard error: its number, the
        log-likelihood and the change of that.

    Attributes
    ----------
    history : list of float
        Log-likelihoods at the parameters that iterations began with; with hard
        training the log-probabilities of data and best paths.
    objectives : list of float
        The same plus the log densities of priors, up to a constant: what EM raises.
    iter : int
        Iterations so far.

    Examples
    --------
    >>> from fastem.estimators.hmm.monitor import ConvergenceMonitor
    >>> monitor = ConvergenceMonitor(tol=0.1, n_iter=10, verbose=False)
    >>> for log_likelihood in (-3.0, -2.0, -1.95):
    ...     monitor.report(log_likelihood)
    >>> monitor.converged, monitor.status
    (True, 'converged')
    """

    _template = "{iter:>10d} {log_prob:>16.8f} {delta:>+16.8f}"

    def __init__(self, tol, n_iter, verbose):
        self.tol = tol
        self.n_iter = n_iter
        self.verbose = verbose
        self._reset()

    def __repr__(self):
        shown = sorted((k, v) for k, v in vars(self).items() if k[0] != "_")
        lines = "".join(f"    {name}={value},\n" for name, value in shown)
        return f"{type(self).__name__}(\n{lines})"

    def _reset(self):
        """Begin a fit."""
        self.iter = 0
        self.history = []
        self.objectives = []
        self._excused = False

    def report(self, log_prob, objective=None, repaired=False):
        """Record an iteration.

        Parameters
        ----------
        log_prob : float
            Log-likelihood at the parameters that the iteration began with.
        objective : float, optional
            What EM raises; the log-likelihood if there are no priors.
        repaired : bool
            Whether these parameters were repaired, which may lower the objective.
        """
        if self.verbose:
            delta = log_prob - self.history[-1] if self.history else float("nan")
            line = self._template.format(
                iter=self.iter + 1, log_prob=log_prob, delta=delta
            )
            print(line, file=sys.stderr)
        self.history.append(log_prob)
        self.objectives.append(log_prob if objective is None else objective)
        self._excused = repaired
        self.iter += 1

    @property
    def status(self):
        """Why the fit stopped: 'converged', 'decreased', 'max_iter'; None: not yet.

        An objective that falls by more than rounding explains is no convergence.
        """
        if len(self.objectives) >= 2:
            before, now = self.objectives[-2:]
            fell = now - before < -ROUNDING_SHARE * max(1.0, abs(now))
            if fell and not self._excused:
                return "decreased"
            if not fell and now - before < self.tol:
                return "converged"
        return "max_iter" if self.iter >= self.n_iter else None

    @property
    def converged(self):
        """Whether to stop, for whatever reason; see :attr:`status`."""
        return self.status is not None
