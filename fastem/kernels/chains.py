"""Forward and backward recursions of hidden Markov chains, stretches abreast.

A single chain is bound by the latency of one step after another. So a long sequence is
cut into stretches, and the lanes of a tile hold ``STEPS`` steps of ``CHAINS`` stretches
each: step ``i`` of stretch ``s`` is lane ``i * CHAINS + s``, and every operation of a
recursion is one on vectors over the stretches. Messages stand in tiles as all else
does, ``alpha[k * STRIDE + CHAINS + b]`` being that of lane ``b``; the first ``CHAINS``
columns hold the messages that enter the tile.

Recursions work in the linear domain and are scaled at every step (L. R. Rabiner,
*Proc. IEEE* 77 (1989), section V.A), after the largest density of the step has been
divided out. Matrices are sparse in blocks of four by four, which costs a full matrix
nothing and a banded one only its bands.
"""

import numpy as np

from fastem.compile import tile_function, tile_loop
from fastem.kernels.exponentials import set_densities
from fastem.kernels.lanes import WIDE
from fastem.kernels.maxima import set_largest
from fastem.kernels.outer import add_outer_block
from fastem.kernels.registers import add_product, block_lanes
from fastem.kernels.tiles import LANES, STRIDE
from fastem.kernels.vecmath import exp, log

