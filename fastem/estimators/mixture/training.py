"""What a fit of a mixture is, beside any other."""

import numpy as np

from fastem.em.loop import EMState, begin, run_em
from fastem.em.passes import PassStatistics
from fastem.em.stepwise import StepwiseState
from fastem.estimators.checkpoints import FitRecord
from fastem.estimators.fits import Fit
from fastem.execution.rows import SoFar
from fastem.families.gaussian import GaussianParams, GaussianStatistics
from fastem.models.mixture import MixtureParams

RECORDS = (
    FitRecord,
    EMState,
    SoFar,
    MixtureParams,
    GaussianParams,
    GaussianStatistics,
    StepwiseState,
    PassStatistics,
)


class MixtureFit(Fit):
    """One call of ``fit``.

    Parameters
    ----------
    start : callable
        Returns parameters to begin with and the mean log-likelihood before them.
    max_iter : int
    tol : float
    **shared
        Of :class:`~fastem.estimators.fits.Fit`.
    """

    def __init__(self, *, start, max_iter, tol, **shared):
        super().__init__(**shared)
        self._start, self._max_iter, self._tol = start, max_iter, tol

    def begin(self):  # noqa: D102
        params, previous = self._start()
        return begin(params, len(params.weights), previous)

    def iterate(self, state, e_step, m_step, recenter, on_iteration):  # noqa: D102
        # What batches met on the way is no sequence that has to rise.
        eps = np.inf if self.minibatch else self.model.regularization.eps
        return run_em(
            *(e_step, m_step, recenter, state),
            max_iter=self._max_iter,
            tol=self._tol,
            eps=eps,
            on_iteration=on_iteration,
        )
