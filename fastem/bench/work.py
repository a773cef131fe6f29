"""What each kernel has to do for a row, counted, and how fast the machine lets it.

Counts are those of the algorithm as its kernels write it down, for rows of which every
component takes a share: what is computed for padding, for the warm-up of stretches or
twice is waste, and what pruning spares is gain, against the same count. Small terms
that depend on neither K nor D are left out.

The limit is a roofline (S. Williams, A. Waterman and D. Patterson, *Commun. ACM* 52
(2009), 65-76) with more than two roofs. A row takes at least as long as any of these:

arithmetic
    ``(fused + plain) / (rate of dgemm / 2)``, then exponentials and logarithms, which
    are arithmetic of the same units, at the rate of those alone. dgemm does one fused
    multiply-add, two of its operations, per lane and instruction, and any other
    operation on vectors takes an instruction as well. Called ``exp`` where
    exponentials and logarithms are the larger part.
division
    Divisions and square roots, which have a unit of their own.
bandwidth
    Rows are read once and outputs written, which moves each line of them twice, as it
    is fetched before. The rate is that of a sum over an array as large as the kernel's
    own or less, for what fits into a cache is read faster.
latency
    A step of a chain waits for the one before, ``CHAINS`` chains abreast.
"""

from math import ceil, log2
from typing import NamedTuple

from fastem.bench.probes import (
    ADD_DIVIDE,
    MULTIPLY_ADD,
    READ_MEGABYTES,
    gemm_name,
    link_name,
    read_name,
)
from fastem.kernels.chains import CHAINS
from fastem.kernels.sparse import ROOT_MIN_FEATURES

ARITHMETIC, EXP, DIVISION = "arithmetic", "exp", "division"
BANDWIDTH, LATENCY = "bandwidth", "latency"
RESOURCES = ARITHMETIC, EXP, DIVISION, BANDWIDTH, LATENCY

_FLOAT64_BYTES = 8
_LABEL_BYTES = 8


class Work(NamedTuple):
    """What one row costs.

    Attributes
    ----------
    fused : float
        Fused multiply-adds.
    plain : float
        Other additions, multiplications, comparisons and selections.
    exp, log, divide, sqrt : float
        How many of each.
    read, written : float
        Bytes of the data and of the outputs.
    fused_in_turn, divide_in_turn : float
        Of a step of a chain, how many operations wait for each other.
    """

    fused: float = 0.0
    plain: float = 0.0
    exp: float = 0.0
    log: float = 0.0
    divide: float = 0.0
    sqrt: float = 0.0
    read: float = 0.0
    written: float = 0.0
    fused_in_turn: float = 0.0
    divide_in_turn: float = 0.0

    @property
    def flop(self):
        """Floating-point operations as they are usually counted, functions left out."""
        return 2 * self.fused + self.plain

    @property
    def moved(self):
        """Bytes between the processor and memory; a line is fetched to be written."""
        return self.read + 2 * self.written


def total(*parts):
    """Return the work of several parts.

    Examples
    --------
    >>> from fastem.bench.work import Work, total
    >>> total(Work(fused=2, exp=1), Work(fused=3)).fused
    5
    """
    return Work(*(sum(field) for field in zip(*parts, strict=True)))


# --------------------------------------------------------------------- parts of rows


def _load(D):
    """Subtract the origin, multiply by the scale."""
    return Work(plain=2 * D)


def _full_density(D, K):
    """``z = L x + s``, L lower triangular, and ``p -= z * z``, for each component."""
    return Work(fused=K * (_triangle(D) + D))


def _tied_density(D, K):
    """One product ``L x``; ``z = L x + s`` and ``p -= z * z`` for each component."""
    return Work(fused=_triangle(D) + K * D, plain=K * D)


def _diag_density(D, K):
    """``z = f x + s`` and ``p -= z * z``, feature by feature."""
    return Work(fused=2 * K * D)


def _full_moments(D, K):
    """``y = sqrt(r) (x - c)``; sums of r, ``sqrt(r) y`` and the lower ``y y^T``.

    Of few features ``d = x - c`` and ``y = r d``; sums of r, y and the lower ``y d^T``.
    """
    if D < ROOT_MIN_FEATURES:
        return Work(fused=K * _triangle(D), plain=K * (3 * D + 1))
    return Work(fused=K * (D + _triangle(D)), plain=K * (2 * D + 1), sqrt=K)


