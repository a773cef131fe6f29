"""Segment a photograph with a Gaussian mixture, and time scikit-learn beside it."""

import time
import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from numba.core import event
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn import mixture
from sklearn.datasets import load_sample_image
from sklearn.exceptions import ConvergenceWarning

import fastem
from fastem.em.monitors import BarMonitor

PHOTOGRAPH = "china.jpg"
ITERATIONS = 50
# In levels of colour, of which there are 256, the picture is this wide: segments hold
# together in the plane, yet their edges stay where the colours put them.
WIDTH_IN_LEVELS = 128
REG_COVAR = 1e-6


@dataclass(frozen=True)
class KernelsReady:
    """The seconds until the kernels were ready, and whether they had to be compiled."""

    seconds: float
    compiled: bool


@dataclass(frozen=True)
class TimedFit:
    """A fitted mixture and the wall-clock seconds its fit took."""

    model: mixture.GaussianMixture
    seconds: float
    n_rows: int

    @property
    def rows_per_second(self):
        """Rows times iterations, a second."""
        return self.n_rows * self.model.n_iter_ / self.seconds


def segment_photograph(output, n_components, seed, downscale, *, with_peer):
    """Fit a mixture to a photograph's pixels, report, and draw the segments.

    Parameters
    ----------
    output : path-like
        PNG file to write.
    n_components : int
        Components of the mixture.
    seed : int
        Seed of the start.
    downscale : int
        Take every n-th pixel of every n-th line only.
    with_peer : bool
        Whether to run the same fit with scikit-learn.
    """
    console = Console(highlight=False)
    image = load_sample_image(PHOTOGRAPH)[::downscale, ::downscale]
    X = pixel_features(image)
    console.print(
        f"{PHOTOGRAPH}: {len(X):,} rows (pixels) of {X.shape[1]} features, "
        f"{n_components} full-covariance components",
        soft_wrap=True,
    )

    with console.status("compiling or loading kernels"):
        kernels = prepare_kernels(
            partial(fastem.warmup, ["full"], ["float64"], n_features=X.shape[1])
        )
    with console.status("seeding with k-means"):
        start = seed_mixture(X, n_components, seed)

    fit = fit_fastem(X, start, console)
    peer = fit_scikit_learn(X, start, console) if with_peer else None

    console.print(report(kernels, fit, peer))
    draw_segments(output, image, fit.model.predict(X))
    console.print(f"picture written to {output}", soft_wrap=True, markup=False)


def prepare_kernels(prepare):
    """Compile kernels by a call, or load them where they were compiled before."""
    with event.install_recorder("numba:compile") as compilations:
        seconds = _seconds(prepare)
    return KernelsReady(seconds, compiled=bool(compilations.buffer))


def pixel_features(image):
    """Return a row of red, green, blue, x and y for each pixel of an image."""
    height, width, _ = image.shape
    y, x = np.mgrid[:height, :width] * (WIDTH_IN_LEVELS / width)
    return np.column_stack([image.reshape(-1, 3), x.ravel(), y.ravel()])


def seed_mixture(X, n_components, seed):
    """Return the weights, means and precisions of the clusters k-means finds."""
    labels = fastem.KMeans(n_components, n_init=1, random_state=seed).fit(X).labels_
    clusters = [X[labels == k] for k in range(n_components)]
    ridge = REG_COVAR * np.eye(X.shape[1])
    return {
        "weights_init": np.array([len(cluster) / len(X) for cluster in clusters]),
        "means_init": np.array([cluster.mean(axis=0) for cluster in clusters]),
        "precisions_init": np.array(
            [np.linalg.inv(np.cov(c.T, bias=True) + ridge) for c in clusters]
        ),
    }


def fit_fastem(X, start, console):
    """Fit with fastem under a progress bar."""
    model = fastem.GaussianMixture(**_settings(start))
    with Progress(*BarMonitor.columns(), console=console) as progress:
        seconds = _seconds(model._fit, X, monitor=BarMonitor(ITERATIONS, progress))
    return TimedFit(model, seconds, len(X))


def fit_scikit_learn(X, start, console):
    """Run the same fit with scikit-learn."""
    model = mixture.GaussianMixture(**_settings(start))
    with console.status("the same fit by scikit-learn"):
        seconds = _seconds(model.fit, X)
    return TimedFit(model, seconds, len(X))


def report(kernels, fit, peer):
    """Return the table of seconds, speed and log-likelihood."""
    table = Table(box=box.SIMPLE)
    table.add_column("")
    for heading in ("seconds", "M rows/s", "iterations", "log-likelihood a row"):
        table.add_column(heading, justify="right")
    table.add_row(
        "kernels, compiled" if kernels.compiled else "kernels, cached",
        f"{kernels.seconds:.2f}",
    )
    table.add_row("fastem", *_cells(fit))
    if peer is not None:
        table.add_row("scikit-learn", *_cells(peer))
        ratio = peer.seconds / fit.seconds
        difference = fit.model.lower_bound_ - peer.model.lower_bound_
        table.add_row(
            "ratio, difference", f"{ratio:.1f}×", "", "", f"{difference:+.0e}"
        )
    return table


def draw_segments(output, image, labels, title=PHOTOGRAPH):
    """Draw an image and its segments, each in its mean colour, side by side."""
    pixels = image.reshape(-1, 3)
    segments = np.empty_like(pixels)
    for label in np.unique(labels):
        segments[labels == label] = pixels[labels == label].mean(axis=0)

    height, width, _ = image.shape
    figure = Figure(figsize=(12, 6 * height / width + 0.4), layout="constrained")
    for axes, picture, heading in zip(
        figure.subplots(1, 2),
        (image, segments.reshape(image.shape)),
        (title, f"{len(np.unique(labels))} components"),
        strict=True,
    ):
        axes.imshow(picture)
        axes.set_title(heading)
        axes.set_axis_off()
    figure.savefig(output, format="png", dpi=120)


def _settings(start):
    """Return the settings of both fits: one start, and no early end."""
    return {
        "n_components": len(start["weights_init"]),
        "tol": 0.0,
        "reg_covar": REG_COVAR,
        "max_iter": ITERATIONS,
        **start,
    }


def _seconds(function, *arguments, **options):
    """Return the wall-clock seconds of a call."""
    started = time.perf_counter()
    with warnings.catch_warnings():
        # With tol=0 every fit runs out of iterations; that is the point.
        warnings.filterwarnings("ignore", ".*did not converge", ConvergenceWarning)
        function(*arguments, **options)
    return time.perf_counter() - started


def _cells(fit):
    return (
        f"{fit.seconds:.2f}",
        f"{fit.rows_per_second / 1e6:.2f}",
        f"{fit.model.n_iter_}",
        f"{fit.model.lower_bound_:.6f}",
    )
