"""Statistics of rows that lie in partitions on a Dask cluster.

A task reads one partition and runs kernels in its own thread. Statistics add up as a
tree whose shape depends on the number of partitions alone, so that the bits of a result
depend neither on the number of workers nor on which of them died. A collection that is
not persisted is read anew with every pass.
"""

import contextlib
import functools
import itertools
import pickle
import sys
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.random import sample_without_replacement

from fastem.compile import serial_kernels
from fastem.execution.partitions import (
    Partitions,
    is_collection,
    partitions_of,
    with_weights,
)
from fastem.statistics import add

__all__ = [
    "Partitions",
    "client_for",
    "current_client",
    "distributed",
    "is_collection",
    "lengths",
    "partitions_of",
    "reduce",
    "sample",
    "with_weights",
]

FAN_IN = 8
# For storage that fails now and then; what a dead worker held is computed again anyway.
RETRIES = 2

_client = ContextVar("_client", default=None)


@contextlib.contextmanager
def distributed(client):
    """Run the fits inside a ``with`` block on a Dask cluster.

    A Dask collection as X is read on the cluster of Dask's current client without
    this. Any other source (a path, say) is read there only inside this block, and all
    workers must be able to. A collection that is not persisted is read anew with every
    iteration.

    Parameters
    ----------
    client : distributed.Client

    Raises
    ------
    TypeError
        For anything but a client that can be waited for.

    Examples
    --------
    >>> import fastem
    >>> from distributed import Client
    >>> with Client("tcp://scheduler:8786") as client:  # doctest: +SKIP
    ...     with fastem.distributed(client):
    ...         mixture = fastem.GaussianMixture(3).fit("/shared/rows.npy")
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            'fits on a cluster need Dask: pip install "fastem[dask]"'
        ) from error
    if not isinstance(client, Client):
        raise TypeError(f"client should be a distributed.Client, but is {client!r}")
    if client.asynchronous:
        raise TypeError(
            "client is asynchronous, but fits wait for results; make another without "
            "asynchronous=True"
        )
    token = _client.set(client)
    try:
        yield client
    finally:
        _client.reset(token)


def current_client():
    """Return the client of :func:`distributed`, else Dask's current one, else None."""
    chosen = _client.get()
    # Who never imported distributed has no client.
    if chosen is None and "distributed" in sys.modules:
        with contextlib.suppress(ValueError):
            return sys.modules["distributed"].get_client()
    return chosen


def client_for(data):
    """Return the client to read data with, or None for this process.

    One that merely exists reads Dask collections; only one chosen by
    :func:`distributed` reads other sources, which workers might not find.
    """
    return current_client() if is_collection(data) else _client.get()


class _Job(NamedTuple):
    """What all tasks of a pass share: a node of the graph, which can be made again."""

    name: str
    n_features: int
    n_partitions: int
    sequences: bool
    read: Any
    function: Any
    params: Any


class _Sum(NamedTuple):
    """Statistics of consecutive partitions, and their first and last sequence."""

    statistics: Any
    ends: tuple | None


def reduce(client, partitions, function, params, merge=add):
    """Return the statistics of all rows, computed where the partitions are.

    Parameters
    ----------
    client : distributed.Client
    partitions : Partitions
    function : callable
        ``function(params, block)``, or ``function(params, block, weight)`` where there
        are weights, returns a NamedTuple of numbers and arrays. A block is X or, of
        sequences, ``(X, lengths)``. It can be pickled.
    params : object
    merge : callable, default=add
        ``merge(first, second)`` is what two partitions come to together. It can be
        pickled.

    Returns
    -------
    NamedTuple
        The same bits on any number of workers. All else stays on them.

    Raises
    ------
    ValueError
        If there are no rows, or a sequence lies in two partitions.
    Exception
        What the function raises, with a note of the partition.
    """
    job = _job(partitions, function, params)
    merge = functools.partial(_add, partitions.name, merge)
    [total] = _results(client, [_tree(job, _evaluate, merge, partitions)])
    if total is None:
        raise ValueError(f"{partitions.name} has no rows")
    return total.statistics


def lengths(client, partitions):
    """Return the number of rows of each partition, (n_partitions,) of int64.

    Without a pass where the collection knows it.
    """
    if partitions.lengths is not None:
        return partitions.lengths
    [found] = _results(client, [_tree(_job(partitions), _count, _join, partitions)])
    return found


