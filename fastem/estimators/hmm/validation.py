"""What hidden Markov models check of their input, and how they say what is wrong."""

import numpy as np
from sklearn.utils.validation import (
    _check_feature_names,
    check_array,
    validate_data,
)

from fastem.estimators.validation import check_finite
from fastem.models.hmm import Sequences

_BLOCK_ROWS = 1 << 16


def check_observations(estimator, X, *, reset, dtype=None, ensure_min_samples=1):
    """Return X as a two-dimensional array of finite numbers, copied if it must be.

    Float32, integers and memory maps stay what they are; kernels read them.

    Parameters
    ----------
    estimator : BaseEstimator
    X : array-like of shape (N, D)
    reset : bool
        Whether to record the features or to compare their names.
    dtype : numpy dtype, optional
        What integers in memory become.
    ensure_min_samples : int

    Raises
    ------
    ValueError
        For anything else; the first offending entry is named.
    """
    mapped = isinstance(X, np.memmap)
    options = {"ensure_all_finite": False, "ensure_min_samples": ensure_min_samples}
    if reset:
        X = validate_data(estimator, X, dtype="numeric", reset=True, **options)
    elif not _is_table_of_floats(X, ensure_min_samples) or hasattr(
        estimator, "feature_names_in_"
    ):
        _check_feature_names(estimator, X, reset=False)
        X = check_array(X, dtype="numeric", estimator=estimator, **options)
    if X.dtype.kind == "O":
        # None becomes NaN, of which the check below says where it is.
        X = X.astype(np.float64)
    if X.dtype.kind == "f":
        if X.dtype not in (np.float64, np.float32) or not X.dtype.isnative:
            X = X.astype(np.float64)
        check_finite(X, "X")
    elif X.dtype.kind in "iu" and X.dtype.isnative:
        X = X if mapped or dtype is None else X.astype(dtype)
    else:
        X = X.astype(np.int64)
    return np.require(X, requirements="A")


def _is_table_of_floats(X, min_rows):
    """Say whether scikit-learn's checks, which take 0.1 ms, would find nothing."""
    return (
        type(X) is np.ndarray
        and X.ndim == 2
        and X.dtype.kind == "f"
        and X.shape[0] >= min_rows
        and X.shape[1] >= 1
    )


def check_n_features(estimator, X, n_features):
    """Raise a ValueError if X has not the number of columns the model has."""
    if X.shape[1] != n_features:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{n_features} features as input"
        )


def check_counts(X, *, what="counts", largest=None, whole_floats=True):
    """Raise a ValueError that names the first entry that is no count.

    Parameters
    ----------
    X : ndarray of shape (N, D)
    what : str
        What entries are called.
    largest : int, optional
    whole_floats : bool
        Whether whole numbers may come as floats.
    """
    if X.dtype.kind == "f" and not whole_floats:
        raise ValueError(
            f"X is of {X.dtype.name}, but {what} should be integers{_first_fraction(X)}"
        )
    for begin in range(0, X.shape[0], _BLOCK_ROWS):
        rows = X[begin : begin + _BLOCK_ROWS]
        if rows.dtype.kind != "u":
            _refuse(rows < 0, rows, begin, f"is negative; {what} count from 0")
        if rows.dtype.kind == "f":
            bad = rows != np.floor(rows)
            _refuse(bad, rows, begin, f"is no integer; {what} should be integers")
        if largest is not None:
            text = f"is larger than {largest}, the largest symbol of the model"
            _refuse(rows > largest, rows, begin, text)


def _first_fraction(X):
    for begin in range(0, X.shape[0], _BLOCK_ROWS):
        rows = X[begin : begin + _BLOCK_ROWS]
        bad = np.argwhere(rows != np.floor(rows))
        if bad.size:
            return f", that of row {bad[0][0] + begin} is {rows[tuple(bad[0])]}"
    return ""


def _refuse(bad, rows, begin, trouble):
    where = np.argwhere(bad)
    if where.size:
        row, column = where[0]
        raise ValueError(
            f"The entry of X at row {row + begin}, column {column} is "
            f"{rows[row, column]}, which {trouble}."
        )


def make_sequences(
    X, lengths=None, sequence_weight=None, step_weight=None, states=None, n_states=None
):
    """Return rows and what is known of them, checked.

    Parameters
    ----------
    X : ndarray of shape (N, D)
    lengths : array-like of shape (n_sequences,), optional
        Positive integers that sum to N; one sequence without.
    sequence_weight : array-like of shape (n_sequences,), optional
    step_weight : array-like of shape (N,), optional
    states : array-like of shape (N,), optional
        Integers less than ``n_states``, -1 for unknown.
    n_states : int, optional

    Returns
    -------
    Sequences

    Raises
    ------
    ValueError
        For anything else; the first offending entry is named.
    """
    bounds = _check_lengths(lengths, len(X))
    known = check_known(
        *(sequence_weight, step_weight, states),
        n_sequences=len(bounds) - 1,
        n_rows=len(X),
        n_states=n_states,
    )
    return Sequences(X, bounds, *known)


def check_known(
    sequence_weight=None,
    step_weight=None,
    states=None,
    *,
    n_sequences=None,
    n_rows=None,
    n_states=None,
):
    """Return weights and states of :func:`make_sequences`, of size zero for None.

    Their sizes are checked where they are known.
    """
    return (
        _check_weight(sequence_weight, n_sequences, "sequence_weight", "sequence"),
        _check_weight(step_weight, n_rows, "step_weight", "row"),
        _check_states(states, n_rows, n_states),
    )


