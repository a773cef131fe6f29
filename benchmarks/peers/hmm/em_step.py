"""One EM step: fastem against both of hmmlearn's implementations."""

from importlib import import_module

import numpy as np

from benchmarks.peers import fastem_chain, hmmlearn_peer
from benchmarks.peers.hmm.cases import CHAINS, STICKY
from benchmarks.peers.interface import check_agreement
from benchmarks.peers.plan import compare
from benchmarks.peers.timing import alternate, spread_per_iteration

SCORES = 1e-8
PARAMETERS = 1e-7
# In logarithms a step takes hmmlearn so long that this many are exact enough, twice:
LOG_ITERATIONS = 3
LOG_REPEATS = 2


def rows(plan):
    return _rows(plan, CHAINS, hmmlearn_peer.IMPLEMENTATIONS)


def sticky(plan):
    return _rows(plan, STICKY, ("scaling",))


def _rows(plan, cases, implementations):
    if not plan.select_peers([hmmlearn_peer]) or hmmlearn_peer.missing():
        return
    for case in plan.select(cases):
        X, start = case.data()
        for implementation in implementations:
            yield {
                "K, D, T": case.size,
                "peer": f"{hmmlearn_peer.NAME}, {implementation}",
                **_race(X, start, case, implementation, plan),
                "peer MB": plan.megabytes_added(
                    _prepare, hmmlearn_peer.__name__, case, implementation
                ),
                "fastem MB": plan.megabytes_added(
                    _prepare, fastem_chain.__name__, case
                ),
            }


def _prepare(peer, case, *implementation):
    """Return a call of two EM steps, the kernels of which are loaded."""
    X, start = case.data()
    runner = import_module(peer).runner
    runner(X[:1_000], start, 2, *implementation)()
    return runner(X, start, 2, *implementation)


def _race(X, start, case, implementation, plan):
    in_logs = implementation == "log"
    n_iter = min(case.n_iter, LOG_ITERATIONS) if in_logs else case.n_iter
    ours = fastem_chain.runner(X, start, case.n_iter)
    theirs = hmmlearn_peer.runner(X, start, n_iter, implementation)
    repeats = min(plan.repeats, LOG_REPEATS) if in_logs else plan.repeats
    their_results, our_results = alternate(repeats, theirs, ours)
    same = our_results[0]
    if n_iter != case.n_iter:
        same = fastem_chain.runner(X, start, n_iter)()
    _check(their_results[0], same)
    return {
        **compare(
            spread_per_iteration([result.timing for result in their_results]),
            spread_per_iteration([result.timing for result in our_results]),
            plan.asked(getattr(case.asked, implementation)),
        ),
        "iterations compared": n_iter,
        "log-likelihood": f"{same.history[-1]:.10g}",
    }


def _check(theirs, ours):
    """Raise unless both went the same way and arrived at the same model."""
    check_agreement("log-likelihoods", theirs.history, ours.history, SCORES)
    for name, one in theirs.parameters._asdict().items():
        other = getattr(ours.parameters, name)
        check_agreement(name, one, other, PARAMETERS, scale=np.abs(one).max())
