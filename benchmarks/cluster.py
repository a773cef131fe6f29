"""``python -m benchmarks.cluster``: E-steps on a Dask cluster, as Markdown.

The overhead of tasks is what workers of one thread take for a pass beyond the seconds
that kernels take by their own account, as a share of these. It counts for one worker:
three may have to share cores, and the last blocks keep only some of them busy.
"""

import contextlib
import pickle
import time
from typing import Any, NamedTuple

import click
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, wait

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
PEER_ROWS, PEER_ITERATIONS = 2_000_000, 11


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
@click.option("--smoke", is_flag=True, help="Tiny sizes, once.")
def main(rows, smoke):
    """Measure the overhead of tasks, and three workers beside other libraries."""
    block_rows = 1000 if smoke else _rows_a_second()
    rows = rows or N_BLOCKS * block_rows
    repeats = 1 if smoke else 3
    report = Report(describe("dask", "distributed", "dask_ml", "pyspark"))
    report.note(
        f"normal rows, D = {N_FEATURES}, float64, persisted in the workers; full "
        f"covariances, K = {N_COMPONENTS}"
    )
    for n_workers in (1, 3):
        with cluster_of(n_workers) as client:
            X = persisted(client, rows, block_rows)
            rows_of_table = passes(client, X, n_workers, repeats)
            report.section(f"Worker processes: {n_workers}", rows_of_table)
    peer_rows = 5000 if smoke else PEER_ROWS
    with cluster_of(3) as client:
        X = persisted(client, peer_rows, -(-peer_rows // 12))
        n_iter = 3 if smoke else PEER_ITERATIONS
        report.section(
            f"An iteration on {peer_rows} rows, 3 workers", peers(client, X, n_iter)
        )


def passes(client, X, n_workers, repeats):
    """Yield what each pass over the rows took."""
    partitions, params = partitions_of(X), start()
    reduce(client, partitions, timed_e_step, params)
    for _ in range(repeats):
        seconds, total = stopwatch(reduce, client, partitions, timed_e_step, params)
        yield {
            "rows": len(X),
            "blocks": X.numblocks[0],
            "kernels a block (s)": total.seconds / X.numblocks[0],
            "kernels (s)": total.seconds,
            "pass (s)": seconds,
            "overhead (%)": 100 * (n_workers * seconds / total.seconds - 1),
            "bytes to the client": len(pickle.dumps(total)),
            "bytes of K D² floats": 8 * N_COMPONENTS * N_FEATURES**2,
        }


def peers(client, X, n_iter):
    """Yield seconds per iteration of fastem and of what is installed besides."""
    sides = {
        "fastem, mixture": lambda: em(client, X),
        "dask-ml, k-means": lambda: dask_ml_kmeans(client, X),
        "Spark, mixture": lambda: spark_mixture(client, X),
    }
    for name, make_fit in sides.items():
        try:
            fit = make_fit()
        except ImportError as error:
            yield {"library": name, "seconds": None, "note": f"left out: {error}"}
            continue
        timing, note = time_iterations(fit, n_iter)
        yield {"library": name, "seconds": timing.seconds_per_iteration, "note": note}


def em(client, X):
    partitions = partitions_of(X)
    regularization = Regularization(1e-6, np.finfo(float).eps)

    def fit(n_iter):
        params = start()
        for _ in range(n_iter):
            statistics = reduce(client, partitions, timed_e_step, params).statistics
            params, _ = m_step(FULL, statistics, params, regularization)
        return f"mean log-likelihood {statistics.log_likelihood / len(X):.4f}"

    return fit


def dask_ml_kmeans(client, X):
    from dask_ml.cluster import KMeans

    def fit(n_iter):
        centers = start().components.means
        with client.as_current():
            model = KMeans(N_COMPONENTS, init=centers, max_iter=n_iter, tol=0).fit(X)
        return f"{model.n_iter_} iterations, hard assignments, no covariances"

    return fit


def spark_mixture(client, X):
    """Start where Spark's seeding says: it takes no start."""
    import pandas as pd
    from pyspark.ml.clustering import GaussianMixture
    from pyspark.ml.feature import VectorAssembler
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[3]")
    options = {
        "spark.driver.memory": "8g",
        "spark.ui.enabled": "false",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }
    spark = builder.config(map=options).getOrCreate()
    columns = [f"x{i}" for i in range(N_FEATURES)]
    frame = pd.DataFrame(client.gather(client.compute(X)), columns=columns)
    rows = VectorAssembler(inputCols=columns, outputCol="features")
    data = rows.transform(spark.createDataFrame(frame)).select("features").cache()
    data.count()

    def fit(n_iter):
        mixture = GaussianMixture(k=N_COMPONENTS, maxIter=n_iter, tol=0.0, seed=0)
        summary = mixture.fit(data).summary
        return (
            f"{summary.numIter} iterations, mean log-likelihood "
            f"{summary.logLikelihood / len(X):.4f}"
        )

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
