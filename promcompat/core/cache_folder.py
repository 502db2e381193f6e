"""The per-user folder of what can be downloaded or computed again."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from promcompat.core.errors import PromcompatError

Report = Callable[[str], None]
"""Receives one line of progress, written for a person, without a line end."""


class InstallError(PromcompatError):
    """Programs could not be downloaded or unpacked, or do not run on this machine."""


def default_cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/promcompat`, by default `~/.cache/promcompat`.

    For root it is /var/cache/promcompat: PostgreSQL runs as another account, which must reach its
    programs, and access(2), by which they look for each other, honours no capability in /root.
    """
    if os.geteuid() == 0:
        return Path("/var/cache/promcompat")
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "promcompat"


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
