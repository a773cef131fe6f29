"""From joint log densities of a tile to responsibilities.

``log_p[k * STRIDE + b]`` is log(weight_k) + log p(x_b | k) on entry and the weighted
responsibility of component k for row b on return.
"""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.exponentials import set_exponentials
from fastem.kernels.lanes import WIDE
from fastem.kernels.maxima import set_best, set_largest
from fastem.kernels.tiles import LANES, STRIDE
from fastem.kernels.vecmath import log

# A responsibility this small is exactly nothing beside the others' rounding; kept, it
# would become a denormal number that costs a hundred cycles an operation.
NEGLIGIBLE = 1e-17
# Below every density worth the name, and finite when a million of them are summed.
LOWEST_FLOAT64 = -1e290
LOWEST_FLOAT32 = -1e37
# A row without any density, and one of NaN, gets a log-likelihood below this.
NO_DENSITY = -1e30


@tile_function
def soft_responsibilities(log_p, n_components, tile_weight, log_likelihood, work):
    """Bayes' rule, lane by lane; ``log_likelihood[b]`` becomes log p(x_b).

    Lanes whose densities all underflow or are NaN share their row evenly.
    """
    one_type = log_p.dtype.type
    largest = work[:LANES]
    total = work[STRIDE : STRIDE + LANES]
    set_largest(log_p, n_components, _lowest(log_p), largest, WIDE)
    set_exponentials(log_p, n_components, largest, total)
    for b in range(LANES):
        log_likelihood[b] = largest[b] + log(total[b])
    factor = largest
    negligible = work[2 * STRIDE : 2 * STRIDE + LANES]
    for b in range(LANES):
        factor[b] = tile_weight[b] / total[b]
        negligible[b] = total[b] * one_type(NEGLIGIBLE)
    for k in range(n_components):
        p = log_p[k * STRIDE : k * STRIDE + LANES]
        for b in range(LANES):
            p[b] = p[b] * factor[b] if p[b] > negligible[b] else one_type(0)


@tile_function
def hard_responsibilities(log_p, n_components, tile_weight, log_likelihood, work):
    """All of a row to its likeliest component, the first of equals."""
    best = work[:LANES]
    set_best(log_p, n_components, log_likelihood, None, best, WIDE)
    for k in range(n_components):
        p = log_p[k * STRIDE : k * STRIDE + LANES]
        component = log_p.dtype.type(k)
        for b in range(LANES):
            p[b] = tile_weight[b] if best[b] == component else log_p.dtype.type(0)


@tile_function
def given_responsibilities(responsibilities, start, stop, tile_weight, log_p):
    """Load rows start..stop of an (N, K) array of responsibilities, weighted."""
    n_rows = stop - start
    for k in range(responsibilities.shape[1]):
        p = log_p[k * STRIDE : k * STRIDE + LANES]
        for b in range(n_rows):
            p[b] = responsibilities[start + b, k] * tile_weight[b]
        for b in range(n_rows, LANES):
            p[b] = 0


@tile_function
def _lowest(values):
    if values.itemsize == 4:
        return values.dtype.type(LOWEST_FLOAT32)
    return values.dtype.type(LOWEST_FLOAT64)


@tile_function
def weighted_sum(values, tile_weight):
    """Return the weighted sum over lanes in float64; weight zero means absent."""
    total = 0.0
    for b in range(LANES):
        weight = np.float64(tile_weight[b])
        total += weight * np.float64(values[b]) if weight > 0.0 else 0.0
    return total
