"""How fastem compiles: the only place that names Numba flags and the cache policy.

Kernels are built by factories (``make_e_step`` and its like) that close over the tile
functions of a family and over :data:`SOURCE_DIGEST`. Numba keys its disk cache on the
values a function closes over, so an edit of any kernel source compiles anew, and an
unchanged source is loaded from the cache by the next process.
"""

import contextlib
import functools
import hashlib
import os
import threading
import warnings
from contextvars import ContextVar
from pathlib import Path

from llvmlite.binding import get_host_cpu_features
from numba import config, get_num_threads, njit, types
from numba.extending import register_jitable

from fastem.exceptions import CacheWarning

# Reassociation lets LLVM vectorise sums. Never nnan or ninf: EM works with -inf, and a
# NaN must reach the check that reports it.
REASSOCIATE = {"contract", "reassoc", "nsz", "arcp"}
# Error-free transformations such as (x + magic) - magic must not be reassociated.
ROUNDING_EXACT = {"fastmath": {"contract"}, "error_model": "numpy"}

_SOURCE_ROOMS = ("kernels", "families", "models", "bench")

TILE_OPTIONS = {
    "fastmath": REASSOCIATE,
    "error_model": "numpy",
    "forceinline": True,
    "_nrt": False,
}
tile_function = register_jitable(**TILE_OPTIONS)
"""Decorator of the functions that kernels are made of; plain Python without the JIT.

They do not count references, so they must not return arrays to functions that do.
"""

allocating_function = register_jitable(error_model="numpy")
"""Decorator of the functions that allocate a part's working memory or return parts."""

JIT_DISABLED = bool(config.DISABLE_JIT)


def _has_many_registers():
    """Say whether AVX-512 gives the processor 32 vector registers."""
    features = config.CPU_FEATURES
    if features is None:
        return get_host_cpu_features().get("avx512vl", False)
    return "+avx512vl" in features


MANY_REGISTERS = _has_many_registers()

# Numba's portable threading layer aborts the process when two threads enter a parallel
# kernel at once; every kernel uses all cores anyway, so callers take turns.
_one_kernel_at_a_time = threading.Lock()

_serial = ContextVar("_serial", default=False)


def _renew_lock():
    global _one_kernel_at_a_time
    _one_kernel_at_a_time = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextlib.contextmanager
def serial_kernels():
    """Run kernels in the calling thread alone, and at once with those of others.

    For processes that divide rows among threads of their own, such as the workers of
    a cluster. The bits of results are the same.
    """
    token = _serial.set(True)
    try:
        yield
    finally:
        _serial.reset(token)


@functools.cache
def source_digest():
    """Return a digest of every source file that kernels are compiled from."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(
        p for room in _SOURCE_ROOMS for p in package.glob(f"{room}/*.py")
    ):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def data_type(dtype, ndim, layout="A"):
    """Return Numba's type of read-only arrays, of any layout unless one is named.

    A writable array, or one of a stricter layout, is taken without another compilation.
    """
    return types.Array(getattr(types, dtype), ndim, layout, readonly=True)


class _MachineCode(types.WrapperAddressProtocol):
    """A compiled function as an address, which compiled code can be handed to call."""

    def __init__(self, dispatcher, signature):
        self._dispatcher = dispatcher
        self._signature = signature
        self._compiled = dispatcher.get_compile_result(signature)
        name = self._compiled.fndesc.llvm_cfunc_wrapper_name
        self._address = self._compiled.library.get_pointer_to_function(name)

    def __wrapper_address__(self):
        return self._address

    def signature(self):
        return self._signature

    def __call__(self, *arguments):
        return self._dispatcher(*arguments)


def launch_threads():
    """Start Numba's threads: before, no kernel loads that asks for its thread."""
    get_num_threads()


def part_kernel(*arguments):
    """Compile ``run_part(*arguments, part)``, serial and without the GIL.

    One explicit signature: see :func:`data_type` for what it takes without a twin.
    """
    signature = types.void(*arguments, types.int64)

    def decorate(run_part):
        if JIT_DISABLED:
            return run_part
        return _MachineCode(_compile(run_part, signature), signature)

    return decorate


def serial_kernel(*arguments, returns=types.void):
    """Compile a function that has no parts."""

    def decorate(function):
        return function if JIT_DISABLED else _compile(function, returns(*arguments))

    return decorate


def parallel_kernel(*arguments):
    """Compile ``run(run_part, n_parts, *arguments)``, a prange over a part kernel.

    Numba optimises a parallel loop's body three times over; calling the part through
    its address keeps the body out of that and halves the time to compile.
    """
    signature = types.void(
        types.FunctionType(types.void(*arguments, types.int64)),
        types.int64,
        *arguments,
    )

    def decorate(run):
        if JIT_DISABLED:
            return run
        kernel = _compile(run, signature, parallel=True)

        @functools.wraps(run)
        def take_turn(run_part, n_parts, *arguments):
            # With one part, waking the other threads would cost more than the work.
            if n_parts == 1 or _serial.get():
                for part in range(n_parts):
                    run_part(*arguments, part)
                return None
            with _one_kernel_at_a_time:
                return kernel(run_part, n_parts, *arguments)

        return take_turn

    return decorate


def _compile(function, signature, **options):
    options |= {"nogil": True, "error_model": "numpy", "fastmath": REASSOCIATE}
    try:
        return njit([signature], cache=True, **options)(function)
    except (RuntimeError, OSError) as error:
        if isinstance(error, RuntimeError) and "locator" not in str(error):
            raise
        _warn_without_cache()
        return njit([signature], **options)(function)


@functools.cache
def _warn_without_cache():
    warnings.warn(
        "no folder for compiled kernels is writable, so every process compiles anew; "
        "set NUMBA_CACHE_DIR to a writable folder to keep them",
        CacheWarning,
        stacklevel=2,
    )
