"""``python -m benchmarks.streaming``: mixtures of rows on disk, as Markdown.

Each pass over a file is held against the E-step's kernel on rows in memory, as many as
fit well, scaled to the same number. Sides take turns. "Cold" is after the system was
told to forget the files, where it can be told.
"""

import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import click
import numpy as np
import pyarrow
import pyarrow.parquet
from sklearn.exceptions import ConvergenceWarning

from benchmarks.peers.interface import check_agreement
from benchmarks.peers.machine import describe
from benchmarks.peers.plan import grouped
from benchmarks.peers.report import Report
from benchmarks.peers.timing import stopwatch
from fastem import GaussianMixture
from fastem.data.source import open_source
from fastem.models.mixture import FAMILIES, e_step

CHUNK_ROWS = 1 << 18
FILE_ROWS, GROUP_ROWS = 10_000_000, 1_000_000
IN_MEMORY_ROWS = 4_000_000
# Two passes of mini-batches over so many rows come within a thousandth of the
# likelihood that EM ends at.
MIXED_ROWS, ASKED_SHORTFALL = 1_000_000, 1e-3
READ_BYTES = 8 << 20
ASKED_RATIO, ASKED_MB = 1.15, 500
SECONDS_BETWEEN_LOOKS = 0.01


@click.command()
@click.option("--rows", type=click.IntRange(min=1000), default=100_000_000)
@click.option("--features", type=click.IntRange(min=1), default=8)
@click.option("--components", type=click.IntRange(min=1), default=16)
@click.option(
    "--data",
    type=click.Choice(["blobs", "photograph"]),
    default="blobs",
    help="Rows from a seeded generator, or pixels of scikit-learn's photographs.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where rows are written to, and found again; a temporary one if absent.",
)
@click.option("--repeats", type=click.IntRange(min=1), default=3)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, writable=True))
@click.option("--smoke", is_flag=True, help="Few rows, once.")
def main(rows, features, components, data, folder, repeats, json_path, smoke):
    """Measure what an iteration on rows in files costs beyond its kernel."""
    if smoke:
        rows, repeats = 100_000, 1
    if data == "photograph" and features != 8:
        raise click.BadParameter("pixels have 8 features", param_hint="--features")
    report = Report(describe("pyarrow"))
    shape = rows, features
    report.note(
        f"{grouped(rows)} rows ({data}), D = {features}, K = {components}, float64, "
        f"full covariances; {grouped(rows * features * 8 // 10**6)} MB of numbers"
    )
    opened = nullcontext(folder) if folder else TemporaryDirectory()
    with opened as folder:
        npy, parquet = write_files(Path(folder), data, shape)
        report.section("Reading alone, on one thread", reading(npy, parquet))
        report.section(
            "An iteration", iterations(report, npy, parquet, components, repeats)
        )
        report.section(
            "Two passes of mini-batches", minibatches(npy, components, repeats)
        )
    if json_path:
        report.save(json_path)


# ------------------------------------------------------------------------- rows


