"""The database that `promcompat serve` runs by itself."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from promcompat.core.cache_folder import Report, default_cache_folder
from sql.embedded.cluster import DATABASE_NAME, OWNER_ROLE, SERVICE_ROLE, Cluster
from sql.embedded.data_folder import DatabaseState, DataFolder, generate_password
from sql.embedded.distributions import PostgresDistribution, choose_distribution
from sql.embedded.errors import EmbeddedDatabaseError
from sql.embedded.postgres_server import PostgresServer, clear_orphan, start_server
from sql.embedded.server_account import choose_account
from sql.embedded.server_settings import LEAST_MAX_CONNECTIONS, measure_machine, tune_settings


class EmbeddedDatabase:
    """A running database of ours, stopped by `stop` or by leaving the `with` block.

    If the process dies without either, Linux tells the server to shut down; the next start clears
    whatever is left. Committed samples survive in every case.
    """

    def __init__(
        self,
        folder: DataFolder,
        server: PostgresServer,
        cluster: Cluster,
        urls: "DatabaseUrls",
        description: str,
    ) -> None:
        self._folder = folder
        self._server = server
        self.cluster = cluster
        """Its files, and what its superuser can do."""
        self.url = urls.service
        """Address for asyncpg or psql, with the password of the service's role."""
        self.owner_url = urls.owner
        """The same with the password of the role that owns the schema."""
        self.description = description
        """Which server it is, for the start-up banner."""

    @classmethod
    def start(
        cls,
        data_folder: Path,
        *,
        report: Report,
        max_connections: int = LEAST_MAX_CONNECTIONS,
        is_given_up: Callable[[], bool] = lambda: False,
    ) -> "EmbeddedDatabase":
        """Start the database in `data_folder`, installing and initialising what is missing.

        Blocks: about 10 s with downloads the first time, under a second afterwards. `report`
        receives lines of progress for a person. `max_connections` is of the server, for all roles.
        A server that recovers from a crash, which may take long, is stopped once `is_given_up`.

        Raises:
            DataFolderInUseError: another live promcompat uses the folder.
            EmbeddedDatabaseError: anything else; the message says what to do.
        """
        folder = DataFolder(data_folder)
        try:
            return cls._start_in(folder, report, max_connections, is_given_up)
        except OSError as error:
            folder.close()
            file = "" if error.filename is None else f" ({error.filename})"
            raise EmbeddedDatabaseError(
                f"cannot start the database in {folder.path}: {error.strerror or error}{file}"
            ) from error
        except BaseException:
            folder.close()
            raise

    @classmethod
    def _start_in(
        cls,
        folder: DataFolder,
        report: Report,
        max_connections: int,
        is_given_up: Callable[[], bool],
    ) -> "EmbeddedDatabase":
        for path in (folder.cluster_path, folder.unfinished_cluster_path):
            clear_orphan(path, report)
        state = folder.read_state()
        distribution = choose_distribution(
            state.distribution if state else None, default_cache_folder(), report
        )
        if state is None:
            state = _create(folder, distribution, report)
        cluster = _open_cluster(folder, distribution, state)
        _require_same_major(cluster)
        folder.rotate_log()
        report(f"Starting {distribution.description}")
        server = _start_tuned(
            cluster, folder, report, max_connections, state.port, is_given_up=is_given_up
        )
        try:
            cluster, state = _separate_superuser(cluster, folder, server.port, state)
            cluster.finish_restore(server.port)  # The process that restored may have been killed.
            state = _update_extension(cluster, server.port, state)
            state = _make_service_role(cluster, folder, server.port, state)
            urls = _make_urls(server.port, state)
            folder.write_state(replace(state, port=server.port), *urls)
        except BaseException:
            server.stop()
            raise
        return cls(folder, server, cluster, urls, distribution.description)

    @property
    def is_running(self) -> bool:
        return self._server.is_running

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return self._server.port

    def stop(self) -> None:
        """Shut the database down cleanly and release its folder. Does nothing when stopped."""
        try:
            self._server.stop()
        finally:
            self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _create(
    folder: DataFolder, distribution: PostgresDistribution, report: Report
) -> DatabaseState:
    """Create a cluster under another name and rename it once complete: none is ever half made."""
    report(f"Creating a database in {folder.path}")
    state = DatabaseState(
        distribution=distribution.name,
        password=generate_password(),
        superuser_password=generate_password(),
        timescaledb_version=distribution.timescaledb_version,
    )
    cluster = _open_cluster(folder, distribution, state, unfinished=True)
    cluster.remove()
    cluster.initialize()
    server = _start_tuned(cluster, folder, report)
    try:
        cluster.bootstrap(server.port, state.password)
    finally:
        server.stop()
    folder.write_state(state, *_make_urls(server.port, state))
    cluster.folder.rename(folder.cluster_path)
    return state


