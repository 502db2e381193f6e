"""TLS to the database by its URL, on a real server: what verify-full accepts and refuses."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from promcompat.core.errors import DatabaseRefusedError
from sql.database.database_check import check_database
from sql.embedded.client_programs import dump_database
from sql.migrate import migrate
from tests.support.programs.certificates import Certificate, make_authority, make_certificate
from tests.support.programs.servers import DatabaseServer
from tests.support.waiting import wait_for

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A server that speaks TLS, and the authority of its certificate."""

    server: DatabaseServer
    authority: Certificate
    other: Certificate

    def use(self, shown: Certificate) -> None:
        """Show a certificate from the next connection on."""
        folder = self.server.cluster.folder
        for source, name in ((shown.file, "server.crt"), (shown.key, "server.key")):
            target = folder / name
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
            self.server.cluster.account.take_ownership(target)
        self.server.run_sql("ALTER SYSTEM SET ssl = on")
        self.reload()

    def reload(self) -> None:
        before = self.server.run_sql("SELECT pg_conf_load_time()")
        self.server.run_sql("SELECT pg_reload_conf()")
        wait_for(lambda: self.server.run_sql("SELECT pg_conf_load_time()") != before)


# The plain edition of the tests is built without TLS.
@pytest.fixture(scope="module")
def tls(
    timescaledb_server: DatabaseServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TlsServer]:
    folder = tmp_path_factory.mktemp("certificates")
    authority, other = make_authority(folder, "ours"), make_authority(folder, "other")
    found = TlsServer(timescaledb_server, authority, other)
    try:
        yield found
    finally:
        timescaledb_server.run_sql("ALTER SYSTEM RESET ssl")
        found.reload()


@pytest.fixture
def database(tls: TlsServer) -> Iterator[str]:
    url = tls.server.create_database()
    yield url
    tls.server.drop_database(url)


def with_tls(url: str, mode: str, authority: Certificate) -> str:
    return f"{url}?sslmode={mode}&sslrootcert={authority.file}"


async def test_verify_full_is_what_every_connection_uses(
    tls: TlsServer, database: str, tmp_path: Path
) -> None:
    tls.use(make_certificate(tmp_path, "database", tls.authority))
    url = with_tls(database, "verify-full", tls.authority)
    await check_database(url)
    await migrate(url, lambda _line: None)
    encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval(encrypted)
    finally:
        await connection.close()
    # The programs that back up the database read the same URL.
    dump_database(url, tmp_path / "dump")
    assert (tmp_path / "dump").stat().st_size > 0


@pytest.mark.parametrize("fault", ["another authority", "another name", "no TLS"])
async def test_a_server_that_is_not_the_one_of_the_url_is_refused(
    tls: TlsServer, database: str, tmp_path: Path, fault: str
) -> None:
    authority, names = tls.authority, "IP:127.0.0.1"
    match fault:
        case "another authority":
            authority = tls.other
        case "another name":
            names = "DNS:elsewhere.example,IP:127.0.0.2"
    if fault == "no TLS":
        tls.server.run_sql("ALTER SYSTEM SET ssl = off")
        tls.reload()
    else:
        tls.use(make_certificate(tmp_path, "database", authority, names))
    url = with_tls(database, "verify-full", tls.authority)
    with pytest.raises(DatabaseRefusedError, match=r"certificate|TLS"):
        await check_database(url)
