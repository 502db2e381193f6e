"""The folder in which workers keep their metrics, so that any of them can show those of all.

The files are mapped into memory. The kernel kills a process that writes to a mapped file on a full
disk (SIGBUS): that would end all workers, one after another.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")
_LEAST_BYTES: Final = 16 << 20
"""Space that must be free. The files of one worker take half a megabyte."""
_PREFIX: Final = "promcompat-metrics-"
_LOCK: Final = "lock"
"""A file that is locked as long as the folder is in use."""


@contextmanager
def metrics_folder(memory: Path = _MEMORY) -> Iterator[Path]:
    """A new folder for as long as the block lasts: in memory where there is room, else on disk.

    Folders that killed services left behind are removed first.
    """
    base = memory if _has_room(memory) else Path(tempfile.gettempdir())
    _remove_abandoned(base)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=base) as name:
        folder = Path(name)
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder


def _has_room(memory: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=memory):
            return shutil.disk_usage(memory).free >= _LEAST_BYTES
    except OSError:
        return False


def _remove_abandoned(base: Path) -> None:
    for folder in base.glob(f"{_PREFIX}*"):
        try:
            # Every account may write there, also links to other places.
            if folder.lstat().st_uid == os.geteuid():
                with (folder / _LOCK).open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # It is in use.
            continue
