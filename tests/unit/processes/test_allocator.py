"""The allocator of a process that serves: freed memory serves the next query."""

import mmap
import platform
import subprocess
import sys

import pytest

from promcompat.processes.memory_allocator import MADV_COLLAPSE

FAULTS_OF_REPEATED_ARRAYS = """
import resource, sys
import numpy as np
from promcompat.processes.memory_allocator import keep_freed_memory
how, n = sys.argv[1], int(sys.argv[2])
if how == "kept":
    assert keep_freed_memory(1 << 30)
def work():
    for _ in range(5):
        arrays = [np.ones(n) for _ in range(8)]
        del arrays
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str, n: int) -> int:
    command = [sys.executable, "-c", FAULTS_OF_REPEATED_ARRAYS, how, str(n)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
@pytest.mark.parametrize("n_bytes", [8 << 20, 64 << 20])
def test_large_arrays_use_memory_again(n_bytes: int) -> None:
    assert page_faults("kept", n_bytes // 8) < page_faults("given back", n_bytes // 8) / 20


RESIDENT_AROUND_A_PINNED_QUERY = """
import asyncio, itertools, sys
import numpy as np
from promcompat.processes.memory_allocator import FreedMemory, keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

async def main():
    is_in_use = sys.argv[1] == "in use"
    assert keep_freed_memory()
    times = itertools.count(0, 5)
    freed = FreedMemory(lambda: next(times))
    before = resident()
    arrays = [np.ones(1 << 20) for _ in range(80)]
    # What stays above what is freed keeps all of it.
    pin = np.ones(1 << 16)
    del arrays
    await freed.give_back()
    kept = resident()
    for _ in range(11):
        freed.large_query_ended()
        await freed.give_back()
    still_kept = resident()
    if is_in_use:
        freed.large_query_ended()
    await freed.give_back()
    print(kept - before, still_kept - before, resident() - before, len(pin))

asyncio.run(main())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
@pytest.mark.parametrize("state", ["idle", "in use"])
def test_memory_of_large_queries_comes_back(state: str) -> None:
    """At once when none came since the last call, and otherwise after a minute."""
    command = [sys.executable, "-c", RESIDENT_AROUND_A_PINNED_QUERY, state]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    freed_bytes, kept_bytes, left_bytes, _ = map(int, shown.split())
    assert freed_bytes > 500_000_000
    assert kept_bytes > 500_000_000
    assert left_bytes < 50_000_000


HUGE_PAGES_AROUND_A_CALL = """
from promcompat.processes.memory_allocator import use_huge_pages

def huge_kilobytes():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages"))

objects = [str(number) for number in range(1_000_000)]
before = huge_kilobytes()
use_huge_pages()
assert objects == [str(number) for number in range(1_000_000)]
print(huge_kilobytes() - before)
"""


def _can_collapse() -> bool:
    with mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.write(b"x" * len(memory))
        try:
            memory.madvise(MADV_COLLAPSE)
        except (AttributeError, OSError):
            return False
        return True


@pytest.mark.skipif(not _can_collapse(), reason="the system does not join pages when it is asked")
def test_objects_are_in_huge_pages() -> None:
    command = [sys.executable, "-c", HUGE_PAGES_AROUND_A_CALL]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(shown) > 30_000
