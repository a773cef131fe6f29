"""What the gate times: calls that between them run the package's main kernels.

They use public names alone, so that they run on old versions, too. fastem is imported
where it is used: what a version lacks costs it that case and no other.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from benchmarks.data import blobs, chain


class Case(NamedTuple):
    """``make(*arguments)`` returns a call to time and a function that turns what it
    returns into numbers, by which versions are compared.
    """

    make: Callable
    arguments: tuple
    threads: int | None = 1  # None: as many as there are


def _mixture(covariance_type, shape, max_iter):
    from sklearn.exceptions import ConvergenceWarning

    from fastem import GaussianMixture

    warnings.simplefilter("ignore", ConvergenceWarning)
    X, start = blobs(*shape, covariance_type)
    model = GaussianMixture(
        shape[2],
        covariance_type=covariance_type,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=start.precisions,
        tol=0.0,
        max_iter=max_iter,
    )
    return X, model


def fit_mixture(covariance_type, shape, max_iter):
    X, model = _mixture(covariance_type, shape, max_iter)
    return partial(model.fit, X), lambda fitted: [fitted.lower_bound_]


def label(covariance_type, shape):
    X, model = _mixture(covariance_type, shape, 1)
    model.fit(X)
    return partial(model.predict, X), lambda labels: [labels.mean(), labels.std()]


def fit_kmeans(shape, max_iter):
    from fastem import KMeans

    X, _ = blobs(*shape)
    k = shape[2]
    model = KMeans(k, init=X[:k], n_init=1, max_iter=max_iter, tol=0)
    return partial(model.fit, X), lambda fitted: [fitted.inertia_]


def smooth(shape):
    from benchmarks.peers import fastem_chain

    X, start = chain(*shape)
    model = fastem_chain.make(start)
    return partial(model.score_samples, X), lambda got: [got[0], got[1].std()]


def decode(shape, repeats):
    """Decode a sequence whose scores the third cache holds, several times."""
    from benchmarks.peers import fastem_chain

    X, start = chain(*shape)
    model = fastem_chain.make(start)

    def call():
        for _ in range(repeats):
            decoded = model.decode(X)
        return decoded

    return call, lambda got: [got[0], got[1].mean()]


def baum_welch(shape, n_iter):
    from benchmarks.peers import fastem_chain

    X, start = chain(*shape)
    fit = partial(fastem_chain.fit, X, start, n_iter)
    return fit, lambda fitted: fitted.monitor_.history


FULL_8 = (fit_mixture, ("full", (50_000, 8, 16), 3))

# Rows, features, components; sizes for 15 to 45 ms on one Zen 3 core.
CASES = {
    "full-8": Case(*FULL_8),
    "full-32": Case(fit_mixture, ("full", (20_000, 32, 32), 2)),
    "diag-8": Case(fit_mixture, ("diag", (50_000, 8, 16), 3)),
    "tied-32": Case(fit_mixture, ("tied", (20_000, 32, 32), 2)),
    "predict-full-32": Case(label, ("full", (40_000, 32, 32))),
    "kmeans-8": Case(fit_kmeans, ((100_000, 8, 16), 8)),
    "smooth-4": Case(smooth, ((400_000, 2, 4),)),
    "smooth-16": Case(smooth, ((100_000, 4, 16),)),
    "decode-4": Case(decode, ((250_000, 2, 4), 4)),
    "decode-16": Case(decode, ((50_000, 4, 16), 3)),
    "baum-welch-4": Case(baum_welch, ((200_000, 2, 4), 3)),
    "full-8-threads": Case(*FULL_8, threads=None),
}
