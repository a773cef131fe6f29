"""The likeliest path, by Viterbi's recursion in the log domain, stretches abreast.

A. J. Viterbi, *IEEE Trans. Inf. Theory* 13 (1967), 260-269; L. R. Rabiner, *Proc. IEEE*
77 (1989), eqs. 32 to 35. Lanes are those of :mod:`fastem.kernels.chains`. Scores are
kept instead of pointers: where a path came from is asked once a step of the path that
is taken, not for every state.
"""

import numpy as np

from fastem.compile import tile_function, tile_loop
from fastem.kernels.chains import CHAINS, STEPS, WIDTH, combine_blocks, copy_few
from fastem.kernels.maxima import set_best_source, set_largest
from fastem.kernels.registers import add_best_sum
from fastem.kernels.tiles import STRIDE


@tile_function
def best_scores(chain, log_b, delta, top, reset, plain, work):
    """Fill the tile's scores from those that enter in its first columns.

    ``delta[k]`` is the log probability of the best path that ends in state k, relative
    to the best of all; ``top`` becomes what was subtracted, -inf where nothing is
    possible. In a plain tile no sequence starts.
    """
    n_rows = chain.out.shape[0]
    if n_rows <= 4:
        copy_few(delta, n_rows, work)
    for i in range(STEPS):
        now = i * CHAINS
        density, out = log_b[now:], delta[now + CHAINS :]
        largest = top[now : now + CHAINS]
        if n_rows == 2:
            _extend_two(chain.into, density, work, largest, out)
        elif n_rows == 4:
            _extend_four(chain.into, density, work, largest, out)
        else:
            combine_blocks(
                add_best_sum,
                chain.into,
                chain.into_offsets,
                chain.into_columns,
                delta[now:],
                work,
            )
            _add(n_rows, density, work)
            set_largest(work, n_rows, -np.inf, largest, WIDTH)
            _subtract(n_rows, work, largest, out)
        if not plain:
            for s in range(CHAINS):
                if reset[now + s] > 0:
                    _begin(chain.start, density[s:], largest[s:], out[s:])
            if n_rows <= 4:
                copy_few(out, n_rows, work)


@tile_loop
def _extend_two(into, log_b, score, top, out):
    """Take up to two states over one step with nothing but the result in memory."""
    m00, m01, m10, m11 = into[0, 0], into[0, 1], into[1, 0], into[1, 1]
    for s in range(CHAINS):
        x0, x1 = score[s], score[STRIDE + s]
        y0 = _larger(m00 + x0, m01 + x1) + log_b[s]
        y1 = _larger(m10 + x0, m11 + x1) + log_b[STRIDE + s]
        best = _larger(y0, y1)
        top[s] = best
        possible = best > -np.inf
        # After an impossible row all states are as good as any.
        score[s] = out[s] = y0 - best if possible else 0.0
        score[STRIDE + s] = out[STRIDE + s] = y1 - best if possible else 0.0


@tile_loop
def _extend_four(into, log_b, score, top, out):
    m00, m01, m02, m03 = into[0, 0], into[0, 1], into[0, 2], into[0, 3]
    m10, m11, m12, m13 = into[1, 0], into[1, 1], into[1, 2], into[1, 3]
    m20, m21, m22, m23 = into[2, 0], into[2, 1], into[2, 2], into[2, 3]
    m30, m31, m32, m33 = into[3, 0], into[3, 1], into[3, 2], into[3, 3]
    for s in range(CHAINS):
        x0, x1 = score[s], score[STRIDE + s]
        x2, x3 = score[2 * STRIDE + s], score[3 * STRIDE + s]
        y0 = _largest(m00 + x0, m01 + x1, m02 + x2, m03 + x3) + log_b[s]
        y1 = _largest(m10 + x0, m11 + x1, m12 + x2, m13 + x3) + log_b[STRIDE + s]
        y2 = _largest(m20 + x0, m21 + x1, m22 + x2, m23 + x3) + log_b[2 * STRIDE + s]
        y3 = _largest(m30 + x0, m31 + x1, m32 + x2, m33 + x3) + log_b[3 * STRIDE + s]
        best = _largest(y0, y1, y2, y3)
        top[s] = best
        possible = best > -np.inf
        score[s] = out[s] = y0 - best if possible else 0.0
        score[STRIDE + s] = out[STRIDE + s] = y1 - best if possible else 0.0
        score[2 * STRIDE + s] = out[2 * STRIDE + s] = y2 - best if possible else 0.0
        score[3 * STRIDE + s] = out[3 * STRIDE + s] = y3 - best if possible else 0.0


