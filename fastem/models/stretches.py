"""Sequences as kernels see them: rows end to end, cut into stretches of equal length.

``CHAINS`` stretches make a bundle, worked side by side. A stretch does not wait for the
one before it: its recursions begin some steps early, and chains forget where they
began. Whether they did is checked where stretches meet; see :mod:`fastem.models.hmm`.
"""

from typing import NamedTuple

import numpy as np
from numba import get_num_threads, types

from fastem.compile import allocating_function, data_type, tile_function
from fastem.kernels.chains import CHAINS, STEPS
from fastem.kernels.memory import zeros
from fastem.kernels.tiles import LANES, MAX_PARTS, STRIDE
from fastem.models.observations import ROWS, Rows, fetch_tile, is_within

# Longer stretches waste less on warming up; shorter ones stay in the second cache.
STRETCH_STEPS = 1024
# Fewer rows than this are not worth a second bundle, hence a second thread.
MIN_BUNDLE_ROWS = 4096
FIRST_WARM_UP = 64
LONGEST_WARM_UP = 1024
# One slot of so many finds out what warm-up is enough (measured at K = 2, T = 10**6,
# where 256 steps are: 9.7 ms, else 12.9, for all slots try 64 and 128 steps first).
PIONEER_STEP = 8


class Sequences(NamedTuple):
    """Sequences of rows, end to end; arrays of size zero are absent.

    Attributes
    ----------
    X : ndarray of shape (N, D)
        For kernels :class:`~fastem.models.observations.Rows`.
    bounds : ndarray of shape (n_sequences + 1,) of int64
        The row at which each sequence starts, and N.
    sequence_weight : ndarray of shape (n_sequences,)
        How many times each sequence counts.
    step_weight : ndarray of shape (N,)
        The power to which each row's densities are raised; 0 is a missing row.
    states : ndarray of shape (N,) of int64
        States that are known; -1 where they are not.
    """

    X: np.ndarray | Rows
    bounds: np.ndarray
    sequence_weight: np.ndarray
    step_weight: np.ndarray
    states: np.ndarray


# Their types, and that of starts_by_step, as arguments of kernels.
SEQUENCES = (
    ROWS,
    types.int64[::1],
    data_type("float64", 1),
    data_type("float64", 1),
    data_type("int64", 1),
    types.uint8[::1],
)


class Cut(NamedTuple):
    """How rows are cut: stretch g is rows g * length to (g + 1) * length."""

    length: int
    warm_up: int
    n_bundles: int
    n_slots: int


class Staged(NamedTuple):
    """The rows of one tile and what is known of them, one entry a lane."""

    rows: np.ndarray  # (LANES, D)
    place: np.ndarray  # (3,): the first lane's row, from stretch to stretch, N
    reset: np.ndarray  # 1 where a sequence starts
    power: np.ndarray  # of the density; 0 where there is no row
    weight: np.ndarray  # of the statistics; 0 where there is no row
    plain: np.ndarray  # (1,): 1 if no sequence starts, all powers and weights are one


