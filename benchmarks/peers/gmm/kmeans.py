"""One iteration of k-means from the same centres, fastem against scikit-learn."""

from functools import partial

import numpy as np
import sklearn.cluster

import fastem
from benchmarks.data import overlapping
from benchmarks.peers.gmm.cases import KMEANS
from benchmarks.peers.interface import check_agreement
from benchmarks.peers.plan import compare
from benchmarks.peers.scikit_learn_face import fit_quietly
from benchmarks.peers.timing import alternate, spread_per_iteration, time_iterations


def rows(plan):
    for case in plan.select(KMEANS):
        # In one cloud no cluster empties, which the two would fill in their own ways,
        # and centres drawn among the rows take long to settle.
        X, _ = overlapping(*case.shape)
        chosen = np.random.default_rng(1).choice(
            len(X), size=case.n_components, replace=False
        )
        estimators = (sklearn.cluster.KMeans, fastem.KMeans)
        theirs, ours = alternate(
            plan.repeats,
            *(partial(_run, each, X, X[chosen], case.n_iter) for each in estimators),
        )
        for _, model in theirs + ours:
            check_agreement("iterations done", model.n_iter_, case.n_iter, 0)
            check_agreement("inertia", model.inertia_, ours[0][1].inertia_, 1e-9)
        yield {
            "N, D, K": case.size,
            **compare(
                spread_per_iteration([timing for timing, _ in theirs]),
                spread_per_iteration([timing for timing, _ in ours]),
                plan.asked(case.asked),
            ),
            "inertia": f"{ours[0][1].inertia_:.10g}",
        }


def _run(estimator, X, centres, n_iter):
    def fit(max_iter):
        model = estimator(
            n_clusters=len(centres), init=centres, n_init=1, max_iter=max_iter, tol=0
        )
        return fit_quietly(model, X)

    return time_iterations(fit, n_iter)
