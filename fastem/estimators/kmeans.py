"""K-means with scikit-learn's face."""

import warnings
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from fastem.em.kmeans import kmeans_plusplus, lloyd, random_rows, weighted_moments
from fastem.estimators.persistence import Convertible
from fastem.estimators.validation import (
    check_rows,
    check_shape,
    check_weights,
    features_kept_on_error,
)
from fastem.models.kmeans import assign


class KMeans(
    Convertible,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClusterMixin,
    BaseEstimator,
):
    """K-means clustering by Lloyd's algorithm.

    A drop-in for :class:`sklearn.cluster.KMeans` on dense data: the limit of a mixture
    with one spherical covariance as that shrinks, fitted by hard EM. An emptied cluster
    moves to the row farthest from all centres.

    Parameters
    ----------
    n_clusters : int, default=8
    init : {'k-means++', 'random'}, callable or array-like of shape (K, D), \
default='k-means++'
        A callable gets ``X``, ``n_clusters`` and ``random_state`` and returns centres.
    n_init : 'auto' or int, default='auto'
        Number of starts; 'auto' is 10 for random or callable starts, else 1.
    max_iter : int, default=300
    tol : float, default=1e-4
        Centres rest when their squared shifts sum to less than this share of the mean
        variance of the features.
    verbose : int, default=0
    random_state : int, RandomState instance or None, default=None
    copy_x : bool, default=True
        Accepted for scikit-learn's sake: X is neither copied nor changed.
    algorithm : {'lloyd', 'elkan'}, default='lloyd'
        Accepted for scikit-learn's sake: both give the same result, by Lloyd's.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (K, D)
    labels_ : ndarray of shape (N,) of int32
    inertia_ : float
        Weighted sum of squared distances to the nearest centres.
    n_iter_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,)
        Where X had column names.

    References
    ----------
    S. P. Lloyd, "Least squares quantization in PCM", *IEEE Trans. Inf. Theory* 28
    (1982), 129-137.

    D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding",
    SODA 2007, 1027-1035.

    Examples
    --------
    >>> import numpy as np
    >>> from fastem import KMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> kmeans = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> kmeans.cluster_centers_[kmeans.predict([[0, 0], [12, 3]])]
    array([[ 1.,  2.],
           [10.,  2.]])
    """

    _parameter_constraints: ClassVar = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"k-means++", "random"}), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "copy_x": ["boolean"],
        "algorithm": [StrOptions({"lloyd", "elkan"})],
    }

    def __init__(
        self,
        n_clusters=8,
        *,
        init="k-means++",
        n_init="auto",
        max_iter=300,
        tol=1e-4,
        verbose=0,
        random_state=None,
        copy_x=True,
        algorithm="lloyd",
    ):
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm

    def fit(self, X, y=None, sample_weight=None):
        """Find the clusters of rows.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        KMeans
            The estimator itself.

        Raises
        ------
        ValueError
            For data that is not finite, two-dimensional and of at least K rows, and
            for weights that are negative or all zero.
        """
        self._validate_params()
        with features_kept_on_error(self):
            X = check_rows(self, X, reset=True)
            weight = check_weights(sample_weight, X)
            if X.shape[0] < self.n_clusters:
                raise ValueError(
                    f"n_samples={X.shape[0]} should be >= n_clusters={self.n_clusters}."
                )
        random_state = check_random_state(self.random_state)
        tol = self.tol * weighted_moments(X, weight)[1].mean()
        on_iteration = self._print_iteration(X, weight, tol) if self.verbose else None
        best = None
        for _ in range(self._count_starts()):
            centers = self._start(X, weight, random_state)
            if self.verbose:
                print("Initialization complete")
            result = lloyd(
                X,
                weight,
                centers,
                max_iter=self.max_iter,
                tol=tol,
                on_iteration=on_iteration,
            )
            centers = result.centers.astype(X.dtype)
            labels, _, inertia = assign(
                X, weight, centers.astype(np.float64), labels=True
            )
            if best is None or inertia < best[0]:
                best = inertia, labels, centers, result.n_iter
        self.inertia_, self.labels_, self.cluster_centers_, self.n_iter_ = best
        n_found = np.unique(self.labels_).size
        if n_found < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({n_found}) found smaller than "
                f"n_clusters ({self.n_clusters}). Possibly due to duplicate points "
                "in X.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def fit_predict(self, X, y=None, sample_weight=None):
        """Find the clusters and return each row's, (N,)."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X, y=None, sample_weight=None):
        """Find the clusters and return each row's distances to the centres, (N, K)."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def predict(self, X):
        """Return the nearest cluster of each row, (N,) of int32.

        Parameters
        ----------
        X : array-like of shape (N, D)
        """
        return self._assign(X, labels=True)[0]

    def transform(self, X):
        """Return the distance of each row to each centre, (N, K).

        Parameters
        ----------
        X : array-like of shape (N, D)
        """
        check_is_fitted(self)
        X = check_rows(self, X, reset=False)
        return cdist(X, self.cluster_centers_).astype(X.dtype, copy=False)

    def score(self, X, y=None, sample_weight=None):
        """Return minus the inertia of rows; higher is better.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None
        """
        return -self._assign(X, sample_weight)[2]

    # ------------------------------------------------------------------ inside

    @property
    def _n_features_out(self):
        return self.cluster_centers_.shape[0]

    def _assign(self, X, sample_weight=None, **wanted):
        check_is_fitted(self)
        X = check_rows(self, X, reset=False)
        weight = check_weights(sample_weight, X)
        return assign(X, weight, self.cluster_centers_.astype(np.float64), **wanted)

    def _count_starts(self):
        given = not callable(self.init) and not isinstance(self.init, str)
        if given:
            if self.n_init not in ("auto", 1):
                warnings.warn(
                    "Explicit initial center position passed: performing only one init "
                    f"in KMeans instead of n_init={self.n_init}.",
                    RuntimeWarning,
                    stacklevel=3,
                )
            return 1
        if self.n_init != "auto":
            return self.n_init
        plusplus = isinstance(self.init, str) and self.init == "k-means++"
        return 1 if plusplus else 10

    def _start(self, X, weight, random_state):
        shape = (self.n_clusters, X.shape[1])
        if callable(self.init):
            centers = self.init(X, self.n_clusters, random_state=random_state)
            return check_shape(centers, shape, "the centres that init returned")
        if not isinstance(self.init, str):
            return check_shape(self.init, shape, "init")
        choose = kmeans_plusplus if self.init == "k-means++" else random_rows
        return X[choose(X, self.n_clusters, weight, random_state)]

    def _print_iteration(self, X, weight, tol):
        def on_iteration(n_iter, centers, shift):
            inertia = assign(X, weight, centers)[2]
            print(f"Iteration {n_iter - 1}, inertia {inertia}.")
            if shift == 0:
                print(f"Converged at iteration {n_iter - 1}: strict convergence.")
            elif shift <= tol:
                print(
                    f"Converged at iteration {n_iter - 1}: center shift {shift} within "
                    f"tolerance {tol}."
                )

        return on_iteration
