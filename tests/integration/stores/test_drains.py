"""Drains and compaction on real databases: exactly once, whoever stops or comes between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import fields
from typing import Any, cast

import asyncpg
import numpy as np
import pytest

from promcompat.core.errors import PromcompatError, StorageUnavailableError
from promcompat.core.maintenance import StepNotes
from sql.database.connection_pool import Pool
from sql.migrate import migrate
from sql.samples.codec.page_decoding import decode_pages
from sql.samples.codec.page_encoding import encode_pages
from sql.samples.draining import block_drain, compaction, compaction_plan
from sql.samples.draining.arrivals_aside import RetryResult
from sql.samples.draining.compaction import Compactor
from sql.samples.draining.drainer import DrainOptions, DrainResult, DrainStats
from sql.samples.draining.drains import Drains
from sql.samples.stores import block_steps
from sql.samples.stores.block_steps import MergeStep
from sql.samples.tables.block_table import Origin, block_rows, insert_blocks
from sql.samples.tables.slots import FAR_SLOT, slot_of
from sql.times import MS_PER_DAY
from tests.support.programs.community import community_connection
from tests.support.storage.repositories import connected, discard
from tests.support.storage.stored_blocks import (
    DAY_MS,
    NOW_MS,
    SERIES_OF_METRICS,
    TODAY,
    Key,
    Model,
    StoredBlocks,
    samples_of,
    stored_blocks,
)

pytestmark = pytest.mark.integration

TENANT = 7
ONE = 4607182418800017408  # The bits of 1.0.


@pytest.fixture
async def blocks(database_url: str) -> AsyncIterator[StoredBlocks]:
    async with stored_blocks(database_url) as opened:
        yield opened


@pytest.fixture
async def plain_blocks(plain_database_url: str) -> AsyncIterator[StoredBlocks]:
    async with stored_blocks(plain_database_url) as opened:
        yield opened


def scrapes(n_series: int, times: range, value: int = ONE) -> dict[Key, int]:
    return {(series_id, NOW_MS + ms): value for series_id in range(1, n_series + 1) for ms in times}


async def n_rows(blocks: StoredBlocks, table: str, condition: str = "true") -> int:
    return await blocks.fetchval(f"SELECT count(*) FROM {table} WHERE {condition}")  # noqa: S608


class TestExactlyOnce:
    async def test_two_drainers_at_once_store_each_sample_once(
        self, blocks: StoredBlocks, database_url: str
    ) -> None:
        for number in range(20):
            await blocks.append(TENANT, scrapes(5, range(number, number + 1)))
        async with stored_blocks(database_url, options=DrainOptions(max_arrivals=3)) as other:
            drainers = [blocks.drainer, other.drainer] * 4
            await asyncio.gather(*(drainer.drain() for drainer in drainers))
        await blocks.drainer.drain_all()
        assert await n_rows(blocks, "arrival") == 0
        assert await blocks.fetchval("SELECT sum(n_samples) FROM sample_run") == 100
        assert await blocks.read(TENANT, range(1, 6)) == scrapes(5, range(20))

    async def test_a_drainer_without_its_lock_changes_nothing(
        self,
        plain_blocks: StoredBlocks,
        plain_database_url: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A drainer froze after it read; the server ended its transaction, and another drained."""
        blocks = plain_blocks
        await blocks.append(TENANT, scrapes(2, range(3)))
        frozen, awake = asyncio.Event(), asyncio.Event()
        real_fold = block_drain._fold_arrivals

        async def freeze(*args: Any) -> Any:
            frozen.set()
            await awake.wait()
            return real_fold(*args[1:])

        monkeypatch.setattr(asyncio, "to_thread", freeze)
        sleeping = asyncio.ensure_future(blocks.drainer.drain())
        await frozen.wait()
        async with stored_blocks(plain_database_url) as other:
            assert (await other.drainer.drain()).is_busy
            await other.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE state = 'idle in transaction' AND datname = current_database()"
            )
            monkeypatch.undo()
            while (await other.drainer.drain()).is_busy:  # noqa: ASYNC110 - the server ends it soon
                await asyncio.sleep(0.01)
        awake.set()
        with pytest.raises(StorageUnavailableError):
            await sleeping
        assert await blocks.fetchval("SELECT sum(n_samples) FROM sample_run") == 6
        assert await blocks.read(TENANT, [1, 2]) == scrapes(2, range(3))

    @pytest.mark.parametrize("before_ms", [None, NOW_MS + 1_000])
    async def test_all_that_has_arrived_is_drained_while_samples_come(
        self,
        before_ms: int | None,
        plain_blocks: StoredBlocks,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Otherwise maintenance would stay at its first step for as long as senders send."""
        blocks, real_drain, n_drains = plain_blocks, plain_blocks.drainer.drain, 0

        async def drain_while_samples_come() -> DrainResult:
            nonlocal n_drains
            n_drains += 1
            assert n_drains < 5, "there is no end"
            await blocks.append(TENANT, scrapes(1, range(n_drains, n_drains + 1)))
            return await real_drain()

        monkeypatch.setattr(blocks.drainer, "drain", drain_while_samples_come)
        await blocks.append(TENANT, scrapes(3, range(1)))
        assert await blocks.drainer.drain_all(before_ms) >= 3

    async def test_a_run_of_maintenance_leaves_merges_to_the_next_one(
        self, plain_blocks: StoredBlocks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise nothing would expire for as long as there is something to merge."""
        blocks = plain_blocks
        for number in range(8):
            await blocks.append(TENANT, scrapes(9, range(number, number + 1)))
            await blocks.drainer.drain_all()
        blocks.compactor.max_samples = 8
        monkeypatch.setattr(block_steps, "_MOST_TRANSACTIONS", 3)
        drains = Drains(blocks.drainer, blocks.compactor, blocks.aside, blocks.stats)
        merging = MergeStep(blocks.pool, drains)
        assert await merging.run(StepNotes("merge")) == 3
        while await merging.run(StepNotes("merge")):
            pass
        assert await blocks.read(TENANT, range(1, 10)) == scrapes(9, range(8))

    async def test_a_drain_takes_its_turn_between_steps_of_compaction(
        self, plain_blocks: StoredBlocks
    ) -> None:
        blocks = plain_blocks
        await blocks.append(TENANT, scrapes(9, range(3)))
        await blocks.drainer.drain_all()
        await blocks.append(TENANT, scrapes(9, range(3, 6)))
        compacting = asyncio.ensure_future(blocks.compactor.compact())
        await asyncio.sleep(0)
        result, _ = await asyncio.gather(blocks.drainer.drain(), compacting)
        assert result.n_samples == 27

    async def test_an_ended_day_is_not_merged_while_samples_come_to_it(
        self, plain_blocks: StoredBlocks
    ) -> None:
        blocks = plain_blocks
        blocks.clock.now_ms = NOW_MS + 3 * MS_PER_DAY
        for step in range(3):
            await blocks.append(TENANT, scrapes(2, [step]))
            await blocks.drainer.drain_all()
            assert (await blocks.compactor.compact(is_patient=True)).is_done
        assert not (await blocks.compactor.compact()).is_done
        assert await blocks.read(TENANT, [1, 2]) == scrapes(2, range(3))

    async def test_a_merge_that_failed_does_not_wait_again(
        self, plain_blocks: StoredBlocks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blocks, seconds = plain_blocks, [0.0]
        blocks.clock.now_ms = NOW_MS + 3 * MS_PER_DAY
        filling = compaction_plan.FillingSlots(lambda: seconds[0])
        compactor = Compactor(blocks.pool, DrainStats(), blocks.clock, filling=filling)
        await blocks.append(TENANT, scrapes(2, range(3)))
        await blocks.drainer.drain_all()
        assert (await compactor.compact(is_patient=True)).is_done
        seconds[0] = 600.0

        async def lose_connection(*_: object) -> None:
            raise StorageUnavailableError("connection lost")

        with monkeypatch.context() as patch:
            patch.setattr(compaction, "write_pages", lose_connection)
            with pytest.raises(StorageUnavailableError):
                await compactor.compact(is_patient=True)
        assert not (await compactor.compact(is_patient=True)).is_done
        assert (await compactor.compact(is_patient=True)).is_done
        assert await blocks.read(TENANT, [1, 2]) == scrapes(2, range(3))

    async def test_arrivals_that_are_gone_are_noticed(
        self, plain_blocks: StoredBlocks, plain_database_url: str
    ) -> None:
        """Even without any lock: the count of the deleted rows decides."""
        await plain_blocks.append(TENANT, scrapes(1, range(3)))
        await plain_blocks.append(TENANT, scrapes(1, range(3, 6)))
        async with connected(plain_database_url) as thief:
            await thief.execute(
                "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN RETURN NULL; END'; "
                "CREATE TRIGGER keep BEFORE DELETE ON arrival FOR EACH ROW EXECUTE FUNCTION keep()"
            )
            with pytest.raises(PromcompatError, match="0 rows are left of 2 that were read"):
                await plain_blocks.drainer.drain()
            await thief.execute("DROP FUNCTION keep CASCADE")
        assert await n_rows(plain_blocks, "sample_run") == 0
        await plain_blocks.drainer.drain_all()
        assert await plain_blocks.read(TENANT, [1]) == scrapes(1, range(6))

    @pytest.mark.parametrize("n_statements", range(2, 14))
    async def test_killed_between_any_two_statements(
        self, plain_blocks: StoredBlocks, n_statements: int
    ) -> None:
        """The session of a drain ends before one of its statements; the next drain does it all."""
        blocks = plain_blocks
        await blocks.append(TENANT, scrapes(2, range(3)))
        await blocks.delete(TENANT, [1], NOW_MS + 1, NOW_MS + 1)
        kills = Kills(n_statements)
        with kills, suppress(StorageUnavailableError):
            await blocks.drainer.drain()
        await blocks.drain_after_kill()
        expected = scrapes(2, range(3))
        del expected[1, NOW_MS + 1]
        assert await blocks.fetchval("SELECT sum(n_samples) FROM sample_run") == 5
        assert await n_rows(blocks, "sample_deletion") == 1
        assert await blocks.read(TENANT, [1, 2]) == expected


class Kills:
    """Ends the server's session of a connection before its n-th statement within the block."""

    def __init__(self, n_statements: int) -> None:
        self._n_left = n_statements
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        for name in ("fetch", "fetchval", "fetchrow", "execute"):
            self._patch.setattr(asyncpg.Connection, name, self._wrapped(name))

    def _wrapped(self, name: str) -> Any:
        real = getattr(asyncpg.Connection, name)

        async def statement(connection: asyncpg.Connection, *args: Any, **options: Any) -> Any:
            self._n_left -= 1
            if self._n_left == 0:
                connection.terminate()
            return await real(connection, *args, **options)

        return statement

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


class TestPoison:
    async def test_is_set_aside_counted_and_passed(self, blocks: StoredBlocks) -> None:
        model = Model()
        for number in range(9):
            new = scrapes(3, range(number, number + 1))
            await blocks.append(TENANT, new)
            model.append(TENANT, new)
            if number in (2, 5):
                await blocks.insert(TENANT, 1, 1, 1, 1, NOW_MS, NOW_MS, b"\xff not a page")
        await blocks.insert(TENANT, 3, 0, 0, 0, NOW_MS, NOW_MS, b"odd")  # No ids of 8 bytes.
        await blocks.drainer.drain_all()
        assert blocks.stats.arrivals_set_aside == 3
        assert await n_rows(blocks, "arrival", "is_aside") == 3
        assert await n_rows(blocks, "arrival", "NOT is_aside") == 0
        await blocks.fetchval("WITH d AS (DELETE FROM arrival RETURNING 1) SELECT count(*) FROM d")
        assert await blocks.read(TENANT, [1, 2, 3]) == model.read(TENANT, [1, 2, 3])

    async def test_what_the_database_refuses_is_set_aside_and_readable(
        self, plain_blocks: StoredBlocks, plain_database_url: str
    ) -> None:
        async with connected(plain_database_url) as admin:
            await admin.execute("ALTER TABLE sample_run ADD CHECK (tenant_id <> 13)")
        await plain_blocks.append(TENANT, {(1, NOW_MS): ONE})
        await plain_blocks.append(13, {(3, NOW_MS): ONE})
        await plain_blocks.append(TENANT, {(1, NOW_MS): 0, (2, NOW_MS): ONE})
        await plain_blocks.drainer.drain_all()
        assert await n_rows(plain_blocks, "arrival", "is_aside") == 1
        assert await n_rows(plain_blocks, "arrival", "NOT is_aside") == 0
        assert await plain_blocks.read(13, [3]) == {(3, NOW_MS): ONE}
        assert await plain_blocks.read(TENANT, [1, 2]) == {(1, NOW_MS): ONE, (2, NOW_MS): ONE}

    async def test_a_database_that_refuses_everything_makes_drains_fail(
        self, plain_blocks: StoredBlocks, plain_database_url: str
    ) -> None:
        async with connected(plain_database_url) as admin:
            await admin.execute("ALTER TABLE sample_run RENAME COLUMN n_series TO series_count")
            for number in range(20):
                await plain_blocks.append(TENANT, scrapes(1, range(number, number + 1)))
            with pytest.raises(PromcompatError):
                await plain_blocks.drainer.drain_all()
            assert await n_rows(plain_blocks, "arrival", "is_aside") == 8
            await admin.execute("ALTER TABLE sample_run RENAME COLUMN series_count TO n_series")
        await plain_blocks.drainer.drain_all()
        assert await n_rows(plain_blocks, "arrival") == 8
        assert await plain_blocks.read(TENANT, [1]) == scrapes(1, range(20))

    async def test_nothing_is_merged_across_what_is_aside(self, plain_blocks: StoredBlocks) -> None:
        """The first sample of a time is in the arrival set aside, between two others."""
        blocks = plain_blocks
        await blocks.append(TENANT, {(1, NOW_MS): ONE})
        await blocks.drainer.drain_all()
        await blocks.append(TENANT, {(1, NOW_MS + 1): ONE})
        newest = await blocks.fetchval("SELECT max(id) FROM arrival")
        await blocks.drainer.set_aside(newest)
        assert (await blocks.drainer.set_aside(newest)).is_busy
        for number in range(20):
            await blocks.append(TENANT, {(1, NOW_MS + 1): 0, (1, NOW_MS + 2 + number): ONE})
            await blocks.drainer.drain_all()
        await blocks.compact_all()
        assert (await blocks.read(TENANT, [1]))[1, NOW_MS + 1] == ONE

    async def test_nothing_older_is_merged_across_what_is_aside(
        self, plain_blocks: StoredBlocks
    ) -> None:
        """The first sample of a time came before the arrival set aside, which has another one."""
        blocks = plain_blocks
        await blocks.append(TENANT, {(1, NOW_MS): ONE})
        await blocks.drainer.drain_all()
        await blocks.append(TENANT, {(1, NOW_MS): 0})
        await blocks.set_next_aside()

        async def drain_and_merge_more(n_samples: int) -> None:
            for _ in range(9):
                await blocks.append(TENANT, {(1, NOW_MS): 0} | scrapes(1, range(1, n_samples)))
                await blocks.drainer.drain_all()
            await blocks.compact_all()
            assert (await blocks.read(TENANT, [1]))[1, NOW_MS] == ONE

        # What was merged first is too large to be merged with what comes then.
        await drain_and_merge_more(100)
        assert (await blocks.aside.retry()).n_moved == 1
        await drain_and_merge_more(2)

    async def test_what_can_be_moved_later_is_moved_in_its_place(
        self, plain_blocks: StoredBlocks, plain_database_url: str
    ) -> None:
        blocks = plain_blocks
        async with connected(plain_database_url) as admin:
            await admin.execute("ALTER TABLE sample_run ADD CONSTRAINT odd CHECK (tenant_id <> 13)")
            await blocks.append(13, {(3, NOW_MS): ONE, (3, NOW_MS + 1): ONE})
            await blocks.drainer.drain_all()
            assert await blocks.aside.retry() == RetryResult(0, 1, is_busy=False)
            await admin.execute("ALTER TABLE sample_run DROP CONSTRAINT odd")
        await blocks.append(13, {(3, NOW_MS): 0})
        await blocks.delete(13, [3], NOW_MS + 1, NOW_MS + 1)
        await blocks.drainer.drain_all()
        await blocks.compact_all()
        [shown] = await blocks.aside.list()
        assert (shown.tenant, shown.kind, shown.n_samples, shown.first_ms) == (None, 1, 2, NOW_MS)
        newest_change = await blocks.fetchval("SELECT max(id) FROM sample_change")
        assert await blocks.aside.retry() == RetryResult(1, 0, is_busy=False)
        assert blocks.stats.arrivals_moved_later == 1
        assert await n_rows(blocks, "sample_change", f"id > {newest_change}") == 1
        assert await n_rows(blocks, "arrival") == 0
        await blocks.compact_all()
        assert await blocks.read(13, [3]) == {(3, NOW_MS): ONE}

    async def test_a_deletion_that_is_moved_later_is_worked_off(
        self, plain_blocks: StoredBlocks
    ) -> None:
        """Although an older deletion was worked off while it was set aside."""
        blocks = plain_blocks
        await blocks.append(TENANT, {(1, NOW_MS): ONE, (1, NOW_MS + 1): ONE, (2, NOW_MS): ONE})
        await blocks.drainer.drain_all()
        await blocks.delete(TENANT, [1], NOW_MS, NOW_MS)
        await blocks.drainer.drain_all()
        await blocks.delete(TENANT, [2], NOW_MS, NOW_MS)
        await blocks.set_next_aside()
        await blocks.append(TENANT, {(3, NOW_MS): ONE})
        await blocks.drainer.drain_all()
        await blocks.compact_all()
        await blocks.aside.retry()
        await blocks.compact_all()
        assert await n_rows(blocks, "sample_deletion") == 0
        assert await blocks.read(TENANT, [1, 2, 3]) == {(1, NOW_MS + 1): ONE, (3, NOW_MS): ONE}

    async def test_what_is_dropped_is_gone_and_logged(self, plain_blocks: StoredBlocks) -> None:
        blocks = plain_blocks
        await blocks.append(TENANT, {(1, NOW_MS): ONE})
        arrival_id = await blocks.fetchval("SELECT max(id) FROM arrival")
        assert not await blocks.aside.drop(arrival_id)
        await blocks.set_next_aside()
        assert await blocks.aside.drop(arrival_id)
        assert await blocks.read(TENANT, [1]) == {}
        assert await n_rows(blocks, "sample_change", "drained_through IS NULL") == 1

    async def test_a_page_that_cannot_be_decoded_stops_no_other_merge(
        self, plain_blocks: StoredBlocks
    ) -> None:
        blocks = plain_blocks
        for tenant_id in (TENANT, TENANT + 1):
            await blocks.append(tenant_id, {(tenant_id, NOW_MS): ONE})
            await blocks.append(tenant_id, {(tenant_id, NOW_MS + 1): ONE})
        await blocks.append(TENANT, {(TENANT, NOW_MS - DAY_MS): ONE})
        await blocks.drainer.drain_all()
        for tenant_id in (TENANT, TENANT + 1):
            await blocks.delete(tenant_id, None, NOW_MS, NOW_MS)
        await blocks.drainer.drain_all()
        await blocks.fetchval(
            "WITH broken AS (UPDATE sample_run SET payload = '\\x00' "
            "WHERE tenant_id = $1 AND slot = $2 RETURNING 1) SELECT count(*) FROM broken",
            TENANT,
            slot_of(TODAY),
        )
        blocks.clock.now_ms += 2 * DAY_MS
        await blocks.compact_all()
        assert blocks.stats.merges_given_up == 2
        assert await n_rows(blocks, "sample_deletion") == 1
        assert await n_rows(blocks, "sample_run", "level < 100") == 1
        assert await blocks.read(TENANT + 1, [TENANT + 1]) == {(TENANT + 1, NOW_MS + 1): ONE}


class TestPartitions:
    async def test_ten_thousand_past_days_make_none(self, blocks: StoredBlocks) -> None:
        long_ago: dict[Key, int] = {
            (series_id, (TODAY - day) * DAY_MS): ONE
            for day in range(33, 10_033)
            for series_id in (1, 2)
        }
        long_ago |= {(1, 0): ONE, (1, 47_500 * DAY_MS): ONE, (1, NOW_MS): ONE}
        await blocks.append(TENANT, long_ago)
        await blocks.drainer.drain_all()
        await blocks.compact_all()
        assert await n_rows(blocks, "block_slot") == 1
        assert await n_rows(blocks, "sample_run") < 10
        assert await n_rows(blocks, "sample_run", f"slot = {FAR_SLOT}") > 0
        assert await blocks.read(TENANT, [1, 2]) == long_ago

    async def test_a_partition_is_made_for_a_day_and_dropped_with_it(
        self, blocks: StoredBlocks
    ) -> None:
        today, yesterday = scrapes(2, range(300)), {}
        for (series_id, time_ms), bits in today.items():
            yesterday[series_id, time_ms - DAY_MS] = bits
        await blocks.append(TENANT, today | yesterday)
        await blocks.drainer.drain_all()
        blocks.clock.now_ms += 2 * DAY_MS
        await blocks.compact_all()
        assert await n_rows(blocks, "sample_block") == 2
        assert await n_rows(blocks, "sample_run") == 0
        assert await blocks.drop_before(TODAY) == 1
        assert await n_rows(blocks, "sample_block") == 1
        assert await n_rows(blocks, "block_slot") == 1
        assert await blocks.read(TENANT, [1, 2]) == today

    async def test_the_first_blocks_in_one_make_another_state(self, blocks: StoredBlocks) -> None:
        """A plan that was made before the partition does not read them; see `insert_blocks`."""
        state = "SELECT d.drained_through, max(c.id) FROM drain_state d, sample_change c GROUP BY 1"
        await blocks.append(TENANT, scrapes(1, range(300)))
        await blocks.drainer.drain_all()
        blocks.clock.now_ms += 2 * DAY_MS
        async with blocks.connection() as connection:
            before = await connection.fetchrow(state)
            assert await blocks.compact_all() == 1
            after = await connection.fetchrow(state)
        assert (before[0], before[1] + 1) == tuple(after)

    async def test_readers_are_not_locked_out_while_one_is_made(
        self, blocks: StoredBlocks, database_url: str
    ) -> None:
        await blocks.append(TENANT, scrapes(1, range(300)))
        async with connected(database_url) as reader, reader.transaction():
            await reader.fetchval("SELECT count(*) FROM sample_block")
            await blocks.drainer.drain_all()
        async with connected(database_url) as reader, reader.transaction():
            assert await reader.fetchval("SELECT count(*) FROM sample_block") == 0
            blocks.clock.now_ms += 2 * DAY_MS
            assert await blocks.compact_all() == 1
            assert await reader.fetchval("SELECT count(*) FROM sample_block") == 1


class TestBackfill:
    async def test_of_one_far_day_again_and_again_becomes_one_block_a_series(
        self, blocks: StoredBlocks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each pass adds 500 samples between those of the passes before, in two drains."""
        monkeypatch.setattr(compaction_plan, "_LAYERS_MERGED", 2)
        expected: dict[Key, int] = {}
        n_blocks = []
        for number in range(5):
            for half in (0, 1):
                start = (TODAY - 100) * DAY_MS + number + half * 2_500
                new = {(k, start + ms): ONE for k in (1, 2) for ms in range(0, 2_500, 10)}
                await blocks.append(TENANT, new)
                await blocks.drainer.drain_all()
                expected |= new
            await blocks.compact_all()
            n_blocks.append(await n_rows(blocks, "sample_block", f"slot = {FAR_SLOT}"))
        # The fourth pass is less than half of what is merged, and waits for the fifth.
        assert n_blocks == [2, 2, 2, 4, 2]
        assert await blocks.read(TENANT, [1, 2]) == expected


class TestWorkload:
    async def test_few_samples_of_many_series_stay_in_packed_runs(
        self, blocks: StoredBlocks
    ) -> None:
        for number in range(10):
            await blocks.append(TENANT, scrapes(2_000, range(number, number + 1)))
            await blocks.drainer.drain_all()
        blocks.clock.now_ms += 2 * DAY_MS
        await blocks.compact_all()
        assert await n_rows(blocks, "sample_block") == 0
        assert await n_rows(blocks, "sample_run") <= 4
        assert await blocks.compact_all() == 0

    async def test_merges_of_days_that_have_ended_leave_no_space_behind(
        self, blocks: StoredBlocks, database_url: str
    ) -> None:
        """What stays in runs is behind all that was deleted, where vacuum could not truncate."""
        for number in range(20):
            await blocks.append(TENANT, scrapes(30, range(20 * number, 20 * number + 20)))
            await blocks.append(TENANT, {(99, NOW_MS + number): ONE})
            await blocks.drainer.drain_all()
        await blocks.compact_all()
        blocks.clock.now_ms += 2 * DAY_MS
        await blocks.compact_all()
        assert await n_rows(blocks, "sample_run") == 1
        async with connected(database_url) as owner:
            await owner.execute("VACUUM sample_run")
            assert await owner.fetchval("SELECT pg_relation_size('sample_run_early')") == 0

    async def test_a_fast_series_makes_full_blocks(self, blocks: StoredBlocks) -> None:
        samples = samples_of({(1, NOW_MS + ms): ms for ms in range(50_000)})
        for page in encode_pages(samples, 10_000, 1 << 20):
            bounds = (page.first_series, page.last_series, page.first_ms, page.last_ms)
            await blocks.insert(TENANT, 1, page.n_samples, *bounds, page.payload)
        await blocks.drainer.drain_all()
        blocks.clock.now_ms += 2 * DAY_MS
        await blocks.compact_all()
        assert await n_rows(blocks, "sample_run") == 0
        assert await n_rows(blocks, "sample_block", "n_samples > 7000") == -(-50_000 // 8192)
        read = await blocks.read(TENANT, [1], NOW_MS + 9_999, NOW_MS + 10_009)
        assert read == {(1, NOW_MS + ms): ms for ms in range(10_000, 10_010)}

    async def test_blocks_of_one_series_each_are_read_and_merged_with_others(
        self, blocks: StoredBlocks
    ) -> None:
        """So all blocks were before migration 0060."""
        expected = scrapes(3, range(300))
        await blocks.append(TENANT, expected)
        await blocks.drainer.drain_all()
        blocks.clock.now_ms += 2 * DAY_MS
        await blocks.compact_all()
        async with blocks.connection() as connection:
            [row] = await connection.fetch("SELECT * FROM sample_block")
            origin = Origin(*(row[one.name] for one in fields(Origin)))
            apart = block_rows(origin, decode_pages([row["payload"]])[0], is_apart=True)
            await connection.execute("DELETE FROM sample_block")
            await insert_blocks(connection, apart)
        assert await n_rows(blocks, "sample_block") == 3
        assert await blocks.read(TENANT, [1, 2, 3]) == expected
        assert await blocks.read(TENANT, [2]) == {
            key: bits for key, bits in expected.items() if key[0] == 2
        }
        late = scrapes(3, range(300, 400))
        await blocks.append(TENANT, late)
        await blocks.drainer.drain_all()
        await blocks.compact_all()
        assert await n_rows(blocks, "sample_block") == 1
        assert await blocks.read(TENANT, [1, 2, 3]) == expected | late

    async def test_late_samples_are_merged_when_they_have_become_an_eighth(
        self, plain_blocks: StoredBlocks
    ) -> None:
        blocks = plain_blocks
        await blocks.append(TENANT, scrapes(1, range(0, 4_000, 4)))
        await blocks.drainer.drain_all()
        blocks.clock.now_ms += 2 * DAY_MS
        await blocks.compact_all()
        first_block = await blocks.fetchval("SELECT last_arrival FROM sample_block")
        for number in range(124):
            await blocks.append(TENANT, {(1, NOW_MS + 4 * number + 1): ONE})
            await blocks.drainer.drain_all()
            await blocks.compact_all()
        assert await blocks.fetchval("SELECT last_arrival FROM sample_block") == first_block
        assert await n_rows(blocks, "sample_run") <= 3 * 8
        await blocks.append(TENANT, {(1, NOW_MS + 4 * 124 + 1): ONE})
        await blocks.drainer.drain_all()
        await blocks.compact_all()
        assert await blocks.fetchval("SELECT n_samples FROM sample_block") == 1_125
        assert await n_rows(blocks, "sample_run") == 0

    async def test_conflicts_are_counted(self, plain_blocks: StoredBlocks) -> None:
        for value in (ONE, ONE, 0, 1):
            await plain_blocks.append(TENANT, {(1, NOW_MS): value})
        await plain_blocks.drainer.drain_all()
        assert plain_blocks.stats.conflicts_resolved == 2
        assert await plain_blocks.read(TENANT, [1]) == {(1, NOW_MS): ONE}


class TestDeletions:
    async def test_are_worked_off_and_forgotten(self, blocks: StoredBlocks) -> None:
        stored = scrapes(3, range(300)) | {(series_id, 5): ONE for series_id in (1, 2, 3)}
        await blocks.append(TENANT, stored)
        await blocks.append(TENANT + 1, {(9, NOW_MS): ONE})
        await blocks.drainer.drain_all()
        blocks.clock.now_ms += 2 * DAY_MS
        await blocks.compact_all()
        await blocks.delete(TENANT, [1, 2], NOW_MS, NOW_MS + 250)
        await blocks.delete(TENANT, [3], 0, NOW_MS + DAY_MS)
        await blocks.delete(TENANT + 1, None, 0, NOW_MS - 1)
        await blocks.drainer.drain_all()
        expected = {
            key: bits
            for key, bits in stored.items()
            if key[0] != 3 and not NOW_MS <= key[1] <= NOW_MS + 250
        }
        assert await n_rows(blocks, "sample_deletion") == 3
        assert await blocks.read(TENANT, [1, 2, 3]) == expected
        await blocks.compact_all()
        assert await n_rows(blocks, "sample_deletion") == 0
        assert await blocks.read(TENANT, [1, 2, 3]) == expected
        assert await blocks.fetchval("SELECT sum(n_samples) FROM sample_block") == 98
        assert await blocks.read(TENANT + 1, [9]) == {(9, NOW_MS): ONE}


async def test_a_deletion_is_logged_as_a_change(plain_blocks: StoredBlocks) -> None:
    await plain_blocks.delete(TENANT, [3, 9], 100, 200)
    await plain_blocks.delete(TENANT, None, 300, 400)
    await plain_blocks.drainer.drain_all()
    change = (
        "SELECT count(*) FROM sample_change WHERE first_series = $1 AND last_series = $2 "
        "AND first_ms = $3 AND drained_through = 2"
    )
    assert await plain_blocks.fetchval(change, 3, 9, 100) == 1
    assert await plain_blocks.fetchval(change, -(1 << 63), (1 << 63) - 1, 300) == 1


async def test_changes_are_logged_and_pruned(plain_blocks: StoredBlocks) -> None:
    await plain_blocks.append(TENANT, scrapes(2, range(3)))
    await plain_blocks.drainer.drain_all()
    change = "SELECT count(*) FROM sample_change WHERE first_ms = $1 AND last_ms = $2"
    assert await plain_blocks.fetchval(change, NOW_MS, NOW_MS + 2) == 1
    await plain_blocks.fetchval(
        "WITH aged AS (UPDATE sample_change SET changed_at = changed_at - interval '3 hours' "
        "RETURNING 1) SELECT count(*) FROM aged"
    )
    await plain_blocks.append(TENANT, scrapes(2, range(3, 6)))
    await plain_blocks.drainer.drain_all()
    assert await n_rows(plain_blocks, "sample_change") == 1
    assert await plain_blocks.fetchval("SELECT changes_pruned_through FROM drain_state") == 1


async def test_pruned_changes_stay_known_after_a_step_of_the_clock(
    plain_blocks: StoredBlocks,
) -> None:
    async def change() -> None:
        await plain_blocks.append(TENANT, scrapes(2, range(3)))
        await plain_blocks.drainer.drain_all()

    await change()
    await change()
    for change_id in (2, 1):
        await plain_blocks.fetchval(
            "WITH aged AS (UPDATE sample_change SET changed_at = changed_at - interval '3 hours' "
            "WHERE id = $1 RETURNING 1) SELECT count(*) FROM aged",
            change_id,
        )
        await change()
        assert await plain_blocks.fetchval("SELECT changes_pruned_through FROM drain_state") == 2


async def test_stored_series_and_bounds(blocks: StoredBlocks) -> None:
    """A block of several series is found by the least id of their group; here 16 has no samples."""
    others = {(series_id, NOW_MS + ms): ONE for series_id in (17, 18) for ms in range(300)}
    await blocks.append(TENANT, scrapes(2, range(300)) | {(3, 5): ONE} | others)
    await blocks.drainer.drain_all()
    blocks.clock.now_ms += 2 * DAY_MS
    await blocks.compact_all()
    async with blocks.connection() as connection:
        ids = np.arange(1, 20)
        stored = await blocks.reader.stored_series(connection, TENANT, ids)
        assert stored.tolist() == [1, 2, 3, 17, 18]
        assert await blocks.reader.bounds(connection, TENANT) == (5, NOW_MS + 299)
        assert await blocks.reader.bounds(connection, TENANT + 1) is None


async def test_a_drain_takes_so_many_arrivals_samples_and_bytes(plain_blocks: StoredBlocks) -> None:
    """Whatever waits, one transaction stays small; a larger arrival is drained alone."""
    for limit in ({"max_arrivals": 2}, {"max_samples": 20}, {"max_bytes": 60}):
        await plain_blocks.clear()
        blocks = StoredBlocks(plain_blocks.pool, options=DrainOptions(**limit))
        for number in range(5):
            await blocks.append(TENANT, scrapes(10, range(number, number + 1)))
        n_bytes = await blocks.fetchval("SELECT max(octet_length(payload)) FROM arrival")
        assert 20 < n_bytes <= 30
        taken = []
        while (result := await blocks.drainer.drain()).n_arrivals:
            taken.append(result.n_arrivals)
        assert taken == [2, 2, 1], limit
    alone = StoredBlocks(plain_blocks.pool, options=DrainOptions(max_samples=1, max_bytes=1))
    await alone.append(TENANT, scrapes(10, range(9, 10)))
    assert (await alone.drainer.drain()).n_arrivals == 1


async def test_draining_starts_when_enough_waits_and_leaves_the_newest(
    plain_blocks: StoredBlocks,
) -> None:
    options = DrainOptions(start_bytes=10 * (16 * 10 + 400), max_samples=10)
    blocks = StoredBlocks(plain_blocks.pool, options=options)
    for number in range(9):
        await blocks.append(TENANT, scrapes(10, range(number, number + 1)))
    assert await blocks.drainer.drain_due() == 0
    await blocks.append(TENANT, scrapes(10, range(9, 10)))
    assert await blocks.drainer.drain_due() == 60
    assert await blocks.fetchval("SELECT min(first_ms) FROM arrival") == NOW_MS + 6


class _OneConnection:
    """A pool of the one connection that the Community edition of the tests can have."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def take(self) -> asyncpg.Connection:
        return self._connection

    async def give_back(self, _connection: asyncpg.Connection, **_options: bool) -> None:
        """It stays open."""

    async def drop(self, _connection: asyncpg.Connection, **_options: bool) -> None:
        raise AssertionError("the only connection was dropped")


async def test_on_the_community_edition(community_url: str) -> None:
    await migrate(community_url, discard)
    async with community_connection(community_url) as connection:
        blocks, model = StoredBlocks(cast(Pool, _OneConnection(connection))), Model()
        for number in range(10):
            new = scrapes(3, range(100 * number, 100 * number + 40)) | {(1, number): ONE}
            await blocks.append(TENANT, new)
            model.append(TENANT, new)
            await blocks.drainer.drain_all()
        assert await blocks.compact_all() > 0
        assert await n_rows(blocks, "sample_block") == 1
        await blocks.delete(TENANT, [2], NOW_MS, NOW_MS + 500)
        model.delete(TENANT, [2], NOW_MS, NOW_MS + 500)
        await blocks.drainer.drain_all()
        await blocks.compact_all()
        assert await n_rows(blocks, "sample_deletion") == 0
        assert await blocks.read(TENANT, [1, 2, 3]) == model.read(TENANT, [1, 2, 3])
        await connection.execute(SERIES_OF_METRICS, TENANT)
        await blocks.keep(TENANT, "long", 3)
        await blocks.move_one()
        assert await blocks.read(TENANT, [1, 2, 3]) == model.read(TENANT, [1, 2, 3])
        await blocks.retention.drop(slot_of(TODAY))
        left = {key for key in model.read(TENANT, [1, 2, 3]) if key[0] == 3 or key[1] < DAY_MS}
        assert set(await blocks.read(TENANT, [1, 2, 3])) == left
        assert await blocks.drop_before(TODAY + 1) == 1
        assert await blocks.read(TENANT, [1, 2, 3]) == {}
