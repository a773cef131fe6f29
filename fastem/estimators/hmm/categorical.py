"""Hidden Markov models whose states emit symbols."""

from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from fastem.estimators.hmm.base import BaseHMM
from fastem.estimators.hmm.probabilities import (
    check_probabilities,
    draw_columns,
    log_dirichlet,
    most_probable,
    random_rows,
)
from fastem.estimators.hmm.validation import broadcast_prior, check_counts
from fastem.families.categorical import CATEGORICAL, CategoricalParams
from fastem.families.gaussian import EMPTY_SHARE


class EmittingCounts(BaseHMM):
    """What models of symbols and of counts of symbols share: ``emissionprob_``."""

    _emission_letters: ClassVar = {"e": "emissionprob"}
    _by_column = "emissionprob"
    _Params = CategoricalParams

    def _emission_shapes(self, n_features):
        return {"emissionprob": (self.n_components, n_features)}

    def _n_emission_scalars(self, shapes):
        n, n_features = shapes["emissionprob"]
        return {"e": n * (n_features - 1)}

    def _check_parameter(self, value, shape, name):
        return check_probabilities(np.atleast_2d(value), shape, name)

    def _start(self, X, weight, given, shapes, random_state):
        if "emissionprob" in given:
            return given
        return {"emissionprob": random_rows(shapes["emissionprob"], random_state)}

    def _pack(self, values):
        return self._Params(values["emissionprob"])

    def _unpack(self, emissions):
        return {"emissionprob": emissions.emissionprob}

    def _priors(self, shapes):
        prior = getattr(self, "emissionprob_prior", 1.0)
        return broadcast_prior(prior, shapes["emissionprob"], "emissionprob_prior")

    def _maximize(self, statistics, emissions, learning):
        """Rabiner (1989), eq. 40c, with priors; an empty state keeps its row."""
        empty = statistics.weight <= EMPTY_SHARE * statistics.total_weight
        old = emissions.emissionprob
        new, dropped = most_probable(
            statistics.counts, learning.emissions, old, learning.fixed["emissionprob"]
        )
        new = np.where(empty[:, None], old, new)
        return self._Params(new), empty, dropped

    def _log_emission_prior(self, emissions, learning):
        return log_dirichlet(emissions.emissionprob, learning.emissions)


class CategoricalHMM(EmittingCounts):
    """Hidden Markov model whose states emit symbols, integers from 0 to F - 1.

    A drop-in for :class:`hmmlearn.hmm.CategoricalHMM` 0.3.3: the same constructor,
    methods, fitted attributes and defaults. Beyond it there are weights and known
    states (:meth:`fit`), hard training, several starts, entries held fixed, filtering,
    fixed-lag smoothing and streams.

    It differs from hmmlearn on purpose in this:

    - X has one column; hmmlearn chains the columns of wider ones, with a warning.
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
    emissionprob_prior : float or array-like of shape (K, F), default=1.0
        Parameters of Dirichlet priors.
    n_features : int, default=None
        Number of symbols, F; without, one more than the largest in X.
    algorithm : {'viterbi', 'map'}, default='viterbi'
        What ``decode`` and ``predict`` do.
    random_state : int, RandomState instance or None, default=None
    n_iter : int, default=10
        Largest number of iterations; 0 keeps the start.
    tol : float, default=1e-2
        Fits stop when the objective rises by less.
    verbose : bool, default=False
        Print iterations to standard error.
    params : str, default='ste'
        What is learned: startprob, transmat, emissionprob.
    init_params : str, default='ste'
        What is drawn at the start of a fit. What is not named, and was set before, is
        kept.
    implementation : {'log', 'scaling'}, default='log'
        Without effect: there is one implementation, safe and fast.
    training : {'baum-welch', 'viterbi'}, default='baum-welch'
        'viterbi' takes the best paths for the truth at each iteration.
    n_init : int, default=1
        Number of starts, of which the best is kept.
    fixed : dict, default=None
        Masks by parameter ('startprob', 'transmat', 'emissionprob'), each of a shape
        that broadcasts to it: true entries keep the value they start with.
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
    emissionprob_ : ndarray of shape (K, F)
    monitor_ : ConvergenceMonitor
        Log-likelihoods and why the fit stopped.
    n_repairs_ : int
        States that emptied at some iteration.
    n_features : int
        F, also where it was not given.
    n_features_in_ : int
        1, the number of columns of X.

    References
    ----------
    L. R. Rabiner, "A tutorial on hidden Markov models", *Proc. IEEE* 77 (1989),
    257-286, section III.

    Examples
    --------
    >>> import numpy as np
    >>> from fastem import CategoricalHMM
    >>> model = CategoricalHMM(n_components=2)
    >>> model.startprob_ = [0.6, 0.4]
    >>> model.transmat_ = [[0.7, 0.3], [0.4, 0.6]]
    >>> model.emissionprob_ = [[0.1, 0.4, 0.5], [0.6, 0.3, 0.1]]
    >>> log_probability, states = model.decode([[0], [1], [2]])
    >>> print(np.exp(log_probability).round(5), states)
    0.01344 [1 0 0]
    """

    _parameter_constraints: ClassVar = {
        **BaseHMM._parameter_constraints,
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        n_components=1,
        startprob_prior=1.0,
        transmat_prior=1.0,
        *,
        emissionprob_prior=1.0,
        n_features=None,
        algorithm="viterbi",
        random_state=None,
        n_iter=10,
        tol=1e-2,
        verbose=False,
        params="ste",
        init_params="ste",
        implementation="log",
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
        self.emissionprob_prior = emissionprob_prior
        self.n_features = n_features

    # ------------------------------------------------------------------ inside

    @property
    def _family(self):
        return CATEGORICAL

    def _count_features(self, X, given):
        if self.n_features is not None:
            return int(self.n_features)
        if "emissionprob" in given:
            return super()._count_features(X, given)
        check_counts(X, whole_floats=False, what="symbols")
        return int(X.max()) + 1

    def _n_columns(self, shapes):
        return 1

    def _check_values(self, X, shapes):
        largest = shapes["emissionprob"][1] - 1
        check_counts(X, largest=largest, whole_floats=False, what="symbols")

    def _emit(self, emissions, states, random_state):
        return draw_columns(emissions.emissionprob, states, random_state)[:, None]
