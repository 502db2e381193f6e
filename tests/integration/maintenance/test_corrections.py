"""Corrections of stored samples: what queries answer at once, what is recorded, and crashes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import asyncpg
import numpy as np
import pytest

from promcompat.core.corrections import (
    CorrectionRepository,
    CorrectionRequest,
    CorrectionState,
    DeleteSamples,
    RelabelSeries,
    ReplaceSamples,
    SampleChange,
    SampleScope,
    ScaleSamples,
)
from promcompat.core.errors import StorageUnavailableError
from promcompat.core.model import METRIC_NAME, STALE_NAN_BITS, Labels, WriteBatch
from sql.samples.corrections import steps as correction_steps
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.support.factories import (
    block_rows,
    float_column,
    make_batch,
    make_block,
    make_labels,
    make_matcher,
    select_name,
    value_bits,
)
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import connected, drain_and_compact, opened_storage

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
MINUTE_MS = 60_000
EVER = (-(1 << 61), 1 << 61)
TENANT = "default"
A = make_labels("m", host="a")
B = make_labels("m", host="b")
OTHER = make_labels("other", host="a")
NAN_BITS = 0xFFF8_0000_DEAD_BEEF


@pytest.fixture(params=["head", "drained"])
def is_drained(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "drained")


@pytest.fixture(params=["blocks", pytest.param("rows", marks=pytest.mark.rows)])
def store(request: pytest.FixtureRequest) -> StoreKind:
    return StoreKind(request.param)


@pytest.fixture
async def storage(database_url: str, store: StoreKind) -> AsyncIterator[MetricStorage]:
    async with opened_storage(database_url, store=store) as storage:
        yield storage


def scope_of(name: str, start: int = 0, end: int = 1_000, **labels: str) -> SampleScope:
    """Minutes after T0, both inclusive."""
    matchers = [make_matcher(METRIC_NAME, "=", name)]
    matchers += [make_matcher(label, "=", value) for label, value in labels.items()]
    return SampleScope([tuple(matchers)], T0 + start * MINUTE_MS, T0 + end * MINUTE_MS)


def points(*values: float, start: int = 0) -> list[tuple[int, float]]:
    return [(T0 + (start + at) * MINUTE_MS, value) for at, value in enumerate(values)]


async def write(storage: MetricStorage, series: Mapping[Labels, Any]) -> None:
    await storage.store.write_batch(TENANT, make_batch(series))


async def stored(storage: MetricStorage, name: str = "m") -> dict[Labels, dict[int, float]]:
    """The values by label set and minute."""
    (block,) = await storage.store.select(TENANT, [select_name(name, *EVER)])
    return {
        labels: {
            (at - T0) // MINUTE_MS: float(np.array([bits], np.uint64).view(np.float64)[0])
            for at, bits in rows
        }
        for labels, rows in block_rows(block).items()
        if rows
    }


async def correct(storage: MetricStorage, change: SampleChange) -> int:
    """Do a correction to its end; returns its id."""
    repository = storage.corrections
    request = CorrectionRequest(change, "ann", "a test")
    correction_id = await repository.begin(TENANT, request)
    while await repository.advance(correction_id):
        pass
    return correction_id


async def test_deletion_hides_samples_at_once_and_is_worked_off(
    storage: MetricStorage, is_drained: bool
) -> None:
    await write(storage, {A: points(1, 2, 3, 4), B: points(5, 6), OTHER: points(7)})
    if is_drained:
        await drain_and_compact(storage)
    affected = await storage.corrections.count(TENANT, scope_of("m", 1, 2))
    assert (affected.n_series, affected.n_samples, affected.is_counted) == (2, 3, True)
    correction_id = await correct(storage, DeleteSamples(scope_of("m", 1, 2)))
    expected = {A: {0: 1, 3: 4}, B: {0: 5}}
    assert await stored(storage) == expected
    assert await stored(storage, "other") == {OTHER: {0: 7}}
    await write(storage, {A: points(9, start=2)})
    [record], _ = await storage.corrections.list(TENANT, 1 << 62, 10)
    assert (record.id, record.state, record.affected.n_samples) == (
        correction_id,
        CorrectionState.DONE,
        3,
    )
    assert (record.requested_by, record.reason) == ("ann", "a test")
    assert record.selectors == ['{"__name__"="m"}']
    assert record.has_tombstones
    await storage.corrections.clean_tombstones(TENANT)
    assert await stored(storage) == {A: {0: 1, 2: 9, 3: 4}, B: {0: 5}}
    [record], _ = await storage.corrections.list(TENANT, 1 << 62, 10)
    assert not record.has_tombstones


async def test_replacement_stands_for_the_whole_range(
    storage: MetricStorage, is_drained: bool
) -> None:
    await write(storage, {A: points(1, 2, 3, 4), B: points(5, 6)})
    if is_drained:
        await drain_and_compact(storage)
    new = make_labels("m", host="new")
    block = make_block({A: points(20, start=1), new: points(30, start=2)})
    await correct(storage, ReplaceSamples(scope_of("m", 1, 2), block))
    expected = {A: {0: 1, 1: 20, 3: 4}, B: {0: 5}, new: {2: 30}}
    assert await stored(storage) == expected
    await drain_and_compact(storage)
    await write(storage, {B: points(5)})
    assert await stored(storage) == expected


async def test_scaling_leaves_nan_and_stale_markers(
    storage: MetricStorage, is_drained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correction_steps, "_MAX_SAMPLES", 3)
    monkeypatch.setattr(correction_steps, "_SERIES_PER_STEP", 1)
    values = float_column([1000.0, 0.0, 0.0, 2000.0, 3000.0])
    values.view(np.uint64)[1:3] = (STALE_NAN_BITS, NAN_BITS)
    batch = make_batch({A: points(*values)})
    batch = WriteBatch.of_keys(batch.unknown_keys, batch.timestamps, values, batch.labels)
    await storage.store.write_batch(TENANT, batch)
    await write(storage, {B: points(500, 600)})
    if is_drained:
        await drain_and_compact(storage)
    correction_id = await correct(storage, ScaleSamples(scope_of("m", 0, 3), 0.001, 1.0))
    for _ in range(2):
        (block,) = await storage.store.select(TENANT, [select_name("m", *EVER)])
        rows = block_rows(block)
        bits = [bits for _, bits in rows[A]]
        assert bits == [
            value_bits(2.0),
            STALE_NAN_BITS,
            NAN_BITS,
            value_bits(3.0),
            value_bits(3000.0),
        ]
        assert [bits for _, bits in rows[B]] == [value_bits(1.5), value_bits(1.6)]
        await drain_and_compact(storage)
    [record], _ = await storage.corrections.list(TENANT, 1 << 62, 10, correction_id)
    assert (record.affected.n_samples, record.n_series_done) == (4, 2)


async def test_renamed_series_merge_in_the_order_of_arrival(
    storage: MetricStorage, is_drained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correction_steps, "_MAX_SAMPLES", 2)
    target = make_labels("n", host="x")
    await write(storage, {A: points(1, 2, 3), B: points(5, 6, 7, 8)})
    await write(storage, {target: points(100)})
    if is_drained:
        await drain_and_compact(storage)
    change = RelabelSeries(scope_of("m"), {METRIC_NAME: "n", "host": "x"})
    await correct(storage, change)
    # What was there before counts, then the series that was made first.
    expected = {target: {0: 100, 1: 2, 2: 3, 3: 8}}
    assert await stored(storage, "n") == expected
    assert await stored(storage) == {}
    await drain_and_compact(storage)
    assert await stored(storage, "n") == expected
    await correct(storage, change)
    assert await stored(storage, "n") == expected


async def test_starts_of_series_go_with_their_samples(
    storage: MetricStorage, database_url: str
) -> None:
    batch = make_batch({A: points(1, 2), B: points(3, 4, 5)})
    starts = np.array([T0 - 2, T0 - 2, T0 - 1, T0 - 1, T0 + 2 * MINUTE_MS])
    await storage.store.write_batch(TENANT, replace(batch, starts=starts))
    await correct(storage, RelabelSeries(scope_of("m", 0, 1), {METRIC_NAME: "n", "host": "x"}))
    # Both became one; of what began behind the renamed range, only the old series has samples.
    async with connected(database_url) as owner:
        rows = await owner.fetch(
            "SELECT name || (labels ->> 'host'), (extract(epoch FROM start_time) * 1000)::bigint"
            " FROM metrics_start ORDER BY 1, 2"
        )
    of_b = [("mb", T0 - 1), ("mb", T0 + 2 * MINUTE_MS)]
    assert [tuple(row) for row in rows] == [("ma", T0 - 2), *of_b, ("nx", T0 - 2), ("nx", T0 - 1)]


async def test_removed_label_keeps_series_that_have_none(storage: MetricStorage) -> None:
    plain = make_labels("m")
    await write(storage, {A: points(1, 2), plain: points(9)})
    await correct(storage, RelabelSeries(scope_of("m"), {"host": ""}))
    assert await stored(storage) == {plain: {0: 9, 1: 2}}


async def test_last_of_moved_samples_counts_where_the_definition_says_so(
    storage: MetricStorage, database_url: str
) -> None:
    target = make_labels("n", host="a")
    async with connected(database_url) as owner:
        await owner.execute(
            "INSERT INTO tenant (name) VALUES ('default') ON CONFLICT DO NOTHING;"
            "INSERT INTO metric_definition (tenant_id, name, display_name, description, unit, type,"
            " aggregation, duplicate_policy, version)"
            " SELECT id, 'n', '', '', '', 'gauge', 'avg', 'last', 1 FROM tenant;"
            "INSERT INTO definition_change (tenant_id, version) SELECT id, 1 FROM tenant"
        )
    await write(storage, {target: points(100, 200)})
    await write(storage, {A: points(1)})
    await correct(storage, RelabelSeries(scope_of("m"), {METRIC_NAME: "n"}))
    assert await stored(storage, "n") == {target: {0: 1, 1: 200}}


async def test_label_that_cannot_be_stored_fails_and_changes_nothing(
    storage: MetricStorage,
) -> None:
    await write(storage, {A: points(1)})
    correction_id = await correct(storage, RelabelSeries(scope_of("m"), {"host": "x" * 100_000}))
    [record], _ = await storage.corrections.list(TENANT, 1 << 62, 1, correction_id)
    assert record.state is CorrectionState.FAILED
    assert record.failure
    assert await stored(storage) == {A: {0: 1}}


async def test_each_step_is_done_once_however_many_processes_try(
    storage: MetricStorage, store: StoreKind, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a process is killed anywhere: a step and its position are one transaction."""
    monkeypatch.setattr(correction_steps, "_MAX_SAMPLES", 4)
    monkeypatch.setattr(correction_steps, "_SERIES_PER_STEP", 2)
    series = {make_labels("m", host=f"h{at}"): points(*range(1, 8)) for at in range(5)}
    await write(storage, series)
    async with opened_storage(database_url, store=store) as second:
        repositories = [storage.corrections, second.corrections]
        request = CorrectionRequest(ScaleSamples(scope_of("m"), 10.0, 1.0), "ann", "")
        correction_id = await repositories[0].begin(TENANT, request)

        async def work(repository: CorrectionRepository) -> None:
            while True:
                with suppress(StorageUnavailableError):
                    if not await repository.advance(correction_id):
                        return

        killed = asyncio.create_task(work(repositories[0]))
        await asyncio.sleep(0.02)
        killed.cancel()
        await asyncio.gather(killed, return_exceptions=True)
        await asyncio.gather(*(work(repository) for repository in repositories))
        expected = {at: 10.0 * (at + 1) + 1 for at in range(7)}
        assert await stored(second) == dict.fromkeys(series, expected)


