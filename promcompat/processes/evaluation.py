"""`python -m promcompat.processes.evaluation DESCRIPTOR`: evaluates queries for a service."""

import gc
import sys
from typing import Final

from promcompat.processes.memory_allocator import give_back_memory, keep_freed_memory
from promcompat.querying.processes.child import run

_KEPT_BYTES: Final = 1 << 30
"""The matrices of a long query, for the next one. Some virtual machines stop a core for
milliseconds when it takes a new page from the host, and whoever waits for that core waits too."""

if __name__ == "__main__":
    keep_freed_memory(_KEPT_BYTES)
    gc.collect()
    gc.freeze()
    run(int(sys.argv[1]), give_back_memory)
