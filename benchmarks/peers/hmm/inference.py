"""Best paths, posteriors and scores of equal models, fastem against hmmlearn."""

from functools import partial
from importlib import import_module

import numpy as np

from benchmarks.peers import fastem_chain, hmmlearn_peer
from benchmarks.peers.hmm.cases import CHAINS
from benchmarks.peers.interface import check_agreement
from benchmarks.peers.plan import compare
from benchmarks.peers.timing import alternate, spread, stopwatch

SCORES = 1e-8
PROBABILITIES = 1e-8  # absolute
# Of paths that are equally good but for rounding, either may be chosen.
ALLOWED_SHARE_OF_OTHER_STATES = 1e-6


def rows(plan):
    if not plan.select_peers([hmmlearn_peer]) or hmmlearn_peer.missing():
        return
    for case in plan.select(CHAINS):
        X, start = case.data()
        ours = fastem_chain.make(start)
        for task, method, implementation, check in TASKS:
            theirs = hmmlearn_peer.make(start, implementation)
            their_calls, our_calls = alternate(
                plan.repeats,
                *(
                    partial(stopwatch, getattr(model, method), X)
                    for model in (theirs, ours)
                ),
            )
            check(their_calls[0][1], our_calls[0][1])
            yield {
                "task": task,
                "K, D, T": case.size,
                "peer": f"{hmmlearn_peer.NAME}, {implementation}",
                **compare(
                    spread([seconds for seconds, _ in their_calls]),
                    spread([seconds for seconds, _ in our_calls]),
                    plan.asked(getattr(case.asked, task, None)),
                ),
                "peer MB": plan.megabytes_added(
                    _prepare, hmmlearn_peer.__name__, case, method, implementation
                ),
                "fastem MB": plan.megabytes_added(
                    _prepare, fastem_chain.__name__, case, method
                ),
            }


def _prepare(peer, case, method, *implementation):
    """Return a call whose kernels are loaded."""
    X, start = case.data()
    call = getattr(import_module(peer).make(start, *implementation), method)
    call(X[:1_000])
    return partial(call, X)


def _check_path(theirs, ours):
    check_agreement("log-probability of the path", theirs[0], ours[0], SCORES)
    equal = np.mean(theirs[1] == ours[1])
    check_agreement("share of equal states", equal, 1, ALLOWED_SHARE_OF_OTHER_STATES)


def _check_posterior(theirs, ours):
    check_agreement("posteriors", theirs, ours, PROBABILITIES, scale=1)


def _check_score(theirs, ours):
    check_agreement("score", theirs, ours, SCORES)


TASKS = (
    ("viterbi", "decode", "log", _check_path),
    ("posterior", "predict_proba", "scaling", _check_posterior),
    ("posterior", "predict_proba", "log", _check_posterior),
    ("score", "score", "scaling", _check_score),
    ("score", "score", "log", _check_score),
)
