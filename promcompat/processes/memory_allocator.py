"""How the memory of a process is laid out: the large arrays of queries, and what it starts with.

By default glibc maps each array above 128 KiB separately and unmaps it when it is freed, so that
every numpy operation of a query takes a page fault for each page of its result. `rate` over 1,000
series on 231 steps then takes 22 ms; it takes 5 ms when the process keeps freed memory.

glibc returns kept memory only from the top of the heap, so that one small allocation made after a
large query may hold on to everything the query freed. The heap is therefore trimmed some seconds
after the last of such queries, so that each can use the memory of the one before it. Some virtual
machines return memory to their host when it has been free for two seconds. A query of 6 million
samples that has to get it back takes 350 to 700 ms instead of 70.

Modules and caches are spread over more than a hundred megabytes. In pages of 2 MiB the processor
finds the address of each of them sooner than in pages of 4 KiB: a small query takes 0.93 of the
time.
"""

import asyncio
import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

# The parameters of mallopt(3) by their numbers in glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_MAX: Final = -4
_M_ARENA_MAX: Final = -8

_KEPT_BYTES: Final = 256 << 20
_GROWS_BY_BYTES: Final = 16 << 20
_GIVEN_BACK_TIMES: Final = 2
"""Twice, as the answer may still be on its way the first time."""
_KEPT_SECONDS: Final = 60.0
"""How long nothing is returned while large queries follow each other."""
MADV_COLLAPSE: Final = 25
"""Of madvise(2), in Linux since 6.1: replaces pages of 4 KiB by huge ones, and copies them."""
_HUGE_PAGES: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_MAPPINGS: Final = Path("/proc/self/maps")


def keep_freed_memory(kept_bytes: int = _KEPT_BYTES) -> bool:
    """Let this process keep so much freed memory; False when the C library cannot.

    Arrays of any size are in the heap, since those with a mapping of their own are not kept. All
    threads share one arena: others could not grow beyond 64 MiB, and no thread could use what
    another one freed. Must be called before threads start.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    parameters = (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, kept_bytes),
        (_M_TOP_PAD, _GROWS_BY_BYTES),
    )
    results = [mallopt(name, value) for name, value in parameters]
    return 0 not in results


class FreedMemory:
    """Returns to the system what large queries freed; a loop calls `give_back`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_in_use = False
        self._kept_since = clock()
        self._n_due = 0

    def large_query_ended(self) -> None:
        """Note the end of a query that used much memory; its answer may still exist."""
        self._is_in_use = True

    async def give_back(self) -> None:
        """Return free pages to the system if a large query has ended lately.

        Nothing is returned if one ended since the last call, as another one may follow, unless
        memory has been kept for a minute.
        """
        now = self._clock()
        if self._is_in_use:
            self._is_in_use = False
            self._n_due = _GIVEN_BACK_TIMES
            if now - self._kept_since < _KEPT_SECONDS:
                return
        self._kept_since = now
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


def use_huge_pages() -> None:
    """Have what this process has in memory by now in pages of 2 MiB.

    Nothing changes where the system refuses that, or wants no such pages.
    """
    try:
        if "[never]" in _HUGE_PAGES.read_text():
            return
        madvise = ctypes.CDLL(None).madvise
        mappings = _MAPPINGS.read_text().splitlines()
    except (AttributeError, OSError, TypeError):
        return
    for mapping in mappings:
        bounds, mode, _, _, inode, *name = mapping.split()
        if mode == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            first, end = (int(address, 16) for address in bounds.split("-"))
            madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), MADV_COLLAPSE)
