"""What a hidden Markov model says of its emissions."""

from typing import ClassVar

import numpy as np


class Emissions:
    """What a subclass of :class:`BaseHMM` overrides.

    Parameters stand in dictionaries by name until :meth:`_pack` makes them the
    family's.
    """

    _emission_letters: ClassVar = {}
    """Names of the parameters by their letters in ``params``."""

    _by_column = None
    """The parameter whose last axis runs over the columns of X."""

    _integers_become = None
    """The type that integers in memory are read as; None leaves them."""

    @property
    def _family(self):
        raise NotImplementedError

    def _count_features(self, X, given):
        """Return the number of features, D, or of symbols, F.

        What parameters say comes before what X says, which may be None.
        """
        if self._by_column in given:
            return np.atleast_2d(given[self._by_column]).shape[-1]
        return X.shape[1]

    def _n_columns(self, shapes):
        """Return the number of columns of X, by the shapes of the parameters."""
        return shapes[self._by_column][-1]

    def _check_values(self, X, shapes):
        """Raise a ValueError if X holds what the emissions do not know."""

    def _learn_from(self, X):
        """Return further attributes; raise a ValueError if X is not to be learned."""
        return {}

    def _emission_shapes(self, n_features):
        """Return the shapes of the parameters by name."""
        raise NotImplementedError

    def _n_emission_scalars(self, shapes):
        """Return the numbers of free parameters by letter."""
        raise NotImplementedError

    def _check_parameter(self, value, shape, name):
        """Return a parameter as an array; raise a ValueError if it is not valid."""
        raise NotImplementedError

    def _start(self, X, weight, given, shapes, random_state):
        """Return all parameters by name, drawn where they are not given."""
        raise NotImplementedError

    def _pack(self, values):
        """Return the family's parameters of parameters by name."""
        raise NotImplementedError

    def _unpack(self, emissions):
        """Return parameters by name."""
        raise NotImplementedError

    def _priors(self, shapes):
        """Return the priors, checked, in the form ``_maximize`` takes."""
        raise NotImplementedError

    def _maximize(self, statistics, emissions, learning):
        """Return new parameters, repaired components, whether priors dropped any."""
        raise NotImplementedError

    def _log_emission_prior(self, emissions, learning):
        raise NotImplementedError

    def _emit(self, emissions, states, random_state):
        """Return a row drawn in each of the states."""
        raise NotImplementedError
