"""Speed, memory and result of GaussianHMM."""

import logging

import numpy as np

import fastem

# States and steps.
SHORT = ((2, 100), (16, 10_000), (256, 1_000))
LONG = (
    *((2, 1_000_000), (2, 10_000_000), (4, 1_000_000), (4, 10_000_000)),
    *((16, 1_000_000), (64, 100_000), (256, 10_000)),
)
N_FEATURES = 2
N_ITER = 3
STAY = 0.9

# That short sequences say little of many states is no matter here.
logging.getLogger("fastem").setLevel(logging.ERROR)


def rows(n_states, n_steps):
    """Return rows of a chain that stays where it is most of the time, and its means."""
    rng = np.random.default_rng(0)
    means = 3 * rng.normal(size=(n_states, N_FEATURES))
    leaps = np.where(
        rng.random(n_steps) < STAY, 0, rng.integers(1, n_states, size=n_steps)
    )
    X = rng.normal(size=(n_steps, N_FEATURES))
    X += means[leaps.cumsum() % n_states]
    return X, means


def model(means):
    """Return a model with all parameters that does three iterations from them."""
    if not hasattr(fastem, "GaussianHMM"):
        raise NotImplementedError("a commit before hidden Markov models")
    n_states = len(means)
    made = fastem.GaussianHMM(n_states, n_iter=N_ITER, tol=-1e300, init_params="")
    made.startprob_ = np.full(n_states, 1 / n_states)
    made.transmat_ = np.full((n_states, n_states), (1 - STAY) / n_states)
    made.transmat_[np.diag_indices(n_states)] += STAY
    made.means_ = means + 0.3
    made.covars_ = np.ones_like(means)
    return made


def setup_cache():
    """Compile once a commit, so that each benchmark's process only loads."""
    X, means = rows(2, 1_000)
    try:
        load(model(means), X)
    except NotImplementedError:
        pass


setup_cache.timeout = 600


def load(made, X):
    """Compile or load the kernels."""
    made.fit(X).decode(X)
    made.predict_proba(X)


class Chains:
    param_names = ("states_and_steps",)
    timeout = 600

    def setup(self, size):
        self.X, self.means = rows(*size)
        self.model = model(self.means)
        load(model(self.means), self.X[:100])


class Short(Chains):
    params = (SHORT,)

    def time_three_iterations(self, size):
        model(self.means).fit(self.X)  # another one: it learns

    def time_decode(self, size):
        self.model.decode(self.X)

    def time_predict_proba(self, size):
        self.model.predict_proba(self.X)

    def time_score(self, size):
        self.model.score(self.X)


class Long(Short):
    params = (LONG,)


class Fitted(Chains):
    params = (SHORT,)

    def track_log_likelihood(self, size):
        return model(self.means).fit(self.X).score(self.X) / len(self.X)

    track_log_likelihood.unit = "nats per step"


class Memory(Chains):
    params = (((4, 1_000_000), (16, 200_000)),)

    def peakmem_three_iterations(self, size):
        model(self.means).fit(self.X)

    def peakmem_decode(self, size):
        self.model.decode(self.X)
