"""A uniform sample of the rows of a source, by one pass."""

import numpy as np
from sklearn.utils import check_random_state

_DRAWS = 1024


def sample_rows(source, n_rows, random_state=None):
    """Draw rows without replacement, each set of rows as likely as any other.

    Algorithm L of K.-H. Li, *ACM Trans. Math. Softw.* 20 (1994), 481-493. The sample
    depends on the rows and the random state, not on how the rows come in blocks.

    Parameters
    ----------
    source : Source
    n_rows : int
        Rows to draw; all, if there are fewer.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    rows : ndarray of shape (min(n_rows, N), D)
        In the order in which the source has them.
    positions : ndarray of shape (min(n_rows, N),) of int
        Where in the source they are.
    n_seen : int
        The number of rows of the source, N.

    Examples
    --------
    >>> import numpy as np
    >>> from fastem.data.source import open_source
    >>> source = open_source([np.eye(3), np.ones((2, 3))])
    >>> rows, positions, n_seen = sample_rows(source, 2, 0)
    >>> rows.shape, n_seen
    ((2, 3), 5)
    """
    replacements = _replacements(n_rows, check_random_state(random_state))
    first_rows, n_held, n_seen = [], 0, 0
    sample = positions = None
    for X, _ in source.blocks():
        begin, n_seen = n_seen, n_seen + len(X)
        if n_held < n_rows:
            # A copy, for a view would keep the whole block in memory.
            first_rows.append(X[: n_rows - n_held].copy())
            n_held += len(first_rows[-1])
        if n_seen <= n_rows:
            continue  # and nothing is drawn where all rows are taken
        if sample is None:
            taken_at, slots = next(replacements)
            sample, positions = np.concatenate(first_rows), np.arange(n_rows)
            first_rows.clear()
        while True:
            here = slice(*np.searchsorted(taken_at, [begin, n_seen]))
            # Where a slot comes twice, the last assignment stands.
            sample[slots[here]] = X[taken_at[here] - begin]
            positions[slots[here]] = taken_at[here]
            if taken_at[-1] >= n_seen:
                break
            taken_at, slots = next(replacements)
    if sample is None:
        return np.concatenate(first_rows), np.arange(n_held), n_seen
    order = np.argsort(positions)
    return sample[order], positions[order], n_seen


def _replacements(n_rows, random_state):
    """Yield positions of rows that enter the sample, and which of it they replace.

    The sample is that of the `n_rows` rows with the smallest of random keys; log_bound
    is the logarithm of the largest key in it.
    """
    position, log_bound = n_rows - 1, 0.0
    while True:
        u, v = 1.0 - random_state.random_sample((2, _DRAWS))
        log_bounds = log_bound + np.cumsum(np.log(u)) / n_rows
        with np.errstate(divide="ignore", over="ignore"):
            gaps = np.log(v) / np.log1p(-np.exp(log_bounds))
        # Far beyond any data; beyond that the sum would overflow.
        gaps = np.fmin(np.floor(gaps), 2.0**52).astype(np.int64)
        positions = position + np.cumsum(gaps + 1)
        yield positions, random_state.randint(n_rows, size=_DRAWS)
        position, log_bound = positions[-1], log_bounds[-1]
