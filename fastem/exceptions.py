"""Warnings that fastem gives."""

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "CacheWarning",
    "DegenerateComponentWarning",
    "ImpossibleObservationWarning",
    "LikelihoodDecreaseWarning",
]


class CacheWarning(RuntimeWarning):
    """Compiled kernels cannot be kept on disk; each process compiles them anew."""


class DegenerateComponentWarning(UserWarning):
    """A component collapsed or emptied during a fit and was repaired."""


class ImpossibleObservationWarning(UserWarning):
    """No state of a hidden Markov model allows what was observed at some step."""


class LikelihoodDecreaseWarning(ConvergenceWarning):
    """The log-likelihood fell between two iterations by more than rounding explains."""
