"""Components guessed, where they are so far apart that a guess can be proved right.

Of most rows of such data a few features tell the component, and how near its centre
the row is (:mod:`fastem.families.separation`) tells that no other has a share in it.
Nothing else is computed of them then.
"""

import numpy as np

from fastem.compile import tile_subroutine
from fastem.kernels.pruning import (
    FEW_LANES,
    REST,
    copy_best,
    finish_all_of,
    set_likeliest,
    sort_lanes,
)
from fastem.kernels.tiles import LANES, STRIDE

# Tiles to go without guesses where one was of no use for few lanes' sake.
SHORT_REST = 3


@tile_subroutine
def set_likeliest_by_guess(
    guess,
    copy_leading,
    load_leading,
    bound,
    finish,
    log_density,
    tile_params,
    scratch,
    out,
    largest,
    best,
):
    """As :func:`set_likeliest`; a good guess is enough where components are apart.

    ``guess(tile_params, scratch)`` sets a component of each lane, often the likeliest.
    Where its density is above ``sure_above`` it is; of few rows where it is not, all
    densities are compared.
    """
    n_open = _guess_all(FEW_LANES, guess, finish, tile_params, scratch, out)
    if n_open <= FEW_LANES:
        finish_all_of(n_open, finish, tile_params, scratch, out)
        copy_best(scratch.bounds, largest, best)
        return
    set_likeliest(
        copy_leading,
        load_leading,
        bound,
        finish,
        log_density,
        tile_params,
        scratch,
        out,
        largest,
        best,
    )


@tile_subroutine
def set_sole(guess, finish, tile_params, scratch, out, largest, best):
    """Set what :func:`set_likeliest` does if each lane is one component's alone.

    Return False if a lane may be shared; then nothing is known.
    """
    if _guess_all(0, guess, finish, tile_params, scratch, out) > 0:
        return False
    copy_best(scratch.bounds, largest, best)
    return True


@tile_subroutine
def none_is_sole(tile_params, scratch, out, largest, best):
    """Return False, for families that do not guess."""
    return False


@tile_subroutine
def never_sole(tile_params, scratch, tile_weight, slots, slot):
    """Do nothing, for families of which no tile is such."""


@tile_subroutine
def _guess_all(tolerated, guess, finish, tile_params, scratch, out):
    """Guess the component of each lane; return of how many lanes that may be wrong.

    Where these are more than are tolerated, some tiles go without.
    """
    bounds = scratch.bounds
    if bounds.guess_rest[0] > 0:
        bounds.guess_rest[0] -= 1
        return LANES
    guess(tile_params, scratch)
    sort_lanes(bounds)
    finish(bounds.lanes[:LANES], bounds.components[:LANES], tile_params, scratch, out)
    n_open = _keep_sure(tile_params.sure_above, out, bounds)
    if n_open > tolerated:
        bounds.guess_rest[0] = REST if n_open > FEW_LANES else SHORT_REST
    return n_open


@tile_subroutine
def _keep_sure(sure_above, out, bounds):
    """Note each lane's finished density, and list those of another's, perhaps."""
    lanes, components, count = bounds.lanes, bounds.components, 0
    largest, best = bounds.largest, bounds.best
    for n in range(np.uint64(LANES)):
        b, k = np.uint64(lanes[n]), np.uint64(components[n])
        p = out[k * np.uint64(STRIDE) + b]
        largest[b], best[b] = p, k
        bounds.open_lanes[np.uint64(count)] = b
        count += not p >= sure_above[k]
    return count
