"""Databases for what is the same on all editions: tokens, audit and what tenants see."""

from collections.abc import Iterator

import pytest

from tests.support.programs.servers import DatabaseServer


@pytest.fixture
def url(timescaledb_server: DatabaseServer) -> Iterator[str]:
    """A fresh, migrated TimescaleDB database; dropped after the test."""
    created = timescaledb_server.create_database()
    yield created
    timescaledb_server.drop_database(created)
