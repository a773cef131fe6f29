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
def subtract_lower_norm(lower, shift, n_features, tile, out, width):
    """Subtract ``|lower @ tile + shift|**2`` from each lane of ``out``.

    ``lower`` is lower triangular with an even size.
    """
    in_fours = n_features // 4 * 4
    for row in range(0, in_fours, 4):
        for lane in range(0, 16 * len(width), block_lanes(tile, width)):
            subtract_lower_square(lower, shift, row, FOUR, tile, out, lane, width)
    if in_fours < n_features:
        for lane in range(0, 16 * len(width), block_lanes(tile, width)):
            subtract_lower_square(lower, shift, in_fours, TWO, tile, out, lane, width)


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


@tile_function
def add_outer(a, n_rows, b, n_columns, n_lanes, total):
    """Add the sums over lanes of ``a[j] * b[i]`` to ``total[j * n_columns + i]``.

    Here and below rows are those of two-dimensional arrays; both sizes are multiples
    of four.
    """
    for j in range(0, n_rows, 4):
        for i in range(0, n_columns, 4):
            o0 = j * n_columns + i
            o1 = o0 + n_columns
            o2 = o1 + n_columns
            o3 = o2 + n_columns
            add_outer_block(a, j, b, i, n_lanes, total, o0, o1, o2, o3)


@tile_function
def add_lower_outer(a, b, size, n_lanes, total):
    """Add the sums over lanes of ``a[j] * b[i]``, i <= j, to a packed lower triangle.

    Entry (j, i) of the triangle is ``total[j * (j + 1) // 2 + i]``; ``a[j] * b[i]``
    must be symmetric in i and j, as weighted and plain deviations are.
    """
    j = 0
    while j + 4 <= size:
        o0 = j * (j + 1) // 2
        o1 = o0 + j + 1
        o2 = o1 + j + 2
        o3 = o2 + j + 3
        for i in range(0, j, 4):
            add_outer_block(a, j, b, i, n_lanes, total, o0 + i, o1 + i, o2 + i, o3 + i)
        _add_diagonal_outer_block(
            a, b, j, n_lanes, total, o0 + j, o1 + j, o2 + j, o3 + j
        )
        j += 4
    if j < size:
        _add_last_two_outer(a, b, j, n_lanes, total)


@tile_function
def _add_sixteen_outer(a, j, b, i, n_lanes, total, o0, o1, o2, o3):
    zero = a.dtype.type(0)
    s00 = s01 = s02 = s03 = zero
    s10 = s11 = s12 = s13 = zero
    s20 = s21 = s22 = s23 = zero
    s30 = s31 = s32 = s33 = zero
    for n in range(n_lanes):
        p0, p1, p2, p3 = a[j, n], a[j + 1, n], a[j + 2, n], a[j + 3, n]
        q0, q1, q2, q3 = b[i, n], b[i + 1, n], b[i + 2, n], b[i + 3, n]
        s00 += p0 * q0
        s01 += p0 * q1
        s02 += p0 * q2
        s03 += p0 * q3
        s10 += p1 * q0
        s11 += p1 * q1
        s12 += p1 * q2
        s13 += p1 * q3
        s20 += p2 * q0
        s21 += p2 * q1
        s22 += p2 * q2
        s23 += p2 * q3
        s30 += p3 * q0
        s31 += p3 * q1
        s32 += p3 * q2
        s33 += p3 * q3
    _add_four(total, o0, s00, s01, s02, s03)
    _add_four(total, o1, s10, s11, s12, s13)
    _add_four(total, o2, s20, s21, s22, s23)
    _add_four(total, o3, s30, s31, s32, s33)


@tile_function
def _add_eight_outer(a, j, b, i, n_lanes, total, o0, o1, o2, o3):
    zero = a.dtype.type(0)
    s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = zero
    for n in range(n_lanes):
        p0, p1, p2, p3 = a[j, n], a[j + 1, n], a[j + 2, n], a[j + 3, n]
        q0, q1 = b[i, n], b[i + 1, n]
        s00 += p0 * q0
        s01 += p0 * q1
        s10 += p1 * q0
        s11 += p1 * q1
        s20 += p2 * q0
        s21 += p2 * q1
        s30 += p3 * q0
        s31 += p3 * q1
    total[o0] += s00
    total[o0 + 1] += s01
    total[o1] += s10
    total[o1 + 1] += s11
    total[o2] += s20
    total[o2 + 1] += s21
    total[o3] += s30
    total[o3 + 1] += s31


@tile_function
def _add_eight_outer_twice(a, j, b, i, n_lanes, total, o0, o1, o2, o3):
    _add_eight_outer(a, j, b, i, n_lanes, total, o0, o1, o2, o3)
    _add_eight_outer(a, j, b, i + 2, n_lanes, total, o0 + 2, o1 + 2, o2 + 2, o3 + 2)


# Sixteen sums and what is added to them need more than sixteen registers.
add_outer_block = _add_sixteen_outer if MANY_REGISTERS else _add_eight_outer_twice


@tile_function
def _add_four(total, offset, s0, s1, s2, s3):
    total[offset] += s0
    total[offset + 1] += s1
    total[offset + 2] += s2
    total[offset + 3] += s3


@tile_function
def _add_diagonal_outer_block(a, b, j, n_lanes, total, o0, o1, o2, o3):
    zero = a.dtype.type(0)
    s00 = s10 = s11 = s20 = s21 = s22 = s30 = s31 = s32 = s33 = zero
    for n in range(n_lanes):
        p0, p1, p2, p3 = a[j, n], a[j + 1, n], a[j + 2, n], a[j + 3, n]
        q0, q1, q2, q3 = b[j, n], b[j + 1, n], b[j + 2, n], b[j + 3, n]
        s00 += p0 * q0
        s10 += p1 * q0
        s11 += p1 * q1
        s20 += p2 * q0
        s21 += p2 * q1
        s22 += p2 * q2
        s30 += p3 * q0
        s31 += p3 * q1
        s32 += p3 * q2
        s33 += p3 * q3
    total[o0] += s00
    total[o1] += s10
    total[o1 + 1] += s11
    total[o2] += s20
    total[o2 + 1] += s21
    total[o2 + 2] += s22
    _add_four(total, o3, s30, s31, s32, s33)


@tile_function
def _add_last_two_outer(a, b, j, n_lanes, total):
    zero = a.dtype.type(0)
    o0 = j * (j + 1) // 2
    o1 = o0 + j + 1
    for i in range(j):
        s0 = s1 = zero
        for n in range(n_lanes):
            s0 += a[j, n] * b[i, n]
            s1 += a[j + 1, n] * b[i, n]
        total[o0 + i] += s0
        total[o1 + i] += s1
    s00 = s10 = s11 = zero
    for n in range(n_lanes):
        p0, p1, q0, q1 = a[j, n], a[j + 1, n], b[j, n], b[j + 1, n]
        s00 += p0 * q0
        s10 += p1 * q0
        s11 += p1 * q1
    total[o0 + j] += s00
    total[o1 + j] += s10
    total[o1 + j + 1] += s11
