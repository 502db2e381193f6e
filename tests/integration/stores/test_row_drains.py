"""Drains into rows on real databases: exactly once, whoever stops or comes between."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promcompat.core.errors import StorageUnavailableError
from sql.samples.draining import row_drain
from sql.samples.draining.arrivals_aside import RetryResult
from sql.samples.draining.drainer import DrainOptions
from tests.integration.stores.test_drains import ONE, TENANT, Kills, scrapes
from tests.properties.test_stored_blocks import bounds, compare, samples, take_step, tenants
from tests.support.storage.stored_blocks import DAY_MS, NOW_MS, Model
from tests.support.storage.stored_rows import StoredRows, stored_rows

pytestmark = pytest.mark.integration

steps = st.one_of(
    st.tuples(st.just("append"), tenants, samples, st.booleans()),
    st.tuples(st.just("append"), tenants, samples, st.just(False)),
    st.tuples(
        st.just("delete"), tenants, st.none() | st.sets(st.integers(1, 4), min_size=1), bounds
    ),
    st.tuples(st.just("drain")),
    st.tuples(st.just("read"), tenants, bounds),
)
first_tenants = itertools.count(1, 2)


@pytest.fixture
async def rows(database_url: str) -> AsyncIterator[StoredRows]:
    async with stored_rows(database_url) as opened:
        yield opened


@pytest.fixture
async def plain_rows(plain_database_url: str) -> AsyncIterator[StoredRows]:
    async with stored_rows(plain_database_url) as opened:
        yield opened


async def add_series(rows: StoredRows, tenant_id: int, ids: list[int]) -> None:
    """A deletion of all series of a tenant needs them."""
    async with rows.connection() as connection:
        await connection.execute(
            "INSERT INTO tenant (id, name) VALUES ($1::int, 't' || $1::int) ON CONFLICT DO NOTHING",
            tenant_id,
        )
        await connection.execute(
            "INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint) "
            "SELECT i, $1, 'up', jsonb_build_object('i', i::text), "
            "decode(lpad(to_hex(i), 32, '0'), 'hex') FROM unnest($2::bigint[]) AS i",
            tenant_id,
            ids,
        )


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(steps, min_size=5, max_size=30))
async def test_reads_equal_a_dictionary(
    rows: StoredRows, script: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days come in transactions of two, pieces of four rows, deletions one series at a time."""
    monkeypatch.setattr(row_drain, "_MAX_DAYS", 2)
    monkeypatch.setattr(row_drain, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(row_drain, "_SERIES_AT_ONCE", 1)
    first_tenant, model = next(first_tenants), Model()
    await rows.clear()
    for tenant_id in (first_tenant, first_tenant + 1):
        await add_series(rows, tenant_id, [tenant_id * 10 + number for number in range(1, 5)])
    for step in script:
        await take_step(rows, model, first_tenant, *step)
    await rows.drainer.drain_all()
    assert await rows.fetchval("SELECT count(*) FROM arrival") == 0
    for tenant in (0, 1):
        await compare(rows, model, first_tenant + tenant)


async def test_two_drainers_at_once_store_each_sample_once(
    rows: StoredRows, database_url: str
) -> None:
    for number in range(20):
        await rows.append(TENANT, scrapes(5, range(number, number + 1)))
    async with stored_rows(database_url, options=DrainOptions(max_arrivals=3)) as other:
        drainers = [rows.drainer, other.drainer] * 4
        await asyncio.gather(*(drainer.drain() for drainer in drainers))
    await rows.drainer.drain_all()
    assert await rows.fetchval("SELECT count(*) FROM arrival") == 0
    assert await rows.rows(range(1, 6)) == scrapes(5, range(20))


@pytest.mark.parametrize("n_statements", range(2, 26, 2))
async def test_killed_between_any_two_statements(plain_rows: StoredRows, n_statements: int) -> None:
    """The session of a drain ends before one of its statements; the next drain does it all."""
    await plain_rows.append(TENANT, scrapes(2, range(3)))
    await plain_rows.delete(TENANT, [1], NOW_MS + 1, NOW_MS + 1)
    await plain_rows.append(TENANT, {(1, NOW_MS + 1): 5})
    with Kills(n_statements), suppress(StorageUnavailableError):
        await plain_rows.drainer.drain_all()
    await plain_rows.drain_after_kill()
    assert await plain_rows.rows([1, 2]) == scrapes(2, range(3)) | {(1, NOW_MS + 1): 5}


async def test_what_is_stored_already_stays_and_conflicts_are_counted(rows: StoredRows) -> None:
    await rows.append(TENANT, scrapes(3, range(5)))
    await rows.drainer.drain_all()
    await rows.append(TENANT, scrapes(3, range(4, 8), value=7))
    await rows.drainer.drain_all()
    assert rows.stats.conflicts_resolved == 3
    await rows.append(TENANT, {(1, NOW_MS): 9, (1, NOW_MS + 9): 9}, replaces=True)
    await rows.drainer.drain_all()
    expected = scrapes(3, range(8), value=7) | scrapes(3, range(5))
    expected |= {(1, NOW_MS): 9, (1, NOW_MS + 9): 9}
    assert await rows.rows([1, 2, 3]) == expected


async def test_days_without_number_come_in_transactions_of_a_few(rows: StoredRows) -> None:
    far = {(1, NOW_MS - day * DAY_MS): day for day in range(150)}
    await rows.append(TENANT, far)
    await rows.append(TENANT, {(1, NOW_MS + 1): 1})
    await rows.drainer.drain_all()
    assert await rows.rows([1]) == far | {(1, NOW_MS + 1): 1}
    assert await rows.fetchval("SELECT first_ms FROM row_extent") == NOW_MS - 149 * DAY_MS


async def test_a_dropped_partition_is_made_again(plain_rows: StoredRows) -> None:
    await plain_rows.append(TENANT, scrapes(1, range(1)))
    await plain_rows.drainer.drain_all()
    async with plain_rows.connection() as connection:
        name = await connection.fetchval("SELECT chunk::text FROM sample_chunks()")
        await connection.execute(f"DROP TABLE {name}")
    await plain_rows.append(TENANT, scrapes(1, range(2)))
    await plain_rows.drainer.drain_all()
    assert await plain_rows.rows([1]) == scrapes(1, range(2))


async def test_hours_that_may_have_been_computed_are_noted(rows: StoredRows) -> None:
    await rows.append(TENANT, {(1, NOW_MS): ONE, (1, NOW_MS - 2 * 3_600_000): ONE})
    await rows.drainer.drain_all()
    hours = "SELECT hour FROM hourly_change WHERE tenant_id = $1"
    assert await rows.fetchval(hours, TENANT) == NOW_MS // 3_600_000 - 2
    await rows.fetchval("DELETE FROM hourly_change")
    await rows.delete(TENANT, [1], NOW_MS - 1, NOW_MS)
    await rows.drainer.drain_all()
    assert await rows.fetchval(hours, TENANT) == NOW_MS // 3_600_000


async def test_what_is_set_aside_stays_readable_and_deletable(rows: StoredRows) -> None:
    """Rows of another time than the table takes are refused by the database."""
    async with rows.connection() as connection:
        await connection.execute("ALTER TABLE sample ADD CONSTRAINT small CHECK (value < 5)")
    refused = {(1, NOW_MS + ms): 0x4059000000000000 for ms in range(3)}
    await rows.append(TENANT, scrapes(2, range(10, 12)))
    await rows.append(TENANT, refused)
    await rows.append(TENANT, scrapes(2, range(12, 14)))
    await rows.insert(TENANT, 1, 1, 1, 1, NOW_MS, NOW_MS, b"\xff not a page")
    await rows.drainer.drain_all()
    assert rows.stats.arrivals_set_aside == 2
    assert await rows.rows([1, 2]) == scrapes(2, range(10, 14))
    await rows.fetchval("DELETE FROM arrival WHERE payload = $1", b"\xff not a page")
    assert await rows.read(TENANT, [1, 2]) == scrapes(2, range(10, 14)) | refused
    await rows.delete(TENANT, [1], NOW_MS, NOW_MS + 12)
    await rows.drainer.drain_all()
    await rows.append(TENANT, {(1, NOW_MS + 12): 1})
    await rows.drainer.drain_all()
    left = scrapes(2, range(10, 14)) | {(1, NOW_MS + 12): 1}
    assert await rows.read(TENANT, [1, 2]) == {
        key: bits for key, bits in left.items() if key[0] == 2 or key[1] > NOW_MS + 11
    }


async def test_what_is_set_aside_becomes_rows_when_it_can(rows: StoredRows) -> None:
    """With the deletion that came after it; nothing that a query sees changes."""
    far = {(1, NOW_MS - day * DAY_MS): day for day in range(150)}
    await rows.append(TENANT, far | {(2, NOW_MS): ONE})
    await rows.set_next_aside()
    await rows.append(TENANT, {(2, NOW_MS): 9}, replaces=True)
    await rows.set_next_aside()
    await rows.append(TENANT, {(2, NOW_MS + 1): ONE, (3, NOW_MS): ONE})
    await rows.delete(TENANT, [1], NOW_MS - 2 * DAY_MS, NOW_MS - DAY_MS)
    await rows.drainer.drain_all()
    await rows.delete(TENANT, [1], NOW_MS, NOW_MS)
    seen = await rows.read(TENANT, [1, 2, 3])
    assert len(seen) == 150
    assert seen[2, NOW_MS] == 9
    assert await rows.aside.retry() == RetryResult(3, 0, is_busy=False)
    assert await rows.rows([1, 2, 3]) == seen
    assert await rows.read(TENANT, [1, 2, 3]) == seen
    assert await rows.fetchval("SELECT count(*) FROM arrival") == 1
    assert await rows.fetchval("SELECT first_ms FROM row_extent") == NOW_MS - 149 * DAY_MS


async def test_what_is_set_aside_leaves_rows_that_came_meanwhile(rows: StoredRows) -> None:
    await rows.append(TENANT, {(1, NOW_MS): ONE, (1, NOW_MS + 1): ONE})
    await rows.set_next_aside()
    await rows.append(TENANT, {(1, NOW_MS): 9}, replaces=True)
    await rows.drainer.drain_all()
    assert await rows.aside.retry() == RetryResult(1, 0, is_busy=False)
    assert await rows.rows([1]) == {(1, NOW_MS): 9, (1, NOW_MS + 1): ONE}


async def test_the_older_of_two_set_aside_has_to_become_rows_first(rows: StoredRows) -> None:
    """Also the deletion waits, but not what cannot have the same samples."""
    await rows.insert(TENANT, 1, 1, 1, 1, NOW_MS, NOW_MS, b"\xff not a page")
    await rows.append(TENANT, {(1, NOW_MS): 9})
    await rows.append(TENANT, {(2, NOW_MS): 9})
    for _ in range(3):
        await rows.set_next_aside()
    await rows.delete(TENANT, [2], NOW_MS, NOW_MS)
    await rows.drainer.drain_all()
    assert await rows.aside.retry() == RetryResult(1, 3, is_busy=False)
    assert await rows.rows([1, 2]) == {}
    await rows.fetchval("DELETE FROM arrival WHERE payload = $1", b"\xff not a page")
    assert await rows.aside.retry() == RetryResult(2, 0, is_busy=False)
    assert await rows.rows([1, 2]) == {(1, NOW_MS): 9}


async def test_a_database_of_the_other_store_is_left_alone(rows: StoredRows) -> None:
    await rows.append(TENANT, scrapes(1, range(3)))
    await rows.fetchval("UPDATE installation SET store = 'blocks'")
    assert (await rows.drainer.drain()).is_busy
    assert await rows.rows([1]) == {}


async def test_what_is_set_aside_is_left_alone_in_a_database_of_the_other_store(
    rows: StoredRows,
) -> None:
    await rows.append(TENANT, {(1, NOW_MS): ONE})
    await rows.set_next_aside()
    await rows.fetchval("UPDATE installation SET store = 'blocks'")
    assert await rows.aside.retry() == RetryResult(0, 1, is_busy=False)
    assert await rows.rows([1]) == {}
