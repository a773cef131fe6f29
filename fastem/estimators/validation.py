"""What all estimators check of their input, and how they say what is wrong."""

from contextlib import contextmanager

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import _check_sample_weight, validate_data

FLOATS = [np.float64, np.float32]
_FEATURE_ATTRIBUTES = ("n_features_in_", "feature_names_in_")


def check_rows(estimator, X, *, reset, finite=True, **options):
    """Return X as a 2-D float array that kernels read, copied only where it must be.

    Raises
    ------
    ValueError
        For anything but numbers in two dimensions, finite ones if so asked; the first
        offending entry is named.
    """
    X = validate_data(
        estimator, X, dtype=FLOATS, reset=reset, ensure_all_finite=False, **options
    )
    if finite:
        check_finite(X, "X")
    return np.require(X, requirements="A")


@contextmanager
def features_kept_on_error(estimator):
    """Put back what the last fit said of its features, if this one fails or is stopped.

    Else an estimator without parameters would pass for a fitted one.
    """
    before = {name: vars(estimator).get(name) for name in _FEATURE_ATTRIBUTES}
    try:
        yield
    except BaseException:  # Ctrl-C, too
        for name, value in before.items():
            if value is not None:
                setattr(estimator, name, value)
            elif hasattr(estimator, name):
                delattr(estimator, name)
        raise


def check_finite(X, name, numbers=0):
    """Raise a ValueError that names the first NaN or infinity of a 2-D array.

    Rows are numbered from ``numbers`` on, or by it, (N,); with None, which row it is
    remains unsaid.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum(dtype=X.dtype)):
            return
    for start in range(0, X.shape[0], 1 << 14):
        bad = np.argwhere(~np.isfinite(X[start : start + (1 << 14)]))
        if bad.size:
            row, column = bad[0][0] + start, bad[0][1]
            value = X[row, column]
            what = "NaN" if np.isnan(value) else "infinity"
            where = f"column {column}"
            if numbers is not None:
                number = numbers[row] if np.ndim(numbers) else numbers + row
                where = f"row {number}, {where}"
            raise ValueError(
                f"Input {name} contains {what}: the first is at {where}. Remove or "
                "impute such values first."
            )


def check_weights(sample_weight, X):
    """Return the weights as an array of X's dtype, of size zero where all are one.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, all are zero, or their number is wrong.
    """
    if sample_weight is None:
        return np.empty(0, X.dtype)
    refuse_infinite_weights(np.asarray(sample_weight))
    weight = _check_sample_weight(sample_weight, X, dtype=X.dtype)
    refuse_bad_weights(weight)
    return weight


def refuse_infinite_weights(weight):
    """Raise a ValueError that names the first weight that is not finite."""
    if weight.dtype.kind == "f" and not np.isfinite(weight).all():
        row = np.flatnonzero(~np.isfinite(weight))[0]
        what = "NaN" if np.isnan(weight.flat[row]) else "infinity"
        raise ValueError(
            f"Input sample_weight contains {what}: the first is at row {row}."
        )


def refuse_bad_weights(weight):
    """Raise a ValueError that names the first weight that no row can have."""
    refuse_infinite_weights(weight)
    negative = np.flatnonzero(weight < 0)
    if negative.size:
        raise ValueError(
            f"Negative values in sample_weight: the first is {weight[negative[0]]} at "
            f"row {negative[0]}. Weights count rows, so they must be zero or more."
        )
    if not weight.any():
        raise ValueError(
            "sample_weight is zero for every row: there is nothing to fit."
        )


def check_shape(array, shape, name, **options):
    """Return a parameter as a finite float64 array of its own, of the given shape."""
    array = check_array(
        array,
        dtype=np.float64,
        ensure_2d=False,
        allow_nd=True,
        copy=True,
        input_name=name,
        **options,
    )
    if array.shape != shape:
        raise ValueError(f"{name} should have the shape {shape}, but got {array.shape}")
    return array
