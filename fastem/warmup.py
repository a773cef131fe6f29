"""Compile ahead of the first fit, for containers and services."""

import numpy as np

from fastem.models.kmeans import make_assign, make_lloyd, make_seeding
from fastem.models.mixture import FAMILIES, make_e_step, make_posterior

DTYPES = ("float64", "float32")


def warmup(covariance_types=tuple(FAMILIES), dtypes=DTYPES):
    """Compile the kernels of mixtures and k-means, or load them from the disk cache.

    Parameters
    ----------
    covariance_types : sequence of {'full', 'tied', 'diag', 'spherical'}
    dtypes : sequence of {'float64', 'float32'}

    Raises
    ------
    ValueError
        If a name is not one of these.

    Examples
    --------
    >>> import fastem
    >>> fastem.warmup(covariance_types=["diag"], dtypes=["float64"])
    """
    for _, build in warmup_steps(covariance_types, dtypes):
        build()


def warmup_steps(covariance_types=tuple(FAMILIES), dtypes=DTYPES):
    """Return (name, build) pairs, one a kernel, for a caller that shows progress."""
    _check(covariance_types, tuple(FAMILIES), "covariance_types")
    dtypes = [np.dtype(dtype).name for dtype in dtypes]
    _check(dtypes, DTYPES, "dtypes")
    steps = []
    for dtype in dtypes:
        for make in (make_seeding, make_lloyd, make_assign):
            name = f"k-means {make.__name__.removeprefix('make_')} {dtype}"
            steps.append((name, lambda make=make, dtype=dtype: make(dtype, "C")))
        for family in covariance_types:
            for make in (make_e_step, make_posterior):
                name = f"{family} {make.__name__.removeprefix('make_')} {dtype}"
                steps.append(
                    (name, lambda make=make, f=family, d=dtype: make(f, d, "C"))
                )
    return steps


def _check(names, known, parameter):
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"{parameter} should be among {', '.join(known)}; got {unknown[0]!r}"
        )
