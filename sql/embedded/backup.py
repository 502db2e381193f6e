"""Backing up the embedded database into a file, and restoring it from one.

Restoring a database with TimescaleDB needs a superuser, whose password only this package has, and
pg_dump must not be older than the server.
"""

from contextlib import suppress
from pathlib import Path
from typing import IO

from promcompat.core.cache_folder import Report, default_cache_folder
from sql.embedded.client_programs import run_program, write_dump
from sql.embedded.cluster import DATABASE_NAME, OWNER_ROLE, RESTORED_NAME, SUPERUSER, Cluster
from sql.embedded.data_folder import read_database_url, read_distribution, read_owner_url
from sql.embedded.database import EmbeddedDatabase
from sql.embedded.distributions import choose_distribution
from sql.embedded.errors import DataFolderInUseError, EmbeddedDatabaseError


def back_up(data_folder: Path, file: Path, report: Report) -> None:
    """Write everything into `file`, in pg_dump's custom format; the service may be running.

    An incomplete file is never left behind. Raises EmbeddedDatabaseError.
    """
    if read_database_url(data_folder) is None:
        raise EmbeddedDatabaseError(f"there is no database in {data_folder}")
    try:
        with EmbeddedDatabase.start(data_folder, report=report) as database:
            _dump(data_folder, database.owner_url, file, report)
    except DataFolderInUseError:
        url = read_owner_url(data_folder) or read_database_url(data_folder) or ""
        _dump(data_folder, url, file, report)


def _dump(data_folder: Path, url: str, file: Path, report: Report) -> None:
    distribution = choose_distribution(
        read_distribution(data_folder), default_cache_folder(), report
    )
    report(f"Writing {file}")
    write_dump([distribution.program("pg_dump")], url, file)


def restore(data_folder: Path, file: Path, report: Report) -> None:
    """Replace the database by the one that `back_up` wrote; the service must be stopped.

    The existing database is dropped only when the restored one is complete. Raises
    EmbeddedDatabaseError, and DataFolderInUseError while the service runs.
    """
    try:
        source = file.open("rb")
    except OSError as exc:
        raise EmbeddedDatabaseError(f"cannot read {file}: {exc.strerror}") from exc
    with source, EmbeddedDatabase.start(data_folder, report=report) as database:
        cluster, port = database.cluster, database.port
        report(f"Restoring {file}")
        try:
            _make_empty(cluster, port)
            _fill(cluster, port, source)
            cluster.run_sql(port, "-c", f"DROP DATABASE {DATABASE_NAME} WITH (FORCE)")
        except BaseException:
            # What is filled would keep a disk full. Where this fails too, the next start does it.
            with suppress(EmbeddedDatabaseError):
                cluster.finish_restore(port)
            raise
        cluster.finish_restore(port)


def _make_empty(cluster: Cluster, port: int) -> None:
    cluster.run_sql(port, "-c", f"CREATE DATABASE {RESTORED_NAME} OWNER {OWNER_ROLE}")
    if cluster.distribution.timescaledb_version is not None:
        for statement in ("CREATE EXTENSION timescaledb", "SELECT timescaledb_pre_restore()"):
            cluster.run_sql(port, "-c", statement, database=RESTORED_NAME)


def _fill(cluster: Cluster, port: int, source: IO[bytes]) -> None:
    """Restore without grants, whose roles may not exist here; a migration grants them again."""
    address = f"postgresql://{SUPERUSER}@127.0.0.1:{port}/{RESTORED_NAME}"
    run_program(
        cluster.command("pg_restore", "--exit-on-error", "--no-privileges", f"--dbname={address}"),
        {**cluster.environment(), "PGPASSWORD": cluster.password},
        source=source,
    )
    cluster.run_sql(port, "-c", "DELETE FROM promcompat.schema_routine", database=RESTORED_NAME)
    if cluster.distribution.timescaledb_version is not None:
        cluster.run_sql(port, "-c", "SELECT timescaledb_post_restore()", database=RESTORED_NAME)
