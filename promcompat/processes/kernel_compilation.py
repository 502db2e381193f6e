"""`promcompat compile-kernels`, and what a service does before it starts: compile all kernels once.

A kernel takes one to three seconds to compile, and milliseconds to load from its folder. Without
this, the first process that imports a kernel's module would compile it.
"""

import importlib
import logging
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from promcompat.core.cache_folder import exclusive_lock
from promcompat.processes.late_imports import without_collection

_LOGGER = logging.getLogger(__name__)
_DONE: Final = "compiled"
"""An empty file that is written when all kernels are in the folder."""
_LOCK: Final = "lock"
_KEPT_FOLDERS: Final = 24
"""Of other versions: checkouts and branches take turns."""


def run_compile_kernels() -> int:
    """Compile what is not compiled yet, and show the progress; the exit code."""
    started = time.monotonic()
    if compile_kernels(_print):
        _print(f"done in {time.monotonic() - started:.0f} s")
    return 0


def _print(line: str) -> None:
    sys.stdout.write(f"    {line}\n")
    sys.stdout.flush()


def compile_at_start() -> None:
    """Compile what is not compiled yet, and log the progress."""
    compile_kernels(_LOGGER.info)


def compile_kernels(report: Callable[[str], None]) -> bool:
    """Compile all kernels unless they are; whether that was necessary.

    `report` gets a line before each module. Processes that compile the same kernels wait for each
    other.
    """
    # Here, because numba takes half a second to import, which other commands need not wait for.
    with without_collection():
        from promcompat.core.compiled_kernels import KERNEL_FOLDER, kernel_modules

    if (KERNEL_FOLDER / _DONE).exists():
        return False
    with exclusive_lock(KERNEL_FOLDER / _LOCK):
        if (KERNEL_FOLDER / _DONE).exists():
            return False
        modules = kernel_modules()
        for number, module in enumerate(modules, start=1):
            report(f"compiling kernels {number}/{len(modules)}: {module}")
            importlib.import_module(module)
        (KERNEL_FOLDER / _DONE).touch()
    _remove_old(KERNEL_FOLDER)
    return True


def _remove_old(current: Path) -> None:
    """Delete the kernels of other versions, except the newest.

    A process that still runs such a version has loaded its kernels, or compiles them again.
    """
    others = [folder for folder in current.parent.iterdir() if folder != current]
    newest_first = sorted(others, key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in newest_first[_KEPT_FOLDERS:]:
        shutil.rmtree(folder, ignore_errors=True)
