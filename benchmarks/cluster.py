"""``python -m benchmarks.cluster``: E-steps on a Dask cluster, as Markdown.

The overhead of tasks is what workers of one thread take for a pass beyond the seconds
that kernels take by their own account, as a share of these. Apart from it is what
workers wait that have done their blocks while others are at their last: where three
share two cores, one is through up to a block before another.
"""

import contextlib
import os
import pickle
import sys
import time
from types import SimpleNamespace
from typing import Any, NamedTuple

import click
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, get_task_stream, wait

import fastem
from benchmarks.peers.interface import check_agreement
from benchmarks.peers.machine import describe
from benchmarks.peers.report import Report
from benchmarks.peers.timing import stopwatch, time_iterations
from fastem.compile import serial_kernels
from fastem.execution.cluster import partitions_of, reduce
from fastem.families.gaussian import Regularization
from fastem.models.mixture import FAMILIES, MixtureParams, e_step, m_step

FULL = FAMILIES["full"]
N_FEATURES, N_COMPONENTS = 8, 32
N_BLOCKS = 24
N_WORKERS = 3
PEER_ROWS, PEER_ITERATIONS = 500_000, 6
# Sums are added in other orders, and Spark adds 2e-16 to each density (8e-6 measured).
PEER_TOLERANCE = {"k-means": 1e-8, "mixture": 1e-4}


class Timed(NamedTuple):
    """Statistics, and the seconds that kernels took to find them."""

    statistics: Any
    seconds: float


def timed_e_step(params, X):
    start = time.perf_counter()
    statistics = e_step(FULL, params, X)
    return Timed(statistics, time.perf_counter() - start)


