"""Discrete families and mixtures of Gaussians, tile by tile, against scipy.stats."""

import functools
import itertools
import sys
import warnings

import numpy as np
import pytest
from numba import njit
from scipy import special, stats

from fastem.families import categorical, multinomial, poisson
from fastem.families.categorical import CATEGORICAL, CategoricalParams
from fastem.families.family import WIDE_MIN_FEATURES, built_once
from fastem.families.gaussian import GaussianParams, Regularization
from fastem.families.gaussian_diag import DIAG, SPHERICAL
from fastem.families.gaussian_full import FULL
from fastem.families.gaussian_mixture import (
    GMM_DIAG,
    GMM_FULL,
    GMM_SPHERICAL,
    GMMParams,
)
from fastem.families.multinomial import MULTINOMIAL, MultinomialParams
from fastem.families.poisson import POISSON, PoissonParams
from fastem.kernels.tiles import LANES, STRIDE

# Impossible counts and rows far away overflow to -inf; without the JIT, NumPy warns.
pytestmark = pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")

REGULARIZATION = Regularization(0.0, np.finfo(np.float64).eps)
GMMS = {"full": GMM_FULL, "diag": GMM_DIAG, "spherical": GMM_SPHERICAL}
INNER = {"full": FULL, "diag": DIAG, "spherical": SPHERICAL}

# F or D and K around the blocks of four that kernels work in, and the symbols up to
# which counting takes a masked pass for each.
SHAPES = [(1, 1), (2, 2), (3, 3), (4, 5), (5, 4), (7, 6), (8, 33), (33, 8), (70, 9)]
SHAPES += [(1, 33), (70, 1), (6, 7)]
# Products and sums of at most 70 terms, and of a few hundred rows.
TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}


@functools.cache
def kernel(functions):
    """Log densities of all rows, and their statistics under given responsibilities."""
    allocate, load = functions.allocate, functions.load
    log_density = functions.log_density
    accumulate, flush = functions.accumulate, functions.flush

    @njit(error_model="numpy")
    def run(X, responsibilities, tile_params, densities, slots, slot):
        n_components = tile_params.log_norm.size
        scratch = allocate(tile_params)
        # Rubbish behind the last component must be neither read nor overwritten.
        p = np.full((n_components + 3) * STRIDE, np.nan, X.dtype)
        for start in range(0, X.shape[0], LANES):
            stop = min(start + LANES, X.shape[0])
            load(X, start, stop, tile_params, scratch)
            log_density(tile_params, scratch, p)
            for k in range(n_components):
                for b in range(stop - start):
                    densities[start + b, k] = (
                        p[k * STRIDE + b] + tile_params.log_offset[0]
                    )
                    p[k * STRIDE + b] = responsibilities[start + b, k]
                for b in range(stop - start, LANES):
                    p[k * STRIDE + b] = 0
            accumulate(tile_params, scratch, p, slots, slot)
        flush(tile_params, scratch, slots, slot)
        return p[n_components * STRIDE :]

    return run


def reference_counts(*tuples):
    """Tile functions count no references, which unbalances what is not inlined well."""
    return [sys.getrefcount(array) for fields in tuples for array in fields]


def evaluate(family, params, X, responsibilities=None, log_weights=None, n_slots=1):
    """Log densities and statistics; rows are dealt to the slots in halves."""
    n_components = params[0].shape[0]
    if log_weights is None:
        log_weights = np.zeros(n_components)
    if responsibilities is None:
        responsibilities = np.zeros((len(X), n_components), X.dtype)
    frame, tile_params = family.tile_params(params, log_weights, X.dtype)
    slots = family.slots(params, n_slots)
    densities = np.full((len(X), n_components), np.nan)
    cuts = np.linspace(0, len(X), n_slots + 1).astype(int)
    before = reference_counts(tile_params, slots)
    for slot, (start, stop) in enumerate(itertools.pairwise(cuts)):
        behind = kernel(family.tile_functions(X.shape[1]))(
            X[start:stop],
            responsibilities[start:stop],
            tile_params,
            densities[start:stop],
            slots,
            slot,
        )
        assert np.all(np.isnan(behind))
    assert reference_counts(tile_params, slots) == before
    return densities, family.statistics(params, frame, tile_params, slots)


