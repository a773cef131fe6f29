"""Hidden Markov models whose states emit counts of symbols."""

from typing import ClassVar

import numpy as np

from fastem.estimators.hmm.base import BaseHMM
from fastem.estimators.hmm.categorical import EmittingCounts
from fastem.estimators.hmm.validation import check_counts
from fastem.families.multinomial import MULTINOMIAL, MultinomialParams


class MultinomialHMM(EmittingCounts):
    """Hidden Markov model whose states emit how often each of F symbols came up.

    A drop-in for :class:`hmmlearn.hmm.MultinomialHMM` 0.3.3: the same constructor,
    methods, fitted attributes and defaults. Beyond it there are weights and known
    states (:meth:`fit`), hard training, several starts, entries held fixed, filtering,
    fixed-lag smoothing and streams.

    It differs from hmmlearn on purpose in this:

    - ``n_trials`` stays what was given, and only sampling needs it.
    - Nothing is logged when a model is made.
    - A state that no row leans to keeps its parameters and its row of ``transmat_``.
    - Fits stop by the log-likelihood plus log priors, and ``monitor_.status`` tells
      convergence from a fall and from the end of ``n_iter``.
    - Observations that no state allows are named, never NaN.

    Parameters
    ----------
    n_components : int, default=1
        Number of states, K.
    n_trials : int or array-like of shape (N,) of int, default=None
        What rows of X sum to; ``fit`` checks it. Without, any sums will do.
    startprob_prior : float or array-like of shape (K,), default=1.0
    transmat_prior : float or array-like of shape (K, K), default=1.0
        Parameters of Dirichlet priors.
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
    n_trials_ : int or None
        What all rows of X summed to, if that was one number.
    monitor_ : ConvergenceMonitor
        Log-likelihoods and why the fit stopped.
    n_repairs_ : int
        States that emptied at some iteration.
    n_features : int
    n_features_in_ : int
        F, twice.
    feature_names_in_ : ndarray of shape (F,)
        Where X had column names.

    References
    ----------
    L. R. Rabiner, "A tutorial on hidden Markov models", *Proc. IEEE* 77 (1989),
    257-286, section III.

    C. M. Bishop, *Pattern Recognition and Machine Learning* (2006), eq. 2.34.

    Examples
    --------
    >>> import numpy as np
    >>> from fastem import MultinomialHMM
    >>> X = np.array([[5, 1, 0], [4, 2, 0], [6, 0, 0], [0, 1, 5], [1, 0, 5]])
    >>> model = MultinomialHMM(n_components=2, n_trials=6, random_state=0).fit(X)
    >>> states = model.predict(X)
    >>> model.emissionprob_[states[[0, -1]]].round(2)
    array([[0.83, 0.17, 0.  ],
           [0.08, 0.08, 0.83]])
    """

    _Params = MultinomialParams

    _parameter_constraints: ClassVar = BaseHMM._parameter_constraints

    def __init__(
        self,
        n_components=1,
        n_trials=None,
        startprob_prior=1.0,
        transmat_prior=1.0,
        algorithm="viterbi",
        random_state=None,
        n_iter=10,
        tol=1e-2,
        verbose=False,
        params="ste",
        init_params="ste",
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
        self.n_trials = n_trials

    # ------------------------------------------------------------------ inside

    @property
    def _family(self):
        return MULTINOMIAL

    def _check_values(self, X, shapes):
        check_counts(X)

    def _learn_from(self, X):
        totals = X.sum(axis=1, dtype=np.int64)
        if self.n_trials is not None:
            wanted = np.asarray(self.n_trials)
            if wanted.ndim and wanted.shape != totals.shape:
                raise ValueError(
                    f"n_trials has the shape {wanted.shape}, but X has {len(X)} rows"
                )
            bad = np.flatnonzero(totals != wanted)
            if bad.size:
                row = bad[0]
                raise ValueError(
                    f"Rows of X should sum to n_trials, but row {row} sums to "
                    f"{totals[row]}, not {np.broadcast_to(wanted, totals.shape)[row]}."
                )
        same = (totals == totals[0]).all()
        return {"n_trials_": int(totals[0]) if same else None}

    def _emit(self, emissions, states, random_state):
        given = getattr(self, "n_trials_", None)
        given = self.n_trials if self.n_trials is not None else given
        n_trials = np.unique([] if given is None else given)
        if n_trials.size != 1:
            raise ValueError(
                "Sampling needs one n_trials for all rows, but n_trials is "
                f"{self.n_trials!r}."
            )
        emissionprob = emissions.emissionprob
        X = np.empty((len(states), emissionprob.shape[1]), np.int64)
        for k, row in enumerate(emissionprob):
            rows = np.flatnonzero(states == k)
            # Draws are made of row sums that rounding does not take beyond one.
            X[rows] = random_state.multinomial(n_trials[0], row / row.sum(), rows.size)
        return X
