"""What the system says of files, by which a change of them is noticed."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class FileState(NamedTuple):
    """What differs when a file was written, or replaced by another one."""

    inode: int
    changed_at_ns: int
    n_bytes: int


FileStates = tuple[tuple[str, FileState], ...]
"""The names of files, and their states."""


def state_of(path: Path) -> FileState:
    """The state of a file. Raises OSError."""
    found = path.stat()
    return FileState(found.st_ino, found.st_mtime_ns, found.st_size)


def states_of(names: Iterable[str]) -> FileStates:
    """The states of files in the order of their names, without those of files that are gone."""
    found = []
    for name in names:
        try:
            found.append((name, state_of(Path(name))))
        except OSError:
            continue
    return tuple(found)
