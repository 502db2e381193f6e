"""How the C library's allocator treats the large arrays of queries.

glibc gives arrays above 128 KiB their own mapping and hands it back as soon as they are freed, so
that every numpy operation of a query faults its result in page by page: `rate` over 1,000 series
on 231 steps takes 22 ms so, and 5 ms when freed memory stays with the process.
"""

import ctypes
from typing import Final

# The parameters of mallopt(3) by their numbers in glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_KEPT_BYTES: Final = 256 << 20
_OWN_MAPPING_FROM_BYTES: Final = 32 << 20
"""The most that glibc takes."""
_GROWS_BY_BYTES: Final = 16 << 20


def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MiB that it freed; whether the C library can do so.

    One arena for all threads: others could not grow beyond 64 MiB, and what one thread freed
    would not serve the next. To be called before threads start.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    parameters = (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_THRESHOLD, _OWN_MAPPING_FROM_BYTES),
        (_M_TRIM_THRESHOLD, _KEPT_BYTES),
        (_M_TOP_PAD, _GROWS_BY_BYTES),
    )
    results = [mallopt(name, value) for name, value in parameters]
    return 0 not in results
