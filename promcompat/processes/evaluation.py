"""`python -m promcompat.processes.evaluation DESCRIPTOR`: evaluates queries for a service."""

import gc
import sys

from promcompat.processes.memory_allocator import give_back_memory, keep_freed_memory
from promcompat.querying.processes.child import run

if __name__ == "__main__":
    keep_freed_memory()
    gc.collect()
    gc.freeze()
    run(int(sys.argv[1]), give_back_memory)
