"""Kernels of hidden Markov models: ``pytest benchmarks --benchmark-group-by=group``."""

import numpy as np
import pytest

from benchmarks.data import chain
from fastem.estimators.hmm.validation import make_sequences
from fastem.families.gaussian_map import with_precisions
from fastem.models.decoding import viterbi
from fastem.models.hmm import HMMParams, e_step, posterior
from fastem.models.mixture import FAMILIES

# States and steps; features are few, so that chains are what is timed.
SMALL = ((2, 100), (2, 10_000), (16, 100), (16, 10_000), (64, 10_000), (256, 1_000))
LARGE = (
    *((2, 1_000_000), (2, 10_000_000), (4, 1_000_000), (4, 10_000_000)),
    *((16, 1_000_000), (64, 100_000), (256, 10_000)),
)
N_FEATURES = 2
FAMILY = FAMILIES["diag"]

SIZES = [
    *(pytest.param(size, id=f"K={size[0]},T={size[1]}") for size in SMALL),
    *(pytest.param(size, id=f"K={size[0]},T={size[1]},large") for size in LARGE),
]


@pytest.fixture(params=SIZES)
def size(request):
    if request.param in LARGE and request.config.getoption("benchmark_disable"):
        pytest.skip("large sizes are for timing only")
    return request.param


@pytest.fixture
def given(size):
    """A model and a sequence, as the kernels know them."""
    n_states, n_steps = size
    X, start = chain(n_steps, N_FEATURES, n_states)
    emissions = with_precisions("diag", start.means, start.covars)
    return HMMParams(start.startprob, start.transmat, emissions), make_sequences(X)


@pytest.mark.benchmark(group="chains: E-step and statistics")
def test_e_step(benchmark, given, size):
    e_step(FAMILY, *given)  # compiles
    statistics = benchmark(e_step, FAMILY, *given)
    assert np.isclose(statistics.transitions.sum(), size[1] - 1)


@pytest.mark.benchmark(group="chains: best path")
def test_viterbi(benchmark, given, size):
    viterbi(FAMILY, *given)  # compiles
    assert len(benchmark(viterbi, FAMILY, *given).path) == size[1]


@pytest.mark.benchmark(group="chains: posterior")
@pytest.mark.parametrize("wanted", ["smoothed", "filtered"])
def test_posterior(benchmark, given, wanted):
    posterior(FAMILY, *given, **{wanted: True})  # compiles
    benchmark(posterior, FAMILY, *given, **{wanted: True})
