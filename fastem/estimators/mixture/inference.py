"""The questions that a fitted mixture answers."""

import math
from functools import partial

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastem.estimators.outputs import evaluate_rows
from fastem.estimators.rows import read_rows
from fastem.execution.blas import one_blas_thread
from fastem.families.gaussian import GaussianParams
from fastem.models.mixture import FAMILIES, MixtureParams, evaluate, score

# What columns of Parquet are called; those of probabilities have numbers.
_COLUMNS = {"labels": ["label"], "log_likelihood": ["log_likelihood"]}


class MixtureInference:
    """Methods of a Gaussian mixture that is fitted."""

    def predict(self, X, *, out=None):
        """Return the likeliest component of each row, (N,) of int.

        Parameters
        ----------
        X : array-like or source of shape (N, D)
            Of a Dask collection the answer is one, too, computed when asked for.
        out : path, default=None
            A ``.npy`` or ``.parquet`` file to write the answer to as it comes, which
            is then there whole or not at all.

        Returns
        -------
        ndarray
            Or ``out``, if given.

        Raises
        ------
        ValueError
            For rows that are not finite; the first is named.
        OSError
            If ``out`` cannot be written; an older file stays as it was.
        """
        return self._evaluate("labels", X, out)

    def predict_proba(self, X, *, out=None):
        """Return the posterior probability of each component, (N, K).

        Parameters
        ----------
        X : array-like or source of shape (N, D)
            Of a Dask collection the answer is one, too, computed when asked for.
        out : path, default=None
            A ``.npy`` or ``.parquet`` file to write the answer to as it comes, which
            is then there whole or not at all.

        Returns
        -------
        ndarray
            Or ``out``, if given.

        Raises
        ------
        ValueError
            For rows that are not finite; the first is named.
        OSError
            If ``out`` cannot be written; an older file stays as it was.
        """
        return self._evaluate("probabilities", X, out)

    def score_samples(self, X, *, out=None):
        """Return the log-likelihood of each row, (N,).

        Parameters
        ----------
        X : array-like or source of shape (N, D)
            Of a Dask collection the answer is one, too, computed when asked for.
        out : path, default=None
            A ``.npy`` or ``.parquet`` file to write the answer to as it comes, which
            is then there whole or not at all.

        Returns
        -------
        ndarray
            Or ``out``, if given.

        Raises
        ------
        ValueError
            For rows that are not finite; the first is named.
        OSError
            If ``out`` cannot be written; an older file stays as it was.
        """
        return self._evaluate("log_likelihood", X, out)

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

    def _evaluate(self, field, X, out):
        """Return one of the posterior's outputs for all rows."""
        check_is_fitted(self)
        function = partial(evaluate, self._family, self._params(), field)
        with one_blas_thread():
            return evaluate_rows(self, function, X, out, _COLUMNS.get(field))

    def _total_log_likelihood(self, X, sample_weight):
        """Return the weighted sum of log-likelihoods and the sum of weights."""
        check_is_fitted(self)
        rows = read_rows(self, X, sample_weight, reset=False)
        with one_blas_thread():
            return rows.statistics(partial(score, self._family), self._params())

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
