"""The rows that estimators read: arrays, sources, collections on a cluster; checked."""

import numpy as np
from sklearn.utils.validation import _check_n_features

from fastem.data.blocks import in_larger_blocks
from fastem.data.source import is_source, open_source
from fastem.estimators.validation import (
    check_finite,
    check_rows,
    check_weights,
    refuse_bad_weights,
)
from fastem.execution import cluster
from fastem.execution.rows import ArrayRows, BlockRows, ClusterRows


def read_rows(estimator, X, sample_weight=None, *, reset, batch_size=None, **options):
    """Return the rows of an array, a source or a Dask collection, with their weights.

    Parameters
    ----------
    estimator : BaseEstimator
    X : array-like, source or Dask collection, of shape (N, D)
    sample_weight : array-like of shape (N,), optional
    reset : bool
        Whether to record the features or to compare them.
    batch_size : int, optional
        Rows of a batch, if parameters move with each: this process then reads them,
        also if they lie on a cluster, in blocks that no batch has to be less than.
    **options
        For scikit-learn's check of arrays.

    Returns
    -------
    ArrayRows, BlockRows or ClusterRows

    Raises
    ------
    ValueError
        For anything but finite numbers in two dimensions, and weights that do not go
        with them. Whether numbers are finite is found out on the way where they are
        not at hand.
    """
    if not is_source(X):
        X = check_rows(estimator, X, reset=reset, **options)
        return ArrayRows(X, check_weights(sample_weight, X))
    client = None if batch_size else cluster.client_for(X)
    if client is None:
        source = in_larger_blocks(open_source(X), batch_size or 0)
        check_features(estimator, source, reset=reset)
        return BlockRows(source, _block_weights(sample_weight, source), refuse_bad_rows)
    data = X if cluster.is_collection(X) else open_source(X)
    partitions = cluster.partitions_of(data)
    check_features(estimator, partitions, reset=reset)
    if sample_weight is not None:
        lengths = None
        if not cluster.is_collection(sample_weight):
            lengths = cluster.lengths(client, partitions)
        partitions = cluster.with_weights(partitions, sample_weight, lengths)
    return ClusterRows(client, partitions, refuse_bad_rows)


def check_features(estimator, source, *, reset):
    """Record the number and names of a source's features, or compare them.

    Raises
    ------
    ValueError
        If they are not those of the fit.
    """
    _check_n_features(estimator, np.empty((0, source.n_features)), reset=reset)
    names = source.feature_names
    if reset:
        vars(estimator).pop("feature_names_in_", None)
        if names is not None:
            estimator.feature_names_in_ = names
        return
    fitted = getattr(estimator, "feature_names_in_", None)
    if names is not None and fitted is not None and list(names) != list(fitted):
        raise ValueError(
            f"The columns of {source.name} are {', '.join(names)}, but "
            f"{type(estimator).__name__} was fitted to {', '.join(fitted)}"
        )


def refuse_bad_rows(X, name, numbers):
    """Raise a ValueError if rows are not finite; the first is named.

    ``numbers`` is that of the first of them, or of each, None if it is not known.
    """
    check_finite(X, name, numbers)


def _block_weights(sample_weight, source):
    if sample_weight is None:
        return np.empty(0, source.dtype)
    weight = np.asarray(sample_weight)
    refuse_bad_weights(weight)
    if weight.ndim != 1 or weight.size != (source.n_rows or weight.size):
        raise ValueError(
            f"sample_weight has the shape {weight.shape}, but {source.name} has "
            f"{source.n_rows} rows; one weight a row is needed"
        )
    return weight.astype(source.dtype, copy=False)
