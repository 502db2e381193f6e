"""The PostgreSQL side of `promcompat.core.corrections.CorrectionRepository`."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import asyncpg
import numpy as np
import orjson

from promcompat.core.corrections import (
    MAX_SERIES,
    Affected,
    Correction,
    CorrectionKind,
    CorrectionRepository,
    CorrectionRequest,
    CorrectionState,
    DeleteSamples,
    RelabelSeries,
    ReplaceSamples,
    SampleScope,
    ScaleSamples,
)
from promcompat.core.distinct_numbers import distinct
from promcompat.core.errors import BadDataError, PromcompatError, StaleKnowledgeError
from promcompat.core.model import IntArray, SampleBlock
from promcompat.core.ports import MatcherSets
from sql.database.connection_pool import acquired, read_again
from sql.database.rows import fetch_page, read_rows
from sql.query_loader import load_queries
from sql.samples.arrivals.arrival_log import (
    AppendConditions,
    ArrivalKind,
    NewArrival,
    OvertakenError,
    deletion_of,
    pages_of,
)
from sql.samples.codec.histogram_sections import are_too_large
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.corrections.steps import (
    CorrectionSources,
    CorrectionSteps,
    RunningCorrection,
    series_of,
)
from sql.samples.draining.drain_transaction import CONTENT_FAULTS, PASSING_FAULTS
from sql.samples.draining.drains import Drains
from sql.samples.reading.newest import windows_of
from sql.samples.writing.incoming_values import TOO_MANY_BUCKETS
from sql.times import YEARS_1_TO_9999, TimeBounds

_QUERIES: Final = load_queries("corrections")
_SERIES_PER_DELETION: Final = 8_192
"""The ids of so many series take 64 KB."""
_SERIES_COUNTED_AT_ONCE: Final = 10_000
_COUNT_SECONDS: Final = 5.0
"""How long the samples of a deletion are counted before they are deleted."""
_TAKEOVER_SECONDS: Final = 30.0
_ATTEMPTS: Final = 20
_PAUSE_SECONDS: Final = 0.05
_CLEANING_PAUSE_SECONDS: Final = 0.2
_NOT_CLEANED: Final = (
    "deleted samples stay on disk, though no query reads them: a stored page cannot be rewritten; "
    "see the log and docs/runbooks/damaged-page.md"
)
_BEFORE_ALL: Final = (1 << 63) - 1

MatchingIds = Callable[[int, MatcherSets], Awaitable[IntArray | None]]
"""The ids of a tenant's series that satisfy any set of matchers, ascending."""


