"""Forward and backward recursions in the log domain, where nothing underflows.

K squared exponentials a step make them ten times as slow as those of
:mod:`fastem.kernels.chains`, in whose place they run where scaled messages might lose
states that matter later. Messages are logarithms; else the arrays are the same.
"""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.chains import CHAINS, STEPS, restart
from fastem.kernels.tiles import LANES, STRIDE
from fastem.kernels.vecmath import exp, log

SMALLEST_EXPONENT = -690.0


@tile_function
def log_densities(log_b, n_states, largest):
    """Leave log densities as they are, relative to one."""
    for b in range(LANES):
        largest[b] = 0.0


@tile_function
def log_forward(chain, log_b, alpha, log_scale, reset, plain, work):
    """Fill the tile's forward messages, ``alpha[k] = log P(z_t = k | x_1..t)``.

    ``log_scale`` becomes log p(x_t | x_1..t-1), -inf where that is impossible, after
    which the chain goes on from all states alike.
    """
    n_states = chain.start.size
    for i in range(STEPS):
        now = i * CHAINS
        before = alpha[now:]
        for k in range(n_states):
            _log_sum(chain.into[k], n_states, before, work[k * STRIDE :], work)
        if not plain:
            restart(chain.start, reset, now, work)
        scale = log_scale[now : now + CHAINS]
        largest = work[STRIDE - CHAINS : STRIDE]
        for s in range(CHAINS):
            largest[s] = -np.inf
        for k in range(n_states):
            for s in range(CHAINS):
                value = work[k * STRIDE + s] + log_b[k * STRIDE + now + s]
                work[k * STRIDE + s] = value
                largest[s] = value if value > largest[s] else largest[s]
        for s in range(CHAINS):
            total = 0.0
            shift = largest[s] if largest[s] > -np.inf else 0.0
            for k in range(n_states):
                total += _exp(work[k * STRIDE + s] - shift)
            possible = largest[s] > -np.inf
            scale[s] = shift + log(total if possible else 1.0)
            for k in range(n_states):
                value = work[k * STRIDE + s] - scale[s]
                alpha[k * STRIDE + now + CHAINS + s] = value if possible else 0.0
            scale[s] = scale[s] if possible else -np.inf


@tile_function
def log_backward(chain, log_b, alpha, log_scale, reset, plain, beta, gamma, v):
    """Take ``beta``, log messages, from the tile's last step to before its first.

    ``gamma[k] = P(z_t = k | x)``, ``v[k] = log b_k + beta_k - log_scale`` or -inf where
    a sequence starts.
    """
    n_states = chain.start.size
    for reverse in range(STEPS):
        now = (STEPS - 1 - reverse) * CHAINS
        for k in range(n_states):
            for s in range(CHAINS):
                b = k * STRIDE + now + s
                message = beta[k * STRIDE + s]
                gamma[b] = _exp(alpha[b + CHAINS] + message)
                scale = log_scale[now + s]
                value = log_b[b] + message - (scale if scale > -np.inf else 0.0)
                v[b] = value if reset[now + s] == 0 else -np.inf
        for j in range(n_states):
            _log_sum(chain.out[j], n_states, v[now:], beta[j * STRIDE :], beta)
        if not plain:
            for j in range(n_states):
                for s in range(CHAINS):
                    if reset[now + s] > 0:
                        beta[j * STRIDE + s] = 0.0


@tile_function
def log_add_transitions(chain, alpha, v, plain, weight, total):
    """Add the expected transitions to ``total[j, k]``."""
    n_states = chain.start.size
    for j in range(n_states):
        before = alpha[j * STRIDE : j * STRIDE + LANES]
        for k in range(n_states):
            step = chain.out[j, k]
            if step > -np.inf:
                onward = v[k * STRIDE : k * STRIDE + LANES]
                count = 0.0
                for b in range(LANES):
                    share = _exp(before[b] + step + onward[b])
                    count += weight[b] * share if weight[b] > 0 else 0.0
                total[j, k] += count


@tile_function
def log_balance(alpha, beta, n_states):
    """Scale the messages that enter from behind so that posteriors sum to one."""
    for s in range(CHAINS):
        largest, total = -np.inf, 0.0
        for k in range(n_states):
            value = alpha[k * STRIDE + s] + beta[k * STRIDE + s]
            largest = value if value > largest else largest
        for k in range(n_states):
            total += _exp(alpha[k * STRIDE + s] + beta[k * STRIDE + s] - largest)
        shift = largest + log(total if total > 0 else 1.0)
        for k in range(n_states):
            beta[k * STRIDE + s] -= shift if largest > -np.inf else 0.0


@tile_function
def log_scale_of(log_scale):
    """Return the log density of a step given the past."""
    return log_scale


@tile_function
def log_scale_of_four(a, b, c, d):
    """Return the sum of four."""
    return (a + b) + (c + d)


@tile_function
def impossible(log_scale):
    """Say whether nothing allowed the step."""
    return log_scale == -np.inf


@tile_function
def _exp(x):
    """Return e**x, zero where that is lost in rounding; lanes never branch."""
    value = exp(x)
    return value if x > SMALLEST_EXPONENT else 0.0


@tile_function
def _log_sum(row, n_states, messages, out, memory):
    """Set ``out = log sum_j exp(row[j] + messages[j])`` for one step.

    The last columns of ``memory`` are free between tiles of messages.
    """
    largest = memory[LANES : LANES + CHAINS]
    for s in range(CHAINS):
        largest[s] = -np.inf
    for j in range(n_states):
        if row[j] > -np.inf:
            source = messages[j * STRIDE : j * STRIDE + CHAINS]
            for s in range(CHAINS):
                value = row[j] + source[s]
                largest[s] = value if value > largest[s] else largest[s]
    for s in range(CHAINS):
        out[s] = 0.0
    for j in range(n_states):
        if row[j] > -np.inf:
            source = messages[j * STRIDE : j * STRIDE + CHAINS]
            for s in range(CHAINS):
                out[s] += _exp(row[j] + source[s] - largest[s])
    for s in range(CHAINS):
        possible = largest[s] > -np.inf
        value = largest[s] + log(out[s] if possible else 1.0)
        out[s] = value if possible else -np.inf
