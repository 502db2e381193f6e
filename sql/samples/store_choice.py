"""Which store a database has: chosen once, by the first service, and kept from then on."""

from dataclasses import dataclass
from typing import Final, Self

from promcompat.core.errors import DatabaseRefusedError
from sql.database.connection_pool import Connection
from sql.query_loader import load_queries
from sql.samples.storage_options import DEFAULT_STORE, StoreKind

_QUERIES: Final = {
    name: text
    for group in ("database", "maintenance", "samples")
    for name, text in load_queries(group).items()
}


@dataclass(frozen=True, slots=True)
class _InUse:
    """The recorded store, and the stores that have samples."""

    recorded: StoreKind | None
    has_rows: bool
    has_blocks: bool

    @classmethod
    async def read(cls, connection: Connection) -> Self:
        found = await connection.fetchrow(_QUERIES["store_in_use"])
        recorded = None if found["store"] is None else StoreKind(found["store"])
        has_rows = found["has_arrivals_of_rows"] or await connection.fetchval(_QUERIES["has_rows"])
        return cls(recorded, has_rows, found["has_blocks"])

    def chosen(self, wanted: StoreKind | None) -> StoreKind:
        """The store that serves; raises DatabaseRefusedError."""
        store = wanted or self.recorded or DEFAULT_STORE
        if store is StoreKind.ROWS and self.has_blocks:
            raise DatabaseRefusedError(
                "the samples of this database are in the store `blocks`, but PROMCOMPAT_STORE is "
                "`rows`; unset PROMCOMPAT_STORE, as promcompat migrate-store moves samples into "
                "blocks only"
            )
        if store is StoreKind.BLOCKS and self.has_rows:
            where = (
                "some samples of this database are still rows, which the store `blocks` does not "
                "read"
                if self.recorded is StoreKind.BLOCKS
                else "the samples of this database are in the store `rows`, but PROMCOMPAT_STORE "
                "is `blocks`"
            )
            raise DatabaseRefusedError(
                f"{where}; run promcompat migrate-store, which moves them into blocks"
            )
        return store


async def choose_store(connection: Connection, wanted: StoreKind | None) -> StoreKind:
    """The store of the database, recorded in it when this is the first choice.

    `wanted` None takes the one that is recorded. Another one can be chosen as long as the database
    has no samples. Raises DatabaseRefusedError when it has samples that the store does not read.
    """
    in_use = await _InUse.read(connection)
    if in_use.recorded is in_use.chosen(wanted):
        return in_use.recorded
    async with connection.transaction():
        # Nobody writes or drains samples until this is committed; afterwards writers notice it.
        await connection.execute(_QUERIES["lock_series"])
        await connection.execute(_QUERIES["lock_drains"])
        in_use = await _InUse.read(connection)
        store = in_use.chosen(wanted)
        if in_use.recorded is not store:
            await record_store(connection, store)
    return store


async def record_store(connection: Connection, store: StoreKind) -> None:
    """Record the store of the database, and make `metrics_hourly` read it."""
    await connection.execute(_QUERIES["set_store"], store)
    await connection.execute(_QUERIES["ensure_metrics_hourly"])
