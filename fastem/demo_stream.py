"""Fit a mixture to a file of pixels that is larger than the memory the fit takes."""

import tempfile
import threading
import time
import warnings
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from scipy.ndimage import map_coordinates, uniform_filter
from sklearn.datasets import load_sample_images
from sklearn.exceptions import ConvergenceWarning

import fastem
from fastem.data.outputs import open_output
from fastem.demo import draw_segments, prepare_kernels
from fastem.em.monitors import SilentMonitor

# A view is a square of so many pixels, each so many of the photograph's apart.
VIEW = 256
SCALES = (0.5, 1.15)
N_FEATURES = 8
ITERATIONS = 20
# The variance of what is lost where colours are rounded to whole levels.
REG_COVAR = 1 / 12
SECONDS_BETWEEN_LOOKS = 0.02


class PassProgress(SilentMonitor):
    """Monitor of a fit that draws iteration, log-likelihood and speed.

    Parameters
    ----------
    progress : rich.progress.Progress
        Where to draw; its tasks have a field ``status``.
    n_rows : int
        Rows of a pass.

    Attributes
    ----------
    ends : list of float
        When the fit began, and when each iteration ended.
    """

    def __init__(self, progress, n_rows):
        self._progress = progress
        self._n_rows = n_rows
        self._n_iter = 0
        self._task = progress.add_task("fit", total=ITERATIONS, status="k-means")
        self.ends = [time.perf_counter()]

    def rows(self, n_rows, of):
        """Show how far a pass has come."""
        self._progress.update(self._task, completed=self._n_iter + n_rows / of)

    def iteration(self, n_iter, lower_bound, change):
        """Show one more iteration."""
        self._n_iter = n_iter
        self.ends.append(time.perf_counter())
        speed = self._n_rows / (self.ends[-1] - self.ends[-2]) / 1e6
        self._progress.update(
            self._task,
            completed=n_iter,
            status=f"{n_iter}/{ITERATIONS}, log-likelihood a row {lower_bound:.6f}, "
            f"{speed:.2f} M rows/s",
        )


def fit_larger_than_memory(output, folder, n_rows, n_components, seed):
    """Write rows to a file, fit a mixture to it, report, and draw what it finds.

    Parameters
    ----------
    output : path-like
        PNG file to write.
    folder : path-like or None
        Where to keep the rows, and the fit as far as it has come: the same call goes
        on from there. None for a temporary folder.
    n_rows : int
        Rows to write.
    n_components : int
        Components of the mixture.
    seed : int
        Seed of the rows and of the start.
    """
    console = Console(highlight=False)
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    opened = tempfile.TemporaryDirectory() if folder is None else nullcontext(folder)
    with opened as name:
        path = Path(name) / f"pixels-{n_rows}-{seed}.npy"
        checkpoint = Path(name) / f"fit-{n_rows}-{n_components}-{seed}.ckpt"
        console.print(
            f"{path}: {n_rows:,} rows (pixels) of {N_FEATURES} features, "
            f"{n_components} full-covariance components",
            soft_wrap=True,
            markup=False,
        )
        with console.status("compiling or loading kernels"):
            kernels = prepare_kernels(
                partial(fastem.warmup, ["full"], ["float32"], n_features=N_FEATURES)
            )
        columns = TextColumn("{task.description}"), BarColumn(), "{task.fields[status]}"
        with Progress(*columns, console=console) as progress:
            began, there = time.perf_counter(), path.exists()
            if not there:
                write_rows(path, n_rows, seed, progress)
            writing = None if there else time.perf_counter() - began
            monitor = PassProgress(progress, n_rows)
            with peak_memory() as memory:
                model = fit(path, n_components, seed, checkpoint, monitor)
        checkpoint.unlink()
        n_bytes = path.stat().st_size

    console.print(report(kernels, writing, monitor.ends, model, n_rows))
    took = f"{memory[0] / 1e6:,.0f} MB" if memory else "here not known how much"
    console.print(
        f"rows on disk {n_bytes / 1e6:,.0f} MB; memory that the fit added: {took}",
        soft_wrap=True,
    )
    draw_photographs(output, model)
    console.print(f"picture written to {output}", soft_wrap=True, markup=False)


