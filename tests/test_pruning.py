"""Where bounds in float32 decide what is computed, nothing that matters is left out."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastem.families.gaussian import GaussianParams
from fastem.families.separation import sure_above
from fastem.models.mixture import FAMILIES, MixtureParams, e_step, posterior

# Few, of which labels use bounds by all terms, and enough for bounds by some of them;
# neither is a multiple of four.
SIZES = 5, 41
KINDS = ("full", "diag", "spherical")

pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning"),
]


def mixture(kind, means, scale):
    """Components of one standard deviation; those of full ones are turned."""
    n_components, n_features = means.shape
    if kind == "spherical":
        variances = np.full(n_components, scale**2)
        components = GaussianParams(means, variances, 1 / np.sqrt(variances))
    elif kind == "diag":
        variances = np.full(means.shape, scale**2)
        components = GaussianParams(means, variances, 1 / np.sqrt(variances))
    else:
        # Upper triangular, and far from a diagonal.
        root = np.triu(
            np.random.default_rng(1).normal(scale=0.2, size=2 * (n_features,)), 1
        )
        root = (root + np.eye(n_features)) / scale
        covariance = np.linalg.inv(root @ root.T)
        components = GaussianParams(
            means,
            np.repeat(covariance[None], n_components, axis=0),
            np.repeat(root[None], n_components, axis=0),
        )
    return MixtureParams(np.full(n_components, 1 / n_components), components)


def joint_log_density(kind, params, X):
    """Oracle: all joint log densities, one difference after another."""
    means, _, roots = params.components
    difference = X.astype(np.float64)[:, None, :] - means
    if kind == "full":
        white = np.einsum("nki,kij->nkj", difference, roots)
        log_root = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
    else:
        root = np.broadcast_to(roots.reshape(len(means), -1), means.shape)
        white, log_root = difference * root, np.log(root).sum(axis=1)
    norm = (white**2).sum(axis=2)
    return (
        np.log(params.weights)
        + log_root
        - X.shape[1] / 2 * np.log(2 * np.pi)
        - norm / 2
    )


def check(kind, params, X, tolerance):
    want = joint_log_density(kind, params, X)
    best = want.max(axis=1)
    labels = posterior(FAMILIES[kind], params, X, labels=True).labels
    missed = best - want[np.arange(len(X)), labels]
    assert np.all(missed <= tolerance * np.maximum(1, np.abs(best)))
    out = posterior(FAMILIES[kind], params, X, log_likelihood=True, probabilities=True)
    share = np.exp(want - best[:, None])
    total = share.sum(axis=1)
    np.testing.assert_allclose(
        out.log_likelihood, best + np.log(total), rtol=tolerance, atol=tolerance
    )
    # A share moves as much as the logarithms do that it is made of.
    np.testing.assert_allclose(
        out.probabilities,
        share / total[:, None],
        atol=(tolerance * np.maximum(1, np.abs(best))).max(),
    )


@pytest.mark.parametrize("kind", KINDS)
@given(
    d=st.sampled_from(SIZES),
    seed=st.integers(0, 2**32 - 1),
    n_components=st.integers(1, 9),
    spread=st.sampled_from([0.01, 0.3, 1.0, 4.0, 100.0]),
    scale=st.sampled_from([1e-9, 1.0, 1e30]),
)
def test_what_matters_is_computed(kind, d, seed, n_components, spread, scale):
    rng = np.random.default_rng(seed)
    means = rng.normal(scale=spread * scale, size=(n_components, d))
    X = means[rng.integers(n_components, size=300)]
    X = X + rng.normal(scale=scale, size=X.shape)
    check(kind, mixture(kind, means, scale), X, 1e-10)


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distance", [1e3, 1e6, 1e9, 1e11])
def test_neighbours_that_their_first_features_do_not_tell_apart(kind, d, distance):
    """Pairs of components so far from others that rounding in float32 exceeds a norm.

    Without an allowance for it one of a pair would be taken for the other.
    """
    rng = np.random.default_rng(0)
    means = np.repeat(rng.normal(scale=distance, size=(4, d)), 2, axis=0)
    means[::2, -1] += 2.5
    X = means[rng.integers(len(means), size=600)] + rng.normal(size=(600, d))
    # Beyond some distance even float64 cannot place a row to better than that.
    tolerance = 1e-10 + 50 * distance * np.finfo(np.float64).eps
    check(kind, mixture(kind, means, 1.0), X, tolerance)


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_beyond_float32(kind, d):
    """Far rows take their tile, and it alone, to full densities."""
    rng = np.random.default_rng(0)
    means = rng.normal(scale=4.0, size=(6, d))
    X = means[rng.integers(6, size=700)] + rng.normal(size=(700, d))
    X[3], X[300] = 1e25, -1e60
    check(kind, mixture(kind, means, 1.0), X, 1e-10)


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_of_equal_components(kind, d):
    rng = np.random.default_rng(0)
    means = rng.normal(scale=4.0, size=(3, d))[[0, 1, 1, 2, 0]]
    X = means[rng.integers(5, size=700)] + rng.normal(size=(700, d))
    labels = posterior(FAMILIES[kind], mixture(kind, means, 1.0), X, labels=True).labels
    assert set(labels) == {0, 1, 3}


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_density_is_counted_and_leaves_others_alone(kind, d):
    rng = np.random.default_rng(0)
    means = rng.normal(scale=4.0, size=(6, d))
    X = means[rng.integers(6, size=300)] + rng.normal(size=(300, d))
    params = mixture(kind, means, 1.0)
    want = posterior(FAMILIES[kind], params, X, labels=True)
    assert not want.n_odd.any()
    X[7, d - 1] = np.nan
    X[290, 0] = np.nan
    got = posterior(FAMILIES[kind], params, X, labels=True)
    assert got.n_odd.sum() == 2
    kept = np.delete(np.arange(300), [7, 290])
    np.testing.assert_array_equal(got.labels[kept], want.labels[kept])


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_component_is_nobodys(kind, d):
    rng = np.random.default_rng(0)
    means = rng.normal(scale=4.0, size=(4, d))
    X = means[rng.integers(4, size=300)] + rng.normal(size=(300, d))
    params = mixture(kind, means, 1.0)
    weights = np.array([0.0, 0.5, 0.5, 0.0])
    labels = posterior(
        FAMILIES[kind], params._replace(weights=weights), X, labels=True
    ).labels
    assert set(labels) == {1, 2}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weighted", [False, True])
def test_e_steps_of_near_and_far_components(kind, dtype, weighted):
    """Sums where all components matter, few, one, and one of all but some rows."""
    rng, d = np.random.default_rng(0), SIZES[-1]
    for spread in (0.1, 1.0, 4.0):
        for n_between in (0, 3, 60):
            means = rng.normal(scale=spread, size=(6, d))
            X = means[rng.integers(6, size=900)] + rng.normal(size=(900, d))
            X[:n_between] = means[:2].mean(axis=0)
            X = X.astype(dtype)
            weight = rng.integers(4, size=900).astype(dtype)
            params = mixture(kind, means, 1.0)
            got = e_step(FAMILIES[kind], params, X, weight if weighted else None)
            want = joint_log_density(kind, params, X)
            share = np.exp(want - want.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            if weighted:
                share *= weight[:, None]
            y = X.astype(np.float64)[:, None, :] - means
            tolerance = 1e-11 if dtype == np.float64 else 2e-4
            close = functools.partial(np.testing.assert_allclose, rtol=tolerance)
            close(got.weight, share.sum(axis=0), atol=tolerance)
            # Deviations cancel in a sum, so it is measured by that of their squares.
            second = np.einsum("nk,nki->ki", share, y**2)
            first = np.einsum("nk,nki->ki", share, y)
            close(got.first, first, atol=tolerance * second.max())
            full = got.second.ndim == 3
            diagonal = np.diagonal(got.second, axis1=1, axis2=2) if full else got.second
            close(diagonal, second, atol=tolerance * second.max())


def some_components(rng, n_components, d, spread, unequal):
    """Return whitening, centres and normalisers of diagonal components."""
    whitening = np.exp(rng.normal(scale=unequal, size=(n_components, d)))
    centers = rng.normal(scale=spread, size=(n_components, d))
    return whitening, centers, rng.normal(scale=3.0, size=n_components)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_components=st.integers(1, 6),
    d=st.integers(1, 8),
    spread=st.sampled_from([0.1, 3.0, 30.0]),
    unequal=st.sampled_from([0.0, 0.1, 1.0]),
    margin=st.sampled_from([0.0, 1.0, 40.0]),
)
def test_who_is_sure_of_a_row_leads(seed, n_components, d, spread, unequal, margin):
    rng = np.random.default_rng(seed)
    whitening, centers, log_norm = some_components(
        rng, n_components, d, spread, unequal
    )
    above = sure_above(whitening, centers, log_norm, margin)
    # Rows about the centres and between them, where the sure and others meet.
    ends = rng.integers(n_components, size=(2, 400))
    share = rng.random((400, 1)) ** 2
    X = centers[ends[0]] * (1 - share) + centers[ends[1]] * share
    X += rng.normal(scale=0.3, size=X.shape) * rng.random((400, 1))
    density = log_norm - (((X[:, None, :] - centers) * whitening) ** 2).sum(axis=2)
    sure = density >= above
    assert sure.sum(axis=1).max() <= 1
    lead = density[:, :, None] - np.where(
        np.eye(n_components, dtype=bool), -np.inf, density[:, None, :]
    )
    assert np.all(lead.min(axis=2)[sure] >= margin)


def test_how_far_a_component_is_sure():
    """Of two alike, up to half the way; of one alone, everywhere; empty ones, never."""
    whitening, log_norm = np.ones((2, 3)), np.zeros(2)
    centers = np.array([[0.0, 0, 0], [8.0, 0, 0]])
    above = sure_above(whitening, centers, log_norm, 0.0)
    assert np.all((above > -16) & (above < -15.9))
    # (8 - r)**2 - r**2 = 16 at r = 3.
    above = sure_above(whitening, centers, log_norm, 16.0)
    assert np.all((above > -9) & (above < -8.9))
    assert sure_above(whitening[:1], centers[:1], log_norm[:1], 40.0) == -np.inf
    above = sure_above(whitening, centers, np.array([0.0, -np.inf]), 40.0)
    np.testing.assert_array_equal(above, [-np.inf, np.inf])
    assert np.all(sure_above(whitening, centers * 0, log_norm, 40.0) == np.inf)
    # What overflows is sure of nothing.
    assert np.all(sure_above(whitening * 1e200, centers, log_norm, 40.0) == np.inf)
