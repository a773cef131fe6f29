"""What chains know of the rows and their distributions: code to call.

A family's tile functions and the fetching of rows become machine code of their own,
which chain kernels call once a tile through its address. So the recursions, which take
the longest to compile, are compiled once for all families and types of rows.
"""

import contextlib
import functools
from typing import NamedTuple

import numpy as np
from numba import get_num_threads, typeof, types

from fastem.compile import (
    JIT_DISABLED,
    callee,
    data_type,
    serial_kernel,
    tile_function,
)
from fastem.families.family import built_once
from fastem.kernels.chain_rows import fetch_rows
from fastem.kernels.chains import CHAINS, STEPS
from fastem.kernels.tiles import LANES
from fastem.lowering import Packed, call, drop, keep, unpack

ROWS_OF_TILE = types.float64[:, ::1]
LANES_OF_TILE = types.float64[::1]
LOG_DENSITY, ACCUMULATE, FLUSH = range(3)


class Rows(NamedTuple):
    """Rows of any type, for kernels to fetch."""

    code: np.ndarray  # (1,), addresses
    kept: int  # address of the array
    n_rows: int
    n_features: int


class Emissions(NamedTuple):
    """Distributions of any family; what they sum goes to their slots."""

    code: np.ndarray  # (3,), addresses
    kept: np.ndarray  # of each thread: address of parameters, scratch and slots


_ADDRESSES = np.zeros(1, np.int64)
ROWS = typeof(Rows(_ADDRESSES, 1, 1, 1))
EMISSIONS = typeof(Emissions(_ADDRESSES, _ADDRESSES))


@contextlib.contextmanager
def rows_for_kernels(X):
    """Keep rows where kernels can fetch them."""
    hold, release, code = make_rows(X.dtype.name)
    kept = hold(X)
    try:
        yield Rows(code, kept, *X.shape)
    finally:
        release(kept)


@contextlib.contextmanager
def emissions_for_kernels(family, n_features, tile_params, n_parts, slots=None):
    """Keep parameters where kernels of some parts can call the family's functions.

    Without slots there is nothing to add to.
    """
    if slots is None:
        slots = family.slots(family.example(), 0)
    hold, release, code = make_emissions(family, n_features)
    kept = []
    try:
        # Sweeps have two parts always.
        for _ in range(min(get_num_threads(), max(2, n_parts))):
            kept.append(hold(tile_params, slots))
        yield Emissions(code, kept if JIT_DISABLED else np.array(kept))
    finally:
        for one in kept:
            release(one)


@functools.cache
def make_rows(dtype):
    """Build what keeps rows of a type, lets go of them, and fetches them."""
    array = data_type(dtype, 2)
    packed = Packed((array,))
    tile = Packed((types.int64, types.int64, ROWS_OF_TILE))

    @serial_kernel(array, returns=packed)
    def hold(X):
        return keep((X,))

    @callee(packed, tile)
    def fetch(kept, tile):
        (X,) = unpack(kept)
        begin, length, rows = unpack(tile)
        n_rows = X.shape[0]
        if is_within(begin, length, n_rows):
            fetch_rows(X, begin, length, rows)
            return
        for b in range(LANES):
            row = min(max(begin + b % CHAINS * length + b // CHAINS, 0), n_rows - 1)
            for d in range(X.shape[1]):
                rows[b, d] = X[row, d]

    return hold, _make_release(packed), np.array([fetch])


@built_once
def make_emissions(functions, dtype, tile_params, slots):
    """Build what keeps parameters, lets go of them, and works tiles under them."""
    allocate, load = functions.allocate, functions.load
    log_density, density_first = functions.log_density, functions.density_first
    accumulate, flush = functions.accumulate, functions.flush
    scratch_type = typeof(allocate(tile_params))
    tile_params_type, slots_type = typeof(tile_params), typeof(slots)
    packed = Packed((tile_params_type, scratch_type, slots_type))

    @serial_kernel(tile_params_type, slots_type, returns=packed)
    def hold(tile_params, slots):
        return keep((tile_params, allocate(tile_params), slots))

    @callee(packed, Packed((ROWS_OF_TILE, LANES_OF_TILE)))
    def set_tile(kept, tile):
        tile_params, scratch, _ = unpack(kept)
        rows, out = unpack(tile)
        load(rows, 0, LANES, tile_params, scratch)
        log_density(tile_params, scratch, out)

    @callee(packed, Packed((ROWS_OF_TILE, LANES_OF_TILE, LANES_OF_TILE, types.int64)))
    def add_tile(kept, tile):
        tile_params, scratch, slots = unpack(kept)
        rows, responsibilities, work, slot = unpack(tile)
        load(rows, 0, LANES, tile_params, scratch)
        if density_first:
            log_density(tile_params, scratch, work)
        accumulate(tile_params, scratch, responsibilities, slots, slot)

    @callee(packed, types.int64)
    def add_rest(kept, slot):
        tile_params, scratch, slots = unpack(kept)
        flush(tile_params, scratch, slots, slot)

    return hold, _make_release(packed), np.array([set_tile, add_tile, add_rest])


def _make_release(packed):
    @callee(packed, types.int64, options={})
    def release(kept, _):
        drop(kept)

    return lambda kept: _make_call()(release, kept, 0)


@functools.cache
def _make_call():
    @serial_kernel(types.int64, types.int64, types.int64)
    def call_with(code, packed, argument):
        call(code, packed, argument)

    return call_with


@tile_function
def is_within(begin, length, n_rows):
    """Say whether ``STEPS`` steps of all stretches of a bundle are rows."""
    return (begin >= 0) & (begin + (CHAINS - 1) * length + STEPS <= n_rows)


@tile_function
def fetch_tile(X, begin, length, rows):
    """Fetch a tile of rows; for those that are not there the nearest stands.

    See :func:`~fastem.kernels.chain_rows.fetch_rows`.
    """
    call(X.code[0], X.kept, (begin, length, rows))


@tile_function
def set_log_density(emissions, thread, rows, out):
    """Set the log density of each component and lane, less ``log_offset``."""
    call(emissions.code[LOG_DENSITY], emissions.kept[thread], (rows, out))


@tile_function
def add_statistics(emissions, thread, rows, responsibilities, work, slot):
    """Add a tile's statistics to a slot."""
    tile = rows, responsibilities, work, slot
    call(emissions.code[ACCUMULATE], emissions.kept[thread], tile)


@tile_function
def add_what_waits(emissions, thread, slot):
    """Add what the statistics of tiles before left waiting."""
    call(emissions.code[FLUSH], emissions.kept[thread], slot)
