"""Writing to real databases: duplicates, concurrency, any age, faults."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from promcompat.core.errors import (
    BadDataError,
    OverloadedError,
    StaleKnowledgeError,
    StorageUnavailableError,
    WriteRejectedError,
)
from promcompat.core.limits.tenant_limits import Limits, SameLimits, TenantLimits
from promcompat.core.model import STALE_NAN_BITS, Labels, SampleBlock, WriteBatch
from sql.samples.metric_storage import MetricStorage
from sql.samples.writing.group_commit import GroupCommitOptions
from sql.times import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS
from tests.support.factories import block_rows, make_batch, make_labels, select_name, value_bits
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import connected, opened_storage

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
DAY_MS = 86_400_000
EVER = (-(2**62), 2**62)
UP = make_labels("up", job="a")


async def read(storage: MetricStorage, name: str = "up", tenant: str = "default") -> SampleBlock:
    [block] = await storage.store.select(tenant, [select_name(name, *EVER)])
    return block


def bits_batch(labels: Labels, rows: list[tuple[int, int]]) -> WriteBatch:
    """A batch of one series with values by their bits."""
    batch = make_batch({labels: [(timestamp, 0.0) for timestamp, _ in rows]})
    values = np.array([bits for _, bits in rows], np.uint64).view(np.float64)
    return WriteBatch.of_keys(batch.unknown_keys, batch.timestamps, values, batch.labels)


async def backend_pids(url: str, application: str) -> list[int]:
    async with connected(url) as connection:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name = $1 AND datname = current_database()",
            application,
        )
        return [row["pid"] for row in rows]


# -- duplicates -------------------------------------------------------------------------------


async def test_bits_decide_what_a_duplicate_is(storage: MetricStorage) -> None:
    nan, other_nan, minus_zero = 0x7FF8_0000_0000_0001, 0x7FF8_0000_0000_0002, 1 << 63
    stored = [nan, STALE_NAN_BITS, 0, minus_zero]
    rows = [(T0 + index, bits) for index, bits in enumerate(stored)]
    await storage.store.write_batch("default", bits_batch(UP, rows))
    await storage.store.write_batch("default", bits_batch(UP, rows))
    for index, other in enumerate([other_nan, nan, minus_zero, 0]):
        with pytest.raises(WriteRejectedError, match=f"timestamp {T0 + index};"):
            await storage.store.write_batch("default", bits_batch(UP, [(T0 + index, other)]))
    assert block_rows(await read(storage)) == {UP: rows}


async def test_message_is_that_of_prometheus(storage: MetricStorage) -> None:
    await storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]}))
    with pytest.raises(WriteRejectedError) as raised:
        await storage.store.write_batch("default", make_batch({UP: [(T0 + 1, 5.0), (T0, 2e6)]}))
    assert str(raised.value) == (
        f"duplicate sample for timestamp {T0}; overrides not allowed: existing 1, new value 2e+06"
    )


async def test_in_batch_duplicates_are_compared_with_what_is_stored(
    storage: MetricStorage,
) -> None:
    """The second of three rows equals the stored one; only the others conflict."""
    await storage.store.write_batch("default", make_batch({UP: [(T0, 2.0)]}))
    with pytest.raises(WriteRejectedError, match=r"existing 2, new value 1$"):
        await storage.store.write_batch(
            "default", make_batch({UP: [(T0, 1.0), (T0, 2.0), (T0, 3.0)]})
        )
    assert storage.stats.rows_rejected == 2
    assert (await read(storage)).values.tolist() == [2.0]


async def test_grouped_callers_are_answered_for_their_own_rows(
    storage: MetricStorage,
) -> None:
    """All share one commit: equal rows pass, the later of two different ones is refused."""
    other = make_labels("up", job="b")
    # With known series the writes reach the group in the order they are made.
    await storage.store.write_batch(
        "default", make_batch({series: [(T0 - 1, 0.0)] for series in (UP, other)})
    )
    commits = storage.stats.commits
    results = await asyncio.gather(
        storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]})),
        storage.store.write_batch("default", make_batch({UP: [(T0, 1.0), (T0 + 1, 1.0)]})),
        storage.store.write_batch("default", make_batch({UP: [(T0, 9.0)], other: [(T0, 4.0)]})),
        storage.store.write_batch("default", make_batch({other: [(T0 + 1, 5.0)]})),
        return_exceptions=True,
    )
    assert storage.stats.commits == commits + 1
    assert [type(result) for result in results] == [
        type(None),
        type(None),
        WriteRejectedError,
        type(None),
    ]
    stored = block_rows(await read(storage))
    assert stored[UP][1:] == [(T0, value_bits(1.0)), (T0 + 1, value_bits(1.0))]
    assert stored[other][1:] == [(T0, value_bits(4.0)), (T0 + 1, value_bits(5.0))]


async def test_half_repeated_batch_stores_the_other_half(
    storage: MetricStorage,
) -> None:
    labels = [make_labels("up", number=f"{number:02}") for number in range(40)]
    await storage.store.write_batch(
        "default", make_batch({series: [(T0, 1.0)] for series in labels[::2]})
    )
    batch = make_batch({series: [(T0, 1.0), (T0 + 1, 2.0), (T0 + 1, 2.0)] for series in labels})
    await storage.store.write_batch("default", batch)
    conflicting = make_batch(
        {series: [(T0 + 1, 3.0), (T0 + 2, 4.0), (T0 + 2, 5.0)] for series in labels}
    )
    with pytest.raises(WriteRejectedError, match=r"existing 2, new value 3$"):
        await storage.store.write_batch("default", conflicting)
    assert storage.stats.rows_rejected == 80
    block = await read(storage)
    assert block.values.reshape(40, 3).tolist() == [[1.0, 2.0, 4.0]] * 40


async def test_every_order_of_writes_keeps_the_first(storage: MetricStorage) -> None:
    """A model of first-wins over random overlapping batches, one after the other."""
    random = np.random.default_rng(1)
    labels = [make_labels("up", number=str(number)) for number in range(4)]
    model: dict[tuple[Labels, int], int] = {}
    for _ in range(40):
        picks = random.integers(0, [4, 6, 3], (random.integers(1, 12), 3)).tolist()
        rows = [(labels[series], T0 + step, float(value)) for series, step, value in picks]
        batch = make_batch([(series, [(timestamp, value)]) for series, timestamp, value in rows])
        conflicts = False
        for series, timestamp, value in rows:
            kept = model.setdefault((series, timestamp), value_bits(value))
            conflicts |= kept != value_bits(value)
        if conflicts:
            with pytest.raises(WriteRejectedError):
                await storage.store.write_batch("default", batch)
        else:
            await storage.store.write_batch("default", batch)
    stored = {
        (series, timestamp): bits
        for series, points in block_rows(await read(storage)).items()
        for timestamp, bits in points
    }
    assert stored == model


# -- concurrency ------------------------------------------------------------------------------


async def test_many_writers_of_the_same_new_series_make_each_once(
    storage: MetricStorage,
) -> None:
    labels = [make_labels("up", number=str(number)) for number in range(300)]
    random = np.random.default_rng(2)

    async def write(writer: int) -> None:
        order = random.permutation(len(labels)).tolist()
        await storage.store.write_batch(
            "default", make_batch([(labels[index], [(T0 + writer, writer)]) for index in order])
        )

    await asyncio.gather(*(write(writer) for writer in range(20)))
    block = await read(storage)
    assert len(block.labels) == 300
    assert len(block.timestamps) == 6000
    assert block.values.reshape(300, 20).tolist() == [list(range(20))] * 300


async def test_two_services_on_one_database_agree(database_url: str) -> None:
    labels = [make_labels("up", number=str(number)) for number in range(100)]
    async with opened_storage(database_url) as first, opened_storage(database_url) as second:

        async def write(storage: MetricStorage, step: int) -> None:
            points = [(T0 + step, float(step)), (T0 + step + 1, float(step + 1))]
            batch = make_batch(dict.fromkeys(labels, points))
            await storage.store.write_batch("default", batch)

        await asyncio.gather(*(write(both, step) for step in range(12) for both in (first, second)))
        for storage in (first, second):
            block = await read(storage)
            assert len(block.labels) == 100
            assert block.values.reshape(100, 13).tolist() == [list(range(13))] * 100


async def test_tenants_share_a_commit_and_nothing_else(
    storage: MetricStorage,
) -> None:
    tenants = [f"tenant {number}" for number in range(8)]
    await asyncio.gather(
        *(
            storage.store.write_batch(tenant, make_batch({UP: [(T0, float(number))]}))
            for number, tenant in enumerate(tenants)
        )
    )
    for number, tenant in enumerate(tenants):
        assert block_rows(await read(storage, tenant=tenant)) == {
            UP: [(T0, value_bits(float(number)))]
        }


async def test_invalid_tenant_name_is_refused(storage: MetricStorage) -> None:
    for tenant in ("", "a\0b", "\ud800", "x" * 1001):
        with pytest.raises(Exception, match="invalid tenant name"):
            await storage.store.write_batch(tenant, make_batch({UP: [(T0, 1.0)]}))
        assert await storage.catalogue.series(tenant, [], *EVER, 0) == []


# -- any age ----------------------------------------------------------------------------------


async def test_samples_of_any_age_are_stored(storage: MetricStorage) -> None:
    times = [-62_135_596_800_000, -1, 0, 1, DAY_MS - 1, DAY_MS, T0, 4_070_908_800_000]
    times += [253_402_300_799_999]
    points = [(timestamp, float(index)) for index, timestamp in enumerate(times)]
    await storage.store.write_batch("default", make_batch({UP: points}))
    block = await read(storage)
    assert block.timestamps.tolist() == times
    for timestamp in times:
        [single] = await storage.store.select(
            "default", [select_name("up", timestamp - 1, timestamp)]
        )
        assert single.timestamps.tolist() == [timestamp]
        assert await storage.catalogue.series("default", [], timestamp, timestamp, 0) == [UP]


async def test_times_the_database_cannot_hold_are_refused_and_the_rest_kept(
    storage: MetricStorage,
) -> None:
    points = [(MIN_TIMESTAMP_MS - 1, 1.0), (T0, 2.0), (MAX_TIMESTAMP_MS + 1, 3.0)]
    for extreme in (-(2**63), 2**63 - 1):
        with pytest.raises(WriteRejectedError, match="out of bounds"):
            await storage.store.write_batch("default", make_batch({UP: [*points, (extreme, 4.0)]}))
    assert (await read(storage)).timestamps.tolist() == [T0]


async def test_write_over_many_days_is_stored(storage: MetricStorage) -> None:
    """More days than one transaction may touch, twice: the second time as duplicates."""
    points = [(T0 - day * DAY_MS, float(day)) for day in range(200)]
    await storage.store.write_batch("default", make_batch({UP: points}))
    with pytest.raises(WriteRejectedError, match=r"existing 150, new value 7$"):
        await storage.store.write_batch(
            "default", make_batch({UP: [*points, (points[150][0], 7.0)]})
        )
    assert (await read(storage)).values.tolist() == [float(day) for day in range(199, -1, -1)]


# -- timestamps of the server -----------------------------------------------------------------


def server_timed(labels: Labels, *values: float) -> WriteBatch:
    """Samples that all came in the millisecond T0."""
    batch = make_batch({labels: [(T0, value) for value in values]})
    return replace(batch, server_timed=np.ones(len(values), np.bool_))


async def test_processes_that_time_samples_alike_lose_none(database_url: str) -> None:
    """Concurrent requests and processes, equal values included, and a series that is new."""
    async with (
        opened_storage(database_url) as first,
        opened_storage(database_url) as second,
    ):
        for _ in range(3):
            await asyncio.gather(
                *(
                    storage.store.write_batch("default", server_timed(UP, 1.0, 2.0))
                    for storage in (first, second)
                    for _ in range(10)
                )
            )
        stored = await read(first)
    assert stored.timestamps.tolist() == list(range(T0, T0 + 120))
    assert sorted(stored.values.tolist()) == [1.0] * 60 + [2.0] * 60


async def test_samples_timed_by_the_server_pass_over_what_is_stored(
    storage: MetricStorage,
) -> None:
    """Also where the last sample wins, and over midnight, where a partition is yet to be made."""
    midnight = T0 // DAY_MS * DAY_MS + DAY_MS
    taken = make_batch({UP: [(midnight - step, 0.0) for step in (3, 2, 1)]})
    await storage.store.write_batch("default", taken)
    batch = make_batch({UP: [(midnight - 3, 7.0), (midnight - 3, 8.0)]})
    timed = replace(batch, server_timed=np.ones(2, np.bool_))
    await storage.store.write_batch("default", timed)
    assert block_rows(await read(storage)) == {
        UP: [
            *((midnight - step, value_bits(0.0)) for step in (3, 2, 1)),
            (midnight, value_bits(7.0)),
            (midnight + 1, value_bits(8.0)),
        ]
    }


# -- what cannot be stored --------------------------------------------------------------------


async def test_label_with_nul_is_refused_and_the_rest_kept(
    storage: MetricStorage,
) -> None:
    bad = make_labels("up", job="a\0b")
    for _ in range(2):
        with pytest.raises(WriteRejectedError, match=r"U\+0000"):
            await storage.store.write_batch(
                "default", make_batch({bad: [(T0, 1.0)], UP: [(T0, 2.0)]})
            )
    assert block_rows(await read(storage)) == {UP: [(T0, value_bits(2.0))]}


async def test_long_labels_are_stored(storage: MetricStorage) -> None:
    long = make_labels("m" * 2000, **{"n" * 1024: "v" * 2048, "short": "ü" * 1024})
    await storage.store.write_batch("default", make_batch({long: [(T0, 1.0)]}))
    assert (await read(storage, "m" * 2000)).labels == (long,)


@pytest.mark.parametrize(
    "labels",
    [
        make_labels("m" * 2001),
        make_labels("m", **{"n" * 1025: "v"}),
        make_labels("m", long="v" * 2049),
        make_labels("m", long="ü" * 1025),
        make_labels("m", **{f"l{number}": "v" for number in range(30)}),
    ],
)
async def test_series_beyond_a_limit_are_refused_whoever_makes_them(
    storage: MetricStorage, labels: Labels
) -> None:
    with pytest.raises(WriteRejectedError, match=r"limit"):
        await storage.store.write_batch(
            "default", make_batch({labels: [(T0, 1.0)], UP: [(T0, 2.0)]})
        )
    assert block_rows(await read(storage)) == {UP: [(T0, value_bits(2.0))]}


async def test_the_largest_limits_that_can_be_set_fit_the_schema(database_url: str) -> None:
    values = TenantLimits(
        max_label_names_per_series=1000,
        max_label_name_length=65_536,
        max_label_value_length=65_536,
    )
    limits = Limits(SameLimits(values))
    async with opened_storage(database_url, limits=limits) as storage:
        # Control characters take six bytes each in JSON.
        large = make_labels("up", **{f"l{number}": "\1" * 65_536 for number in range(7)})
        await storage.store.write_batch("default", make_batch({large: [(T0, 1.0)]}))
        assert (await read(storage)).labels == (large,)
        larger = make_labels("up", **{f"l{number}": "v" * 65_536 for number in range(9)})
        with pytest.raises(WriteRejectedError, match="longer than"):
            await storage.store.write_batch("default", make_batch({larger: [(T0, 1.0)]}))


async def test_tenants_are_bounded_and_those_that_exist_go_on(database_url: str) -> None:
    async with opened_storage(database_url, max_tenants=3) as storage:
        batch = make_batch({UP: [(T0, 1.0)]})
        for tenant in ("a", "b", "c"):
            await storage.store.write_batch(tenant, batch)
        with pytest.raises(BadDataError, match="already 3 tenants"):
            await storage.store.write_batch("d", batch)
        await storage.store.write_batch("c", make_batch({UP: [(T0 + 1, 1.0)]}))


async def test_many_new_series_in_one_batch_are_all_made(
    storage: MetricStorage,
) -> None:
    series = {make_labels("up", number=str(number)): [(T0, 1.0)] for number in range(4_500)}
    await storage.store.write_batch("default", make_batch(series))
    assert set((await read(storage)).labels) == set(series)


async def test_ids_known_before_series_were_removed_are_refused(storage: MetricStorage) -> None:
    await storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]}))
    batch = make_batch({UP: [(T0 + 1, 1.0)]})
    known = storage.store.known_series("default")
    decoded = replace(
        batch,
        series_ids=known.find(batch.unknown_keys),
        unknown_keys=[],
        known_version=known.version,
    )
    storage.database.guard.version += 1
    with pytest.raises(StaleKnowledgeError, match="try again"):
        await storage.store.write_batch("default", decoded)
    known = storage.store.known_series("default")
    await storage.store.write_batch("default", replace(decoded, known_version=known.version))
    assert (await read(storage)).timestamps.tolist() == [T0, T0 + 1]


async def test_tiny_cache_stores_everything(database_url: str) -> None:
    async with opened_storage(database_url, series_cache_bytes=10_000) as storage:
        labels = [make_labels("up", number=f"{number:03}") for number in range(200)]
        for step in range(3):
            batch = make_batch({series: [(T0 + step, step)] for series in labels})
            await storage.store.write_batch("default", batch)
        block = await read(storage)
        assert block.labels == tuple(labels)
        assert len(block.timestamps) == 600


# -- faults -----------------------------------------------------------------------------------


async def test_overload_is_refused_and_clears(database_url: str) -> None:
    async with opened_storage(
        database_url, max_waiting_rows=100, group_commit=GroupCommitOptions(max_parallel=1)
    ) as storage:
        batches = [
            make_batch({make_labels("up", n=str(number)): [(T0 + k, 1.0) for k in range(40)]})
            for number in range(10)
        ]
        results = await asyncio.gather(
            *(storage.store.write_batch("default", batch) for batch in batches),
            return_exceptions=True,
        )
        refused = [result for result in results if isinstance(result, OverloadedError)]
        assert len(refused) == 8
        assert refused[0].retry_after_seconds > 0
        assert storage.stats.rows_waiting == 0
        assert len((await read(storage)).timestamps) == 80
        for batch in batches:
            await storage.store.write_batch("default", batch)
        assert len((await read(storage)).timestamps) == 400


async def test_batch_larger_than_the_queue_is_stored_when_idle(database_url: str) -> None:
    async with opened_storage(database_url, max_waiting_rows=10) as storage:
        batch = make_batch({UP: [(T0 + step, 1.0) for step in range(50)]})
        await storage.store.write_batch("default", batch)
        assert len((await read(storage)).timestamps) == 50


async def test_killed_connections_recover(
    database_url: str, database_server: DatabaseServer, storage: MetricStorage
) -> None:
    await storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]}))
    for application in ("promcompat write", "promcompat read"):
        for pid in await backend_pids(database_url, application):
            database_server.run_sql(f"SELECT pg_terminate_backend({pid})")
    acknowledged = [T0]
    for step in range(1, 20):
        try:
            await storage.store.write_batch("default", make_batch({UP: [(T0 + step, 1.0)]}))
        except StorageUnavailableError:
            continue
        acknowledged.append(T0 + step)
    assert len(acknowledged) > 10
    assert set(acknowledged) <= set((await read(storage)).timestamps.tolist())


async def test_connection_killed_during_writes_loses_nothing_acknowledged(
    database_url: str, database_server: DatabaseServer, storage: MetricStorage
) -> None:
    labels = [make_labels("up", number=str(number)) for number in range(200)]
    acknowledged: set[int] = set()

    async def write(first: int) -> None:
        for step in range(first, first + 20):
            batch = make_batch({series: [(T0 + step, 1.0)] for series in labels})
            try:
                await storage.store.write_batch("default", batch)
            except StorageUnavailableError:
                continue
            acknowledged.add(T0 + step)

    async def kill() -> None:
        for _ in range(4):
            for pid in await backend_pids(database_url, "promcompat write"):
                await asyncio.to_thread(
                    database_server.run_sql, f"SELECT pg_terminate_backend({pid})"
                )

    await asyncio.gather(*(write(writer * 100) for writer in range(4)), kill())
    await storage.store.write_batch("default", make_batch({UP: [(T0 - 1, 1.0)]}))
    stored = block_rows(await read(storage))
    assert acknowledged
    for series in labels:
        assert acknowledged <= {timestamp for timestamp, _ in stored[series]}


async def test_caller_that_goes_away_harms_nobody(storage: MetricStorage) -> None:
    tasks = [
        asyncio.create_task(
            storage.store.write_batch("default", make_batch({UP: [(T0 + step, 1.0)]}))
        )
        for step in range(20)
    ]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[1::2] == [None] * 10
    stored = set((await read(storage)).timestamps.tolist())
    assert {T0 + step for step in range(1, 20, 2)} <= stored
    assert storage.stats.rows_waiting == 0


async def test_closed_repository_refuses_writes(database_url: str) -> None:
    async with opened_storage(database_url) as storage:
        await storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]}))
    with pytest.raises(StorageUnavailableError):
        await storage.store.write_batch("default", make_batch({UP: [(T0 + 1, 1.0)]}))


async def test_replaced_database_is_refused(
    database_url: str, database_server: DatabaseServer
) -> None:
    """Cached series ids belong to the database they came from."""
    async with opened_storage(database_url) as storage:
        await storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]}))
        async with connected(database_url) as connection:
            await connection.execute("UPDATE installation SET id = gen_random_uuid()")
        for pid in await backend_pids(database_url, "promcompat write"):
            database_server.run_sql(f"SELECT pg_terminate_backend({pid})")
        for step in range(3):
            with pytest.raises(StorageUnavailableError):
                await storage.store.write_batch("default", make_batch({UP: [(T0 + step, 1.0)]}))
        with pytest.raises(StorageUnavailableError, match="a different database"):
            await storage.store.ping()
