"""How much memory work adds to what its data take, in a process of its own."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

MB = 2**20

_RESETS_PEAK = Path("/proc/self/clear_refs")  # Linux


def megabytes_added(prepare, *arguments):
    """Return by how much a call raises the peak of a fresh process, None if not Linux.

    ``prepare(*arguments)`` runs in that process and returns the call; what it leaves
    there, such as data and loaded kernels, does not count. Work that a call gives to
    another process, it tells the memory of by the ``added_bytes`` of what it returns.
    """
    if not _RESETS_PEAK.exists():
        return None
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_bytes_added, prepare, arguments).result() / MB


def _bytes_added(prepare, arguments):
    call = prepare(*arguments)
    _RESETS_PEAK.write_text("5")
    before = _peak_bytes()
    returned = call()
    told = getattr(returned, "added_bytes", None)
    return _peak_bytes() - before if told is None else told


def _peak_bytes():
    # Not ru_maxrss: a child inherits its parent's.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the system tells no peak of resident memory")
