"""Hidden Markov models with a mixture of Gaussians in each state."""

from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from fastem.em.hmm_seeding import nested_clusters, sampled_rows, start_covariance
from fastem.estimators.hmm.base import BaseHMM
from fastem.estimators.hmm.covariances import (
    check_covariances,
    check_means,
    color,
    like,
    n_covariance_scalars,
)
from fastem.estimators.hmm.probabilities import (
    check_probabilities,
    draw_columns,
    log_dirichlet,
    most_probable,
)
from fastem.estimators.hmm.validation import broadcast_prior
from fastem.families.gaussian import GaussianParams
from fastem.families.gaussian_map import (
    GaussianPrior,
    log_prior,
    maximize,
    with_precisions,
)
from fastem.families.gaussian_mixture import (
    GMM_DIAG,
    GMM_FULL,
    GMM_SPHERICAL,
    GMMParams,
    gaussian_statistics,
)

# Tied Gaussians are full ones that the M-step keeps alike.
GMM_FAMILIES = {
    "full": GMM_FULL,
    "tied": GMM_FULL,
    "diag": GMM_DIAG,
    "spherical": GMM_SPHERICAL,
}


class GMMHMM(BaseHMM):
    """Hidden Markov model with a mixture of M Gaussians in each state.

    A drop-in for :class:`hmmlearn.hmm.GMMHMM` 0.3.3: the same constructor, methods,
    fitted attributes and defaults. Beyond it there are weights and known states
    (:meth:`fit`), hard training, several starts, entries held fixed, filtering,
    fixed-lag smoothing and streams.

    As in hmmlearn, an iteration takes scatter about the means that it began with: a
    step of generalised EM, which does not lower the likelihood either. On purpose it
    differs in this:

    - A scalar ``covars_prior`` is a multiple of the identity for 'full' and 'tied';
      hmmlearn adds it to the covariances between features, too.
    - ``min_covar`` bounds variances (for 'full' and 'tied', eigenvalues of the
      covariances) at every iteration, not only at the start, and yields to data of
      small scale.
    - A component that no row leans to keeps its parameters, a state besides its row of
      ``transmat_``.
    - A prior that takes away more rows than there are is left out; the default one of
      'spherical' does, where there are more components than features.
    - 'spherical' starts from the mean variance, not from the mean of all covariances,
      and centres of a cluster that is too small are drawn around it.
    - Fits do not change the priors, and stop by the log-likelihood plus log priors;
      ``monitor_.status`` tells convergence from a fall and from the end of ``n_iter``.
    - Observations that no state allows are named, never NaN.

    Parameters
    ----------
    n_components : int, default=1
        Number of states, K.
    n_mix : int, default=1
        Number of Gaussians of each state, M.
    min_covar : float, default=1e-3
        Smallest variance; for a feature whose variance over all rows is less than one,
        the smallest share of that.
    startprob_prior : float or array-like of shape (K,), default=1.0
    transmat_prior : float or array-like of shape (K, K), default=1.0
    weights_prior : float or array-like of shape (K, M), default=1.0
        Parameters of Dirichlet priors.
    means_prior : float or array-like of shape (K, M, D), default=0.0
    means_weight : float or array-like of shape (K, M), default=0.0
        Means before the data are seen, and the number of rows they are worth.
    covars_prior, covars_weight : float or array-like, default=None
        Parameters of priors in hmmlearn's terms: scatter, shaped as ``covars_``, and
        degrees of freedom of inverse Wishart ones, (K, M), if 'full', (K,) if 'tied';
        shape and scale of inverse gamma ones, both shaped as ``covars_``, else. The
        defaults are flat, but for 'spherical' only if M is D.
    algorithm : {'viterbi', 'map'}, default='viterbi'
        What ``decode`` and ``predict`` do.
    covariance_type : {'spherical', 'diag', 'full', 'tied'}, default='diag'
        One variance for each Gaussian, variances, a matrix, or one matrix for all
        Gaussians of a state.
    random_state : int, RandomState instance or None, default=None
    n_iter : int, default=10
        Largest number of iterations; 0 keeps the start.
    tol : float, default=1e-2
        Fits stop when the objective rises by less.
    verbose : bool, default=False
        Print iterations to standard error.
    params : str, default='stmcw'
        What is learned: startprob, transmat, means, covars, weights.
    init_params : str, default='stmcw'
        What is set at the start of a fit: startprob and transmat are drawn, weights are
        even, means are those of k-means within clusters of k-means, covars that of all
        data. What is not named, and was set before, is kept.
    implementation : {'log', 'scaling'}, default='log'
        Without effect: there is one implementation, safe and fast.
    training : {'baum-welch', 'viterbi'}, default='baum-welch'
        'viterbi' takes the best paths for the truth at each iteration.
    n_init : int, default=1
        Number of starts, of which the best is kept.
    fixed : dict, default=None
        Masks by parameter ('startprob', 'transmat', 'means', 'covars', 'weights'), each
        of a shape that broadcasts to it: true entries keep the value they start with.
    fit_algorithm : {'batch', 'minibatch'}, default='batch'
        When parameters move: after each pass over the rows (EM), or after each batch
        of sequences or of stretches of long ones (stepwise EM; see :meth:`fit`).
    batch_size : int, default=10000
        Rows of a batch, about.
    step_exponent : float, default=0.55
        Batch n replaces ``(n + step_offset)**-step_exponent`` of what is remembered:
        more than 0.5, so that noise dies out, and at most 1, with which all batches
        count alike.
    step_offset : float, default=1.0
        A larger one takes smaller first steps.
    average : bool, default=True
        Whether the parameters kept are those of the average of what was remembered
        after each batch, which has less noise.

    Attributes
    ----------
    startprob_ : ndarray of shape (K,)
    transmat_ : ndarray of shape (K, K)
    weights_ : ndarray of shape (K, M)
    means_ : ndarray of shape (K, M, D)
    covars_ : ndarray
        (K, M) if spherical, (K, M, D) if diag, (K, M, D, D) if full, (K, D, D) if tied.
    monitor_ : ConvergenceMonitor
        Log-likelihoods and why the fit stopped.
    n_repairs_ : int
        Gaussians that emptied or whose covariance collapsed at some iteration.
    n_features : int
    n_features_in_ : int
        D, twice.
    feature_names_in_ : ndarray of shape (D,)
        Where X had column names.

    References
    ----------
    L. R. Rabiner, "A tutorial on hidden Markov models", *Proc. IEEE* 77 (1989),
    257-286, eqs. 49 and 52 to 54.

    J.-L. Gauvain and C.-H. Lee, "Maximum a posteriori estimation for multivariate
    Gaussian mixture observations of Markov chains", *IEEE Trans. Speech Audio Process.*
    2 (1994), 291-298.

    Examples
    --------
    >>> import numpy as np
    >>> from fastem import GMMHMM
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(np.repeat([0, 9, 30, 39], 50)[:, None], 1, (200, 1))
    >>> model = GMMHMM(n_components=2, n_mix=2, random_state=0).fit(X)
    >>> model.means_.shape, np.unique(model.predict(X[:100])).size
    ((2, 2, 1), 1)
    """

    _parameter_constraints: ClassVar = {
        **BaseHMM._parameter_constraints,
        "n_mix": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions(set(GMM_FAMILIES))],
        "min_covar": [Interval(Real, 0, None, closed="left")],
    }
    _emission_letters: ClassVar = {"m": "means", "c": "covars", "w": "weights"}
    _by_column = "means"
    _integers_become = np.float64

    def __init__(
        self,
        n_components=1,
        n_mix=1,
        min_covar=1e-3,
        startprob_prior=1.0,
        transmat_prior=1.0,
        weights_prior=1.0,
        means_prior=0.0,
        means_weight=0.0,
        covars_prior=None,
        covars_weight=None,
        algorithm="viterbi",
        covariance_type="diag",
        random_state=None,
        n_iter=10,
        tol=1e-2,
        verbose=False,
        params="stmcw",
        init_params="stmcw",
        implementation="log",
        *,
        training="baum-welch",
        n_init=1,
        fixed=None,
        fit_algorithm="batch",
        batch_size=10_000,
        step_exponent=0.55,
        step_offset=1.0,
        average=True,
    ):
        super().__init__(
            n_components,
            startprob_prior,
            transmat_prior,
            algorithm,
            random_state,
            n_iter,
            tol,
            verbose,
            params,
            init_params,
            implementation,
            training,
            n_init,
            fixed,
            fit_algorithm,
            batch_size,
            step_exponent,
            step_offset,
            average,
        )
        self.n_mix = n_mix
        self.covariance_type = covariance_type
        self.min_covar = min_covar
        self.weights_prior = weights_prior
        self.means_prior = means_prior
        self.means_weight = means_weight
        self.covars_prior = covars_prior
        self.covars_weight = covars_weight

    # ------------------------------------------------------------------ inside

    @property
    def _family(self):
        return GMM_FAMILIES[self.covariance_type]

    def _emission_shapes(self, n_features):
        leading = self.n_components, self.n_mix
        return {
            "means": (*leading, n_features),
            "covars": {
                "full": (*leading, n_features, n_features),
                "tied": (self.n_components, n_features, n_features),
                "diag": (*leading, n_features),
                "spherical": leading,
            }[self.covariance_type],
            "weights": leading,
        }

    def _n_emission_scalars(self, shapes):
        n, n_mix, n_features = shapes["means"]
        n_covariances = n if self.covariance_type == "tied" else n * n_mix
        scalars = n_covariance_scalars(self.covariance_type, n_features)
        # hmmlearn counts the weights of one state, so aic and bic are as they were.
        return {
            "m": n * n_mix * n_features,
            "c": n_covariances * scalars,
            "w": n_mix - 1,
        }

    def _check_parameter(self, value, shape, name):
        if name == "weights_":
            return check_probabilities(value, shape, name)
        if name == "means_":
            return check_means(value, shape, name)
        kind = self.covariance_type
        n_features = None if kind == "spherical" else shape[-1]
        leading = self.n_components, self.n_mix
        return check_covariances(value, kind, leading, name, n_features)

    def _start(self, X, weight, given, shapes, random_state):
        start = dict(given)
        n, n_mix = shapes["weights"]
        if "weights" not in start:
            start["weights"] = np.full((n, n_mix), 1 / n_mix)
        if "means" not in start:
            rows, row_weight = sampled_rows(X, weight, n * n_mix, random_state)
            start["means"] = nested_clusters(rows, row_weight, n, n_mix, random_state)
        if "covars" not in start:
            covariance = start_covariance(X, weight, self.min_covar)
            if self.covariance_type == "tied":
                covariance = covariance[None]
            start["covars"] = like(covariance, self.covariance_type, shapes["covars"])
        return start

    def _pack(self, values):
        kind = self.covariance_type
        n_features = values["means"].shape[-1]
        tail = {"diag": (n_features,), "spherical": ()}
        tail = tail.get(kind, (n_features, n_features))
        params = with_precisions(
            kind,
            values["means"].reshape(-1, n_features),
            values["covars"].reshape(-1, *tail),
        )
        return GMMParams(values["weights"], self._repeated(params))

    def _unpack(self, emissions):
        n, n_mix = emissions.weights.shape
        means, covariances, _ = self._distinct(emissions)
        shape = self._emission_shapes(means.shape[1])["covars"]
        return {
            "means": means.reshape(n, n_mix, -1),
            "covars": covariances.reshape(shape),
            "weights": emissions.weights,
        }

    def _repeated(self, params):
        """Return Gaussians with a covariance each."""
        if self.covariance_type != "tied":
            return params
        return GaussianParams(
            params.means, *(field.repeat(self.n_mix, axis=0) for field in params[1:])
        )

    def _distinct(self, emissions):
        """Return Gaussians with each covariance once."""
        params = emissions.gaussians
        if self.covariance_type != "tied":
            return params
        return GaussianParams(
            params.means, *(field[:: self.n_mix] for field in params[1:])
        )

    def _priors(self, shapes):
        """Return the weights' and the Gaussians' priors.

        hmmlearn's terms are Bishop's, *Pattern Recognition and Machine Learning*, eqs.
        2.146 and 2.155, with the modes of the covariances given the means.
        """
        n, n_mix, n_features = shapes["means"]
        size, kind = n * n_mix, self.covariance_type
        weights = broadcast_prior(self.weights_prior, (n, n_mix), "weights_prior")
        means = broadcast_prior(self.means_prior, shapes["means"], "means_prior")
        means_weight = broadcast_prior(self.means_weight, (n, n_mix), "means_weight")
        first, second = self._covariance_prior(n_features)
        if kind in ("diag", "spherical"):
            shape = shapes["covars"]
            alpha = broadcast_prior(first, shape, "covars_prior")
            scatter = 2 * broadcast_prior(second, shape, "covars_weight")
            mass = 2 * (alpha + 1) + (1 if kind == "diag" else n_features)
            flat = (size, n_features) if kind == "diag" else (size,)
            scatter, mass = scatter.reshape(flat), mass.reshape(flat)
        else:
            if np.ndim(first) == 0:
                first = first * np.eye(n_features)
            scatter = broadcast_prior(first, shapes["covars"], "covars_prior")
            scatter = scatter.reshape(-1, n_features, n_features)
            shape = (n, n_mix) if kind == "full" else (n,)
            mass = broadcast_prior(second, shape, "covars_weight").ravel()
            mass = mass + n_features + 1 + (1 if kind == "full" else n_mix)
        prior = GaussianPrior(
            means.reshape(size, n_features), means_weight.ravel(), scatter, mass
        )
        return weights, prior

    def _covariance_prior(self, n_features):
        first, second = {
            "full": (0.0, -(n_features + 2.0)),
            "tied": (0.0, -(self.n_mix + n_features + 1.0)),
            "diag": (-1.5, 0.0),
            "spherical": (-(self.n_mix + 2.0) / 2, 0.0),
        }[self.covariance_type]
        return (
            first if self.covars_prior is None else self.covars_prior,
            second if self.covars_weight is None else self.covars_weight,
        )

    def _maximize(self, statistics, emissions, learning):
        n, n_mix = emissions.weights.shape
        kind, fixed = self.covariance_type, learning.fixed
        weights_prior, prior = learning.emissions
        weights, dropped = most_probable(
            statistics.mixture, weights_prior, emissions.weights, fixed["weights"]
        )
        gaussians = gaussian_statistics(statistics)
        if kind == "tied":
            scatter = gaussians.second.reshape(n, n_mix, *gaussians.second.shape[1:])
            gaussians = gaussians._replace(second=scatter.sum(axis=1))
        params = self._distinct(emissions)
        params, repaired = maximize(
            kind,
            gaussians,
            params,
            prior,
            (
                fixed["means"].reshape(params.means.shape),
                fixed["covars"].reshape(params.covariances.shape),
            ),
            self.min_covar,
            recentre=False,
        )
        return GMMParams(weights, self._repeated(params)), repaired, dropped

    def _log_emission_prior(self, emissions, learning):
        weights_prior, prior = learning.emissions
        return log_dirichlet(emissions.weights, weights_prior) + log_prior(
            self.covariance_type, self._distinct(emissions), prior
        )

    def _emit(self, emissions, states, random_state):
        weights, gaussians = emissions
        which = draw_columns(weights, states, random_state)
        which += states * weights.shape[1]
        noise = random_state.standard_normal((len(states), gaussians.means.shape[1]))
        return gaussians.means[which] + color(noise, gaussians.covariances, which)
