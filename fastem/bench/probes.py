"""What the machine can do at best: the rates that limits are made of.

A probe does one thing only, in the way a kernel would: a matrix product of NumPy's
BLAS, a sum over an array too large (or small enough) for a cache, one function of
:mod:`fastem.kernels.vecmath` over a tile that stays in the first cache, or a chain of
operations each of which waits for the one before.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import prange, typeof, types

from fastem.compile import (
    data_type,
    parallel_kernel,
    part_kernel,
    source_digest,
    tile_function,
)
from fastem.kernels.exponentials import set_exponentials
from fastem.kernels.tiles import LANES, MAX_PARTS, STRIDE
from fastem.kernels.vecmath import log

FLOAT64, FLOAT32 = "float64", "float32"
DTYPES = FLOAT64, FLOAT32
MULTIPLY_ADD, ADD_DIVIDE = "multiply-add", "add and divide"

# Rows and columns: a product of eight times the work came to the same rate.
MATRIX_SIZE = 1536
# An array of the largest size is in no cache; the smaller ones are what kernels on few
# rows read from.
READ_MEGABYTES = 4, 16, 64, 256
TRIAD_MEGABYTES = 64
# 16 KB of float64 a part, which stay in the first cache.
TILES = 8
ROUNDS = 100
CHAIN_LINKS = 100_000


class Probe(NamedTuple):
    """A thing to time: ``amount`` units of work a call."""

    name: str
    amount: float
    unit: str
    prepare: callable  # returns the call
    uses_blas: bool = False


def gemm_name(dtype):
    """Return what BLAS calls a product of matrices of a type."""
    return {FLOAT64: "dgemm", FLOAT32: "sgemm"}[dtype]


def read_name(megabytes):
    """Return the name of the probe that reads so much memory."""
    return f"read {megabytes} MB"


def link_name(link):
    """Return the name of the probe of a chain of operations."""
    return f"{link}, each after the last"


def probes():
    """Return all probes, cheap to list: arrays are made when one is prepared."""
    # NumPy's own exponential, and that of one thread, is there for comparison alone.
    return [
        *(
            Probe(
                gemm_name(dtype),
                2.0 * MATRIX_SIZE**3,
                "flop",
                functools.partial(_gemm, dtype),
                uses_blas=True,
            )
            for dtype in DTYPES
        ),
        *(
            Probe(
                read_name(megabytes),
                megabytes * 1e6,
                "byte",
                functools.partial(_read, megabytes),
            )
            for megabytes in READ_MEGABYTES
        ),
        Probe("triad", 3 * TRIAD_MEGABYTES * 1e6, "byte", _triad),
        *(
            Probe(
                f"{function} {dtype}",
                MAX_PARTS * TILES * LANES * ROUNDS,
                "element",
                functools.partial(_elementwise, function, dtype),
            )
            for dtype in DTYPES
            for function in FUNCTIONS
        ),
        *(
            Probe(
                f"numpy.exp {dtype}, one thread",
                MAX_PARTS * TILES * LANES,
                "element",
                functools.partial(_numpy_exp, dtype),
            )
            for dtype in DTYPES
        ),
        *(
            Probe(
                link_name(link),
                MAX_PARTS * CHAIN_LINKS,
                "link",
                functools.partial(_links, link),
            )
            for link in LINKS
        ),
    ]


def _gemm(dtype):
    shape = 3, MATRIX_SIZE, MATRIX_SIZE
    left, right, product = np.random.default_rng(0).normal(size=shape).astype(dtype)
    return functools.partial(np.matmul, left, right, product)


def _read(megabytes):
    x = np.ones(int(megabytes * 1e6) // 8)
    return functools.partial(make_read(), MAX_PARTS, x, np.empty(MAX_PARTS))


def _triad():
    a, b, c = np.ones((3, int(TRIAD_MEGABYTES * 1e6) // 8))
    return functools.partial(make_triad(), MAX_PARTS, a, b, c)


def _elementwise(function, dtype):
    x = np.full((MAX_PARTS, TILES * STRIDE), 0.5, dtype)
    return functools.partial(make_elementwise(function, dtype), MAX_PARTS, x, ROUNDS)


def _numpy_exp(dtype):
    x = np.full(TILES * LANES, -0.5, dtype)
    out = np.empty_like(x)

    def call():
        for _ in range(MAX_PARTS):
            np.exp(x, out=out)

    return call


def _links(link):
    ends = np.ones(MAX_PARTS)
    return functools.partial(make_links(link), MAX_PARTS, CHAIN_LINKS, 0.5, ends)


# --------------------------------------------------------------------------- kernels


@functools.cache
def make_read():
    """Build the kernel that sums an array, a part at a time."""
    digest = source_digest()
    arguments = data_type(FLOAT64, 1, "C"), typeof(np.empty(1))

    @part_kernel(*arguments)
    def read_part(x, sums, part):
        digest  # noqa: B018 - in the closure, hence in the key of the disk cache
        total = 0.0
        for i in range(_begin(x, part), _begin(x, part + 1)):
            total += x[i]
        sums[part] = total

    @parallel_kernel(*arguments)
    def run(run_part, n_parts, x, sums):
        for part in prange(n_parts):
            run_part(x, sums, np.int64(part))

    return functools.partial(run, read_part)


@functools.cache
def make_triad():
    """Build the kernel that sets ``a = b + s c``, J. D. McCalpin's STREAM triad."""
    digest = source_digest()
    vector = typeof(np.empty(1))
    arguments = vector, vector, vector

    @part_kernel(*arguments)
    def triad_part(a, b, c, part):
        digest  # noqa: B018 - in the closure, hence in the key of the disk cache
        for i in range(_begin(a, part), _begin(a, part + 1)):
            a[i] = b[i] + 3.0 * c[i]

    @parallel_kernel(*arguments)
    def run(run_part, n_parts, a, b, c):
        for part in prange(n_parts):
            run_part(a, b, c, np.int64(part))

    return functools.partial(run, triad_part)