def write_files(folder, data, shape):
    """Return a .npy file and a folder of Parquet files of the same rows, once made."""
    n_rows, n_features = shape
    name = f"{data}-{n_rows}x{n_features}"
    npy, parquet = folder / f"{name}.npy", folder / name
    folder.mkdir(parents=True, exist_ok=True)
    if not npy.exists():
        unfinished = folder / f".{npy.name}"
        X = np.lib.format.open_memmap(unfinished, "w+", float, shape)
        for first in range(0, n_rows, CHUNK_ROWS):
            chunk = X[first : first + CHUNK_ROWS]
            chunk[:] = CHUNKS[data](first // CHUNK_ROWS, *chunk.shape)
        X.flush()
        unfinished.replace(npy)
    if not parquet.exists():
        unfinished = folder / f".{name}"
        unfinished.mkdir(exist_ok=True)
        X = np.load(npy, mmap_mode="r")
        for first in range(0, n_rows, FILE_ROWS):
            write_parquet(
                X[first : first + FILE_ROWS], unfinished / f"{first:012}.parquet"
            )
        unfinished.replace(parquet)
    return npy, parquet


def write_parquet(X, path):
    names = [f"x{j}" for j in range(X.shape[1])]
    schema = pyarrow.schema([(name, pyarrow.float64()) for name in names])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for first in range(0, len(X), GROUP_ROWS):
            columns = np.ascontiguousarray(X[first : first + GROUP_ROWS].T)
            writer.write_table(pyarrow.table(list(columns), schema=schema))


def blobs(number, n_rows, n_features):
    """Return a chunk of rows about 64 centres, which are the same for all chunks."""
    centres = 4 * np.random.default_rng(0).normal(size=(64, n_features))
    rng = np.random.default_rng([1, number])
    X = rng.normal(size=(n_rows, n_features))
    X += centres[rng.integers(len(centres), size=n_rows)]
    return X


def pixels(number, n_rows, n_features):
    """Return pixels of photographs, seen at random places, angles and scales."""
    from sklearn.datasets import load_sample_images

    from fastem.demo_stream import draw_view, pixel_features

    photographs = [image.astype(np.float32) for image in load_sample_images().images]
    rng = np.random.default_rng([1, number])
    views, n_drawn = [], 0
    while n_drawn < n_rows:
        view = draw_view(photographs[rng.integers(len(photographs))], rng)
        views.append(pixel_features(view))
        n_drawn += len(views[-1])
    X = np.concatenate(views)[:n_rows].astype(float)
    # Colours are rounded to whole levels; no density is.
    return X + rng.uniform(-0.5, 0.5, X.shape)


CHUNKS = {"blobs": blobs, "photograph": pixels}


# ------------------------------------------------------------------ measurements


def reading(npy, parquet):
    """Yield what reading takes without any kernel."""
    files = sorted(parquet.iterdir())
    n_rows = open_source(npy).n_rows
    ways = {
        ".npy, bytes": ([npy], partial(read_bytes, [npy])),
        ".npy, blocks": ([npy], partial(read_blocks, npy)),
        "Parquet, bytes": (files, partial(read_bytes, files)),
        "Parquet, decoded to blocks": (files, partial(read_blocks, parquet)),
    }
    for name, (paths, read) in ways.items():
        n_bytes = sum(path.stat().st_size for path in paths)
        cold = stopwatch(read)[0] if forget(paths) else None
        read()
        warm, _ = stopwatch(read)
        yield {
            "what": name,
            "MB on disk": n_bytes / 1e6,
            "cold s": cold,
            "cold MB/s": cold and n_bytes / 1e6 / cold,
            "warm s": warm,
            "warm MB/s": n_bytes / 1e6 / warm,
            "warm ns a row": 1e9 * warm / n_rows,
        }


def iterations(report, npy, parquet, n_components, repeats):
    """Yield what an iteration takes in memory and from files.

    Reading alone, which most of an iteration from Parquet waits for, is of warm files.
    """
    source = open_source(npy)
    n_rows = source.n_rows
    X = np.load(npy, mmap_mode="r")[:IN_MEMORY_ROWS].copy()
    model = start(X, n_components)
    run(model, X[:CHUNK_ROWS])  # loads the kernel
    params = model._params()
    kernel = partial(e_step, FAMILIES["full"], params, X)
    files = sorted(parquet.iterdir())
    memory = f"memory, {grouped(len(X))} of them"
    sides = {
        memory: Side(kernel),
        ".npy, warm": Side(partial(run, model, npy), npy),
        "Parquet, warm": Side(partial(run, model, parquet), parquet),
    }
    if forget(files):
        for name, side in list(sides.items())[1:]:
            paths = files if side.data == parquet else [npy]
            cold = side._replace(cold=paths)
            sides[name.replace("warm", "cold")] = cold
    read_bytes([npy, *files])
    taken, worked, added, bounds = {}, {}, {}, {}
    for _ in range(repeats):
        for name, side in sides.items():
            forget(side.cold)
            with peak_memory() as looks:
                began = time.process_time()
                seconds, returned = stopwatch(side.call)
            worked.setdefault(name, []).append(time.process_time() - began)
            taken.setdefault(name, []).append(seconds)
            added[name] = max(looks)
            if side.data:
                bounds[name] = returned.lower_bound_
    kernel_seconds = min(taken[memory]) * n_rows / len(X)
    kernel_work = min(worked[memory]) * n_rows / len(X)
    for name, seconds in taken.items():
        data, best = sides[name].data, min(seconds)
        passed = n_rows if data else len(X)
        alone = data and stopwatch(read_blocks, data)[0]
        yield {
            "rows from": name,
            "min s": best,
            "median s": median(seconds),
            "min ns a row": 1e9 * best / passed,
            "to kernel": best / kernel_seconds if data else None,
            "to kernel, CPU": min(worked[name]) / kernel_work if data else None,
            "asked at most": ASKED_RATIO if data == npy else None,
            "to kernel + reading": best / (kernel_seconds + alone) if data else None,
            "MB of memory added": added[name] / 1e6,
        }
    bound = bounds[".npy, warm"]
    check_agreement("log-likelihoods", list(bounds.values()), bound, 1e-12)
    same = "to the bit" if len(set(bounds.values())) == 1 else "to 1e-12"
    report.note(
        f"log-likelihood a row {bound:.12f}, the same from all files {same}; memory "
        f"asked: under {ASKED_MB} MB"
    )


def minibatches(npy, n_components, n_starts):
    """Yield where two passes of mini-batches end, beside EM from the same start."""
    X = np.load(npy, mmap_mode="r")[:MIXED_ROWS]
    models = {"default": GaussianMixture(n_components, random_state=0)}
    models |= {f"rows drawn, {i}": start(X, n_components, i) for i in range(n_starts)}
    for name, model in models.items():
        begun = run(model.set_params(max_iter=0), X).score(X)
        seconds, batch = stopwatch(run, model.set_params(max_iter=500, tol=1e-6), X)
        reached, n_iter = batch.score(X), batch.n_iter_
        model.set_params(algorithm="minibatch", max_iter=2)
        small_seconds, small = stopwatch(run, model, X)
        yield {
            "rows": len(X),
            "start": name,
            "log-likelihood at the start": begun,
            "EM": reached,
            "iterations": n_iter,
            "s": seconds,
            "two passes": small.score(X),
            "their s": small_seconds,
            "short of EM by": (reached - small.score(X)) / abs(reached),
            "asked at most": ASKED_SHORTFALL,
        }


class Side(NamedTuple):
    """One side of the comparison: a call, what it reads, and files to forget before."""

    call: Callable
    data: Path | None = None
    cold: Sequence = ()


def start(X, n_components, seed=0):
    """Return a mixture that does one iteration from rows and their variances."""
    rng = np.random.default_rng(seed)
    precision = np.diag(1 / X.var(axis=0))
    return GaussianMixture(
        n_components,
        weights_init=np.full(n_components, 1 / n_components),
        means_init=X[rng.choice(len(X), n_components, replace=False)],
        precisions_init=np.tile(precision, (n_components, 1, 1)),
        max_iter=1,
    )


def run(model, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(data)


def read_bytes(paths):
    """Read files as fast as one thread can."""
    buffer = bytearray(READ_BYTES)
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def read_blocks(data):
    for _ in open_source(data).blocks():
        pass


def forget(paths):
    """Have the system forget what it holds of files; tell whether it can."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    return True


@contextmanager
def peak_memory():
    """Yield a list of bytes of memory added that no file backs; the largest counts."""
    before, looks, ended = anonymous_memory(), [0], threading.Event()

    def look():
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            looks.append(anonymous_memory() - before)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield looks
    finally:
        ended.set()
        thread.join()


def anonymous_memory():
    """Return the bytes of memory that no file backs; 0 where that is not told."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    return 0


if __name__ == "__main__":
    main()