# Measured a step at K = 4, forward: 6.0 ns with 16 chains, 3.2 with 32; latency binds.
CHAINS = STRIDE - LANES
STEPS = LANES // CHAINS
WIDTH = (0,) * (CHAINS // 16)
# A step whose density falls so far below the best of its states, given the past, may
# have lost states to underflow that matter later; the log domain then decides.
SMALLEST_SCALE = 1e-50
TINY = 1e-300


@tile_function
def likelihoods(log_b, n_states, largest):
    """Turn log densities into densities relative to the largest of each lane."""
    if n_states == 2:
        _two_likelihoods(log_b, largest)
        return
    set_largest(log_b, n_states, -np.inf, largest, WIDE)
    for b in range(LANES):
        # Where no state allows the observation, all densities become zero.
        largest[b] = largest[b] if largest[b] > -np.inf else 0.0
    set_densities(log_b, n_states, largest)


@tile_function
def _two_likelihoods(log_b, largest):
    """Do it with one exponential, for the larger density becomes one."""
    first, second = log_b[:LANES], log_b[STRIDE : STRIDE + LANES]
    for b in range(LANES):
        p, q = first[b], second[b]
        top = p if p > q else q
        distance = abs(p - q)
        smaller = exp(-distance) if distance < 690.0 else 0.0
        larger = 1.0 if top > -np.inf else 0.0
        largest[b] = top if top > -np.inf else 0.0
        first[b] = larger if p >= q else smaller
        second[b] = smaller if p >= q else larger


@tile_function
def forward(chain, b, alpha, inverse_scale, reset, plain, work):
    """Fill the tile's forward messages, ``alpha[k] = P(z_t = k | x_1..t)``.

    ``inverse_scale`` becomes the largest density of the step over p(x_t | x_1..t-1).
    In a plain tile no sequence starts.
    """
    n_rows = chain.out.shape[0]
    if n_rows <= 4:
        copy_few(alpha, n_rows, work)
    for i in range(STEPS):
        now = i * CHAINS
        density, out = b[now:], alpha[now + CHAINS :]
        factor = inverse_scale[now : now + CHAINS]
        if n_rows == 2:
            _forward_two(chain.into, density, work, factor, out)
        elif n_rows == 4:
            _forward_four(chain.into, density, work, factor, out)
        else:
            # Into an array of its own: LLVM would not vectorise from alpha to alpha.
            before = alpha[now:]
            combine_blocks(
                add_product,
                chain.into,
                chain.into_offsets,
                chain.into_columns,
                before,
                work,
            )
            _weigh(n_rows, density, work, factor)
            _scale(n_rows, work, factor, out)
        if not plain:
            for s in range(CHAINS):
                if reset[now + s] > 0:
                    _begin(chain.start, density[s:], factor[s:], out[s:])
            if n_rows <= 4:
                copy_few(out, n_rows, work)


@tile_function
def backward(chain, b, alpha, inverse_scale, reset, plain, beta, gamma, v):
    """Take ``beta`` from the tile's last step to before its first; fill the rest.

    ``gamma[k] = P(z_t = k | x)`` and ``v[k] = b_k beta_k * inverse_scale``, zero where
    a sequence starts, so that ``xi[j, k] = alpha_t-1[j] transmat[j, k] v_t[k]``.
    """
    n_states, n_rows = chain.start.size, chain.out.shape[0]
    for reverse in range(STEPS):
        now = (STEPS - 1 - reverse) * CHAINS
        factor = inverse_scale[now : now + CHAINS]
        density, message = b[now:], alpha[now + CHAINS :]
        posterior, onward = gamma[now:], v[now:]
        if n_rows == 2:
            _backward_two(chain.out, density, message, factor, beta, posterior, onward)
        elif n_rows == 4:
            _backward_four(chain.out, density, message, factor, beta, posterior, onward)
        else:
            _pass_back(n_rows, density, message, factor, beta, posterior, onward)
            combine_blocks(
                add_product,
                chain.out,
                chain.out_offsets,
                chain.out_columns,
                onward,
                beta,
            )
        if not plain:
            for k in range(n_states):
                for s in range(CHAINS):
                    starts = reset[now + s] > 0
                    at = k * STRIDE + s
                    onward[at] = 0.0 if starts else onward[at]
                    beta[at] = 1.0 if starts else beta[at]


@tile_function
def add_transitions(chain, alpha, v, plain, weight, total):
    """Add ``sum_t alpha_t-1[j] v_t[k]`` to ``total[j, k]``; overwrites ``v``."""
    if not plain:
        for k in range(chain.start.size):
            row = v[k * STRIDE : k * STRIDE + LANES]
            for b in range(LANES):
                row[b] *= weight[b]
    n_rows = chain.out.shape[0]
    if n_rows == 2:
        _add_two(alpha, v, total)
        return
    sums = total.reshape(n_rows * n_rows)
    for block in range(chain.out_offsets.size - 1):
        for n in range(chain.out_offsets[block], chain.out_offsets[block + 1]):
            j, k = 4 * block, 4 * chain.out_columns[n]
            add_outer_block(alpha, j, v, k, LANES, STRIDE, sums, j * n_rows, n_rows)


@tile_function
def balance(alpha, beta, n_states):
    """Scale the messages that enter from behind so that posteriors sum to one."""
    for s in range(CHAINS):
        total = 0.0
        for k in range(n_states):
            total += alpha[k * STRIDE + s] * beta[k * STRIDE + s]
        for k in range(n_states):
            beta[k * STRIDE + s] /= total if total > TINY else TINY


@tile_function
def log_scale_of(inverse_scale):
    """Return the log density of a step given the past, relative to the largest."""
    return -log(inverse_scale)


@tile_function
def log_scale_of_four(a, b, c, d):
    """Return the sum of four; unless one underflows, their product does not."""
    return -log((a * b) * (c * d))


@tile_function
def underflows(inverse_scale):
    """Say whether a step may have lost states that matter later."""
    return inverse_scale > 1.0 / SMALLEST_SCALE


@tile_loop
def _add_two(alpha, v, total):
    s00 = s01 = s10 = s11 = 0.0
    for b in range(LANES):
        p0, p1 = alpha[b], alpha[STRIDE + b]
        q0, q1 = v[b], v[STRIDE + b]
        s00 += p0 * q0
        s01 += p0 * q1
        s10 += p1 * q0
        s11 += p1 * q1
    total[0, 0] += s00
    total[0, 1] += s01
    total[1, 0] += s10
    total[1, 1] += s11


@tile_function
def copy_few(source, n_rows, target):
    """Copy the messages of one step."""
    for k in range(n_rows):
        for s in range(CHAINS):
            target[k * STRIDE + s] = source[k * STRIDE + s]


@tile_function
def _inverse(total):
    return 1.0 / (total if total > TINY else TINY)


@tile_loop
def _forward_two(into, b, message, factor, out):
    """Take up to two states over one step with nothing but the result in memory."""
    m00, m01, m10, m11 = into[0, 0], into[0, 1], into[1, 0], into[1, 1]
    for s in range(CHAINS):
        x0, x1 = message[s], message[STRIDE + s]
        y0 = (m00 * x0 + m01 * x1) * b[s]
        y1 = (m10 * x0 + m11 * x1) * b[STRIDE + s]
        f = _inverse(y0 + y1)
        factor[s] = f
        message[s] = out[s] = y0 * f
        message[STRIDE + s] = out[STRIDE + s] = y1 * f


@tile_loop
def _forward_four(into, b, message, factor, out):
    m00, m01, m02, m03 = into[0, 0], into[0, 1], into[0, 2], into[0, 3]
    m10, m11, m12, m13 = into[1, 0], into[1, 1], into[1, 2], into[1, 3]
    m20, m21, m22, m23 = into[2, 0], into[2, 1], into[2, 2], into[2, 3]
    m30, m31, m32, m33 = into[3, 0], into[3, 1], into[3, 2], into[3, 3]
    for s in range(CHAINS):
        x0, x1 = message[s], message[STRIDE + s]
        x2, x3 = message[2 * STRIDE + s], message[3 * STRIDE + s]
        y0 = (m00 * x0 + m01 * x1 + m02 * x2 + m03 * x3) * b[s]
        y1 = (m10 * x0 + m11 * x1 + m12 * x2 + m13 * x3) * b[STRIDE + s]
        y2 = (m20 * x0 + m21 * x1 + m22 * x2 + m23 * x3) * b[2 * STRIDE + s]
        y3 = (m30 * x0 + m31 * x1 + m32 * x2 + m33 * x3) * b[3 * STRIDE + s]
        f = _inverse((y0 + y1) + (y2 + y3))
        factor[s] = f
        message[s] = out[s] = y0 * f
        message[STRIDE + s] = out[STRIDE + s] = y1 * f
        message[2 * STRIDE + s] = out[2 * STRIDE + s] = y2 * f
        message[3 * STRIDE + s] = out[3 * STRIDE + s] = y3 * f


@tile_function
def _begin(start, b, factor, out):
    """Set the first message of a sequence, for the first of the lanes."""
    total = 0.0
    for k in range(start.size):
        total += start[k] * b[k * STRIDE]
    factor[0] = _inverse(total)
    for k in range(start.size):
        out[k * STRIDE] = start[k] * b[k * STRIDE] * factor[0]


@tile_loop
def _backward_two(matrix, b, alpha, factor, beta, gamma, v):
    m00, m01, m10, m11 = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
    for s in range(CHAINS):
        x0, x1 = beta[s], beta[STRIDE + s]
        gamma[s] = alpha[s] * x0
        gamma[STRIDE + s] = alpha[STRIDE + s] * x1
        x0 *= b[s] * factor[s]
        x1 *= b[STRIDE + s] * factor[s]
        v[s] = x0
        v[STRIDE + s] = x1
        beta[s] = m00 * x0 + m01 * x1
        beta[STRIDE + s] = m10 * x0 + m11 * x1


@tile_loop
def _backward_four(matrix, b, alpha, factor, beta, gamma, v):
    m00, m01, m02, m03 = matrix[0, 0], matrix[0, 1], matrix[0, 2], matrix[0, 3]
    m10, m11, m12, m13 = matrix[1, 0], matrix[1, 1], matrix[1, 2], matrix[1, 3]
    m20, m21, m22, m23 = matrix[2, 0], matrix[2, 1], matrix[2, 2], matrix[2, 3]
    m30, m31, m32, m33 = matrix[3, 0], matrix[3, 1], matrix[3, 2], matrix[3, 3]
    for s in range(CHAINS):
        x0, x1 = beta[s], beta[STRIDE + s]
        x2, x3 = beta[2 * STRIDE + s], beta[3 * STRIDE + s]
        gamma[s] = alpha[s] * x0
        gamma[STRIDE + s] = alpha[STRIDE + s] * x1
        gamma[2 * STRIDE + s] = alpha[2 * STRIDE + s] * x2
        gamma[3 * STRIDE + s] = alpha[3 * STRIDE + s] * x3
        x0 *= b[s] * factor[s]
        x1 *= b[STRIDE + s] * factor[s]
        x2 *= b[2 * STRIDE + s] * factor[s]
        x3 *= b[3 * STRIDE + s] * factor[s]
        v[s] = x0
        v[STRIDE + s] = x1
        v[2 * STRIDE + s] = x2
        v[3 * STRIDE + s] = x3
        beta[s] = m00 * x0 + m01 * x1 + m02 * x2 + m03 * x3
        beta[STRIDE + s] = m10 * x0 + m11 * x1 + m12 * x2 + m13 * x3
        beta[2 * STRIDE + s] = m20 * x0 + m21 * x1 + m22 * x2 + m23 * x3
        beta[3 * STRIDE + s] = m30 * x0 + m31 * x1 + m32 * x2 + m33 * x3


@tile_loop
def _pass_back(n_rows, b, alpha, factor, beta, gamma, v):
    """Set posteriors and what is to be multiplied by the matrix, for one step."""
    for k in range(0, n_rows, 4):
        row = k * STRIDE
        a, density, message = alpha[row:], b[row:], beta[row:]
        for j in range(4):
            posterior, onward = gamma[row + j * STRIDE :], v[row + j * STRIDE :]
            for s in range(CHAINS):
                m = message[j * STRIDE + s]
                posterior[s] = a[j * STRIDE + s] * m
                onward[s] = density[j * STRIDE + s] * m * factor[s]


@tile_function
def combine_blocks(combine, matrix, offsets, columns, x, out):
    """Set ``out`` to ``matrix @ x`` for one step, by the blocks that are not zero.

    ``combine`` is what a product means, :func:`add_product` or another of its kind.
    """
    step = block_lanes(x, WIDTH)
    for block in range(offsets.size - 1):
        rows = out[4 * block * STRIDE : 4 * (block + 1) * STRIDE]
        n, last = offsets[block], offsets[block + 1]
        fresh = True
        while fresh or n < last:
            begin = end = 0
            if n < last:  # blocks side by side go at once
                begin = columns[n]
                end = begin + 1
                n += 1
                while n < last and columns[n] == end:
                    end += 1
                    n += 1
            for lane in range(0, CHAINS, step):
                combine(
                    matrix, 4 * block, 4 * begin, 4 * end, fresh, x, rows, lane, WIDTH
                )
            fresh = False


@tile_function
def restart(start, reset, now, message):
    """Put the start distribution in place of the message where a sequence starts."""
    for k in range(start.size):
        row = message[k * STRIDE : k * STRIDE + CHAINS]
        for s in range(CHAINS):
            row[s] = start[k] if reset[now + s] > 0 else row[s]


@tile_loop
def _weigh(n_rows, b, message, total):
    """Multiply a predicted message by the densities; set ``total`` to its sum."""
    for s in range(CHAINS):
        total[s] = 0.0
    for k in range(0, n_rows, 4):
        rows = message[k * STRIDE : (k + 4) * STRIDE]
        density = b[k * STRIDE :]
        for s in range(CHAINS):
            m0 = rows[s] * density[s]
            m1 = rows[STRIDE + s] * density[STRIDE + s]
            m2 = rows[2 * STRIDE + s] * density[2 * STRIDE + s]
            m3 = rows[3 * STRIDE + s] * density[3 * STRIDE + s]
            rows[s] = m0
            rows[STRIDE + s] = m1
            rows[2 * STRIDE + s] = m2
            rows[3 * STRIDE + s] = m3
            total[s] += (m0 + m1) + (m2 + m3)


@tile_loop
def _scale(n_rows, message, factor, out):
    """Divide a message by its sum, which is the factor and becomes its inverse.

    Division stands in a loop with other work: of a loop as short as this alone, LLVM
    makes as many scalar divisions before it thinks of vectors.
    """
    for s in range(CHAINS):
        total = factor[s]
        f = 1.0 / (total if total > TINY else TINY)
        factor[s] = f
        out[s] = message[s] * f
        out[STRIDE + s] = message[STRIDE + s] * f
        out[2 * STRIDE + s] = message[2 * STRIDE + s] * f
        out[3 * STRIDE + s] = message[3 * STRIDE + s] * f
    for k in range(4, n_rows, 4):
        rows = message[k * STRIDE :]
        after = out[k * STRIDE :]
        for s in range(CHAINS):
            f = factor[s]
            after[s] = rows[s] * f
            after[STRIDE + s] = rows[STRIDE + s] * f
            after[2 * STRIDE + s] = rows[2 * STRIDE + s] * f
            after[3 * STRIDE + s] = rows[3 * STRIDE + s] * f
