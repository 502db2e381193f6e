"""What the system says of files: whether they have changed, and whether they are gone."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from promcompat.core.texts.file_faults import reading_fault

SETTLE_SECONDS: Final = 0.5
"""How long files that have changed must stay as they are before they are read.

Whoever writes one in place empties it first, and a part of a YAML document is often one, too.
"""


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


def folder_faults(gone: Iterable[str], patterns: Iterable[str], content: str) -> Sequence[str]:
    """The faults of folders that cannot be listed: their files may not be gone.

    That is so while a file system is not mounted. `gone` are the files that patterns found before,
    and `content` is what an empty folder would end.
    """
    absolute = [str(Path(pattern).absolute()) for pattern in patterns]
    faults = {}
    for name in gone:
        folder = str(Path(name).parent)
        try:
            os.listdir(folder)
        except OSError as exc:
            # The files of a pattern that was taken out of the settings are gone all the same.
            if any(Path(name).absolute().match(pattern) for pattern in absolute):
                advice = f"create it; an empty folder ends its {content}"
                faults[folder] = f"{folder}: {reading_fault(exc)}; {advice}"
    return list(faults.values())
