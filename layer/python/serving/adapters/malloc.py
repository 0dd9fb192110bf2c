"""Makes glibc's malloc return the memory of large requests to the system.

By default it keeps a heap for each thread, and keeps freed large blocks in these heaps.
"""

from __future__ import annotations

import ctypes

__all__ = ["give_back_memory"]

#: From <malloc.h>. One heap serves all threads: Python's lock lets only one allocate anyway. A
#: block over the threshold is mapped by itself; smaller ones, or more to spare, cost time.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MIB = 1024 * 1024


def give_back_memory() -> None:
    """Configure this process and its forks. With another libc, do nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _MIB)
        mallopt(_M_TRIM_THRESHOLD, 32 * _MIB)
