"""The allocator of a process that serves: freed memory serves the next query."""

import platform
import subprocess
import sys

import pytest

FAULTS_OF_REPEATED_ARRAYS = """
import resource, sys
import numpy as np
from promcompat.processes.memory_allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def work():
    for _ in range(5):
        arrays = [np.ones(1 << 20) for _ in range(8)]
        del arrays
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    command = [sys.executable, "-c", FAULTS_OF_REPEATED_ARRAYS, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_large_arrays_use_memory_again() -> None:
    assert page_faults("kept") < page_faults("given back") / 20


RESIDENT_AROUND_A_PINNED_QUERY = """
import asyncio
import numpy as np
from promcompat.processes.memory_allocator import FreedMemory, keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

async def main():
    assert keep_freed_memory()
    freed = FreedMemory()
    before = resident()
    arrays = [np.ones(1 << 20) for _ in range(80)]
    # What stays above what is freed keeps all of it.
    pin = np.ones(1 << 16)
    del arrays
    await freed.give_back()
    kept = resident()
    freed.large_query_ended()
    await freed.give_back()
    print(kept - before, resident() - before, len(pin))

asyncio.run(main())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_of_large_queries_comes_back() -> None:
    command = [sys.executable, "-c", RESIDENT_AROUND_A_PINNED_QUERY]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    kept_bytes, left_bytes, _ = map(int, shown.split())
    assert kept_bytes > 500_000_000
    assert left_bytes < 50_000_000
