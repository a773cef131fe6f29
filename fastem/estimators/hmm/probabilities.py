"""Rows of probabilities: what they must be, and their most probable values."""

import numpy as np

SUM_TOLERANCE = 1e-5


def check_probabilities(values, shape, name):
    """Return probabilities as a float64 array.

    Raises
    ------
    ValueError
        For a wrong shape, entries that are negative or no numbers, and rows that do
        not sum to one.
    """
    values = np.array(values, np.float64, order="C")
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, but got {values.shape}")
    bad = np.argwhere(~(values >= 0))
    if bad.size:
        raise ValueError(
            f"{name} must hold probabilities, but the entry at {tuple(bad[0].tolist())}"
            f" is {values[tuple(bad[0])]}"
        )
    sums = values.sum(axis=-1)
    # np.allclose alone would take an eighth of a call on a short sequence.
    if not (np.abs(sums - 1) <= SUM_TOLERANCE).all():
        rows = "" if values.ndim == 1 else " rows"
        raise ValueError(f"{name}{rows} must sum to 1, but got {sums}")
    return values


def random_rows(shape, random_state):
    """Return rows of uniform draws, scaled to sum one."""
    rows = random_state.random_sample(shape)
    return rows / rows.sum(axis=1, keepdims=True)


def inverse_cdf(probabilities):
    """Return a function from uniform draws to entries of one row."""
    total = np.cumsum(probabilities)
    # Rounding may leave the sum short of a draw.
    total[np.flatnonzero(probabilities)[-1] :] = np.inf
    return lambda draws: total.searchsorted(draws, side="right")


def draw_columns(rows, which, random_state):
    """Return a column for each entry of ``which``, drawn from the row it names."""
    draws = random_state.random_sample(len(which))
    columns = np.empty(len(which), np.int64)
    for k, row in enumerate(rows):
        chosen = which == k
        columns[chosen] = inverse_cdf(row)(draws[chosen])
    return columns


def most_probable(counts, prior, old, fixed, *, keep_zeros=False):
    """Return the mode of Dirichlet posteriors over the last axis.

    Gauvain and Lee, *IEEE Trans. Speech Audio Process.* 2 (1994), eq. 24. A row that
    nothing was counted for keeps its values.

    Parameters
    ----------
    counts : ndarray of shape (..., F)
    prior : ndarray
        Parameters of the Dirichlet distributions; those less than one take away from
        the counts.
    old : ndarray of shape (..., F)
    fixed : ndarray of shape (..., F) of bool
        Entries to keep; the others share the rest of their row.
    keep_zeros : bool
        Whether what was zero remains so, prior or no prior.

    Returns
    -------
    probabilities : ndarray of shape (..., F)
    dropped : bool
        Whether a prior below one set a probability to zero, where its density has no
        bound: the objective then falls, which is no failure.
    """
    seen = counts.sum(axis=-1, keepdims=True) > 0
    raised = np.where(fixed, 0.0, np.maximum(prior - 1 + counts, 0.0))
    if keep_zeros:
        raised = np.where(old == 0, 0.0, raised)
    total = raised.sum(axis=-1, keepdims=True)
    room = np.maximum(1 - np.where(fixed, old, 0.0).sum(axis=-1, keepdims=True), 0.0)
    shares = raised / np.where(total > 0, total, 1.0) * room
    new = np.where(fixed | ~seen | (total == 0), old, shares)
    return new, bool(np.any((new == 0) & (old > 0) & (prior < 1)))


def log_dirichlet(probabilities, prior):
    """Return the log density but for a constant; zeros are left out."""
    positive = probabilities > 0
    logs = np.log(np.where(positive, probabilities, 1.0))
    return float(((prior - 1) * logs).sum())
