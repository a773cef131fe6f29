"""One file of arrays and JSON: written whole or not at all, checked when it is read.

The container is NumPy's npz, a zip whose entries are stored as they are, so that
``numpy.load`` opens the arrays. One entry more, ``meta.json``, says what the file is
and which arrays it should hold. The zip's checksums cover every byte of every entry.
"""

import contextlib
import errno
import glob
import json
import os
import secrets
import struct
import zipfile
from pathlib import Path

import numpy as np

import fastem

FORMAT = 1

_HEAD = "meta.json"
_ZIP_BEGINS = b"PK\x03\x04"

# All that zipfile and json raise when they are given bytes that nobody wrote.
_SIGNS_OF_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)


def write_archive(path, kind, arrays, meta):
    """Write arrays and JSON into one file, which is there whole or not at all.

    A file of this name is replaced at the very end, when the new one is on the disk;
    until then, and if anything goes wrong, it stays what it was.

    Parameters
    ----------
    path : str or path-like
    kind : str
        What the file is, such as 'model'; :func:`read_archive` asks for it.
    arrays : dict of ndarray
        By names; none may hold Python objects.
    meta : dict
        What JSON can say, infinities besides. It reads back as JSON does: tuples as
        lists.

    Raises
    ------
    OSError
        If the file cannot be written; it is named, with the reason.
    ValueError, TypeError
        For arrays of objects, and for ``meta`` that is no JSON.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from fastem.checkpoint import read_archive, write_archive
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "means.npz")
    ...     write_archive(path, "means", {"means": np.eye(2)}, {"rows": 7})
    ...     print(np.load(path)["means"])
    ...     arrays, meta = read_archive(path, "means")
    [[1. 0.]
     [0. 1.]]
    >>> meta
    {'rows': 7}
    """
    arrays = {name: np.asanyarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(
                f"The array {name!r} holds Python objects, which a {kind} cannot keep."
            )
    head = {
        "format": FORMAT,
        "fastem": fastem.__version__,
        "kind": kind,
        "arrays": list(arrays),
        "meta": meta,
    }
    head = json.dumps(head, indent=1)
    # What a link points to is replaced, not the link.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            _write_entries(file, head, arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise OSError(
            error.errno,
            f"The {kind} could not be written: {error.strerror or error}",
            os.fspath(path),
        ) from error
    _sync_folder(target.parent)


def read_archive(path, kind):
    """Return the arrays and the JSON of a file that :func:`write_archive` wrote.

    Parameters
    ----------
    path : str or path-like
    kind : str
        What the file should be.

    Returns
    -------
    arrays : dict of ndarray
    meta : dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is of another kind, of a newer format, none of fastem's, cut short
        or changed in any byte that matters.
    """
    with open(path, "rb") as file:
        if file.read(len(_ZIP_BEGINS)) != _ZIP_BEGINS:
            raise ValueError(
                f"{path} is no file of fastem, or its beginning is damaged."
            )
        with contextlib.ExitStack() as stack:
            with _damage_named(path):
                archive = stack.enter_context(zipfile.ZipFile(file))
                head = _read_head(archive)
            _check_head(head, path, kind)
            arrays = {}
            for name in head["arrays"]:
                if f"{name}.npy" not in archive.namelist():
                    raise ValueError(f"{path} lacks the array {name!r}; it is damaged.")
                with _damage_named(path), archive.open(f"{name}.npy") as entry:
                    arrays[name] = np.lib.format.read_array(entry, allow_pickle=False)
    return arrays, head["meta"]


def remove_leftovers(path):
    """Remove what processes left that were killed while they wrote this file.

    Only for the one process that writes it.

    Parameters
    ----------
    path : str or path-like
    """
    target = Path(os.path.realpath(path))
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)


def _write_entries(file, head, arrays):
    """Write a zip with the same bytes for the same contents: without times."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(_HEAD, "w") as entry:
            entry.write(head.encode())
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _read_head(archive):
    """Return what ``meta.json`` says, after every entry agreed with its checksum."""
    if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
        raise zipfile.BadZipFile("its entries should be stored, not compressed")
    changed = archive.testzip()
    if changed is not None:
        raise zipfile.BadZipFile(f"its entry {changed!r} is not what was written")
    return json.loads(archive.read(_HEAD)) if _HEAD in archive.namelist() else None


def _check_head(head, path, kind):
    if not isinstance(head, dict) or not {"format", "fastem", "kind"} <= set(head):
        raise ValueError(
            f"{path} is no file of fastem: it has no entry {_HEAD} that says so."
        )
    if head["format"] != FORMAT:
        raise ValueError(
            f"{path} is of format {head['format']}, written by fastem "
            f"{head['fastem']}, but this is fastem {fastem.__version__}, which reads "
            f"format {FORMAT}. Use a newer fastem."
        )
    if head["kind"] != kind:
        raise ValueError(f"{path} holds a {head['kind']}, not a {kind}.")
    if not {"arrays", "meta"} <= set(head):
        raise ValueError(f"{path} is damaged: its {_HEAD} is incomplete.")


@contextlib.contextmanager
def _damage_named(path):
    """Make a ValueError that names the file of whatever its bytes lead to."""
    try:
        yield
    except (*_SIGNS_OF_DAMAGE, OSError) as error:
        # A place before the file's beginning is an invalid argument; any other
        # OSError is the disk's.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise ValueError(f"{path} is damaged or was cut short: {error}") from error


def _sync_folder(folder):
    """Have the disk remember the new name, too, where folders can be synced."""
    if os.name == "nt":
        return
    # The file is in place whatever happens here.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
