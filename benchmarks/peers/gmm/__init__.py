"""Comparisons of Gaussian mixtures and k-means; SECTIONS lists them."""

from benchmarks.peers.gmm import (
    arithmetic,
    em_iteration,
    inference,
    kmeans,
    memory,
    whole_fit,
)

# Name on the command line -> title of the table, function that yields its rows.
SECTIONS = {
    "iteration": ("One EM iteration", em_iteration.against_peers),
    "float32": ("One EM iteration, float32 and float64", em_iteration.float32),
    "fit": ("fit as a whole, default seeding", whole_fit.rows),
    "inference": ("predict and score_samples", inference.rows),
    "kmeans": ("One iteration of k-means", kmeans.rows),
    "dense": ("Arithmetic where no responsibility is negligible", arithmetic.dense),
    "scaling": ("Four times the rows", arithmetic.scaling),
    "memory": ("Memory added by fit", memory.rows),
}
# Those with a ratio to each peer, which README shows.
IN_README = ("iteration",)
