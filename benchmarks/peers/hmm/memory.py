"""How much memory an EM step and decoding add, on rows in a memory-mapped file.

They run in a process of their own, which this one watches. Linux only.
"""

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from benchmarks.data import chain
from benchmarks.peers.hmm.cases import LONG_MEMORY, MEMORY

MB = 2**20
DTYPES = ("float64", "float32")
TASKS = ("fit", "decode")
BLOCK_ROWS = 1_000_000
BETWEEN_LOOKS = 0.002  # seconds; a peak shorter than that may be missed


def rows(plan):
    if not Path("/proc/self/status").exists():
        return
    for case in plan.select(MEMORY + LONG_MEMORY if plan.long else MEMORY):
        for dtype in DTYPES:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "rows.npy"
                _write(path, case, dtype)
                for task in TASKS:
                    _watch(path, task, case)  # compiles; the next process only loads
                    added = _watch(path, task, case)
                    output = case.n_rows * 8 if task == "decode" else 0
                    yield {
                        "task": {"fit": "one EM step", "decode": "decode"}[task],
                        "K, D, T": case.size,
                        "rows": dtype,
                        "file MB": path.stat().st_size / MB,
                        "output MB": output / MB,
                        "added beyond output, MB": (added - output) / MB,
                    }


def _write(path, case, dtype):
    """Write rows a block at a time: a block of its own chain after another."""
    shape = (case.n_rows, case.n_features)
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    for begin in range(0, case.n_rows, BLOCK_ROWS):
        block = mapped[begin : begin + BLOCK_ROWS]
        block[:] = chain(*block.shape, case.n_states, seed=begin)[0]
    mapped.flush()


def _watch(path, task, case):
    """Return by how many bytes a process's anonymous memory rises at its peak.

    Pages of the file are not anonymous: they are the kernel's to drop.
    """
    checkout = Path(__file__).parents[3]
    module = f"{__package__}.watched"
    command = [sys.executable, "-m", module, path, task, str(case.n_states)]
    with subprocess.Popen(
        command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        _expect(process, "ready")
        before = _anonymous(process.pid)
        with _Peak(process.pid) as peak:
            print("begin", file=process.stdin, flush=True)
            _expect(process, "done")
        print("end", file=process.stdin, flush=True)
    return peak.bytes - before


class _Peak:
    """Looks at a process's memory for as long as the context lasts."""

    def __init__(self, pid):
        self.bytes = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()

    def _look(self):
        while True:
            self.bytes = max(self.bytes, _anonymous(self._pid))
            if self._over.wait(BETWEEN_LOOKS):
                break
        self.bytes = max(self.bytes, _anonymous(self._pid))


def _expect(process, word):
    line = process.stdout.readline().strip()
    if line != word:
        raise RuntimeError(f"the process that is watched said {line!r}, not {word!r}")


def _anonymous(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0  # it has ended
