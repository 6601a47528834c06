"""One setting of the C library that large requests feel."""

from __future__ import annotations

import ctypes

# Numbers of glibc's <malloc.h>.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

RETAINED_BYTES = 64 << 20


def retain_freed_memory(kept_bytes: int = RETAINED_BYTES) -> bool:
    """Tells glibc to keep up to this much freed memory instead of handing it back to the kernel at once.

    By default every buffer above 128 KB is mapped anew, or the heap trimmed behind it, and each of its pages faulted
    in: a chat request of 400 KB parses in 650 us instead of 150. False where the C library has no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, min(kept_bytes, 32 << 20)) and mallopt(M_TRIM_THRESHOLD, kept_bytes))
