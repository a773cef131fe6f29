"""What a hidden Markov model is: its parameters by name, as users set them."""

import logging

import numpy as np
from sklearn.utils.validation import check_is_fitted

from fastem.estimators.hmm.probabilities import check_probabilities
from fastem.models.hmm import HMMParams

# What hmmlearn logs is logged here, too; warnings are for what a fit came to.
_log = logging.getLogger(__name__)

CHAIN_LETTERS = {"s": "startprob", "t": "transmat"}


class Parameters:
    """Parameters of a model, by names without the underscore that attributes end in."""

    def _check_letters(self):
        """Return the names of parameters by letter; refuse letters of none."""
        self._validate_params()
        letters = self._letters()
        for name in ("params", "init_params"):
            unknown = sorted(set(getattr(self, name)) - set(letters))
            if unknown:
                raise ValueError(
                    f"{name} names {', '.join(map(repr, unknown))}, but what can be "
                    f"learned is {', '.join(map(repr, letters))}"
                )
        return letters

    def _letters(self):
        return {**CHAIN_LETTERS, **self._emission_letters}

    def _given(self, letters):
        """Return the parameters that are set and that ``init_params`` leaves alone."""
        given = {}
        for letter, name in letters.items():
            attribute = f"{name}_"
            if not self._has(name):
                continue
            if letter not in self.init_params:
                given[name] = self._get(name)
                continue
            _log.warning(
                "%s is set, but will be overwritten by fit, since init_params contains "
                "%r.",
                attribute,
                letter,
            )
        return given

    def _read_params(self):
        """Return the parameters, checked, and their shapes by name.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If some are missing.
        ValueError
            If some are not valid; they are named.
        """
        self._validate_params()
        names = self._letters().values()
        check_is_fitted(self, [f"{name}_" for name in names])
        given = {name: self._get(name) for name in names}
        shapes = self._shapes(self._count_features(None, given))
        values = self._check_parameters(given, shapes)
        return self._to_params(values), shapes

    def _read_chain(self):
        """Return the parameters of the chain alone, checked."""
        check_is_fitted(self, "transmat_")
        n = self.n_components
        start = getattr(self, "startprob_", np.full(n, 1 / n))
        return (
            check_probabilities(start, (n,), "startprob_"),
            check_probabilities(self.transmat_, (n, n), "transmat_"),
        )

    def _check_parameters(self, given, shapes):
        checked = {}
        for name, value in given.items():
            check = (
                check_probabilities
                if name in CHAIN_LETTERS.values()
                else self._check_parameter
            )
            checked[name] = check(value, shapes[name], f"{name}_")
        return checked

    def _shapes(self, n_features):
        n = self.n_components
        emissions = self._emission_shapes(n_features)
        return {"startprob": (n,), "transmat": (n, n), **emissions}

    def _n_scalars(self, shapes=None):
        """Return the number of free parameters by letter, as hmmlearn counts them."""
        if shapes is None:
            given = {name: self._get(name) for name in self._letters().values()}
            shapes = self._shapes(self._count_features(None, given))
        n = self.n_components
        return {"s": n - 1, "t": n * (n - 1), **self._n_emission_scalars(shapes)}

    def _has(self, name):
        return hasattr(self, f"{name}_")

    def _get(self, name):
        """Return a parameter as it is set."""
        return getattr(self, f"{name}_")

    def _to_params(self, values):
        return HMMParams(values["startprob"], values["transmat"], self._pack(values))

    def _unpacked(self, params):
        """Return parameters by name."""
        return {
            "startprob": params.startprob,
            "transmat": params.transmat,
            **self._unpack(params.emissions),
        }
