"""How much memory ``fit`` adds to what its data take, default seeding included."""

from functools import partial

import numpy as np

import fastem
from benchmarks.peers.gmm.cases import MEMORY
from benchmarks.peers.memory import MB, megabytes_added
from benchmarks.peers.scikit_learn_face import fit_quietly

ALLOWED_MB = 40


def rows(plan):
    for case in plan.select(MEMORY):
        megabytes_added(_prepare, case)  # compiles, so that the next process only loads
        added = megabytes_added(_prepare, case)
        yield {
            "N, D, K": case.size,
            "data MB": case.n_rows * case.n_features * 8 / MB,
            "added MB": added,
            "allowed MB": ALLOWED_MB,
            "met": None if plan.smoke or added is None else added <= ALLOWED_MB,
        }


def _prepare(case):
    rng = np.random.default_rng(0)
    model = fastem.GaussianMixture(case.n_components, max_iter=3, random_state=0)
    few = rng.normal(size=(100 * case.n_features, case.n_features))
    fit_quietly(model, few)  # loads kernels
    X = rng.standard_normal((case.n_rows, case.n_features))
    return partial(fit_quietly, model, X)
