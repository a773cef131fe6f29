"""Laws that hold for any data: what EM must do, whatever the numbers are.

Hypothesis draws the shape of the problem and a seed; the rows themselves come from a
generator, since an adversary choosing every digit finds degenerate data, and that is
the matter of test_bad_data.py.
"""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastem import GaussianMixture, KMeans
from fastem.families.gaussian import GaussianParams
from fastem.models.mixture import FAMILIES, MixtureParams, e_step

from .common import (
    COVARIANCE_TYPES,
    INIT_PARAMS,
    PARAMETERS,
    assert_same_bits,
    blobs,
    fit,
    random_params,
    start_from,
)
from .reference import mixture as oracle

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLES = settings(max_examples=25)

SEEDS = st.integers(0, 2**32 - 1)

# Sums over a few hundred rows in another order, carried through some iterations.
ROUNDING = {"rtol": 1e-8, "atol": 1e-9}


@st.composite
def problems(draw, covariance_types=COVARIANCE_TYPES, max_components=4):
    """Rows, a start, and a generator for whatever else the law needs."""
    seed = draw(SEEDS)
    covariance_type = draw(st.sampled_from(covariance_types))
    n_components = draw(st.integers(1, max_components))
    n_features = draw(st.integers(1, 6))
    n_rows = n_components * draw(st.integers(60, 150))
    X = blobs(n_rows, n_features, n_components, seed=seed, spread=2.0)
    start = random_params(X, n_components, covariance_type, seed=seed)
    return X, start, covariance_type, np.random.default_rng(seed)


def mixture(start, covariance_type, **params):
    """A mixture that runs exactly `max_iter` iterations from `start`."""
    params = {"max_iter": 3, "tol": 0.0, **params}
    return GaussianMixture(**start_from(start, covariance_type), **params)


def assert_close_fits(a, b, **tolerance):
    for name in (*PARAMETERS, "lower_bounds_"):
        np.testing.assert_allclose(
            getattr(a, name),
            getattr(b, name),
            err_msg=name,
            **(tolerance or ROUNDING),
        )


def move(params, matrix, offset, covariance_type):
    """The parameters of `X @ matrix.T + offset` for those of X."""
    means = params.means @ matrix.T + offset
    if covariance_type in ("full", "tied"):
        covariances = matrix @ params.covariances @ matrix.T
    else:
        scale = np.diagonal(matrix)
        scale = scale if covariance_type == "diag" else scale[0]
        covariances = params.covariances * scale**2
    return oracle.Params(params.weights, means, covariances)


