"""NamedTuples as arrays alone, read back by a program that knows their structure."""

import json

import numpy as np

from fastem.checkpoint.encoding import decode, encode, is_named_tuple

_NUMBERS = "biuf"

# Stands for None among arrays: one byte of no type.
_NONE = np.zeros((), "V1")


def pack(tree, prefix=""):
    """Return a NamedTuple as a flat dictionary of arrays.

    Parameters
    ----------
    tree : NamedTuple
        Of arrays, numbers, lists of numbers, RandomState instances, None, and
        NamedTuples of these.
    prefix : str, default=''
        What names begin with.

    Returns
    -------
    dict of ndarray
        By names such as 'params.components.means'.

    Raises
    ------
    ValueError
        For anything else in it, which is named.

    Examples
    --------
    >>> from typing import NamedTuple
    >>> import numpy as np
    >>> from fastem.checkpoint import pack, unpack
    >>> class State(NamedTuple):
    ...     means: np.ndarray
    ...     n_iter: int
    >>> arrays = pack(State(np.ones((2, 3)), 7), "state")
    >>> list(arrays)
    ['state.means', 'state.n_iter']
    >>> unpack(State(np.empty((0, 0)), 0), arrays, "state").n_iter
    7
    """
    if is_named_tuple(tree):
        arrays = {}
        for field, value in tree._asdict().items():
            arrays |= pack(value, _join(prefix, field))
        return arrays
    if tree is None:
        return {prefix: _NONE}
    if isinstance(tree, np.random.RandomState):
        arrays = {}
        text = json.dumps(encode(tree, prefix, arrays))
        return {prefix: np.array(text), **arrays}
    array = np.asarray(tree)
    if array.dtype.kind not in _NUMBERS:
        raise ValueError(
            f"{prefix} is of type {type(tree).__name__}, which cannot be packed; use "
            "numbers, arrays of numbers, RandomState instances, None and NamedTuples."
        )
    return {prefix: array}


def unpack(example, arrays, prefix=""):
    """Return the NamedTuple that :func:`pack` made arrays of.

    Parameters
    ----------
    example : NamedTuple
        Of the same structure and kinds of numbers; shapes may differ. Python's numbers
        come back as such, and where None was packed there is None.
    arrays : dict of ndarray
    prefix : str, default=''
        What the names of all of the tuple's arrays, and of no others, begin with.

    Raises
    ------
    ValueError
        If an array is missing, of another kind than in the example, or unknown to it.
    """
    used = set()
    tree = _unpack(example, arrays, prefix, used)
    for name in arrays:
        if name not in used and (not prefix or name.startswith(f"{prefix}.")):
            raise ValueError(f"The entry {name!r} is unknown.")
    return tree


def _unpack(example, arrays, name, used):
    if name in arrays:
        used.add(name)
        if arrays[name].dtype == _NONE.dtype:
            return None
    if is_named_tuple(example):
        return type(example)(
            *(
                _unpack(value, arrays, _join(name, field), used)
                for field, value in example._asdict().items()
            )
        )
    if name not in arrays:
        raise ValueError(f"The entry {name!r} is missing.")
    array = arrays[name]
    if isinstance(example, np.random.RandomState):
        used.update(other for other in arrays if other.startswith(f"{name}."))
        return decode(json.loads(str(array)), arrays)
    is_number = isinstance(example, (bool, int, float, np.generic))
    if array.dtype.kind not in _kinds(example) or (is_number and array.ndim):
        raise ValueError(
            f"The entry {name!r} holds {array.dtype} of shape {array.shape}, which is "
            f"nothing like {example!r}."
        )
    if isinstance(example, list):
        return array.tolist()
    if type(example) in (bool, int, float):
        return array.item()
    # Numbers of NumPy's, not arrays of no dimension, unless that is the example.
    return array if isinstance(example, np.ndarray) else array[()]


def _kinds(example):
    """Return the kinds of arrays that may stand where the example does."""
    if example is None or isinstance(example, list):
        return _NUMBERS
    return "iu" if type(example) is int else np.asarray(example).dtype.kind


def _join(prefix, field):
    return f"{prefix}.{field}" if prefix else field
