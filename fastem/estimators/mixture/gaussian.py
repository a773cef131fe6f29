"""The Gaussian mixture with scikit-learn's face."""

import warnings
from functools import partial
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from fastem.em.loop import begin
from fastem.em.monitors import make_monitor
from fastem.em.passes import PassStatistics, add_block, row_batches
from fastem.em.seeding import initial_params
from fastem.em.stepwise import StepwiseState, after, finish
from fastem.estimators.callbacks import CallbackSupportMixin, watch, with_callbacks
from fastem.estimators.checkpoints import Checkpoint, NoCheckpoint
from fastem.estimators.fits import STEPWISE_CONSTRAINTS, minibatch_of
from fastem.estimators.mixture.inference import MixtureInference
from fastem.estimators.mixture.starts import check_start, covariances_shape
from fastem.estimators.mixture.training import RECORDS, MixtureFit
from fastem.estimators.persistence import Convertible
from fastem.estimators.rows import read_rows
from fastem.estimators.validation import features_kept_on_error
from fastem.exceptions import DegenerateComponentWarning, LikelihoodDecreaseWarning
from fastem.execution.blas import one_blas_thread
from fastem.execution.rows import ArrayRows
from fastem.families.gaussian import Regularization
from fastem.models.mixture import FAMILIES, MixtureModel


