"""Hidden Markov models with a Gaussian in each state."""

from numbers import Real
from typing import ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from fastem.em.hmm_seeding import cluster, sampled_rows, start_covariance
from fastem.estimators.hmm.base import BaseHMM
from fastem.estimators.hmm.covariances import (
    check_covariances,
    check_means,
    color,
    like,
    n_covariance_scalars,
)
from fastem.estimators.hmm.validation import broadcast_prior
from fastem.families.gaussian import GaussianParams
from fastem.families.gaussian_map import (
    GaussianPrior,
    log_prior,
    maximize,
    with_precisions,
)
from fastem.models.mixture import FAMILIES


class GaussianHMM(BaseHMM):
    """Hidden Markov model with a Gaussian in each state.

    A drop-in for :class:`hmmlearn.hmm.GaussianHMM` 0.3.3: the same constructor,
    methods, fitted attributes and defaults. Beyond it there are weights and known
    states (:meth:`fit`), hard training, several starts, entries held fixed, filtering,
    fixed-lag smoothing and streams.

    It differs from hmmlearn on purpose in this:

    - A scalar ``covars_prior`` is a multiple of the identity for 'full' and 'tied';
      hmmlearn adds it to the covariances between features, too.
    - ``min_covar`` bounds variances (for 'full' and 'tied', eigenvalues of the
      covariances) at every iteration, not only at the start, and yields to data of
      small scale.
    - A state that no row leans to keeps its parameters and its row of ``transmat_``.
    - 'spherical' starts from the mean variance, not from the mean of all covariances.
    - Fits stop by the log-likelihood plus log priors, and ``monitor_.status`` tells
      convergence from a fall and from the end of ``n_iter``.
    - Observations that no state allows are named, never NaN.
    - ``covars_`` of a fitted 'spherical' model has the shape (K, D, D), too.

    Parameters
    ----------
    n_components : int, default=1
        Number of states, K.
    covariance_type : {'spherical', 'diag', 'full', 'tied'}, default='diag'
        One variance for each state, variances, a matrix, or one matrix for all.
    min_covar : float, default=1e-3
        Smallest variance; for a feature whose variance over all rows is less than one,
        the smallest share of that.
    startprob_prior : float or array-like of shape (K,), default=1.0
    transmat_prior : float or array-like of shape (K, K), default=1.0
        Parameters of Dirichlet priors.
    means_prior : float or array-like of shape (K, D), default=0
    means_weight : float or array-like of shape (K,), default=0
        Means before the data are seen, and the number of rows they are worth.
    covars_prior : float or array-like, default=1e-2
        Scatter before the data are seen: for 'full' and 'tied' shaped as the
        covariances, (K, D) for the others. A number is a multiple of the identity.
    covars_weight : float or array-like of shape (K,), default=1
        Parameter of the inverse gamma or Wishart prior: less 1, for 'full' and 'tied'
        less D, it is the number of rows that scatter is worth, if that is positive.
    algorithm : {'viterbi', 'map'}, default='viterbi'
        What ``decode`` and ``predict`` do.
    random_state : int, RandomState instance or None, default=None
    n_iter : int, default=10
        Largest number of iterations; 0 keeps the start.
    tol : float, default=1e-2
        Fits stop when the objective rises by less.
    verbose : bool, default=False
        Print iterations to standard error.
    params : str, default='stmc'
        What is learned: startprob, transmat, means, covars.
    init_params : str, default='stmc'
        What is set at the start of a fit: startprob and transmat are drawn, means are
        those of k-means, covars that of all data. What is not named, and was set
        before, is kept.
    implementation : {'log', 'scaling'}, default='log'
        Without effect: there is one implementation, safe and fast.
    training : {'baum-welch', 'viterbi'}, default='baum-welch'
        'viterbi' takes the best paths for the truth at each iteration.
    n_init : int, default=1
        Number of starts, of which the best is kept.
    fixed : dict, default=None
        Masks by parameter ('startprob', 'transmat', 'means', 'covars'), each of a
        shape that broadcasts to it: true entries keep the value they start with.
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
    means_ : ndarray of shape (K, D)
    covars_ : ndarray of shape (K, D, D)
        To set it, (K,) if spherical, (K, D) if diag, (K, D, D) if full, (D, D) if tied.
    monitor_ : ConvergenceMonitor
        Log-likelihoods and why the fit stopped.
    n_repairs_ : int
        States that emptied or whose covariance collapsed at some iteration.
    n_features : int
    n_features_in_ : int
        D, twice.
    feature_names_in_ : ndarray of shape (D,)
        Where X had column names.

    References
    ----------
    L. R. Rabiner, "A tutorial on hidden Markov models", *Proc. IEEE* 77 (1989),
    257-286, section III and eqs. 52 to 54.

    J.-L. Gauvain and C.-H. Lee, "Maximum a posteriori estimation for multivariate
    Gaussian mixture observations of Markov chains", *IEEE Trans. Speech Audio Process.*
    2 (1994), 291-298.

    Examples
    --------
    >>> import numpy as np
    >>> from fastem import GaussianHMM
    >>> X = np.array([[0.1], [-0.2], [0.0], [5.1], [4.9], [5.2], [0.1], [0.0]])
    >>> model = GaussianHMM(n_components=2, random_state=0).fit(X)
    >>> print(model.means_[model.predict(X), 0].round() + 0)
    [0. 0. 0. 5. 5. 5. 0. 0.]
    """

    _parameter_constraints: ClassVar = {
        **BaseHMM._parameter_constraints,
        "covariance_type": [StrOptions(set(FAMILIES))],
        "min_covar": [Interval(Real, 0, None, closed="left")],
    }
    _emission_letters: ClassVar = {"m": "means", "c": "covars"}
    _by_column = "means"
    _integers_become = np.float64

    def __init__(
        self,
        n_components=1,
        covariance_type="diag",
        min_covar=1e-3,
        startprob_prior=1.0,
        transmat_prior=1.0,
        means_prior=0,
        means_weight=0,
        covars_prior=1e-2,
        covars_weight=1,
        algorithm="viterbi",
        random_state=None,
        n_iter=10,
        tol=1e-2,
        verbose=False,
        params="stmc",
        init_params="stmc",
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
        self.covariance_type = covariance_type
        self.min_covar = min_covar
        self.means_prior = means_prior
        self.means_weight = means_weight
        self.covars_prior = covars_prior
        self.covars_weight = covars_weight

    @property
    def covars_(self):
        """Covariances as matrices, (K, D, D)."""
        covars = self._covars_
        if self.covariance_type == "full":
            return covars
        if self.covariance_type == "tied":
            return np.tile(covars, (self.n_components, 1, 1))
        if self.covariance_type == "spherical":
            n_features = getattr(self, "n_features", None)
            if n_features is None:
                n_features = np.shape(self.means_)[1]
            covars = np.repeat(covars[:, None], n_features, axis=1)
        return covars[:, :, None] * np.eye(covars.shape[1])

    @covars_.setter
    def covars_(self, covars):
        self._covars_ = check_covariances(
            covars, self.covariance_type, (self.n_components,), "covars_"
        )

    # ------------------------------------------------------------------ inside

    @property
    def _family(self):
        return FAMILIES[self.covariance_type]

    def _has(self, name):
        return hasattr(self, "_covars_" if name == "covars" else f"{name}_")

    def _get(self, name):
        return self._covars_ if name == "covars" else super()._get(name)

    def _emission_shapes(self, n_features):
        n = self.n_components
        return {
            "means": (n, n_features),
            "covars": {
                "full": (n, n_features, n_features),
                "tied": (n_features, n_features),
                "diag": (n, n_features),
                "spherical": (n,),
            }[self.covariance_type],
        }

    def _n_emission_scalars(self, shapes):
        n, n_features = shapes["means"]
        n_covariances = 1 if self.covariance_type == "tied" else n
        scalars = n_covariance_scalars(self.covariance_type, n_features)
        return {"m": n * n_features, "c": n_covariances * scalars}

    def _check_parameter(self, value, shape, name):
        if name == "means_":
            return check_means(value, shape, name)
        n_features = shape[-1] if len(shape) > 1 else None
        return check_covariances(
            value, self.covariance_type, (self.n_components,), name, n_features
        )

    def _start(self, X, weight, given, shapes, random_state):
        start = dict(given)
        if "means" not in start:
            n = self.n_components
            rows, row_weight = sampled_rows(X, weight, n, random_state)
            start["means"] = cluster(rows, row_weight, n, random_state)[0]
        if "covars" not in start:
            covariance = start_covariance(X, weight, self.min_covar)
            start["covars"] = like(covariance, self.covariance_type, shapes["covars"])
        return start

    def _pack(self, values):
        kind, covars = self.covariance_type, values["covars"]
        params = with_precisions(kind, values["means"], _stacked(kind, covars))
        return _unstacked(kind, params)

    def _unpack(self, emissions):
        return {"means": emissions.means, "covars": emissions.covariances}

    def _priors(self, shapes):
        n, n_features = shapes["means"]
        kind = self.covariance_type
        means = broadcast_prior(self.means_prior, (n, n_features), "means_prior")
        means_weight = broadcast_prior(self.means_weight, (n,), "means_weight")
        weight = broadcast_prior(self.covars_weight, (n,), "covars_weight")
        scatter = self.covars_prior
        if kind in ("diag", "spherical"):
            scatter = broadcast_prior(scatter, (n, n_features), "covars_prior")
            mass = np.maximum(weight - 1, 0.0)
            if kind == "diag":
                mass = np.broadcast_to(mass[:, None], (n, n_features))
            else:
                scatter, mass = scatter.sum(axis=1), mass * n_features
        else:
            mass = np.maximum(weight - n_features, 0.0)
            if kind == "tied":
                mass = mass[:1]
            shape = (len(mass), n_features, n_features)
            if np.ndim(scatter) < 2:
                scatter = np.multiply.outer(scatter, np.eye(n_features))
            scatter = broadcast_prior(scatter, shape, "covars_prior")
        return GaussianPrior(means, means_weight, scatter, mass)

    def _maximize(self, statistics, emissions, learning):
        kind = self.covariance_type
        fixed = learning.fixed
        if kind == "tied":
            statistics = statistics._replace(second=statistics.second[None])
        params, repaired = maximize(
            kind,
            statistics,
            _stacked_params(kind, emissions),
            learning.emissions,
            (fixed["means"], _stacked(kind, fixed["covars"])),
            self.min_covar,
        )
        return _unstacked(kind, params), repaired, False

    def _log_emission_prior(self, emissions, learning):
        kind = self.covariance_type
        return log_prior(kind, _stacked_params(kind, emissions), learning.emissions)

    def _emit(self, emissions, states, random_state):
        noise = random_state.standard_normal((len(states), emissions.means.shape[1]))
        covariances = _stacked(self.covariance_type, emissions.covariances)
        which = np.zeros_like(states) if self.covariance_type == "tied" else states
        return emissions.means[states] + color(noise, covariances, which)


def _stacked(kind, covariances):
    """Return covariances with an axis for the one matrix that all states share."""
    return covariances[None] if kind == "tied" else covariances


def _stacked_params(kind, params):
    means, covariances, factors = params
    return GaussianParams(means, _stacked(kind, covariances), _stacked(kind, factors))


def _unstacked(kind, params):
    if kind != "tied":
        return params
    return GaussianParams(params.means, *(field[0] for field in params[1:]))