def sample(client, partitions, lengths, n_rows, random_state):
    """Return rows drawn without replacement, in order, and their weights.

    They depend on the order of all rows and on ``random_state``, not on partitions.

    Parameters
    ----------
    client : distributed.Client
    partitions : Partitions
    lengths : ndarray of shape (n_partitions,)
        Of each partition.
    n_rows : int
        How many; all where there are fewer.
    random_state : int, RandomState instance or None

    Returns
    -------
    X : ndarray of shape (n, D)
    weight : ndarray of shape (n,), of size zero for ones

    Raises
    ------
    ValueError
        If there are no rows.
    """
    total = int(lengths.sum())
    if not total:
        raise ValueError(f"{partitions.name} has no rows")
    if total <= n_rows:
        chosen = np.arange(total)
    else:
        random_state = check_random_state(random_state)
        chosen = sample_without_replacement(total, n_rows, random_state=random_state)
        chosen.sort()
    ends = np.cumsum(lengths)
    pieces = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    job = _job(partitions)
    tasks = [
        _task(functools.partial(_take, piece - (ends - lengths)[i]), job, partitions, i)
        for i, piece in enumerate(pieces)
        if piece.size
    ]
    X, weight = zip(*_results(client, tasks), strict=True)
    return np.concatenate(X), np.concatenate(weight)


# ------------------------------------------------------------------------ tasks


def _evaluate(job, number, weight, *arguments):
    """Return the statistics of one partition, None if it is empty."""
    with _naming(job, number):
        rows, weight = _read(job, weight, arguments)
        if not len(rows.X):
            return None
        block = (rows.X, rows.lengths) if job.sequences else rows.X
        with serial_kernels():
            if weight is None:
                statistics = job.function(job.params, block)
            else:
                statistics = job.function(job.params, block, weight)
    return _Sum(statistics, rows.ends if job.sequences else None)


def _add(name, merge, *parts):
    filled = [part for part in parts if part is not None]
    for first, second in itertools.pairwise(filled):
        if first.ends is not None and first.ends[1] == second.ends[0]:
            raise ValueError(
                f"sequence {first.ends[1]!r} goes on from one partition of {name} to "
                "the next, but partitions should hold whole sequences: give lengths, "
                "or repartition where the column of sequences changes"
            )
    if not filled:
        return None
    ends = filled[0].ends and (filled[0].ends[0], filled[-1].ends[1])
    return _Sum(functools.reduce(merge, [part.statistics for part in filled]), ends)


def _count(job, number, weight, *arguments):
    with _naming(job, number):
        return np.array([len(job.read(*arguments).X)])


def _join(*parts):
    return np.concatenate(parts)


def _take(rows, job, number, weight, *arguments):
    with _naming(job, number):
        found, weight = _read(job, weight, arguments)
    return found.X[rows], np.empty(0, found.X.dtype) if weight is None else weight[rows]


def _read(job, weight, arguments):
    """Return the rows of one partition, as they should be, and their weights."""
    rows = job.read(*arguments)
    n_rows, n_features = rows.X.shape
    if n_features != job.n_features:
        raise ValueError(f"{n_features} columns found, but {job.n_features} elsewhere")
    if rows.lengths is None:
        if job.sequences and job.n_partitions > 1:
            raise ValueError(
                f"{job.name} is one sequence in {job.n_partitions} partitions, but "
                "these should hold whole sequences: give lengths or a sequence column"
            )
        rows = rows._replace(lengths=np.array([n_rows]))
    if rows.lengths.sum() != n_rows:
        raise ValueError(f"{n_rows} rows found, but {rows.lengths.sum()} expected")
    if weight is not None:
        weight = np.ascontiguousarray(weight, rows.X.dtype)
        if weight.shape != (n_rows,):
            raise ValueError(f"{n_rows} rows, but weights of shape {weight.shape}")
    return rows, weight


@contextlib.contextmanager
def _naming(job, number):
    """Note the partition with any error, which itself stays as it is."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in partition {number} of {job.name}")
        raise


def _job(partitions, function=None, params=None):
    """Return the node of what tasks share; scattered, it would die with its worker."""
    import cloudpickle
    from dask import delayed

    job = _Job(
        partitions.name,
        partitions.n_features,
        len(partitions.arguments),
        partitions.sequences,
        partitions.read,
        function,
        params,
    )
    return delayed(pickle.loads, pure=False)(cloudpickle.dumps(job))


def _task(visit, job, partitions, i):
    """Return a task that visits partition i."""
    from dask import delayed

    weight = None if partitions.weights is None else partitions.weights[i]
    return delayed(visit, pure=False)(job, i, weight, *partitions.arguments[i])


def _tree(job, visit, merge, partitions):
    """Return the root of a tree that merges visits, always in the same order."""
    from dask import delayed

    nodes = [_task(visit, job, partitions, i) for i in range(len(partitions.arguments))]
    merge = delayed(merge, pure=False)
    while len(nodes) > 1:
        groups = range(0, len(nodes), FAN_IN)
        nodes = [merge(*nodes[first : first + FAN_IN]) for first in groups]
    return nodes[0]


def _results(client, tasks):
    """Wait for results; what no one waits for any more is not computed."""
    futures = client.compute(tasks, retries=RETRIES)
    try:
        return client.gather(futures)
    except (KeyboardInterrupt, SystemExit):
        client.cancel(futures)
        raise
