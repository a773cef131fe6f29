"""Comparisons of hidden Markov models; SECTIONS lists them."""

from benchmarks.peers.hmm import (
    against_dynamax,
    em_step,
    inference,
    memory,
    sequences,
)

# Name on the command line -> title of the table, function that yields its rows.
SECTIONS = {
    "em": ("One EM step", em_step.rows),
    "sticky": ("One EM step where chains forget slowly", em_step.sticky),
    "inference": ("Best path, posterior and score", inference.rows),
    "dynamax": ("Filter, smoother and best path, float32 rows", against_dynamax.rows),
    "sequences": ("Many short sequences and one long one", sequences.rows),
    "memory": ("Anonymous memory added, rows in a mapped file", memory.rows),
}
# Those with a ratio to each peer, which README shows.
IN_README = ("em", "inference", "dynamax")
