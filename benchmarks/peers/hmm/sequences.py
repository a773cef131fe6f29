"""Many short sequences against one of as many rows: what a sequence costs."""

from functools import partial

import numpy as np

from benchmarks.peers import fastem_chain
from benchmarks.peers.hmm.cases import SEQUENCES
from benchmarks.peers.timing import alternate, spread, stopwatch


def rows(plan):
    for case in plan.select(SEQUENCES):
        X, start = case.data()
        lengths = np.full(case.n_sequences, case.n_rows // case.n_sequences)
        model = fastem_chain.make(start)
        tasks = {
            "fit, one step": partial(_fit, X, start),
            "score": partial(model.score, X),
            "decode": partial(model.decode, X),
        }
        for task, call in tasks.items():
            many, one = (
                spread(seconds)
                for seconds in alternate(
                    plan.repeats, *(_timer(call, each) for each in (lengths, None))
                )
            )
            overhead = (many.minimum - one.minimum) / case.n_sequences
            yield {
                "task": task,
                "K, D, T": case.size,
                "sequences": case.n_sequences,
                "steps each": int(lengths[0]),
                "many, min s": many.minimum,
                "one, min s": one.minimum,
                "many over one": many.minimum / one.minimum,
                "ns a sequence": 1e9 * overhead,
            }


def _fit(X, start, lengths):
    return fastem_chain.fit(X, start, n_iter=1, lengths=lengths)


def _timer(call, lengths):
    return lambda: stopwatch(call, lengths)[0]