def probabilities(rng, n_components, n_symbols):
    """Rows that sum to one, a quarter of the entries zero."""
    table = rng.exponential(size=(n_components, n_symbols))
    zeros = rng.random(table.shape) < 0.25
    zeros[np.arange(n_components), rng.integers(n_symbols, size=n_components)] = False
    table[zeros] = 0
    return table / table.sum(axis=1, keepdims=True)


def responsibilities_for(rng, n_rows, n_components):
    """Weighted posteriors; some rows and some components weigh nothing."""
    r = rng.dirichlet(np.ones(n_components), size=n_rows)
    r *= rng.exponential(size=(n_rows, 1))
    r[::5] = 0
    if n_components > 2:
        r[:, 1] = 0
    return r


def problem(name, n_features, n_components, n_rows=301):
    """Family, params, rows and the log densities scipy gives them."""
    rng = np.random.default_rng(n_features * 100 + n_components)
    shape = (n_rows, n_features)
    if name == "categorical":
        params = CategoricalParams(probabilities(rng, n_components, n_features))
        X = rng.integers(n_features, size=(n_rows, 1))
        with np.errstate(divide="ignore"):
            want = np.log(params.emissionprob[:, X[:, 0]].T)
        return CATEGORICAL, params, X.astype(float), want
    if name == "multinomial":
        params = MultinomialParams(probabilities(rng, n_components, n_features))
        X = rng.poisson(rng.exponential(3, shape)) * (rng.random(shape) < 0.5)
        n_trials = X.sum(axis=1)
        # scipy.stats.multinomial is NaN beyond 64 categories of rounded probabilities.
        want = special.gammaln(n_trials + 1.0) - special.gammaln(X + 1.0).sum(axis=1)
        want = want[:, None] + special.xlogy(
            X[:, None, :], params.emissionprob[None]
        ).sum(axis=2)
        if n_features < 10:
            scipys = np.stack(
                [stats.multinomial(n_trials, p).logpmf(X) for p in params[0]], axis=1
            )
            np.testing.assert_allclose(want, scipys, **TOLERANCE)
        return MULTINOMIAL, params, X.astype(float), want
    rates = rng.exponential(5, (n_components, n_features))
    rates[rng.random(rates.shape) < 0.25] = 0
    X = rng.poisson(rng.exponential(5, shape)) * (rng.random(shape) < 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        want = stats.poisson.logpmf(X[:, None, :], rates).sum(axis=2)
    return POISSON, PoissonParams(rates), X.astype(float), want


DISCRETE = ("categorical", "poisson", "multinomial")


class TestDiscreteFamilies:
    @pytest.mark.parametrize("name", DISCRETE)
    @pytest.mark.parametrize(("n_features", "n_components"), SHAPES)
    def test_log_density(self, name, n_features, n_components):
        family, params, X, want = problem(name, n_features, n_components)
        densities, _ = evaluate(family, params, X)
        # Sums of up to 70 terms of about ten cancel.
        np.testing.assert_allclose(densities, want, rtol=1e-12, atol=1e-11)
        if n_features > 3 and n_components > 3:
            assert np.any(np.isneginf(want))

    @pytest.mark.parametrize("name", DISCRETE)
    @pytest.mark.parametrize(("n_features", "n_components"), SHAPES)
    def test_statistics(self, name, n_features, n_components):
        family, params, X, _ = problem(name, n_features, n_components)
        rng = np.random.default_rng(1)
        r = responsibilities_for(rng, len(X), n_components)
        _, statistics = evaluate(family, params, X, r)
        rows = np.eye(n_features)[X[:, 0].astype(int)] if name == "categorical" else X
        np.testing.assert_allclose(statistics.weight, r.sum(axis=0), **TOLERANCE)
        np.testing.assert_allclose(statistics[3], r.T @ rows, **TOLERANCE)

    @pytest.mark.parametrize("name", DISCRETE)
    def test_log_weights_are_added(self, name):
        family, params, X, want = problem(name, 5, 6)
        log_weights = np.array([-1.0, -np.inf, 2.0, -700.0, 0.0, -3.5])
        densities, _ = evaluate(family, params, X, log_weights=log_weights)
        # A log weight of -700 leaves three digits fewer to the rest.
        np.testing.assert_allclose(
            densities, want + log_weights, rtol=1e-12, atol=1e-10
        )

    # Chains work in float64 alone; of what families can do besides, one will do.
    @pytest.mark.parametrize("name", ["poisson"])
    def test_float32(self, name):
        family, params, X, want = problem(name, 7, 5)
        r = responsibilities_for(np.random.default_rng(1), len(X), 5)
        densities, statistics = evaluate(
            family, params, X.astype(np.float32), r.astype(np.float32)
        )
        np.testing.assert_allclose(densities, want, rtol=1e-4, atol=1e-4)
        _, exact = evaluate(family, params, X, r)
        np.testing.assert_allclose(statistics[3], exact[3], rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("name", DISCRETE)
    def test_maximize_gives_the_shares_and_keeps_empty_components(self, name):
        family, params, X, _ = problem(name, 5, 6)
        r = responsibilities_for(np.random.default_rng(1), len(X), 6)
        _, statistics = evaluate(family, params, X, r)
        statistics = statistics._replace(total_weight=r.sum())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found, repaired = family.maximize(statistics, params, REGULARIZATION)
        np.testing.assert_array_equal(repaired, np.arange(6) == 1)
        np.testing.assert_array_equal(found[0][1], params[0][1])
        norm = r.sum(axis=0) if name == "poisson" else statistics[3].sum(axis=1)
        kept = ~repaired
        np.testing.assert_allclose(
            found[0][kept], statistics[3][kept] / norm[kept, None], rtol=1e-12
        )

    @pytest.mark.parametrize(
        ("family", "module"),
        [(CATEGORICAL, categorical), (POISSON, poisson), (MULTINOMIAL, multinomial)],
        ids=DISCRETE,
    )
    def test_example_params(self, family, module):
        params = module.example_params()
        densities, _ = evaluate(family, params, np.zeros((1, 1)))
        np.testing.assert_array_equal(densities, -1.0 if family is POISSON else 0.0)


class TestCategorical:
    @pytest.mark.parametrize("symbol", [-1.0, 3.0, 0.5, 1e300, np.inf, np.nan])
    def test_what_is_no_symbol_is_impossible_and_not_counted(self, symbol):
        params = CategoricalParams(np.full((5, 3), 1 / 3))
        X = np.array([[2.0], [symbol], [0.0]])
        densities, statistics = evaluate(CATEGORICAL, params, X, np.ones((3, 5)))
        assert np.all(np.isneginf(densities[1]))
        np.testing.assert_allclose(densities[[0, 2]], np.log(1 / 3))
        np.testing.assert_array_equal(statistics.counts, [[1, 0, 1]] * 5)

    def test_many_symbols(self):
        family, params, X, want = problem("categorical", 3000, 5)
        densities, _ = evaluate(family, params, X)
        np.testing.assert_allclose(densities, want, rtol=1e-14)


class TestCounts:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("factor", [1.0, -1.0])
    def test_log_factorials(self, dtype, factor):
        table = special.gammaln(np.arange(poisson.TABLE_SIZE) + 1.0)
        run = njit(lambda x, out: poisson.add_log_factorials(x, factor, table, out))
        rng = np.random.default_rng(0)
        small = np.arange(LANES) % poisson.TABLE_SIZE
        around = np.arange(LANES) + 100.0
        large = np.floor(2.0 ** rng.uniform(0, 53, LANES))
        for x in (small, around, large):
            out = np.ones(LANES, dtype)
            run(x.astype(dtype), out)
            want = 1 + factor * special.gammaln(x.astype(dtype).astype(float) + 1)
            rtol = 1e-14 if dtype == np.float64 else 1e-6
            np.testing.assert_allclose(out, want, rtol=rtol)

    def test_log_factorials_of_zero_and_one_are_exactly_zero(self):
        params = PoissonParams(np.ones((1, 2)))
        densities, _ = evaluate(POISSON, params, np.array([[0.0, 1.0], [1, 1]]))
        np.testing.assert_array_equal(densities, -2)

    @pytest.mark.parametrize("size", [1e3, 1e6, 1e12])
    def test_large_counts(self, size):
        rng = np.random.default_rng(2)
        rates = size * rng.uniform(0.999, 1.001, (3, 4))
        X = rng.poisson(rates[rng.integers(3, size=300)]).astype(float)
        densities, _ = evaluate(POISSON, PoissonParams(rates), X)
        want = stats.poisson.logpmf(X[:, None, :], rates).sum(axis=2)
        # Terms of x log x cancel, here as in scipy.
        atol = 20 * np.finfo(float).eps * size * np.log(size)
        np.testing.assert_allclose(densities, want, rtol=1e-12, atol=atol)

    def test_zero_rates(self):
        rates = np.array([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]])
        X = np.array([[0.0, 0.0], [0, 3], [1, 0], [1e7, 1e7]])
        densities, _ = evaluate(POISSON, PoissonParams(rates), X)
        np.testing.assert_array_equal(
            np.isneginf(densities),
            [[0, 0, 0], [0, 1, 1], [1, 1, 0], [1, 1, 1]],
        )
        np.testing.assert_array_equal(densities[0], [-2, 0, -1])

    def test_no_trials_and_certain_symbols(self):
        params = MultinomialParams(np.array([[1.0, 0, 0], [0, 0.5, 0.5]]))
        X = np.array([[0.0, 0, 0], [7, 0, 0], [0, 1, 1]])
        densities, _ = evaluate(MULTINOMIAL, params, X)
        want = [[0, 0], [0, -np.inf], [-np.inf, np.log(0.5)]]
        np.testing.assert_allclose(densities, want, atol=1e-14)

    def test_a_component_without_any_count_keeps_its_probabilities(self):
        params = MultinomialParams(np.array([[0.25, 0.75], [0.5, 0.5]]))
        X = np.array([[0.0, 0.0], [3.0, 1.0]])
        _, statistics = evaluate(MULTINOMIAL, params, X, np.eye(2))
        statistics = statistics._replace(total_weight=2.0)
        found, repaired = MULTINOMIAL.maximize(statistics, params, REGULARIZATION)
        np.testing.assert_array_equal(found.emissionprob, [[0.25, 0.75], [0.75, 0.25]])
        np.testing.assert_array_equal(repaired, [True, False])

    @pytest.mark.parametrize("name", ["poisson", "multinomial"])
    def test_nan_stays_nan(self, name):
        family, params, X, _ = problem(name, 5, 6)
        X[7, 3] = np.nan
        densities, _ = evaluate(family, params, X)
        assert np.all(np.isnan(densities[7]))
        np.testing.assert_array_equal(np.isnan(densities).sum(), 6)


def gmm_problem(kind, n_features, n_components, n_gaussians, n_rows=301):
    """Params, rows and the joint log densities of all Gaussians."""
    rng = np.random.default_rng(n_features * 100 + n_components)
    n_all = n_components * n_gaussians
    means = 2 * rng.normal(size=(n_all, n_features))
    factors = rng.normal(size=(n_all, n_features, 2 * n_features + 1))
    matrices = factors @ np.swapaxes(factors, 1, 2) / (2 * n_features + 1)
    matrices += 0.2 * np.eye(n_features)
    if kind == "full":
        precisions = np.linalg.inv(matrices)
        lower = np.linalg.cholesky(precisions[:, ::-1, ::-1])[:, ::-1, ::-1]
        gaussians = GaussianParams(means, matrices, lower)
    else:
        variances = np.diagonal(matrices, axis1=1, axis2=2)
        if kind == "spherical":
            variances = variances[:, :1] + np.zeros(n_features)
        matrices = variances[:, :, None] * np.eye(n_features)
        short = variances[:, 0] if kind == "spherical" else variances
        gaussians = GaussianParams(means, short.copy(), 1 / np.sqrt(short))
    weights = rng.dirichlet(np.ones(n_gaussians), size=n_components)
    X = 2 * rng.normal(size=(n_rows, n_features))
    densities = np.stack(
        [
            stats.multivariate_normal(mean, matrix).logpdf(X)
            for mean, matrix in zip(means, matrices, strict=True)
        ],
        axis=1,
    )
    return GMMParams(weights, gaussians), X, densities


def shares_of(params, densities):
    """Log densities of the components, and P(m | k, x)."""
    n_components, n_gaussians = params.weights.shape
    with np.errstate(divide="ignore"):
        joint = densities.reshape(-1, n_components, n_gaussians) + np.log(
            params.weights
        )
    want = special.logsumexp(joint, axis=2)
    return want, np.exp(joint - want[:, :, None])


GMM_SHAPES = [
    # D, K, M
    (1, 1, 1),
    (2, 3, 2),
    (3, 2, 4),
    (5, 4, 3),
    (30, 3, 2),
    (2, 33, 2),
]


class TestMixturesOfGaussians:
    @pytest.mark.parametrize("kind", GMMS)
    @pytest.mark.parametrize(("n_features", "n_components", "n_gaussians"), GMM_SHAPES)
    def test_log_density_and_statistics(
        self, kind, n_features, n_components, n_gaussians
    ):
        params, X, densities = gmm_problem(kind, n_features, n_components, n_gaussians)
        want, shares = shares_of(params, densities)
        r = responsibilities_for(np.random.default_rng(1), len(X), n_components)
        got, statistics = evaluate(GMMS[kind], params, X, r)
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(statistics.weight, r.sum(axis=0), **TOLERANCE)
        each = (r[:, :, None] * shares).reshape(len(X), -1)
        tolerance = {"rtol": 1e-10, "atol": 1e-10}
        np.testing.assert_allclose(
            statistics.mixture.ravel(), each.sum(axis=0), **tolerance
        )
        apart = X[:, None, :] - params.gaussians.means
        first = np.einsum("nj,njd->jd", each, apart)
        np.testing.assert_allclose(statistics.first, first, **tolerance)
        products = "nj,njd,nje->jde" if kind == "full" else "nj,njd,njd->jd"
        second = np.einsum(products, each, apart, apart)
        np.testing.assert_allclose(statistics.second, second, **tolerance)

    @pytest.mark.parametrize("kind", ["diag"])
    def test_joint_log_density_agrees_where_it_matters(self, kind):
        params, X, densities = gmm_problem(kind, 40, 3, 2)
        want, _ = shares_of(params, densities)
        family = GMMS[kind]
        _, tile_params = family.tile_params(params, np.zeros(3), X.dtype)
        functions = family.tile_functions(X.shape[1])
        allocate, load = functions.allocate, functions.load
        joint_log_density = functions.joint_log_density

        @njit(error_model="numpy")
        def run(X, tile_params, out):
            scratch = allocate(tile_params)
            load(X, 0, LANES, tile_params, scratch)
            joint_log_density(tile_params, scratch, out)

        out = np.empty(3 * STRIDE)
        run(X, tile_params, out)
        got = out.reshape(3, STRIDE)[:, :LANES].T + tile_params.log_offset
        want = want[:LANES]
        matters = want > want.max(axis=1, keepdims=True) - 30
        np.testing.assert_allclose(got[matters], want[matters], rtol=1e-11)
        assert np.all(got[~matters] <= want[~matters] + 1e-9)

    @pytest.mark.parametrize("kind", GMMS)
    def test_no_weight_and_no_density(self, kind):
        """A Gaussian of weight zero, a component of weight zero, rows far away."""
        params, X, densities = gmm_problem(kind, 2, 3, 2)
        weights = params.weights.copy()
        weights[0] = [0, 1]
        params = params._replace(weights=weights)
        want, _ = shares_of(params, densities)
        log_weights = np.array([0.0, -np.inf, -1.0])
        X[5] = 1e160  # the squared distance overflows
        X[6] = 1e100
        r = np.full((len(X), 3), 0.5)
        r[[5, 6]] = 0
        got, statistics = evaluate(GMMS[kind], params, X, r, log_weights)
        assert np.all(np.isneginf(got[:, 1]))
        assert np.all(np.isneginf(got[5]))
        assert np.all(np.isfinite(got[6, [0, 2]]))
        kept = np.delete(np.arange(len(X)), [5, 6])
        np.testing.assert_allclose(got[kept], want[kept] + log_weights, rtol=1e-11)
        assert statistics.mixture[0, 0] == 0
        np.testing.assert_allclose(statistics.mixture[0, 1], r[:, 0].sum())
        np.testing.assert_allclose(statistics.mixture.sum(axis=1), r.sum(axis=0))

    @pytest.mark.parametrize("kind", GMMS)
    def test_maximize(self, kind):
        params, X, densities = gmm_problem(kind, 3, 4, 2)
        _, shares = shares_of(params, densities)
        r = responsibilities_for(np.random.default_rng(1), len(X), 4)
        _, statistics = evaluate(GMMS[kind], params, X, r)
        statistics = statistics._replace(total_weight=r.sum())
        found, repaired = GMMS[kind].maximize(statistics, params, REGULARIZATION)
        np.testing.assert_array_equal(repaired, np.arange(4) == 1)
        np.testing.assert_array_equal(found.weights[1], params.weights[1])
        each = r[:, :, None] * shares
        kept = ~repaired
        weights = each.sum(axis=0)[kept] / r.sum(axis=0)[kept, None]
        np.testing.assert_allclose(found.weights[kept], weights, rtol=1e-10)
        means = np.einsum("nkm,nd->kmd", each, X)[kept]
        means /= each.sum(axis=0)[kept][:, :, None]
        new = found.gaussians.means.reshape(4, 2, 3)
        np.testing.assert_allclose(new[kept], means, rtol=1e-9, atol=1e-10)
        old = params.gaussians.means.reshape(4, 2, 3)
        np.testing.assert_array_equal(new[1], old[1])

    @pytest.mark.parametrize("kind", ["diag"])
    def test_one_gaussian_each_is_the_family_itself(self, kind):
        params, X, _ = gmm_problem(kind, 5, 4, 1)
        r = responsibilities_for(np.random.default_rng(1), len(X), 4)
        got, statistics = evaluate(GMMS[kind], params, X, r)
        gaussians = params.gaussians
        want, plain = evaluate(INNER[kind], gaussians, X, r)
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(statistics.first, plain.first, **TOLERANCE)
        np.testing.assert_allclose(statistics.second, plain.second, **TOLERANCE)

    def test_example_params(self):
        params = GMM_DIAG.from_variances(np.zeros((1, 1)), np.ones(1))
        densities, _ = evaluate(GMM_DIAG, params, np.zeros((1, 1)))
        np.testing.assert_allclose(densities, -0.5 * np.log(2 * np.pi))


@pytest.mark.parametrize("name", [*DISCRETE, *GMMS])
def test_statistics_of_halves_add_up(name):
    if name in DISCRETE:
        family, params, X, _ = problem(name, 6, 5, n_rows=2 * LANES + 90)
    else:
        family = GMMS[name]
        params, X, _ = gmm_problem(name, 6, 5, 2, n_rows=2 * LANES + 90)
    half = len(X) // 2
    r = responsibilities_for(np.random.default_rng(1), len(X), 5)
    _, whole = evaluate(family, params, X, r)
    _, in_slots = evaluate(family, params, X, r, n_slots=2)
    _, left = evaluate(family, params, X[:half], r[:half])
    _, right = evaluate(family, params, X[half:], r[half:])
    for total, slotted, a, b in zip(whole, in_slots, left, right, strict=True):
        np.testing.assert_allclose(a + b, total, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(slotted, total, rtol=1e-11, atol=1e-11)


def test_families_of_the_same_tile_functions_share_what_is_built_of_them():
    @built_once
    def make(functions, dtype, tile_params, slots):
        return functions, dtype

    last_of_few, first_of_many = WIDE_MIN_FEATURES - 1, WIDE_MIN_FEATURES
    assert make(DIAG, 2) is make(SPHERICAL, last_of_few)
    assert make(DIAG, first_of_many) is make(SPHERICAL, 64)
    assert make(POISSON, 2) is make(POISSON, 64)
    made = [make(DIAG, 2), make(DIAG, 64), make(DIAG, 2, "float32"), make(FULL, 2)]
    assert len(set(made)) == len(made)
