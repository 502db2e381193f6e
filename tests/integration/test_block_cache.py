"""Selections are read once for as long as nothing in the database changes, whoever changes it."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from promcompat.core.errors import ExecutionError
from promcompat.core.model import METRIC_NAME, SampleBlock, SelectHints, SeriesSelection
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.metric_storage import MetricStorage
from tests.factories import make_batch, make_labels, make_matcher
from tests.repositories import connected, opened_storage

pytestmark = pytest.mark.integration

TENANT = "default"
MINUTE_MS = 60_000
SERIES = [make_labels("m", n=str(number)) for number in range(3)]
T0 = 1_700_000_000_000
_ATTEMPTS = 20
"""Whatever else happens in the server, such as autovacuum, is a change between two reads."""


@pytest.fixture
async def storage(database_url: str) -> AsyncIterator[MetricStorage]:
    """With three series of ten samples that end now."""
    async with opened_storage(
        database_url, now_ms=lambda: T0, pushdown=PushdownMode.AUTO
    ) as opened:
        points = [(T0 - minute * MINUTE_MS, float(minute)) for minute in range(10)]
        await opened.write_batch(TENANT, make_batch(dict.fromkeys(SERIES, points)))
        yield opened


async def read(storage: MetricStorage, reach_ms: int = 0, minutes: int = 5) -> SampleBlock:
    selection = SeriesSelection(
        matchers=(make_matcher(METRIC_NAME, "=", "m"),),
        start_ms=T0 - minutes * MINUTE_MS,
        end_ms=T0,
        hints=SelectHints(reach_ms=reach_ms),
    )
    (block,) = await storage.store.select(TENANT, [selection])
    return block


async def insert(connection: asyncpg.Connection, number: int) -> None:
    """One more sample of the first series, as an SQL user writes it."""
    await connection.execute(
        "INSERT INTO sample (series_id, ts, value) SELECT min(id), from_unix_ms($1), 1 FROM series",
        T0 - number,
    )


async def test_selection_is_read_once_while_nothing_changes(
    storage: MetricStorage,
) -> None:
    blocks = [await read(storage) for _ in range(_ATTEMPTS)]
    assert len({id(block) for block in blocks}) < _ATTEMPTS
    assert storage.stats.block_cache_hits > 0
    assert {len(block.timestamps) for block in blocks} == {15}


async def test_all_samples_serve_every_use_and_the_last_ones_only_their_own(
    storage: MetricStorage,
) -> None:
    last_only = {"reach_ms": 5 * MINUTE_MS}
    assert len((await read(storage, **last_only)).timestamps) == 3
    found = set()
    for _ in range(_ATTEMPTS):
        assert len((await read(storage)).timestamps) == 15
        found.add(len((await read(storage, **last_only)).timestamps))
        assert len((await read(storage, minutes=4)).timestamps) == 12
    assert found <= {3, 15}
    assert 15 in found


async def test_young_sample_of_another_writer_is_in_the_next_answer(
    storage: MetricStorage, database_url: str
) -> None:
    async with connected(database_url) as connection, opened_storage(database_url) as other:
        for number in range(1, 4):
            before = await read(storage)
            await insert(connection, number)
            assert len((await read(storage)).timestamps) == len(before.timestamps) + 1
            await other.store.write_batch(TENANT, make_batch({SERIES[1]: [(T0 - 9 - number, 1.0)]}))
            assert len((await read(storage)).timestamps) == len(before.timestamps) + 2


async def test_transaction_that_was_open_is_seen_when_it_ends(
    storage: MetricStorage, database_url: str
) -> None:
    async with connected(database_url) as connection, connected(database_url) as later:
        outer = connection.transaction()
        await outer.start()
        await insert(connection, 1)
        async with connection.transaction():
            await insert(connection, 2)
        aborted = later.transaction()
        await aborted.start()
        await insert(later, 3)
        for _ in range(2):
            assert len((await read(storage)).timestamps) == 15
        await aborted.rollback()
        assert len((await read(storage)).timestamps) == 15
        await outer.commit()
        for _ in range(2):
            assert len((await read(storage)).timestamps) == 17


async def test_deleted_samples_are_gone_from_the_next_answer(
    storage: MetricStorage, database_url: str
) -> None:
    async with connected(database_url) as connection:
        await read(storage)
        await connection.execute("DELETE FROM sample WHERE ts > from_unix_ms($1)", T0 - 1)
        assert len((await read(storage)).timestamps) == 12


async def test_kept_blocks_count_towards_the_limit_of_samples(database_url: str) -> None:
    async with opened_storage(database_url, max_samples=20) as storage:
        points = [(T0 - minute * MINUTE_MS, 1.0) for minute in range(5)]
        await storage.store.write_batch(TENANT, make_batch(dict.fromkeys(SERIES, points)))
        selection = SeriesSelection(
            matchers=(make_matcher(METRIC_NAME, "=", "m"),), start_ms=T0 - 3_600_000, end_ms=T0
        )
        await storage.store.select(TENANT, [selection])
        with pytest.raises(ExecutionError, match="too many samples"):
            await storage.store.select(TENANT, [selection, selection])
