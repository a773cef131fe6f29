"""Fits that outlive their process: what is kept of them, and going on from there."""

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastem.checkpoint import (
    decode,
    differences,
    encode,
    fingerprint,
    read_archive,
    remove_leftovers,
    write_archive,
)
from fastem.execution.rows import SoFar

KIND = "fit"

# How long a pass over blocks may go on without anything being kept of it.
SECONDS_BETWEEN_SAVES = 30

# What a fit looks like on the way, not where it goes.
_NO_MATTER = {"verbose", "verbose_interval"}


class FitRecord(NamedTuple):
    """How far a fit has come; a fit goes on from it as if never interrupted.

    Attributes
    ----------
    n_finished : int
        Starts that are finished.
    best : NamedTuple or None
        Where the best of them ended.
    state : NamedTuple or None
        Where the start under way is.
    so_far : SoFar or None
        Its pass under way.
    random_state : tuple or None
        The generator's state once the start under way was drawn.
    """

    n_finished: int = 0
    best: Any = None
    state: Any = None
    so_far: SoFar | None = None
    random_state: tuple | None = None


class NoCheckpoint:
    """A fit that is not kept; the interface of all keepers."""

    def load(self, beginning):
        """Return the record to go on from: what was saved, or the beginning."""
        return beginning

    def save(self, record):
        """Keep a record."""


class Checkpoint(NoCheckpoint):
    """A fit kept in a file.

    Parameters
    ----------
    path : str or path-like
    model : BaseEstimator
        The model that is fitted; its parameters are those of the fit.
    data : dict
        What the fit reads, by name: arrays, sources and None.
    named_tuples : sequence of types
        All that records are made of.
    """

    def __init__(self, path, model, data, named_tuples):
        self._path = Path(path)
        self._named_tuples = named_tuples
        self._of = {
            "model": type(model).__name__,
            "settings": {
                name: _described(value)
                for name, value in model.get_params(deep=False).items()
                if name not in _NO_MATTER
            },
            "data": {name: _described(value) for name, value in data.items()},
        }

    def load(self, beginning):
        """Return the record to go on from: what was saved, or the beginning.

        Raises
        ------
        ValueError
            If the file is damaged, or of another fit; what differs is said.
        """
        remove_leftovers(self._path)
        if not self._path.exists():
            return beginning
        arrays, meta = read_archive(self._path, KIND)
        # As JSON reads back: tuples as lists.
        different = differences(meta["of"], json.loads(json.dumps(self._of)))
        if different:
            raise ValueError(
                f"{self._path} keeps another fit: {different}. Go on with the data and "
                "settings it began with, or give another checkpoint (or delete this "
                "one) to begin anew."
            )
        try:
            return decode(meta["record"], arrays, self._named_tuples)
        except ValueError as error:
            raise ValueError(
                f"{self._path} keeps no fit to go on from: {error}."
            ) from error

    def save(self, record):
        """Replace the file by one of this record."""
        arrays = {}
        meta = {"of": self._of, "record": encode(record, "record", arrays)}
        write_archive(self._path, KIND, arrays, meta)


class Progress:
    """One start under way: its record, kept after iterations and in long passes.

    Parameters
    ----------
    record : FitRecord
    save : callable
        ``save(record)``.
    """

    def __init__(self, record, save):
        self._record, self._save = record, save
        self._saved = time.monotonic()

    def take(self):
        """Return what the pass under way had come to, once."""
        so_far = self._record.so_far
        self._record = self._record._replace(so_far=None)
        return so_far

    def on_block(self, so_far):
        """Note a block; keep it if nothing was kept for long."""
        if time.monotonic() - self._saved >= SECONDS_BETWEEN_SAVES:
            self._keep(self._record._replace(so_far=so_far))

    def on_iteration(self, state):
        """Keep an iteration."""
        self._record = self._record._replace(state=state)
        self._keep(self._record)

    def _keep(self, record):
        self._save(record)
        self._saved = time.monotonic()


def _described(value):
    """Return what tells a parameter or data from another one, for JSON."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.random.RandomState):
        return "RandomState"
    if isinstance(value, dict):
        return {name: _described(item) for name, item in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if callable(value):  # such as a start of k-means, of which this is all to be seen
        return f"{value.__module__}.{value.__qualname__}"
    return fingerprint(value)
