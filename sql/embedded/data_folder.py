"""The folder that holds an embedded database: its lock, its state and its files."""

import fcntl
import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, get_type_hints

from sql.embedded.errors import DataFolderInUseError, EmbeddedDatabaseError

_LOCK_ATTEMPTS = 20
_LOCK_RETRY_SECONDS = 0.1
_LOG_LIMIT_BYTES = 16 * 1024 * 1024
_LAST_PORT: Final = 65_535
_KINDS: Final = {
    str: "a text",
    str | None: "a text or null",
    bool: "true or false",
    int | None: "a port or null",
}
"""The types of the state, for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseState:
    """What must survive restarts in addition to the cluster itself."""

    distribution: str
    """Which programs made the cluster: `debian` or `wheel`."""
    password: str
    """The password of the owner's role; it is part of the address in `owner-url`."""
    service_password: str | None = None
    """That of the service's role, part of the address in `database-url`. None until it is made."""
    superuser_password: str | None = None
    """None in a folder of an early version, where the superuser had the password of the service."""
    is_superuser_separate: bool = True
    """Whether `superuser_password` is in force; false while an early folder is upgraded."""
    timescaledb_version: str | None = None
    """Of the extension in the database, None on plain PostgreSQL."""
    port: int | None = None
    """The port of the last start, used again when free, so that SQL clients keep their address."""


class DataFolder:
    """An open data folder; open means that this process, and no other, may start its database.

    Layout: `postgres/` is the cluster (owned by the server's account), `postgres.new/` one being
    made, `postgres.log` the server's log, `database.json` the state, `database-url` the address of
    the service and of people, `owner-url` that of the owner of the schema, `lock` the lock, which
    the kernel releases however the process ends.
    """

    def __init__(self, path: Path) -> None:
        """Make the folder if needed and lock it.

        A folder that exists keeps its owner and permissions: it may hold other things.

        Raises:
            DataFolderInUseError: another process holds the lock.
            EmbeddedDatabaseError: the folder cannot be made or written.
        """
        self.path = path.expanduser().absolute()
        try:
            # A new folder of root must let the server's account pass; its contents are private.
            mode = 0o711 if os.geteuid() == 0 else 0o700
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.is_dir():
                self.path.mkdir(mode=mode)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EmbeddedDatabaseError(
                f"cannot use the data folder {self.path}: {error.strerror}; set "
                "PROMCOMPAT_DATA_DIR to a folder that this account can write to"
            ) from error
        self._acquire()

    def _acquire(self) -> None:
        # A killed predecessor keeps its lock until the kernel has torn it down.
        for _ in range(_LOCK_ATTEMPTS):
            with suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(self._lock, 0)
                os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
                return
            time.sleep(_LOCK_RETRY_SECONDS)
        holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
        self.close()
        raise DataFolderInUseError(
            f"another promcompat (pid {holder or 'unknown'}) is using the data folder "
            f"{self.path}: stop it, or set PROMCOMPAT_DATA_DIR to another folder"
        )

    def close(self) -> None:
        """Release the lock. Does nothing when closed."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def cluster_path(self) -> Path:
        return self.path / "postgres"

    @property
    def unfinished_cluster_path(self) -> Path:
        return self.path / "postgres.new"

    @property
    def log_file(self) -> Path:
        return self.path / "postgres.log"

    def read_state(self) -> DatabaseState | None:
        """Return the state of the cluster, None when the folder has no finished cluster.

        Raises:
            EmbeddedDatabaseError: there is a cluster whose state is missing or unreadable, or the
                state of a cluster that has run and is not there.
        """
        state_file = self.path / "database.json"
        if not self.cluster_path.exists():
            self._require_that_none_has_run(state_file)
            return None
        try:
            return _parse_state(state_file, state_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise _damaged(state_file, error) from error

    def _require_that_none_has_run(self, state_file: Path) -> None:
        """A new cluster would replace the passwords of one that was moved, or is not mounted."""
        text = _read_file(state_file)
        if text is not None and _parse_state(state_file, text).port is not None:
            raise EmbeddedDatabaseError(
                f"the database of {self.path} is missing: there is no {self.cluster_path}, but "
                f"{state_file} is that of a database which has run. Bring the folder back (is its "
                f"disk mounted?), or remove {state_file.name} to begin with an empty database"
            )

    def write_state(self, state: DatabaseState, url: str, owner_url: str) -> None:
        self._replace("database.json", json.dumps(asdict(state), indent=2) + "\n")
        self._replace("database-url", url + "\n")
        self._replace("owner-url", owner_url + "\n")

    def rotate_log(self) -> None:
        """Keep one older log once the current one is large."""
        if self.log_file.exists() and self.log_file.stat().st_size > _LOG_LIMIT_BYTES:
            self.log_file.replace(self.log_file.with_name("postgres.log.1"))

    def _replace(self, name: str, text: str) -> None:
        fresh = self.path / f"{name}.new"
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path / name)


def _parse_state(file: Path, text: str) -> DatabaseState:
    try:
        values = json.loads(text)
        if unknown := sorted(set(values) - {field.name for field in fields(DatabaseState)}):
            raise EmbeddedDatabaseError(
                f"{file} was written by a newer promcompat, as it has {', '.join(unknown)}: start "
                "that version or a later one, or restore a backup of this version"
            )
        state = DatabaseState(**values)
    except (ValueError, TypeError) as error:
        raise _damaged(file, error) from error
    for name, kind in get_type_hints(DatabaseState).items():
        if not _is_of(kind, getattr(state, name)):
            # Without the value, which may be a password.
            raise _damaged(file, f"{name} must be {_KINDS[kind]}")
    return state


def _is_of(kind: Any, value: object) -> bool:
    if isinstance(value, bool):  # These are numbers for Python.
        return kind is bool
    return isinstance(value, kind) and (not isinstance(value, int) or 0 < value <= _LAST_PORT)


def _damaged(file: Path, error: Exception | str) -> EmbeddedDatabaseError:
    return EmbeddedDatabaseError(
        f"{file}, which belongs to the database next to it, is damaged: {error}; restore it from a "
        "backup"
    )


def read_database_url(path: Path) -> str | None:
    """Return the address that the data folder's database has, or had when it last ran.

    Raises EmbeddedDatabaseError if this account may not read it.
    """
    return _read_file(path.expanduser() / "database-url")


def read_owner_url(path: Path) -> str | None:
    """The same for the owner of the schema; None in a folder of an early version."""
    return _read_file(path.expanduser() / "owner-url")


def read_distribution(path: Path) -> str | None:
    """Return which programs made the data folder's database, also while it runs."""
    file = path.expanduser() / "database.json"
    text = _read_file(file)
    return None if text is None else _parse_state(file, text).distribution


def _read_file(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise _damaged(path, error) from error
    except OSError as error:
        raise EmbeddedDatabaseError(
            f"cannot read {path}: {error.strerror}; run this with the account of the service, or "
            "set PROMCOMPAT_DATABASE_URL"
        ) from error


def generate_password() -> str:
    """Return a password that needs no quoting in a URL or in SQL."""
    return secrets.token_urlsafe(24)
