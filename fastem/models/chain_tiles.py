"""What chain kernels do with a tile besides the recursions: conditions and outputs."""

import numpy as np

from fastem.compile import tile_function
from fastem.kernels.chain_rows import write_rows
from fastem.kernels.chains import CHAINS, STEPS
from fastem.kernels.tiles import LANES, STRIDE
from fastem.models.stretches import row_of


@tile_function
def condition(log_b, n_states, staged, states):
    """Raise densities to the rows' powers and rule out states known not to be."""
    if staged.plain[0] == 0:
        power = staged.power
        for k in range(n_states):
            p = log_b[k * STRIDE : k * STRIDE + LANES]
            for b in range(LANES):
                value = p[b] * power[b]
                p[b] = value if power[b] > 0 else 0.0
    if states.size > 0:
        for b in range(LANES):
            row = row_of(staged, b)
            known = states[row] if row >= 0 else -1
            if known >= 0:
                for k in range(n_states):
                    if k != known:
                        log_b[k * STRIDE + b] = -np.inf


@tile_function
def enter(given, messages, bundle, uniform, n_states, message):
    """Set the first message of each stretch, from a table or else uniform."""
    for k in range(n_states):
        for s in range(CHAINS):
            message[k * STRIDE + s] = (
                messages[k, bundle * CHAINS + s] if given else uniform
            )


@tile_function
def leave(message, messages, bundle, n_states):
    """Keep a message where stretches meet."""
    for k in range(n_states):
        for s in range(CHAINS):
            messages[k, bundle * CHAINS + s] = message[k * STRIDE + s]


@tile_function
def copy_message(message, out, n_rows):
    """Copy the first columns of a tile of messages."""
    for k in range(n_rows):
        source = message[k * STRIDE : k * STRIDE + CHAINS]
        target = out[k * STRIDE : k * STRIDE + CHAINS]
        for s in range(source.size):
            target[s] = source[s]


@tile_function
def add_log_likelihood(
    log_scale_of,
    log_scale_of_four,
    suspicious,
    largest,
    scale,
    staged,
    log_offset,
    slots,
    slot,
):
    """Add log p(x_t | x_1..t-1) over lanes; note the first row that is suspicious."""
    total = weight = suspects = 0.0
    for b in range(LANES):
        suspects += 1.0 if suspicious(scale[b]) else 0.0
    if staged.plain[0] > 0:
        weight = float(LANES)
        total = weight * log_offset
        for b in range(LANES):
            total += largest[b]
        step = LANES // 4
        for b in range(step):
            total += log_scale_of_four(
                scale[b], scale[step + b], scale[2 * step + b], scale[3 * step + b]
            )
    else:
        for b in range(LANES):
            w = staged.weight[b]
            value = largest[b] + log_scale_of(scale[b]) + staged.power[b] * log_offset
            total += w * value if w > 0 else 0.0
            weight += w
    slots.log_likelihood[slot] += total
    slots.weight[slot] += weight
    if suspects > 0:
        for b in range(LANES):
            row = row_of(staged, b)
            if suspicious(scale[b]) & (row >= 0):
                slots.suspect_row[slot] = min(slots.suspect_row[slot], row)


@tile_function
def weigh_posteriors(gamma, n_states, staged, slots, slot):
    """Add starts; give posteriors the weights with which rows count for emissions."""
    if staged.plain[0] > 0:
        return
    for k in range(n_states):
        p = gamma[k * STRIDE : k * STRIDE + LANES]
        starts = 0.0
        for b in range(LANES):
            p[b] *= staged.weight[b]
            starts += p[b] * staged.reset[b]
            p[b] *= staged.power[b]
        slots.start[slot, k] += starts


@tile_function
def write_tile(tile, first_row, length, out):
    """Write a tile's lanes to the rows they come from."""
    n_rows = out.shape[0]
    if first_row + (CHAINS - 1) * length + STEPS <= n_rows:
        write_rows(tile, first_row, length, out)
        return
    for b in range(LANES):
        row = first_row + b % CHAINS * length + b // CHAINS
        if row < n_rows:
            for k in range(out.shape[1]):
                out[row, k] = tile[k * STRIDE + b]


@tile_function
def add_gain(top, staged, log_offset, gain, impossible_row, bundle):
    """Add the best scores of rows to each lane's; note rows that nothing allows."""
    impossible = 0.0
    for b in range(LANES):
        there = staged.weight[b] > 0
        possible = top[b] > -np.inf
        value = top[b] + staged.power[b] * log_offset
        gain[b] += value if there & possible else 0.0
        impossible += 1.0 if there & (not possible) else 0.0
    if impossible > 0:
        for b in range(LANES):
            row = row_of(staged, b)
            if (row >= 0) & (top[b] == -np.inf):
                stretch = bundle * CHAINS + b % CHAINS
                impossible_row[stretch] = min(impossible_row[stretch], row)
