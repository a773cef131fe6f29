"""Values as JSON with arrays beside it, and back, without a word of pickle."""

import numpy as np

_PLAIN = (type(None), bool, int, float, str)

_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


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
    if is_named_tuple(value):
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


def _random_state(state):
    """Return a RandomState that goes on where another one was."""
    name = state["bit_generator"]
    if name not in _BIT_GENERATORS:
        raise ValueError(f"the bit generator {name} is unknown")
    random_state = np.random.RandomState(getattr(np.random, name)(0))
    random_state.set_state(state)
    return random_state


def is_named_tuple(value):
    """Say whether a value is of a class that NamedTuple made."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _is_names(value):
    """Say whether this is what scikit-learn keeps column names in."""
    if type(value) is not np.ndarray or value.dtype != object or value.ndim != 1:
        return False
    return all(type(item) is str for item in value)
