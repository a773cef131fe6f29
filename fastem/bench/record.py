"""What one run measured: kept in JSON, read again, and compared with a later run."""

import json
import os
import secrets
from pathlib import Path
from statistics import median
from typing import NamedTuple

from fastem.bench.work import Work, limit

FORMAT = "fastem bench"
VERSION = 1
# Ratios nearer to one are never called a change, however small the spread.
TRIFLE = 0.03

SLOWER, FASTER, SAME = "slower", "faster", ""


class Timing(NamedTuple):
    """The seconds of a probe or kernel.

    Attributes
    ----------
    name : str
    amount : float
        How much work one call does.
    unit : str
        Of what: 'row', 'step', 'flop', 'byte', 'element', 'link'.
    seconds : dict of int to list of float
        Of each call, by the number of threads.
    dtype : str, optional
        Of a kernel's data.
    work : Work, optional
        Of a kernel's row or step.
    """

    name: str
    amount: float
    unit: str
    seconds: dict
    dtype: str | None = None
    work: Work | None = None

    def rate(self, n_threads):
        """Return units a second, of the fastest call."""
        return self.amount / min(self.seconds[n_threads])


class Record(NamedTuple):
    """A run: the machine, the versions, and the timings by name."""

    machine: dict
    versions: dict
    probes: dict
    kernels: dict

    @property
    def thread_counts(self):
        """Numbers of threads, from the least to the most."""
        return sorted(next(iter(self.probes.values())).seconds)

    def limit(self, kernel, n_threads):
        """Return the limit of a kernel on some threads."""
        return limit(
            kernel.work,
            kernel.dtype,
            kernel.amount,
            lambda name: self.probes[name].rate(n_threads),
        )

    def share(self, kernel, n_threads):
        """Return the rate of a kernel as a share of its limit."""
        return self.limit(kernel, n_threads).seconds * kernel.rate(n_threads)


class Change(NamedTuple):
    """How a timing changed: seconds now over seconds before, by threads."""

    name: str
    ratios: dict
    verdicts: dict


def save(path, record):
    """Write a record, whole or not at all.

    Parameters
    ----------
    path : path-like
    record : Record

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "machine": record.machine,
        "versions": record.versions,
        "probes": [_to_json(timing) for timing in record.probes.values()],
        "kernels": [_to_json(timing) for timing in record.kernels.values()],
    }
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def load(path):
    """Return a record that :func:`save` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Record

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no record, or one of another version of the format.
    """
    try:
        content = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(
            f"{path} is no record of fastem bench: it is not JSON ({error})"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is JSON, but no record of fastem bench")
    if content.get("version") != VERSION:
        raise ValueError(
            f"{path} is of version {content.get('version')!r} of the format and this "
            f"fastem reads {VERSION}: measure again with --json"
        )
    try:
        return Record(
            dict(content["machine"]),
            dict(content["versions"]),
            *(
                {item["name"]: _from_json(item) for item in content[kind]}
                for kind in ("probes", "kernels")
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} is a damaged record of fastem bench: {error!r}"
        ) from error


def differences(before, after):
    """Return a line for each thing in which two descriptions differ.

    Examples
    --------
    >>> from fastem.bench.record import differences
    >>> differences({"numpy": "2.0"}, {"numpy": "2.1"})
    ['numpy: 2.0 before, 2.1 now']
    """
    return [
        f"{name}: {before.get(name, 'unknown')} before, {value} now"
        for name, value in after.items()
        if before.get(name) != value
    ]


def compare(before, after):
    """Return the changes of timings that have a name, rows and threads in common.

    A change is one beyond what the spread of the repeats explains: the ratio of the
    least seconds is further from one than the medians are from the least of both runs,
    one on top of the other, and further than ``TRIFLE``.

    Parameters
    ----------
    before, after : dict of str to Timing

    Returns
    -------
    list of Change
    """
    changes = []
    for name in after:
        if name not in before or before[name].amount != after[name].amount:
            continue
        old, new = before[name].seconds, after[name].seconds
        counts = [n_threads for n_threads in new if n_threads in old]
        ratios = {n: min(new[n]) / min(old[n]) for n in counts}
        verdicts = {n: _verdict(ratios[n], old[n], new[n]) for n in counts}
        if counts:
            changes.append(Change(name, ratios, verdicts))
    return changes


def _verdict(ratio, old, new):
    spread = median(old) / min(old) * median(new) / min(new)
    allowed = max(spread, 1 + TRIFLE)
    if ratio > allowed:
        return SLOWER
    return FASTER if 1 / ratio > allowed else SAME


def _to_json(timing):
    item = timing._asdict()
    if timing.work is None:
        del item["dtype"], item["work"]
    else:
        item["work"] = timing.work._asdict()
    return item


def _from_json(item):
    seconds = {
        int(n): [float(s) for s in those] for n, those in item["seconds"].items()
    }
    if not seconds or not all(those and min(those) > 0 for those in seconds.values()):
        raise ValueError(f"{item['name']!r} has no seconds")
    kernel = {}
    if "work" in item:
        kernel = {"dtype": item["dtype"], "work": Work(**item["work"])}
    return Timing(item["name"], item["amount"], item["unit"], seconds, **kernel)
