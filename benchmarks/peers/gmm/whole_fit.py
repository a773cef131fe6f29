"""``fit`` as a user calls it: default seeding, default tolerance, same random state."""

from functools import partial

import sklearn.mixture

import fastem
from benchmarks.data import blobs
from benchmarks.peers.gmm.cases import WHOLE_FITS
from benchmarks.peers.plan import compare
from benchmarks.peers.scikit_learn_face import fit_quietly
from benchmarks.peers.timing import alternate, spread, stopwatch


def rows(plan):
    for case in plan.select(WHOLE_FITS):
        X, _ = blobs(*case.shape)
        theirs, ours = alternate(
            plan.repeats,
            partial(_timed_fit, sklearn.mixture.GaussianMixture, X, case),
            partial(_timed_fit, fastem.GaussianMixture, X, case),
        )
        # The two draw random numbers differently, so they may climb different hills:
        # both heights and both numbers of iterations are shown.
        _, their_model = theirs[0]
        _, our_model = ours[0]
        yield {
            "N, D, K": case.size,
            "covariance": case.covariance_type,
            **compare(
                spread([seconds for seconds, _ in theirs]),
                spread([seconds for seconds, _ in ours]),
                plan.asked(case.asked),
            ),
            "peer log-likelihood": f"{their_model.lower_bound_:.8g}",
            "fastem log-likelihood": f"{our_model.lower_bound_:.8g}",
            "peer iterations": their_model.n_iter_,
            "fastem iterations": our_model.n_iter_,
        }


def _timed_fit(estimator, X, case):
    model = estimator(
        n_components=case.n_components,
        covariance_type=case.covariance_type,
        random_state=0,
    )
    return stopwatch(fit_quietly, model, X)