def row_weights(sequences):
    """Return how much each row counts, (N,), of size zero for ones."""
    if not sequences.sequence_weight.size:
        return sequences.step_weight
    weight = np.repeat(sequences.sequence_weight, np.diff(sequences.bounds))
    return weight * sequences.step_weight if sequences.step_weight.size else weight


def _check_lengths(lengths, n_rows):
    if lengths is None:
        return np.array([0, n_rows])
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or lengths.size == 0:
        raise ValueError(
            "lengths should list the number of rows of each sequence, but has the "
            f"shape {lengths.shape}"
        )
    if lengths.dtype.kind not in "iu":
        raise ValueError(f"lengths should be integers, but are {lengths.dtype.name}")
    short = np.flatnonzero(lengths < 1)
    if short.size:
        raise ValueError(
            f"lengths should be positive, but lengths[{short[0]}] is "
            f"{lengths[short[0]]}; leave empty sequences out"
        )
    bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if bounds[-1] != n_rows:
        raise ValueError(
            f"lengths sum to {bounds[-1]}, but X has {n_rows} rows; they should agree"
        )
    return bounds


def _check_weight(weight, size, name, of):
    if weight is None:
        return np.empty(0)
    weight = np.array(weight, np.float64)
    if weight.shape != (weight.size if size is None else size,):
        size = "N" if size is None else size
        raise ValueError(
            f"{name} should have the shape ({size},), one number for each {of}, but "
            f"has {weight.shape}"
        )
    bad = np.flatnonzero(~((weight >= 0) & np.isfinite(weight)))
    if bad.size:
        raise ValueError(
            f"{name} should be finite numbers that are not negative, but that of {of} "
            f"{bad[0]} is {weight[bad[0]]}"
        )
    if not weight.any():
        raise ValueError(f"{name} is zero for every {of}: there is nothing to fit.")
    return weight


def _check_states(states, n_rows, n_states):
    if states is None:
        return np.empty(0, np.int64)
    states = np.asarray(states)
    if states.shape != (states.size if n_rows is None else n_rows,):
        n_rows = "N" if n_rows is None else n_rows
        raise ValueError(
            f"states should have the shape ({n_rows},), one state for each row, but "
            f"has {states.shape}"
        )
    if states.dtype.kind not in "iu":
        raise ValueError(
            f"states should be integers, -1 for unknown, but are {states.dtype.name}"
        )
    bad = np.flatnonzero((states < -1) | (states >= n_states))
    if bad.size:
        raise ValueError(
            f"states should be less than {n_states}, or -1 for unknown, but that of "
            f"row {bad[0]} is {states[bad[0]]}"
        )
    return states.astype(np.int64)


def broadcast_prior(value, shape, name):
    """Return a prior's numbers in the shape of what they are for.

    A list with an entry for each state is taken as that where NumPy's rules do not
    make it one with an entry for each feature.
    """
    value = np.asarray(value, np.float64)
    if value.ndim == 1 and len(shape) > 1 and value.shape[0] not in (1, shape[-1]):
        value = value.reshape(-1, *[1] * (len(shape) - 1))
    if value.ndim == 2 and value.shape == (shape[0], 1):
        value = value.reshape(-1, *[1] * (len(shape) - 1))
    try:
        value = np.broadcast_to(value, shape)
    except ValueError:
        raise ValueError(
            f"{name} should have the shape {shape}, or one that broadcasts to it, but "
            f"has {value.shape}"
        ) from None
    if not np.isfinite(value).all():
        raise ValueError(f"{name} should be finite numbers, but is {value}")
    return value


def check_fixed(fixed, shapes, frozen):
    """Return masks of the entries to keep, by parameter.

    Parameters
    ----------
    fixed : dict or None
    shapes : dict
        The shape of each parameter.
    frozen : set
        Parameters that are not learned at all.

    Raises
    ------
    ValueError
        For names of no parameter, and for masks that are not of bool or do not
        broadcast to the parameter.
    """
    fixed = {} if fixed is None else fixed
    if not isinstance(fixed, dict):
        raise ValueError(
            f"fixed should be a dictionary of masks by parameter, but is {fixed!r}"
        )
    unknown = sorted(set(fixed) - set(shapes))
    if unknown:
        raise ValueError(
            f"fixed names {', '.join(map(repr, unknown))}, but the parameters are "
            f"{', '.join(map(repr, shapes))}"
        )
    masks = {}
    for name, shape in shapes.items():
        mask = np.asarray(True if name in frozen else fixed.get(name, False))
        if mask.dtype != bool:
            raise ValueError(
                f"fixed[{name!r}] should be a mask of bool, but is of {mask.dtype.name}"
            )
        try:
            masks[name] = np.broadcast_to(mask, shape)
        except ValueError:
            raise ValueError(
                f"fixed[{name!r}] has the shape {mask.shape}, which does not broadcast "
                f"to {shape}"
            ) from None
    return masks


def describe_impossible(row, bounds):
    """Return where an observation is that no state allows."""
    sequence = int(np.searchsorted(bounds, row, side="right")) - 1
    return (
        f"No state allows the observation of sequence {sequence} at step "
        f"{row - bounds[sequence]} (row {row} of X) after the steps before it."
    )


def refuse_impossible(row, bounds):
    """Raise a ValueError if there is a row that no state allows."""
    if row >= 0:
        raise ValueError(describe_impossible(row, bounds))
