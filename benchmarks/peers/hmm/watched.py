"""The process whose memory is watched; it says when it is ready and when it is done.

``python -m benchmarks.peers.hmm.watched FILE fit|decode K``
"""

import sys

import numpy as np

from benchmarks.data import chain
from benchmarks.peers import fastem_chain


def work(path, task, n_states):
    X = np.load(path, mmap_mode="r")
    start = chain(1_000, X.shape[1], n_states)[1]

    def call(rows):
        if task == "fit":
            return fastem_chain.fit(rows, start, n_iter=1)
        return fastem_chain.make(start).decode(rows)

    call(X[:1_000])  # loads the kernels
    print("ready", flush=True)
    sys.stdin.readline()
    answer = call(X)
    print("done", flush=True)
    sys.stdin.readline()
    return answer  # held until the other process has looked once more


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