def write_rows(path, n_rows, seed, progress):
    """Write the pixels of views of photographs to a .npy file, view by view."""
    rng = np.random.default_rng(seed)
    photographs = [image.astype(np.float32) for image in load_sample_images().images]
    task = progress.add_task("rows", total=n_rows, status="")
    with open_output(path, n_rows, N_FEATURES, np.float32) as output:
        for n_written in range(0, n_rows, VIEW**2):
            progress.update(task, completed=n_written, status=f"{n_written:,}")
            view = draw_view(photographs[rng.integers(len(photographs))], rng)
            output.write(pixel_features(view)[: n_rows - n_written])
    progress.update(task, completed=n_rows, status=f"{n_rows:,}")


def draw_view(image, rng):
    """Return a square of an image at a random place, turned and scaled at random."""
    steps = rng.uniform(*SCALES) * (np.arange(VIEW) - (VIEW - 1) / 2)
    reach = np.hypot(steps[-1], steps[-1])  # of a corner, whatever the angle
    y, x = (rng.uniform(reach, length - 1 - reach) for length in image.shape[:2])
    angle = rng.uniform(0, 2 * np.pi)
    across, down = steps, steps[:, None]
    places = (
        y + np.cos(angle) * down + np.sin(angle) * across,
        x - np.sin(angle) * down + np.cos(angle) * across,
    )
    colours = [
        map_coordinates(image[:, :, colour], places, order=1) for colour in range(3)
    ]
    return np.stack(colours, axis=2)


def pixel_features(image):
    """Return a row for each pixel of an image, float32.

    Red, green and blue; their means over the 3 x 3 pixels around; and the deviation of
    brightness over these and over 9 x 9.
    """
    brightness = image.mean(axis=2, dtype=np.float64)
    contrasts = []
    for size in (3, 9):
        variance = uniform_filter(brightness**2, size)
        variance -= uniform_filter(brightness, size) ** 2
        contrasts.append(np.sqrt(np.maximum(variance, 0)))
    around = uniform_filter(image, (3, 3, 1))
    rows = np.dstack([image, around, *contrasts]).astype(np.float32)
    return rows.reshape(-1, N_FEATURES)


def fit(path, n_components, seed, checkpoint, monitor):
    """Fit to the rows of a file, going on from a checkpoint if it is there."""
    model = fastem.GaussianMixture(
        n_components,
        tol=0.0,
        reg_covar=REG_COVAR,
        max_iter=ITERATIONS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # With tol=0 every fit runs out of iterations; that is the point.
        warnings.filterwarnings("ignore", ".*did not converge", ConvergenceWarning)
        model._fit(path, checkpoint=checkpoint, monitor=monitor)
    return model


@contextmanager
def peak_memory():
    """Yield a list that in the end holds how many bytes of memory were added at most.

    What counts is memory that no file backs, which nothing else can use meanwhile. The
    list stays empty where the system does not tell.
    """
    before, looks, ended = anonymous_memory(), [], threading.Event()
    peak = []

    def look():
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            looks.append(anonymous_memory())

    if before is None:
        yield peak
        return
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
    peak.append(max([*looks, anonymous_memory()]) - before)


def anonymous_memory():
    """Return the bytes of memory that no file backs, None where that is not told."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    return None


def report(kernels, writing, ends, model, n_rows):
    """Return the table of seconds, speed and log-likelihood."""
    table = Table(box=box.SIMPLE)
    table.add_column("")
    for heading in ("seconds", "M rows/s", "log-likelihood a row"):
        table.add_column(heading, justify="right")
    table.add_row(
        "kernels, compiled" if kernels.compiled else "kernels, cached",
        f"{kernels.seconds:.2f}",
    )
    if writing is not None:
        table.add_row("rows written", *_speed(writing, n_rows))
    table.add_row(
        "fit from k-means on",
        f"{ends[-1] - ends[0]:.2f}",
        "",
        f"{model.lower_bound_:.6f}",
    )
    if len(ends) > 2:  # the first iteration's time is that of k-means, too
        table.add_row("each iteration", *_speed(np.median(np.diff(ends[1:])), n_rows))
    return table


def draw_photographs(output, model):
    """Draw the photographs and their segments side by side."""
    images = load_sample_images()
    labels = [
        model.predict(pixel_features(image.astype(np.float32)))
        for image in images.images
    ]
    names = " and ".join(Path(name).name for name in images.filenames)
    draw_segments(output, np.concatenate(images.images), np.concatenate(labels), names)


def _speed(seconds, n_rows):
    return f"{seconds:.2f}", f"{n_rows / seconds / 1e6:.2f}"
