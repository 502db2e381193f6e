"""`promcompat sql`: psql on the database in use."""

import os
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

from promcompat.configuration.settings import Settings
from promcompat.configuration.storage import default_data_dir
from promcompat.core.cache_folder import default_cache_folder
from promcompat.core.errors import PromcompatError
from promcompat.database import owner_url
from sql.embedded.client_programs import split_password
from sql.embedded.distributions import find_bundled_psql

_CONNECT_SECONDS: Final = 2.0


class SqlCommandError(PromcompatError):
    """psql cannot be opened; the message says why."""


def run_psql(settings: Settings, arguments: Sequence[str]) -> NoReturn:
    """Become psql. Raises SqlCommandError.

    The password goes into psql's environment: everybody can read a list of arguments.
    """
    command, environment = psql_command(settings, arguments)
    sys.stdout.flush()
    os.execve(command[0], command, {**os.environ, **environment})


def psql_command(
    settings: Settings, arguments: Sequence[str]
) -> tuple[list[str], Mapping[str, str]]:
    """The command, and what its environment must have.

    Raises SqlCommandError, and NoDatabaseError when there is no database.
    """
    is_own = settings.database_url is None
    url = owner_url(settings)
    if is_own:
        _require_running(url, settings.data_dir)
    address, password = split_password(url)
    environment = {"PGPASSWORD": password} if password else {}
    return [_find_psql(is_own), f"--dbname={address}", *arguments], environment


def _require_running(url: str, data_dir: Path) -> None:
    """Raises SqlCommandError when nothing listens where the service's own database would."""
    try:
        parts = urlsplit(url)
        address = parts.hostname or "", parts.port or 0
    except ValueError as exc:
        raise SqlCommandError(
            f"the address of the database in {data_dir} is not valid: {exc}; promcompat serve "
            "writes it anew at each start"
        ) from exc
    try:
        socket.create_connection(address, timeout=_CONNECT_SECONDS).close()
    except OSError as exc:
        raise SqlCommandError(
            f"the database in {data_dir} is not running; start promcompat serve, which runs it"
        ) from exc


def _find_psql(is_own: bool) -> str:
    """The psql that came with our own database; for another database, preferably the machine's."""
    bundled = find_bundled_psql(default_cache_folder())
    found = shutil.which("psql")
    path = (bundled or found) if is_own else (found or bundled)
    if path is None:
        raise SqlCommandError(
            "psql is not installed; install PostgreSQL's client programs (Debian: "
            "postgresql-client)"
        )
    return path


def sql_hint(settings: Settings) -> str:
    """The command line that opens psql on the database of a service with these settings."""
    beside = Path(sys.executable).with_name("promcompat")
    is_on_path = shutil.which("promcompat") is not None or not beside.exists()
    command = ["promcompat" if is_on_path else str(beside), "sql"]
    if settings.database_url is not None:
        return shlex.join([*command, "--database-url"]) + " …"
    if settings.data_dir != default_data_dir():
        command += ["--data-dir", str(settings.data_dir)]
    return shlex.join(command)
