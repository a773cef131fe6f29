"""Which machine and which libraries the numbers come from."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec

import joblib
import llvmlite.binding as llvm
import numba
from threadpoolctl import threadpool_info

import fastem
from fastem.bench.machine import processor

_OPENBLAS_PINS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


_PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "llvmlite")


def describe(*more_packages):
    """Return the lines that head a table of timings."""
    packages = (*_PACKAGES, *(name for name in more_packages if find_spec(name)))
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return [
        f"{processor()} ({llvm.get_host_cpu_name()}), {joblib.cpu_count()} cores, "
        f"{numba.get_num_threads()} Numba threads, {platform.platform()}",
        f"fastem {fastem.__version__}, Python {platform.python_version()}, {versions}",
        *(
            f"OpenBLAS {number}, {kernels} kernels, {threads} threads"
            for number, kernels, threads in openblas()
        ),
        *_warnings(),
    ]


def openblas():
    """Return (version, kernels, threads) of each OpenBLAS loaded, without twins."""
    found = {
        (library["version"], library["architecture"], library["num_threads"])
        for library in threadpool_info()
        if library["internal_api"] == "openblas"
    }
    return sorted(found)


def _warnings():
    pins = [name for name in _OPENBLAS_PINS if name in os.environ]
    if not pins:
        return
    settings = " ".join(f"{name}={os.environ[name]}" for name in pins)
    kernels = {kernels for _, kernels, _ in openblas()}
    own_choice = _unpinned_kernels()
    unset = " ".join(f"-u {name}" for name in pins)
    if kernels != own_choice:
        yield (
            f"WARNING: {settings} makes OpenBLAS run {_join(kernels)} kernels; left "
            f"alone it chooses {_join(own_choice)}. That slows scikit-learn down and "
            f"flatters every ratio below: measure with `env {unset}`."
        )
    else:
        yield f"WARNING: OpenBLAS is not as it comes ({settings}): `env {unset}`."


def _unpinned_kernels():
    """Ask a process free of the pins which kernels OpenBLAS chooses on this CPU."""
    environment = {k: v for k, v in os.environ.items() if k not in _OPENBLAS_PINS}
    script = (
        "import numpy, threadpoolctl as t;"
        "print(*{l['architecture'] for l in t.threadpool_info()"
        " if l['internal_api'] == 'openblas'})"
    )
    command = [sys.executable, "-c", script]
    printed = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout
    return set(printed.split())


def _join(names):
    return " and ".join(sorted(names))
