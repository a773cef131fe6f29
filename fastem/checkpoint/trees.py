"""Between Python's values and what a file holds: arrays and JSON.

:func:`pack` makes arrays alone of the state of a computation, whose structure the
program knows when it reads them. :func:`encode` makes JSON with arrays beside it of
values of which only the file says what they are.
"""

import json

import numpy as np

_PLAIN = (type(None), bool, int, float, str)
_NUMBERS = "biuf"

# Stands for None among arrays: one byte of no type.
_NONE = np.zeros((), "V1")

_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def pack(tree, prefix=""):
    """Return a NamedTuple as a flat dictionary of arrays.

    Parameters
    ----------
    tree : NamedTuple
        Of arrays, numbers, lists of numbers, str, RandomState instances, None, and
        tuples, named or not, of these.
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
    if isinstance(tree, tuple):
        arrays = {}
        for field, value in zip(_fields(tree), tree, strict=True):
            arrays |= pack(value, _join(prefix, field))
        return arrays
    if tree is None:
        return {prefix: _NONE}
    if isinstance(tree, np.random.RandomState):
        arrays = {}
        text = json.dumps(encode(tree, prefix, arrays))
        return {prefix: np.array(text), **arrays}
    array = np.asarray(tree)
    if array.dtype.kind not in _NUMBERS and type(tree) is not str:
        raise ValueError(
            f"{prefix} is of type {type(tree).__name__}, which cannot be packed; use "
            "numbers, arrays of numbers, str, RandomState instances, None and tuples."
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


def encode(value, name, arrays):
    """Return a value as JSON, its arrays set apart.

    Parameters
    ----------
    value : object
        None, a bool, int, float or str, an array of these, a RandomState, and lists,
        tuples, NamedTuples and dictionaries (by str) of such.
    name : str
        What the names of its arrays begin with.
    arrays : dict of ndarray
        Where its arrays are put.

    Returns
    -------
    object
        What JSON can say. What JSON has no word for is a dictionary with a 'type'.

    Raises
    ------
    ValueError
        For anything else in it, which is named.

    Examples
    --------
    >>> import numpy as np
    >>> from fastem.checkpoint import decode, encode
    >>> arrays = {}
    >>> encode({"tol": 0.1, "means": np.eye(2)}, "given", arrays)["type"], list(arrays)
    ('dict', ['given.means'])
    >>> decode(encode((1, None), "given", arrays), arrays)
    (1, None)
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.generic) and type(value.item()) in _PLAIN:
        return {"type": "scalar", "dtype": value.dtype.str, "value": value.item()}
    if type(value) in (np.ndarray, np.memmap) and not value.dtype.hasobject:
        while name in arrays:  # as of {"a": {"b": ...}, "a.b": ...}
            name += "_"
        arrays[name] = value
        return {"type": "array", "name": name}
    if _is_names(value):
        return {"type": "names", "items": value.tolist()}
    if isinstance(value, np.random.RandomState):
        state = value.get_state(legacy=False)
        return {"type": "RandomState", "state": encode(state, name, arrays)}
    if type(value) in (list, tuple):
        items = [encode(v, f"{name}.{i}", arrays) for i, v in enumerate(value)]
        return items if type(value) is list else {"type": "tuple", "items": items}
    if type(value) is dict and all(type(key) is str for key in value):
        items = {k: encode(v, f"{name}.{k}", arrays) for k, v in value.items()}
        return {"type": "dict", "items": items}
    if _is_named_tuple(value):
        items = {
            k: encode(v, f"{name}.{k}", arrays) for k, v in value._asdict().items()
        }
        return {"type": type(value).__name__, "items": items}
    raise ValueError(
        f"{name} is of type {type(value).__name__}, which no file of arrays and JSON "
        "can keep"
    )


def decode(value, arrays, named_tuples=()):
    """Return the value of which :func:`encode` made JSON.

    Parameters
    ----------
    value : object
    arrays : dict of ndarray
    named_tuples : sequence of types
        The only NamedTuples that are made; others are refused.

    Raises
    ------
    ValueError
        For JSON that :func:`encode` did not make, and arrays that are missing.
    """
    if type(value) in _PLAIN:
        return value
    if type(value) is list:
        return [decode(item, arrays, named_tuples) for item in value]
    try:
        match value["type"]:
            case "scalar":
                return np.dtype(value["dtype"]).type(value["value"])
            case "array":
                return arrays[value["name"]]
            case "names":
                return np.array(value["items"], object)
            case "RandomState":
                return _random_state(decode(value["state"], arrays))
            case "tuple":
                return tuple(decode(value["items"], arrays, named_tuples))
            case kind:
                items = {
                    key: decode(item, arrays, named_tuples)
                    for key, item in value["items"].items()
                }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{error} is missing or odd") from error
    if kind == "dict":
        return items
    for named_tuple in named_tuples:
        if named_tuple.__name__ == kind and set(named_tuple._fields) == set(items):
            return named_tuple(**items)
    raise ValueError(f"{kind} with {', '.join(items)} is unknown")


def _unpack(example, arrays, name, used):
    if name in arrays:
        used.add(name)
        if arrays[name].dtype == _NONE.dtype:
            return None
    if isinstance(example, tuple):
        values = [
            _unpack(value, arrays, _join(name, field), used)
            for field, value in zip(_fields(example), example, strict=True)
        ]
        return type(example)(*values) if _is_named_tuple(example) else tuple(values)
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
    if type(example) in _PLAIN and example is not None:
        return array.item()
    # Numbers of NumPy's, not arrays of no dimension, unless that is the example.
    return array if isinstance(example, np.ndarray) else array[()]


def _kinds(example):
    """Return the kinds of arrays that may stand where the example does."""
    if example is None or isinstance(example, list):
        return _NUMBERS
    return "iu" if type(example) is int else np.asarray(example).dtype.kind


def _random_state(state):
    """Return a RandomState that goes on where another one was."""
    name = state["bit_generator"]
    if name not in _BIT_GENERATORS:
        raise ValueError(f"the bit generator {name} is unknown")
    random_state = np.random.RandomState(getattr(np.random, name)(0))
    random_state.set_state(state)
    return random_state


def _fields(values):
    """Return the names of a tuple's values, or their numbers."""
    return getattr(values, "_fields", range(len(values)))


def _join(prefix, field):
    return f"{prefix}.{field}" if prefix else field


def _is_named_tuple(value):
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _is_names(value):
    """Say whether this is what scikit-learn keeps column names in."""
    if type(value) is not np.ndarray or value.dtype != object or value.ndim != 1:
        return False
    return all(type(item) is str for item in value)
