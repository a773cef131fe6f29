"""Compile ahead of the first fit, for containers and services."""

from functools import partial

import numpy as np

from fastem.estimators.hmm.gmm import GMM_FAMILIES
from fastem.families.categorical import CATEGORICAL
from fastem.families.family import WIDE_MIN_FEATURES
from fastem.families.multinomial import MULTINOMIAL
from fastem.families.poisson import POISSON
from fastem.kernels.steps import best_step
from fastem.models.decoding import make_decoder
from fastem.models.hmm import STEPS_OF
from fastem.models.kmeans import make_assign, make_lloyd, make_seeding
from fastem.models.mixture import FAMILIES, make_e_step, make_posterior
from fastem.models.observations import make_emissions, make_rows
from fastem.models.smoothing import LOG, SCALED, make_smoother
from fastem.models.stream import ViterbiStream
from fastem.models.sweeps import make_sweep

DTYPES = ("float64", "float32")
MIXTURE = "GaussianMixture"
_CONTINUOUS = {"GaussianHMM": FAMILIES, "GMMHMM": GMM_FAMILIES}
_DISCRETE = {
    "CategoricalHMM": CATEGORICAL,
    "MultinomialHMM": MULTINOMIAL,
    "PoissonHMM": POISSON,
}
MODELS = (MIXTURE, *_CONTINUOUS, *_DISCRETE)


def warmup(
    covariance_types=tuple(FAMILIES),
    dtypes=DTYPES,
    models=(MIXTURE,),
    n_features=None,
):
    """Compile kernels, or load them from the disk cache.

    Parameters
    ----------
    covariance_types : sequence of {'full', 'tied', 'diag', 'spherical'}
    dtypes : sequence of {'float64', 'float32'}
        Of the data; models of symbols and counts are compiled for int64 alone.
    models : sequence of str
        Names of fastem's classes. Mixtures alone by default, and k-means with them;
        chains take up to a minute, once for all hidden Markov models.
    n_features : int, optional
        How many the data have. Without it, kernels of few features and of many, which
        are others for some covariance types, are both compiled.

    Raises
    ------
    ValueError
        If a name is not one of these.

    Examples
    --------
    >>> import fastem
    >>> fastem.warmup(covariance_types=["diag"], dtypes=["float64"])
    """
    for _, build in warmup_steps(covariance_types, dtypes, models, n_features):
        build()


def warmup_steps(
    covariance_types=tuple(FAMILIES),
    dtypes=DTYPES,
    models=(MIXTURE,),
    n_features=None,
):
    """Return (name, build) pairs, one a kernel, for a caller that shows progress."""
    _check(covariance_types, tuple(FAMILIES), "covariance_types")
    dtypes = [np.dtype(dtype).name for dtype in dtypes]
    _check(dtypes, DTYPES, "dtypes")
    _check(models, MODELS, "models")
    steps = {}
    for dtype in dtypes:
        if MIXTURE in models:
            steps |= _kmeans_steps(dtype)
            steps |= _mixture_steps(covariance_types, dtype, n_features)
        for model in _CONTINUOUS:
            if model in models:
                # Starts are sought among rows in float64.
                steps |= _kmeans_steps("float64")
                for kind in covariance_types:
                    family = _CONTINUOUS[model][kind]
                    steps |= _emission_steps(family, dtype, n_features)
    for model, family in _DISCRETE.items():
        if model in models:
            steps |= _emission_steps(family, "int64", n_features)
    if set(models) - {MIXTURE}:
        steps |= _chain_steps()
    return list(steps.items())


def _kmeans_steps(dtype):
    return {
        f"k-means {make.__name__.removeprefix('make_')} {dtype}": partial(make, dtype)
        for make in (make_seeding, make_lloyd, make_assign)
    }


def _mixture_steps(covariance_types, dtype, n_features):
    return {
        f"{kind} {make.__name__.removeprefix('make_')} {dtype}{size}": partial(
            make, FAMILIES[kind], example, dtype
        )
        for kind in covariance_types
        for make in (make_e_step, make_posterior)
        for size, example in _sizes(FAMILIES[kind], n_features)
    }


def _emission_steps(family, dtype, n_features):
    return {f"rows {dtype}": partial(make_rows, dtype)} | {
        f"{family.name} emissions{size}": partial(make_emissions, family, example)
        for size, example in _sizes(family, n_features)
    }


def _sizes(family, n_features):
    """Return what tells apart the kernels of rows of few and of many features."""
    examples = (1, WIDE_MIN_FEATURES) if n_features is None else (n_features,)
    sizes = {
        " wide" if family.tile_functions(n) is family.wide else "": n for n in examples
    }
    return sizes.items()


def _chain_steps():
    """Return what all hidden Markov models run, the slow ways included."""
    return {
        "chain": partial(make_smoother, SCALED),
        "log chain": partial(make_smoother, LOG),
        "path": make_decoder,
        "sweep": partial(make_sweep, STEPS_OF[SCALED]),
        "log sweep": partial(make_sweep, STEPS_OF[LOG]),
        "path sweep": partial(make_sweep, (best_step,)),
        "stream": _stream,
    }


def _stream():
    stream = ViterbiStream(np.zeros(1), np.zeros((1, 1)))
    stream.push(np.zeros((1, 1)))
    stream.finish()


def _check(names, known, parameter):
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"{parameter} should be among {', '.join(known)}; got {unknown[0]!r}"
        )
