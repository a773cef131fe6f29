"""From rounds of timings to a verdict, by the spread of the rounds themselves.

A round times two versions in the order A B B A or B A A B, as a coin says. Its figure
is the logarithm of the ratio of B's time to A's; drift cancels in it. If B takes as
long as A, the coin alone decides the figure's sign, whatever the noise: Wilcoxon's
signed ranks then have their exact distribution, and bound the slow-down without a
further assumption (J. L. Hodges and E. L. Lehmann, *Ann. Math. Statist.* 34 (1963),
598-611; M. Hollander, D. A. Wolfe and E. Chicken, *Nonparametric Statistical Methods*,
section 3.3).
"""

import functools
import math
from typing import NamedTuple

import numpy as np

# Two processes of the same code differ by a few per cent for as long as they live, by
# where their memory happens to lie; slow-downs below are not held against a change.
TOLERATED = math.log(1.05)
# A case is done with when a slow-down by as much is ruled out.
RULED_OUT = math.log(1.10)
# Rounds after which the bounds are looked at, beside when time is out.
LOOKS = (14, 19, 26, 35, 47, 63, 84, 112, 150, 200)
# The probability that a bound is wrong for any case at any look.
ALPHA = 0.01
RESULT_TOLERANCE = 1e-9
# For what the other version's threads still do after its turn.
REST_SECONDS = 0.005

NOT_SLOWER, SLOWER, UNDECIDED = "not slower", "SLOWER", "undecided"


class Bounds(NamedTuple):
    """The logarithm of a ratio of times, and the bounds of what it can be."""

    low: float
    estimate: float
    high: float


class Evidence(NamedTuple):
    """What is known of a case: (A, A, B, B) of each round, and what follows."""

    rounds: list
    bounds: Bounds
    verdict: str


def gather(clocks, measure, out_of_time, rng, cores=(None,)):
    """Add rounds until every case is decided or time is out.

    Cases take turns, so that a spell of noise falls on a few rounds of each.

    Parameters
    ----------
    clocks : dict of str to {'cpu', 'wall'}
        The cases, and by what each is judged.
    measure : callable
        ``measure(version, case, core)`` runs version 0 or 1 and returns a timing.
    out_of_time : callable
    rng : random.Random
    cores : sequence
        A round runs on one of them: one may be slower than another all the while.

    Returns
    -------
    dict of str to Evidence
    """
    rounds = {case: [] for case in clocks}
    evidence = {case: judge([], clock, len(clocks)) for case, clock in clocks.items()}
    for n in range(1, LOOKS[-1] + 1):
        undecided = [c for c in clocks if evidence[c].verdict == UNDECIDED]
        if not undecided or out_of_time():
            break
        rng.shuffle(undecided)
        for case in undecided:
            core = rng.choice(cores)
            measure_case = functools.partial(measure, case=case, core=core)
            rounds[case].append(one_round(measure_case, rng))
        if n in LOOKS:
            for case in undecided:
                evidence[case] = judge(rounds[case], clocks[case], len(clocks))
    for case in undecided:
        evidence[case] = judge(rounds[case], clocks[case], len(clocks))
    return evidence


def one_round(measure, rng):
    """Return two timings of version 0 and two of version 1."""
    timings = [], []
    first = rng.randrange(2)
    for version in (first, 1 - first, 1 - first, first):
        timings[version].append(measure(version))
    return (*timings[0], *timings[1])


def judge(rounds, clock, n_cases):
    """Return the evidence of so many rounds, for one of ``n_cases`` cases."""
    bounds = bound(log_ratios(rounds, clock), ALPHA / (n_cases * (len(LOOKS) + 1)))
    if bounds.low > TOLERATED:
        verdict = SLOWER
    elif bounds.high < RULED_OUT:
        verdict = NOT_SLOWER
    else:
        verdict = UNDECIDED
    return Evidence(rounds, bounds, verdict)


def log_ratios(rounds, clock):
    """Return the figure of each round by one of the clocks."""
    times = np.array([[timing[clock] for timing in round_] for round_ in rounds])
    return np.log(times.reshape(-1, 4)) @ (-0.5, -0.5, 0.5, 0.5)


def bound(figures, alpha):
    """Return the estimate and its bounds; each errs with probability ``alpha``."""
    walsh, limit = walsh_averages(figures), _rank_limit(len(figures), alpha)
    low, high = (walsh[limit], walsh[-1 - limit]) if limit >= 0 else (-np.inf, np.inf)
    return Bounds(float(low), estimate(figures), float(high))


def estimate(figures):
    """Return the Hodges-Lehmann estimate of the figures' centre."""
    return float(np.median(walsh_averages(figures))) if len(figures) else 0.0


def walsh_averages(figures):
    """Return the averages of all pairs of figures, each with itself too, in order."""
    i, j = np.triu_indices(len(figures))
    return np.sort((figures[i] + figures[j]) / 2)


@functools.cache
def _rank_limit(n, alpha):
    """Return the largest c with P(T <= c) <= alpha, T the signed ranks' sum; or -1."""
    probability = np.zeros(n * (n + 1) // 2 + 1)
    probability[0] = 1
    for rank in range(1, n + 1):
        with_rank = np.zeros_like(probability)
        with_rank[rank:] = probability[:-rank]
        probability = (probability + with_rank) / 2
    return int(np.searchsorted(probability.cumsum(), alpha, side="right")) - 1


def same_results(a, b):
    """Say whether two versions found the same figures, to rounding."""
    return len(a) == len(b) and np.allclose(a, b, rtol=RESULT_TOLERANCE, atol=0)
