"""How fastem compiles: the only place that names Numba flags and the cache policy.

Kernels are built by factories (``make_e_step`` and its like) that close over the tile
functions of a family. Numba keys its disk cache on the values a function closes over,
and here on a digest of all sources. So an edit of any compiles anew, and unchanged
sources are loaded from the cache by the next process.
"""

import contextlib
import functools
import gc
import hashlib
import os
import threading
import warnings
from contextvars import ContextVar
from pathlib import Path

from llvmlite.binding import get_host_cpu_features
from numba import config, get_num_threads, njit, prange, types
from numba.extending import register_jitable

from fastem.exceptions import CacheWarning
from fastem.lowering import (
    BORROWING,
    CalleeCompiler,
    OptimizingCalleeCompiler,
    Packed,
    call,
    pack,
    take_next,
    unpack,
)

# Reassociation lets LLVM vectorise sums. Never nnan or ninf: EM works with -inf, and a
# NaN must reach the check that reports it.
REASSOCIATE = {"contract", "reassoc", "nsz", "arcp"}
# Error-free transformations such as (x + magic) - magic must not be reassociated.
ROUNDING_EXACT = {"fastmath": {"contract"}, "error_model": "numpy"}

_SOURCES = (
    "compile.py",
    "lowering.py",
    "kernels/*.py",
    "families/*.py",
    "models/*.py",
    "bench/*.py",
)

TILE_OPTIONS = {
    "pipeline_class": CalleeCompiler,
    "fastmath": REASSOCIATE,
    "error_model": "numpy",
    "forceinline": True,
    "no_cfunc_wrapper": True,
    **BORROWING,
}
tile_function = register_jitable(**TILE_OPTIONS)
"""Decorator of the functions that kernels are made of; plain Python without the JIT.

They do not count references, so they must not return arrays to functions that do.
"""

SUBROUTINE_OPTIONS = TILE_OPTIONS | {"forceinline": False}
tile_subroutine = register_jitable(**SUBROUTINE_OPTIONS)
"""Decorator of such a function that may be called, not copied into each caller.

Of large ones with several callers that takes a third off the time to compile (measured
for the kernels of diagonal covariances), and no time from a tile.
"""

tile_loop = register_jitable(
    **TILE_OPTIONS | {"pipeline_class": OptimizingCalleeCompiler}
)
"""Decorator of such a function that LLVM is to optimise before it inlines it.

It costs time to compile, and pays for short loops over many arrays, which LLVM no
longer vectorises once they are unrolled or that others write to the same arrays nearby
(measured in Viterbi's recursion at K = 4: 1.4 times as long without).
"""

allocating_function = register_jitable(
    pipeline_class=CalleeCompiler, error_model="numpy", no_cfunc_wrapper=True
)
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

# Code of which only the address is kept elsewhere, lest it is collected.
_known_by_address = []

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
    for path in sorted(p for files in _SOURCES for p in package.glob(files)):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def data_type(dtype, ndim, layout="A"):
    """Return Numba's type of read-only arrays, of any layout unless one is named.

    A writable array, or one of a stricter layout, is taken without another compilation.
    """
    return types.Array(getattr(types, dtype), ndim, layout, readonly=True)


# The address of a part's code, how many parts and threads, and the parts' arguments.
_PARTS = Packed((types.int64,) * 4)


def _loop(packed, _):
    run_part, n_parts, _, arguments = unpack(packed)
    for part in range(n_parts):
        call(run_part, arguments, part)


def _parallel_loop(packed, _):
    # Each thread takes the next part when it is done with one: one that wakes late, or
    # whose core others use, is not waited for with half of the parts (measured beside a
    # busy process on two cores: 54 to 39 ms).
    run_part, n_parts, n_threads, arguments = unpack(packed)
    following = pack((0,))
    for _ in prange(n_threads):
        part = take_next(following)
        while part < n_parts:
            call(run_part, arguments, part)
            part = take_next(following)


