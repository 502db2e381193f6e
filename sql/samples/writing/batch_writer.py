"""What happens to a batch: back-pressure, series ids, thresholds, and group commit."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import numpy as np

from promcompat.core.errors import (
    OverloadedError,
    QueryTimeoutError,
    StaleKnowledgeError,
    StorageUnavailableError,
    WriteRejectedError,
)
from promcompat.core.limits.tenant_limits import TenantLimitReader
from promcompat.core.model import UNKNOWN_SERIES, BoolArray, WriteBatch
from promcompat.core.series_table import KnownSeries
from sql.database.copy_format import SampleRows
from sql.database.storage_stats import StorageStats
from sql.definitions.threshold_watch import ThresholdWatch
from sql.samples.writing.backlog import Backlog
from sql.samples.writing.group_commit import GroupCommit
from sql.samples.writing.incoming_values import TOO_MANY_BUCKETS, storable_values
from sql.samples.writing.server_timestamps import RecentStamps
from sql.series.resolver import ResolvedBatch
from sql.series.series_access import SeriesAccess
from sql.times import YEARS_1_TO_9999

_WRITE_ATTEMPTS: Final = 3


class BatchWriter:
    """Turns batches into rows of known series, and waits until these are committed."""

    def __init__(
        self,
        series: SeriesAccess,
        threshold_watch: ThresholdWatch,
        group_commit: GroupCommit,
        stats: StorageStats,
        max_waiting_rows: int,
        backlog: Backlog,
        limits: TenantLimitReader,
    ) -> None:
        """At most `max_waiting_rows` rows of unanswered writes are in memory.

        Seven eighths of them may be of one tenant. Rows of other times than pages hold are refused,
        and the others of their batch stored. `backlog` may refuse writes.
        """
        self._database = series.database
        self._series = series
        self._threshold_watch = threshold_watch
        self._group_commit = group_commit
        self._stats = stats
        self._max_waiting_rows = max_waiting_rows
        self._backlog = backlog
        self._limits = limits
        self._waiting_of = Counter[str]()
        self._recent_stamps = RecentStamps()

    def known_series(self, tenant: str) -> KnownSeries:
        """The series in the cache; see `Store.known_series`."""
        known = self._series.known_keys.known(tenant, self._database.guard.version)
        refused = self._series.resolver.refused_lately(tenant)
        return replace(known, refused=refused) if refused else known

    async def close(self) -> None:
        """Answer all waiting writes and refuse further ones."""
        await self._group_commit.close()

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        """Store a batch; see `Store.write_batch`."""
        n_rows = len(batch)
        self._check_waiting(tenant, n_rows)
        self._stats.rows_waiting += n_rows
        self._waiting_of[tenant] += n_rows
        try:
            await self._write_known(tenant, batch)
        except QueryTimeoutError as exc:
            raise StorageUnavailableError("the database did not finish the write in time") from exc
        finally:
            self._stats.rows_waiting -= n_rows
            self._waiting_of[tenant] -= n_rows
            if not self._waiting_of[tenant]:
                del self._waiting_of[tenant]

    def _check_waiting(self, tenant: str, n_rows: int) -> None:
        """Raises OverloadedError when too much waits; a write of any size may be the only one."""
        limit = self._max_waiting_rows
        n_waiting, n_own = self._stats.rows_waiting, self._waiting_of[tenant]
        is_too_much = n_waiting and n_waiting + n_rows > limit
        if is_too_much or (n_own and n_own + n_rows > limit * 7 // 8):
            raise OverloadedError("too many samples are waiting to be written")

    async def _write_known(self, tenant: str, batch: WriteBatch) -> None:
        """Write; repeat when cached ids had to be dropped meanwhile."""
        for _ in range(_WRITE_ATTEMPTS - 1):
            with suppress(StaleKnowledgeError):
                return await self._write_admitted(tenant, batch)
        return await self._write_admitted(tenant, batch)

    async def _write_admitted(self, tenant: str, batch: WriteBatch) -> None:
        version = self._database.guard.version
        if len(batch.unknown_keys) < len(batch) and batch.known_version != version:
            raise StaleKnowledgeError("series were removed during the write; try again")
        tenant_id = await self._database.tenants.find_or_create(tenant)
        await self._backlog.admit(tenant_id)
        if batch.metadata:
            await self._series.metadata.store(tenant_id, batch.metadata)
        if not len(batch):
            return
        times, bounds = batch.timestamps, YEARS_1_TO_9999
        in_bounds = (times >= bounds.start_ms) & (times <= bounds.end_ms)
        resolved = await self._series.resolver.resolve(
            tenant, tenant_id, batch, is_storable=in_bounds, version=version
        )
        # Before the samples, as metadata: what an unanswered request has stored is stored once.
        await self._series.starts.store(resolved.series_ids, batch)
        rows, kept, rejection = _storable_rows(tenant_id, resolved, batch, in_bounds, version)
        if rejection is None:
            await self._write_rows(tenant, tenant_id, rows)
            return
        refused = dict.fromkeys(sorted({*range(len(batch))} - {*kept}), rejection)
        self._stats.rows_rejected += len(refused)
        try:
            if kept:
                await self._write_rows(tenant, tenant_id, rows)
        except WriteRejectedError as exc:
            raise exc.of_larger_batch(kept, refused) from exc
        raise WriteRejectedError(rejection, refused=refused)

    async def _write_rows(self, tenant: str, tenant_id: int, rows: SampleRows) -> None:
        rows = self._recent_stamps.assign(rows)
        changes = await self._threshold_watch.check(tenant_id, rows)
        try:
            await self._group_commit.write(rows, changes, self._limits.of(tenant).weight)
        except WriteRejectedError:
            self._threshold_watch.committed(changes)
            raise
        self._threshold_watch.committed(changes)


def _storable_rows(
    tenant_id: int,
    resolved: ResolvedBatch,
    batch: WriteBatch,
    in_bounds: BoolArray,
    version: int,
) -> tuple[SampleRows, Sequence[int], str | None]:
    """The rows that can be stored, their places in the batch, and why the others cannot."""
    values, is_small = storable_values(batch)
    rows = SampleRows(
        resolved.series_ids,
        batch.timestamps,
        values.view(np.uint64),
        batch.server_timed,
        version,
        np.full(len(batch), tenant_id, np.int64),
        batch.histograms,
    )
    is_storable = in_bounds & is_small & (resolved.series_ids != UNKNOWN_SERIES)
    if is_storable.all():
        return rows, range(len(batch)), None
    rejection = "out of bounds" if not in_bounds.all() else resolved.rejection
    if rejection is None:
        rejection = TOO_MANY_BUCKETS
    kept = np.flatnonzero(is_storable)
    return rows.take(kept), kept.tolist(), rejection