class TestWeights:
    @EXAMPLES
    @given(problems())
    def test_weight_two_is_a_row_twice(self, problem):
        X, start, covariance_type, rng = problem
        counts = rng.integers(0, 4, size=len(X))
        repeated = np.repeat(X, counts, axis=0)
        weighted = fit(mixture(start, covariance_type), X, sample_weight=counts)
        assert_close_fits(weighted, fit(mixture(start, covariance_type), repeated))
        for method in ("score", "bic", "aic"):
            np.testing.assert_allclose(
                getattr(weighted, method)(X, sample_weight=counts),
                getattr(weighted, method)(repeated),
                rtol=1e-10,
            )

    @pytest.mark.parametrize("init_params", INIT_PARAMS)
    @settings(max_examples=15)
    @given(problem=problems(), random_state=SEEDS)
    def test_weight_two_is_a_row_twice_for_seeding(
        self, init_params, problem, random_state
    ):
        X, start, covariance_type, rng = problem
        counts = rng.integers(0, 4, size=len(X))
        counts[:4] = 1
        model = GaussianMixture(
            len(start.weights),
            covariance_type=covariance_type,
            init_params=init_params,
            random_state=random_state,
            max_iter=0,
        )
        weighted = fit(model, X, sample_weight=counts)
        found = {name: getattr(weighted, name) for name in PARAMETERS}
        repeated = fit(model, np.repeat(X, counts, axis=0))
        for name, value in found.items():
            np.testing.assert_allclose(
                value, getattr(repeated, name), err_msg=name, **ROUNDING
            )

    @pytest.mark.parametrize("init_params", INIT_PARAMS)
    @settings(max_examples=15)
    @given(problem=problems(), random_state=SEEDS)
    def test_weight_zero_is_a_row_absent(self, init_params, problem, random_state):
        X, start, covariance_type, rng = problem
        absent = rng.random(len(X)) < 0.3
        absent[:4] = False
        weights = np.where(absent, 0.0, rng.exponential(size=len(X)))
        with_noise = np.where(absent[:, None], 1e6 * X, X)
        model = GaussianMixture(
            len(start.weights),
            covariance_type=covariance_type,
            init_params=init_params,
            random_state=random_state,
            max_iter=3,
            tol=0.0,
        )
        weighted = fit(model, with_noise, sample_weight=weights)
        found = {name: getattr(weighted, name) for name in PARAMETERS}
        score = weighted.score(with_noise, sample_weight=weights)
        model = fit(model, X[~absent], sample_weight=weights[~absent])
        for name, value in found.items():
            np.testing.assert_allclose(
                value, getattr(model, name), err_msg=name, **ROUNDING
            )
        want = model.score(X[~absent], sample_weight=weights[~absent])
        np.testing.assert_allclose(score, want, rtol=1e-8)

    @EXAMPLES
    @given(problems(), st.sampled_from([1e-12, 1e-3, 7.0, 1e12]))
    def test_scaling_all_weights_changes_nothing(self, problem, factor):
        X, start, covariance_type, rng = problem
        weights = rng.exponential(size=len(X))
        model = mixture(start, covariance_type)
        assert_close_fits(
            fit(model, X, sample_weight=weights),
            fit(mixture(start, covariance_type), X, sample_weight=factor * weights),
        )

    @EXAMPLES
    @given(problems())
    def test_weight_one_is_no_weight(self, problem):
        X, start, covariance_type, _ = problem
        plain = fit(mixture(start, covariance_type), X)
        ones = fit(mixture(start, covariance_type), X, sample_weight=np.ones(len(X)))
        assert_close_fits(plain, ones, rtol=1e-12, atol=1e-12)

    @EXAMPLES
    @given(problems(), SEEDS)
    def test_kmeans_weight_two_is_a_row_twice(self, problem, random_state):
        X, start, _, rng = problem
        counts = rng.integers(0, 4, size=len(X))
        counts[:4] = 1
        n_clusters = len(start.weights)
        weighted = KMeans(n_clusters, random_state=random_state)
        weighted.fit(X, sample_weight=counts)
        repeated = KMeans(n_clusters, random_state=random_state)
        repeated.fit(np.repeat(X, counts, axis=0))
        np.testing.assert_allclose(
            weighted.cluster_centers_, repeated.cluster_centers_, **ROUNDING
        )
        np.testing.assert_allclose(weighted.inertia_, repeated.inertia_, rtol=1e-9)
        np.testing.assert_array_equal(
            np.repeat(weighted.labels_, counts), repeated.labels_
        )


class TestSymmetries:
    @EXAMPLES
    @given(problems())
    def test_permuting_the_start_permutes_the_result(self, problem):
        X, start, covariance_type, rng = problem
        order = rng.permutation(len(start.weights))
        permuted = oracle.Params(
            start.weights[order],
            start.means[order],
            start.covariances
            if covariance_type == "tied"
            else start.covariances[order],
        )
        plain = fit(mixture(start, covariance_type), X)
        shuffled = fit(mixture(permuted, covariance_type), X)
        for name in PARAMETERS:
            value = getattr(plain, name)
            if not (covariance_type == "tied" and name not in ("weights_", "means_")):
                value = value[order]
            np.testing.assert_allclose(getattr(shuffled, name), value, **ROUNDING)
        np.testing.assert_allclose(
            shuffled.predict_proba(X), plain.predict_proba(X)[:, order], **ROUNDING
        )

    @EXAMPLES
    @given(problems())
    def test_row_order_does_not_matter(self, problem):
        X, start, covariance_type, rng = problem
        order = rng.permutation(len(X))
        plain = fit(mixture(start, covariance_type), X)
        assert_close_fits(plain, fit(mixture(start, covariance_type), X[order]))

    @settings(max_examples=15)
    @given(problems(), SEEDS)
    def test_random_start_does_not_depend_on_row_order(self, problem, random_state):
        """Initial responsibilities go with a row's content, not with its number."""
        X, start, covariance_type, rng = problem
        model = GaussianMixture(
            len(start.weights),
            covariance_type=covariance_type,
            init_params="random",
            random_state=random_state,
            max_iter=0,
        )
        means = model.fit(X).means_
        shuffled = model.fit(X[rng.permutation(len(X))])
        np.testing.assert_allclose(shuffled.means_, means, **ROUNDING)

    @EXAMPLES
    @given(problems())
    def test_column_order_permutes_the_result(self, problem):
        X, start, covariance_type, rng = problem
        order = rng.permutation(X.shape[1])
        matrix = np.eye(X.shape[1])[order]
        if covariance_type == "diag":
            covariances = start.covariances[:, order]
        elif covariance_type == "spherical":
            covariances = start.covariances
        else:
            covariances = matrix @ start.covariances @ matrix.T
        moved = oracle.Params(start.weights, start.means[:, order], covariances)
        plain = fit(mixture(start, covariance_type), X)
        permuted = fit(mixture(moved, covariance_type), X[:, order])
        np.testing.assert_allclose(permuted.weights_, plain.weights_, **ROUNDING)
        np.testing.assert_allclose(permuted.means_, plain.means_[:, order], **ROUNDING)
        np.testing.assert_allclose(
            permuted.lower_bounds_, plain.lower_bounds_, **ROUNDING
        )


