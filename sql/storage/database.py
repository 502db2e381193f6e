"""What repositories beside the one of metrics work on: its pools and its tenants."""

from dataclasses import dataclass

from sql.storage.connection_pool import Pool
from sql.storage.tenants import Tenants


@dataclass(frozen=True, slots=True)
class Database:
    """The connections of a process to its database; closed by `PostgresMetricRepository.close`."""

    write_pool: Pool
    read_pool: Pool
    tenants: Tenants
