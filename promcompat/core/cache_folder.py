"""Folders of what can be downloaded or computed again: that of the account, and temporary ones."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from promcompat.core.errors import PromcompatError

_SHARED: Final = Path("/var/cache/promcompat")
Report = Callable[[str], None]
"""Receives one line of progress, written for a person, without a line end."""


class InstallError(PromcompatError):
    """Programs could not be downloaded or unpacked, or do not run on this machine."""


def home_folder() -> Path | None:
    """The home of the account; None for one that the system does not know, as in containers."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def default_cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/promcompat`, by default `~/.cache/promcompat`.

    For root it is /var/cache/promcompat: PostgreSQL runs as another account, which must reach its
    programs, and access(2), by which they look for each other, honours no capability in /root. So
    it is for an account without a home, which uses what root has installed there.
    """
    if os.geteuid() == 0:
        return _SHARED
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "promcompat"
    home = home_folder()
    return _SHARED if home is None else home / ".cache" / "promcompat"


def cache_folders() -> tuple[Path, ...]:
    """The folder of the account, and that of root, which every account may read."""
    return tuple(dict.fromkeys((default_cache_folder(), _SHARED)))


class NoTemporaryFolderError(PromcompatError):
    """Nothing temporary can be written; the message says what to do."""


def check_temporary_folder() -> None:
    """Raises NoTemporaryFolderError, for example in a container with a read-only file system."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as exc:
        raise NoTemporaryFolderError(
            "no folder for temporary files can be written (TMPDIR, /tmp, /var/tmp): set TMPDIR to "
            "one that can, or mount one on /tmp"
        ) from exc


def make_readable_folder(path: Path) -> None:
    """Make a folder, if there is none, that every account can read, whatever the umask is."""
    if not path.is_dir():
        path.mkdir(parents=True)
        path.chmod(0o755)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock file, for which other processes wait.

    It is never deleted: unlinking one that others wait on would let two of them in.
    """
    with path.open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install_once(
    target: Path, build: Callable[[Path], None], is_healthy: Callable[[Path], bool]
) -> Path:
    """Return `target`, first building it unless a healthy one is there.

    `build(folder)` fills an empty folder beside `target`, which is then renamed into place: what
    an interrupted build left is never taken for an install, and is removed by the next call.
    Processes that install the same target wait for each other.

    Raises:
        InstallError: `build` failed, its result is not healthy, or the folder is not writable.
    """
    if is_healthy(target):
        return target
    try:
        make_readable_folder(target.parent)
        with exclusive_lock(target.with_name(f"{target.name}.lock")):
            if not is_healthy(target):
                _build_and_rename(target, build)
    except OSError as error:
        raise InstallError(f"cannot install into {target.parent}: {error}") from error
    if not is_healthy(target):
        raise InstallError(f"the programs installed in {target} do not run on this machine")
    return target


def _build_and_rename(target: Path, build: Callable[[Path], None]) -> None:
    partial = target.with_name(f"{target.name}.partial")
    for leftover in (partial, target):
        if leftover.exists():
            shutil.rmtree(leftover)
    partial.mkdir()
    build(partial)
    # Whatever the umask is: the server's account is not the one that installs.
    subprocess.run(["chmod", "-R", "a+rX", str(partial)], check=True)
    partial.rename(target)