async def test_samples_that_arrive_during_a_step_are_not_lost(
    storage: MetricStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(storage, {A: points(1, 2, 3)})
    moved = correction_steps.CorrectionSteps._moved
    n_calls = 0

    async def write_meanwhile(self: Any, *args: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        result = await moved(self, *args)
        if n_calls == 1:
            await storage.store.write_batch(
                TENANT, make_batch({A: [(T0 + MINUTE_MS + 1, 7.0)], B: points(8)})
            )
        return result

    monkeypatch.setattr(correction_steps.CorrectionSteps, "_moved", write_meanwhile)
    scope = scope_of("m", host="a")
    await correct(storage, RelabelSeries(scope, {METRIC_NAME: "n"}))
    assert n_calls == 2, "the first attempt was refused"
    (block,) = await storage.store.select(TENANT, [select_name("n", *EVER)])
    assert [at for at, _ in block_rows(block)[make_labels("n", host="a")]] == [
        T0,
        T0 + MINUTE_MS,
        T0 + MINUTE_MS + 1,
        T0 + 2 * MINUTE_MS,
    ]
    assert await stored(storage) == {B: {0: 8}}


async def test_unknown_tenant_has_nothing(storage: MetricStorage) -> None:
    repository = storage.corrections
    assert (await repository.count("nobody", scope_of("m"))).n_samples == 0
    assert await repository.list("nobody", 1 << 62, 10) == ([], False)
    await repository.clean_tombstones("nobody")


async def test_pages_of_the_record_are_bounded_in_bytes(
    storage: MetricStorage, database_url: str
) -> None:
    await write(storage, {A: points(1)})
    ids = [await correct(storage, DeleteSamples(scope_of("m", 10))) for _ in range(5)]
    repository = storage.corrections
    page, has_more = await repository.list(TENANT, 1 << 62, 4)
    assert ([record.id for record in page], has_more) == (ids[:0:-1], True)
    async with connected(database_url) as connection:
        await connection.execute(
            "UPDATE promcompat.correction SET selectors = $1", ["s" * (6 << 20)]
        )
    shown, before = [], 1 << 62
    while True:
        page, has_more = await repository.list(TENANT, before, 10)
        assert sum(len(record.selectors[0]) for record in page) < 24 << 20
        shown += [record.id for record in page]
        if not has_more:
            break
        before = shown[-1]
    assert shown == ids[::-1]
    assert len(page) < len(ids)


async def test_sql_readers_see_the_record_of_their_tenants(
    storage: MetricStorage, database_url: str, database_server: DatabaseServer
) -> None:
    await write(storage, {A: points(1)})
    await storage.store.write_batch("other", make_batch({A: points(1)}))
    await correct(storage, DeleteSamples(scope_of("m")))
    database = database_url.rpartition("/")[2]
    role = f"reader_of_{database}"
    database_server.run_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'test'")
    for tenant, seen in (("other", []), (TENANT, [("delete", "ann", 1)])):
        async with connected(database_url) as owner:
            await owner.execute("SELECT grant_tenant_reader($1, $2)", role, tenant)
        async with connected(database_server.url(database, role)) as reader:
            rows = await reader.fetch(
                "SELECT kind, requested_by, n_samples FROM promcompat.corrections"
            )
            assert [tuple(row) for row in rows] == seen
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch("SELECT FROM promcompat.correction")
