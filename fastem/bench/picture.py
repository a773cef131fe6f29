"""A record drawn as rooflines, beside the share of its limit that each kernel reaches.

Whatever arithmetic a row takes counts for as many operations as a matrix product does
in the least time it takes, so that kernels of all kinds stand under one roof.
"""

import numpy as np
from matplotlib.figure import Figure

from fastem.bench.probes import DTYPES, FLOAT64, READ_MEGABYTES, gemm_name, read_name
from fastem.bench.report import threads
from fastem.bench.work import ARITHMETIC, EXP, resources

# Kinds of kernels, by how names begin.
COLOURS = {
    "e-step": "#1f77b4",
    "predict": "#e6ab02",
    "score": "#1b9e77",
    "k-means": "#444444",
    "hmm forward": "#d95f02",
    "hmm smoothing": "#7b4fa3",
    "viterbi": "#e7298a",
    "baum-welch": "#8c564b",
    "stage": "#7f8790",
}
# Operations a byte that are drawn in any case.
LEAST_SPAN = 1.0, 100.0
# Beyond this the bar of a kernel that spares most of its work says no more.
MOST_SHARE = 2.0


def draw(path, record):
    """Draw the kernels of a record, on all threads, into a PNG file.

    Stages, which stay in the cache, have a share of their limit but no place under the
    roof.

    Parameters
    ----------
    path : path-like
    record : Record
    """
    height = max(5.0, 1.4 + 0.19 * len(record.kernels))
    figure = Figure(figsize=(15, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    _draw_roofs(left, record)
    _draw_shares(right, record)
    n_threads = record.thread_counts[-1]
    figure.suptitle(f"{record.machine['processor']}, {threads(n_threads)}")
    figure.savefig(path, format="png", dpi=110)


def _draw_roofs(axes, record):
    n_threads = record.thread_counts[-1]

    def rate(name):
        return record.probes[name].rate(n_threads)

    shown = {}
    intensities = list(LEAST_SPAN)
    for kernel in (k for k in record.kernels.values() if k.work.moved):
        peak = rate(gemm_name(kernel.dtype))
        seconds = resources(kernel.work, kernel.dtype, kernel.amount, rate)
        operations = peak * (seconds[ARITHMETIC] + seconds[EXP])
        intensities.append(operations / kernel.work.moved)
        colour = _colour(kernel)
        (point,) = axes.plot(
            intensities[-1],
            1e-9 * operations * kernel.rate(n_threads),
            "o",
            color=colour,
            markerfacecolor=colour if kernel.dtype == FLOAT64 else "none",
            markersize=6,
        )
        if kernel.dtype == FLOAT64:
            shown.setdefault(_kind(kernel), point)

    span = np.geomspace(0.5 * min(intensities), 2 * max(intensities), 200)
    slowest, fastest = (
        rate(read_name(READ_MEGABYTES[-1])),
        rate(read_name(READ_MEGABYTES[0])),
    )
    for dtype, style in zip(DTYPES, ("-", "--"), strict=True):
        peak = rate(gemm_name(dtype))
        axes.plot(span, 1e-9 * np.minimum(peak, slowest * span), style, color="black")
        axes.annotate(
            f"{gemm_name(dtype)} {1e-9 * peak:.0f} GFLOP/s",
            (span[-1], 1e-9 * peak),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
        )
    axes.plot(
        span,
        1e-9 * np.minimum(rate(gemm_name(DTYPES[-1])), fastest * span),
        ":",
        color="black",
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte, all counted as those dgemm does in the time")
    axes.set_ylabel("such operations, billions per second")
    axes.set_title(
        f"Roofline: memory {1e-9 * slowest:.0f} GB/s, "
        f"cache (dotted) {1e-9 * fastest:.0f} GB/s"
    )
    axes.grid(alpha=0.3)
    axes.legend(shown.values(), shown.keys(), loc="lower right")
    notes = "hollow: float32\nabove its roof: a kernel that skips what is negligible"
    axes.text(0.02, 0.98, notes, transform=axes.transAxes, va="top")


def _draw_shares(axes, record):
    kernels = list(record.kernels.values())
    n_threads = record.thread_counts[-1]
    shares = [record.share(kernel, n_threads) for kernel in kernels]
    places = np.arange(len(kernels))
    bars = axes.barh(
        places,
        np.minimum(shares, MOST_SHARE),
        color=[_colour(kernel) for kernel in kernels],
        alpha=0.8,
    )
    for kernel, bar in zip(kernels, bars, strict=True):
        if kernel.dtype != FLOAT64:
            bar.set_facecolor("none")
            bar.set_edgecolor(_colour(kernel))
    labels = [
        f"{share:.0%} {record.limit(kernel, n_threads).resource}"
        for kernel, share in zip(kernels, shares, strict=True)
    ]
    axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.axvline(1.0, color="black", linewidth=0.8, zorder=0)
    axes.set_yticks(places, [kernel.name for kernel in kernels], fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(0, 1.25 * max(1.0, *np.minimum(shares, MOST_SHARE)))
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_title("Share of the limit, and what sets it")


def _kind(kernel):
    return next(kind for kind in COLOURS if kernel.name.startswith(kind))


def _colour(kernel):
    return COLOURS[_kind(kernel)]
