"""The fixtures of the tests, for conformance is a test folder too."""

from tests.conftest import (
    database_server,
    plain_postgres_server,
    prometheus_binary,
    timescaledb_distribution,
    timescaledb_server,
    wheel_distribution,
)

__all__ = [
    "database_server",
    "plain_postgres_server",
    "prometheus_binary",
    "timescaledb_distribution",
    "timescaledb_server",
    "wheel_distribution",
]
