"""What repositories beside the one of metrics work on: its pools and its tenants."""

from dataclasses import dataclass

from sql.database.connection_pool import Pool
from sql.database.tenants import Tenants


@dataclass(frozen=True, slots=True)
class Database:
    """The connections of a process to its database; closed by `PostgresMetricRepository.close`."""

    write_pool: Pool
    read_pool: Pool
    tenants: Tenants