class PostgresCorrections(CorrectionRepository):
    """Corrections as arrivals, recorded in the table `correction`."""

    def __init__(
        self, sources: CorrectionSources, matching_ids: MatchingIds, drains: Drains
    ) -> None:
        self._sources = sources
        self._database = sources.series.database
        self._matching_ids = matching_ids
        self._drains = drains
        self._steps = CorrectionSteps(sources)
        self._worker = uuid.uuid4().hex

    async def count(self, tenant: str, scope: SampleScope) -> Affected:
        """How much a scope has; see the port."""
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None:
            return Affected(0, 0)
        return await self._count(tenant_id, await self._selected(tenant_id, scope), scope)

    async def begin(self, tenant: str, request: CorrectionRequest) -> int:
        """Record a correction; see the port."""
        tenant_id = await self._database.tenants.find_or_create(tenant)
        match request.change:
            case DeleteSamples() | ReplaceSamples():
                return await self._do_at_once(tenant, tenant_id, request)
            case ScaleSamples(scope, factor, addend):
                return await self._begin(
                    tenant_id, request, scope, CorrectionKind.SCALE, factor, addend, None
                )
            case RelabelSeries(scope, labels):
                document = orjson.dumps(dict(labels)).decode()
                return await self._begin(
                    tenant_id, request, scope, CorrectionKind.RENAME, None, None, document
                )

    async def _begin(
        self,
        tenant_id: int,
        request: CorrectionRequest,
        scope: SampleScope,
        kind: CorrectionKind,
        *change: float | str | None,
    ) -> int:
        """Record a correction that is done in steps."""
        ids = await self._selected(tenant_id, scope)
        bounds = _bounds(scope)
        async with acquired(self._database.write_pool) as connection:
            correction_id: int = await connection.fetchval(
                _QUERIES["begin_correction"],
                tenant_id,
                kind.value,
                scope.selectors,
                bounds.start_ms,
                bounds.end_ms,
                request.requested_by,
                request.reason,
                *change,
                len(ids),
                self._worker,
                ids.tolist(),
            )
        return correction_id

    async def _do_at_once(self, tenant: str, tenant_id: int, request: CorrectionRequest) -> int:
        """Delete or replace; ids that go meanwhile are looked up again."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._delete_or_replace(tenant, tenant_id, request)
            except StaleKnowledgeError:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def _delete_or_replace(
        self, tenant: str, tenant_id: int, request: CorrectionRequest
    ) -> int:
        scope, version = request.change.scope, self._database.guard.version
        ids = await self._selected(tenant_id, scope)
        affected = await self._count(tenant_id, ids, scope, _COUNT_SECONDS)
        bounds = _bounds(scope)
        arrivals: list[NewArrival] = [
            deletion_of(tenant_id, ids[first : first + _SERIES_PER_DELETION], *_pair(bounds))
            for first in range(0, len(ids), _SERIES_PER_DELETION)
        ]
        kind = CorrectionKind.DELETE
        if isinstance(request.change, ReplaceSamples):
            kind, block = CorrectionKind.REPLACE, request.change.block
            found = await series_of(
                self._sources.series, tenant, tenant_id, list(block.labels), version
            )
            samples = _samples_of(block, found)
            if samples.histograms is not None and are_too_large(samples.histograms).any():
                raise BadDataError(TOO_MANY_BUCKETS)
            arrivals += await asyncio.to_thread(
                pages_of, tenant_id, samples, ArrivalKind.REPLACEMENTS
            )
            ids = distinct(ids, found)
        recorded: int = await self._sources.log.append_recorded(
            _QUERIES["record_correction"],
            arrivals,
            AppendConditions(version=version),
            (
                tenant_id,
                kind.value,
                scope.selectors,
                *_pair(bounds),
                request.requested_by,
                request.reason,
                affected.n_series,
                affected.n_series,
                affected.n_samples,
                affected.is_counted,
                self._worker,
                ids.tolist(),
            ),
        )
        return recorded

    async def advance(self, correction_id: int) -> bool:
        """Do a step; see the port."""
        for attempt in range(1, _ATTEMPTS + 1):
            correction = await self._running(correction_id)
            if correction is None:
                return False
            try:
                if await self._steps.step(correction):
                    return True
                return not await self._finish(correction, CorrectionState.DONE)
            except (OvertakenError, StaleKnowledgeError):
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
            except PASSING_FAULTS:
                raise
            except CONTENT_FAULTS as exc:
                reason = str(exc) if isinstance(exc, PromcompatError) else repr(exc)
                return not await self._finish(correction, CorrectionState.FAILED, reason)
        raise AssertionError("unreachable")

    async def _running(self, correction_id: int) -> RunningCorrection | None:
        async with acquired(self._database.write_pool) as connection:
            row = await connection.fetchrow(_QUERIES["running_correction"], correction_id)
        if row is None:
            return None
        columns = dict(row)
        columns["kind"] = CorrectionKind(row["kind"])
        columns["labels"] = orjson.loads(row["labels"] or "{}")
        return RunningCorrection(**columns)

    async def _finish(
        self, correction: RunningCorrection, state: CorrectionState, failure: str = ""
    ) -> bool:
        """End a correction; returns False if somebody else has done a step meanwhile."""
        async with acquired(self._database.write_pool) as connection:
            is_finished: bool = await connection.fetchval(
                _QUERIES["finish_correction"], correction.id, correction.step, state.value, failure
            )
        return is_finished

    async def claim(self) -> int | None:
        """A correction to work on; see the port."""
        async with acquired(self._database.write_pool) as connection:
            correction_id: int | None = await connection.fetchval(
                _QUERIES["claim_correction"], self._worker, _TAKEOVER_SECONDS
            )
        return correction_id

    async def list(
        self, tenant: str, before_id: int, limit: int, only_id: int | None = None
    ) -> tuple[Sequence[Correction], bool]:
        """What is recorded; see the port."""

        async def ask(before_id: int, n_rows: int) -> Sequence[asyncpg.Record]:
            statement = _QUERIES["corrections"]
            return await self._database.rows_of(tenant, statement, before_id, only_id, n_rows)

        rows, has_more = await fetch_page(ask, min(before_id, _BEFORE_ALL), limit)
        return await read_rows(rows, _correction), has_more

    async def clean_tombstones(self, tenant: str) -> None:
        """Remove what was deleted; see the port. Other processes may do some of the work.

        Raises PromcompatError where it cannot be removed because of what is stored.
        """
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None:
            return
        async with acquired(self._database.write_pool) as connection:
            through = await connection.fetchval(_QUERIES["last_arrival"])
        while await self._has_tombstones(tenant_id, through):
            await self._drains.drainer.drain_all()
            if await self._drains.compact_step():
                if self._drains.leaves_deletions_of(tenant_id):
                    raise PromcompatError(_NOT_CLEANED)
                await asyncio.sleep(_CLEANING_PAUSE_SECONDS)

    async def _has_tombstones(self, tenant_id: int, through: int) -> bool:
        async with acquired(self._database.write_pool) as connection:
            return bool(await connection.fetchval(_QUERIES["has_tombstones"], tenant_id, through))

    async def _selected(self, tenant_id: int, scope: SampleScope) -> IntArray:
        ids = await self._matching_ids(tenant_id, scope.matcher_sets)
        if ids is None or _bounds(scope).is_empty:
            return np.empty(0, np.int64)
        if len(ids) > MAX_SERIES:
            raise BadDataError(
                f"{len(ids):,} series match; a correction may have {MAX_SERIES:,}: narrow the "
                "selectors"
            )
        return distinct(ids)

    @read_again
    async def _count(
        self, tenant_id: int, ids: IntArray, scope: SampleScope, max_seconds: float | None = None
    ) -> Affected:
        deadline = None if max_seconds is None else time.monotonic() + max_seconds
        bounds, snapshots = _bounds(scope), self._sources.snapshots
        n_series = n_samples = 0
        for first in range(0, len(ids), _SERIES_COUNTED_AT_ONCE):
            some = ids[first : first + _SERIES_COUNTED_AT_ONCE]
            has_samples = np.zeros(len(some), np.bool_)
            times = bounds.start_ms - 1, bounds.end_ms
            windows = await windows_of(snapshots, tenant_id, *times, descending=False)
            while not windows.is_done:
                if deadline is not None and time.monotonic() > deadline:
                    return Affected(len(ids), n_samples, is_counted=False)
                samples = await windows.read(snapshots, tenant_id, some)
                has_samples[np.searchsorted(some, samples.ids)] = True
                n_samples += len(samples)
            n_series += int(np.count_nonzero(has_samples))
        return Affected(n_series, n_samples)


def _bounds(scope: SampleScope) -> TimeBounds:
    """The times of a scope, as far as pages can hold them."""
    limits = YEARS_1_TO_9999
    return TimeBounds(max(scope.start_ms, limits.start_ms), min(scope.end_ms, limits.end_ms))


def _pair(bounds: TimeBounds) -> tuple[int, int]:
    return bounds.start_ms, bounds.end_ms


def _samples_of(block: SampleBlock, ids: IntArray) -> SeriesSamples:
    """The samples of a block, whose series are all different, by id."""
    order = np.argsort(ids)
    columns = block.offsets, block.timestamps, block.values
    samples = SeriesSamples(ids, *columns, histograms=block.histograms)
    return samples.with_ids(order, ids[order])


def _correction(row: Any) -> Correction:
    return Correction(
        id=row["id"],
        kind=CorrectionKind(row["kind"]),
        state=CorrectionState(row["state"]),
        selectors=row["selectors"],
        first_ms=row["first_ms"],
        last_ms=row["last_ms"],
        factor=row["factor"],
        addend=row["addend"],
        labels=None if row["labels"] is None else orjson.loads(row["labels"]),
        requested_by=row["requested_by"],
        reason=row["reason"],
        failure=row["failure"],
        requested_ms=row["requested_ms"],
        finished_ms=row["finished_ms"],
        n_series_done=row["n_series_done"],
        affected=Affected(row["n_series"], row["n_samples"], row["is_counted"]),
        has_tombstones=row["has_tombstones"],
    )
