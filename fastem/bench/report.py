"""A record as Markdown that reads well on a terminal, too."""

from statistics import median

import numpy as np

from fastem.bench.cases import is_stage
from fastem.bench.record import FASTER, SLOWER

# How a rate is shown: what it is called, and the factor to it.
_RATES = {"flop": ("GFLOP/s", 1e-9), "byte": ("GB/s", 1e-9)}
# Title, what rates count, and whether stages are shown.
_TABLES = (
    ("Mixtures and k-means", "row", False),
    ("Chains", "step", False),
    ("Stages of mixtures", "row", True),
    ("Stages of chains", "step", True),
)


def report(record):
    """Return the text of a record: machine, limits, kernels, threads.

    Parameters
    ----------
    record : Record

    Returns
    -------
    str
    """
    parts = [_machine(record), _limits(record)]
    kernels = record.kernels.values()
    for title, unit, of_stages in _TABLES:
        chosen = [k for k in kernels if k.unit == unit and is_stage(k) == of_stages]
        if chosen:
            parts.append(_kernels(record, chosen, title, unit))
    whole = [kernel for kernel in kernels if not is_stage(kernel)]
    if len(record.thread_counts) > 1 and whole:
        parts.append(_scaling(record, whole))
    return "\n\n".join(parts)


def comparison(probes, kernels):
    """Return the text of changes.

    Parameters
    ----------
    probes, kernels : list of Change
    """
    changes = probes + kernels
    counts = sorted({n for change in changes for n in change.ratios})
    rows = [
        [
            change.name,
            *(f"{change.ratios[n]:.2f}" if n in change.ratios else "" for n in counts),
            _verdict(change),
        ]
        for change in changes
    ]
    heads = ["now / before", *(threads(n) for n in counts), ""]
    return (
        f"{table(heads, rows)}\n\n{_summary('limits', probes)}\n"
        f"{_summary('kernels', kernels)}"
    )


def _verdict(change):
    """Return what happened on which numbers of threads."""
    if len(set(change.verdicts.values())) == 1:
        return next(iter(change.verdicts.values()))
    return ", ".join(
        f"{verdict} on {n}" for n, verdict in change.verdicts.items() if verdict
    )


def _summary(what, changes):
    counts = {
        verdict: sum(verdict in change.verdicts.values() for change in changes)
        for verdict in (SLOWER, FASTER)
    }
    return (
        f"Of {len(changes)} {what}, {counts[SLOWER]} slower and {counts[FASTER]} "
        "faster than the spread of the repeats explains."
    )


def table(heads, rows):
    """Return a Markdown table, the first column to the left and the others right.

    Examples
    --------
    >>> from fastem.bench.report import table
    >>> print(table(["kernel", "ms"], [["predict", "1.5"]]))
    | kernel  |  ms |
    | :------ | --: |
    | predict | 1.5 |
    """
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    widths = [max(width, 3) for width in widths]

    marks = [":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])]
    lines = []
    for first, *others in (heads, marks, *rows):
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _machine(record):
    machine = ", ".join(f"{name} {value}" for name, value in record.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in record.versions.items())
    return f"{machine}  \n{versions}"


def _limits(record):
    """Return the table of what the machine can do at best."""
    counts = record.thread_counts
    rows = []
    for probe in record.probes.values():
        unit, factor = _RATES.get(probe.unit, (f"ns per {probe.unit}", None))
        rates = [probe.rate(n) for n in counts]
        shown = [1e9 / rate if factor is None else rate * factor for rate in rates]
        rows.append([probe.name, *map(_three_digits, shown), unit])
    return table(["limit", *map(threads, counts), "of"], rows)


def _kernels(record, kernels, title, unit):
    """Return the table of kernels on all threads, and their shares of limits."""
    most = record.thread_counts[-1]
    shares = sorted({1, most} & set(record.thread_counts), reverse=True)
    rows = []
    for kernel in kernels:
        seconds, rate, work = kernel.seconds[most], kernel.rate(most), kernel.work
        rows.append(
            [
                kernel.name,
                _three_digits(1e3 * min(seconds)),
                _three_digits(1e3 * median(seconds)),
                _three_digits(1e-6 * rate),
                _three_digits(1e-9 * rate * work.flop),
                _three_digits(1e-9 * rate * work.moved),
                record.limit(kernel, most).resource,
                *(f"{record.share(kernel, n):.0%}" for n in shares),
            ]
        )
    heads = [
        f"{title}, {threads(most)}",
        "least ms",
        "median ms",
        f"M {unit}s/s",
        "GFLOP/s",
        "GB/s",
        "limit",
        "of limit",
        *("on 1 thread" for _ in shares[1:]),
    ]
    return table(heads, rows)


def _scaling(record, kernels):
    """Return the table of how many times faster kernels are on more threads."""
    least, *more = record.thread_counts
    rows = [
        [
            kernel.name,
            _three_digits(1e3 * min(kernel.seconds[least])),
            *(f"{kernel.rate(n) / kernel.rate(least):.2f}×" for n in more),
        ]
        for kernel in kernels
    ]
    heads = ["Threads", f"ms on {least}", *(f"on {n}" for n in more)]
    return table(heads, rows)


def threads(n_threads):
    """Return a number of threads in words."""
    return f"{n_threads} thread" if n_threads == 1 else f"{n_threads} threads"


def _three_digits(value):
    """Return a number to three digits, without an exponent."""
    text = np.format_float_positional(value, 3, unique=False, fractional=False)
    return text.rstrip(".")
