"""CPU time and memory of a program and its children, and bytes written to a disk."""

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
_SECTORS_WRITTEN: Final = 6
_SECTOR_BYTES: Final = 512


@dataclass(slots=True)
class Usage:
    """What the processes of one role used."""

    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    """Proportional: what processes share is counted once."""


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


def device_written_bytes(folder: Path) -> int | None:
    """Bytes written so far to the device of a folder, by all programs; None where there is none.

    `write_bytes` of /proc/PID/io would be of one program, but counts a whole folio of the page
    cache, often a megabyte, for each page in it that is written: twenty times what the disk gets.
    """
    device = folder.stat().st_dev
    counters = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    if not counters.is_file():
        return None
    return int(counters.read_text().split()[_SECTORS_WRITTEN]) * _SECTOR_BYTES


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
