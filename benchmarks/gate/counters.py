"""Instructions that this process executes, where the processor's counters are lent.

``man 2 perf_event_open``: Linux grants them to a process for itself, unless
``/proc/sys/kernel/perf_event_paranoid`` forbids it. Virtual machines often have none.
"""

import ctypes
import os
import platform
import struct

_SYSCALL = {"x86_64": 298, "aarch64": 241}
_HARDWARE, _INSTRUCTIONS = 0, 1
_SIZE = 64
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6


def open_counter(kind=_HARDWARE, event=_INSTRUCTIONS):
    """Return a function that reads a counter of this process and its later threads.

    Raises
    ------
    OSError
        If there is no such counter.
    """
    number = _SYSCALL.get(platform.machine())
    if platform.system() != "Linux" or number is None:
        raise OSError(f"none known on {platform.system()} {platform.machine()}")
    flags = _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR
    attributes = struct.pack("IIQQQQQ", kind, _SIZE, event, 0, 0, 0, flags)
    attributes = ctypes.create_string_buffer(attributes, _SIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    # This process on any processor, in no group, without flags.
    counter = libc.syscall(number, attributes, 0, -1, -1, 0)
    if counter < 0:
        raise OSError(f"perf_event_open: {os.strerror(ctypes.get_errno())}")
    return lambda: int.from_bytes(os.read(counter, 8), "little")
