"""Statistics of all rows of a fit in this process: of one array, or of many blocks.

Because statistics add, a fit knows no more of its rows than :meth:`statistics`, which
reads them once, and :meth:`sample`, which it is seeded from.
"""

from typing import Any, NamedTuple


class SoFar(NamedTuple):
    """The statistics of the first blocks of a pass."""

    statistics: Any
    n_blocks: int
    n_rows: int


class ArrayRows:
    """Rows of an array, in memory or mapped into it.

    Parameters
    ----------
    X : ndarray of shape (N, D), float32 or float64
    weight : ndarray of shape (N,), of size zero for ones
    """

    def __init__(self, X, weight):
        self.X, self.weight = X, weight
        self.n_rows, self.n_features = X.shape
        self.dtype = X.dtype

    def statistics(self, function, params, so_far=None, on_block=None):
        """Return ``function(params, X, weight)``: an array is one block."""
        return function(params, self.X, self.weight)

    def sample(self, n_components, random_state):
        """Return rows and weights to seed from: all of them."""
        return self.X, self.weight