@tile_function
def _larger(a, b):
    return a if a > b else b


@tile_function
def _largest(a, b, c, d):
    return _larger(_larger(a, b), _larger(c, d))


@tile_function
def _begin(start, log_b, top, out):
    """Set the first scores of a sequence, for the first of the lanes."""
    top[0] = -np.inf
    for k in range(start.size):
        top[0] = _larger(top[0], start[k] + log_b[k * STRIDE])
    for k in range(start.size):
        score = start[k] + log_b[k * STRIDE] - top[0]
        out[k * STRIDE] = score if top[0] > -np.inf else 0.0


@tile_loop
def _add(n_rows, log_b, score):
    for k in range(0, n_rows, 4):
        rows, density = score[k * STRIDE : (k + 4) * STRIDE], log_b[k * STRIDE :]
        for j in range(4):
            for s in range(CHAINS):
                rows[j * STRIDE + s] += density[j * STRIDE + s]


@tile_loop
def _subtract(n_rows, score, largest, out):
    for k in range(0, n_rows, 4):
        rows, after = score[k * STRIDE : (k + 4) * STRIDE], out[k * STRIDE :]
        for j in range(4):
            for s in range(CHAINS):
                # After an impossible row all states are as good as any.
                difference = rows[j * STRIDE + s] - largest[s]
                after[j * STRIDE + s] = difference if largest[s] > -np.inf else 0.0


@tile_function
def trace_back(chain, delta, reset, plain, state, path):
    """Follow the best path back from ``state``, after the tile, to before its start.

    States are floating-point numbers, as LLVM makes branches of choices between
    integers, which are guessed wrong half of the time.
    """
    n_states, n_rows = chain.start.size, chain.out.shape[0]
    for reverse in range(STEPS):
        now = (STEPS - 1 - reverse) * CHAINS
        taken, score = path[now : now + CHAINS], delta[now:]
        if n_rows == 2:
            _step_back_two(chain.out, score, state, taken)
        elif n_rows == 4:
            _step_back_four(chain.out, score, state, taken)
        else:
            for s in range(CHAINS):
                taken[s] = state[s]
            set_best_source(chain.out, score, n_states, state, WIDTH)
        if not plain:
            # Where a sequence starts, the one before ended in its best state.
            for s in range(CHAINS):
                if reset[now + s] > 0:
                    state[s] = float(best_state(delta, n_states, now + s))


# Loops are of a length that LLVM does not know, lest it make scalars of so few lanes.


@tile_loop
def _step_back_two(out, score, state, taken):
    m00, m01, m10, m11 = out[0, 0], out[0, 1], out[1, 0], out[1, 1]
    for s in range(taken.size):
        to = state[s]
        taken[s] = to
        from_0 = score[s] + (m00 if to < 1 else m01)
        from_1 = score[STRIDE + s] + (m10 if to < 1 else m11)
        state[s] = 1.0 if from_1 > from_0 else 0.0


@tile_loop
def _step_back_four(out, score, state, taken):
    m00, m01, m02, m03 = out[0, 0], out[0, 1], out[0, 2], out[0, 3]
    m10, m11, m12, m13 = out[1, 0], out[1, 1], out[1, 2], out[1, 3]
    m20, m21, m22, m23 = out[2, 0], out[2, 1], out[2, 2], out[2, 3]
    m30, m31, m32, m33 = out[3, 0], out[3, 1], out[3, 2], out[3, 3]
    for s in range(taken.size):
        to = state[s]
        taken[s] = to
        from_0 = score[s] + _entry(to, m00, m01, m02, m03)
        from_1 = score[STRIDE + s] + _entry(to, m10, m11, m12, m13)
        from_2 = score[2 * STRIDE + s] + _entry(to, m20, m21, m22, m23)
        from_3 = score[3 * STRIDE + s] + _entry(to, m30, m31, m32, m33)
        low, high = _larger(from_0, from_1), _larger(from_2, from_3)
        of_low = 1.0 if from_1 > from_0 else 0.0
        of_high = 3.0 if from_3 > from_2 else 2.0
        state[s] = of_high if high > low else of_low


@tile_function
def _entry(k, m0, m1, m2, m3):
    low, high = m0 if k < 1 else m1, m2 if k < 3 else m3
    return low if k < 2 else high


@tile_function
def best_state(delta, n_states, lane):
    """Return the first state of the best score of a lane."""
    best = 0
    for k in range(1, n_states):
        if delta[k * STRIDE + lane] > delta[best * STRIDE + lane]:
            best = k
    return best
