"""glibc's malloc, told that memory is scarce: what a large request took goes back to the system.

By itself it keeps a heap for every thread, and in them large blocks, once it has seen some.
"""

from __future__ import annotations

import ctypes

__all__ = ["give_back_memory"]

#: From <malloc.h>. One heap serves all threads: Python's lock lets only one allocate anyway. A
#: block over the threshold is mapped by itself; smaller ones, or more to spare, cost time.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MIB = 1024 * 1024


def give_back_memory() -> None:
    """Set it for this process, and those forked from it; where libc is another, do nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _MIB)
        mallopt(_M_TRIM_THRESHOLD, 32 * _MIB)
