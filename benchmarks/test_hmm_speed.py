"""Kernels of hidden Markov models: ``pytest benchmarks --benchmark-only``."""

import numpy as np
import pytest

from benchmarks.data import chain
from fastem.estimators.hmm.validation import make_sequences
from fastem.families.categorical import CATEGORICAL, CategoricalParams
from fastem.families.gaussian_map import with_precisions
from fastem.families.poisson import POISSON, PoissonParams
from fastem.models.decoding import viterbi
from fastem.models.hmm import HMMParams, e_step, posterior
from fastem.models.mixture import FAMILIES
from fastem.models.stream import ViterbiStream

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


# The forward recursion alone unless something is wanted of the backward one.
@pytest.mark.benchmark(group="chains: posterior")
@pytest.mark.parametrize("wanted", ["log_likelihood", "filtered", "smoothed"])
def test_posterior(benchmark, given, wanted):
    options = {} if wanted == "log_likelihood" else {wanted: True}
    posterior(FAMILY, *given, **options)  # compiles
    assert benchmark(posterior, FAMILY, *given, **options).log_likelihood < 0


@pytest.fixture(params=((2, 100_000), (16, 10_000)), ids="K={0[0]},T={0[1]}".format)
def sticky(request):
    """A model that never forgets, so that chains are followed step by step."""
    n_states, n_steps = request.param
    X, start = chain(n_steps, N_FEATURES, n_states, stay=1 - 1e-9, distance=0.01)
    transmat = np.full((n_states, n_states), 1e-9 / n_states)
    transmat[np.diag_indices(n_states)] = 1 - transmat[0, 1:].sum()
    emissions = with_precisions("diag", start.means, start.covars)
    return HMMParams(start.startprob, transmat, emissions), make_sequences(X)


@pytest.mark.benchmark(group="chains: one that never forgets")
@pytest.mark.parametrize("recursion", [posterior, viterbi])
def test_sweep(benchmark, sticky, recursion):
    options = {"smoothed": True} if recursion is posterior else {}
    recursion(FAMILY, *sticky, **options)  # compiles
    benchmark(recursion, FAMILY, *sticky, **options)


@pytest.mark.benchmark(group="chains: E-step of symbols and counts")
@pytest.mark.parametrize("family", [CATEGORICAL, POISSON], ids=lambda it: it.name)
def test_discrete_e_step(benchmark, family):
    n_states, n_steps, n_symbols = 4, 100_000, 16
    rng = np.random.default_rng(0)
    emissions = {
        CATEGORICAL: CategoricalParams(rng.dirichlet(np.ones(n_symbols), n_states)),
        POISSON: PoissonParams(rng.uniform(1, n_symbols, (n_states, 1))),
    }
    transmat = rng.dirichlet(np.ones(n_states), n_states)
    params = HMMParams(transmat[0], transmat, emissions[family])
    sequences = make_sequences(rng.integers(n_symbols, size=(n_steps, 1)))
    e_step(family, params, sequences)  # compiles
    statistics = benchmark(e_step, family, params, sequences)
    assert np.isclose(statistics.transitions.sum(), n_steps - 1)


@pytest.mark.benchmark(group="chains: best path of a stream")
def test_stream(benchmark):
    n_states, n_steps = 16, 10_000
    rng = np.random.default_rng(0)
    log_density = np.log(rng.dirichlet(np.ones(n_states), n_steps))
    log_transmat = np.log(rng.dirichlet(np.ones(n_states), n_states))

    def decode():
        stream = ViterbiStream(log_transmat[0], log_transmat)
        return len(stream.push(log_density)) + len(stream.finish())

    decode()  # compiles
    assert benchmark(decode) == n_steps
