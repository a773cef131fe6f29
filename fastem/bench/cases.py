"""Which kernels are measured, on which data."""

import functools
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from fastem.bench import work
from fastem.bench.probes import DTYPES, FLOAT64
from fastem.bench.stages import chain_stage, mixture_stage, rows_of
from fastem.estimators.hmm.validation import make_sequences
from fastem.families import full_tiles
from fastem.families.family import WIDE_MIN_FEATURES
from fastem.families.gaussian_diag import DIAG
from fastem.models import hmm, mixture
from fastem.models.decoding import viterbi
from fastem.models.kmeans import Centers, centers_frame
from fastem.models.kmeans import e_step as kmeans_e_step
from fastem.models.stretches import Reach

# N, D, K and the covariance type.
MIXTURES = (
    (1_000_000, 2, 8, "full"),
    (1_000_000, 8, 16, "full"),
    (200_000, 32, 32, "full"),
    (50_000, 128, 32, "full"),
    (1_000_000, 8, 16, "diag"),
    (200_000, 64, 64, "diag"),
    (200_000, 64, 64, "spherical"),
    (200_000, 32, 32, "tied"),
)
KMEANS = ((1_000_000, 2, 8), (1_000_000, 8, 16), (50_000, 128, 32))
# K, D and T.
CHAINS = (
    (2, 1, 1_000_000),
    (4, 2, 1_000_000),
    (16, 4, 200_000),
    (64, 8, 50_000),
)
# With so many features kernels spare the arithmetic of what is negligible.
SPARING_FEATURES = {
    "full": full_tiles.GATHER_MIN_FEATURES,
    "tied": 0,
    "diag": WIDE_MIN_FEATURES,
    "spherical": WIDE_MIN_FEATURES,
}
QUICK_SHARE = 10
# How the names of stages begin.
_STAGE = "stage"

STAY = 0.9  # the probability that a chain stays in its state
APART = 3.0  # neighbouring means, in standard deviations


class Case(NamedTuple):
    """A kernel on some rows, and what it costs."""

    name: str
    unit: str
    n_rows: int
    dtype: str
    work: work.Work  # of one row
    prepare: Callable  # returns the call


