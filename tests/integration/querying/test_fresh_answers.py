"""Every change of samples is in the next answer, whoever made it."""

from collections.abc import AsyncIterator

import pytest

from promcompat.core.errors import ExecutionError
from promcompat.core.model import METRIC_NAME, SampleBlock, SeriesSelection
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.support.factories import make_batch, make_labels, make_matcher
from tests.support.storage.repositories import connected, opened_storage

pytestmark = pytest.mark.integration

TENANT = "default"
MINUTE_MS = 60_000
SERIES = [make_labels("m", n=str(number)) for number in range(3)]
T0 = 1_700_000_000_000


@pytest.fixture
async def storage(database_url: str) -> AsyncIterator[MetricStorage]:
    """With three series of ten samples that end now."""
    async with opened_storage(
        database_url, now_ms=lambda: T0, pushdown=PushdownMode.AUTO
    ) as opened:
        points = [(T0 - minute * MINUTE_MS, float(minute)) for minute in range(10)]
        await opened.store.write_batch(TENANT, make_batch(dict.fromkeys(SERIES, points)))
        yield opened


async def read(storage: MetricStorage) -> SampleBlock:
    selection = SeriesSelection(
        matchers=(make_matcher(METRIC_NAME, "=", "m"),),
        start_ms=T0 - 5 * MINUTE_MS,
        end_ms=T0,
    )
    (block,) = await storage.store.select(TENANT, [selection])
    return block


@pytest.mark.rows
async def test_deleted_samples_are_gone_from_the_next_answer(
    storage: MetricStorage, database_url: str
) -> None:
    await storage.drains.drainer.drain_all()
    async with connected(database_url) as connection:
        await read(storage)
        await connection.execute("DELETE FROM sample WHERE ts > from_unix_ms($1)", T0 - 1)
        assert len((await read(storage)).timestamps) == 12


async def test_selections_of_a_query_count_together(
    database_url: str,
) -> None:
    async with opened_storage(database_url, max_samples=20) as storage:
        points = [(T0 - minute * MINUTE_MS, 1.0) for minute in range(5)]
        await storage.store.write_batch(TENANT, make_batch(dict.fromkeys(SERIES, points)))
        selection = SeriesSelection(
            matchers=(make_matcher(METRIC_NAME, "=", "m"),), start_ms=T0 - 3_600_000, end_ms=T0
        )
        await storage.store.select(TENANT, [selection])
        with pytest.raises(ExecutionError, match="too many samples"):
            await storage.store.select(TENANT, [selection, selection])


async def test_arrivals_set_aside_and_moved_later_stay_in_every_answer(
    plain_database_url: str,
) -> None:
    """Also in those of a process that has asked before, and believes that nothing is drained."""
    options = {"store": StoreKind.BLOCKS, "now_ms": lambda: T0}
    async with (
        opened_storage(plain_database_url, **options) as storage,
        opened_storage(plain_database_url, **options) as other,
    ):
        await other.store.write_batch(TENANT, make_batch({SERIES[0]: [(T0, 1.0)]}))
        assert len((await read(storage)).timestamps) == 1
        async with connected(plain_database_url) as connection:
            arrival_id = await connection.fetchval("SELECT id FROM arrival")
            await other.drains.drainer.set_aside(arrival_id)
            assert len((await read(storage)).timestamps) == 1
            # As a version before the bounds were widened left it.
            await connection.execute("DELETE FROM drained_extent")
        assert len((await read(storage)).timestamps) == 1
        assert (await other.drains.aside.retry()).n_moved == 1
        assert len((await read(storage)).timestamps) == 1