class TestAffineEquivariance:
    @EXAMPLES
    @given(problems(), st.sampled_from([2.0**20, -1e6]))
    def test_shift(self, problem, offset):
        """The rows lie on a grid, so shifting them rounds nothing: what is left is
        what the algorithm loses far from the origin."""
        X, start, covariance_type, _ = problem
        X = np.round(X * 2**20) / 2**20
        start = start._replace(means=np.round(start.means * 2**20) / 2**20)
        moved = start._replace(means=start.means + offset)
        near = fit(mixture(start, covariance_type), X)
        far = fit(mixture(moved, covariance_type), X + offset)
        # Covariances are of order one; a mean at 1e6 is rounded to 1e-10.
        np.testing.assert_allclose(far.covariances_, near.covariances_, atol=1e-8)
        np.testing.assert_allclose(far.means_ - offset, near.means_, atol=1e-8)
        np.testing.assert_allclose(far.weights_, near.weights_, atol=1e-8)
        np.testing.assert_allclose(far.lower_bounds_, near.lower_bounds_, atol=1e-7)

    # Not "random": its start goes with the bits of a row, so a shift is another start.
    @pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random_from_data"])
    @pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
    def test_a_whole_fit_at_1e6_equals_the_one_at_the_origin(
        self, covariance_type, init_params
    ):
        X = np.round(blobs(500, 3, 3, seed=21, spread=4.0) * 2**20) / 2**20
        near, far = (
            fit(
                GaussianMixture(
                    3,
                    covariance_type=covariance_type,
                    init_params=init_params,
                    random_state=1,
                    max_iter=30,
                    tol=0.0,
                ),
                X + offset,
            )
            for offset in (0.0, 1e6)
        )
        tolerance = {"rtol": 1e-6, "atol": 1e-6}
        np.testing.assert_allclose(far.covariances_, near.covariances_, **tolerance)
        np.testing.assert_allclose(far.means_ - 1e6, near.means_, **tolerance)

    @EXAMPLES
    @given(problems(), st.sampled_from([-300, -40, 7, 300]))
    def test_power_of_two_scaling(self, problem, exponent):
        """Scaling by a power of two rounds nothing; only the log-determinants do."""
        X, start, covariance_type, _ = problem
        scale = 2.0**exponent
        moved = move(start, scale * np.eye(X.shape[1]), 0, covariance_type)
        plain = fit(mixture(start, covariance_type, reg_covar=0.0), X)
        scaled = fit(mixture(moved, covariance_type, reg_covar=0.0), scale * X)
        tolerance = {"rtol": 1e-11, "atol": 1e-12}
        np.testing.assert_allclose(scaled.weights_, plain.weights_, **tolerance)
        np.testing.assert_allclose(scaled.means_ / scale, plain.means_, **tolerance)
        np.testing.assert_allclose(
            scaled.covariances_ / scale**2, plain.covariances_, **tolerance
        )
        jacobian = X.shape[1] * exponent * np.log(2)
        np.testing.assert_allclose(
            np.add(scaled.lower_bounds_, jacobian), plain.lower_bounds_, rtol=1e-10
        )

    @EXAMPLES
    @given(problems(max_components=1), st.sampled_from([-200, 9]))
    def test_one_component_scales_exactly(self, problem, exponent):
        X, start, covariance_type, _ = problem
        scale = 2.0**exponent
        moved = move(start, scale * np.eye(X.shape[1]), 0, covariance_type)
        plain = fit(mixture(start, covariance_type, reg_covar=0.0), X)
        scaled = fit(mixture(moved, covariance_type, reg_covar=0.0), scale * X)
        assert_same_bits(scaled.means_, plain.means_ * scale)
        assert_same_bits(scaled.covariances_, plain.covariances_ * scale**2)

    @EXAMPLES
    @given(problems(), SEEDS, st.sampled_from([-100, 3]))
    def test_kmeans_scales_exactly(self, problem, random_state, exponent):
        X, start, _, _ = problem
        scale = 2.0**exponent
        plain, scaled = (
            KMeans(len(start.weights), random_state=random_state).fit(data)
            for data in (X, scale * X)
        )
        assert_same_bits(scaled.labels_, plain.labels_)
        assert_same_bits(scaled.cluster_centers_, scale * plain.cluster_centers_)
        assert scaled.inertia_ == scale**2 * plain.inertia_

    @EXAMPLES
    @given(problems())
    def test_affine_maps(self, problem):
        """Any invertible map for full and tied, one of axes for diag, and of scale
        for spherical."""
        X, start, covariance_type, rng = problem
        n_features = X.shape[1]
        offset = rng.normal(size=n_features)
        if covariance_type in ("full", "tied"):
            rotation, _ = np.linalg.qr(rng.normal(size=(n_features, n_features)))
            matrix = rotation * rng.uniform(0.5, 2.0, n_features)
        elif covariance_type == "diag":
            matrix = np.diag(10.0 ** rng.uniform(-6, 6, n_features))
        else:
            matrix = 1e3 * np.eye(n_features)
        moved = move(start, matrix, offset, covariance_type)
        plain = fit(mixture(start, covariance_type, reg_covar=0.0), X)
        mapped = fit(
            mixture(moved, covariance_type, reg_covar=0.0), X @ matrix.T + offset
        )
        at_end = oracle.Params(plain.weights_, plain.means_, plain.covariances_)
        want = move(at_end, matrix, offset, covariance_type)
        # Against each entry's own scale, sqrt(S_ii S_jj): small features count too.
        scale = np.sqrt(np.square(matrix).sum(axis=1))
        grid = {
            "full": scale[:, None] * scale,
            "tied": scale[:, None] * scale,
            "diag": scale**2,
            "spherical": scale[0] ** 2,
        }[covariance_type]
        # A shift of one rounds a feature of scale 1e-6 to ten digits.
        np.testing.assert_allclose(mapped.weights_, want.weights, atol=1e-7)
        np.testing.assert_allclose((mapped.means_ - want.means) / scale, 0, atol=1e-7)
        np.testing.assert_allclose(
            (mapped.covariances_ - want.covariances) / grid, 0, atol=1e-7
        )

    @EXAMPLES
    @given(problems(covariance_types=("spherical",)))
    def test_spherical_mixtures_rotate(self, problem):
        X, start, covariance_type, rng = problem
        rotation, _ = np.linalg.qr(rng.normal(size=(X.shape[1], X.shape[1])))
        moved = start._replace(means=start.means @ rotation.T)
        plain = fit(mixture(start, covariance_type), X)
        rotated = fit(mixture(moved, covariance_type), X @ rotation.T)
        np.testing.assert_allclose(
            rotated.means_, plain.means_ @ rotation.T, **ROUNDING
        )
        np.testing.assert_allclose(rotated.covariances_, plain.covariances_, **ROUNDING)


