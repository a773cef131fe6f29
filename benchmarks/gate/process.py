"""Versions at work: a process each, of which one works at a time."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Broken(Exception):
    """A version cannot do what it is asked to."""


class Version:
    """A process with the fastem of a folder and the benchmarks of this checkout."""

    def __init__(self, folder):
        path = os.pathsep.join((str(folder), str(ROOT)))
        # A thread of BLAS that waits busily would count as CPU time.
        environment = {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            # Without -P, this folder's fastem would come first.
            [sys.executable, "-P", "-m", "benchmarks.gate.worker"],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent, which ends this
        )
        self._expected = Path(folder) / "fastem"
        self.no_counter = None

    def greet(self):
        """Wait until the process is there, and see that it has the right package."""
        hello = self.answer()
        if Path(hello["package"]).resolve() != self._expected.resolve():
            raise Broken(f"imported {hello['package']}, not {self._expected}")
        self.no_counter = hello["no_counter"]

    def ask(self, case, core=None):
        """Ask for a timing, without waiting for it."""
        try:
            self._process.stdin.write(json.dumps([case, core]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def answer(self):
        """Wait for what was asked for."""
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer = json.loads(line)
        if "error" in answer:
            raise Broken(answer["error"])
        return answer

    def end(self):
        """End the process, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def _died(self):
        return Broken(f"its process ended with code {self._process.wait()}")


def cores():
    """Return the cores that a process can be kept on; None for wherever it likes."""
    pinning = hasattr(os, "sched_getaffinity")
    return sorted(os.sched_getaffinity(0)) if pinning else [None]


@contextlib.contextmanager
def running(folders):
    """Start a version for each folder, and end them all."""
    versions = []
    try:
        for folder in folders:
            versions.append(Version(folder))
        for version in versions:
            version.greet()
        yield versions
    finally:
        for version in versions:
            version.end()
