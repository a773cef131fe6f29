"""Whole sequences from a source, several of them together."""

import numpy as np

from fastem.data.blocks import rows_per_block


def sequence_blocks(source, lengths=None):
    """Yield rows of whole sequences, as many together as make a block.

    Without lengths the source says where sequences end: by a sequence column, whose
    neighbouring equal values make one sequence (a value that comes back later begins
    another); else each file of several is one, and each block of a list or callable;
    anything else is one sequence.

    Parameters
    ----------
    source : Source
    lengths : array-like of shape (n_sequences,), default=None
        Rows of each sequence, in order.

    Yields
    ------
    X : ndarray of shape (n, D)
    lengths : ndarray of shape (n_sequences,)
        That sum to n.

    Raises
    ------
    ValueError
        If lengths are no positive integers, or do not sum to the number of rows.

    Examples
    --------
    >>> import numpy as np
    >>> from fastem.data.source import open_source
    >>> source = open_source([np.zeros((3, 2)), np.ones((4, 2))])
    >>> [lengths for X, lengths in sequence_blocks(source)]
    [array([3, 4])]
    >>> [lengths for X, lengths in sequence_blocks(source, [5, 2])]
    [array([5, 2])]
    """
    if lengths is None:
        ended = _ended_by_ids(source.blocks())
    else:
        ended = _ended_by_lengths(source, lengths)
    enough = rows_per_block(source.n_features, source.dtype)
    held, n_held, ends = [], 0, [0]
    for X, new_ends in ended:
        ends.extend(new_ends + n_held)
        held.append(X)
        n_held += len(X)
        if ends[-1] >= enough:
            rows = _join(held)
            yield rows[: ends[-1]], np.diff(ends)
            held, n_held, ends = [rows[ends[-1] :]], n_held - ends[-1], [0]
    if n_held:
        ends.extend([n_held] if ends[-1] < n_held else [])
        yield _join(held), np.diff(ends)


def _join(held):
    held = [X for X in held if len(X)]
    return held[0] if len(held) == 1 else np.concatenate(held)


def _ended_by_ids(blocks):
    """Yield each block's rows and where in them sequences end, 0 for the one before.

    The end of a block is none: the sequence may go on.
    """
    last = None
    for X, ids in blocks:
        ends = np.flatnonzero(ids[1:] != ids[:-1]) + 1
        if len(ids):
            if last is not None and ids[0] != last:
                ends = np.append(0, ends)
            last = ids[-1]
        yield X, ends


def _ended_by_lengths(source, lengths):
    """Yield each block's rows and where in them sequences end."""
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 1).any():
        raise ValueError("lengths should be a list of positive integers")
    ends, begin = np.cumsum(lengths), 0
    n_rows = int(lengths.sum())
    wrong = f"lengths sum to {n_rows}, but {source.name} has"
    if source.n_rows not in (None, n_rows):
        raise ValueError(f"{wrong} {source.n_rows} rows")
    for X, _ in source.blocks():
        stop = begin + len(X)
        if stop > n_rows:
            raise ValueError(f"{wrong} {stop} rows or more")
        yield X, ends[slice(*np.searchsorted(ends, [begin, stop], "right"))] - begin
        begin = stop
    if begin < n_rows:
        raise ValueError(f"{wrong} {begin} rows")