@tile_function
def _begin(x, part):
    """Return where a part of an array begins."""
    return np.uint64(part * x.size // MAX_PARTS)


# Each takes numbers between 0 and 1 to numbers there, so that the rounds over a tile
# neither overflow nor come to denormal numbers; the one more addition is counted in.


@tile_function
def _exp(rows, ones, spare):
    set_exponentials(rows, TILES, ones, spare)


@tile_function
def _log(rows, ones, spare):
    for tile in range(TILES):
        lanes = rows[tile * STRIDE : tile * STRIDE + LANES]
        for b in range(LANES):
            lanes[b] = log(lanes[b] + ones[b])


@tile_function
def _divide(rows, ones, spare):
    for tile in range(TILES):
        lanes = rows[tile * STRIDE : tile * STRIDE + LANES]
        for b in range(LANES):
            lanes[b] = ones[b] / (lanes[b] + ones[b])


@tile_function
def _sqrt(rows, ones, spare):
    for tile in range(TILES):
        lanes = rows[tile * STRIDE : tile * STRIDE + LANES]
        for b in range(LANES):
            lanes[b] = np.sqrt(lanes[b])


FUNCTIONS = {"exp": _exp, "log": _log, "divide": _divide, "sqrt": _sqrt}


@functools.cache
def make_elementwise(function, dtype):
    """Build the kernel that takes a tile's elements through a function, in rounds."""
    digest = source_digest()
    apply = FUNCTIONS[function]

    @part_kernel(*_elementwise_arguments(dtype))
    def apply_part(x, n_rounds, part):
        digest  # noqa: B018 - in the closure, hence in the key of the disk cache
        ones, spare = np.ones(LANES, x.dtype), np.empty(LANES, x.dtype)
        for _ in range(n_rounds):
            apply(x[part], ones, spare)

    return functools.partial(_make_run_elementwise(dtype), apply_part)


@functools.cache
def _make_run_elementwise(dtype):
    @parallel_kernel(*_elementwise_arguments(dtype))
    def run(run_part, n_parts, x, n_rounds):
        for part in prange(n_parts):
            run_part(x, n_rounds, np.int64(part))

    return run


def _elementwise_arguments(dtype):
    return typeof(np.empty((1, 1), dtype)), types.int64


@tile_function
def _multiply_add(x, half):
    return x * half + half


@tile_function
def _add_divide(x, half):
    return half / (x + half)


LINKS = {MULTIPLY_ADD: _multiply_add, ADD_DIVIDE: _add_divide}


_LINKS_ARGUMENTS = types.int64, types.float64, typeof(np.empty(1))


@functools.cache
def make_links(link):
    """Build the kernel in which each operation waits for the one before."""
    digest = source_digest()
    apply = LINKS[link]

    @part_kernel(*_LINKS_ARGUMENTS)
    def follow_part(n_links, half, ends, part):
        digest  # noqa: B018 - in the closure, hence in the key of the disk cache
        x = ends[part]
        for _ in range(n_links):
            x = apply(x, half)
        ends[part] = x

    return functools.partial(_make_run_links(), follow_part)


@functools.cache
def _make_run_links():
    @parallel_kernel(*_LINKS_ARGUMENTS)
    def run(run_part, n_parts, n_links, half, ends):
        for part in prange(n_parts):
            run_part(n_links, half, ends, np.int64(part))

    return run
