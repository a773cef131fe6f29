"""What chains call for rows and densities: kept as long as needed, and no longer."""

import gc
import weakref

import numpy as np
import pytest

from fastem.compile import JIT_DISABLED
from fastem.families.gaussian_diag import DIAG
from fastem.families.gaussian_full import FULL
from fastem.families.gaussian_mixture import GMM_DIAG
from fastem.families.poisson import POISSON
from fastem.models.observations import (
    emissions_for_kernels,
    make_emissions,
    make_rows,
    rows_for_kernels,
)

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="nothing is kept without the JIT")


def are_alive(arrays):
    gc.collect()
    return [array() is not None for array in arrays]


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_rows_live_until_they_are_released(dtype):
    hold, release, _ = make_rows(dtype)
    X = np.ones((5, 3), dtype)
    watched = [weakref.ref(X)]
    kept = hold(X)
    del X
    assert are_alive(watched) == [True]
    release(kept)
    assert are_alive(watched) == [False]


@pytest.mark.parametrize("family", [FULL, DIAG, GMM_DIAG, POISSON])
def test_parameters_and_slots_live_until_they_are_released(family):
    hold, release, _ = make_emissions(family, 1)
    params = family.example()
    _, tile_params = family.tile_params(params, np.zeros(1), np.dtype(np.float64))
    slots = family.slots(params, 1)
    # Not those that are views of one array, which lives by any of them.
    watched = [weakref.ref(array) for array in (tile_params.log_norm, *slots)]
    kept = [hold(tile_params, slots) for _ in range(2)]
    del tile_params, slots
    release(kept[0])
    assert all(are_alive(watched))
    release(kept[1])
    assert not any(are_alive(watched))


def test_an_interruption_releases_what_was_kept():
    X = np.ones((5, 1))
    params = DIAG.example()
    _, tile_params = DIAG.tile_params(params, np.zeros(1), np.dtype(np.float64))
    watched = [weakref.ref(X), weakref.ref(tile_params.log_norm)]
    with (
        pytest.raises(KeyboardInterrupt),
        rows_for_kernels(X),
        emissions_for_kernels(DIAG, 1, tile_params, 1),
    ):
        raise KeyboardInterrupt
    del X, tile_params
    assert not any(are_alive(watched))
