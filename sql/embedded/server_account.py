"""The operating-system account PostgreSQL runs as.

PostgreSQL refuses to run as root, so a root service starts it as `postgres`, or as `nobody`. That
account cannot pass through private folders such as /root, where the data folder may lie. Opening
those folders to everybody, as other launchers do, would outlive the service; instead the server
is given the one capability to read and traverse (CAP_DAC_READ_SEARCH), and only where it must.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sql.embedded.errors import EmbeddedDatabaseError

_ACCOUNT_NAMES = ("postgres", "nobody")
_TRAVERSE = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAccount:
    """The account of the server, and the command that switches to it."""

    user_id: int
    group_id: int
    command_prefix: tuple[str, ...]

    def take_ownership(self, path: Path) -> None:
        """Give `path` itself, never what is above it, to the account."""
        if os.geteuid() != self.user_id:
            os.chown(path, self.user_id, self.group_id, follow_symlinks=False)


def choose_account(data_folder: Path) -> ServerAccount:
    """Return the account that runs the server and can reach the existing `data_folder`.

    Raises:
        EmbeddedDatabaseError: running as root where no other account can reach the folder.
    """
    if os.geteuid() != 0:
        return ServerAccount(
            user_id=os.geteuid(), group_id=os.getegid(), command_prefix=_die_with_parent()
        )
    return _choose_unprivileged_account(data_folder)


def _die_with_parent() -> tuple[str, ...]:
    """Ask the kernel to stop the server (fast shutdown) when the service dies."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "INT") if setpriv else ()


def _choose_unprivileged_account(data_folder: Path) -> ServerAccount:
    become = _die_with_parent()
    if not become:
        raise EmbeddedDatabaseError(
            "PostgreSQL does not run as root, and setpriv (package util-linux) is missing: "
            "run promcompat as an ordinary user, or set PROMCOMPAT_DATABASE_URL"
        )
    entry = _find_account_entry()
    identity = (f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups")
    for capabilities in ((), _TRAVERSE):
        prefix = (*become, *identity, *capabilities)
        if _can_enter(prefix, data_folder):
            return ServerAccount(user_id=entry.pw_uid, group_id=entry.pw_gid, command_prefix=prefix)
    raise EmbeddedDatabaseError(
        f"PostgreSQL runs as {entry.pw_name!r} when promcompat runs as root, and that account "
        f"cannot reach {data_folder}: choose a PROMCOMPAT_DATA_DIR such "
        "as /var/lib/promcompat, run as an ordinary user, or set PROMCOMPAT_DATABASE_URL"
    )


def _find_account_entry() -> pwd.struct_passwd:
    for name in _ACCOUNT_NAMES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedDatabaseError(
        f"PostgreSQL does not run as root and there is no account {' or '.join(_ACCOUNT_NAMES)}"
    )


def _can_enter(prefix: tuple[str, ...], folder: Path) -> bool:
    # Access(2), and so `test -x`, ignores ambient capabilities; entering a folder honours them.
    command = [*prefix, "sh", "-c", 'cd -- "$1"', "sh", str(folder)]
    return subprocess.run(command, check=False, capture_output=True, cwd="/").returncode == 0
