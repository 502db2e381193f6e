"""How the C library's allocator treats the large arrays of queries.

By default glibc maps each array above 128 KiB separately and unmaps it when it is freed, so that
every numpy operation of a query takes a page fault for each page of its result. `rate` over 1,000
series on 231 steps then takes 22 ms; it takes 5 ms when the process keeps freed memory.

glibc returns kept memory only from the top of the heap, so that one small allocation made after a
large query may hold on to everything the query freed. The heap is therefore trimmed some seconds
after such a query.
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
"""The largest threshold that glibc accepts."""
_GROWS_BY_BYTES: Final = 16 << 20
_GIVEN_BACK_TIMES: Final = 2
"""Twice, as the answer may still be on its way the first time."""


def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MiB of freed memory; False when the C library cannot.

    All threads share one arena: others could not grow beyond 64 MiB, and no thread could use what
    another one freed. Must be called before threads start.
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
    """Returns to the system what large queries freed; a loop calls `give_back`."""

    def __init__(self) -> None:
        self._n_due = 0

    def large_query_ended(self) -> None:
        """Note the end of a query that used much memory; its answer may still exist."""
        self._n_due = _GIVEN_BACK_TIMES

    async def give_back(self) -> None:
        """Return free pages to the system if a large query ended a short while ago."""
        if not self._n_due:
            return
        self._n_due -= 1
        await asyncio.to_thread(give_back_memory)


def give_back_memory() -> None:
    """Return free pages to the system."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)
