"""Estimators that outlive their process: files of arrays and JSON, scikit-learn's own.

Files hold no pickle, so loading one runs no code of its making. ``pickle`` and
``joblib`` work on all estimators, too; so does ``skops``, once the types are trusted
that its ``get_untrusted_types`` lists: the estimator's own, :data:`NAMED_TUPLES` of
those that go on by ``partial_fit``, and, with hidden Markov models,
:class:`~fastem.estimators.hmm.monitor.ConvergenceMonitor`.
"""

import copy
import warnings

import numpy as np
import sklearn.cluster
import sklearn.mixture
from sklearn.utils.validation import check_is_fitted

import fastem
from fastem.checkpoint import decode, encode, read_archive, write_archive
from fastem.em.stepwise import StepwiseState
from fastem.estimators.callbacks import of_the_model
from fastem.estimators.hmm.monitor import ConvergenceMonitor
from fastem.families.categorical import CategoricalParams, CategoricalStatistics
from fastem.families.gaussian import GaussianParams, GaussianStatistics
from fastem.families.gaussian_mixture import GMMParams, GMMStatistics
from fastem.families.multinomial import MultinomialParams, MultinomialStatistics
from fastem.families.poisson import PoissonParams, PoissonStatistics
from fastem.models.hmm import HMMParams, HMMStatistics
from fastem.models.mixture import MixtureParams

KIND = "model"

# The only classes that files can name.
ESTIMATORS = (
    "CategoricalHMM",
    "GMMHMM",
    "GaussianHMM",
    "GaussianMixture",
    "KMeans",
    "MultinomialHMM",
    "PoissonHMM",
)
NAMED_TUPLES = (
    CategoricalStatistics,
    GMMStatistics,
    GaussianStatistics,
    HMMStatistics,
    MultinomialStatistics,
    PoissonStatistics,
    CategoricalParams,
    GMMParams,
    GaussianParams,
    HMMParams,
    MixtureParams,
    MultinomialParams,
    PoissonParams,
    StepwiseState,
)

_MAIN_ARRAYS = {"GaussianMixture": "means_", "KMeans": "cluster_centers_"}

# Fitted attributes of scikit-learn's two.
_SHARED = {
    "cluster_centers_",
    "converged_",
    "covariances_",
    "feature_names_in_",
    "inertia_",
    "labels_",
    "lower_bound_",
    "lower_bounds_",
    "means_",
    "n_features_in_",
    "n_iter_",
    "precisions_",
    "precisions_cholesky_",
    "weights_",
}


class Saveable:
    """What all estimators share: a file of their own."""

    def save(self, path):
        """Write the model to a file, fitted or not.

        The file holds arrays and JSON, no pickle, and is there whole or not at all.
        ``numpy.load`` opens its arrays. A ``monitor_`` of one's own making is saved as
        a :class:`~fastem.estimators.hmm.monitor.ConvergenceMonitor` with its record;
        callbacks are not saved.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        OSError
            If the file cannot be written; an older one stays as it was.
        ValueError
            For what such a file cannot keep: parameters that are functions, and
            estimators of one's own making.
        """
        save(self, path)


class Convertible(Saveable):
    """What estimators share that scikit-learn has, too."""

    def to_sklearn(self):
        """Return scikit-learn's estimator of the same name, fitted to the same.

        It answers without fastem, for instance in a web service, and is what skl2onnx
        turns into ONNX.

        Returns
        -------
        sklearn.mixture.GaussianMixture or sklearn.cluster.KMeans
            With copies of the parameters that both know and of the fitted attributes.

        Raises
        ------
        sklearn.exceptions.NotFittedError
        """
        return to_sklearn(self)


def save(model, path):
    """Write an estimator of fastem to a file; see :meth:`Saveable.save`."""
    name = type(model).__name__
    if name not in ESTIMATORS or type(model) is not getattr(fastem, name):
        raise ValueError(
            f"{name} is no estimator of fastem itself, and only those can be saved; "
            "use joblib.dump."
        )
    _check_shapes(model)
    parameters = model.get_params(deep=False)
    attributes = {
        k: v for k, v in of_the_model(vars(model)).items() if k not in parameters
    }
    if "monitor_" in attributes:
        attributes["monitor_"] = _record(model)
    arrays = {}
    try:
        meta = {
            "class": name,
            "parameters": {
                key: encode(value, key, arrays) for key, value in parameters.items()
            },
            "attributes": {
                key: encode(value, key, arrays) for key, value in attributes.items()
            },
        }
    except ValueError as error:
        raise ValueError(
            f"This {name} cannot be saved: {error}. Replace it (set_params), or use "
            "joblib.dump."
        ) from error
    write_archive(path, KIND, arrays, meta)


