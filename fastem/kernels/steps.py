"""Recursions of one chain, a step at a time, for chains that never forget.

``log_b[k * STRIDE + lane]`` are the log densities of the step; ``message`` is replaced.
"""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.tiles import STRIDE


@tile_function
def forward_step(chain, log_b, lane, starts, message, work):
    """Take P(z | past) over one step; messages sum to one."""
    n_states = chain.start.size
    for k in range(n_states):
        work[k] = chain.start[k] if starts else 0.0
    if not starts:
        for j in range(n_states):
            for k in range(n_states):
                work[k] += message[j] * chain.out[j, k]
    _relative_densities(log_b, lane, n_states, message)
    for k in range(n_states):
        message[k] *= work[k]
    _normalise(message, n_states)


@tile_function
def backward_step(chain, log_b, lane, starts, message, work):
    """Take p(future | z), up to a factor, from this step to the one before."""
    n_states = chain.start.size
    _relative_densities(log_b, lane, n_states, work)
    for k in range(n_states):
        work[k] *= message[k]
    for j in range(n_states):
        total = 0.0
        for k in range(n_states):
            total += chain.out[j, k] * work[k]
        message[j] = 1.0 if starts else total
    _normalise(message, n_states)


@tile_function
def log_forward_step(chain, log_b, lane, starts, message, work):
    """Do as ``forward_step`` does, with logarithms."""
    n_states = chain.start.size
    for k in range(n_states):
        work[k] = chain.start[k]
        if not starts:
            work[k] = _log_sum(message, chain.into[k], n_states)
    for k in range(n_states):
        message[k] = work[k] + log_b[k * STRIDE + lane]
    _subtract_log_sum(message, n_states)


@tile_function
def log_backward_step(chain, log_b, lane, starts, message, work):
    """Do as ``backward_step`` does, with logarithms."""
    n_states = chain.start.size
    for k in range(n_states):
        work[k] = message[k] + log_b[k * STRIDE + lane]
    for j in range(n_states):
        message[j] = 0.0 if starts else _log_sum(work, chain.out[j], n_states)
    _subtract_log_sum(message, n_states)


@tile_function
def best_step(chain, log_b, lane, starts, message, work):
    """Take the scores of best paths over one step, relative to the best."""
    n_states = chain.start.size
    for k in range(n_states):
        work[k] = chain.start[k]
        if not starts:
            work[k] = -np.inf
            for j in range(n_states):
                value = message[j] + chain.into[k, j]
                work[k] = value if value > work[k] else work[k]
    top = -np.inf
    for k in range(n_states):
        message[k] = work[k] + log_b[k * STRIDE + lane]
        top = message[k] if message[k] > top else top
    for k in range(n_states):
        message[k] = message[k] - top if top > -np.inf else 0.0


@tile_function
def _relative_densities(log_b, lane, n_states, out):
    largest = -np.inf
    for k in range(n_states):
        value = log_b[k * STRIDE + lane]
        largest = value if value > largest else largest
    for k in range(n_states):
        value = log_b[k * STRIDE + lane]
        out[k] = np.exp(value - largest) if largest > -np.inf else 0.0


@tile_function
def _normalise(message, n_states):
    total = 0.0
    for k in range(n_states):
        total += message[k]
    for k in range(n_states):
        message[k] = message[k] / total if total > 0 else 1.0 / n_states


@tile_function
def _log_sum(message, row, n_states):
    largest = -np.inf
    for j in range(n_states):
        value = message[j] + row[j]
        largest = value if value > largest else largest
    total = 0.0
    if largest > -np.inf:
        for j in range(n_states):
            total += np.exp(message[j] + row[j] - largest)
    return largest + np.log(total) if total > 0 else -np.inf


@tile_function
def _subtract_log_sum(message, n_states):
    largest, total = -np.inf, 0.0
    for k in range(n_states):
        largest = message[k] if message[k] > largest else largest
    if largest > -np.inf:
        for k in range(n_states):
            total += np.exp(message[k] - largest)
    for k in range(n_states):
        message[k] = message[k] - largest - np.log(total) if total > 0 else 0.0
