"""Tile functions against plain NumPy, one by one.

They are small enough to run without the JIT as well; test_nojit.py sees to that.
"""

import functools
from typing import NamedTuple

import numpy as np
import pytest
from numba import config, njit

from fastem.kernels import (
    lanes,
    maxima,
    memory,
    outer,
    products,
    registers,
    responsibilities,
    sparse,
    tiles,
    triangles,
    upright,
)
from fastem.kernels.tiles import LANES, STRIDE

DTYPES = (np.float64, np.float32)
# A product of at most 33 terms of order one, and a sum over 256 lanes.
TOLERANCE = {
    np.float64: {"rtol": 1e-13, "atol": 1e-13},
    np.float32: {"rtol": 1e-4, "atol": 1e-4},
}
# Even, as padded() makes them: blocks of four, of two, and both.
SIZES = (2, 4, 6, 8, 10, 14)


@functools.cache
def compiled(function):
    """A tile function as a kernel would call it; itself where the JIT is disabled."""

    @njit
    def call(*arguments):
        return function(*arguments)

    return call


def to_tile(rows):
    """Rows on their side, lanes `STRIDE` apart, with rubbish between the tiles."""
    n_rows, size = rows.shape
    tile = np.full(size * STRIDE, 7, rows.dtype)
    for i in range(size):
        tile[i * STRIDE : i * STRIDE + LANES] = 0
        tile[i * STRIDE : i * STRIDE + n_rows] = rows[:, i]
    return tile


def from_tile(tile, size):
    return tile.reshape(size, STRIDE)[:, :LANES].T


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize(
    ("size", "block", "want"), [(1, 2, 2), (2, 2, 2), (33, 2, 34), (5, 4, 8), (8, 4, 8)]
)
def test_padded(size, block, want):
    assert tiles.padded(size, block) == want


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_rows", [1, 3, LANES - 1, LANES])
def test_load_tile(rng, dtype, n_rows):
    X = rng.normal(size=(n_rows + 5, 3)).astype(dtype)
    origin = rng.normal(size=3).astype(dtype)
    inverse_scale = np.array([0.5, 1, 4], dtype)
    tile = np.full(3 * STRIDE, np.nan, dtype)
    compiled(tiles.load_tile)(X, 2, 2 + n_rows, origin, inverse_scale, tile)
    want = np.zeros((LANES, 3), dtype)
    want[:n_rows] = (X[2 : 2 + n_rows] - origin) * inverse_scale
    np.testing.assert_array_equal(from_tile(tile, 3), want)


