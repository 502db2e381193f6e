"""How the C library's allocator treats the large arrays of queries.

glibc gives arrays above 128 KiB their own mapping and hands it back as soon as they are freed, so
that every numpy operation of a query faults its result in page by page: `rate` over 1,000 series
on 231 steps takes 22 ms so, and 5 ms when freed memory stays with the process.

What a large query freed stays below whatever was allocated after it, however much that is, so it is
given back on purpose some seconds after such a query.
"""

import asyncio
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
_GIVEN_BACK_TIMES: Final = 2
"""Once more, since the answer may still have been on its way the first time."""


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


class FreedMemory:
    """Gives back what large queries freed, when it is asked to from time to time."""

    def __init__(self) -> None:
        self._n_due = 0

    def large_query_ended(self) -> None:
        """To be called at the end of a query that took much; its answer may still be there."""
        self._n_due = _GIVEN_BACK_TIMES

    async def give_back(self) -> None:
        """Hand free pages to the system if a large query ended since it was done last."""
        if not self._n_due:
            return
        self._n_due -= 1
        await asyncio.to_thread(_give_back)


def _give_back() -> None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)