def load(path):
    """Return the estimator that ``save`` wrote.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    GaussianMixture, KMeans or hidden Markov model
        Equal in all parameters and attributes, to the last bit.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no model, is damaged or was cut short, or if a newer fastem
        wrote it that knows more.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastem
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> mixture = fastem.GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "mixture.npz")
    ...     mixture.save(path)
    ...     loaded = fastem.load(path)
    >>> loaded
    GaussianMixture(n_components=2, random_state=0)
    >>> bool((loaded.score_samples(X) == mixture.score_samples(X)).all())
    True
    """
    arrays, meta = read_archive(path, KIND)
    try:
        return _restore(meta, arrays)
    except KeyError as error:
        raise ValueError(f"{path} holds half a model: it lacks {error}.") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no model to load: {error}.") from error


def to_sklearn(model):
    """Return scikit-learn's twin of a model; see :meth:`Convertible.to_sklearn`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastem import KMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> kmeans = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> twin = kmeans.to_sklearn()
    >>> type(twin).__module__.partition(".")[0]
    'sklearn'
    >>> bool((twin.predict(X) == kmeans.predict(X)).all())
    True
    """
    check_is_fitted(model)
    if isinstance(model, fastem.KMeans):
        twin = _fitted_kmeans(model.cluster_centers_)
    else:
        twin = sklearn.mixture.GaussianMixture()
    shared = twin.get_params()
    parameters = model.get_params()
    twin.set_params(**{k: v for k, v in parameters.items() if k in shared})
    for name in _SHARED:
        vars(twin).pop(name, None)
        if name in vars(model):
            setattr(twin, name, copy.deepcopy(vars(model)[name]))
    return twin


def _restore(meta, arrays):
    """Return the model that a file's JSON and arrays are of."""
    name = meta["class"]
    unknown = f"which this fastem, {fastem.__version__}, does not know; use a newer one"
    if name not in ESTIMATORS:
        raise ValueError(f"it is of class {name}, {unknown}")
    parameters, attributes = (
        {key: decode(value, arrays, NAMED_TUPLES) for key, value in meta[part].items()}
        for part in ("parameters", "attributes")
    )
    estimator = getattr(fastem, name)
    newer = sorted(set(parameters) - set(estimator().get_params(deep=False)))
    if newer:
        raise ValueError(f"{name} has the parameters {', '.join(newer)}, {unknown}")
    model = estimator(**parameters)
    if "monitor_" in attributes:
        vars(model.monitor_).update(attributes.pop("monitor_"))
    vars(model).update(attributes)
    _check_shapes(model)
    return model


def _record(model):
    """Return what a plain monitor would know of the fit that the model's watched."""
    monitor = model.monitor_
    plain = ConvergenceMonitor(model.tol, model.n_iter, model.verbose)
    if type(monitor) is not ConvergenceMonitor:
        warnings.warn(
            f"monitor_ is a {type(monitor).__name__}; its record is saved, but the "
            "model that is loaded has a ConvergenceMonitor.",
            UserWarning,
            stacklevel=4,
        )
    record = {name: getattr(monitor, name, v) for name, v in vars(plain).items()}
    return {**record, "history": list(record["history"])}


def _fitted_kmeans(centers):
    """Return scikit-learn's k-means with these centres.

    Fitting it to the centres themselves sets what this version of it needs in private.
    """
    twin = sklearn.cluster.KMeans(len(centers), init=centers, n_init=1, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Centres may coincide.
        return twin.fit(centers)


def _check_shapes(model):
    """Raise a ValueError if fitted arrays do not go together.

    Kernels trust them; hidden Markov models check theirs at every use.
    """
    main = _MAIN_ARRAYS.get(type(model).__name__)
    if main is None or not hasattr(model, main):
        return
    shape = np.atleast_2d(getattr(model, main)).shape
    K, D = shape[0], getattr(model, "n_features_in_", shape[-1])
    expected = {main: (K, D)}
    if main == "means_":
        covariances = {
            "full": (K, D, D),
            "tied": (D, D),
            "diag": (K, D),
            "spherical": (K,),
        }.get(model.covariance_type)
        expected["weights_"] = (K,)
        for name in ("covariances_", "precisions_", "precisions_cholesky_"):
            expected[name] = covariances
    for name, shape in expected.items():
        found = np.shape(getattr(model, name))
        if found != shape:
            raise ValueError(
                f"{name} has the shape {found}, but by the other attributes and the "
                f"parameters it should be {shape}"
            )
