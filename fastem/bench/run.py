"""One run: all probes, then the kernels."""

import contextlib

import numba

from fastem.bench.cases import cases, release, select
from fastem.bench.machine import describe_machine, describe_versions
from fastem.bench.measure import FULL, QUICK, thread_counts, time_call
from fastem.bench.probes import probes
from fastem.bench.record import Record, Timing


@contextlib.contextmanager
def _unwatched(n_steps):
    yield lambda name: None


def measure(patterns=(), *, quick=False, watch=_unwatched):
    """Return what the machine and the kernels of some names do.

    Nothing is compiled within what is timed.

    Parameters
    ----------
    patterns : sequence of str
        See :func:`fastem.bench.cases.select`.
    quick : bool
        Whether to take a tenth of the rows and fewer repeats.
    watch : callable
        ``watch(n)`` is a context that yields ``begin(name)``, called before each of n.

    Returns
    -------
    Record

    Raises
    ------
    ValueError
        If a pattern is in no kernel's name.
    """
    chosen = select(cases(quick=quick), patterns)
    limits = probes()
    effort = QUICK if quick else FULL
    most = numba.get_num_threads()
    counts = sorted({1, most}) if quick else thread_counts(most)
    found, kernels = {}, {}
    with watch(len(limits) + len(chosen)) as begin:
        for probe in limits:
            begin(probe.name)
            seconds = time_call(
                probe.prepare, counts, effort, uses_blas=probe.uses_blas
            )
            found[probe.name] = Timing(probe.name, probe.amount, probe.unit, seconds)
        for case in chosen:
            begin(case.name)
            seconds = time_call(case.prepare, counts, effort)
            kernels[case.name] = Timing(
                case.name, case.n_rows, case.unit, seconds, case.dtype, case.work
            )
    release()
    return Record(describe_machine(), describe_versions(), found, kernels)
