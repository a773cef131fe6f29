"""One BLAS thread at a time, since kernels use all cores themselves.

Threads of OpenBLAS go on waiting busily for up to 90 ms after a product or a
factorization, in which kernels have to share cores with them (measured at D = 128,
K = 32 on two cores: 150 ms an iteration, so 106). With one thread, what factorizations
round to does not depend on the number of threads either.
"""

import threading
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_in_use = []  # a mark for each user, and first of all the limiter


@contextmanager
def one_blas_thread():
    """Keep BLAS to one thread, also where several Python threads want that at once.

    Examples
    --------
    >>> from fastem.execution.blas import one_blas_thread
    >>> from threadpoolctl import ThreadpoolController
    >>> with one_blas_thread():
    ...     blas = ThreadpoolController().select(user_api="blas").info()
    >>> {library["num_threads"] for library in blas}
    {1}
    """
    with _lock:
        if not _in_use:
            _in_use.append(_controller().limit(limits=1, user_api="blas"))
        _in_use.append(None)
    try:
        yield
    finally:
        with _lock:
            _in_use.pop()
            if len(_in_use) == 1:
                _in_use.pop().restore_original_limits()


@cache
def _controller():
    return ThreadpoolController()