def _tied_moments(D, K):
    """Sum r, ``r x``, and the two outer products of gaussian_tied's identity.

    Of ``m = sum_k r_k c_k`` there is the product, of a row's weight w a sum, of
    ``(w x - m) / sqrt(w)`` the lower triangle, and of ``r / sqrt(w)`` another.
    """
    return Work(
        fused=2 * K * D + D + _triangle(D) + _triangle(K),
        plain=3 * K + D,
        divide=1,
        sqrt=1,
    )


def _diag_moments(D, K):
    """``y = x - c`` and ``w = r y``; sums of r, w and ``w y``."""
    return Work(fused=K * D, plain=K * (3 * D + 1))


def _bayes(K):
    """Maximum, difference, exp, sum; log; then one over the sum times each of K.

    What is negligible becomes zero by a comparison and a selection.
    """
    return Work(plain=6 * K, exp=K, log=1, divide=1)


def _log_sum(K):
    """Maximum, difference, exp, sum; log."""
    return Work(plain=3 * K, exp=K, log=1)


def _argmax(K):
    """Compare, and select the record and its holder."""
    return Work(plain=3 * K)


def _triangle(n):
    return n * (n + 1) / 2


_DENSITY = {
    "full": _full_density,
    "tied": _tied_density,
    "diag": _diag_density,
    "spherical": _diag_density,
}
_MOMENTS = {
    "full": _full_moments,
    "tied": _tied_moments,
    "diag": _diag_moments,
    "spherical": _diag_moments,
}

# ---------------------------------------------------------------------------- stages

LOAD, DENSITY, BAYES, MOMENTS = "load", "density", "bayes", "moments"


def mixture_stages(covariance_type, D, K):
    """Return the work of each stage of an E-step, on rows that are in the cache.

    Examples
    --------
    Two features and eight components of full covariance, by hand: the triangle of a
    component has 3 entries, so its density takes 3 + 2 multiply-adds.

    >>> from fastem.bench.work import mixture_stages
    >>> mixture_stages("full", D=2, K=8)["density"].fused
    40.0
    """
    return {
        LOAD: _load(D),
        DENSITY: _DENSITY[covariance_type](D, K),
        BAYES: _bayes(K),
        MOMENTS: _MOMENTS[covariance_type](D, K),
    }


LIKELIHOODS, FORWARD, BACKWARD = "likelihoods", "forward", "backward"
TRANSITIONS, BEST_SCORES, TRACE_BACK = "transitions", "best scores", "trace back"


def chain_stages(D, K):
    """Return the work of each stage of chains with diagonal emissions, a step.

    likelihoods
        Densities relative to the largest; of two states by one exponential.
    forward
        The product with the transition matrix, times the densities, divided by the
        sum; it takes one logarithm of the product of four sums.
    backward
        ``gamma = alpha beta``, ``v = b beta / sum``, the product with the matrix.
    transitions
        ``alpha v^T``, summed over steps.
    best scores
        K additions and comparisons for each of K states, then a density added, the
        largest found and subtracted.
    trace back
        K additions, comparisons and two selections each, for one state alone.
    """
    return {
        LOAD: _load(D),
        DENSITY: _diag_density(D, K),
        LIKELIHOODS: Work(plain=2 * K, exp=1 if K == 2 else K),
        FORWARD: Work(
            fused=K * K,
            plain=3 * K,
            log=0.25,
            divide=1,
            # A product of K, times the density, summed, times one over the sum.
            fused_in_turn=K + 1 + ceil(log2(K)) + 1,
            divide_in_turn=1,
        ),
        BACKWARD: Work(fused=K * K, plain=3 * K, fused_in_turn=K + 1),
        TRANSITIONS: Work(fused=K * K),
        MOMENTS: _diag_moments(D, K),
        # Three additions wait for each other, and one; comparisons take less.
        BEST_SCORES: Work(plain=2 * K * K + 3 * K, fused_in_turn=3),
        TRACE_BACK: Work(plain=4 * K, fused_in_turn=1),
    }


# --------------------------------------------------------------------------- kernels