class GaussianMixture(
    CallbackSupportMixin, MixtureInference, Convertible, DensityMixin, BaseEstimator
):
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
    algorithm : {'batch', 'minibatch'}, default='batch'
        When parameters move: after each pass over the rows (EM), or after each batch
        of rows (stepwise EM), which comes near in a pass or two where rows are many
        and well mixed. ``max_iter`` and ``tol`` are then about passes, whose mean
        log-likelihood is that which batches met on the way.
    batch_size : int, default=1000
        Rows of a batch, about; the first takes 10 K D at least.
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
        "algorithm": [StrOptions({"batch", "minibatch"})],
        **STEPWISE_CONSTRAINTS,
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
        algorithm="batch",
        batch_size=1000,
        step_exponent=0.55,
        step_offset=1.0,
        average=True,
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
        self.algorithm = algorithm
        self.batch_size = batch_size
        self.step_exponent = step_exponent
        self.step_offset = step_offset
        self.average = average

    def fit(self, X, y=None, sample_weight=None, *, checkpoint=None):
        """Fit the mixture to rows.

        Parameters
        ----------
        X : array-like, source or Dask collection, of shape (N, D)
            float32 stays float32 in the kernels; all else becomes float64. See
            :func:`fastem.source` for what is read in blocks.
        y : Ignored
        sample_weight : array-like of shape (N,), default=None
            A row of weight 2 counts exactly as the row twice, one of weight 0 not.
        checkpoint : path, default=None
            A file to keep the fit in, after every iteration and now and then in long
            passes over blocks. If it is there already, the fit goes on from it, to the
            same bits as if never interrupted.

        Returns
        -------
        GaussianMixture
            The estimator itself.

        Raises
        ------
        ValueError
            For data that is not finite, two-dimensional and of at least K rows, for
            weights that are negative or all zero, for starts of a wrong shape, and for
            a checkpoint of another fit.
        """
        self._fit(X, sample_weight, checkpoint, y=y)
        return self

    def partial_fit(self, X, y=None, sample_weight=None):
        """Go on from a batch of rows of an unbounded stream.

        The first batch of all is what the mixture is seeded from, as ``fit`` would be,
        and should have 10 K D rows or more, since later ones do not mend a bad start;
        each further one is a step of stepwise EM. After ``fit`` or ``load`` the mixture
        goes on from there: what it was fitted to counts as the first batch.

        Parameters
        ----------
        X : array-like or source of shape (N, D)
            Of a source, blocks are cut into batches of about ``batch_size``.
        y : Ignored
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        GaussianMixture
            The estimator itself; ``n_iter_`` counts batches, and ``lower_bound_`` is
            what is remembered of the log-likelihoods that batches met.

        Raises
        ------
        ValueError
            As by ``fit``; the mixture is then what it was before.

        References
        ----------
        O. Cappé and E. Moulines, "On-line expectation-maximization algorithm for latent
        data models", *J. R. Statist. Soc. B* 71 (2009), 593-613.

        Examples
        --------
        >>> import numpy as np
        >>> from fastem import GaussianMixture
        >>> rng = np.random.default_rng(0)
        >>> mixture = GaussianMixture(n_components=2, random_state=0)
        >>> for _ in range(20):
        ...     rows = rng.normal(size=(500, 1)) + rng.choice([-5, 5], (500, 1))
        ...     mixture = mixture.partial_fit(rows)
        >>> np.sort(mixture.means_.ravel()).round(1)
        array([-5.,  5.])
        """
        self._validate_params()
        remembered = getattr(self, "_remembered", None)
        with one_blas_thread(), features_kept_on_error(self):
            first = remembered is None
            rows = read_rows(
                self, X, sample_weight, reset=first, batch_size=self.batch_size
            )
            model = self._model(rows.dtype)
            minibatch = self._minibatch(rows.n_features)
            if first:
                _check_enough_rows(rows, self.n_components)
                shape = self.n_components, rows.n_features
                given = self._given(shape)
                random_state = check_random_state(self.random_state)
                remembered = self._start(rows, given, model, random_state)
            else:
                self._check_goes_on(remembered)
            if isinstance(rows, ArrayRows):
                minibatch = minibatch._replace(size=rows.n_rows)
            found = rows.fold(
                partial(add_block, model, minibatch, False),
                PassStatistics(0.0, 0.0, remembered),
            )
        state = found.state
        params, repaired = finish(state, model.m_step, average=self.average)
        bound = state.statistics.log_likelihood / state.statistics.total_weight
        self._keep(
            begin(params, self.n_components)._replace(
                lower_bounds=np.array([bound]),
                repaired=np.broadcast_to(repaired, self.n_components),
                statistics=state,
            )
        )
        self.n_iter_ = state.n_steps
        return self

    def fit_predict(self, X, y=None, sample_weight=None):
        """Fit the mixture and return the likeliest component of each row, (N,)."""
        self._fit(X, sample_weight, y=y)
        return self.predict(X)

    # ------------------------------------------------------------------ inside

    @with_callbacks
    def _fit(self, X, sample_weight=None, checkpoint=None, monitor=None, y=None):
        """Fit and return the rows; ``monitor`` replaces printing."""
        self._validate_params()
        with one_blas_thread(), features_kept_on_error(self):
            rows = read_rows(
                self,
                X,
                sample_weight,
                reset=True,
                batch_size=self.batch_size if self.algorithm == "minibatch" else None,
                ensure_min_samples=2,
            )
            _check_enough_rows(rows, self.n_components)
            shape = self.n_components, rows.n_features
            given = self._given(shape)
            resume = self.warm_start and hasattr(self, "converged_")
            if resume and self.means_.shape != shape:
                raise ValueError(
                    f"warm_start goes on from means of shape {self.means_.shape}, but "
                    f"n_components and X ask for {shape}"
                )
            random_state = check_random_state(self.random_state)
            model = self._model(rows.dtype)

            def start():
                if resume:
                    return self._params(), self.lower_bound_
                return self._start(rows, given, model, random_state), -np.inf

            keeper = NoCheckpoint()
            if checkpoint is not None:
                data = {"X": rows.data, "sample_weight": sample_weight}
                keeper = Checkpoint(checkpoint, self, data, RECORDS)
            if monitor is None:
                monitor = make_monitor(self.verbose, self.verbose_interval)
            monitor = watch(
                self,
                monitor,
                {"X": X, "y": y, "sample_weight": sample_weight},
                name=f"GaussianMixture of {self.n_components} components",
                shape=(rows.n_rows, rows.n_features),
                max_iter=self.max_iter,
                keep=GaussianMixture._keep,
                measure="mean log-likelihood",
            )
            minibatch = None
            if self.algorithm == "minibatch":
                minibatch = self._minibatch(rows.n_features)
            fit = MixtureFit(
                model=model,
                rows=rows,
                start=start,
                minibatch=minibatch,
                max_iter=self.max_iter,
                tol=self.tol,
                monitor=monitor,
                keeper=keeper,
            )
            best = fit.run(1 if resume else self.n_init, random_state)
            # Only now some sources are known to have too few.
            _check_enough_rows(rows, self.n_components)
        self._keep(best)
        self._warn(best)
        return rows

    def _check_goes_on(self, remembered):
        """Refuse to go on from another kind of mixture."""
        params = getattr(remembered, "params", remembered).components
        (K, D), covariances = params.means.shape, params.covariances
        if K != self.n_components:
            raise ValueError(
                f"partial_fit goes on from {K} components, but n_components is "
                f"{self.n_components}"
            )
        if covariances.shape != covariances_shape(self.covariance_type, (K, D)):
            raise ValueError(
                f"partial_fit goes on from covariances of shape {covariances.shape}, "
                f"but covariance_type is {self.covariance_type!r}"
            )

    def _given(self, shape):
        return check_start(
            self.weights_init,
            self.means_init,
            self.precisions_init,
            self.covariance_type,
            shape,
        )

    def _model(self, dtype):
        regularization = Regularization(self.reg_covar, np.finfo(dtype).eps)
        return MixtureModel(self._family, regularization)

    def _minibatch(self, n_features):
        return minibatch_of(self, self.n_components * n_features, row_batches)

    def _start(self, rows, given, model, random_state):
        """Return where EM begins: what was given, the rest by ``init_params``."""
        if given.complete():
            return given.replace(None)
        X, sample_weight = rows.sample(self.n_components, random_state)
        _check_enough_rows(rows, self.n_components)
        params = initial_params(
            self._family,
            X,
            sample_weight,
            self.n_components,
            self.init_params,
            model.regularization,
            random_state,
        )
        return given.replace(params)

    def _keep(self, result):
        """Store the fitted attributes."""
        self.weights_ = result.params.weights
        self.means_, self.covariances_, factors = result.params.components
        self.precisions_cholesky_ = factors
        if self.covariance_type in ("full", "tied"):
            with one_blas_thread():
                self.precisions_ = factors @ np.swapaxes(factors, -1, -2)
        else:
            self.precisions_ = factors**2
        self.converged_ = result.converged
        self.n_iter_ = len(result.lower_bounds)
        self.lower_bound_ = result.lower_bound
        self.lower_bounds_ = result.lower_bounds.tolist()
        self.n_repairs_ = int(result.repaired.sum())
        self.n_decreases_ = result.n_decreases
        self._remembered = _remembered(result)

    def _warn(self, result):
        """Say once what a user should know of the fit that was kept."""
        if self.n_repairs_:
            components = ", ".join(map(str, np.flatnonzero(result.repaired)))
            warnings.warn(
                f"{self.n_repairs_} of {self.n_components} components collapsed or "
                f"emptied and were repaired (components {components}); use fewer "
                "components, a larger reg_covar or more starts.",
                DegenerateComponentWarning,
                stacklevel=5,
            )
        if self.n_decreases_:
            warnings.warn(
                f"The log-likelihood fell in {self.n_decreases_} of {self.n_iter_} "
                f"iterations. With reg_covar={self.reg_covar} or repaired components "
                "EM does not maximise the likelihood exactly; reg_covar is in squared "
                "units of the data.",
                LikelihoodDecreaseWarning,
                stacklevel=5,
            )
        if not self.converged_ and self.n_iter_ == self.max_iter > 0:
            warnings.warn(
                "Best performing initialization did not converge. Try different init "
                "parameters, or increase max_iter, tol, or check for degenerate data.",
                ConvergenceWarning,
                stacklevel=5,
            )


def _remembered(result):
    """Return what further batches are weighed against, or parameters to begin with."""
    found = result.statistics
    if found is None:
        return result.params
    if isinstance(found, StepwiseState):
        return found
    return after(result.params, found)


def _check_enough_rows(rows, n_components):
    if rows.n_rows is None:
        return
    weight = rows.weight
    n_rows = np.count_nonzero(weight) if weight.size else rows.n_rows
    if n_rows < n_components and weight.sum() < n_components:
        raise ValueError(
            f"Expected n_samples >= n_components but got n_components = "
            f"{n_components}, n_samples = {n_rows}"
        )
