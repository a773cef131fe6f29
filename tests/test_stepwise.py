"""Stepwise EM: laws of recentring and blending, and where two passes lead.

The oracle of all sums is NumPy, from responsibilities written out.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastem.em.seeding import initial_params
from fastem.em.stepwise import (
    AVERAGE_POWER,
    Schedule,
    StepwiseState,
    begin,
    finish,
    step,
)
from fastem.families.categorical import CATEGORICAL, CategoricalParams
from fastem.families.gaussian import (
    GaussianParams,
    GaussianStatistics,
    Regularization,
)
from fastem.families.gaussian_mixture import (
    GMM_DIAG,
    GMM_FULL,
    GMM_SPHERICAL,
    GMMParams,
    GMMStatistics,
)
from fastem.families.multinomial import MULTINOMIAL
from fastem.families.poisson import POISSON, PoissonParams
from fastem.models import hmm
from fastem.models.mixture import FAMILIES, MixtureParams, e_step, m_step
from fastem.statistics import add, scale, subtract

from .common import COVARIANCE_TYPES, assert_same_bits, blobs, random_params
from .reference import mixture as oracle

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLES = settings(max_examples=25)
SEEDS = st.integers(0, 2**32 - 1)

EPS = np.finfo(np.float64).eps
MEAN = Schedule(exponent=1.0, offset=0.0)
FADING = Schedule(exponent=0.6, offset=1.0)
GMMS = {"full": GMM_FULL, "diag": GMM_DIAG, "spherical": GMM_SPHERICAL}
EMPTY = np.empty(0)
# Sums of at most 200 terms of size one, about points some deviations off.
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def assert_close(a, b, **tolerance):
    """Equal in all fields, at any depth."""
    if isinstance(a, tuple):
        assert type(a) is type(b)
        for x, y in zip(a, b, strict=True):
            assert_close(x, y, **tolerance)
    else:
        np.testing.assert_allclose(a, b, **tolerance)


def sums_about(X, weighted, means, kind):
    """First and second moments about means; responsibilities are (N, K), weighted."""
    apart = X[:, None, :] - means
    first = np.einsum("nk,nkd->kd", weighted, apart)
    if kind in ("diag", "spherical"):
        return first, np.einsum("nk,nkd->kd", weighted, apart**2)
    second = np.einsum("nk,nkd,nke->kde", weighted, apart, apart)
    return first, second if kind == "full" else second.sum(axis=0)


def gaussian_sums(X, weighted, means, kind):
    """Statistics of rows whose responsibilities are known."""
    first, second = sums_about(X, weighted, means, kind)
    return GaussianStatistics(
        -weighted.sum(), weighted.sum(), weighted.sum(axis=0), first, second
    )


def at(means):
    """Parameters of which only the means matter."""
    return GaussianParams(means, EMPTY, EMPTY)


class Inner(NamedTuple):
    total: float
    counts: np.ndarray


class Outer(NamedTuple):
    total: float
    inner: Inner


class TestStatistics:
    a = Outer(1.0, Inner(2.0, np.array([1.0, 2.0])))
    b = Outer(10.0, Inner(20.0, np.array([30.0, 40.0])))

    def test_add(self):
        want = Outer(11.0, Inner(22.0, np.array([31.0, 42.0])))
        assert_close(add(self.a, self.b), want)

    def test_subtract(self):
        want = Outer(9.0, Inner(18.0, np.array([29.0, 38.0])))
        assert_close(subtract(self.b, self.a), want)

    def test_scale(self):
        want = Outer(3.0, Inner(6.0, np.array([3.0, 6.0])))
        assert_close(scale(self.a, 3.0), want)


@st.composite
def soft_rows(draw):
    """Rows, their weighted responsibilities, some of them zero, and a generator."""
    rng = np.random.default_rng(draw(SEEDS))
    k, d, n = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 80))
    X = rng.normal(size=(n, d))
    weighted = rng.dirichlet(np.ones(k), size=n) * rng.exponential(size=(n, 1))
    weighted[:, rng.random(k) < 0.2] = 0
    return X, weighted, rng


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
class TestRecenter:
    @EXAMPLES
    @given(rows=soft_rows())
    def test_sums_are_those_about_the_new_means(self, kind, rows):
        X, weighted, rng = rows
        old, new = rng.normal(size=(2, weighted.shape[1], X.shape[1]))
        got = FAMILIES[kind].recenter(
            gaussian_sums(X, weighted, old, kind), at(old), at(new)
        )
        assert_close(got, gaussian_sums(X, weighted, new, kind), **CLOSE)

    @EXAMPLES
    @given(rows=soft_rows())
    def test_there_and_back_is_nowhere(self, kind, rows):
        X, weighted, rng = rows
        old, new = rng.normal(size=(2, weighted.shape[1], X.shape[1]))
        statistics = gaussian_sums(X, weighted, old, kind)
        recenter = FAMILIES[kind].recenter
        there = recenter(statistics, at(old), at(new))
        assert_close(recenter(there, at(new), at(old)), statistics, **CLOSE)
        assert_close(recenter(statistics, at(old), at(old)), statistics, rtol=0)

    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_what_kernels_gather(self, kind, offset):
        X = blobs(300, 3, 4, seed=1)
        w = np.random.default_rng(2).exponential(size=len(X))
        start = random_params(X, 4, kind, seed=3)
        _, gamma = oracle.posterior(X, start, kind)
        weighted = w[:, None] * gamma
        if kind in ("diag", "spherical"):
            factors = 1 / np.sqrt(start.covariances)
        else:
            factors = np.linalg.inv(np.linalg.cholesky(start.covariances))
            factors = np.ascontiguousarray(np.swapaxes(factors, -1, -2))
        # A power of two, and rows so rounded that adding it is exact.
        offset = np.float64(2.0 ** np.round(np.log2(offset))) if offset else 0.0
        far = (X + offset) - offset
        params = MixtureParams(
            start.weights,
            GaussianParams(start.means + offset, start.covariances, factors),
        )
        statistics = e_step(FAMILIES[kind], params, X + offset, w)
        means = params.components.means - offset
        new = means + np.random.default_rng(4).normal(size=means.shape)
        new = (new + offset) - offset
        got = FAMILIES[kind].recenter(statistics, params.components, at(new + offset))
        want = sums_about(far, weighted, new, kind)
        # Far away, densities feel that rows are rounded to 1e-10.
        assert_close(got[3:], want, rtol=1e-7 if offset else 1e-10, atol=1e-6)


@pytest.mark.parametrize("kind", GMMS)
@EXAMPLES
@given(rows=soft_rows())
def test_recentring_mixtures_of_gaussians(kind, rows):
    X, weighted, rng = rows
    k, d = weighted.shape[1], X.shape[1]
    shares = rng.dirichlet(np.ones(2), size=(len(X), k))
    each = (weighted[:, :, None] * shares).reshape(len(X), 2 * k)

    def statistics(means):
        inner = gaussian_sums(X, each, means, kind)
        mixture = inner.weight.reshape(k, 2)
        return GMMStatistics(*inner[:2], weighted.sum(axis=0), mixture, *inner[3:])

    old, new = rng.normal(size=(2, 2 * k, d))
    weights = np.full((k, 2), 0.5)
    got = GMMS[kind].recenter(
        statistics(old), GMMParams(weights, at(old)), GMMParams(weights, at(new))
    )
    assert_close(got, statistics(new), **CLOSE)


@pytest.mark.parametrize("family", [CATEGORICAL, POISSON, MULTINOMIAL])
def test_counts_are_about_no_point(family):
    params = family.example()
    statistics = Outer(1.0, Inner(1.0, np.ones(3)))
    assert family.recenter(statistics, params, params) is statistics


# ------------------------------------------------------------------------- the engine


def still(statistics, params):
    """An M-step that moves nothing."""
    return params, np.zeros(1, bool)


def cut(rng, n_rows, n_batches):
    """Batches of whatever size, and none empty."""
    inner = 1 + rng.choice(n_rows - 1, n_batches - 1, replace=False)
    bounds = [0, *np.sort(inner), n_rows]
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def run(batches, m_step, recenter, schedule, params):
    """The state after batches, of each of which a function gives the statistics."""
    state = begin(params, batches[0](params), m_step, recenter)
    for batch in batches[1:]:
        state = step(state, batch(state.params), m_step, recenter, schedule)
    return state


@st.composite
def streams(draw, max_batches=8):
    rng = np.random.default_rng(draw(SEEDS))
    kind = draw(st.sampled_from(COVARIANCE_TYPES))
    k, d = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    n_rows = draw(st.integers(max_batches, 200))
    X = rng.normal(size=(n_rows, d))
    weighted = rng.dirichlet(np.ones(k), size=n_rows) * rng.exponential(
        size=(n_rows, 1)
    )
    batches = cut(rng, n_rows, draw(st.integers(1, max_batches)))
    return kind, X, weighted, batches, rng


class TestBlending:
    """Responsibilities are given, so that what must come out is known."""

    @EXAMPLES
    @given(stream=streams())
    def test_steps_of_one_over_n_make_the_sums_of_all_rows(self, stream):
        """However the rows are cut, and wherever the means wander."""
        kind, X, weighted, batches, rng = stream
        start = rng.normal(size=(weighted.shape[1], X.shape[1]))

        def gather(rows, params):
            return gaussian_sums(X[rows], weighted[rows], params.means, kind)

        def wander(statistics, params):
            return at(params.means + rng.normal(size=params.means.shape)), None

        state = run(
            [functools.partial(gather, rows) for rows in batches],
            wander,
            FAMILIES[kind].recenter,
            MEAN,
            at(start),
        )
        means = state.params.means
        so_far = [
            gaussian_sums(X[: b.stop], weighted[: b.stop], means, kind) for b in batches
        ]
        assert_close(state.statistics, so_far[-1], **CLOSE)
        assert state.n_steps == len(batches)

        # Each running mean weighs the integral of t**p over its batch.
        total = so_far[-1].total_weight
        ages = [0.0, *(one.total_weight / total for one in so_far)]
        averaged = scale(so_far[0], 0.0)
        for (a, b), one in zip(itertools.pairwise(ages), so_far, strict=True):
            share = b ** (AVERAGE_POWER + 1) - a ** (AVERAGE_POWER + 1)
            averaged = add(averaged, scale(one, share * total / one.total_weight))
        assert_close(state.averaged, averaged, **CLOSE)

    @EXAMPLES
    @given(stream=streams(), exponent=st.floats(0.51, 1), offset=st.floats(0, 10))
    def test_batches_alike_follow_the_schedule(self, stream, exponent, offset):
        kind, X, weighted, _, rng = stream
        weighted = weighted / weighted.sum(axis=1, keepdims=True)
        size = len(X) // 4
        batches = [slice(n * size, (n + 1) * size) for n in range(4)]
        means = rng.normal(size=(weighted.shape[1], X.shape[1]))
        parts = [gaussian_sums(X[b], weighted[b], means, kind) for b in batches]
        state = run(
            [lambda params, part=part: part for part in parts],
            still,
            FAMILIES[kind].recenter,
            Schedule(exponent, offset),
            at(means),
        )
        running, averaged, total = parts[0], scale(parts[0], 0.0), 0.0
        for n, part in enumerate(parts, 1):
            gain = (n + offset) ** -exponent if n > 1 else 1.0
            running = add(scale(running, 1 - gain), scale(part, gain))
            share = n ** (AVERAGE_POWER + 1) - (n - 1) ** (AVERAGE_POWER + 1)
            averaged, total = add(averaged, scale(running, share)), total + share
        assert_close(state.statistics, scale(running, 4.0), **CLOSE)
        assert_close(state.averaged, scale(averaged, 4.0 / total), **CLOSE)

    def test_half_a_batch_takes_half_a_step(self):
        """Cutting a batch in two changes the result by the step squared at most."""
        rng = np.random.default_rng(0)
        X, weighted = rng.normal(size=(4000, 2)), rng.dirichlet(np.ones(3), 4000)
        family, means = FAMILIES["full"], np.zeros((3, 2))

        def total(sizes):
            bounds = np.concatenate([[0], np.cumsum(sizes)])
            parts = [
                gaussian_sums(X[a:b], weighted[a:b], means, "full")
                for a, b in itertools.pairwise(bounds)
            ]
            return run(
                [lambda params, part=part: part for part in parts],
                still,
                family.recenter,
                FADING,
                at(means),
            ).statistics

        whole = total([40] * 100)
        cut_last = total([40] * 99 + [20, 20])
        size = (100 + FADING.offset) ** -FADING.exponent
        off = np.abs(cut_last.weight - whole.weight)
        assert np.all(off < size**2 * whole.weight)

    @EXAMPLES
    @given(stream=streams(), factor=st.floats(1e-3, 1e3))
    def test_scaling_all_weights_scales_the_statistics(self, stream, factor):
        kind, X, weighted, batches, rng = stream
        means = rng.normal(size=(weighted.shape[1], X.shape[1]))

        def total(factor):
            parts = [
                gaussian_sums(X[b], factor * weighted[b], means, kind) for b in batches
            ]
            return run(
                [lambda params, part=part: part for part in parts],
                still,
                FAMILIES[kind].recenter,
                FADING,
                at(means),
            )

        one, other = total(1.0), total(factor)
        for name in ("statistics", "averaged"):
            want = scale(getattr(one, name), factor)
            assert_close(getattr(other, name), want, rtol=1e-9, atol=1e-9 * factor)

    def test_a_huge_batch_replaces_all_that_was(self):
        rng = np.random.default_rng(0)
        X, weighted = rng.normal(size=(500, 2)), rng.dirichlet(np.ones(3), 500)
        means = np.zeros((3, 2))
        small, huge = (
            gaussian_sums(X[rows], weighted[rows], means, "full")
            for rows in (slice(0, 2), slice(2, 500))
        )
        state = begin(at(means), small, still, FAMILIES["full"].recenter)
        state = step(state, huge, still, FAMILIES["full"].recenter, FADING)
        assert_close(state.statistics, scale(huge, 500 / 498), rtol=1e-12)

    def test_a_batch_of_no_weight_changes_nothing(self):
        means = np.zeros((2, 1))
        some, none = (
            gaussian_sums(np.ones((3, 1)), np.full((3, 2), r), means, "diag")
            for r in (0.5, 0.0)
        )
        state = begin(at(means), some, still, FAMILIES["diag"].recenter)
        assert step(state, none, still, FAMILIES["diag"].recenter, MEAN) is state

    def test_a_first_batch_of_several_takes_their_time(self):
        rng = np.random.default_rng(0)
        X, weighted = rng.normal(size=(40, 2)), rng.dirichlet(np.ones(3), 40)
        means = np.zeros((3, 2))
        several, one = (
            gaussian_sums(X[rows], weighted[rows], means, "full")
            for rows in (slice(0, 30), slice(30, 40))
        )
        recenter = FAMILIES["full"].recenter
        state = begin(at(means), several, still, recenter, unit=10.0)
        assert state.time == pytest.approx(3, rel=1e-14)
        state = step(state, one, still, recenter, FADING)
        gain = (4 + FADING.offset) ** -FADING.exponent
        want = add(scale(several, (1 - gain) * 40 / 30), scale(one, gain * 40 / 10))
        assert_close(state.statistics, want, **CLOSE)

    def test_repeated_batches_add_no_weight(self):
        means = np.zeros((2, 1))
        part = gaussian_sums(np.ones((4, 1)), np.full((4, 2), 0.5), means, "diag")
        recenter = FAMILIES["diag"].recenter
        state = begin(at(means), part, still, recenter)
        for repeated, want in ((False, 8.0), (True, 8.0), (True, 8.0)):
            state = step(state, part, still, recenter, FADING, repeated=repeated)
            for statistics in (state.statistics, state.averaged):
                assert statistics.total_weight == pytest.approx(want, rel=1e-14)
                assert statistics.weight.sum() == pytest.approx(want, rel=1e-14)
        assert state.time == 4


# -------------------------------------------------------------------------- mixtures


def tools(kind, eps=EPS, reg_covar=1e-6):
    """E-step, M-step and recentring of a mixture."""
    family = FAMILIES[kind]
    regularization = Regularization(reg_covar, eps)
    return (
        functools.partial(e_step, family),
        lambda statistics, params: m_step(family, statistics, params, regularization),
        lambda statistics, old, new: family.recenter(
            statistics, old.components, new.components
        ),
    )


def start_params(kind, X, n_components, seed=0):
    return initial_params(
        FAMILIES[kind],
        X,
        EMPTY.astype(X.dtype),
        n_components,
        "kmeans",
        Regularization(1e-6, np.finfo(X.dtype).eps),
        np.random.RandomState(seed),
    )


def passes(kind, X, start, size, schedule=FADING, n_passes=2, weight=None):
    """The state after passes over rows in order, and the M-step."""
    gather, maximize, recenter = tools(kind, np.finfo(X.dtype).eps)
    weight = EMPTY.astype(X.dtype) if weight is None else weight
    state = None
    for n_pass in range(n_passes):
        for begins in range(0, len(X), size):
            rows = slice(begins, begins + size)
            params = start if state is None else state.params
            part = gather(params, X[rows], weight[rows])
            if state is None:
                state = begin(params, part, maximize, recenter)
            else:
                state = step(
                    state, part, maximize, recenter, schedule, repeated=n_pass > 0
                )
    return state, maximize


def mean_log_likelihood(kind, params, X):
    statistics = e_step(FAMILIES[kind], params, X)
    return statistics.log_likelihood / statistics.total_weight


def holds_only_numbers(tree):
    if isinstance(tree, tuple):
        return hasattr(tree, "_fields") and all(map(holds_only_numbers, tree))
    return isinstance(tree, (np.ndarray, float, int))


class TestMixtures:
    @pytest.mark.parametrize("kind", COVARIANCE_TYPES)
    def test_one_batch_is_one_iteration(self, kind):
        X = blobs(500, 3, 3)
        gather, maximize, recenter = tools(kind)
        start = start_params(kind, X, 3)
        statistics = gather(start, X)
        state = begin(start, statistics, maximize, recenter)
        want, _ = maximize(statistics, start)
        for a, b in zip(state.params.components, want.components, strict=True):
            assert_same_bits(a, b)
        assert_same_bits(state.params.weights, want.weights)
        # And is kept, with or without averaging.
        for average in (True, False):
            got, repaired = finish(state, maximize, average=average)
            assert_close(got, want, rtol=1e-9, atol=1e-12)
            assert not repaired.any()

    @settings(max_examples=10)
    @given(seed=SEEDS, kind=st.sampled_from(COVARIANCE_TYPES))
    def test_weight_two_is_a_row_twice(self, seed, kind):
        rng = np.random.default_rng(seed)
        X = blobs(600, 2, 3, seed=seed)
        counts = rng.integers(0, 4, size=len(X))
        start = start_params(kind, X, 3)
        batches = [slice(0, 200), slice(200, 450), slice(450, 600)]
        gather, maximize, recenter = tools(kind)
        weighted, repeated = (
            run(parts, maximize, recenter, FADING, start)
            for parts in (
                [
                    lambda params, b=b: gather(params, X[b], counts[b].astype(float))
                    for b in batches
                ],
                [
                    lambda params, b=b: gather(params, np.repeat(X[b], counts[b], 0))
                    for b in batches
                ],
            )
        )
        assert_close(weighted, repeated, rtol=1e-7, atol=1e-7)

    def test_a_state_is_of_arrays_and_numbers_alone(self):
        X = blobs(300, 2, 2)
        state, _ = passes("full", X, start_params("full", X, 2), 100)
        assert isinstance(state, StepwiseState)
        assert holds_only_numbers(state)

    @pytest.mark.parametrize("kind", ["full", "tied"])
    def test_far_from_the_origin_is_as_near_it(self, kind):
        offset = 2.0**20
        X = blobs(4000, 3, 3, seed=2) + offset
        near, far = (
            passes(kind, rows, start_params(kind, rows, 3), 300)
            for rows in (X - offset, X)
        )
        for average in (True, False):
            (a, _), (b, _) = (finish(*run, average=average) for run in (near, far))
            np.testing.assert_allclose(b.weights, a.weights, rtol=1e-6)
            means = b.components.means - offset
            np.testing.assert_allclose(means, a.components.means, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(
                b.components.covariances, a.components.covariances, rtol=1e-6, atol=1e-6
            )

    def test_a_component_that_nothing_comes_to_stays(self):
        rng = np.random.default_rng(0)
        near, away = rng.normal(size=(40, 2)), 1e3 + rng.normal(size=(40, 2))
        first = np.concatenate([near, away])
        gather, maximize, recenter = tools("full")
        start = start_params("full", first, 2)
        state = begin(start, gather(start, first), maximize, recenter)
        forgotten = np.argmax(state.params.components.means[:, 0])
        before = [field[forgotten] for field in state.params.components]
        for _ in range(1000):
            part = gather(state.params, rng.normal(size=(80, 2)))
            state = step(state, part, maximize, recenter, FADING)
        assert state.params.weights[forgotten] < 1e-15
        after = [field[forgotten] for field in state.params.components]
        assert_close(tuple(after), tuple(before), rtol=1e-6, atol=1e-6)

    def test_averages_are_less_noisy(self):
        """Over 400 small batches from the best parameters; the sum of five streams."""
        X = blobs(20_000, 2, 2, spread=4.0)
        gather, maximize, _ = tools("full")
        params = start_params("full", X, 2)
        for _ in range(30):
            params, _ = maximize(gather(params, X), params)
        best = mean_log_likelihood("full", params, X)
        lacks = {True: 0.0, False: 0.0}
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(len(X))
            state, maximize = passes(
                "full", X[order], params, 50, Schedule(0.55, 10.0), n_passes=1
            )
            for average in lacks:
                found, _ = finish(state, maximize, average=average)
                lacks[average] += best - mean_log_likelihood("full", found, X)
        assert 0 < lacks[True] < 0.5 * lacks[False]


class TestTwoPasses:
    """Over 200 000 rows, from k-means on a tenth of them, to EM's own likelihood."""

    N_ROWS = 200_000

    def check(self, kind, X, n_components=5):
        start = start_params(kind, X[: len(X) // 10], n_components)
        gather, maximize, _ = tools(kind, np.finfo(X.dtype).eps)
        params = start
        for _ in range(60):
            params, _ = maximize(gather(params, X), params)
        worst, best = (mean_log_likelihood(kind, p, X) for p in (start, params))
        state, maximize = passes(kind, X, start, 2000)
        for average in (True, False):
            params, _ = finish(state, maximize, average=average)
            found = mean_log_likelihood(kind, params, X)
            assert best - found < 1e-3 * abs(best)
            assert best - found < 0.1 * (best - worst)
            running = state.statistics.log_likelihood / state.statistics.total_weight
            assert running == pytest.approx(found, rel=0.01)

    @pytest.mark.parametrize("kind", COVARIANCE_TYPES)
    def test_near_the_origin(self, kind):
        self.check(kind, blobs(self.N_ROWS, 3, 5))

    def test_float32(self):
        self.check("full", blobs(self.N_ROWS, 3, 5).astype(np.float32))

    def test_far_from_the_origin(self):
        self.check("full", blobs(self.N_ROWS, 3, 5) + 1e6)


# -------------------------------------------------------------- hidden Markov models


def hmm_recenter(family):
    def recenter(statistics, old, new):
        emissions = family.recenter(statistics.emissions, old.emissions, new.emissions)
        return statistics._replace(emissions=emissions)

    return recenter


def hmm_m_step(family):
    def maximize(statistics, params):
        transitions = statistics.transitions
        emissions, repaired = family.maximize(
            statistics.emissions._replace(total_weight=statistics.total_weight),
            params.emissions,
            Regularization(1e-6, EPS),
        )
        return (
            hmm.HMMParams(
                statistics.start / statistics.start.sum(),
                transitions / transitions.sum(axis=1, keepdims=True),
                emissions,
            ),
            repaired,
        )

    return maximize


def sequences_of(X, lengths):
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    return hmm.Sequences(X, bounds, EMPTY, EMPTY, np.empty(0, np.int64))


def chain(kind, n_sequences, length, seed=0):
    """Sequences of three sticky states, their family, and a start nearby."""
    rng = np.random.default_rng(seed)
    transmat = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    states = np.empty((n_sequences, length), int)
    states[:, 0] = rng.integers(3, size=n_sequences)
    for t in range(1, length):
        ahead = np.cumsum(transmat, axis=1)[states[:, t - 1]]
        states[:, t] = (rng.random(n_sequences)[:, None] > ahead).sum(axis=1)
    states = np.minimum(states.ravel(), 2)
    if kind == "diag":
        family = FAMILIES["diag"]
        X = 2.0 * states[:, None] + rng.normal(size=(len(states), 2))
        means = np.array([[0.5, 0.5], [2.0, 2.0], [3.0, 4.5]])
        emissions = family.from_variances(means, np.ones(2))
    elif kind == "poisson":
        family = POISSON
        X = rng.poisson(1.0 + 4.0 * states[:, None]).astype(float)
        emissions = PoissonParams(np.array([[2.0], [4.0], [7.0]]))
    else:
        family = CATEGORICAL
        table = 0.8 * np.eye(3) + 0.2 / 3
        X = (rng.random(len(states))[:, None] > np.cumsum(table, axis=1)[states]).sum(1)
        X = np.minimum(X, 2)[:, None].astype(float)
        emissions = CategoricalParams(0.6 * table + 0.4 / 3)
    start = hmm.HMMParams(np.full(3, 1 / 3), np.full((3, 3), 1 / 3), emissions)
    return family, X, start


@pytest.mark.parametrize("kind", ["diag", "poisson", "categorical"])
class TestHiddenMarkovModels:
    LENGTH = 20

    def batches(self, family, X, counts):
        ends = np.cumsum(counts) * self.LENGTH
        return [
            lambda params, a=end - n * self.LENGTH, b=end, n=n: hmm.e_step(
                family, params, sequences_of(X[a:b], [self.LENGTH] * n)
            )
            for n, end in zip(counts, ends, strict=True)
        ]

    def test_steps_of_one_over_n_make_the_sums_of_all_sequences(self, kind):
        family, X, start = chain(kind, 30, self.LENGTH)
        state = run(
            self.batches(family, X, [7, 1, 12, 10]),
            still,
            hmm_recenter(family),
            MEAN,
            start,
        )
        want = hmm.e_step(family, start, sequences_of(X, [self.LENGTH] * 30))
        assert_close(state.statistics, want, rtol=1e-10, atol=1e-10)

    def test_two_passes_come_close_to_the_best(self, kind):
        n_sequences = 2000
        family, X, start = chain(kind, n_sequences, self.LENGTH)
        everything = sequences_of(X, [self.LENGTH] * n_sequences)
        maximize = hmm_m_step(family)

        def log_likelihood(params):
            return hmm.e_step(family, params, everything).log_likelihood / len(X)

        best = start
        for _ in range(60):
            best, _ = maximize(hmm.e_step(family, best, everything), best)
        state = run(
            2 * self.batches(family, X, [20] * (n_sequences // 20)),
            maximize,
            hmm_recenter(family),
            FADING,
            start,
        )
        worst, top = log_likelihood(start), log_likelihood(best)
        for average in (True, False):
            params, _ = finish(state, maximize, average=average)
            found = log_likelihood(params)
            assert top - found < 1e-3 * abs(top)
            assert top - found < 0.1 * (top - worst)
