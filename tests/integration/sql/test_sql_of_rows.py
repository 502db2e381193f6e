"""What SQL users read of the store `rows` is the same before and after samples are drained."""

import asyncpg
import pytest

from sql.samples.metric_storage import MetricStorage
from tests.support.factories import make_batch, make_labels, select_name
from tests.support.storage.maintenance import assert_hours_agree
from tests.support.storage.repositories import connected, delete_samples

pytestmark = [pytest.mark.integration, pytest.mark.rows]

T0 = 1_700_000_000_000
HOUR_MS = 3_600_000
A = make_labels("up", i="a")
B = make_labels("up", i="b")
DOWN = make_labels("down", i="c")
_READ = (
    "SELECT name, labels ->> 'i' AS i, (extract(epoch FROM timestamp) * 1000)::bigint - $1::bigint "
    "AS ms, value FROM {} ORDER BY 1, 2, 3"
)
_BY_NAME = (
    "(SELECT * FROM samples('up', '{0}', '{1}') UNION ALL "
    "SELECT * FROM samples('down', '{0}', '{1}')) AS s"
)


async def check(connection: asyncpg.Connection, expected: set[tuple[str, int, float]]) -> None:
    """View, function and hours agree with what is expected: series, ms after T0, value."""
    for source in ("metrics", _BY_NAME.format("-infinity", "infinity")):
        rows = await connection.fetch(_READ.format(source), T0)
        assert {(row["i"], row["ms"], row["value"]) for row in rows} == expected
        assert len(rows) == len(expected)
    await assert_hours_agree(connection)


async def test_samples_are_shown_wherever_they_are(
    storage: MetricStorage, database_url: str
) -> None:
    async with connected(database_url) as connection:
        first = make_batch({A: [(T0, 1.0), (T0 + 1000, 2.0)], DOWN: [(T0, 5.0)]})
        await storage.store.write_batch("default", first)
        expected = {("a", 0, 1.0), ("a", 1000, 2.0), ("c", 0, 5.0)}
        await check(connection, expected)
        await storage.drains.drainer.drain_all()
        await check(connection, expected)
        # One is a repeat of a row, one lies among the rows, one in another hour.
        later = [(T0, 1.0), (T0 + 500, 9.0), (T0 + HOUR_MS, 3.0)]
        await storage.store.write_batch("default", make_batch({A: later, B: [(T0, 7.0)]}))
        expected |= {("a", 500, 9.0), ("a", HOUR_MS, 3.0), ("b", 0, 7.0)}
        await check(connection, expected)
        assert await delete_samples(storage, "default", select_name("up", T0 - 1, T0 + 600)) == 3
        expected -= {("a", 0, 1.0), ("a", 500, 9.0), ("b", 0, 7.0)}
        await check(connection, expected)
        await storage.store.write_batch("default", make_batch({A: [(T0, 4.0)]}))
        expected |= {("a", 0, 4.0)}
        await check(connection, expected)
        await storage.drains.drainer.drain_all()
        await check(connection, expected)
        assert await connection.fetchval("SELECT count(*) FROM arrival") == 0


async def test_an_undrained_value_that_conflicts_with_a_row_is_not_shown(
    storage: MetricStorage, database_url: str
) -> None:
    async with connected(database_url) as connection:
        await storage.store.write_batch("default", make_batch({A: [(T0, 1.0)]}))
        await storage.drains.drainer.drain_all()
        await storage.store.write_batch("default", make_batch({A: [(T0, 2.0), (T0 + 1, 3.0)]}))
        for _ in range(2):
            await check(connection, {("a", 0, 1.0), ("a", 1, 3.0)})
            (block,) = await storage.store.select("default", [select_name("up", T0 - 1, T0 + 1)])
            assert block.values.tolist() == [1.0, 3.0]
            await storage.drains.drainer.drain_all()
        assert storage.drains.stats.conflicts_resolved == 1
