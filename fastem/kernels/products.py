"""Matrix products over the lanes of a tile.

They go in blocks of four by four or two, so that each vector loaded feeds several
sums. Only lower triangles are worked. Sizes are padded to even numbers, so that blocks
of four and one of two cover them, or to multiples of four.
"""

from fastem.compile import MANY_REGISTERS, tile_function, tile_subroutine
from fastem.kernels.lanes import FOUR, TWO, WIDE
from fastem.kernels.registers import block_lanes, set_product, subtract_lower_square
from fastem.kernels.tiles import LANES, STRIDE


@tile_function
def multiply(matrix, shift, n_rows, n_columns, tile, out):
    """Set ``out = matrix @ tile + shift``; both sizes are multiples of four."""
    for row in range(0, n_rows, 4):
        block = out[row * STRIDE : (row + 4) * STRIDE]
        multiply_four(matrix, shift, row, n_columns, tile, block)


@tile_function
def multiply_lower(lower, shift, size, tile, out):
    """Set ``out = lower @ tile + shift``, lower triangular; a multiple of four."""
    for row in range(0, size, 4):
        block = out[row * STRIDE : (row + 4) * STRIDE]
        multiply_four(lower, shift, row, row + 4, tile, block)


@tile_function
def multiply_four(matrix, shift, row, n_columns, tile, out):
    """Set the four rows of ``out`` to rows row..row+4 of ``matrix @ tile + shift``."""
    for lane in range(0, LANES, block_lanes(tile, WIDE)):
        set_product(matrix, shift, row, FOUR, n_columns, tile, out, lane, WIDE)


@tile_function
def subtract_lower_norm(upper, shift, n_features, tile, out):
    """Subtract ``|upper.T @ tile + shift|**2`` from each lane of ``out``.

    ``upper`` is upper triangular with an even number of rows.
    """
    in_fours = n_features // 4 * 4
    for row in range(0, in_fours, 4):
        for lane in range(0, LANES, block_lanes(tile, WIDE)):
            subtract_lower_square(upper, shift, row, FOUR, tile, out, lane)
    if in_fours < n_features:
        for lane in range(0, LANES, block_lanes(tile, WIDE)):
            subtract_lower_square(upper, shift, in_fours, TWO, tile, out, lane)


@tile_subroutine
def set_scaled_norms(start, factors, shifts, tile, out):
    """Set ``out[k] = start[k] - |factors[k] * tile + shifts[k]|**2`` in each lane.

    Features go in blocks, components inside: a block of the tile then stays in the
    first cache while all components use it. The first block sets what others lessen,
    which saves a pass over ``out``.
    """
    n_components, n_features = factors.shape
    in_blocks = n_features // SCALED_BLOCK * SCALED_BLOCK
    for i in range(0, in_blocks, SCALED_BLOCK):
        for k in range(n_components):
            p = out[k * STRIDE : k * STRIDE + LANES]
            _subtract_block(i == 0, start[k], factors[k], shifts[k], i, tile, p)
    for i in range(in_blocks, n_features, 2):
        for k in range(n_components):
            p = out[k * STRIDE : k * STRIDE + LANES]
            _subtract_two(i == 0, start[k], factors[k], shifts[k], i, tile, p)


@tile_function
def _subtract_two(fresh, start, factors, shift, i, tile, out):
    f0, f1 = factors[i], factors[i + 1]
    s0, s1 = shift[i], shift[i + 1]
    x = tile[i * STRIDE : (i + 2) * STRIDE]
    for b in range(LANES):
        z0 = f0 * x[b] + s0
        z1 = f1 * x[STRIDE + b] + s1
        out[b] = (start if fresh else out[b]) - (z0 * z0 + z1 * z1)


@tile_function
def _subtract_four(fresh, start, factors, shift, i, tile, out):
    f0, f1, f2, f3 = factors[i], factors[i + 1], factors[i + 2], factors[i + 3]
    s0, s1, s2, s3 = shift[i], shift[i + 1], shift[i + 2], shift[i + 3]
    x = tile[i * STRIDE : (i + 4) * STRIDE]
    for b in range(LANES):
        z0 = f0 * x[b] + s0
        z1 = f1 * x[STRIDE + b] + s1
        z2 = f2 * x[2 * STRIDE + b] + s2
        z3 = f3 * x[3 * STRIDE + b] + s3
        norm = z0 * z0 + z1 * z1 + z2 * z2 + z3 * z3
        out[b] = (start if fresh else out[b]) - norm


@tile_function
def _subtract_eight(fresh, start, factors, shifts, i, tile, out):
    f0, f1, f2, f3 = factors[i], factors[i + 1], factors[i + 2], factors[i + 3]
    f4, f5, f6, f7 = factors[i + 4], factors[i + 5], factors[i + 6], factors[i + 7]
    s0, s1, s2, s3 = shifts[i], shifts[i + 1], shifts[i + 2], shifts[i + 3]
    s4, s5, s6, s7 = shifts[i + 4], shifts[i + 5], shifts[i + 6], shifts[i + 7]
    x = tile[i * STRIDE : (i + 8) * STRIDE]
    for b in range(LANES):
        z0 = f0 * x[b] + s0
        z1 = f1 * x[STRIDE + b] + s1
        z2 = f2 * x[2 * STRIDE + b] + s2
        z3 = f3 * x[3 * STRIDE + b] + s3
        z4 = f4 * x[4 * STRIDE + b] + s4
        z5 = f5 * x[5 * STRIDE + b] + s5
        z6 = f6 * x[6 * STRIDE + b] + s6
        z7 = f7 * x[7 * STRIDE + b] + s7
        norm = (z0 * z0 + z1 * z1 + z2 * z2 + z3 * z3) + (
            z4 * z4 + z5 * z5 + z6 * z6 + z7 * z7
        )
        out[b] = (start if fresh else out[b]) - norm


# Coefficients of a block and the lanes they meet, all in registers.
SCALED_BLOCK = 8 if MANY_REGISTERS else 4
_subtract_block = _subtract_eight if MANY_REGISTERS else _subtract_four