@click.command()
@click.option("--rows", type=click.IntRange(min=1), help="24 seconds' worth if absent.")
@click.option("--peer-rows", type=click.IntRange(min=1), default=PEER_ROWS)
@click.option(
    "--section",
    "sections",
    type=click.Choice(("overhead", "peers")),
    multiple=True,
    default=("overhead", "peers"),
)
@click.option("--smoke", is_flag=True, help="Tiny sizes, once.")
def main(rows, peer_rows, sections, smoke):
    """Measure the overhead of tasks, and three workers beside other libraries."""
    report = Report(describe("dask", "distributed", "dask_ml", "pyspark"))
    report.note(
        f"normal rows, D = {N_FEATURES}, float64, persisted in the workers; "
        f"K = {N_COMPONENTS}, full covariances of mixtures"
    )
    if "overhead" in sections:
        block_rows = 1000 if smoke else _rows_a_second()
        for n_workers in (1, N_WORKERS):
            with cluster_of(n_workers) as client:
                X = persisted(client, rows or N_BLOCKS * block_rows, block_rows)
                found = passes(client, X, n_workers, 1 if smoke else 3)
                report.section(f"Worker processes: {n_workers}", found)
    if "peers" in sections:
        peer_rows = 5000 if smoke else peer_rows
        with cluster_of(N_WORKERS) as client:
            X = persisted(client, peer_rows, -(-peer_rows // 12))
            found = peers(client, X, 3 if smoke else PEER_ITERATIONS)
            title = f"An iteration on {peer_rows} rows, {N_WORKERS} workers"
            report.section(title, found)


def passes(client, X, n_workers, repeats):
    """Yield what each pass over the rows took."""
    partitions, params = partitions_of(X), start()
    reduce(client, partitions, timed_e_step, params)
    for _ in range(repeats):
        with get_task_stream(client) as stream:
            seconds, total = stopwatch(reduce, client, partitions, timed_e_step, params)
        waited = waits_for_the_last(stream.data)
        beside = n_workers * seconds - waited - total.seconds
        yield {
            "rows": len(X),
            "blocks": X.numblocks[0],
            "kernels a block (s)": total.seconds / X.numblocks[0],
            "kernels (s)": total.seconds,
            "pass (s)": seconds,
            "overhead (%)": 100 * beside / total.seconds,
            "waiting for the last (%)": 100 * waited / total.seconds,
            "bytes to the client": len(pickle.dumps(total)),
            "bytes of K D² floats": 8 * N_COMPONENTS * N_FEATURES**2,
        }


def waits_for_the_last(tasks):
    """Return the seconds that workers without a block left wait for those with one."""
    ends = {}
    for task in tasks:
        if task["key"].startswith("_evaluate"):
            stops = [part["stop"] for part in task["startstops"]]
            ends[task["worker"]] = max(ends.get(task["worker"], 0), *stops)
    return sum(max(ends.values()) - end for end in ends.values())


def peers(client, X, n_iter):
    """Yield seconds per iteration of fastem and of what is installed besides.

    All begin where fastem does and have to end there, too.
    """
    sides = {
        "fastem, k-means": lambda: fastem_kmeans(client, X),
        "dask-ml, k-means": lambda: dask_ml_kmeans(client, X),
        "fastem, mixture": lambda: em(client, X),
        "Spark, mixture": lambda: spark_mixture(client, X),
    }
    reached = {}
    for name, make_fit in sides.items():
        try:
            fit = make_fit()
        except ImportError as error:
            yield {"library": name, "seconds": None, "note": f"left out: {error}"}
            continue
        fit(1)  # compiles
        timing, means = time_iterations(fit, n_iter)
        kind = name.partition(", ")[2]
        want = reached.setdefault(kind, means)
        apart = np.abs(means - want).max()
        check_agreement(f"means of {name}", apart, 0.0, PEER_TOLERANCE[kind], scale=1.0)
        yield {
            "library": name,
            "seconds": timing.seconds_per_iteration,
            "note": f"one iteration with all around it {timing.one_seconds:.2f} s",
        }


def fastem_kmeans(client, X):
    return kmeans(client, X, fastem.KMeans)


def dask_ml_kmeans(client, X):
    from dask_ml.cluster import KMeans

    return kmeans(client, X, KMeans)


def kmeans(client, X, kind):
    """Start at rows: dask-ml puts the centre of a cluster without any at zero."""
    centers = client.gather(client.compute(X[:N_COMPONENTS]))

    def fit(n_iter):
        model = kind(N_COMPONENTS, init=centers, max_iter=n_iter, tol=0)
        with client.as_current():
            return model.fit(X).cluster_centers_

    return fit


def em(client, X):
    partitions = partitions_of(X)
    regularization = Regularization(0.0, np.finfo(float).eps)

    def fit(n_iter):
        params = start()
        for _ in range(n_iter):
            statistics = reduce(client, partitions, timed_e_step, params).statistics
            params, _ = m_step(FULL, statistics, params, regularization)
        return params.components.means

    return fit


def spark_mixture(client, X):
    """Fit by Spark's older API, which takes a start; it is what the newer one runs."""
    from pyspark.mllib.clustering import GaussianMixture
    from pyspark.mllib.linalg import DenseMatrix, Vectors
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    options = {
        "spark.driver.memory": "4g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.master(f"local[{N_WORKERS}]")
    spark = builder.config(map=options).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    rows = client.gather(client.compute(X))
    data = spark.sparkContext.parallelize(map(Vectors.dense, rows), X.numblocks[0])
    data = data.cache()
    data.count()
    params = start()
    gaussians = [
        SimpleNamespace(
            mu=Vectors.dense(mean),
            sigma=DenseMatrix(N_FEATURES, N_FEATURES, covariance.ravel()),
        )
        for mean, covariance in zip(*params.components[:2], strict=True)
    ]
    first = SimpleNamespace(
        k=N_COMPONENTS, weights=params.weights.tolist(), gaussians=gaussians
    )

    def fit(n_iter):
        mixture = GaussianMixture.train(
            data, N_COMPONENTS, 0.0, n_iter, seed=0, initialModel=first
        )
        return np.array([gaussian.mu.toArray() for gaussian in mixture.gaussians])

    return fit


@contextlib.contextmanager
def cluster_of(n_workers):
    options = {"threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        LocalCluster(n_workers=n_workers, **options) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


def persisted(client, n_rows, block_rows):
    random = da.random.default_rng(0)
    chunks = (block_rows, N_FEATURES)
    X = client.persist(random.normal(size=(n_rows, N_FEATURES), chunks=chunks))
    with client.as_current():
        wait(X)
    return X


def start():
    """Return components so alike that every row is of all of them."""
    means = 0.1 * np.random.default_rng(1).normal(size=(N_COMPONENTS, N_FEATURES))
    components = FULL.from_variances(means, np.ones(N_FEATURES))
    return MixtureParams(np.full(N_COMPONENTS, 1 / N_COMPONENTS), components)


def _rows_a_second():
    X = np.random.default_rng(0).normal(size=(1 << 19, N_FEATURES))
    with serial_kernels():
        timed_e_step(start(), X)
        return int(len(X) / timed_e_step(start(), X).seconds)


if __name__ == "__main__":
    main()