def cut(n_rows):
    """Return the cut for some number of rows, which nothing else influences."""
    n_bundles = -(-n_rows // (CHAINS * STRETCH_STEPS))
    if n_bundles == 1 and n_rows >= 2 * MIN_BUNDLE_ROWS:
        n_bundles = 2
    n_bundles += n_bundles % 2 if n_bundles > 1 else 0
    length = -(-n_rows // (CHAINS * n_bundles))
    length = -(-length // STEPS) * STEPS
    return Cut(length, FIRST_WARM_UP, n_bundles, min(n_bundles, MAX_PARTS))


class Reach:
    """How far recursions had to reach beyond their stretches.

    Attributes
    ----------
    warm_up : ndarray of shape (P,) of int64
        Steps that the stretches of each slot start early; None before any.
    exact : bool
        Whether no warm-up sufficed, so that messages come from a sweep over all rows.
    """

    def __init__(self):
        self.warm_up = None
        self.exact = False


def relax(run, joined, disagreeing, rows, reach):
    """Run all slots, and again with longer warm-ups those whose stretches disagree.

    ``run(slots, warm_up)`` runs some, ``disagreeing(joined)`` lists those with
    stretches that do not agree with the next, of those joined to it. Where nothing is
    known of warm-ups yet, a few slots tell what is enough for most. Sets
    ``reach.exact`` if the longest warm-up is too short.
    """
    todo = np.arange(rows.n_slots)
    if reach.warm_up is None or len(reach.warm_up) != rows.n_slots:
        reach.warm_up = np.full(rows.n_slots, FIRST_WARM_UP)
        pioneers = todo[PIONEER_STEP // 2 :: PIONEER_STEP]
        inside = joined[np.isin(slot_of(rows, joined), pioneers)]
        inside = inside[slot_of(rows, inside) == slot_of(rows, inside + 1)]
        if inside.size:
            _lengthen(run, inside, disagreeing, pioneers, reach)
            todo = np.setdiff1d(todo, pioneers)
            reach.warm_up[todo] = reach.warm_up.max()
    if not reach.exact:
        _lengthen(run, joined, disagreeing, todo, reach)


def _lengthen(run, joined, disagreeing, todo, reach):
    while todo.size:
        for steps in set(reach.warm_up[todo].tolist()):
            run(todo[reach.warm_up[todo] == steps], steps)
        if not joined.size:
            return
        todo = disagreeing(joined)
        if (reach.warm_up[todo] >= LONGEST_WARM_UP).any():
            reach.exact = True
            return
        reach.warm_up[todo] *= 2


def junctions(cut, ends):
    """Return the stretches after which a chain goes on in the next stretch.

    ``ends`` are the rows at which chains start, and N.
    """
    begins = np.arange(cut.length, ends[-1], cut.length)
    return np.flatnonzero(ends[np.searchsorted(ends, begins)] != begins)


def starts_by_step(ends):
    """Return a mask for each ``STEPS`` rows: bit i says that row i starts a chain.

    ``ends`` are the rows at which chains start, and N.
    """
    starts = np.zeros(ends[-1] // STEPS + 1, np.uint8)
    np.bitwise_or.at(starts, ends // STEPS, np.uint8(1) << (ends % STEPS).astype("u1"))
    return starts


def slot_of(cut, stretches):
    """Return the slot that each of some stretches belongs to."""
    firsts = np.arange(cut.n_slots) * cut.n_bundles // cut.n_slots
    return np.searchsorted(firsts, stretches // CHAINS, side="right") - 1


def make_workspace(cut, n_slots, n_rows):
    """Return memory for what is kept of a bundle, ``n_rows`` rows a tile; one a thread.

    Allocated by the parts themselves, it would be cleared and mapped again for each
    (measured: 10 ns a step).
    """
    n_tiles = (cut.length + 2 * cut.warm_up) // STEPS
    n_threads = min(get_num_threads(), n_slots)
    return np.empty((n_threads, n_tiles, n_rows * STRIDE + 2 * LANES))


@allocating_function
def split_tile(memory, n_lanes):
    """Return what is kept of a tile: densities, messages, scales and resets."""
    return (
        memory[:n_lanes],
        memory[n_lanes : 2 * n_lanes],
        memory[2 * n_lanes : 2 * n_lanes + LANES],
        memory[2 * n_lanes + LANES :],
    )


@allocating_function
def stage_memory(n_features):
    """Return the memory of one staged tile."""
    return Staged(
        zeros((LANES, n_features), np.float64),
        zeros(3, np.int64),
        zeros(LANES, np.float64),
        zeros(LANES, np.float64),
        zeros(LANES, np.float64),
        zeros(1, np.float64),
    )


@tile_function
def stage(sequences, starts, cut, bundle, step, staged):
    """Fetch ``STEPS`` steps from ``step`` on of each stretch of a bundle."""
    X, step_weight = sequences.X, sequences.step_weight
    n_rows = X.n_rows
    begin = bundle * CHAINS * cut.length + step
    place = staged.place
    place[0], place[1], place[2] = begin, cut.length, n_rows
    fetch_tile(X, begin, cut.length, staged.rows)
    within = is_within(begin, cut.length, n_rows)
    plain = within & (step_weight.size == 0) & (sequences.sequence_weight.size == 0)
    if plain:
        for s in range(CHAINS):
            block = np.uint64(begin + s * cut.length) // np.uint64(STEPS)
            plain &= starts[block] == 0
    if plain & (staged.plain[0] > 0):
        return
    staged.plain[0] = 1.0 if plain else 0.0
    for b in range(LANES):
        staged.power[b] = staged.weight[b] = 1.0
        staged.reset[b] = 0.0
    if plain:
        return
    for b in range(LANES):
        row = row_of(staged, b)
        if row < 0:
            staged.power[b] = staged.weight[b] = 0.0
        elif step_weight.size > 0:
            staged.power[b] = step_weight[row]
    for s in range(CHAINS):
        first = begin + s * cut.length
        if (first >= 0) & (first <= n_rows) and starts[first // STEPS]:
            _mark_starts(starts[first // STEPS], s, staged.reset)
        if sequences.sequence_weight.size > 0:
            _weigh_sequences(sequences, s, staged)


@tile_function
def row_of(staged, b):
    """Return the row of a lane, -1 where there is none."""
    row = staged.place[0] + b % CHAINS * staged.place[1] + b // CHAINS
    return row if (row >= 0) & (row < staged.place[2]) else -1


@tile_function
def _mark_starts(mask, s, reset):
    for i in range(STEPS):
        reset[i * CHAINS + s] = float((mask >> i) & 1)


@tile_function
def _weigh_sequences(sequences, s, staged):
    bounds = sequences.bounds
    j = _first_bound(bounds, row_of(staged, s) + 1) - 1
    for b in range(s, LANES, CHAINS):
        row = row_of(staged, b)
        if row >= 0:
            while bounds[j + 1] <= row:
                j += 1
            staged.weight[b] = sequences.sequence_weight[j]


@tile_function
def _first_bound(bounds, row):
    """Return the first of the bounds that is not below a row."""
    low, high = 0, bounds.size
    while low < high:
        middle = (low + high) // 2
        if bounds[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low
