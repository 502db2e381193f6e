"""The maintenance of the store `blocks`; see `promcompat.core.ports.MaintenanceSteps`."""

from typing import Final

from promcompat.core.maintenance import SampleChunk, StaleHours
from promcompat.core.ports import MaintenanceSteps
from sql.catalog import MS_PER_DAY
from sql.database.connection_pool import Connection, translated_errors
from sql.query_loader import load_queries
from sql.samples.draining.block_retention import BlockRetention
from sql.samples.stores.maintenance_repository import SharedSteps, UnusedSeries

_QUERIES: Final = load_queries("blocks")
_NO_HOUR_LEFT_MS: Final = 1 << 62


class BlockMaintenanceSteps(SharedSteps):
    """Steps of maintenance of the block store.

    `metrics_hourly` computes its hours when somebody reads them, so none are computed here.
    """

    def __init__(
        self, connection: Connection, unused: UnusedSeries, retention: BlockRetention
    ) -> None:
        super().__init__(connection, unused)
        self._retention = retention

    async def drop_days_before(self, before_ms: int) -> int:
        """Drop whole UTC days before a time, those far from now too; see the port."""
        return await self._retention.drop_before(before_ms // MS_PER_DAY)

    async def chunks(self) -> list[SampleChunk]:
        """All samples as one chunk, which is never dropped as such; see `drop_days_before`."""
        with translated_errors():
            row = await self._connection.fetchrow(_QUERIES["bounds_of_all_samples"])
        if row["first_ms"] is None:
            return []
        return [SampleChunk(0, "blocks", row["first_ms"], row["last_ms"] + 1)]

    async def empty_chunks(self, ends_before_ms: int) -> list[SampleChunk]:
        """None: compaction leaves no day without samples behind."""
        return []

    async def drop_chunk(self, chunk: SampleChunk, *, only_empty: bool) -> bool:
        """Nothing; see `drop_days_before`."""
        return False

    async def collect_stale_hours(self, first_ms: int | None) -> list[StaleHours]:
        """None; see the class."""
        return []

    async def compute_again(self, stale: StaleHours) -> None:
        """Nothing; see the class."""

    async def hours_computed_before(self) -> int | None:
        """The end of time; see the class."""
        return _NO_HOUR_LEFT_MS

    async def compute_hours(self, start_ms: int, end_ms: int) -> None:
        """Nothing; see the class."""

    async def hours_are_computed(self, before_ms: int) -> None:
        """Nothing; see the class."""


def _conforms(steps: BlockMaintenanceSteps) -> MaintenanceSteps:
    """Checked by mypy: the steps have the port's shape."""
    return steps
