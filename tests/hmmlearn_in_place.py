"""A pytest plugin: hmmlearn's own tests, run on fastem's classes.

`pytest -p tests.hmmlearn_in_place --pyargs hmmlearn.tests` puts fastem's classes into
`hmmlearn.hmm` before the test modules import it. Where those tests call a private
method of hmmlearn whose work some public one does too, it is spelt out here in terms
of that; what has no public counterpart is listed in `LEFT_OUT`, with its reason, and
not run.
"""

import fnmatch
import logging

import hmmlearn.base
import hmmlearn.hmm
import numpy as np
import pytest

import fastem

CLASSES = ("GaussianHMM", "GMMHMM", "CategoricalHMM", "MultinomialHMM", "PoissonHMM")

# Patterns of test ids from the file's name on, and why these tests are not run.
LEFT_OUT = {
    "test_base.py::TestBase*": (
        "hmmlearn's compiled passes, and a model derived from its private base class"
    ),
    "test_base.py::test_base_hmm_attributes": "derives from its private base class",
    "test_base.py::test_stationary_distribution": "derives from its private base class",
    "test_utils.py::*": "hmmlearn's own helpers, none of which fastem has",
    "test_kl_divergence.py::*": "hmmlearn's private module for variational models",
    "test_variational_categorical.py::*": "variational models, which fastem has not",
    "test_variational_gaussian.py::*": "variational models, which fastem has not",
    "test_gmm_hmm.py::*": (
        "marked to fail by hmmlearn: of an interface, `gmms_`, that it dropped"
    ),
    "test_categorical_hmm.py::*::test__check_and_set_categorical_n_features*": (
        "calls the private method in its name"
    ),
    "test_multinomial_hmm.py::*::test__check_and_set_multinomial_n_features*": (
        "calls the private method in its name"
    ),
    "test_gaussian_hmm.py::*::test_covar_is_writeable*": (
        "asks whether a private array can be written to"
    ),
    "test_gaussian_hmm.py::*::test_underflow_from_scaling?scaling?": (
        "wants a ValueError where scaled probabilities underflow; in fastem they do not"
    ),
}


def compact(covars, covariance_type):
    """Covariances as they are set, from the matrices as which they read."""
    if covariance_type == "tied":
        return covars[0]
    if covariance_type == "full":
        return covars
    diagonal = np.array(np.diagonal(covars, axis1=1, axis2=2))
    return diagonal if covariance_type == "diag" else diagonal[:, 0]


class Private:
    """What hmmlearn's tests call by private names."""

    def _init(self, X, lengths=None):
        """A fit of no iterations."""
        n_iter, self.n_iter = self.n_iter, 0
        try:
            self.fit(X, lengths if np.ndim(lengths) else None)
        finally:
            self.n_iter = n_iter

    def _check(self):
        """Sampling needs all parameters and no data."""
        self.sample(1, random_state=0)

    def __getattr__(self, name):
        # Where `covars_` is itself read from `_covars_`, the class has its own.
        if name != "_covars_" or vars(self).get("_asked_for_covars"):
            raise AttributeError(name)
        vars(self)["_asked_for_covars"] = True
        try:
            return compact(self.covars_, self.covariance_type)
        finally:
            del vars(self)["_asked_for_covars"]


def in_place(name):
    """fastem's class of this name, with the private names that it has not itself."""
    theirs = getattr(fastem, name)
    missing = {
        key: value
        for key, value in vars(Private).items()
        if not key.startswith("__") and not hasattr(theirs, key)
    }
    if not hasattr(theirs, "__getattr__"):
        missing["__getattr__"] = Private.__getattr__
    return type(name, (theirs,), missing)


def pytest_configure():
    for name in CLASSES:
        setattr(hmmlearn.hmm, name, in_place(name))
    monitor = fastem.GaussianHMM().monitor_
    hmmlearn.base.ConvergenceMonitor = type(monitor)


def pytest_collection_modifyitems(config, items):
    left_out, unused = [], set(LEFT_OUT)
    for item in list(items):
        name = item.nodeid.replace("\\", "/").rpartition("tests/")[2]
        # Brackets of parameters are no patterns.
        name = name.replace("[", "?").replace("]", "?")
        patterns = [p for p in LEFT_OUT if fnmatch.fnmatchcase(name, p)]
        unused.difference_update(patterns)
        if patterns:
            items.remove(item)
            left_out.append(item)
    if unused:
        raise pytest.UsageError(f"no test of hmmlearn's is named {sorted(unused)}")
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def warnings_are_logged():
    """hmmlearn logs what fastem warns of, and its tests look into the log."""
    logging.captureWarnings(True)
    yield
    logging.captureWarnings(False)
