"""Says which rollups no longer hold, in the transaction that changes their samples."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from promcompat.core.model import IntArray
from sql.database.connection_pool import Connection
from sql.query_loader import load_queries
from sql.samples.columns.fold import Deletion
from sql.samples.columns.series_samples import SeriesSamples
from sql.times import MS_PER_DAY

QUERIES: Final = load_queries("rollups")
_SERIES_APART: Final = 32
"""Up to so many series of a day are marked each for itself, more of them as one range."""
_MOST_RANGES: Final = 1_000
"""The most marks of a tenant's series in a dropped slot; more would cost more than they save."""
_ALL_SERIES: Final = (-(1 << 63), (1 << 63) - 1)


class Touched(NamedTuple):
    """Samples of a tenant that have changed; all bounds are inclusive, times are Unix ms.

    `is_deletion`: they were deleted by somebody, and not only past their retention. `deletion_id`
    is given where not all series of the range are; see `note_deleted_series`.
    """

    tenant_id: int
    first_series: int
    last_series: int
    first_ms: int
    last_ms: int
    is_deletion: bool = False
    deletion_id: int | None = None

    @property
    def bounds(self) -> tuple[int, int, int, int, int]:
        """The tenant, the first and last series, and the first and last time."""
        return self[:5]


async def note_touched(connection: Connection, touched: Sequence[Touched]) -> None:
    """Mark the rollups of samples that are being changed, so that readers pass them over.

    To be called in the transaction that changes the samples, while it holds the lock of drains and
    compaction (see `drain_transaction`). What is not rolled up needs no mark, and gets none. The
    next run of rollups computes what is marked from the samples that are left.
    """
    if touched:
        await connection.execute(QUERIES["note_touched"], *zip(*touched, strict=True))


async def note_deleted_series(connection: Connection, deletions: Sequence[Deletion]) -> None:
    """Note which series deletions are of, where their marks are one range with others in it.

    To be called with the marks of `deleted_by`, as `note_touched`.
    """
    named = [
        (one.arrival_id, one.series_ids.astype(">i8").tobytes())
        for one in deletions
        if one.series_ids is not None and len(one.series_ids) > _SERIES_APART
    ]
    if named:
        await connection.execute(QUERIES["note_deleted_series"], *zip(*named, strict=True))


async def forget_rolled_days(
    connection: Connection, before_day: int, tenant_id: int | None = None
) -> None:
    """Forget the rollups of the days before one, of one tenant or of all, with their samples.

    To be called in the transaction that drops the samples, as `note_touched`. Their rows are
    deleted later, by the next run of rollups.
    """
    await connection.execute(QUERIES["forget_rolled_days"], before_day, tenant_id)


async def note_dropped_slot(connection: Connection, slot: int) -> None:
    """Mark the rollups of a near slot's samples, or forget them where nothing else is of that day.

    To be called in the transaction that drops the slot, before its samples and bounds are gone.
    """
    await connection.execute(QUERIES["note_dropped_slot"], slot, _MOST_RANGES)


def touched_by(tenant_id: int, samples: SeriesSamples) -> list[Touched]:
    """What new samples of a tenant touch, each within one UTC day."""
    if not len(samples):
        return []
    days = samples.timestamps // MS_PER_DAY
    if days.min() == days.max():
        return _touched_in_day(tenant_id, samples)
    order = np.argsort(days, kind="stable")
    starts = np.flatnonzero(np.diff(days[order], prepend=days[order[0]] - 1))
    ids = np.repeat(samples.ids, np.diff(samples.offsets))[order]
    times = samples.timestamps[order]
    return _ranges(tenant_id, starts, ids, times)


def deleted_by(tenant_id: int, deletion: Deletion) -> list[Touched]:
    """What a deletion touches."""
    times = deletion.first_ms, deletion.last_ms
    ids = deletion.series_ids
    if ids is None:
        return [Touched(tenant_id, *_ALL_SERIES, *times, is_deletion=True)]
    if len(ids) > _SERIES_APART:
        bounds = int(ids[0]), int(ids[-1])
        return [Touched(tenant_id, *bounds, *times, True, deletion.arrival_id)]
    return [Touched(tenant_id, one, one, *times, is_deletion=True) for one in ids.tolist()]


def _touched_in_day(tenant_id: int, samples: SeriesSamples) -> list[Touched]:
    starts = samples.offsets[:-1]
    if len(samples.ids) > _SERIES_APART:
        starts = starts[:1]
    ids = np.repeat(samples.ids, np.diff(samples.offsets))
    return _ranges(tenant_id, starts, ids, samples.timestamps)


def _ranges(tenant_id: int, starts: IntArray, ids: IntArray, times: IntArray) -> list[Touched]:
    """One range for the rows from each start to the next."""
    columns = (
        np.minimum.reduceat(ids, starts),
        np.maximum.reduceat(ids, starts),
        np.minimum.reduceat(times, starts),
        np.maximum.reduceat(times, starts),
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [Touched(tenant_id, *row) for row in rows]