def e_step(covariance_type, D, K, itemsize):
    """Return the work of a mixture's E-step with its statistics."""
    stages = mixture_stages(covariance_type, D, K)
    return total(*stages.values(), Work(read=D * itemsize))


def predict(covariance_type, D, K, itemsize):
    """Return the work of labelling a row with its likeliest component."""
    stages = mixture_stages(covariance_type, D, K)
    traffic = Work(read=D * itemsize, written=_LABEL_BYTES)
    return total(stages[LOAD], stages[DENSITY], _argmax(K), traffic)


def score(covariance_type, D, K, itemsize):
    """Return the work of the log-likelihood of a row."""
    stages = mixture_stages(covariance_type, D, K)
    traffic = Work(read=D * itemsize, written=itemsize)
    return total(stages[LOAD], stages[DENSITY], _log_sum(K), traffic)


def kmeans_pass(D, K, itemsize):
    """Return the work of finding the nearest centre and adding the row to its sum."""
    nearest = Work(fused=K * D, read=D * itemsize)
    return total(_load(D), nearest, _argmax(K), Work(plain=D + 1))


def hmm_forward(D, K):
    """Return the work of a step of the log-likelihood, diagonal emissions, float64."""
    return _chain(D, K, LOAD, DENSITY, LIKELIHOODS, FORWARD)


def hmm_smoothing(D, K):
    """Return the work of a step forward and back, with the posteriors written."""
    back = _chain(D, K, BACKWARD)._replace(read=0.0, written=K * _FLOAT64_BYTES)
    return total(hmm_forward(D, K), back)


def baum_welch(D, K):
    """Return the work of a step of the E-step: statistics in place of posteriors.

    Rows are loaded again for the moments, from a cache.
    """
    back = _chain(D, K, BACKWARD, TRANSITIONS, LOAD, MOMENTS)._replace(read=0.0)
    return total(hmm_forward(D, K), back)


def viterbi(D, K):
    """Return the work of a step of the best path, forward and traced back."""
    stages = LOAD, DENSITY, BEST_SCORES, TRACE_BACK
    return _chain(D, K, *stages)._replace(written=_LABEL_BYTES)


def _chain(D, K, *names):
    stages = chain_stages(D, K)
    return total(*(stages[name] for name in names), Work(read=D * _FLOAT64_BYTES))


# ---------------------------------------------------------------------------- limits


class Limit(NamedTuple):
    """The least seconds for a row and the resource that says so."""

    seconds: float
    resource: str


def resources(work, dtype, n_rows, rate):
    """Return the seconds that each resource takes for a row at its best.

    Parameters
    ----------
    work : Work
    dtype : str
    n_rows : int
        How many rows are worked, which decides what cache they fit into.
    rate : callable
        ``rate(name)`` is the best rate of a probe.

    Returns
    -------
    dict of str to float
    """
    return {
        ARITHMETIC: (work.fused + work.plain) / (rate(gemm_name(dtype)) / 2),
        EXP: work.exp / rate(f"exp {dtype}") + work.log / rate(f"log {dtype}"),
        DIVISION: work.divide / rate(f"divide {dtype}")
        + work.sqrt / rate(f"sqrt {dtype}"),
        BANDWIDTH: work.moved / rate(_read_probe(work, n_rows)),
        LATENCY: (
            work.fused_in_turn / rate(link_name(MULTIPLY_ADD))
            + work.divide_in_turn / rate(link_name(ADD_DIVIDE))
        )
        / CHAINS,
    }


def limit(work, dtype, n_rows, rate):
    """Return the limit of a kernel; parameters as of :func:`resources`."""
    seconds = resources(work, dtype, n_rows, rate)
    arithmetic = ARITHMETIC if seconds[ARITHMETIC] >= seconds[EXP] else EXP
    seconds[arithmetic] = seconds[ARITHMETIC] + seconds[EXP]
    binding = max(seconds, key=seconds.get)
    return Limit(seconds[binding], binding)


def _read_probe(work, n_rows):
    """Return the largest of the arrays read that is not larger than the kernel's."""
    megabytes = n_rows * (work.read + work.written) / 1e6
    fitting = [size for size in READ_MEGABYTES if size <= megabytes]
    return read_name(max(fitting, default=READ_MEGABYTES[0]))
