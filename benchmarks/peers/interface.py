"""What a peer is to the comparisons: a module with the attributes of :class:`Peer`."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.data import Start
from benchmarks.peers.timing import Timing


class Parameters(NamedTuple):
    """A fitted mixture; covariances shaped as scikit-learn shapes them."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


class Result(NamedTuple):
    """What a run of EM took and where it arrived.

    ``log_likelihood`` is the mean over rows under the parameters that the last
    iteration started from: what scikit-learn calls ``lower_bound_``. ``added_bytes`` is
    told by peers with a process of their own: by how much EM raised its peak.
    """

    timing: Timing
    log_likelihood: float
    parameters: Parameters
    added_bytes: float | None = None


class Peer(Protocol):
    """A library that fits Gaussian mixtures."""

    NAME: str
    DTYPE: type
    COVARIANCE_TYPES: tuple[str, ...]
    missing: Callable[[], str | None]  # why it cannot run here, None where it can
    run: Callable[[np.ndarray, Start, str, int], Result]  # (X, start, type, n_iter)


class PeerError(Exception):
    """A peer did not do what it was asked."""


class DisagreementError(Exception):
    """Two sides of a comparison did not compute the same thing."""


def check_agreement(what, one, other, tolerance, scale=None):
    """Raise unless all of ``one`` and ``other`` agree to a relative tolerance.

    It is relative to each pair of numbers, or to ``scale``.
    """
    one, other = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    if scale is None:
        scale = np.maximum(np.abs(one), np.abs(other))
    # Written so that a NaN on either side is a disagreement too.
    if not np.all(np.abs(one - other) <= tolerance * scale):
        worst = np.max(np.abs(one - other) / np.where(scale > 0, scale, 1))
        raise DisagreementError(
            f"{what}: {one} and {other} differ by {worst:.1e}, allowed {tolerance:.0e}"
        )