class TestStatistics:
    """Blocks of rows go in, statistics come out, and they form a vector space."""

    def e_step(self, problem):
        X, start, covariance_type, _ = problem
        model = fit(mixture(start, covariance_type, max_iter=0), X)
        components = GaussianParams(
            model.means_, model.covariances_, model.precisions_cholesky_
        )
        params = MixtureParams(model.weights_, components)
        return functools.partial(e_step, FAMILIES[covariance_type], params)

    def assert_close(self, got, want):
        """Against the size of what was summed, in which sums about zero cancel."""
        for name, a, b in zip(want._fields, got, want, strict=True):
            atol = 1e-11 * (1 + np.abs(b).max())
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=atol, err_msg=name)

    @EXAMPLES
    @given(problems(), st.floats(0.01, 0.99))
    def test_halves_merged_are_the_whole(self, problem, share):
        X, rng = problem[0], problem[3]
        weights = rng.exponential(size=len(X))
        step = self.e_step(problem)
        cut = max(1, int(share * len(X)))
        whole = step(X, weights)
        left, right = step(X[:cut], weights[:cut]), step(X[cut:], weights[cut:])
        pairs = list(zip(left, right, strict=True))
        self.assert_close(whole._make(a + b for a, b in pairs), whole)
        self.assert_close(whole._make(b + a for a, b in pairs), whole)
        rest = (w - a for w, a in zip(whole, left, strict=True))
        self.assert_close(whole._make(rest), right)

    @EXAMPLES
    @given(problems())
    def test_they_scale_with_the_weights(self, problem):
        X, rng = problem[0], problem[3]
        weights = rng.exponential(size=len(X))
        step = self.e_step(problem)
        once, thrice = step(X, weights), step(X, 3 * weights)
        self.assert_close(once._make(3 * field for field in once), thrice)

    @EXAMPLES
    @given(problems())
    def test_they_are_the_sums_of_the_textbook(self, problem):
        X, start, covariance_type, rng = problem
        weights = rng.exponential(size=len(X))
        got = self.e_step(problem)(X, weights)
        want = oracle.e_step(X, start, covariance_type, weights)
        np.testing.assert_allclose(got.log_likelihood, want.log_likelihood, rtol=1e-11)
        np.testing.assert_allclose(got.total_weight, want.weight, rtol=1e-12)
        np.testing.assert_allclose(got.weight, want.mass, rtol=1e-10)
        first = want.first + want.mass[:, None] * (want.origin - start.means)
        np.testing.assert_allclose(got.first, first, rtol=1e-9, atol=1e-9)


