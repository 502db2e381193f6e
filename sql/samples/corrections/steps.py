"""The steps of corrections that read samples and append changed ones.

A step takes some series and a window of time, and appends its result together with the position of
the next step. So a correction of any size never holds more than a step in memory or in one
transaction, and whoever finds it after a crash goes on where it was.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import orjson

from promcompat.core.corrections import CorrectionKind, relabelled
from promcompat.core.errors import BadDataError, ExecutionError
from promcompat.core.model import UNKNOWN_SERIES, FloatArray, IntArray, Labels, WriteBatch
from sql.database.connection_pool import acquired
from sql.query_loader import load_queries
from sql.samples.arrivals.arrival_log import (
    AppendConditions,
    ArrivalKind,
    ArrivalLog,
    DefinitionsChangedError,
    NewArrival,
    deletion_of,
    pages_of,
)
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples
from sql.samples.reading.allowance import SampleAllowance
from sql.samples.reading.newest import MAX_HISTOGRAM_BYTES
from sql.samples.reading.snapshots import SampleSnapshots
from sql.samples.writing.backlog import Backlog
from sql.samples.writing.duplicate_policies import DuplicatePolicies
from sql.series.series_access import SeriesAccess

_QUERIES: Final = load_queries("corrections")
_SERIES_PER_STEP: Final = 256
_MAX_SAMPLES: Final = 500_000
"""A step reads at most this many samples: 8 MB, and about as many bytes of new arrivals.
Histograms have a bound of their own."""
_SHRINKAGE: Final = 8
_GROWTH: Final = 2


@dataclass(frozen=True, slots=True)
class RunningCorrection:
    """A row of `running_correction`."""

    id: int
    tenant_id: int
    tenant: str
    kind: CorrectionKind
    first_ms: int
    last_ms: int
    factor: float | None
    addend: float | None
    labels: Mapping[str, str]
    step: int
    series_done: int
    chunk_through: int | None
    times_done_ms: int | None


@dataclass(frozen=True, slots=True)
class CorrectionSources:
    """What corrections need of a store whose samples arrive in the log of arrivals."""

    series: SeriesAccess
    log: ArrivalLog
    snapshots: SampleSnapshots
    policies: DuplicatePolicies
    backlog: Backlog


@dataclass(frozen=True, slots=True)
class _Window:
    """Samples of a step, with times in `(start_ms, end_ms]`, as of arrival `read_through`."""

    samples: SeriesSamples
    start_ms: int
    end_ms: int
    read_through: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class _Result:
    """What a step appends, how many samples it changes, and under which conditions."""

    arrivals: Sequence[NewArrival] = ()
    n_samples: int = 0
    definitions: Mapping[int, int] = field(default_factory=dict)


class CorrectionSteps:
    """Does steps. Any number of processes may try; each step is done once."""

    def __init__(self, sources: CorrectionSources) -> None:
        self._sources = sources
        self._size_ms: dict[int, int] = {}

    async def step(self, correction: RunningCorrection) -> bool:
        """Do the next step; returns False when no series is left.

        Raises OverloadedError while too much waits to be drained, OvertakenError when the samples
        changed meanwhile, and other StorageUnavailableErrors: a later call may succeed. Raises
        BadDataError when it cannot be done at all.
        """
        await self._sources.backlog.admit(correction.tenant_id)
        version = self._sources.series.database.guard.version
        ids = await self._next_series(correction)
        if not len(ids):
            self._size_ms.pop(correction.id, None)
            return False
        window = await self._read(correction, ids)
        try:
            result = await self._result_of(correction, window, version)
            await self._append(correction, ids, window, result, version)
        except DefinitionsChangedError:
            self._sources.policies.forget([correction.tenant_id])
            raise
        return True

    async def _next_series(self, correction: RunningCorrection) -> IntArray:
        position = correction.series_done, correction.chunk_through
        async with acquired(self._sources.series.database.write_pool) as connection:
            ids = await connection.fetchval(
                _QUERIES["next_correction_series"], correction.id, *position, _SERIES_PER_STEP
            )
        return np.array(ids, np.int64)

    async def _read(self, correction: RunningCorrection, ids: IntArray) -> _Window:
        """The next window of these series; it ends with their last sample in it."""
        tenant_id, snapshots = correction.tenant_id, self._sources.snapshots
        bounds = await snapshots.bounds(tenant_id)
        if bounds is None:
            return _Window(NO_SAMPLES, 0, 0, 0, is_last=True)
        start = max(correction.first_ms, bounds[0]) - 1
        if correction.times_done_ms is not None:
            start = max(start, correction.times_done_ms)
        last = max(min(correction.last_ms, bounds[1]), start)
        end = min(last, start + self._size_ms.get(correction.id, last - start))
        while True:
            try:
                async with snapshots.open([tenant_id], start, end) as snapshot:
                    # A millisecond cannot be divided.
                    max_bytes = MAX_HISTOGRAM_BYTES if end - start > 1 else 0
                    allowance = SampleAllowance(_MAX_SAMPLES, max_histogram_bytes=max_bytes)
                    samples = await snapshot.read(tenant_id, ids, start, end, allowance)
                    read_through = snapshot.view.last_id
            except ExecutionError:
                end = start + max((end - start) // _SHRINKAGE, 1)
                continue
            if end < last:
                self._size_ms[correction.id] = _GROWTH * (end - start)
            # What arrives later behind the last sample is new, and not touched.
            read_end = int(samples.timestamps.max()) if len(samples) and end == last else end
            return _Window(samples, start, read_end, read_through, is_last=end == last)

    async def _result_of(
        self, correction: RunningCorrection, window: _Window, version: int
    ) -> _Result:
        if not len(window.samples):
            return _Result()
        if correction.kind is CorrectionKind.SCALE:
            assert correction.factor is not None
            assert correction.addend is not None
            changed = await asyncio.to_thread(
                scaled, window.samples, correction.factor, correction.addend
            )
            pages = await asyncio.to_thread(
                pages_of, correction.tenant_id, changed, ArrivalKind.REPLACEMENTS
            )
            return _Result(pages, len(changed))
        return await self._moved(correction, window, version)

    async def _moved(self, correction: RunningCorrection, window: _Window, version: int) -> _Result:
        """The samples as arrivals of their new series, and the deletion where they were."""
        tenant_id, samples = correction.tenant_id, window.samples
        targets = await self._targets(correction, samples.ids, version)
        is_moved = targets != samples.ids
        rows = np.flatnonzero(is_moved)
        if not len(rows):
            return _Result()
        # Before the samples: what is copied for a step that is repeated is there already.
        await self._sources.series.starts.copy(samples.ids[rows], targets[rows], window.end_ms)
        policies = self._sources.policies
        definitions = await policies.versions([tenant_id])
        arrivals: list[NewArrival] = []
        for layer in layers_of(samples, rows, targets[rows]):
            keeps_last = await policies.keeps_last(tenant_id, layer.ids)
            if keeps_last is None:
                keeps_last = np.zeros(len(layer.ids), np.bool_)
            for kind, chosen in (
                (ArrivalKind.SAMPLES, ~keeps_last),
                (ArrivalKind.REPLACEMENTS, keeps_last),
            ):
                some = np.flatnonzero(chosen)
                if len(some):
                    part = layer.with_ids(some, layer.ids[some])
                    arrivals += await asyncio.to_thread(pages_of, tenant_id, part, kind)
        n_moved = int(np.diff(samples.offsets)[rows].sum())
        arrivals.append(
            deletion_of(tenant_id, samples.ids[rows], window.start_ms + 1, window.end_ms)
        )
        return _Result(arrivals, n_moved, definitions)

    async def _targets(
        self, correction: RunningCorrection, ids: IntArray, version: int
    ) -> IntArray:
        """The series that each of these becomes; those without samples yet are made."""
        access = self._sources.series
        async with acquired(access.database.read_pool) as connection:
            labels = await access.reader.labels_of(connection, ids)
        changed = [relabelled(one, correction.labels) for one in labels]
        found = ids.copy()
        rows = [row for row, one in enumerate(changed) if one != labels[row]]
        if rows:
            wanted = [changed[row] for row in rows]
            found[rows] = await series_of(
                access, correction.tenant, correction.tenant_id, wanted, version
            )
        return found

    async def _append(
        self,
        correction: RunningCorrection,
        ids: IntArray,
        window: _Window,
        result: _Result,
        version: int,
    ) -> None:
        through = int(ids[-1])
        position = (
            (through, None, None)
            if window.is_last
            else (correction.series_done, through, window.end_ms)
        )
        await self._sources.log.append_recorded(
            _QUERIES["append_correction_step"],
            result.arrivals,
            AppendConditions(version=version, definitions=result.definitions),
            (
                correction.id,
                correction.step,
                *position,
                len(ids) if window.is_last else 0,
                result.n_samples,
                window.read_through,
                ids.tolist(),
                window.start_ms + 1,
                window.end_ms,
            ),
        )


async def series_of(
    access: SeriesAccess, tenant: str, tenant_id: int, labels: Sequence[Labels], version: int
) -> IntArray:
    """The ids of series; those that are missing are made.

    Raises BadDataError for labels that cannot be stored, StaleKnowledgeError.
    """
    keys = [orjson.dumps(one.pairs) for one in labels]
    n_rows = len(keys)
    batch = WriteBatch.of_keys(
        keys, np.zeros(n_rows, np.int64), np.zeros(n_rows), dict(zip(keys, labels, strict=True))
    )
    resolved = await access.resolver.resolve(
        tenant, tenant_id, batch, is_storable=np.ones(n_rows, np.bool_), version=version
    )
    if (resolved.series_ids == UNKNOWN_SERIES).any():
        raise BadDataError(resolved.rejection or "the labels cannot be stored")
    return resolved.series_ids


def scaled(samples: SeriesSamples, factor: float, addend: float) -> SeriesSamples:
    """The samples whose bits change, with their new values; NaN never changes."""
    with np.errstate(all="ignore"):
        values: FloatArray = samples.values * factor + addend
    is_changed = values.view(np.uint64) != samples.values.view(np.uint64)
    is_changed &= ~np.isnan(samples.values)
    if not is_changed.any():
        return NO_SAMPLES
    all_changed = SeriesSamples(samples.ids, samples.offsets, samples.timestamps, values)
    return all_changed.where(is_changed)


def layers_of(samples: SeriesSamples, rows: IntArray, targets: IntArray) -> list[SeriesSamples]:
    """The series at some rows under other ids, which may repeat.

    A layer has each id once. Of rows with the same id, an earlier one is in an earlier layer.
    """
    order = np.argsort(targets, kind="stable")
    rows, targets = rows[order], targets[order]
    firsts = np.flatnonzero(np.diff(targets, prepend=-1))
    sizes = np.diff(np.append(firsts, len(targets)))
    ranks = np.arange(len(targets)) - np.repeat(firsts, sizes)
    return [
        samples.with_ids(rows[ranks == rank], targets[ranks == rank])
        for rank in range(int(sizes.max()))
    ]
