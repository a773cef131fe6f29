"""Batches of sequences: whole ones, or stretches of those that are too long for one.

A stretch is worked with some rows before and after it, its margins, which count for
nothing themselves: messages run in from them as they would from all of the sequence,
but for what chains remember beyond. A transition counts with the row it leads to, so
that the stretches of a sequence count each of its transitions once, and only a stretch
that begins a sequence says how sequences start.
"""

from typing import Any, NamedTuple

import numpy as np

from fastem.em.passes import spread
from fastem.models.stretches import Sequences

# Longer stretches waste less on margins, shorter ones make batches that are better
# mixed. What a margin leaves of where it began falls off geometrically.
STRETCH_ROWS = 1024
MARGIN_ROWS = 128


class Part(NamedTuple):
    """Rows that recursions run over at once.

    Attributes
    ----------
    sequences : Sequences
        Whose bounds also part stretches from their margins, which weigh nothing.
    starts : ndarray of int64
        Rows at which chains start.
    begins : bool
        Whether they start as sequences do; else they come from before.
    rows : ndarray of int64 or None
        Where each row comes from; None if all are there, in order.
    effort, reach : Effort and Reach, or None
        What earlier E-steps and searches for paths learned.
    """

    sequences: Sequences
    starts: np.ndarray
    begins: bool = True
    rows: np.ndarray | None = None
    effort: Any = None
    reach: Any = None


def whole(sequences, effort=None, reach=None):
    """Return all sequences as they are, a batch of one part."""
    starts = sequences.bounds[:-1]
    return (Part(sequences, starts, effort=effort, reach=reach),)


def sequence_batches(sequences, weight, size, first_size):
    """Yield about equal batches, but for the first, each spread over the sequences.

    Parameters
    ----------
    sequences : Sequences
    weight : None
        Sequences have their weights with them.
    size : int
        Rows of a batch, about. Sequences half as long again, and longer ones, are cut
        into stretches.
    first_size : int
        Rows of the first batch.

    Yields
    ------
    batch : tuple of Part
    weight : None
    n_rows : int
        Rows that count.
    """
    n_rows = len(sequences.X)
    n_batches = max(1, round(n_rows / size))
    if n_batches == 1:
        yield whole(sequences), weight, n_rows
        return
    sequence, first, stop = _cut(sequences.bounds, size)
    n_batches = min(n_batches, len(first))
    for chosen in spread(len(first), n_batches, first_size / size):
        pieces = sequence[chosen], first[chosen], stop[chosen]
        begins = pieces[1] - MARGIN_ROWS <= sequences.bounds[pieces[0]]
        batch = tuple(
            _gather(sequences, *(field[which] for field in pieces), begins=kind)
            for kind, which in ((True, begins), (False, ~begins))
            if which.any()
        )
        yield batch, weight, int((pieces[2] - pieces[1]).sum())


def _cut(bounds, size):
    """Return sequence, first row and end of each piece; most are whole sequences."""
    lengths = np.diff(bounds)
    longest = min(size, STRETCH_ROWS)
    n_pieces = np.where(np.round(lengths / size) > 1, -(-lengths // longest), 1)
    sequence = np.repeat(np.arange(len(lengths)), n_pieces)
    before = n_pieces.cumsum() - n_pieces
    number = np.arange(len(sequence)) - before[sequence]
    begin, length, of = (field[sequence] for field in (bounds, lengths, n_pieces))
    return sequence, begin + number * length // of, begin + (number + 1) * length // of


def _gather(sequences, sequence, first, stop, *, begins):
    """Return pieces of sequences, with margins where these go on."""
    bounds = sequences.bounds
    low = np.maximum(first - MARGIN_ROWS, bounds[sequence])
    high = np.minimum(stop + MARGIN_ROWS, bounds[sequence + 1])
    lengths = high - low
    ends = lengths.cumsum()
    starts = ends - lengths
    rows = np.arange(ends[-1]) + np.repeat(low - starts, lengths)
    # Margin, stretch and margin of each piece; a whole sequence has no margins.
    widths = np.diff(np.stack([low, first, stop, high]), axis=0).T
    weight = np.zeros(widths.shape)
    weight[:, 1] = 1.0
    if sequences.sequence_weight.size:
        weight[:, 1] = sequences.sequence_weight[sequence]
    there = widths > 0
    weight = weight[there]
    if (weight == 1).all():
        weight = weight[:0]
    return Part(
        Sequences(
            sequences.X.take(rows, axis=0),
            np.append(0, widths[there].cumsum()),
            weight,
            *(
                field[rows] if field.size else field
                for field in (sequences.step_weight, sequences.states)
            ),
        ),
        starts,
        begins,
        rows,
    )
