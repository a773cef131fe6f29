"""What a family is to the models: five tile functions and four ordinary ones."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """An emission distribution, ready to be put into a model.

    The first five are tile functions, compiled into the model's kernels; the others
    run once an iteration. ``params`` is the family's NamedTuple of parameters in data
    units, ``tile_params`` what :attr:`tile_params` makes of it for the kernels.

    Attributes
    ----------
    name : str
    allocate : callable
        ``allocate(tile_params) -> scratch``: working memory of one part.
    load : callable
        ``load(X, start, stop, tile_params, scratch)``: fetch a tile of rows.
    log_density : callable
        ``log_density(tile_params, scratch, out)``: joint log density of each
        component and lane, ``out[k * STRIDE + b]``.
    accumulate : callable
        ``accumulate(tile_params, scratch, responsibilities, slots, slot)``: add the
        tile's statistics to a slot.
    flush : callable
        ``flush(tile_params, scratch, slots, slot)``: add what ``accumulate`` held back.
    tile_params : callable
        ``tile_params(params, dtype) -> NamedTuple`` of arrays.
    slots : callable
        ``slots(params, n_slots) -> NamedTuple`` of zeroed arrays, slots leading.
    statistics : callable
        ``statistics(params, tile_params, slots) -> Statistics`` in data units, added
        over slots in order.
    maximize : callable
        ``maximize(statistics, params, settings) -> (params, n_repairs)``.
    """

    name: str
    allocate: Callable
    load: Callable
    log_density: Callable
    accumulate: Callable
    flush: Callable
    example: Callable
    tile_params: Callable
    slots: Callable
    statistics: Callable
    maximize: Callable