def cases(*, quick=False):
    """Return all cases, those on the same data next to each other, stages at the end.

    Examples
    --------
    >>> from fastem.bench.cases import cases
    >>> cases()[0].name
    'e-step full float64 1000000,2,8'
    """
    share = QUICK_SHARE if quick else 1
    return [
        *(
            case
            for n_rows, *shape in MIXTURES
            for dtype in DTYPES
            for case in _mixture_cases(n_rows // share, *shape, dtype)
        ),
        *(_kmeans_case(n_rows // share, *shape) for n_rows, *shape in KMEANS),
        *(
            case
            for K, D, n_rows in CHAINS
            for case in _chain_cases(K, D, n_rows // share)
        ),
        *_stage_cases(),
    ]


def select(every, patterns):
    """Return those whose names have one of the patterns in them.

    Without patterns, these are all but stages, which only patterns select that begin
    as their names do.

    Parameters
    ----------
    every : list of Case
    patterns : sequence of str
        As of a shell, such as ``e-step*float32``.

    Raises
    ------
    ValueError
        If a pattern is in no name.

    Examples
    --------
    >>> from fastem.bench.cases import cases, select
    >>> len(select(cases(), ["viterbi", "predict*diag"]))
    6
    """
    for pattern in patterns:
        if not any(_matches(case, pattern) for case in every):
            raise ValueError(
                f"no kernel's name has {pattern!r} in it; names are such as "
                + ", ".join(repr(case.name) for case in every[:: len(every) // 3])
            )
    if not patterns:
        return [case for case in every if not is_stage(case)]
    return [
        case for case in every if any(_matches(case, pattern) for pattern in patterns)
    ]


def is_stage(kernel):
    """Say whether this is a stage, by the name."""
    return kernel.name.startswith(_STAGE)


def _matches(case, pattern):
    before = "" if is_stage(case) else "*"
    return fnmatchcase(case.name, f"{before}{pattern}*")


def release():
    """Let go of the last data."""
    _rows.cache_clear()
    _chain.cache_clear()


# -------------------------------------------------------------------------- mixtures


def _mixture_cases(n_rows, D, K, covariance_type, dtype):
    what = f"{covariance_type} {dtype} {n_rows},{D},{K}"
    itemsize = np.dtype(dtype).itemsize
    named = functools.partial(Case, unit="row", n_rows=n_rows, dtype=dtype)
    data = functools.partial(_rows, n_rows, D, K, dtype)
    counts = covariance_type, D, K, itemsize
    yield named(
        f"e-step {what}",
        work=work.e_step(*counts),
        prepare=functools.partial(_e_step, covariance_type, data),
    )
    if dtype == FLOAT64:
        yield named(
            f"predict {what}",
            work=work.predict(*counts),
            prepare=functools.partial(_posterior, "labels", covariance_type, data),
        )
        yield named(
            f"score {what}",
            work=work.score(*counts),
            prepare=functools.partial(
                _posterior, "log_likelihood", covariance_type, data
            ),
        )
    if D >= SPARING_FEATURES[covariance_type]:
        yield named(
            f"e-step {what} overlapping",
            work=work.e_step(*counts),
            prepare=functools.partial(
                _e_step, covariance_type, functools.partial(data, apart=False)
            ),
        )


def _e_step(covariance_type, data):
    X, means = data()
    family = mixture.FAMILIES[covariance_type]
    params = _mixture_params(family, means)
    return functools.partial(mixture.e_step, family, params, X)


def _posterior(output, covariance_type, data):
    X, means = data()
    family = mixture.FAMILIES[covariance_type]
    params = _mixture_params(family, means)
    return functools.partial(mixture.posterior, family, params, X, **{output: True})


def _mixture_params(family, means):
    n_components, n_features = means.shape
    components = family.from_variances(means, np.ones(n_features))
    return mixture.MixtureParams(np.full(n_components, 1 / n_components), components)


def _kmeans_case(n_rows, D, K):
    return Case(
        f"k-means {FLOAT64} {n_rows},{D},{K}",
        "row",
        n_rows,
        FLOAT64,
        work.kmeans_pass(D, K, np.dtype(FLOAT64).itemsize),
        functools.partial(_kmeans, n_rows, D, K),
    )


def _kmeans(n_rows, D, K):
    X, means = _rows(n_rows, D, K, FLOAT64)
    params = Centers(means, centers_frame(means, X.dtype))
    return functools.partial(kmeans_e_step, params, X, np.empty(0, X.dtype))


@functools.lru_cache(maxsize=1)
def _rows(n_rows, D, K, dtype, apart=True):
    """Return rows of blobs of unit variance and means near theirs, or of one cloud.

    Blobs are mostly far apart; of the cloud, every row is of all components.
    """
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, D), dtype)
    means = rng.normal(scale=4.0 if apart else 0.01, size=(K, D))
    if apart:
        X += means.astype(dtype)[rng.integers(K, size=n_rows)]
        means += 0.5 * rng.normal(size=means.shape)
    return X, means


# ---------------------------------------------------------------------------- chains


def _chain_cases(K, D, n_rows):
    for name, count, make in (
        ("hmm forward", work.hmm_forward, _forward),
        ("hmm smoothing", work.hmm_smoothing, _smoothing),
        ("viterbi", work.viterbi, _viterbi),
        ("baum-welch", work.baum_welch, _baum_welch),
    ):
        yield Case(
            f"{name} {K},{D},{n_rows}",
            "step",
            n_rows,
            FLOAT64,
            count(D, K),
            functools.partial(make, K, D, n_rows),
        )


def _forward(*size):
    return functools.partial(hmm.posterior, DIAG, *_chain(*size))


def _smoothing(*size):
    return functools.partial(hmm.posterior, DIAG, *_chain(*size), smoothed=True)


def _viterbi(*size):
    # What was learned of how soon the chain forgets is kept, as a fit keeps it.
    return functools.partial(viterbi, DIAG, *_chain(*size), Reach())


def _baum_welch(*size):
    return functools.partial(hmm.e_step, DIAG, *_chain(*size), hmm.Effort())


@functools.lru_cache(maxsize=1)
def _chain(K, D, n_rows):
    """Return a model with diagonal emissions and one sequence drawn from it."""
    rng = np.random.default_rng(0)
    means = APART * (rng.normal(size=(K, D)) if D > 1 else np.arange(K)[:, None])
    states = np.where(rng.random(n_rows) < STAY, 0, rng.integers(1, K, n_rows))
    states = states.cumsum() % K
    X = rng.normal(size=(n_rows, D))
    X += means[states]
    transmat = np.full((K, K), (1 - STAY) / (K - 1))
    np.fill_diagonal(transmat, STAY)
    params = hmm.HMMParams(
        np.full(K, 1 / K), transmat, DIAG.from_variances(means, np.ones(D))
    )
    return params, make_sequences(X)


# ---------------------------------------------------------------------------- stages


def _stage_cases():
    for _, D, K, covariance_type in MIXTURES:
        for name, done in work.mixture_stages(covariance_type, D, K).items():
            n_rows = rows_of(done)
            yield Case(
                f"{_STAGE} {covariance_type} {name} {D},{K}",
                "row",
                n_rows,
                FLOAT64,
                done,
                functools.partial(mixture_stage, name, covariance_type, D, K, n_rows),
            )
    for K, D, _ in CHAINS:
        for name, done in work.chain_stages(D, K).items():
            n_rows = rows_of(done)
            yield Case(
                f"{_STAGE} chain {name} {K},{D}",
                "step",
                n_rows,
                FLOAT64,
                done,
                functools.partial(chain_stage, name, K, D, n_rows),
            )
