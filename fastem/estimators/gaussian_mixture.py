"""The Gaussian mixture with scikit-learn's face."""

import math
import warnings
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from fastem.em.loop import run_em
from fastem.em.monitors import make_monitor
from fastem.em.seeding import initial_params
from fastem.estimators.starts import check_start
from fastem.estimators.validation import (
    check_rows,
    check_weights,
    features_kept_on_error,
)
from fastem.exceptions import DegenerateComponentWarning, LikelihoodDecreaseWarning
from fastem.families.gaussian import GaussianParams, Regularization
from fastem.models.mixture import FAMILIES, MixtureParams, e_step, m_step, posterior

# Rows scored at a time where only a total is wanted.
_SCORE_BLOCK = 1 << 20


class GaussianMixture(DensityMixin, BaseEstimator):
    """Gaussian mixture fitted by expectation-maximization.

    A drop-in for :class:`sklearn.mixture.GaussianMixture`: the same parameters,
    methods, fitted attributes and defaults, fitted to the same likelihood, with row
    weights besides. The data is read a few hundred rows at a time and nothing of size
    N x K is kept.

    A component that collapses (its covariance is not positive definite to working
    precision) has the eigenvalues of its correlation matrix raised to where it is; one
    that empties keeps its last mean and covariance at weight zero. Either is counted in
    ``n_repairs_`` and warned of once. Among ``n_init`` starts, those that needed no
    repair are preferred, since a collapsed component makes the likelihood meaningless.

    Parameters
    ----------
    n_components : int, default=1
        Number of components, K.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        A covariance matrix each, one for all, variances each, one variance each.
    tol : float, default=1e-3
        Iterations stop when the mean log-likelihood changes by less.
    reg_covar : float, default=1e-6
        Added to the diagonals of covariances, in squared units of the data. With it
        the likelihood may fall between iterations, which is reported.
    max_iter : int, default=100
        Largest number of iterations; 0 keeps the start.
    n_init : int, default=1
        Number of starts, of which the best is kept.
    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'}, \
default='kmeans'
        How responsibilities start.
    weights_init : array-like of shape (K,), default=None
    means_init : array-like of shape (K, D), default=None
    precisions_init : array-like, default=None
        Shaped as ``precisions_``. What is given replaces its part of the start.
    random_state : int, RandomState instance or None, default=None
    warm_start : bool, default=False
        Begin a further fit where the last one ended.
    verbose : int, default=0
        1 prints starts and iterations, 2 their times as well.
    verbose_interval : int, default=10
        Iterations between two lines.

    Attributes
    ----------
    weights_ : ndarray of shape (K,)
    means_ : ndarray of shape (K, D)
    covariances_ : ndarray
        (K, D, D) if full, (D, D) if tied, (K, D) if diag, (K,) if spherical.
    precisions_ : ndarray
        Inverses of the covariances, shaped as they are.
    precisions_cholesky_ : ndarray
        Upper triangular factors of the precisions, or their square roots.
    converged_ : bool
    n_iter_ : int
        Iterations of the best start.
    lower_bound_ : float
        Mean log-likelihood per unit of weight at the last iteration of the best start.
    lower_bounds_ : list of float
        The same at each of its iterations.
    n_repairs_ : int
        Components of the best start that collapsed or emptied at some iteration.
    n_decreases_ : int
        Its iterations whose log-likelihood fell by more than rounding explains, but
        for those right after a repair.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,)
        Where X had column names.

    References
    ----------
    A. P. Dempster, N. M. Laird and D. B. Rubin, "Maximum likelihood from incomplete
    data via the EM algorithm", *J. R. Statist. Soc. B* 39 (1977), 1-38.

    C. M. Bishop, *Pattern Recognition and Machine Learning* (2006), section 9.2.2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastem import GaussianMixture
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> mixture = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> mixture.means_[mixture.predict([[0, 0], [12, 3]])]
    array([[ 1.,  2.],
           [10.,  2.]])
    """

    _parameter_constraints: ClassVar = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions(set(FAMILIES))],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [
            StrOptions({"kmeans", "k-means++", "random", "random_from_data"})
        ],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=1,
        *,
        covariance_type="full",
        tol=1e-3,
        reg_covar=1e-6,
        max_iter=100,
        n_init=1,
        init_params="kmeans",
        weights_init=None,
        means_init=None,
        precisions_init=None,
        random_state=None,
        warm_start=False,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    def fit(self, X, y=None, sample_weight=None):
        """Fit the mixture to rows.

        Parameters
        ----------
        X : array-like of shape (N, D)
            float32 stays float32 in the kernels; all else becomes float64.
        y : Ignored
        sample_weight : array-like of shape (N,), default=None
            A row of weight 2 counts exactly as the row twice, one of weight 0 not.

        Returns
        -------
        GaussianMixture
            The estimator itself.

        Raises
        ------
        ValueError
            For data that is not finite, two-dimensional and of at least K rows, for
            weights that are negative or all zero, and for starts of a wrong shape.
        """
        self._fit(X, sample_weight)
        return self

    def fit_predict(self, X, y=None, sample_weight=None):
        """Fit the mixture and return the likeliest component of each row, (N,)."""
        X = self._fit(X, sample_weight)
        return posterior(self._family, self._params(), X, labels=True).labels

    def predict(self, X):
        """Return the likeliest component of each row, (N,) of int.

        Parameters
        ----------
        X : array-like of shape (N, D)
        """
        return self._posterior(X, labels=True).labels

    def predict_proba(self, X):
        """Return the posterior probability of each component, (N, K).

        Parameters
        ----------
        X : array-like of shape (N, D)
        """
        return self._posterior(X, proba=True).probabilities

    def score_samples(self, X):
        """Return the log-likelihood of each row, (N,).

        Parameters
        ----------
        X : array-like of shape (N, D)
        """
        return self._posterior(X, log_likelihood=True).log_likelihood

    def score(self, X, y=None, sample_weight=None):
        """Return the mean log-likelihood per unit of weight.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None
        """
        log_likelihood, weight = self._total_log_likelihood(X, sample_weight)
        return log_likelihood / weight

    def bic(self, X, sample_weight=None):
        """Return the Bayesian information criterion; lower is better.

        Parameters
        ----------
        X : array-like of shape (N, D)
        sample_weight : array-like of shape (N,), default=None
        """
        log_likelihood, weight = self._total_log_likelihood(X, sample_weight)
        return -2 * log_likelihood + self._n_parameters() * math.log(weight)

    def aic(self, X, sample_weight=None):
        """Return the Akaike information criterion; lower is better.

        Parameters
        ----------
        X : array-like of shape (N, D)
        sample_weight : array-like of shape (N,), default=None
        """
        log_likelihood, _ = self._total_log_likelihood(X, sample_weight)
        return -2 * log_likelihood + 2 * self._n_parameters()

    def sample(self, n_samples=1):
        """Draw rows from the mixture.

        Parameters
        ----------
        n_samples : int, default=1

        Returns
        -------
        X : ndarray of shape (n_samples, D)
            Rows, ordered by component.
        y : ndarray of shape (n_samples,)
            The component of each.

        Raises
        ------
        ValueError
            If ``n_samples`` is less than one.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples}. Draw at least one."
            )
        random_state = check_random_state(self.random_state)
        counts = random_state.multinomial(n_samples, self.weights_)
        blocks = []
        for k, count in enumerate(counts):
            noise = random_state.standard_normal((count, self.n_features_in_))
            blocks.append(self.means_[k] + self._color(noise, k))
        return np.vstack(blocks), np.repeat(np.arange(len(counts)), counts)

    # ------------------------------------------------------------------ inside

    @property
    def _family(self):
        return FAMILIES[self.covariance_type]

    def _params(self):
        return MixtureParams(
            self.weights_,
            GaussianParams(self.means_, self.covariances_, self.precisions_cholesky_),
        )

    def _fit(self, X, sample_weight=None, monitor=None):
        """Fit and return the validated rows; ``monitor`` replaces printing."""
        self._validate_params()
        with features_kept_on_error(self):
            X = check_rows(self, X, reset=True, ensure_min_samples=2)
            sample_weight = check_weights(sample_weight, X)
            _check_enough_rows(X, sample_weight, self.n_components)
            given = check_start(
                self.weights_init,
                self.means_init,
                self.precisions_init,
                self.covariance_type,
                (self.n_components, X.shape[1]),
            )
            resume = self.warm_start and hasattr(self, "converged_")
            if resume and self.means_.shape != (self.n_components, X.shape[1]):
                raise ValueError(
                    f"warm_start goes on from means of shape {self.means_.shape}, but "
                    f"n_components and X ask for {(self.n_components, X.shape[1])}"
                )
        if monitor is None:
            monitor = make_monitor(self.verbose, self.verbose_interval)

        family = self._family
        regularization = Regularization(self.reg_covar, np.finfo(X.dtype).eps)
        n_init = 1 if resume else self.n_init
        random_state = check_random_state(self.random_state)
        best = None
        monitor.start(n_init)
        for init in range(n_init):
            monitor.begin_init(init)
            if resume:
                start, previous = self._params(), self.lower_bound_
            else:
                start, previous = (
                    self._start(X, sample_weight, given, regularization, random_state),
                    -np.inf,
                )
            result = run_em(
                lambda params: e_step(family, params, X, sample_weight),
                lambda statistics, params: m_step(
                    family, statistics, params, regularization
                ),
                start,
                max_iter=self.max_iter,
                tol=self.tol,
                eps=regularization.eps,
                previous=previous,
                monitor=monitor,
            )
            if self.max_iter > 0:
                monitor.end_init(result.lower_bound, result.converged)
            if best is None or _rank(result) > _rank(best):
                best = result
        self._keep(best)
        self._warn(best)
        return X

    def _start(self, X, sample_weight, given, regularization, random_state):
        """Return where EM begins: what was given, the rest by ``init_params``."""
        if given.complete():
            return given.replace(None)
        params = initial_params(
            self._family,
            X,
            sample_weight,
            self.n_components,
            self.init_params,
            regularization,
            random_state,
        )
        return given.replace(params)

    def _keep(self, result):
        """Store the fitted attributes."""
        self.weights_ = result.params.weights
        self.means_, self.covariances_, factors = result.params.components
        self.precisions_cholesky_ = factors
        if self.covariance_type in ("full", "tied"):
            self.precisions_ = factors @ np.swapaxes(factors, -1, -2)
        else:
            self.precisions_ = factors**2
        self.converged_ = result.converged
        self.n_iter_ = len(result.lower_bounds)
        self.lower_bound_ = result.lower_bound
        self.lower_bounds_ = result.lower_bounds
        self.n_repairs_ = int(result.repaired.sum())
        self.n_decreases_ = result.n_decreases

    def _warn(self, result):
        """Say once what a user should know of the fit that was kept."""
        if self.n_repairs_:
            components = ", ".join(map(str, np.flatnonzero(result.repaired)))
            warnings.warn(
                f"{self.n_repairs_} of {self.n_components} components collapsed or "
                f"emptied and were repaired (components {components}); use fewer "
                "components, a larger reg_covar or more starts.",
                DegenerateComponentWarning,
                stacklevel=4,
            )
        if self.n_decreases_:
            warnings.warn(
                f"The log-likelihood fell in {self.n_decreases_} of {self.n_iter_} "
                f"iterations. With reg_covar={self.reg_covar} or repaired components "
                "EM does not maximise the likelihood exactly; reg_covar is in squared "
                "units of the data.",
                LikelihoodDecreaseWarning,
                stacklevel=4,
            )
        if not self.converged_ and self.max_iter > 0:
            warnings.warn(
                "Best performing initialization did not converge. Try different init "
                "parameters, or increase max_iter, tol, or check for degenerate data.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _posterior(self, X, **wanted):
        check_is_fitted(self)
        X = check_rows(self, X, reset=False)
        return posterior(self._family, self._params(), X, **wanted)

    def _total_log_likelihood(self, X, sample_weight):
        """Return the weighted sum of log-likelihoods and the sum of weights."""
        check_is_fitted(self)
        X = check_rows(self, X, reset=False)
        weight = check_weights(sample_weight, X)
        params, total = self._params(), 0.0
        for begin in range(0, X.shape[0], _SCORE_BLOCK):
            rows = X[begin : begin + _SCORE_BLOCK]
            scores = posterior(self._family, params, rows, log_likelihood=True)
            scores = scores.log_likelihood.astype(np.float64)
            share = weight[begin : begin + _SCORE_BLOCK].astype(np.float64)
            total += float(share @ scores) if share.size else float(scores.sum())
        return total, float(weight.sum(dtype=np.float64)) or float(X.shape[0])

    def _n_parameters(self):
        n_components, n_features = self.means_.shape
        covariance = {
            "full": n_components * n_features * (n_features + 1) // 2,
            "tied": n_features * (n_features + 1) // 2,
            "diag": n_components * n_features,
            "spherical": n_components,
        }[self.covariance_type]
        return covariance + n_components * n_features + n_components - 1

    def _color(self, noise, k):
        """Give standard normal rows the covariance of component k."""
        factors = self.precisions_cholesky_
        if self.covariance_type in ("diag", "spherical"):
            return noise / factors[k]
        factor = factors[k] if self.covariance_type == "full" else factors
        return solve_triangular(factor, noise.T, lower=False, trans="T").T


def _rank(result):
    """Order starts: whole ones before repaired ones, then by likelihood."""
    return not result.repaired.any(), result.lower_bound


def _check_enough_rows(X, sample_weight, n_components):
    n_rows = np.count_nonzero(sample_weight) if sample_weight.size else X.shape[0]
    if n_rows < n_components and sample_weight.sum() < n_components:
        raise ValueError(
            f"Expected n_samples >= n_components but got n_components = "
            f"{n_components}, n_samples = {n_rows}"
        )
