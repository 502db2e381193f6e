"""CPU time, memory and bytes written of a program and its children, from /proc."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS: Final = 0.5
SERVICE: Final = "service"
DATABASE: Final = "database"
_DATABASE_PROGRAM: Final = "postgres"


@dataclass(slots=True)
class Usage:
    """What the processes of one role used."""

    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    """Proportional: what processes share is counted once."""
    written_bytes: int = 0
    """To the disk: of logs, data and everything else."""


@dataclass(slots=True)
class Peak:
    """The largest memory of each role that was seen."""

    memory_bytes: dict[str, int] = field(default_factory=dict)


def descendants(root: int) -> list[int]:
    """A process and everything below it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def measure_usage(root: int) -> dict[str, Usage]:
    """What a program used until now, by role."""
    usages = {SERVICE: Usage(), DATABASE: Usage()}
    for process in descendants(root):
        with suppress(OSError):
            folder = Path(f"/proc/{process}")
            usage = usages[_role(folder)]
            usage.cpu_seconds += _cpu_seconds(folder)
            usage.memory_bytes += _proportional_bytes(folder)
            usage.written_bytes += _written_bytes(folder)
    return usages


def _role(folder: Path) -> str:
    is_database = (folder / "comm").read_text().startswith(_DATABASE_PROGRAM)
    return DATABASE if is_database else SERVICE


def _cpu_seconds(folder: Path) -> float:
    """User and system time, with that of children who have ended."""
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_SECOND


def _proportional_bytes(folder: Path) -> int:
    for line in (folder / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _written_bytes(folder: Path) -> int:
    for line in (folder / "io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


@contextmanager
def watched_memory(root: int) -> Iterator[Peak]:
    """Look at the memory of a program twice a second for as long as the block lasts."""
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while True:
            for role, usage in measure_usage(root).items():
                peak.memory_bytes[role] = max(peak.memory_bytes.get(role, 0), usage.memory_bytes)
            if ended.wait(_SAMPLE_SECONDS):
                return

    thread = threading.Thread(target=watch, name="memory")
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def folder_bytes(folder: Path, without: tuple[str, ...] = ()) -> int:
    """Bytes of the files below a folder, except those below a folder named in `without`."""
    total = 0
    for base, names, files in os.walk(folder):
        names[:] = [name for name in names if name not in without]
        for name in files:
            with suppress(OSError):
                total += (Path(base) / name).stat().st_blocks * 512
    return total
