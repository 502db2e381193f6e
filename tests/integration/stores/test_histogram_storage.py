"""Native histograms beside floats in both stores: reads, pushdown, rollups, deletion, SQL."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import numpy as np
import pytest

from promcompat.core.corrections import (
    CorrectionRequest,
    RelabelSeries,
    ReplaceSamples,
    SampleScope,
)
from promcompat.core.errors import OverloadedError
from promcompat.core.histograms.columns import (
    Histograms,
    histogram_cells,
    histogram_numbers,
    is_histogram,
)
from promcompat.core.model import Labels, SampleBlock, SelectHints, SeriesSelection, WriteBatch
from promcompat.core.native_queries import SamplePageQuery, histograms_of_rows
from promcompat.core.ports import Store
from promql.values.histogram_columns import HistogramColumns
from sql.database.database import Database
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.corrections import steps as correction_steps
from sql.samples.draining.drainer import DrainOptions
from sql.samples.reading import newest
from sql.samples.storage_options import StoreKind
from sql.samples.store_move import StoreMove
from sql.samples.stores import rollup_work
from sql.samples.writing import backlog
from sql.samples.writing.backlog import BacklogLimits
from tests.support.factories import make_batch, make_labels, make_matcher, select_name
from tests.support.histograms import columns_of, histogram_of
from tests.support.storage.repositories import (
    connected,
    delete_samples,
    drain_and_compact,
    opened_storage,
)

pytestmark = pytest.mark.integration

DAY_MS = 86_400_000
MIDNIGHT = 19_700 * DAY_MS
STORES = pytest.mark.parametrize("kind", StoreKind)
Sample = float | Histograms
Points = Sequence[tuple[int, Sample]]
ALL = select_name("h", MIDNIGHT - 1, MIDNIGHT + 2 * DAY_MS)


def grown(k: int) -> Histograms:
    """An integer histogram that grows, and gets a bucket at 5."""
    counts = [3 * k, k, 2] if k >= 5 else [3 * k, k]
    return histogram_of(
        schema=2,
        zero_threshold=2.0**-128,
        zero_count=k,
        count=sum(counts) + k,
        sum_=1.25 * k,
        positive_spans=[(0, 1), (2, len(counts) - 1)],
        positive=counts,
    )


def wide(k: int) -> Histograms:
    """A histogram with buckets that take a byte and more each."""
    counts = [(k * 2_654_435_761 + one * 40_503) % 9_973 for one in range(100)]
    return histogram_of(
        count=sum(counts), sum_=1.25 * k, positive_spans=[(0, len(counts))], positive=counts
    )


CUSTOM = histogram_of(
    schema=-53, hint=3, is_float=True, count=2.5, sum_=float("nan"), positive_spans=[(0, 2)],
    positive=[0.5, 2.0], bounds=[0.25],
)  # fmt: skip
A, B, C = (make_labels("h", i=number) for number in "abc")
WRITTEN: Mapping[Labels, Points] = {
    A: [(MIDNIGHT + 60_000 * k, grown(k)) for k in range(10)],
    B: [(MIDNIGHT, 1.5), (MIDNIGHT + 60_000, CUSTOM), (MIDNIGHT + 120_000, float("nan"))],
    C: [(MIDNIGHT + 60_000 * k, float(k)) for k in range(10)],
}


def batch_of(series: Mapping[Labels, Points]) -> WriteBatch:
    samples = [sample for points in series.values() for _, sample in points]
    floats = {
        labels: [(at, 0.0 if isinstance(sample, Histograms) else sample) for at, sample in points]
        for labels, points in series.items()
    }
    pool = [sample for sample in samples if isinstance(sample, Histograms)]
    batch = make_batch(floats)
    places = [row for row, sample in enumerate(samples) if isinstance(sample, Histograms)]
    values = batch.values.copy()
    values[places] = histogram_cells(np.arange(len(pool)))
    return replace(batch, values=values, histograms=Histograms.joined(pool) if pool else None)


def shown(value: Sample) -> object:
    """A sample by its bits."""
    if isinstance(value, Histograms):
        return columns_of(value)
    return int(np.float64(value).view(np.int64))


def samples_in(block: SampleBlock) -> dict[Labels, list[tuple[int, object]]]:
    found = {}
    bounds = zip(block.labels, block.offsets[:-1], block.offsets[1:], strict=True)
    for labels, first, end in bounds:
        rows = []
        for at, value in zip(block.timestamps[first:end], block.values[first:end], strict=True):
            if is_histogram(np.array([value]))[0]:
                assert block.histograms is not None
                number = histogram_numbers(np.array([value]))
                rows.append((int(at), shown(block.histograms.take(number))))
            else:
                rows.append((int(at), shown(float(value))))
        found[labels] = rows
    return found


def expected(series: Mapping[Labels, Points]) -> dict[Labels, list[tuple[int, object]]]:
    return {
        labels: [(at, shown(value)) for at, value in points] for labels, points in series.items()
    }


async def read(store: Store, selection: SeriesSelection = ALL) -> Any:
    (block,) = await store.select("default", [selection])
    return samples_in(block)


async def of_sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    async with connected(url) as connection:
        return [tuple(row) for row in await connection.fetch(statement)]


def told(row: asyncpg.Record | None) -> object:
    """What SQL says of a histogram."""
    if row is None:
        return None
    keys = "schema", "count", "zero_count", "positive_indexes", "positive_counts", "custom_bounds"
    return [row[key] for key in keys]


def told_of(value: Sample) -> object:
    if not isinstance(value, Histograms):
        return None
    own = HistogramColumns.of(value)
    return [
        own.schemas[0],
        own.counts[0],
        own.zero_counts[0],
        own.positive.indices.tolist(),
        own.positive.counts.tolist(),
        value.bounds.cells.tolist(),
    ]


@STORES
async def test_stores_and_sql_show_what_was_written(database_url: str, kind: StoreKind) -> None:
    """From the head and drained; of one time the first sample counts; a deletion takes both."""
    statement = (
        "SELECT (extract(epoch FROM timestamp) * 1000)::bigint, labels ->> 'i', value::text,"
        " histogram FROM samples('h', '2000-01-01', '2100-01-01') ORDER BY 2, 1"
    )
    of_sql_expected = [
        (at, labels.get("i"), None if isinstance(value, Histograms) else value, told_of(value))
        for labels, points in WRITTEN.items()
        for at, value in points
    ]
    async with opened_storage(database_url, store=kind) as storage:
        await storage.store.write_batch("default", batch_of(WRITTEN))
        for is_drained in (False, True):
            if is_drained:
                again = {A: [(MIDNIGHT, 7.0), (MIDNIGHT + 60_000, grown(1))]}
                await drain_and_compact(storage)
                await storage.store.write_batch("default", batch_of(again))
                await drain_and_compact(storage)
            assert await read(storage.store) == expected(WRITTEN)
            for text in (statement, statement.replace("samples('h', '2000-01-01', '2100-01-01')",
                                                      "metrics WHERE name = 'h'")):  # fmt: skip
                rows = await of_sql(database_url, text)
                assert [row[:2] for row in rows] == [row[:2] for row in of_sql_expected]
                assert [told(row[3]) for row in rows] == [row[3] for row in of_sql_expected]
                values = [None if row[2] is None else float(row[2]) for row in rows]
                wanted = [row[2] for row in of_sql_expected]
                assert [value is None for value in values] == [one is None for one in wanted]
                np.testing.assert_array_equal(
                    [value for value in values if value is not None],
                    [one for one in wanted if one is not None],
                )
        cut = select_name("h", MIDNIGHT - 1, MIDNIGHT + 60_000)
        await delete_samples(storage, "default", cut)
        await drain_and_compact(storage)
        assert await read(storage.store) == expected(
            {
                labels: [point for point in points if point[0] > MIDNIGHT + 60_000]
                for labels, points in WRITTEN.items()
            }
        )


@pytest.mark.rows
async def test_pushdown_reads_series_with_histograms_whole(database_url: str) -> None:
    functions = ("rate", "sum_over_time", "max_over_time", "count_over_time", "delta")
    async with opened_storage(
        database_url, store=StoreKind.ROWS, pushdown=PushdownMode.FORCED
    ) as storage:
        await storage.store.write_batch("default", batch_of(WRITTEN))
        await drain_and_compact(storage)
        whole = expected(WRITTEN)
        for function in functions:
            hints = SelectHints(
                step_ms=300_000, range_ms=300_000, reach_ms=300_000, function=function
            )
            selection = replace(ALL, end_ms=MIDNIGHT + 900_000 - 1, hints=hints)
            found = await read(storage.store, selection)
            assert found[A] == whole[A]
            assert found[B] == whole[B]
            assert len(found[C]) < len(whole[C])
        newest = replace(ALL, end_ms=MIDNIGHT + 300_000, hints=SelectHints(reach_ms=300_001))
        found = await read(storage.store, newest)
        assert found == {A: [whole[A][5]], B: [whole[B][2]], C: [whole[C][5]]}


@pytest.mark.parametrize("most_bytes", [newest.MAX_HISTOGRAM_BYTES, 1])
async def test_rollups_stand_for_no_histogram(
    database_url: str, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    """Series with histograms are read raw, few at once if these are large; hours are of numbers."""
    monkeypatch.setattr(rollup_work, "MAX_HISTOGRAM_BYTES", most_bytes)
    async with opened_storage(
        database_url,
        store=StoreKind.BLOCKS,
        now_ms=lambda: MIDNIGHT + 3 * DAY_MS,
        pushdown=PushdownMode.AUTO,
    ) as storage:
        await storage.store.write_batch("default", batch_of(WRITTEN))
        await drain_and_compact(storage)
        assert storage.rollups is not None
        n_at_first = storage.rollups.n_series
        await storage.rollups.run(1_000)
        assert (storage.rollups.n_series < n_at_first) is (most_bytes == 1)
        whole = expected(WRITTEN)
        for function in ("sum_over_time", "max_over_time", "rate", "last_over_time"):
            hints = SelectHints(
                step_ms=300_000, range_ms=300_000, reach_ms=300_000, function=function
            )
            selection = replace(ALL, start_ms=MIDNIGHT, end_ms=MIDNIGHT + 900_000, hints=hints)
            found = await read(storage.store, selection)
            assert found[A] == whole[A][1:], function
            assert found[B] == whole[B][1:], function
            assert len(found[C]) < len(whole[C]) - 1, function
    rows = await of_sql(
        database_url,
        "SELECT labels ->> 'i', count, max::text FROM metrics_hourly_by_series ORDER BY 1",
    )
    assert rows == [("b", 2, "NaN"), ("c", 10, "9")]


@pytest.mark.rows
async def test_rows_with_histograms_become_blocks(database_url: str) -> None:
    async with opened_storage(database_url, store=StoreKind.ROWS) as storage:
        await storage.store.write_batch("default", batch_of(WRITTEN))
    database = await Database.open(database_url)
    try:
        now_ms = MIDNIGHT + DAY_MS
        move = await StoreMove.of(
            database, DrainOptions(), lambda: now_ms, lambda _progress: None, rows_at_once=7
        )
        assert await move.run() == 23
    finally:
        await database.close()
    async with opened_storage(database_url, store=None) as storage:
        assert await read(storage.store) == expected(WRITTEN)


async def test_lists_have_floats_and_histograms(database_url: str) -> None:
    async with opened_storage(database_url, store=StoreKind.BLOCKS) as storage:
        await storage.store.write_batch("default", batch_of(WRITTEN))
        matchers = (make_matcher("__name__", "=", "h"),)
        latest = await storage.sample_lists.latest_samples("default", matchers, 10)
        states = [(row.labels, histograms_of_rows([row])) for row in latest]
        assert [(labels, found and columns_of(found)) for labels, found in states] == [
            (A, columns_of(grown(9))),
            (B, None),
            (C, None),
        ]
        query = SamplePageQuery(
            matchers=matchers,
            start_ms=MIDNIGHT,
            end_ms=MIDNIGHT + 120_000,
            descending=False,
            limit=10,
        )
        page = await storage.sample_lists.sample_page("default", query)
        assert [(row.labels, shown(histograms_of_rows([row]) or row.value)) for row in page] == [
            (labels, shown(WRITTEN[labels][k][1])) for k in range(2) for labels in (A, B, C)
        ]
        tenant_id, lookup = await storage.database.tenants.find("default"), storage.sample_lookup
        assert tenant_id is not None
        of_b, of_c = (row.position.series_id for row in page[1:3])
        ids = sorted({of_b - 1, of_b, of_c, of_c + 1})
        newest = await lookup.newest(tenant_id, ids)
        assert sorted(newest) == sorted([of_b, of_c])
        keys = [of_c, of_b, of_b], [MIDNIGHT + 120_000, MIDNIGHT + 60_000, MIDNIGHT]
        assert await lookup.values_at(tenant_id, *keys) == [2.0, None, 1.5]


async def test_samples_of_one_millisecond_are_listed_however_many_they_are(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest, "_MAX_SAMPLES", 2)
    async with opened_storage(plain_database_url, store=StoreKind.BLOCKS) as storage:
        await storage.store.write_batch("default", batch_of(WRITTEN))
        query = SamplePageQuery(
            matchers=(make_matcher("__name__", "=", "h"),),
            start_ms=MIDNIGHT - 60_000,
            end_ms=MIDNIGHT + 60_000,
            descending=False,
            limit=10,
        )
        async with asyncio.timeout(20):
            page = await storage.sample_lists.sample_page("default", query)
        assert len(page) == 3


@STORES
async def test_histograms_that_replace_samples_come_back(
    database_url: str, kind: StoreKind
) -> None:
    scope = SampleScope([(make_matcher("__name__", "=", "h"),)], MIDNIGHT, MIDNIGHT + DAY_MS)
    async with opened_storage(database_url, store=kind) as storage:
        await storage.store.write_batch("default", batch_of({C: WRITTEN[C]}))
        await drain_and_compact(storage)
        batch = batch_of({B: WRITTEN[B], A: WRITTEN[A]})
        offsets = np.array([0, 3, 13], np.int64)
        block = SampleBlock((B, A), batch.timestamps, batch.values, offsets)
        change = ReplaceSamples(scope, replace(block, histograms=batch.histograms))
        correction = await storage.corrections.begin(
            "default", CorrectionRequest(change, "ann", "a test")
        )
        while await storage.corrections.advance(correction):
            pass
        wanted = expected({A: WRITTEN[A], B: WRITTEN[B]})
        for _ in range(2):
            found = await read(storage.store)
            assert {labels: rows for labels, rows in found.items() if rows} == wanted
            await drain_and_compact(storage)


@STORES
async def test_series_with_large_histograms_are_renamed_in_small_steps(
    database_url: str, kind: StoreKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correction_steps, "MAX_HISTOGRAM_BYTES", 3 * grown(9).n_bytes)
    scope = SampleScope([(make_matcher("__name__", "=", "h"),)], MIDNIGHT, MIDNIGHT + DAY_MS)
    change = RelabelSeries(scope, {"__name__": "n"})
    async with opened_storage(database_url, store=kind) as storage:
        await storage.store.write_batch("default", batch_of(WRITTEN))
        await drain_and_compact(storage)
        correction = await storage.corrections.begin(
            "default", CorrectionRequest(change, "ann", "a test")
        )
        n_steps = 0
        while await storage.corrections.advance(correction):
            n_steps += 1
        assert n_steps > 3
        found = await read(storage.store, select_name("n", MIDNIGHT - 1, MIDNIGHT + DAY_MS))
        renamed = {
            make_labels("n", i=labels.get("i")): points for labels, points in WRITTEN.items()
        }
        assert found == expected(renamed)


@STORES
async def test_drains_begin_before_writes_are_refused(
    plain_database_url: str, kind: StoreKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Histograms take many times the memory of floats, in the head and while they are drained."""
    monkeypatch.setattr(backlog, "_MEASURED_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(backlog, "_COST_RATIO", 0)
    limits = BacklogLimits(max_bytes=800_000, max_tenant_bytes=600_000)
    drains = DrainOptions(start_bytes=300_000, max_bytes=100_000)
    async with opened_storage(
        plain_database_url, store=kind, backlog=limits, drains=drains
    ) as storage:
        n_written = n_refused = 0
        while n_refused < 3:
            times = range(n_written, n_written + 20)
            points = [(MIDNIGHT + 1_000 * k, wide(k)) for k in times]
            try:
                await storage.store.write_batch("default", batch_of({A: points}))
            except OverloadedError:
                n_refused += 1
                n_drains = storage.drains.stats.drains
                n_drained = await storage.drains.drainer.drain_due()
                assert n_drained > 0
                assert storage.drains.stats.drains - n_drains > 1, "a drain has a part of them"
            else:
                n_written += 20
        await drain_and_compact(storage)
        found = await read(storage.store)
        assert len(found[A]) == n_written
