"""A setting of the C library's allocator that makes large requests cheaper."""

from __future__ import annotations

import ctypes

# Numbers of glibc's <malloc.h>.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

RETAINED_BYTES = 64 << 20
MAX_MMAP_THRESHOLD = 32 << 20
"""The most that glibc accepts on 64-bit machines (HEAP_MAX_SIZE / 2 of malloc/arena.c); above, mallopt fails."""


def retain_freed_memory(kept_bytes: int = RETAINED_BYTES) -> bool:
    """Lets glibc keep up to this much freed memory instead of returning it to the kernel at once.

    By default glibc maps each buffer above 128 KB (M_MMAP_THRESHOLD) or trims the heap after it (M_TRIM_THRESHOLD), and
    each page of the next such buffer faults: parsing a chat request of 400 KB takes 650 us instead of 150.
    Applies to the whole process. False if the C library has no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(
        mallopt(M_MMAP_THRESHOLD, min(kept_bytes, MAX_MMAP_THRESHOLD)) and mallopt(M_TRIM_THRESHOLD, kept_bytes)
    )
