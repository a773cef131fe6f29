"""Finding files, telling whether they changed, and packages that read them."""

import glob
import hashlib
import importlib
import os
from pathlib import Path
from typing import NamedTuple

_SUFFIXES = (".npy", ".parquet")
_DIGEST_BYTES = 1 << 16

# What to do with files that other packages open.
_ADVICE = {
    ".h5": 'open it with h5py (pip install "fastem[hdf5]") and give the dataset',
    ".zarr": 'open it with zarr (pip install "fastem[zarr]") and give the array',
    ".csv": 'give polars.scan_csv(path) (pip install "fastem[polars]")',
}
_ADVICE[".hdf5"] = _ADVICE[".h5"]


class FileState(NamedTuple):
    """A file and what changes when it is written to."""

    path: Path
    size: int
    mtime_ns: int


def find_files(data):
    """Return the files that a path, folder, glob or list of paths names.

    Parameters
    ----------
    data : str, PathLike, or list of them
        Files of a folder or glob come in sorted order; names that begin with a dot or
        an underscore are passed over in folders.

    Returns
    -------
    suffix : {'.npy', '.parquet'}
    paths : list of Path

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If they are of a kind that cannot be read, or of more than one.
    """
    given = data if isinstance(data, list | tuple) else [data]
    paths = [path for one in given for path in _expand(one)]
    suffixes = {path.suffix.lower() for path in paths}
    for path in paths:
        if path.suffix.lower() not in _SUFFIXES:
            advice = _ADVICE.get(path.suffix.lower(), "give .npy or .parquet files")
            raise ValueError(f"cannot read {path}: {advice}")
    if len(suffixes) > 1:
        raise ValueError(f"{data} names .npy and .parquet files; read one kind at once")
    return suffixes.pop(), paths


def _expand(given):
    """Return the files that one path names."""
    path = Path(given)
    if path.is_file() or path.suffix.lower() in _ADVICE:
        return [path]
    if path.is_dir():
        found = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in _SUFFIXES
            and not any(part[0] in "._" for part in file.relative_to(path).parts)
        ]
        if not found:
            raise ValueError(f"the folder {path} holds no .npy and no .parquet files")
        return found
    if glob.has_magic(str(path)):
        found = sorted(glob.glob(str(path), recursive=True))
        if not found:
            raise FileNotFoundError(f"no file matches {path}")
        return [file for one in found for file in _expand(one)]
    raise FileNotFoundError(f"{path} does not exist")


def file_states(paths):
    """Return a FileState of each path."""
    return tuple(map(_state, paths))


def _state(path):
    stat = os.stat(path)
    return FileState(Path(path), stat.st_size, stat.st_mtime_ns)


def check_unchanged(files):
    """Raise a ValueError if a file was written to since its state was taken."""
    for before in files:
        if _state(before.path) != before:
            raise ValueError(
                f"{before.path} changed since it was opened: every pass over the data "
                "must find the same rows"
            )


def identify(path):
    """Return a file's size and time, and a digest of where it begins and ends."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        stat = os.fstat(file.fileno())
        digest.update(file.read(_DIGEST_BYTES))
        file.seek(max(0, stat.st_size - _DIGEST_BYTES))
        digest.update(file.read(_DIGEST_BYTES))
    return {
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "digest": digest.hexdigest(),
    }


def require(module, extra, what):
    """Return an optional module, or say how to install it.

    Raises
    ------
    ImportError
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f'{what} needs {package}: pip install "fastem[{extra}]"'
        ) from error
