"""Sources that are blocks from the user: a list of them, or a callable."""

from functools import partial

import numpy as np

from fastem.data.blocks import Block, BlockSource, float_type, same_sequence


def open_list(blocks, block_rows):
    """Return a source of the blocks of a list or tuple; each is a sequence."""
    name = f"the {type(blocks).__name__} of {len(blocks)} blocks"
    lengths = [len(X) for _, X in _checked(blocks, name)]
    return _open(partial(iter, blocks), "blocks", name, lengths, block_rows)


def open_callable(make, block_rows):
    """Return a source of the blocks of the iterators that a callable returns."""
    name = f"the blocks of {getattr(make, '__qualname__', type(make).__name__)}"
    handed = []

    def iterate():
        iterator = _iterator(make, name)
        if handed and iterator is handed[0]:
            raise ValueError(
                f"{name} come from the same iterator at each call, which can be read "
                "only once: return a new one"
            )
        handed[:] = [iterator]
        return iterator

    return _open(iterate, "callable", name, None, block_rows)


def _iterator(make, name):
    try:
        return iter(make())
    except TypeError as error:
        raise ValueError(
            f"{name}: called without arguments, it should return an iterator of 2-D "
            f"blocks, but {error}"
        ) from error


def _open(iterate, kind, name, lengths, block_rows):
    iterator = iterate()
    first = next(_checked(iterator, name), None)
    if hasattr(iterator, "close"):
        iterator.close()
    if first is None:
        raise ValueError(f"{name} has no rows")
    n_features, dtype = first[1].shape[1], float_type(first[1].dtype)

    def pieces(first_row, _):
        for number, X in _checked(iterate(), name, n_features, dtype):
            if first_row < len(X):
                rows = np.ascontiguousarray(X[first_row:], dtype)
                yield Block(rows, same_sequence(number, len(rows)))
            first_row = max(0, first_row - len(X))

    return BlockSource(
        kind=kind,
        name=name,
        n_rows=None if lengths is None else sum(lengths),
        n_features=n_features,
        dtype=dtype,
        block_rows=block_rows,
        pieces=pieces,
        piece_rows=lengths,
        in_memory=lengths is not None,
    )


def _checked(blocks, name, n_features=None, dtype=None):
    """Yield number and array of each block that has rows; refuse one unlike the first.

    Raises
    ------
    ValueError
        With the block's number and its first row.
    """
    first_row = 0
    for number, block in enumerate(blocks):
        X = np.asarray(block)
        if X.shape[:1] == (0,):
            continue
        where = f"block {number} of {name} (rows from {first_row} on)"
        kind = float_type(X.dtype)
        if X.ndim != 2 or X.shape[1] == 0 or kind is None:
            raise ValueError(
                f"{where} should be a 2-D array of numbers, but has the shape "
                f"{X.shape} and the type {X.dtype}"
            )
        n_features, dtype = n_features or X.shape[1], dtype or kind
        if X.shape[1] != n_features:
            raise ValueError(
                f"{where} has {X.shape[1]} columns, but those before have {n_features}"
            )
        if kind.itemsize > dtype.itemsize:
            raise ValueError(
                f"{where} is of {X.dtype}, but the first is of float32: give all "
                "blocks one type"
            )
        yield number, X
        first_row += len(X)
