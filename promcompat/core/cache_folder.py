"""The per-user folder of what can be downloaded or computed again."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
