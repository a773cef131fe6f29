"""dynamax, as a peer where it is installed; it computes in float32, compiled by XLA."""

from importlib.util import find_spec

import numpy as np

from benchmarks.peers.timing import stopwatch

NAME = "dynamax"
DTYPE = np.float32
METHODS = ("filter", "smoother", "Viterbi")


def missing():
    return None if find_spec("dynamax") else "dynamax is not installed"


def compiled(method, X, start):
    """Return the seconds of compiling and a function that waits for the answer.

    Log densities of the rows are part of its work.
    """
    import jax
    from dynamax.hidden_markov_model import DiagonalGaussianHMM

    model = DiagonalGaussianHMM(*start.means.shape)
    params, _ = model.initialize(
        initial_probs=start.startprob.astype(DTYPE),
        transition_matrix=start.transmat.astype(DTYPE),
        emission_means=start.means.astype(DTYPE),
        emission_scale_diags=np.sqrt(start.covars).astype(DTYPE),
    )
    answer = {
        "filter": lambda params, rows: model.filter(params, rows).filtered_probs,
        # What is not returned, such as probabilities of transitions, XLA leaves out.
        "smoother": lambda params, rows: model.smoother(params, rows).smoothed_probs,
        "Viterbi": model.most_likely_states,
    }[method]
    rows = jax.numpy.asarray(X.astype(DTYPE))
    seconds, program = stopwatch(lambda: jax.jit(answer).lower(params, rows).compile())

    def call():
        return np.asarray(program(params, rows).block_until_ready())

    return seconds, call
