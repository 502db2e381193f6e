"""What kind of database this is, detected once."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from promcompat.core.errors import StorageUnavailableError
from sql.database.connection_pool import Connection
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("database")


class Edition(StrEnum):
    """The three kinds of database."""

    COMMUNITY = "TimescaleDB Community"
    APACHE = "TimescaleDB Apache edition"
    PLAIN = "plain PostgreSQL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the database is, by its own account."""

    edition: Edition
    server_version: str
    timescaledb_version: str | None

    def describe(self) -> str:
        """One line for people, such as `TimescaleDB Apache edition 2.19.3 on PostgreSQL 17.12`."""
        server = f"PostgreSQL {self.server_version.split()[0]}"
        if self.timescaledb_version is None:
            return f"plain {server}"
        return f"{self.edition} {self.timescaledb_version} on {server}"


async def detect_capabilities(connection: Connection) -> Capabilities:
    """Detect the edition of a migrated database.

    Only the extension's row and the licence setting are reliable: every function also exists in the
    Apache edition, where it raises an error when called.
    """
    row = await connection.fetchrow(_QUERIES["detect_capabilities"])
    if row is None:
        raise StorageUnavailableError("the database did not report its version and encoding")
    return Capabilities(
        edition=_edition_of(row["timescaledb_version"], row["timescaledb_license"]),
        server_version=row["server_version"],
        timescaledb_version=row["timescaledb_version"],
    )


def _edition_of(version: str | None, license_name: str | None) -> Edition:
    if version is None:
        return Edition.PLAIN
    return Edition.COMMUNITY if license_name == "timescale" else Edition.APACHE
