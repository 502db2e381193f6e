"""The log of arrivals: appending to it, and learning what was appended.

Every acknowledged sample is appended as part of a page. The ids of arrivals become visible in their
order (sql/routines/0085_arrivals.sql), so a process that asks for what came after the last id it
has read misses nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from operator import attrgetter
from typing import Any, Final

import asyncpg
import numpy as np

from promcompat.core.alerting.thresholds import LevelChange
from promcompat.core.errors import StorageUnavailableError
from promcompat.core.model import IntArray
from promcompat.core.ports import TimeRange
from promcompat.core.value_classes import value_class
from sql.database.connection_pool import Connection, Pool, acquired
from sql.database.installation_guard import InstallationGuard, is_out_of_date
from sql.query_loader import load_queries
from sql.samples.codec.page_encoding import MAX_PAGE_BYTES, MAX_PAGE_SAMPLES, encode_pages
from sql.samples.columns.series_samples import SeriesSamples

_QUERIES: Final = load_queries("arrivals")
_MAX_ARRIVALS: Final = 4_096
_MAX_CHANGES: Final = 4_096
_MAX_ATTEMPTS: Final = 4
_ALL_SERIES: Final = (-(1 << 63), (1 << 63) - 1)


class ArrivalKind(IntEnum):
    """What an arrival is; see table `arrival`. UNKNOWN: something that a later version appended."""

    UNKNOWN = 0
    SAMPLES = 1
    REPLACEMENTS = 2
    DELETION = 3

    @classmethod
    def _missing_(cls, _value: object) -> "ArrivalKind":
        return cls.UNKNOWN


@value_class(frozen=True, slots=True)
class Arrival:
    """A row of table `arrival`: a page of samples, or a deletion.

    Bounds are inclusive, times are Unix ms. The payload of a deletion has the ids of its series,
    see `deleted_series`.
    """

    id: int
    tenant_id: int
    kind: ArrivalKind
    n_samples: int
    first_series: int
    last_series: int
    first_ms: int
    last_ms: int
    is_aside: bool
    payload: bytes

    @property
    def deleted_series(self) -> IntArray | None:
        """The series that a deletion is for, ascending; None: every series of the tenant."""
        return np.frombuffer(self.payload, ">i8").astype(np.int64) if self.payload else None


@dataclass(frozen=True, slots=True)
class SampleChange:
    """Drains or retention touched samples of these series and times; bounds are inclusive.

    `drained_through` is the last arrival of the drain; None: no drain, the answers have changed.
    """

    id: int
    tenant_id: int
    first_series: int
    last_series: int
    first_ms: int
    last_ms: int
    drained_through: int | None


@value_class(frozen=True, slots=True)
class DrainState:
    """Identifies what is drained: while it stays equal, the drained samples stay the same."""

    epoch: str
    drained_through: int
    last_change: int

    @classmethod
    def of(cls, row: asyncpg.Record) -> "DrainState":
        """The state in a row that has it among others."""
        return cls(row["epoch"], row["drained_through"], row["last_change"])


@value_class(frozen=True, slots=True)
class SyncAnswer:
    """What one snapshot of the database says.

    `last_id` is the highest id of an arrival that was appended, `last_change` that of a change.
    `arrivals` ascend by id; with `is_complete` they are all that came after the position that was
    asked for, otherwise the oldest of them. Those set aside are always included. With
    `has_change_gap` the changes after the position are not known: the log no longer has all of
    them, or there are too many. `generations` has a number for each tenant that changes with its
    series, and `bounds` the first and last time of what is drained (None: nothing is).
    """

    epoch: str
    drained_through: int
    last_id: int
    last_change: int
    arrivals: list[Arrival]
    changes: list[SampleChange]
    is_complete: bool
    has_change_gap: bool
    generations: Mapping[int, int]
    bounds: Mapping[int, TimeRange | None]


@dataclass(frozen=True, slots=True)
class NewArrival:
    """A page of samples or a deletion to append; the fields are those of `Arrival`."""

    tenant_id: int
    kind: ArrivalKind
    n_samples: int
    first_series: int
    last_series: int
    first_ms: int
    last_ms: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendConditions:
    """What an append relies on; it is refused when that is no longer true.

    `version` is that of the `InstallationGuard` before the ids of series were looked up.
    `definitions` are the versions of the metric definitions by tenant that decided about kinds.
    `read_through` is the last arrival that was read before times of samples were chosen, None when
    their senders chose them.
    """

    version: int
    definitions: Mapping[int, int] = field(default_factory=dict)
    read_through: int | None = None


class DefinitionsChangedError(StorageUnavailableError):
    """Metric definitions that decided about the kinds of arrivals have changed."""


class OvertakenError(StorageUnavailableError):
    """Samples of the same series and times may have arrived since their times were chosen."""


class ArrivalLog:
    """Appends to the table `arrival`, and reads what was appended."""

    def __init__(self, pool: Pool, guard: InstallationGuard) -> None:
        """`pool` is the `log_pool` of the database."""
        self._pool = pool
        self._guard = guard

    async def append(
        self,
        arrivals: Sequence[NewArrival],
        conditions: AppendConditions,
        changes: Sequence[LevelChange] = (),
    ) -> list[int]:
        """Append pages and level changes in one transaction; returns the ids of the pages.

        Raises StaleKnowledgeError when ids of series may be gone, DefinitionsChangedError and
        OvertakenError as the conditions say, and StorageUnavailableError when it is not known
        whether they were appended: appending them again changes no answer.
        """
        statement = _QUERIES["commit_arrivals"]
        ids: list[int] = await self._execute(statement, arrivals, conditions, changes)
        return ids

    async def append_recorded(
        self,
        statement: str,
        arrivals: Sequence[NewArrival],
        conditions: AppendConditions,
        record: Sequence[object],
    ) -> Any:
        """Append with a statement that records something in the same transaction.

        The statement calls `append_arrivals` with its first parameters; `record` are the others.
        Returns its value; errors as in `append`.
        """
        return await self._execute(statement, arrivals, conditions, (), record)

    async def _execute(
        self,
        statement: str,
        arrivals: Sequence[NewArrival],
        conditions: AppendConditions,
        changes: Sequence[LevelChange] = (),
        record: Sequence[object] = (),
    ) -> Any:
        columns = (*_page_columns(arrivals), *_change_columns(changes), *record)
        async with acquired(self._pool) as connection:
            for attempt in range(1, _MAX_ATTEMPTS + 1):
                self._guard.require(conditions.version)
                known_epoch = self._guard.known_epoch
                try:
                    return await connection.fetchval(
                        statement,
                        known_epoch,
                        list(conditions.definitions),
                        list(conditions.definitions.values()),
                        conditions.read_through,
                        *columns,
                    )
                except asyncpg.PostgresError as exc:
                    _raise_refusal(exc)
                    if attempt == _MAX_ATTEMPTS or not await self._put_right(connection, exc):
                        raise
        raise AssertionError("unreachable")

    async def _put_right(self, connection: Connection, exc: asyncpg.PostgresError) -> bool:
        """Whether another attempt, which checks the version first, may succeed."""
        if is_out_of_date(exc):
            await self._guard.refresh(connection)
            return True
        return isinstance(exc, asyncpg.TransactionRollbackError)

    async def sync(
        self,
        connection: Connection,
        after_id: int,
        after_change: int,
        max_bytes: int,
        tenant_ids: Sequence[int] = (),
        drained_through: int = -1,
    ) -> SyncAnswer:
        """What came after these positions, and the state they belong to, of one snapshot.

        At least one arrival comes if there is one; more of them as long as their payloads have
        `max_bytes` together. The generations are those of the given tenants, and so are the bounds,
        unless nothing was drained or changed since the positions and `drained_through`.
        """
        limits = _MAX_ARRIVALS, max_bytes, _MAX_CHANGES
        # The driver looks at an array sixteen times before it encodes it.
        asked = ",".join(map(str, tenant_ids))
        rows = await connection.fetch(
            _QUERIES["sync"], after_id, after_change, *limits, asked, drained_through
        )
        state = rows[0]
        arrivals = [_arrival(row) for row in rows if row["source"] == 1]
        arrivals.sort(key=attrgetter("id"))
        changes = [_change(row) for row in rows if row["source"] == 2]
        changes.sort(key=attrgetter("id"))
        last_arrival = max(after_id, state["drained_through"])
        if arrivals:
            last_arrival = max(last_arrival, arrivals[-1].id)
        has_all_changes = not changes or changes[-1].id == state["last_change"]
        return SyncAnswer(
            epoch=state["epoch"],
            drained_through=state["drained_through"],
            last_id=state["last_id"],
            last_change=state["last_change"],
            arrivals=arrivals,
            changes=changes,
            is_complete=last_arrival >= state["last_id"],
            has_change_gap=state["is_gap"] or not has_all_changes,
            generations=dict(zip(tenant_ids, state["generations"], strict=True)),
            bounds=_bounds_of(tenant_ids, state["bounds"]),
        )


def pages_of(tenant_id: int, samples: SeriesSamples, kind: ArrivalKind) -> list[NewArrival]:
    """The samples as pages to append."""
    return [
        NewArrival(
            tenant_id,
            kind,
            page.n_samples,
            page.first_series,
            page.last_series,
            page.first_ms,
            page.last_ms,
            page.payload,
        )
        for page in encode_pages(samples, MAX_PAGE_SAMPLES, MAX_PAGE_BYTES)
    ]


def deletion_of(
    tenant_id: int, series_ids: IntArray | None, first_ms: int, last_ms: int
) -> NewArrival:
    """A deletion of samples of series, ascending and at least one; None: of all series."""
    payload, bounds = b"", _ALL_SERIES
    if series_ids is not None:
        payload = series_ids.astype(">i8").tobytes()
        bounds = int(series_ids[0]), int(series_ids[-1])
    kind = ArrivalKind.DELETION
    return NewArrival(tenant_id, kind, 0, *bounds, first_ms, last_ms, payload)


def _bounds_of(
    tenant_ids: Sequence[int], times_ms: Sequence[int | None] | None
) -> dict[int, TimeRange | None]:
    """The bounds of each tenant, of two times each; no bounds are known without times."""
    if times_ms is None:
        return {}
    pairs = zip(tenant_ids, times_ms[::2], times_ms[1::2], strict=True)
    return {
        tenant_id: None if first_ms is None or last_ms is None else (first_ms, last_ms)
        for tenant_id, first_ms, last_ms in pairs
    }


def _raise_refusal(exc: asyncpg.PostgresError) -> None:
    match exc.sqlstate:
        case "PC002":
            raise DefinitionsChangedError(
                "metric definitions changed during the write; try again"
            ) from exc
        case "PC003":
            raise OvertakenError(
                "samples of the same series and times arrived meanwhile; try again"
            ) from exc


def _page_columns(arrivals: Sequence[NewArrival]) -> tuple[list[object], ...]:
    """The parameters of the statement that describe pages."""
    return (
        [arrival.tenant_id for arrival in arrivals],
        [int(arrival.kind) for arrival in arrivals],
        [arrival.n_samples for arrival in arrivals],
        [arrival.first_series for arrival in arrivals],
        [arrival.last_series for arrival in arrivals],
        [arrival.first_ms for arrival in arrivals],
        [arrival.last_ms for arrival in arrivals],
        [arrival.payload for arrival in arrivals],
    )


def _change_columns(changes: Sequence[LevelChange]) -> tuple[list[object], ...]:
    """The parameters of the statement that describe level changes."""
    return (
        [change.series_id for change in changes],
        [int(change.level) for change in changes],
        [change.value for change in changes],
        [change.timestamp_ms for change in changes],
    )


def _arrival(row: asyncpg.Record) -> Arrival:
    return Arrival(
        row["id"],
        row["tenant_id"],
        ArrivalKind(row["kind"]),
        row["n_samples"],
        row["first_series"],
        row["last_series"],
        row["first_ms"],
        row["last_ms"],
        row["is_aside"],
        row["payload"],
    )


def _change(row: asyncpg.Record) -> SampleChange:
    return SampleChange(
        row["id"],
        row["tenant_id"],
        row["first_series"],
        row["last_series"],
        row["first_ms"],
        row["last_ms"],
        row["of_drain"],
    )
