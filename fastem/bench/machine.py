"""Which machine and which libraries measurements come from."""

import platform
from importlib.metadata import version
from pathlib import Path

import llvmlite.binding as llvm
import numba
import numpy as np
from threadpoolctl import threadpool_info

import fastem

_CPUINFO = Path("/proc/cpuinfo")


def describe_machine():
    """Return what makes timings of two machines incomparable, by name."""
    return {
        "processor": processor(),
        "microarchitecture": llvm.get_host_cpu_name(),
        "threads": numba.config.NUMBA_NUM_THREADS,
        "system": f"{platform.system()} {platform.machine()}",
    }


def describe_versions():
    """Return the versions of what kernels and limits are made with, by name."""
    return {
        "fastem": fastem.__version__,
        "Python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "numba", "llvmlite")},
        "BLAS": _blas(),
    }


def processor():
    """Return the processor's name, as the system tells it."""
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _blas():
    """Return the libraries that NumPy multiplies matrices with, as far as is known."""
    np.ones((1, 1)) @ np.ones((1, 1))  # loads them
    found = {
        " ".join(
            str(library[key])
            for key in ("internal_api", "version", "architecture")
            if library.get(key)
        )
        for library in threadpool_info()
        if library["user_api"] == "blas"
    }
    return ", ".join(sorted(found)) or "unknown"
