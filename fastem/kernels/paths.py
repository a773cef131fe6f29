"""The likeliest path, by Viterbi's recursion in the log domain, stretches abreast.

A. J. Viterbi, *IEEE Trans. Inf. Theory* 13 (1967), 260-269; L. R. Rabiner, *Proc. IEEE*
77 (1989), eqs. 32 to 35. Lanes are those of :mod:`fastem.kernels.chains`. Scores are
kept instead of pointers: where a path came from is asked once a step of the path that
is taken, not for every state.
"""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.chains import CHAINS, STEPS, any_reset, copy_four, restart
from fastem.kernels.tiles import STRIDE


@tile_function
def best_scores(chain, log_b, delta, top, reset, work):
    """Fill the tile's scores from those that enter in its first columns.

    ``delta[k]`` is the log probability of the best path that ends in state k, relative
    to the best of all; ``top`` becomes what was subtracted, -inf where nothing is
    possible.
    """
    n_rows = chain.out.shape[0]
    if n_rows == 4:
        copy_four(delta, work)
    for i in range(STEPS):
        now = i * CHAINS
        if (n_rows == 4) & (not any_reset(reset, now)):
            _extend_four(
                chain.into,
                log_b[now:],
                work,
                top[now : now + CHAINS],
                delta[now + CHAINS :],
            )
            continue
        _extend(chain, delta[now:], work)
        if any_reset(reset, now):
            restart(chain.start, reset, now, work)
        largest = top[now : now + CHAINS]
        _add(n_rows, log_b[now:], work, largest)
        for k in range(0, n_rows, 4):
            rows = work[k * STRIDE : (k + 4) * STRIDE]
            after = delta[k * STRIDE + now + CHAINS :]
            for j in range(4):
                for s in range(CHAINS):
                    # After an impossible row all states are as good as any.
                    difference = rows[j * STRIDE + s] - largest[s]
                    after[j * STRIDE + s] = difference if largest[s] > -np.inf else 0.0
        if n_rows == 4:
            copy_four(delta[now + CHAINS :], work)


@tile_function
def _extend_four(into, log_b, score, top, out):
    """Take up to four states over one step with nothing but the result in memory."""
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
        # After an impossible row all states are as good as any.
        score[s] = out[s] = y0 - best if possible else 0.0
        score[STRIDE + s] = out[STRIDE + s] = y1 - best if possible else 0.0
        score[2 * STRIDE + s] = out[2 * STRIDE + s] = y2 - best if possible else 0.0
        score[3 * STRIDE + s] = out[3 * STRIDE + s] = y3 - best if possible else 0.0


@tile_function
def _largest(a, b, c, d):
    a = a if a > b else b
    c = c if c > d else d
    return a if a > c else c


@tile_function
def _extend(chain, delta, score):
    """Set the best way into each state, ``max_j delta[j] + log transmat[j, k]``."""
    offsets, columns, into = chain.into_offsets, chain.into_columns, chain.into
    for block in range(offsets.size - 1):
        rows = score[4 * block * STRIDE : 4 * (block + 1) * STRIDE]
        for j in range(4):
            best = rows[j * STRIDE : j * STRIDE + CHAINS]
            for s in range(CHAINS):
                best[s] = -np.inf
        for n in range(offsets[block], offsets[block + 1]):
            j = 4 * columns[n]
            source = delta[j * STRIDE : (j + 4) * STRIDE]
            for k in range(4):
                row = into[4 * block + k]
                a0, a1, a2, a3 = row[j], row[j + 1], row[j + 2], row[j + 3]
                best = rows[k * STRIDE : k * STRIDE + CHAINS]
                for s in range(CHAINS):
                    d0, d1 = source[s] + a0, source[STRIDE + s] + a1
                    d2, d3 = source[2 * STRIDE + s] + a2, source[3 * STRIDE + s] + a3
                    d0 = d0 if d0 > d1 else d1
                    d2 = d2 if d2 > d3 else d3
                    d0 = d0 if d0 > d2 else d2
                    best[s] = best[s] if best[s] > d0 else d0


@tile_function
def _add(n_rows, log_b, score, largest):
    """Add the densities; find the best score."""
    for s in range(CHAINS):
        largest[s] = -np.inf
    for k in range(0, n_rows, 4):
        rows = score[k * STRIDE : (k + 4) * STRIDE]
        density = log_b[k * STRIDE :]
        for s in range(CHAINS):
            r0 = rows[s] + density[s]
            r1 = rows[STRIDE + s] + density[STRIDE + s]
            r2 = rows[2 * STRIDE + s] + density[2 * STRIDE + s]
            r3 = rows[3 * STRIDE + s] + density[3 * STRIDE + s]
            rows[s] = r0
            rows[STRIDE + s] = r1
            rows[2 * STRIDE + s] = r2
            rows[3 * STRIDE + s] = r3
            r0 = r0 if r0 > r1 else r1
            r2 = r2 if r2 > r3 else r3
            r0 = r0 if r0 > r2 else r2
            largest[s] = largest[s] if largest[s] > r0 else r0


@tile_function
def trace_back(chain, delta, reset, state, path, work):
    """Follow the best path back from ``state``, after the tile, to before its start.

    States are floating-point numbers, and look-ups apart from comparisons, so that the
    latter are vectorised: as branches they are guessed wrong half of the time.
    """
    n_states = chain.start.size
    record, value = work[:CHAINS], work[STRIDE : STRIDE + CHAINS]
    for reverse in range(STEPS):
        now = (STEPS - 1 - reverse) * CHAINS
        taken = path[now : now + CHAINS]
        for s in range(CHAINS):
            taken[s] = np.int64(state[s])
            record[s] = -np.inf
        for j in range(n_states):
            score = delta[j * STRIDE + now : j * STRIDE + now + CHAINS]
            onward, this = chain.out[j], float(j)
            for s in range(CHAINS):
                # Unsigned, as an index that may be negative costs a comparison.
                value[s] = score[s] + onward[np.uint64(taken[s])]
            # A length that LLVM does not know: it would make scalars of so few lanes.
            for s in range(record.size):
                new, best, holder = value[s], record[s], state[s]
                state[s] = this if new > best else holder
                record[s] = new if new > best else best
        if any_reset(reset, now):
            # Where a sequence starts, the one before ended in its best state.
            for s in range(CHAINS):
                if reset[now + s] > 0:
                    state[s] = float(best_state(delta, n_states, now + s))


@tile_function
def best_state(delta, n_states, lane):
    """Return the first state of the best score of a lane."""
    best = 0
    for k in range(1, n_states):
        if delta[k * STRIDE + lane] > delta[best * STRIDE + lane]:
            best = k
    return best
