"""K-means with scikit-learn's face."""

import warnings
from functools import partial
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

from fastem.em.kmeans import kmeans_plusplus, random_rows
from fastem.em.monitors import SilentMonitor
from fastem.estimators.callbacks import CallbackSupportMixin, watch, with_callbacks
from fastem.estimators.checkpoints import Checkpoint, NoCheckpoint
from fastem.estimators.kmeans.training import RECORDS, KMeansFit, LloydPrinter
from fastem.estimators.outputs import evaluate_rows
from fastem.estimators.persistence import Convertible
from fastem.estimators.rows import read_rows
from fastem.estimators.validation import check_shape, features_kept_on_error
from fastem.execution.blas import one_blas_thread
from fastem.models.kmeans import assign, measure


class KMeans(
    CallbackSupportMixin,
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
        1 prints the inertia at each iteration, which takes a further pass over X.
    random_state : int, RandomState instance or None, default=None
    copy_x : bool, default=True
        Accepted for scikit-learn's sake: X is neither copied nor changed.
    algorithm : {'lloyd', 'elkan'}, default='lloyd'
        Accepted for scikit-learn's sake: both give the same result, by Lloyd's.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (K, D)
    labels_ : ndarray of shape (N,) of int32
        Where X was in memory; of a source, ``predict`` tells them.
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

    def fit(self, X, y=None, sample_weight=None, *, checkpoint=None):
        """Find the clusters of rows.

        Parameters
        ----------
        X : array-like, source or Dask collection, of shape (N, D)
            See :func:`fastem.source` for what is read in blocks, once an iteration;
            starts are then drawn from a sample, which a callable ``init`` gets, too.
        y : Ignored
        sample_weight : array-like of shape (N,), default=None
        checkpoint : path, default=None
            A file to keep the fit in, after every iteration and now and then in long
            passes over blocks. If it is there already, the fit goes on from it, to the
            same bits as if never interrupted.

        Returns
        -------
        KMeans
            The estimator itself.

        Raises
        ------
        ValueError
            For data that is not finite, two-dimensional and of at least K rows, for
            weights that are negative or all zero, and for a checkpoint of another fit.
        """
        self._fit(X, sample_weight, checkpoint, y=y)
        return self

    def fit_predict(self, X, y=None, sample_weight=None):
        """Find the clusters and return each row's, (N,)."""
        labels = self._fit(X, sample_weight, y=y)
        return self.predict(X) if labels is None else labels

    def fit_transform(self, X, y=None, sample_weight=None):
        """Find the clusters and return each row's distances to the centres, (N, K)."""
        self._fit(X, sample_weight, y=y)
        return self.transform(X)

    def predict(self, X, *, out=None):
        """Return the nearest cluster of each row, (N,) of int32.

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
        check_is_fitted(self)
        return evaluate_rows(self, partial(_labels, self._centers()), X, out, ["label"])

    def transform(self, X, *, out=None):
        """Return the distance of each row to each centre, (N, K).

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
        check_is_fitted(self)
        columns = [f"distance{k}" for k in range(self._n_features_out)]
        return evaluate_rows(
            self, partial(_distances, self._centers()), X, out, columns
        )

    def score(self, X, y=None, sample_weight=None):
        """Return minus the inertia of rows; higher is better.

        Parameters
        ----------
        X : array-like, source or Dask collection, of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None
        """
        check_is_fitted(self)
        rows = read_rows(self, X, sample_weight, reset=False)
        return -rows.statistics(measure, self._centers()).inertia

    # ------------------------------------------------------------------ inside

    @property
    def _n_features_out(self):
        return self.cluster_centers_.shape[0]

    def _centers(self):
        return self.cluster_centers_.astype(np.float64)

    @with_callbacks
    def _fit(self, X, sample_weight=None, checkpoint=None, monitor=None, y=None):
        """Fit, and return the labels of an array; ``monitor`` replaces printing."""
        self._validate_params()
        with one_blas_thread(), features_kept_on_error(self):
            rows = read_rows(self, X, sample_weight, reset=True)
            self._check_enough_rows(rows.n_rows)
            random_state = check_random_state(self.random_state)
            keeper = NoCheckpoint()
            if checkpoint is not None:
                data = {"X": rows.data, "sample_weight": sample_weight}
                keeper = Checkpoint(checkpoint, self, data, RECORDS)
            if monitor is None:
                monitor = LloydPrinter(rows) if self.verbose else SilentMonitor()
            dtype = rows.dtype
            monitor = watch(
                self,
                monitor,
                {"X": X, "y": y, "sample_weight": sample_weight},
                name=f"KMeans of {self.n_clusters} clusters",
                shape=(rows.n_rows, rows.n_features),
                max_iter=self.max_iter,
                keep=lambda model, state: model._keep(state, dtype, None),
                measure="inertia",
            )
            fit = KMeansFit(
                rows,
                start=lambda: self._start(rows, random_state),
                max_iter=self.max_iter,
                tol=self.tol,
                monitor=monitor,
                keeper=keeper,
            )
            best, labels = fit.run(self._count_starts(), random_state)
            # Only now some sources are known to have too few.
            self._check_enough_rows(best.n_rows.sum())
        self._keep(best, dtype, labels)
        self._warn(best)
        return labels

    def _keep(self, state, dtype, labels):
        """Store the fitted attributes, but for what is not known or not wanted."""
        self.cluster_centers_ = state.centers.astype(dtype)
        self.n_iter_ = state.n_iter
        for name, value in {"inertia_": state.inertia, "labels_": labels}.items():
            vars(self).pop(name, None)
            if value is not None:
                setattr(self, name, value)

    def _warn(self, state):
        """Say what a user should know of the fit that was kept."""
        n_found = np.count_nonzero(state.n_rows)
        if n_found < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({n_found}) found smaller than "
                f"n_clusters ({self.n_clusters}). Possibly due to duplicate points "
                "in X.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _check_enough_rows(self, n_rows):
        if n_rows is not None and n_rows < self.n_clusters:
            raise ValueError(
                f"n_samples={n_rows} should be >= n_clusters={self.n_clusters}."
            )

    def _count_starts(self):
        given = not callable(self.init) and not isinstance(self.init, str)
        if given:
            if self.n_init not in ("auto", 1):
                warnings.warn(
                    "Explicit initial center position passed: performing only one init "
                    f"in KMeans instead of n_init={self.n_init}.",
                    RuntimeWarning,
                    stacklevel=5,
                )
            return 1
        if self.n_init != "auto":
            return self.n_init
        plusplus = isinstance(self.init, str) and self.init == "k-means++"
        return 1 if plusplus else 10

    def _start(self, rows, random_state):
        """Return the centres that a start begins with."""
        shape = (self.n_clusters, rows.n_features)
        if not callable(self.init) and not isinstance(self.init, str):
            return check_shape(self.init, shape, "init")
        X, weight = rows.sample(self.n_clusters, random_state)
        self._check_enough_rows(rows.n_rows)
        if callable(self.init):
            centers = self.init(X, self.n_clusters, random_state=random_state)
            return check_shape(centers, shape, "the centres that init returned")
        choose = kmeans_plusplus if self.init == "k-means++" else random_rows
        return X[choose(X, self.n_clusters, weight, random_state)]


def _labels(centers, X, check):
    check()
    return assign(X, np.empty(0, X.dtype), centers, labels=True)[0]


def _distances(centers, X, check):
    check()
    return cdist(X, centers).astype(X.dtype, copy=False)
