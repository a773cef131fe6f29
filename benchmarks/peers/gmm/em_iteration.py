"""One EM iteration: fastem against its peers, and in float32 against float64."""

from dataclasses import replace
from functools import cache, partial
from importlib import import_module

import click
import numpy as np

from benchmarks.data import blobs
from benchmarks.peers import (
    armadillo,
    fastem_adapter,
    mclust_peer,
    pomegranate_peer,
    scikit_learn,
)
from benchmarks.peers.gmm.cases import MIXTURES
from benchmarks.peers.interface import PeerError, check_agreement
from benchmarks.peers.plan import compare
from benchmarks.peers.timing import alternate, spread_per_iteration

PEERS = (scikit_learn, armadillo, mclust_peer, pomegranate_peer)
ASKED_OF_ARMADILLO = 5
ASKED_OF_FLOAT32 = 1.6
TOLERANCE = {np.float64: 1e-9, np.float32: 1e-5}


def against_peers(plan):
    for case in plan.select(MIXTURES):
        for peer in plan.select_peers(PEERS):
            if case.covariance_type in peer.COVARIANCE_TYPES and not peer.missing():
                try:
                    row = _against(peer, case, plan)
                except PeerError as error:
                    label = f"{case.size} {case.covariance_type}"
                    click.echo(f"{peer.NAME} left out of {label}: {error}", err=True)
                else:
                    yield row


def _against(peer, case, plan):
    theirs = _runner(peer, case, peer.DTYPE)
    ours = _runner(fastem_adapter, case, peer.DTYPE)
    asked = {scikit_learn: case.asked, armadillo: ASKED_OF_ARMADILLO}.get(peer)
    race = _race(theirs, ours, plan, TOLERANCE[peer.DTYPE], asked)
    return {
        "N, D, K": case.size,
        "covariance": case.covariance_type,
        "peer": f"{peer.NAME}, {np.dtype(peer.DTYPE).name}",
        **race,
        "peer MB": _megabytes(plan, peer, case, peer.DTYPE),
        "fastem MB": _megabytes(plan, fastem_adapter, case, peer.DTYPE),
    }


@cache
def _megabytes(plan, peer, case, dtype):
    return plan.megabytes_added(_prepare, peer.__name__, case, dtype)


def _prepare(name, case, dtype):
    """Return a call that runs two iterations, its kernels loaded."""
    peer = import_module(name)
    few = max(4_000, 4 * case.n_features * case.n_components)
    _runner(peer, replace(case, n_rows=few, n_iter=2), dtype)()
    return _runner(peer, replace(case, n_iter=2), dtype)


def float32(plan):
    for case in plan.select(MIXTURES):
        double = _runner(fastem_adapter, case, np.float64)
        single = _runner(fastem_adapter, case, np.float32)
        yield {
            "N, D, K": case.size,
            "covariance": case.covariance_type,
            "peer": "fastem, float64",
            **_race(double, single, plan, TOLERANCE[np.float32], ASKED_OF_FLOAT32),
        }


def _runner(peer, case, dtype):
    X, start = blobs(*case.shape, case.covariance_type)
    return partial(
        peer.run,
        X.astype(dtype, copy=False),
        start.astype(dtype),
        case.covariance_type,
        case.n_iter,
    )


def _race(theirs, ours, plan, tolerance, asked):
    their_results, our_results = alternate(plan.repeats, theirs, ours)
    log_likelihood = our_results[0].log_likelihood
    for result in their_results + our_results:
        check_agreement(
            "log-likelihood", result.log_likelihood, log_likelihood, tolerance
        )
    their_seconds = spread_per_iteration([result.timing for result in their_results])
    our_seconds = spread_per_iteration([result.timing for result in our_results])
    return {
        **compare(their_seconds, our_seconds, plan.asked(asked)),
        "log-likelihood": f"{log_likelihood:.10g}",
    }
