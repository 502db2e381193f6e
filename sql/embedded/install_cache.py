"""The per-user folder of downloaded programs, safe for concurrent and interrupted installs."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from promcompat.core.cache_folder import exclusive_lock, make_readable_folder
from sql.embedded.errors import InstallError

Report = Callable[[str], None]
"""Receives one line of progress, written for a person, without a line end."""


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