@functools.cache
def _make_loop(parallel):
    """Build the loop over the parts of any kernel."""
    function = _parallel_loop if parallel else _loop
    return callee(_PARTS, types.int64, options={"parallel": parallel})(function)


def _make_enter(arguments):
    """Build what packs the arguments of one kernel and enters that loop."""

    def enter(loop, run_part, n_parts, n_threads, arguments):
        call(loop, pack((run_part, n_parts, n_threads, pack(arguments))), 0)

    return _compile(enter, types.void(*(types.int64,) * 4, arguments))


def launch_threads():
    """Start Numba's threads: before, no kernel loads that asks for its thread."""
    get_num_threads()


def parallel_kernel(*arguments):
    """Compile ``run_part(packed, part)`` to ``run(n_parts, *arguments)``.

    A part begins with ``... = unpack(packed)``. All kernels share one parallel loop,
    which calls parts at their address: Numba optimises a parallel loop's body three
    times over.

    One explicit signature: see :func:`data_type` for what it takes without a twin.
    """

    def decorate(run_part):
        if JIT_DISABLED:
            return functools.partial(_run_in_python, run_part)
        packed = Packed(arguments)
        code = callee(packed, types.int64, options={})(run_part)
        enter = _make_enter(packed.members)
        loop, parallel_loop = _make_loop(parallel=False), _make_loop(parallel=True)

        @functools.wraps(run_part)
        def run(n_parts, *arguments):
            # With one part, waking the other threads would cost more than the work.
            if n_parts == 1 or _serial.get():
                enter(loop, code, n_parts, 1, arguments)
                return
            with _one_kernel_at_a_time:
                enter(parallel_loop, code, n_parts, get_num_threads(), arguments)

        return run

    return decorate


def _run_in_python(run_part, n_parts, *arguments):
    for part in range(n_parts):
        run_part(arguments, part)


def serial_kernel(*arguments, returns=types.void):
    """Compile a function that has no parts."""

    def decorate(function):
        return function if JIT_DISABLED else _compile(function, returns(*arguments))

    return decorate


def callee(first, second, options=BORROWING):
    """Compile a function that others :func:`~fastem.lowering.call` to its address.

    It takes two numbers or packed tuples and returns nothing. By default it does not
    count references. Without the JIT it stays what it is.
    """

    def decorate(function):
        if JIT_DISABLED:
            return function
        signature = types.void(first, second)
        dispatcher = _compile(function, signature, **options)
        compiled = dispatcher.get_compile_result(signature)
        _known_by_address.append(dispatcher)
        name = compiled.fndesc.llvm_cfunc_wrapper_name
        return compiled.library.get_pointer_to_function(name)

    return decorate


def _compile(function, signature, **options):
    # Numba names the files of its cache after this. So it never meets those of other
    # sources, whose types it may not find any more; and processes that compile at once
    # seldom share a list of files, of which they would lose one another's entries.
    identity = f"{source_digest()} {signature}"
    function.__qualname__ += f".{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    options |= {"nogil": True, "error_model": "numpy", "fastmath": REASSOCIATE}
    with _no_garbage_collection():
        try:
            return njit([signature], cache=True, **options)(function)
        except (RuntimeError, OSError) as error:
            if isinstance(error, RuntimeError) and "locator" not in str(error):
                raise
            _warn_without_cache()
            return njit([signature], **options)(function)


@contextlib.contextmanager
def _no_garbage_collection():
    """Do not search for garbage meanwhile: Numba allocates much and drops little.

    Measured in a first fit of a mixture: 2.3 s of 26, for 100 MB that are freed later.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@functools.cache
def _warn_without_cache():
    warnings.warn(
        "no folder for compiled kernels is writable, so every process compiles anew; "
        "set NUMBA_CACHE_DIR to a writable folder to keep them",
        CacheWarning,
        stacklevel=2,
    )
