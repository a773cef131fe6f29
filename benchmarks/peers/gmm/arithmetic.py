"""How fast fastem computes where nothing can be skipped, and how it grows with N."""

from dataclasses import replace
from functools import partial

import numpy as np

import fastem
from benchmarks.data import blobs, overlapping
from benchmarks.peers import fastem_adapter
from benchmarks.peers.gmm.cases import DENSE, SCALING
from benchmarks.peers.interface import DisagreementError
from benchmarks.peers.scikit_learn_face import fit_from
from benchmarks.peers.timing import (
    alternate,
    spread,
    spread_per_iteration,
    stopwatch,
)

ASKED_OF_DGEMM = 0.75
ALLOWED_GROWTH = 1.1  # linear but for a tenth
MATRIX_SIZE = 2048
NEGLIGIBLE = 1e-17  # responsibilities below this are spared arithmetic


def dense(plan):
    """Yield the rate of EM as a share of the rate of a matrix product."""
    multiply = partial(_seconds_of_dgemm, 256 if plan.smoke else MATRIX_SIZE)
    for case in plan.select(DENSE):
        X, start = overlapping(*case.shape, case.covariance_type)
        _check_nothing_is_negligible(X, start, case)
        run = partial(fastem_adapter.run, X, start, case.covariance_type, case.n_iter)
        products, results = alternate(plan.repeats, multiply, run)
        seconds = spread_per_iteration([result.timing for result in results]).minimum
        rate = _operations(case) / seconds
        peak = 2 * multiply.args[0] ** 3 / spread(products).minimum
        yield {
            "N, D, K": case.size,
            "fastem min s": seconds,
            "fastem GF/s": rate / 1e9,
            "dgemm GF/s": peak / 1e9,
            "share of dgemm": rate / peak,
            "asked share": ASKED_OF_DGEMM,
            "met": None if plan.smoke else rate >= ASKED_OF_DGEMM * peak,
        }


def _operations(case):
    """Count a triangular product and a symmetric rank update a row and component."""
    n_rows, n_features, n_components = case.shape
    return 2 * n_features * (n_features + 1) * n_rows * n_components


def _seconds_of_dgemm(size):
    """Return the best of a few products, into memory already touched."""
    left, right, product = np.random.default_rng(0).normal(size=(3, size, size))
    return min(stopwatch(np.matmul, left, right, product)[0] for _ in range(5))


def _check_nothing_is_negligible(X, start, case):
    model = fit_from(
        fastem.GaussianMixture, X, start, case.covariance_type, case.n_iter
    )
    smallest = model.predict_proba(X[:10_000]).min()
    if not smallest > NEGLIGIBLE:
        raise DisagreementError(f"responsibilities of {smallest:.0e}: data not dense")


def scaling(plan):
    """Yield how an iteration grows where rows do."""
    for case in plan.select(SCALING):
        larger = replace(case, n_rows=4 * case.n_rows)
        fewer, more = alternate(
            plan.repeats, *(_blobs_runner(each) for each in (case, larger))
        )
        fewer_seconds = spread_per_iteration([result.timing for result in fewer])
        more_seconds = spread_per_iteration([result.timing for result in more])
        growth = more_seconds.minimum / (4 * fewer_seconds.minimum)
        yield {
            "N, D, K": case.size,
            "covariance": case.covariance_type,
            "N rows, min s": fewer_seconds.minimum,
            "4 N rows, min s": more_seconds.minimum,
            "growth over linear": growth,
            "allowed": ALLOWED_GROWTH,
            "met": None if plan.smoke else growth <= ALLOWED_GROWTH,
        }


def _blobs_runner(case):
    X, start = blobs(*case.shape, case.covariance_type)
    return partial(fastem_adapter.run, X, start, case.covariance_type, case.n_iter)
