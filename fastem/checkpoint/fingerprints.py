"""Whether data and settings are what they were, told without keeping them."""

import hashlib
import json

import numpy as np

# Larger arrays are told by stretches of them: reading all of a terabyte takes longer
# than many a fit.
_WHOLE_BYTES = 64 << 20
_STRETCH_BYTES = 1 << 20
_LONGEST_SHOWN = 40


def fingerprint(data):
    """Return what tells data from other data.

    Parameters
    ----------
    data : array-like of numbers or Source
        A source is asked for its own fingerprint.

    Returns
    -------
    dict
        What JSON can say. Of an array: shape, type, a digest, and whether that is of
        all bytes, as up to 64 MiB, or of as many in stretches spread evenly from the
        first to the last, which a change in between may escape. The layout in memory
        does not matter.

    Examples
    --------
    >>> import numpy as np
    >>> from fastem.checkpoint import fingerprint
    >>> found = fingerprint(np.eye(2))
    >>> found["shape"], found["dtype"], found["digest_of"]
    ([2, 2], '<f8', 'all bytes')
    >>> found == fingerprint(np.eye(2).T), found == fingerprint(2 * np.eye(2))
    (True, False)
    """
    if hasattr(data, "fingerprint"):
        return data.fingerprint()
    data = np.asarray(data)
    if data.dtype.hasobject:  # of which the bytes say where in memory they are
        data = data.astype(np.float64)
    digest = hashlib.blake2b(digest_size=16)
    whole = data.nbytes <= _WHOLE_BYTES
    flat = data.reshape(-1) if data.flags.c_contiguous else data.flat
    length = max(1, _STRETCH_BYTES // max(1, data.itemsize))
    n_stretches = _WHOLE_BYTES // _STRETCH_BYTES
    if whole:
        starts = range(0, data.size, length)
    else:
        last = data.size - length
        starts = [last * i // (n_stretches - 1) for i in range(n_stretches)]
    for start in starts:
        digest.update(flat[start : start + length].tobytes())
    return {
        "kind": "array",
        "shape": list(data.shape),
        "dtype": data.dtype.str,
        "digest": digest.hexdigest(),
        "digest_of": "all bytes" if whole else f"{n_stretches} stretches",
    }


def differences(saved, now):
    """Say in what two dictionaries of settings and fingerprints differ.

    Parameters
    ----------
    saved, now : dict
        What JSON can say.

    Returns
    -------
    str
        Empty if they agree.

    Examples
    --------
    >>> from fastem.checkpoint import differences
    >>> saved = {"settings": {"tol": 0.1, "n_init": 1}, "data": {"shape": [9, 2]}}
    >>> now = {"settings": {"tol": 0.1, "n_init": 3}, "data": {"shape": (8, 2)}}
    >>> differences(saved, now)
    'settings.n_init was 1 and is 3; data.shape was [9, 2] and is [8, 2]'
    """
    saved, now = _flat(saved), _flat(now)
    found = []
    for key in dict.fromkeys([*saved, *now]):
        was, is_now = saved.get(key, "absent"), now.get(key, "absent")
        if was == is_now:
            continue
        short = max(len(was), len(is_now)) <= _LONGEST_SHOWN
        found.append(f"{key} was {was} and is {is_now}" if short else f"{key} differs")
    return "; ".join(found)


def _flat(tree, prefix=""):
    """Return the JSON text of each leaf by its dotted name."""
    if not isinstance(tree, dict):
        return {prefix: json.dumps(tree)}
    leaves = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves
