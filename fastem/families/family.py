"""What a family is to the models: tile functions and ordinary ones."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastem.kernels.guessing import never_sole, none_is_sole

# From so many features on, families may have tile functions that spare what is
# negligible. Those of fewer take half as long to compile without (measured for a first
# fit of full covariances), and sparing would save them little.
WIDE_MIN_FEATURES = 24


@dataclass(frozen=True)
class TileFunctions:
    """What is compiled into a mixture's kernels and into code that chains' call.

    Attributes
    ----------
    allocate : callable
        ``allocate(tile_params) -> scratch``: working memory of one part.
    load : callable
        ``load(X, start, stop, tile_params, scratch)``: fetch a tile of rows.
    log_density : callable
        ``log_density(tile_params, scratch, out)``: joint log density of each
        component and lane, ``out[k * STRIDE + b]``.
    joint_log_density : callable
        The same, free to set -inf where a component's share of a row is negligible.
    accumulate : callable
        ``accumulate(tile_params, scratch, responsibilities, slots, slot)``: add the
        tile's statistics to a slot.
    flush : callable
        ``flush(tile_params, scratch, slots, slot)``: add what ``accumulate`` held back.
    likeliest : callable, optional
        ``likeliest(tile_params, scratch, out, largest, best)``: each lane's likeliest
        component, as a floating-point number, and its joint log density; ``out`` is
        used up.
    sole : callable
        ``sole(tile_params, scratch, out, largest, best)``: the same and True where each
        lane is one component's alone, other shares being negligible; or False, and
        nothing is set.
    accumulate_sole : callable
        ``accumulate_sole(tile_params, scratch, tile_weight, slots, slot)``: what
        ``accumulate`` does, of the tile of which ``sole`` said True.
    density_first : bool
        Whether ``accumulate`` builds on the ``log_density`` of the same tile.
    """

    allocate: Callable
    load: Callable
    log_density: Callable
    joint_log_density: Callable
    accumulate: Callable
    flush: Callable
    likeliest: Callable | None = None
    sole: Callable = none_is_sole
    accumulate_sole: Callable = never_sole
    density_first: bool = False


@dataclass(frozen=True)
class Family:
    """An emission distribution, ready to be put into a model.

    ``params`` is the family's NamedTuple of parameters in data units, ``tile_params``
    what :attr:`tile_params` makes of it for the kernels. Most of these functions run
    once an iteration.

    Attributes
    ----------
    name : str
    narrow : TileFunctions
        Of rows of few features, or of any.
    from_variances : callable
        ``from_variances(means, variances) -> params``: (K, D) means, (D,) variances;
        None where components have no means.
    tile_params : callable
        ``tile_params(params, log_weights, dtype) -> (frame, NamedTuple of arrays)``.
    slots : callable
        ``slots(params, n_slots) -> NamedTuple`` of zeroed arrays, slots leading.
    statistics : callable
        ``statistics(params, frame, tile_params, slots) -> NamedTuple`` in data units,
        added over slots in order.
    maximize : callable
        ``maximize(statistics, params, regularization) -> (params, repaired)``.
    recenter : callable
        ``recenter(statistics, params, new_params) -> statistics``: sums about the
        means of ``params`` as sums about those of ``new_params``, which blending
        statistics of different iterations takes.
    example : callable
        ``example() -> params`` of the smallest model, whose types all share.
    wide : TileFunctions, optional
        Of rows of ``WIDE_MIN_FEATURES`` features and more.
    """

    name: str
    narrow: TileFunctions
    from_variances: Callable | None
    tile_params: Callable
    slots: Callable
    statistics: Callable
    maximize: Callable
    recenter: Callable
    example: Callable
    wide: TileFunctions | None = None

    def tile_functions(self, n_features):
        """Return those of rows of so many features."""
        is_wide = self.wide is not None and n_features >= WIDE_MIN_FEATURES
        return self.wide if is_wide else self.narrow


def example_arguments(family, dtype="float64"):
    """Return tile params and a slot of the smallest model, whose types all share."""
    params = family.example()
    _, tile_params = family.tile_params(params, np.zeros(1), np.dtype(dtype))
    return tile_params, family.slots(params, 1)


def built_once(build):
    """Keep what is built of tile functions, for all families that share them.

    ``build(functions, dtype, tile_params, slots)`` becomes ``make(family, n_features,
    dtype)``. Of tile params and slots the types alone count.
    """
    built = {}

    @functools.wraps(build)
    def make(family, n_features, dtype="float64"):
        key = family.tile_functions(n_features), dtype
        if key not in built:
            built[key] = build(*key, *example_arguments(family, dtype))
        return built[key]

    return make


def without_center(statistics, params, new_params):
    """Return sums that are about no point as they are."""
    return statistics
