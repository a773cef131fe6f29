"""Filter, smoother and best path, fastem against dynamax, both from float32 rows.

dynamax computes in float32, too; fastem in float64, whatever the rows are.
"""

from functools import partial

import numpy as np

from benchmarks.peers import dynamax_peer, fastem_chain
from benchmarks.peers.hmm.cases import CHAINS
from benchmarks.peers.interface import DisagreementError, check_agreement
from benchmarks.peers.plan import compare
from benchmarks.peers.timing import alternate, spread, stopwatch

# What rounding to float32 does to probabilities. It does more to paths: dynamax adds
# logarithms up over all steps: so paths are judged by their log-probability in float64.
PROBABILITIES = 1e-2
PATHS = 1e-3  # measured: up to 1e-4 below, and 0.4 % of the states others
OUR_METHODS = {"filter": "filter", "smoother": "predict_proba", "Viterbi": "predict"}


def rows(plan):
    if not plan.select_peers([dynamax_peer]) or dynamax_peer.missing():
        return
    for case in plan.select(CHAINS):
        X, start = case.data()
        X = X.astype(dynamax_peer.DTYPE)
        model = fastem_chain.make(start)
        for task in dynamax_peer.METHODS:
            compile_seconds, theirs = dynamax_peer.compiled(task, X, start)
            theirs()
            ours = partial(getattr(model, OUR_METHODS[task]), X)
            ours()  # compiles or loads
            their_calls, our_calls = alternate(
                plan.repeats, partial(stopwatch, theirs), partial(stopwatch, ours)
            )
            differ = _check(their_calls[0][1], our_calls[0][1], X, start)
            their_seconds = spread([seconds for seconds, _ in their_calls])
            yield {
                "task": task,
                "K, D, T": case.size,
                "peer": dynamax_peer.NAME,
                "compile s": compile_seconds,
                **compare(
                    their_seconds, spread([seconds for seconds, _ in our_calls]), None
                ),
                "differ": differ,
                "peer MB": plan.megabytes_added(_prepare_theirs, task, case),
                "fastem MB": plan.megabytes_added(_prepare_ours, task, case),
            }


def _prepare_theirs(task, case):
    X, start = case.data()
    return dynamax_peer.compiled(task, X, start)[1]


def _prepare_ours(task, case):
    X, start = case.data()
    X = X.astype(dynamax_peer.DTYPE)
    call = getattr(fastem_chain.make(start), OUR_METHODS[task])
    call(X[:1_000])  # loads kernels
    return partial(call, X)


def _check(theirs, ours, X, start):
    """Raise if the two differ by more than float32 explains; return by how much."""
    if theirs.ndim == 1:
        best, other = (_log_probability(path, X, start) for path in (ours, theirs))
        check_agreement("log-probability of the path", other, best, PATHS)
        if other > best + abs(best) * 1e-12:
            raise DisagreementError(f"a better path than fastem's: {other} > {best}")
        return float(np.mean(theirs != ours))
    check_agreement("probabilities", theirs, ours, PROBABILITIES, scale=1)
    return float(np.abs(theirs - ours).max())


def _log_probability(path, X, start):
    """Return that of a path and the rows together, but for a constant."""
    variances = start.covars[path]
    squares = (X.astype(np.float64) - start.means[path]) ** 2 / variances
    return (
        np.log(start.startprob[path[0]])
        + np.log(start.transmat)[path[:-1], path[1:]].sum()
        - 0.5 * (squares + np.log(variances)).sum()
    )
