"""Rows of stretches on their way to the lanes of a tile and back."""

import numpy as np
import pytest
from numba import njit

from fastem.kernels.chain_rows import fetch_rows, write_rows
from fastem.kernels.chains import CHAINS, STEPS
from fastem.kernels.tiles import LANES, STRIDE

LENGTH, BEGIN = 24, 40
WIDTHS = [1, 2, 3, 4, 7]


@njit
def fetch(X, begin, length, rows):
    fetch_rows(X, begin, length, rows)


@njit
def write(tile, begin, length, out):
    write_rows(tile, begin, length, out)


def rows_of_lanes():
    """Return the row that each lane stands for."""
    step, chain = np.divmod(np.arange(LANES), CHAINS)
    return BEGIN + chain * LENGTH + step


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8"])
def test_rows_come_to_their_lanes(dtype, width):
    last = BEGIN + (CHAINS - 1) * LENGTH + STEPS
    X = np.random.default_rng(0).integers(0, 100, (last, width)).astype(dtype)
    for given in (X, np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2]):
        rows = np.zeros((LANES, width))
        fetch(given, BEGIN, LENGTH, rows)
        np.testing.assert_array_equal(rows, X[rows_of_lanes()])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_lanes_come_to_their_rows(dtype, width):
    last = BEGIN + (CHAINS - 1) * LENGTH + STEPS
    tile = np.random.default_rng(0).integers(0, 100, width * STRIDE).astype(float)
    want = np.full((last, width), -1, dtype)
    out = want.copy()
    want[rows_of_lanes()] = tile.reshape(width, STRIDE)[:, :LANES].T
    write(tile, BEGIN, LENGTH, out)
    np.testing.assert_array_equal(out, want)
