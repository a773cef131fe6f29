"""What a fit may read its rows from, checked."""

from fastem.estimators.validation import check_rows, check_weights
from fastem.execution.local import ArrayRows


def read_rows(estimator, X, sample_weight, *, reset, **options):
    """Return the rows of an array or a source, and their weights.

    Raises
    ------
    ValueError
        For anything but finite numbers in two dimensions, and weights that do not go
        with them.
    """
    X = check_rows(estimator, X, reset=reset, **options)
    return ArrayRows(X, check_weights(sample_weight, X))