@pytest.mark.parametrize("n_features", [3, 10])
@pytest.mark.parametrize("n_rows", [1, 3, LANES])
def test_a_narrow_tile_of_wide_rows(rng, n_features, n_rows):
    """Rows are centred before they are rounded."""
    X = 1e8 + rng.normal(size=(n_rows, n_features))
    origin, ones = np.full(n_features, 1e8), np.ones(n_features)
    tile = np.full(n_features * STRIDE, np.nan, np.float32)
    compiled(tiles.load_tile)(X, 0, n_rows, origin, ones, tile)
    want = np.zeros((LANES, n_features), np.float32)
    want[:n_rows] = X - origin
    np.testing.assert_array_equal(from_tile(tile, n_features), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_rows", [1, LANES])
@pytest.mark.parametrize("strided", [False, True])
def test_load_rows(rng, dtype, n_rows, strided):
    X = rng.normal(size=(n_rows + 5, 14)).astype(dtype)
    X = X[:, ::2] if strided else np.ascontiguousarray(X[:, ::2])
    origin = rng.normal(size=7).astype(dtype)
    inverse_scale = np.ldexp(1.0, rng.integers(-3, 4, size=7)).astype(dtype)
    rows = np.full((LANES, 7), np.nan, dtype)
    compiled(tiles.load_rows)(X, 2, 2 + n_rows, origin, inverse_scale, rows)
    want = np.zeros((LANES, 7), dtype)
    want[:n_rows] = (X[2 : 2 + n_rows] - origin) * inverse_scale
    np.testing.assert_array_equal(rows, want)


@pytest.mark.parametrize("n_rows", [1, 3, LANES - 1, LANES])
@pytest.mark.parametrize("weighted", [False, True])
def test_load_weights(rng, n_rows, weighted):
    w = rng.exponential(size=n_rows + 5) if weighted else np.empty(0)
    tile_weight = np.full(LANES, np.nan)
    compiled(tiles.load_weights)(w, 2, 2 + n_rows, tile_weight)
    want = np.zeros(LANES)
    want[:n_rows] = w[2 : 2 + n_rows] if weighted else 1
    np.testing.assert_array_equal(tile_weight, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_rows", "n_columns"), [(4, 4), (8, 4), (4, 12), (8, 8)])
def test_multiply(rng, dtype, n_rows, n_columns):
    matrix = rng.normal(size=(n_rows, n_columns)).astype(dtype)
    shift = rng.normal(size=n_rows).astype(dtype)
    rows = rng.normal(size=(LANES, n_columns)).astype(dtype)
    out = np.full(n_rows * STRIDE, np.nan, dtype)
    compiled(products.multiply)(matrix, shift, n_rows, n_columns, to_tile(rows), out)
    want = rows.astype(float) @ matrix.T.astype(float) + shift
    np.testing.assert_allclose(from_tile(out, n_rows), want, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_subtract_lower_norm(rng, dtype, size):
    lower = np.tril(rng.normal(size=(size, size))).astype(dtype)
    # What lies above the diagonal must not be read.
    dirty = lower + np.triu(np.full((size, size), np.nan, dtype), k=1)
    shift = rng.normal(size=size).astype(dtype)
    rows = rng.normal(size=(LANES, size)).astype(dtype)
    out = rng.normal(size=LANES).astype(dtype)
    norms = np.square(rows.astype(float) @ lower.T.astype(float) + shift).sum(axis=1)
    want = out - norms
    upper = np.ascontiguousarray(dirty.T)
    compiled(products.subtract_lower_norm)(upper, shift, size, to_tile(rows), out)
    # Squares of up to 14 terms: about a hundred in size.
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(
        out, want, rtol=tolerance["rtol"], atol=100 * tolerance["atol"]
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_lanes", [1, 5, 64, LANES])
@pytest.mark.parametrize(("n_rows", "n_columns"), [(4, 4), (8, 4), (4, 8)])
def test_add_outer(rng, dtype, n_lanes, n_rows, n_columns):
    a = rng.normal(size=(LANES, n_rows)).astype(dtype)
    b = rng.normal(size=(LANES, n_columns)).astype(dtype)
    a[n_lanes:], b[n_lanes:] = 0, 0
    total = rng.normal(size=n_rows * n_columns)
    want = total.reshape(n_rows, n_columns) + a[:n_lanes].T.astype(float) @ b[:n_lanes]
    compiled(outer.add_outer)(
        to_tile(a), n_rows, to_tile(b), n_columns, n_lanes, STRIDE, total
    )
    np.testing.assert_allclose(
        total.reshape(n_rows, n_columns), want, **TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_lanes", [1, 5, 64, LANES])
@pytest.mark.parametrize("size", SIZES)
def test_add_lower_outer(rng, dtype, n_lanes, size):
    y = rng.normal(size=(LANES, size)).astype(dtype)
    weighted = y * rng.random((LANES, 1)).astype(dtype)
    y[n_lanes:], weighted[n_lanes:] = 0, 0
    total = rng.normal(size=size * (size + 1) // 2)
    product = weighted[:n_lanes].T.astype(float) @ y[:n_lanes]
    want = total + product[np.tril_indices(size)]
    compiled(outer.add_lower_outer)(
        to_tile(weighted), to_tile(y), size, n_lanes, STRIDE, total
    )
    np.testing.assert_allclose(total, want, **TOLERANCE[dtype])


WIDTHS = pytest.mark.parametrize("width", [lanes.WIDE, (0,) * 2], ids=len)


@WIDTHS
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(("first", "end"), [(0, 12), (4, 8), (8, 8)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_add_product(rng, dtype, first, end, fresh, width):
    matrix = rng.normal(size=(8, 12)).astype(dtype)
    x, out = (rng.normal(size=(LANES, size)).astype(dtype) for size in (12, 4))
    want = x[:, first:end].astype(float) @ matrix[4:8, first:end].T
    want += 0 if fresh else out
    want[16 * len(width) :] = out[16 * len(width) :]
    got = to_tile(out)
    run_over_lanes(registers.add_product, matrix, first, end, fresh, x, got, width)
    np.testing.assert_allclose(from_tile(got, 4), want, **TOLERANCE[dtype])


@WIDTHS
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(("first", "end"), [(0, 12), (4, 8), (8, 8)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_add_best_sum(rng, dtype, first, end, fresh, width):
    matrix = rng.normal(size=(8, 12)).astype(dtype)
    matrix[5], matrix[6, 4] = -np.inf, -np.inf
    x, out = (rng.normal(size=(LANES, size)).astype(dtype) for size in (12, 4))
    x[7] = -np.inf
    sums = x[:, None, first:end] + matrix[4:8, first:end]
    want = np.full_like(out, -np.inf) if fresh else out.copy()
    want = np.maximum(want, sums.max(axis=2, initial=-np.inf))
    want[16 * len(width) :] = out[16 * len(width) :]
    got = to_tile(out)
    run_over_lanes(registers.add_best_sum, matrix, first, end, fresh, x, got, width)
    np.testing.assert_array_equal(from_tile(got, 4), want)


def run_over_lanes(function, matrix, first, end, fresh, x, out, width):
    """Combine rows 4..8 of a matrix with rows first..end of a tile, in all lanes."""
    tile = to_tile(x)
    call = compiled(function)
    step = compiled(registers.block_lanes)(tile, width)
    for lane in range(0, 16 * len(width), step):
        call(matrix, 4, first, end, fresh, tile, out, lane, width)


@pytest.mark.parametrize(("n_rows", "n_columns"), [(4, 4), (8, 12)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_set_best_product(rng, dtype, n_rows, n_columns):
    matrix = rng.integers(-3, 4, size=(n_rows, n_columns)).astype(dtype)
    matrix[3] = matrix[1]
    shift = rng.integers(-3, 4, size=n_rows).astype(dtype)
    shift[3], shift[2] = shift[1], -np.inf
    x = rng.integers(-3, 4, size=(LANES, n_columns)).astype(dtype)
    tile = to_tile(x)
    best, lead = np.full((2, LANES), np.nan, dtype)
    alone = best.copy()
    call = compiled(registers.set_best_product)
    step = compiled(registers.block_lanes)(tile, lanes.WIDE)
    for lane in range(0, LANES, step):
        call(matrix, shift, tile, best, lead, lane)
        call(matrix, shift, tile, alone, None, lane)
    values = x @ matrix.T + shift
    np.testing.assert_array_equal(best, values.argmax(axis=1))
    np.testing.assert_array_equal(alone, best)
    values.sort(axis=1)
    np.testing.assert_array_equal(lead, values[:, -1] - values[:, -2])
    assert (lead == 0).any() and (lead > 0).any()


@pytest.mark.parametrize("n_columns", [1, 4, 13])
@pytest.mark.parametrize("with_ahead", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_set_best_bound(rng, dtype, with_ahead, n_columns):
    x, factors, shifts = (
        rng.integers(-3, 4, size=(rows, 13)).astype(dtype) for rows in (LANES, 8, 8)
    )
    factors[3], shifts[3] = factors[1], shifts[1]
    start = rng.integers(-3, 1, size=8).astype(dtype)
    start[3], start[2] = start[1], -np.inf
    tile, out = to_tile(x), np.full(8 * STRIDE, np.nan, dtype)
    largest, best, second = bests = np.full((3, LANES), np.nan, dtype)
    ahead = (x.ctypes.data, 16) if with_ahead else (0, 0)
    call = compiled(registers.set_best_bound)
    step = compiled(registers.block_lanes)(tile, lanes.WIDE)
    for lane in range(0, LANES, step):
        call(start, factors, shifts, n_columns, tile, out, tuple(bests), lane, ahead)
    z = x[:, None, :n_columns] * factors[:, :n_columns] + shifts[:, :n_columns]
    values = start - (z**2).sum(axis=2)
    np.testing.assert_array_equal(out.reshape(8, STRIDE)[:, :LANES], values.T)
    np.testing.assert_array_equal(best, values.argmax(axis=1))
    values.sort(axis=1)
    np.testing.assert_array_equal(second, values[:, -2])
    np.testing.assert_array_equal(largest, values[:, -1])
    assert (second == largest).any() and (second < largest).any()


def upright_rows(rng, dtype, size):
    """Return a tile of rows and what takes them to tile coordinates."""
    rows = rng.normal(size=(LANES, size)).astype(dtype)
    return rows, rng.normal(size=size).astype(dtype), np.full(size, 0.5, dtype)


@pytest.mark.parametrize("n_pairs", [1, 4, 11])
@pytest.mark.parametrize("size", [1, 4, 9, 16, 39])
@pytest.mark.parametrize("with_ahead", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_set_norms_of_pairs(rng, dtype, with_ahead, size, n_pairs):
    rows, origin, scale = upright_rows(rng, dtype, size)
    start = rng.normal(size=3).astype(dtype)
    factors, shifts = rng.normal(size=(2, 3, size + size % 2)).astype(dtype)
    chosen, components = (
        rng.integers(LANES, size=n_pairs),
        rng.integers(3, size=n_pairs),
    )
    out = np.full(3 * STRIDE, np.nan, dtype)
    ahead = rows.ctypes.data if with_ahead else 0
    compiled(upright.set_norms_of_pairs)(
        start, factors, shifts, rows, origin, scale, chosen, components, out, ahead
    )
    x = (rows.astype(np.float64) - origin) * scale
    z = x[chosen] * factors[components, :size] + shifts[components, :size]
    want = np.full_like(out, np.nan)
    want[components * STRIDE + chosen] = start[components] - (z**2).sum(axis=1)
    np.testing.assert_allclose(out, want, **TOLERANCE[dtype])


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("size", [1, 9, 39, 64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_add_deviations_of_rows(rng, dtype, size, count):
    rows, origin, scale = upright_rows(rng, dtype, size)
    center = rng.normal(size=size + size % 2).astype(dtype)
    roots, chosen = rng.random(LANES).astype(dtype), rng.permutation(LANES)[:count]
    first, width = rng.normal(size=size + size % 2), size + 3
    out = np.full((count + 1, width), np.nan, dtype)
    y = (rows[chosen].astype(np.float64) - origin) * scale - center[:size]
    y *= roots[:count, None]
    want_first, want = first.copy(), np.full_like(out, np.nan)
    want_first[:size] += roots[:count] @ y
    want[:count, :size] = y
    compiled(triangles.add_deviations_of_rows)(
        rows, origin, scale, center, roots, chosen, first, out.reshape(-1), width
    )
    np.testing.assert_allclose(first, want_first, **TOLERANCE[dtype])
    np.testing.assert_allclose(out, want, **TOLERANCE[dtype])


@pytest.mark.parametrize("n_rows", [0, 1, 5, 64])
@pytest.mark.parametrize("size", [2, 4, 18, 26, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_add_lower_outer_of_rows(rng, dtype, size, n_rows):
    y = rng.normal(size=(n_rows, size)).astype(dtype)
    width = tiles.padded(size, triangles.block_entries(y))
    rows = np.zeros((n_rows + 1, width), dtype)
    rows[:n_rows, :size], rows[n_rows] = y, np.nan
    total = rng.normal(size=size * (size + 1) // 2)
    product = y.T.astype(float) @ y
    want = total + product[np.tril_indices(size)]
    compiled(triangles.add_lower_outer_of_rows)(
        rows.reshape(-1), size, n_rows, width, total
    )
    np.testing.assert_allclose(total, want, **TOLERANCE[dtype])


@pytest.mark.parametrize("n_pairs", [0, 1, 4, 7])
@pytest.mark.parametrize("size", [1, 5, 24, 39, 64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_subtract_norms_of_rows(rng, dtype, size, n_pairs):
    rows, origin, scale = upright_rows(rng, dtype, size)
    width = tiles.padded(size, triangles.block_entries(rows))
    upper = np.zeros((size + size % 2, width), dtype)
    upper[:size, :size] = np.triu(rng.normal(size=(size, size)))
    shift = np.zeros(width, dtype)
    shift[:size] = rng.normal(size=size)
    chosen = rng.permutation(LANES)[:n_pairs]
    out, work = np.full(LANES, np.nan, dtype), np.full(4 * width, np.nan, dtype)
    start = dtype(1.5)
    compiled(triangles.subtract_norms_of_rows)(
        start, upper, shift, rows, origin, scale, chosen, work, out
    )
    z = ((rows[chosen].astype(np.float64) - origin) * scale) @ upper[:size] + shift
    want = np.full_like(out, np.nan)
    want[chosen] = start - (z**2).sum(axis=1)
    # Squares of up to 64 terms: a thousand in size.
    np.testing.assert_allclose(out, want, rtol=100 * TOLERANCE[dtype]["rtol"])


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("size", [1, 4, 9, 16, 39, 64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_add_moments_of_rows(rng, dtype, size, count):
    rows, origin, scale = upright_rows(rng, dtype, size)
    center = rng.normal(size=size + size % 2).astype(dtype)
    weights, chosen = rng.random(LANES).astype(dtype), rng.permutation(LANES)[:count]
    first, second = rng.normal(size=(2, size + size % 2))
    y = (rows[chosen].astype(np.float64) - origin) * scale - center[:size]
    want_first, want_second = first.copy(), second.copy()
    want_first[:size] += weights[chosen] @ y
    want_second[:size] += weights[chosen] @ y**2
    compiled(upright.add_moments_of_rows)(
        rows, origin, scale, center, weights, chosen, first, second
    )
    np.testing.assert_allclose(first, want_first, **TOLERANCE[dtype])
    np.testing.assert_allclose(second, want_second, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [1, 3, (2, 3), (4, 1, 5)])
def test_arrays_of_compiled_code(shape, dtype):
    @njit
    def make(shape, dtype):
        return (
            memory.empty(shape, dtype),
            memory.zeros(shape, dtype),
            memory.full(shape, 7, dtype),
            memory.zeros_from(1, shape, dtype),
        )

    empty, zeros, sevens, partly = make(shape, dtype)
    for array in (empty, zeros, sevens, partly):
        assert array.shape == np.empty(shape).shape
        assert array.dtype == dtype
        assert array.flags.c_contiguous
    assert (zeros == 0).all()
    assert (sevens == 7).all()
    assert (partly[1:] == 0).all()
    empty[:] = 3  # to be written and freed like any other
    assert (empty == 3).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_at_address(dtype):
    rows = np.arange(12, dtype=dtype).reshape(4, 3)
    like = np.zeros((2, 3), dtype)
    address = rows[1:].ctypes.data

    @njit
    def total(address, like):
        return tiles.at_address(address, like).sum()

    assert total(0, like) == 0
    if not config.DISABLE_JIT:  # without it, rows always lie in the copy
        assert total(address, like) == rows[1:3].sum()


@WIDTHS
@pytest.mark.parametrize("n_rows", [0, 1, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_set_largest(rng, dtype, n_rows, width):
    x = rng.normal(size=(LANES, n_rows)).astype(dtype)
    x[3], x[4:6, :1], x[9] = -np.inf, np.nan, -5
    out = rng.normal(size=LANES).astype(dtype)
    want = np.fmax.reduce(x, axis=1, initial=-3)
    want[16 * len(width) :] = out[16 * len(width) :]
    compiled(maxima.set_largest)(to_tile(x), n_rows, -3.0, out, width)
    np.testing.assert_array_equal(out, want)


@WIDTHS
@pytest.mark.parametrize("n_rows", [1, 2, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_set_best(rng, dtype, n_rows, width):
    x = rng.normal(size=(LANES, n_rows)).astype(dtype)
    x[3], x[5] = -np.inf, x[5, 0]
    largest, second, best = rng.normal(size=(3, LANES)).astype(dtype)
    inside = np.arange(LANES) < 16 * len(width)
    want = np.where(inside, x.max(axis=1), largest)
    want_best = np.where(inside, x.argmax(axis=1), best)
    others = np.sort(x, axis=1)[:, -2] if n_rows > 1 else np.full(LANES, -np.inf)
    want_second = np.where(inside, others, second)
    call = compiled(maxima.set_best)
    call(to_tile(x), n_rows, largest, second, best, width)
    np.testing.assert_array_equal(largest, want)
    np.testing.assert_array_equal(best, want_best)
    np.testing.assert_array_equal(second, want_second)
    alone = np.where(inside, np.nan, best).astype(dtype)
    call(to_tile(x), n_rows, largest, None, alone, width)
    np.testing.assert_array_equal(alone, best)


@WIDTHS
@pytest.mark.parametrize("n_rows", [1, 3, 8])
def test_set_best_source(rng, n_rows, width):
    n_lanes = 16 * len(width)
    matrix = rng.normal(size=(8, 8))
    scores = rng.normal(size=(LANES, n_rows))
    scores[5], scores[6] = -np.inf, 0.0
    state = rng.integers(8, size=LANES).astype(float)
    matrix[:, int(state[6])] = 1.0
    sums = scores + matrix[:n_rows, state.astype(int)].T
    want = np.where(np.arange(LANES) < n_lanes, sums.argmax(axis=1), state)
    want[5] = state[5]
    compiled(maxima.set_best_source)(matrix, to_tile(scores), n_rows, state, width)
    np.testing.assert_array_equal(state, want)


@pytest.mark.parametrize("n_lanes", [0, 1, 100, LANES])
def test_lane_sum(rng, n_lanes):
    values = rng.normal(size=LANES)
    got = compiled(tiles.lane_sum)(values, n_lanes)
    np.testing.assert_allclose(got, values[:n_lanes].sum(), **TOLERANCE[np.float64])


def test_count_positive(rng):
    values = np.zeros(LANES)
    values[rng.choice(LANES, 37, replace=False)] = 1e-300
    assert compiled(tiles.count_positive)(values) == 37
    assert compiled(tiles.count_positive)(-values) == 0


class TestResponsibilities:
    K = 3

    def inputs(self, rng, dtype, spread):
        """Joint log densities, weights with some zeros, and their NumPy answers."""
        joint = (spread * rng.normal(size=(LANES, self.K))).astype(dtype)
        weight = rng.exponential(size=LANES).astype(dtype)
        weight[::7] = 0
        return joint, weight

    def run(self, function, joint, weight):
        p = to_tile(joint)
        log_likelihood = np.zeros(LANES, joint.dtype)
        work = np.empty(3 * STRIDE, joint.dtype)
        compiled(function)(p, self.K, weight, log_likelihood, work)
        return from_tile(p, self.K), log_likelihood

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("spread", [1.0, 30.0])
    def test_soft(self, rng, dtype, spread):
        joint, weight = self.inputs(rng, dtype, spread)
        got, log_likelihood = self.run(
            responsibilities.soft_responsibilities, joint, weight
        )
        exact = joint.astype(np.float64)
        want_likelihood = np.logaddexp.reduce(exact, axis=1)
        want = np.exp(exact - want_likelihood[:, None]) * weight[:, None]
        rtol = 1e-13 if dtype == np.float64 else 2e-5
        np.testing.assert_allclose(log_likelihood, want_likelihood, rtol=rtol)
        np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-16)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_negligible_ones_are_exactly_zero(self, rng, dtype):
        joint = np.zeros((LANES, self.K), dtype)
        joint[:, 1], joint[:, 2] = -38, -60  # e**-38 is 3e-17, e**-60 is 9e-27
        got, _ = self.run(
            responsibilities.soft_responsibilities, joint, np.ones(LANES, dtype)
        )
        assert np.all(got[:, 0] == 1)
        assert np.all(got[:, 1] > 0)
        assert np.all(got[:, 2] == 0)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_densities_that_underflow_still_compare(self, rng, dtype):
        """e**-5000 is zero in any format; Bayes' rule does not mind."""
        joint = rng.normal(size=(LANES, self.K)).astype(dtype) - dtype(5000)
        got, log_likelihood = self.run(
            responsibilities.soft_responsibilities, joint, np.ones(LANES, dtype)
        )
        shifted = joint.astype(np.float64) + 5000
        want = np.exp(shifted - np.logaddexp.reduce(shifted, axis=1)[:, None])
        rtol = 1e-11 if dtype == np.float64 else 1e-5
        np.testing.assert_allclose(got, want, rtol=rtol)
        np.testing.assert_allclose(
            log_likelihood, np.logaddexp.reduce(joint.astype(float), axis=1), rtol=rtol
        )

    @pytest.mark.parametrize("value", [-np.inf, np.nan])
    def test_rows_that_no_component_explains_are_shared(self, value):
        joint = np.full((LANES, self.K), value)
        got, log_likelihood = self.run(
            responsibilities.soft_responsibilities, joint, np.ones(LANES)
        )
        np.testing.assert_allclose(got, 1 / self.K)
        assert np.all(np.isfinite(log_likelihood))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_component_of_weight_zero_gets_nothing(self, rng, dtype):
        joint, weight = self.inputs(rng, dtype, 1.0)
        joint[:, 1] = -np.inf
        got, _ = self.run(responsibilities.soft_responsibilities, joint, weight)
        assert np.all(got[:, 1] == 0)
        np.testing.assert_allclose(got.sum(axis=1), weight, rtol=1e-6)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_hard(self, rng, dtype):
        joint, weight = self.inputs(rng, dtype, 1.0)
        joint[5] = joint[5, 0]  # a tie goes to the first
        got, log_likelihood = self.run(
            responsibilities.hard_responsibilities, joint, weight
        )
        want = np.zeros_like(joint)
        want[np.arange(LANES), joint.argmax(axis=1)] = weight
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(log_likelihood, joint.max(axis=1))

    @pytest.mark.parametrize("n_rows", [1, 100, LANES])
    def test_given(self, rng, n_rows):
        gamma = rng.dirichlet(np.ones(self.K), size=n_rows + 3)
        weight = rng.exponential(size=LANES)
        p = np.full(self.K * STRIDE, np.nan)
        compiled(responsibilities.given_responsibilities)(
            gamma, 2, 2 + n_rows, weight, p
        )
        want = np.zeros((LANES, self.K))
        want[:n_rows] = gamma[2 : 2 + n_rows] * weight[:n_rows, None]
        np.testing.assert_array_equal(from_tile(p, self.K), want)

    def test_weighted_sum_skips_rows_without_weight(self, rng):
        values, weight = rng.normal(size=LANES), rng.exponential(size=LANES)
        weight[::3] = 0
        values[::3] = -np.inf
        got = compiled(responsibilities.weighted_sum)(values, weight)
        kept = weight > 0
        np.testing.assert_allclose(got, weight[kept] @ values[kept], rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 1])
def test_list_positive(rng, dtype, share):
    values = np.where(rng.random(LANES) < share, rng.random(LANES), -0.0).astype(dtype)
    values[[3, 64, 255]] = np.nan, -1, 1e-30
    lanes = np.empty(LANES, np.int64)
    count = compiled(sparse.list_positive)(values, lanes)
    np.testing.assert_array_equal(lanes[:count], np.flatnonzero(values > 0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("floor", [1, 0.25, -0.5])
def test_list_above_one_floor(rng, dtype, floor):
    values = rng.normal(size=LANES).astype(dtype)
    values[3] = np.nan
    lanes = np.empty(LANES, np.int64)
    count = compiled(sparse.list_above)(values, floor, lanes)
    np.testing.assert_array_equal(lanes[:count], np.flatnonzero(values > floor))


@pytest.mark.parametrize("dtype", DTYPES)
def test_list_above_a_floor_for_each(rng, dtype):
    values, floor = rng.normal(size=(2, LANES)).astype(dtype)
    values[[3, 64]], floor[[5, 200]], values[7] = np.nan, np.nan, floor[7]
    values[9] = floor[11] = -np.inf
    lanes = np.empty(LANES, np.int64)
    count = compiled(sparse.list_above)(values, floor, lanes)
    np.testing.assert_array_equal(lanes[:count], np.flatnonzero(values > floor))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_lanes", [0, 4, 60, 128])
def test_gathered_deviations(rng, dtype, n_lanes):
    values, x = rng.random(LANES).astype(dtype), rng.normal(size=LANES).astype(dtype)
    lanes = rng.integers(LANES, size=n_lanes)
    roots, out = np.full(LANES, 7, dtype), np.full(LANES, 7, dtype)
    compiled(sparse.gather_roots)(values, lanes, roots)
    np.testing.assert_array_equal(roots[:n_lanes], np.sqrt(values[lanes]))
    center, roots = dtype(0.3), roots[:n_lanes].copy()
    got = compiled(sparse.gather_deviations)(x, center, lanes, roots, out)
    expected = roots * (x[lanes] - center)
    np.testing.assert_array_equal(out[:n_lanes], expected)
    # Nothing is written beyond the lanes asked for.
    assert (out[n_lanes:] == 7).all()
    tolerance = n_lanes * np.finfo(dtype).eps
    np.testing.assert_allclose(got, (roots * expected).sum(), atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_set_scaled_norms(rng, dtype, size):
    X = rng.normal(size=(LANES, size)).astype(dtype)
    start = rng.normal(size=3).astype(dtype)
    factors, shifts = rng.normal(size=(2, 3, size)).astype(dtype)
    out = np.full(3 * STRIDE, np.nan, dtype)  # what was there does not matter
    compiled(products.set_scaled_norms)(start, factors, shifts, to_tile(X), out)
    norms = ((X[:, None] * factors + shifts) ** 2).sum(axis=2)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(from_tile(out, 3), start - norms, **tolerance)


class Scratch(NamedTuple):
    tile: np.ndarray
    roots: np.ndarray
    pending: np.ndarray
    held: np.ndarray


class Slots(NamedTuple):
    second: np.ndarray


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("counts", [[1], [3, 61, 1], [63, 2], [64], [128, 5, 127]])
def test_lanes_that_wait_for_a_block(rng, dtype, counts):
    size, n_pairs = 6, 21
    slots = Slots(np.zeros((1, 1, n_pairs)))
    first, second = np.zeros(size), slots.second[0, 0]
    expected_first, expected_second = np.zeros(size), np.zeros((size, size))
    center = rng.normal(size=size).astype(dtype)
    # Rubbish where lanes are to wait, as much as memory may hold.
    pending = np.full((1, size * sparse.PENDING_STRIDE), np.nan, dtype)
    roots, held = np.full(LANES, np.nan, dtype), np.zeros(1, np.int64)
    for count in counts:
        X, r = rng.normal(size=(LANES, size)), rng.random(LANES)
        lanes = np.full(LANES, 9, np.int64)
        lanes[:count] = np.sort(rng.permutation(LANES)[:count])
        scratch = Scratch(to_tile(X.astype(dtype)), roots, pending, held)
        compiled(sparse.add_outer_of_lanes)(
            center, r.astype(dtype), lanes, count, scratch, 0, first, second
        )
        y, w = X[lanes[:count]] - center, r[lanes[:count], None]
        expected_first += (w * y).sum(axis=0)
        expected_second += (w * y).T @ y
    compiled(sparse.flush_outer)(scratch, slots, 0)
    # Sums of up to 260 terms of order one.
    tolerance = 1e-11 if dtype is np.float64 else 1e-3
    np.testing.assert_allclose(first, expected_first, atol=tolerance)
    expected_second = expected_second[np.tril_indices(size)]
    np.testing.assert_allclose(second, expected_second, atol=tolerance)
    assert held[0] == 0
