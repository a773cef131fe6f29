"""Hidden Markov models whose states emit counts of events."""

from typing import ClassVar

import numpy as np

from fastem.em.kmeans import weighted_moments
from fastem.estimators.hmm.base import BaseHMM
from fastem.estimators.hmm.validation import broadcast_prior, check_counts
from fastem.families.gaussian import EMPTY_SHARE
from fastem.families.poisson import POISSON, PoissonParams

# No rate is drawn so small, against the mean of the data, that a count is impossible.
SMALLEST_DRAW = 1e-10


class PoissonHMM(BaseHMM):
    """Hidden Markov model whose states emit Poisson distributed counts.

    A drop-in for :class:`hmmlearn.hmm.PoissonHMM` 0.3.3: the same constructor,
    methods, fitted attributes and defaults. Beyond it there are weights and known
    states (:meth:`fit`), hard training, several starts, entries held fixed, filtering,
    fixed-lag smoothing and streams.

    As in hmmlearn, the prior of each state is weighed against the rows of all states
    together; with it, an iteration may lower the likelihood. It differs from hmmlearn
    on purpose in this:

    - X holds whole numbers that are not negative; anything else is refused.
    - A state that no row leans to keeps its parameters and its row of ``transmat_``.
    - Fits stop by the log-likelihood plus log priors, and ``monitor_.status`` tells
      convergence from a fall and from the end of ``n_iter``.
    - Observations that no state allows are named, never NaN.

    Parameters
    ----------
    n_components : int, default=1
        Number of states, K.
    startprob_prior : float or array-like of shape (K,), default=1.0
    transmat_prior : float or array-like of shape (K, K), default=1.0
        Parameters of Dirichlet priors.
    lambdas_prior, lambdas_weight : float or array-like of shape (K, D), default=0.0
        Parameters of gamma priors: a sum of counts, and the number of rows it is from.
    algorithm : {'viterbi', 'map'}, default='viterbi'
        What ``decode`` and ``predict`` do.
    random_state : int, RandomState instance or None, default=None
    n_iter : int, default=10
        Largest number of iterations; 0 keeps the start.
    tol : float, default=1e-2
        Fits stop when the objective rises by less.
    verbose : bool, default=False
        Print iterations to standard error.
    params : str, default='stl'
        What is learned: startprob, transmat, lambdas.
    init_params : str, default='stl'
        What is drawn at the start of a fit: lambdas from a gamma distribution of the
        data's mean and variance. What is not named, and was set before, is kept.
    implementation : {'log', 'scaling'}, default='log'
        Without effect: there is one implementation, safe and fast.
    training : {'baum-welch', 'viterbi'}, default='baum-welch'
        'viterbi' takes the best paths for the truth at each iteration.
    n_init : int, default=1
        Number of starts, of which the best is kept.
    fixed : dict, default=None
        Masks by parameter ('startprob', 'transmat', 'lambdas'), each of a shape that
        broadcasts to it: true entries keep the value they start with.
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
    lambdas_ : ndarray of shape (K, D)
    monitor_ : ConvergenceMonitor
        Log-likelihoods and why the fit stopped.
    n_repairs_ : int
        States that emptied at some iteration.
    n_features : int
    n_features_in_ : int
        D, twice.
    feature_names_in_ : ndarray of shape (D,)
        Where X had column names.

    References
    ----------
    L. R. Rabiner, "A tutorial on hidden Markov models", *Proc. IEEE* 77 (1989),
    257-286, section III.

    W. Zucchini, I. L. MacDonald and R. Langrock, *Hidden Markov Models for Time
    Series*, 2nd ed. (2016), section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastem import PoissonHMM
    >>> X = np.array([[1], [0], [1], [2], [19], [21], [20], [1], [1]])
    >>> model = PoissonHMM(n_components=2, random_state=0).fit(X)
    >>> model.lambdas_[model.predict(X)].round(1).ravel()
    array([ 1.,  1.,  1.,  1., 20., 20., 20.,  1.,  1.])
    """

    _emission_letters: ClassVar = {"l": "lambdas"}
    _by_column = "lambdas"

    _parameter_constraints: ClassVar = BaseHMM._parameter_constraints

    def __init__(
        self,
        n_components=1,
        startprob_prior=1.0,
        transmat_prior=1.0,
        lambdas_prior=0.0,
        lambdas_weight=0.0,
        algorithm="viterbi",
        random_state=None,
        n_iter=10,
        tol=1e-2,
        verbose=False,
        params="stl",
        init_params="stl",
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
        self.lambdas_prior = lambdas_prior
        self.lambdas_weight = lambdas_weight

    # ------------------------------------------------------------------ inside

    @property
    def _family(self):
        return POISSON

    def _check_values(self, X, shapes):
        check_counts(X)

    def _emission_shapes(self, n_features):
        return {"lambdas": (self.n_components, n_features)}

    def _n_emission_scalars(self, shapes):
        return {"l": int(np.prod(shapes["lambdas"]))}

    def _check_parameter(self, value, shape, name):
        value = np.array(np.atleast_2d(value), np.float64, order="C")
        if value.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, but got {value.shape}")
        bad = np.argwhere(~((value >= 0) & np.isfinite(value)))
        if bad.size:
            where = tuple(bad[0].tolist())
            raise ValueError(
                f"{name} must be finite and not negative, but that at {where} is "
                f"{value[where]}"
            )
        return value

    def _start(self, X, weight, given, shapes, random_state):
        """Return rates drawn by the moments of all counts together."""
        if "lambdas" in given:
            return given
        shape = shapes["lambdas"]
        means, variances = weighted_moments(X, weight)
        mean = means.mean()
        variance = variances.mean() + means.var()
        if mean == 0 or variance == 0:
            return {"lambdas": np.full(shape, mean)}
        drawn = random_state.gamma(mean**2 / variance, variance / mean, shape)
        return {"lambdas": np.maximum(drawn, SMALLEST_DRAW * mean)}

    def _pack(self, values):
        return PoissonParams(values["lambdas"])

    def _unpack(self, emissions):
        return {"lambdas": emissions.rates}

    def _priors(self, shapes):
        shape = shapes["lambdas"]
        return (
            broadcast_prior(self.lambdas_prior, shape, "lambdas_prior"),
            broadcast_prior(self.lambdas_weight, shape, "lambdas_weight"),
        )

    def _maximize(self, statistics, emissions, learning):
        alpha, beta = learning.emissions
        weight = statistics.weight
        empty = weight <= EMPTY_SHARE * statistics.total_weight
        means = statistics.sums / np.where(empty, 1.0, weight)[:, None]
        n = weight.sum()
        rates = (alpha + n * means) / np.where(beta + n > 0, beta + n, 1.0)
        keep = learning.fixed["lambdas"] | empty[:, None]
        # With priors no objective is common to all iterations.
        falling = bool(np.any(alpha != 0) or np.any(beta != 0))
        return PoissonParams(np.where(keep, emissions.rates, rates)), empty, falling

    def _log_emission_prior(self, emissions, learning):
        """Return what the priors weigh where all states have as many rows."""
        alpha, beta = learning.emissions
        rates = emissions.rates
        logs = np.log(np.where(rates > 0, rates, 1.0))
        return float((alpha * logs - beta * rates).sum()) / len(rates)

    def _emit(self, emissions, states, random_state):
        return random_state.poisson(emissions.rates[states])