class TestLikelihood:
    @EXAMPLES
    @given(problems())
    def test_never_falls(self, problem):
        """Dempster, Laird and Rubin (1977), theorem 1."""
        X, start, covariance_type, rng = problem
        weights = rng.exponential(size=len(X))
        model = mixture(start, covariance_type, max_iter=40, reg_covar=0.0)
        fit(model, X, sample_weight=weights)
        bounds = np.asarray(model.lower_bounds_)
        # A sum of N terms of order |bound|, each rounded to 2**-53 of itself.
        rounding = 1e-13 * np.abs(bounds).max()
        assert np.diff(bounds).min(initial=0.0) >= -rounding
        assert model.n_decreases_ == 0
        after, _ = oracle.posterior(
            X,
            oracle.Params(model.weights_, model.means_, model.covariances_),
            covariance_type,
        )
        assert np.average(after, weights=weights) >= bounds[-1] - 1e-10

    @EXAMPLES
    @given(problems())
    def test_responsibilities_sum_to_one(self, problem):
        X, start, covariance_type, _ = problem
        model = fit(mixture(start, covariance_type), X)
        everywhere = np.concatenate([X, 1e3 * X, 1e100 * X])
        gamma = model.predict_proba(everywhere)
        assert np.all((gamma >= 0) & (gamma <= 1))
        # K terms, each rounded once.
        np.testing.assert_allclose(gamma.sum(axis=1), 1, rtol=1e-14)
        np.testing.assert_allclose(model.weights_.sum(), 1, rtol=1e-14)

    @EXAMPLES
    @given(problems())
    def test_covariances_are_symmetric_and_positive_definite(self, problem):
        X, start, covariance_type, _ = problem
        model = fit(mixture(start, covariance_type, reg_covar=0.0), X)
        if covariance_type in ("full", "tied"):
            transposed = np.swapaxes(model.covariances_, -1, -2)
            np.testing.assert_array_equal(model.covariances_, transposed)
            assert np.linalg.eigvalsh(model.covariances_).min() > 0
        else:
            assert model.covariances_.min() > 0

    @EXAMPLES
    @given(problems())
    def test_score_is_the_mean_of_score_samples(self, problem):
        X, start, covariance_type, rng = problem
        model = fit(mixture(start, covariance_type), X)
        weights = rng.exponential(size=len(X))
        samples = model.score_samples(X)
        np.testing.assert_allclose(model.score(X), samples.mean(), rtol=1e-12)
        np.testing.assert_allclose(
            model.score(X, sample_weight=weights),
            np.average(samples, weights=weights),
            rtol=1e-12,
        )

    @EXAMPLES
    @given(problems())
    def test_predict_is_the_largest_responsibility(self, problem):
        X, start, covariance_type, _ = problem
        model = fit(mixture(start, covariance_type), X)
        gamma = model.predict_proba(X)
        chosen = np.take_along_axis(gamma, model.predict(X)[:, None], axis=1)
        np.testing.assert_array_equal(chosen[:, 0], gamma.max(axis=1))
