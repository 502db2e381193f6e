"""PostgreSQL's client programs: finding the right ones, and dumping and restoring with them.

pg_dump must not be older than the server. A database of TimescaleDB is restored between two calls
of its functions, which only a superuser may make.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from promcompat.core.cache_folder import InstallError, Report, default_cache_folder
from promcompat.core.errors import NotSupportedError
from sql.embedded.distributions import find_bundled_psql, find_wheel
from sql.embedded.errors import EmbeddedDatabaseError

_USUAL_FOLDERS: Final = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
)
_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")
_TIMESCALEDB: Final = "EXTENSION - timescaledb"
_CAN_NOTE_NAN_BITS: Final = (
    "SELECT NOT pg_is_in_recovery() AND coalesce(has_function_privilege("
    "to_regprocedure('promcompat.note_nan_bits()'), 'EXECUTE'), false)"
)
_NOTE_NAN_BITS: Final = "SELECT promcompat.note_nan_bits()"
_IS_SUPERUSER: Final = "SELECT current_setting('is_superuser')"
_FORGET_ROUTINES: Final = "DELETE FROM promcompat.schema_routine"
"""A restore leaves out grants, whose roles may not exist; the next migration grants them again."""


class MissingProgramsError(EmbeddedDatabaseError, NotSupportedError):
    """No pg_dump on this machine is new enough; the message says what to install."""


@dataclass(frozen=True, slots=True)
class ClientPrograms:
    """A folder with pg_dump, pg_restore and psql of one version."""

    folder: Path
    major: int

    def program(self, name: str) -> str:
        """The path of a program."""
        return str(self.folder / name)


def split_password(url: str) -> tuple[str, str]:
    """An address without its password, and the password (`""` for none)."""
    parts = urlsplit(url)
    userinfo, at, hosts = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    options = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in options if name != "password"]
    given = [value for name, value in options if name == "password"]
    address = parts._replace(netloc=f"{user}{at}{hosts}", query=urlencode(kept))
    return urlunsplit(address), unquote(password) or "".join(given[-1:])


def find_client_programs(url: str) -> ClientPrograms:
    """The programs for the server at an address: of its version, or the next newer ones.

    Raises MissingProgramsError, and EmbeddedDatabaseError when the server does not answer.
    """
    found = sorted(_installed(), key=lambda programs: programs.major)
    if not found:
        raise MissingProgramsError(
            "pg_dump is not installed; install PostgreSQL's client programs (Debian: "
            "postgresql-client)"
        )
    server_major = _server_major(found, url)
    for programs in found:
        if programs.major >= server_major:
            return programs
    raise MissingProgramsError(
        f"the server is PostgreSQL {server_major}, but the newest pg_dump on this machine is of "
        f"{found[-1].major}; install postgresql-client-{server_major} or a newer one"
    )


def _server_major(found: Sequence[ClientPrograms], url: str) -> int:
    """The version of the server, asked with the newest programs that can ask.

    Those of the wheel are built without TLS, which the URL may require.
    """
    for programs in reversed(found[1:]):
        with suppress(EmbeddedDatabaseError):
            return int(_query(programs, url, "SHOW server_version_num")) // 10_000
    return int(_query(found[0], url, "SHOW server_version_num")) // 10_000


def _installed() -> Iterator[ClientPrograms]:
    """Every version on this machine: in PATH, in the usual folders, and what came with us."""
    folders = [Path(part) for part in os.environ.get("PATH", os.defpath).split(os.pathsep)]
    for pattern in _USUAL_FOLDERS:
        folders += sorted(Path("/").glob(pattern.lstrip("/")))
    if bundled := find_bundled_psql(default_cache_folder()):
        folders.append(Path(bundled).parent)
    with suppress(InstallError):
        folders.append(find_wheel(default_cache_folder()).bin_folder)
    for folder in dict.fromkeys(folders):
        names = ("pg_dump", "pg_restore", "psql")
        programs = [shutil.which(name, path=str(folder)) for name in names]
        if programs[0] and all(programs) and (major := _major_of(programs[0])):
            yield ClientPrograms(folder, major)


def _major_of(pg_dump: str) -> int | None:
    result = subprocess.run([pg_dump, "--version"], capture_output=True, text=True, check=False)
    found = _VERSION.search(result.stdout)
    return int(found[1]) if found and result.returncode == 0 else None


def dump_database(url: str, file: Path, *, without_tables: Sequence[str] = ()) -> None:
    """Write the database into a file of pg_dump's custom format, of one moment.

    The file appears when it is complete, readable for its owner only. The rows of `without_tables`
    are left out. Raises EmbeddedDatabaseError.
    """
    programs = find_client_programs(url)
    write_dump([programs.program("pg_dump")], url, file, without_tables)


def dump_snapshot(url: str, file: Path, *, skips_head: bool) -> None:
    """Back up the database; see `promcompat.metrics.snapshot_service.Dump`."""
    dump_database(url, file, without_tables=["promcompat.arrival"] if skips_head else [])


def write_dump(
    pg_dump: Sequence[str], url: str, file: Path, without_tables: Sequence[str] = ()
) -> None:
    """The same with a given program."""
    address, password = split_password(url)
    unfinished = file.with_name(f"{file.name}.unfinished")
    left_out = [f"--exclude-table-data={table}" for table in without_tables]
    command = [*pg_dump, "--format=custom", *left_out, f"--dbname={address}"]
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as output:
            _note_nan_bits(pg_dump, url)
            run_program(command, _environment(password), output=output)
        unfinished.replace(file)
    except OSError as exc:
        raise EmbeddedDatabaseError(f"cannot write {file}: {exc.strerror}") from exc
    finally:
        unfinished.unlink(missing_ok=True)


def _note_nan_bits(pg_dump: Sequence[str], url: str) -> None:
    """Note the bits of NaNs in rows of earlier versions, which pg_dump would lose.

    A standby, or a role that only reads, cannot. `pg_dump` is the program that is to dump the
    database; psql is beside it.
    """
    address, password = split_password(url)
    psql = [*pg_dump[:-1], str(Path(pg_dump[-1]).with_name("psql")), "-qXAt", f"--dbname={address}"]
    environment = _environment(password)
    if run_program([*psql, "-c", _CAN_NOTE_NAN_BITS], environment).strip() == "t":
        run_program([*psql, "-v", "ON_ERROR_STOP=1", "-c", _NOTE_NAN_BITS], environment)


def restore_database(url: str, file: Path, report: Report) -> None:
    """Fill an empty database from a file that `dump_database` wrote.

    With TimescaleDB, the address must be that of a superuser. Raises EmbeddedDatabaseError; once
    it has begun, the database is incomplete then, and has to be dropped and made again.
    """
    programs = find_client_programs(url)
    if _query(programs, url, "SELECT to_regnamespace('promcompat') IS NOT NULL") == "t":
        raise EmbeddedDatabaseError(
            "the database has a schema promcompat already; create an empty database, restore into "
            "that one, and use it afterwards"
        )
    try:
        source = file.open("rb")
    except OSError as exc:
        raise EmbeddedDatabaseError(f"cannot read {file}: {exc.strerror}") from exc
    with source:
        has_timescaledb = _TIMESCALEDB in _contents(programs, source)
        if has_timescaledb and _query(programs, url, _IS_SUPERUSER) != "on":
            raise EmbeddedDatabaseError(
                "the file has tables of TimescaleDB, which only a superuser can restore: give the "
                "address of one"
            )
        report(f"Restoring {file}")
        if has_timescaledb:
            _query(programs, url, "CREATE EXTENSION IF NOT EXISTS timescaledb")
            _query(programs, url, "SELECT timescaledb_pre_restore()")
        fill_database([programs.program("pg_restore")], url, source)
        if has_timescaledb:
            _query(programs, url, "SELECT timescaledb_post_restore()")
    _query(programs, url, _FORGET_ROUTINES)


def fill_database(pg_restore: Sequence[str], url: str, source: IO[bytes]) -> None:
    """Restore without grants, whose roles may not exist. Raises EmbeddedDatabaseError."""
    address, password = split_password(url)
    source.seek(0)
    run_program(
        [*pg_restore, "--exit-on-error", "--no-privileges", f"--dbname={address}"],
        _environment(password),
        source=source,
    )


def _contents(programs: ClientPrograms, source: IO[bytes]) -> str:
    source.seek(0)
    return run_program([programs.program("pg_restore"), "--list"], _environment(""), source=source)


def _query(programs: ClientPrograms, url: str, statement: str) -> str:
    address, password = split_password(url)
    command = [programs.program("psql"), "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", statement]
    return run_program([*command, f"--dbname={address}"], _environment(password)).strip()


def _environment(password: str) -> dict[str, str]:
    """PG* variables of the user may complete the address; the password is in no argument list."""
    return {**os.environ, "LC_ALL": "C"} | ({"PGPASSWORD": password} if password else {})


def run_program(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    source: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
) -> str:
    """Run a program, perhaps with files for its input and output; returns what it prints.

    Raises EmbeddedDatabaseError with its last lines.
    """
    result = subprocess.run(
        command,
        cwd="/",
        env=dict(environment),
        stdin=source or subprocess.DEVNULL,
        stdout=output or subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    if result.returncode != 0:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        names = (Path(part).name for part in command)
        program = next(name for name in names if name.startswith(("pg_", "psql")))
        raise EmbeddedDatabaseError(f"{program} failed: {' / '.join(lines[-3:])}")
    return (result.stdout or b"").decode(errors="replace")
