"""``predict`` and ``score_samples`` of equal models, fastem against scikit-learn."""

from functools import partial

import numpy as np
import sklearn.mixture

import fastem
from benchmarks.data import blobs
from benchmarks.peers.gmm.cases import MIXTURES
from benchmarks.peers.interface import check_agreement
from benchmarks.peers.plan import compare
from benchmarks.peers.scikit_learn_face import fit_from
from benchmarks.peers.timing import alternate, spread, stopwatch

ASKED = 20
# Rows midway between two components may fall to either by rounding.
ALLOWED_SHARE_OF_OTHER_LABELS = 1e-6


def rows(plan):
    for case in plan.select(MIXTURES):
        X, start = blobs(*case.shape, case.covariance_type)
        models = [
            fit_from(estimator, X, start, case.covariance_type, max_iter=2)
            for estimator in (sklearn.mixture.GaussianMixture, fastem.GaussianMixture)
        ]
        for method, check in CHECKS.items():
            calls = [partial(stopwatch, getattr(m, method), X) for m in models]
            theirs, ours = alternate(plan.repeats, *calls)
            check(theirs[0][1], ours[0][1])
            yield {
                "method": method,
                "N, D, K": case.size,
                "covariance": case.covariance_type,
                **compare(
                    spread([seconds for seconds, _ in theirs]),
                    spread([seconds for seconds, _ in ours]),
                    plan.asked(ASKED),
                ),
            }


def _check_labels(theirs, ours):
    equal = np.mean(theirs == ours)
    check_agreement("share of equal labels", equal, 1, ALLOWED_SHARE_OF_OTHER_LABELS)


def _check_scores(theirs, ours):
    check_agreement("score_samples", theirs, ours, 1e-9)


CHECKS = {"predict": _check_labels, "score_samples": _check_scores}
