"""What the machine can do at best: the rates that limits are made of.

A probe does one thing only, in the way a kernel would: a matrix product of NumPy's
BLAS, a sum over an array too large (or small enough) for a cache, one function of
:mod:`fastem.kernels.vecmath` over a tile that stays in the first cache, or a chain of
operations each of which waits for the one before.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import typeof, types

from fastem.compile import (
    data_type,
    parallel_kernel,
    tile_function,
)
from fastem.kernels.exponentials import set_exponentials
from fastem.kernels.tiles import LANES, MAX_PARTS, STRIDE
from fastem.kernels.vecmath import log
from fastem.lowering import unpack

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
    arguments = data_type(FLOAT64, 1, "C"), typeof(np.empty(1))

    @parallel_kernel(*arguments)
    def read_part(packed, part):
        x, sums = unpack(packed)
        total = 0.0
        for i in range(_begin(x, part), _begin(x, part + 1)):
            total += x[i]
        sums[part] = total

    return read_part


@functools.cache
def make_triad():
    """Build the kernel that sets ``a = b + s c``, J. D. McCalpin's STREAM triad."""
    vector = typeof(np.empty(1))
    arguments = vector, vector, vector

    @parallel_kernel(*arguments)
    def triad_part(packed, part):
        a, b, c = unpack(packed)
        for i in range(_begin(a, part), _begin(a, part + 1)):
            a[i] = b[i] + 3.0 * c[i]

    return triad_part


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
    apply = FUNCTIONS[function]

    @parallel_kernel(*_elementwise_arguments(dtype))
    def apply_part(packed, part):
        x, n_rounds = unpack(packed)
        ones, spare = np.ones(LANES, x.dtype), np.empty(LANES, x.dtype)
        for _ in range(n_rounds):
            apply(x[part], ones, spare)

    return apply_part


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
    apply = LINKS[link]

    @parallel_kernel(*_LINKS_ARGUMENTS)
    def follow_part(packed, part):
        n_links, half, ends = unpack(packed)
        x = ends[part]
        for _ in range(n_links):
            x = apply(x, half)
        ends[part] = x

    return follow_part
