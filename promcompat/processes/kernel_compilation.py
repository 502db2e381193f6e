"""`promcompat compile-kernels`, and what a service does before it starts: compile all kernels once.

A kernel takes one to three seconds to compile, and milliseconds to load from its folder. Without
this, the first process that imports a kernel's module would compile it.

Compilers, which are processes that run this module, get the names of modules by their standard
input, one at a time, so that the end of this process ends them. A module waits for those that it
imports: its compiler would compile them as well.
"""

import ast
import importlib
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from promcompat.core.cache_folder import check_temporary_folder, exclusive_lock
from promcompat.processes.late_imports import without_collection

_LOGGER = logging.getLogger(__name__)
_LOCK: Final = "lock"
_KEPT_FOLDERS: Final = 24
"""Of other versions: checkouts and branches take turns."""
_MAX_COMPILERS: Final = 3
"""The modules of the codec import each other, and take half the time that one compiler takes."""


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
    other. Raises RuntimeError if a module cannot be compiled; the compiler has printed why; and
    NoTemporaryFolderError.
    """
    # Here, because numba takes half a second to import, which other commands need not wait for.
    try:
        with without_collection():
            from promcompat.core.compiled_kernels import (
                KERNEL_FOLDER,
                has_all_kernels,
                kernel_modules,
                note_all_kernels,
            )
    except FileNotFoundError:  # Neither the cache folder nor any temporary one can be written.
        check_temporary_folder()
        raise
    if has_all_kernels(KERNEL_FOLDER):
        return False
    with exclusive_lock(KERNEL_FOLDER / _LOCK):
        if has_all_kernels(KERNEL_FOLDER):
            return False
        _Compilation(kernel_modules(), report).run(min(_MAX_COMPILERS, os.cpu_count() or 1))
        # Whatever the umask is: accounts without a folder of their own use that of root.
        subprocess.run(["chmod", "-R", "a+rX", str(KERNEL_FOLDER)], check=True)
        note_all_kernels(KERNEL_FOLDER)
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


class _Compilation:
    """Modules that are compiled side by side, each after those it imports."""

    def __init__(self, modules: Collection[str], report: Callable[[str], None]) -> None:
        self._n_modules = len(modules)
        self._n_started = 0
        self._report = report
        self._changed = threading.Condition()
        self._ready: list[str] = []
        self._failed = ""
        sources = {module: _source(module) for module in modules}
        graph = {module: _imported(sources[module]) & set(modules) for module in modules}
        self._sorter = TopologicalSorter(graph)
        self._sorter.prepare()
        self._chain_bytes = _chain_bytes(graph, sources)

    def run(self, n_compilers: int) -> None:
        """Compile all of them; RuntimeError names a module that cannot be compiled."""
        threads = [threading.Thread(target=self._keep_busy) for _ in range(n_compilers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failed:
            raise RuntimeError(f"the kernels of {self._failed} cannot be compiled")

    def _keep_busy(self) -> None:
        """Give one compiler a module after the other."""
        command = [sys.executable, "-m", __name__]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as compiler:
            assert compiler.stdin is not None
            assert compiler.stdout is not None
            while module := self._next_module():
                compiler.stdin.write(f"{module}\n")
                self._finish(module, is_compiled=compiler.stdout.readline() == f"{module}\n")
            compiler.stdin.close()

    def _next_module(self) -> str:
        """A module whose imports are compiled, once there is one; none when all are taken."""
        with self._changed:
            while self._sorter.is_active() and not self._failed:
                self._ready += self._sorter.get_ready()
                self._ready.sort(key=self._chain_bytes.__getitem__)
                if self._ready:
                    module = self._ready.pop()
                    self._n_started += 1
                    place = f"{self._n_started}/{self._n_modules}"
                    self._report(f"compiling kernels {place}: {module}")
                    return module
                self._changed.wait()
        return ""

    def _finish(self, module: str, *, is_compiled: bool) -> None:
        with self._changed:
            if is_compiled:
                self._sorter.done(module)
            else:
                self._failed = module
            self._changed.notify_all()


def _source(module: str) -> bytes:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_bytes()


def _imported(source: bytes) -> set[str]:
    """The modules from which a module imports names."""
    nodes = ast.walk(ast.parse(source))
    return {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def _chain_bytes(graph: dict[str, set[str]], sources: dict[str, bytes]) -> dict[str, int]:
    """The size of the longest chain of modules that begins with each: long chains go first."""
    sizes: dict[str, int] = {}
    for module in reversed(list(TopologicalSorter(graph).static_order())):
        after = [sizes[other] for other in sizes if module in graph[other]]
        sizes[module] = len(sources[module]) + max(after, default=0)
    return sizes


def _compile_what_is_asked() -> None:
    """Import the modules named by the standard input, which compiles them, and say so."""
    for line in sys.stdin:
        importlib.import_module(line.strip())
        sys.stdout.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    _compile_what_is_asked()