def _open_cluster(
    folder: DataFolder,
    distribution: PostgresDistribution,
    state: DatabaseState,
    *,
    unfinished: bool = False,
) -> Cluster:
    return Cluster(
        folder=folder.unfinished_cluster_path if unfinished else folder.cluster_path,
        distribution=distribution,
        account=choose_account(folder.path),
        password=_superuser_password(state),
    )


def _superuser_password(state: DatabaseState) -> str:
    if state.superuser_password is None or not state.is_superuser_separate:
        return state.password
    return state.superuser_password


def _separate_superuser(
    cluster: Cluster, folder: DataFolder, port: int, state: DatabaseState
) -> tuple[Cluster, DatabaseState]:
    """Give the superuser of a folder of an early version a password of its own.

    The new password is written down before it is set: wherever this is interrupted, the next start
    has both passwords that may be in force.
    """
    if state.superuser_password is not None and state.is_superuser_separate:
        return cluster, state
    planned = replace(
        state,
        superuser_password=state.superuser_password or generate_password(),
        is_superuser_separate=False,
    )
    separated = replace(planned, is_superuser_separate=True)
    known = replace(cluster, password=_superuser_password(separated))
    folder.write_state(planned, *_make_urls(port, state))
    try:
        cluster.set_superuser_password(port, known.password)
    except EmbeddedDatabaseError:
        known.run_sql(port, "-c", "SELECT 1")  # An interrupted start has set it already.
    folder.write_state(separated, *_make_urls(port, state))
    return known, separated


def _make_service_role(
    cluster: Cluster, folder: DataFolder, port: int, state: DatabaseState
) -> DatabaseState:
    """Make the service's role, in a new folder and in one of an early version.

    The password is written down first, and set at each start: wherever the first one is
    interrupted, the next one completes it.
    """
    made = replace(state, service_password=state.service_password or generate_password())
    folder.write_state(made, *_make_urls(port, made))
    cluster.make_service_role(port, made.service_password or "")
    return made


def _start_tuned(
    cluster: Cluster,
    folder: DataFolder,
    report: Report,
    max_connections: int = LEAST_MAX_CONNECTIONS,
    preferred_port: int | None = None,
    is_given_up: Callable[[], bool] = lambda: False,
) -> PostgresServer:
    settings = tune_settings(
        measure_machine(folder.path),
        has_timescaledb=cluster.distribution.timescaledb_version is not None,
        has_lz4=cluster.distribution.has_lz4,
        max_connections=max_connections,
    )
    cluster.write_settings(settings)
    return start_server(cluster, folder.log_file, report, preferred_port, is_given_up)


def _require_same_major(cluster: Cluster) -> None:
    made_by = cluster.read_major()
    if made_by is None:
        raise EmbeddedDatabaseError(
            f"there is no database in {cluster.folder}: it has no PG_VERSION. Bring its files back "
            "(is its disk mounted?), or set PROMCOMPAT_DATA_DIR to a new folder"
        )
    if made_by != cluster.distribution.major:
        raise EmbeddedDatabaseError(
            f"the database in {cluster.folder} was created by PostgreSQL {made_by}, but this is "
            f"PostgreSQL {cluster.distribution.version}: move its data with pg_dump and "
            "pg_restore, or set PROMCOMPAT_DATA_DIR to a new folder"
        )


def _update_extension(cluster: Cluster, port: int, state: DatabaseState) -> DatabaseState:
    """Bring the extension in the database to the version of the installed programs."""
    installed = cluster.distribution.timescaledb_version
    if installed is None or installed == state.timescaledb_version:
        return state
    cluster.run_sql(port, "-c", "ALTER EXTENSION timescaledb UPDATE", database=DATABASE_NAME)
    return replace(state, timescaledb_version=installed)


class DatabaseUrls(NamedTuple):
    """The addresses for the service and for the owner of the schema."""

    service: str
    owner: str


def _make_urls(port: int, state: DatabaseState) -> DatabaseUrls:
    """Until there is a role of the service, the owner's address is that of both."""
    owner = _make_url(port, OWNER_ROLE, state.password)
    if state.service_password is None:
        return DatabaseUrls(owner, owner)
    return DatabaseUrls(_make_url(port, SERVICE_ROLE, state.service_password), owner)


def _make_url(port: int, role: str, password: str) -> str:
    return f"postgresql://{role}:{password}@127.0.0.1:{port}/{DATABASE_NAME}"
