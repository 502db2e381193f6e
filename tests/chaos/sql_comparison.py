"""What people who read by SQL see, compared with what was acknowledged."""

from collections import defaultdict
from collections.abc import Sequence

import asyncpg

from tests.chaos.traffic import METRIC, Difference, Writer

_STORED = """
SELECT labels ->> 'number' AS number, (extract(epoch FROM "timestamp") * 1000)::bigint AS time_ms,
    value
FROM promcompat.metrics
WHERE name = $1 AND labels ->> 'writer' = $2
"""


async def compare_rows(connection: asyncpg.Connection, writers: Sequence[Writer]) -> Difference:
    """Every row of the view `metrics` of every writer."""
    difference = Difference()
    for writer in writers:
        stored: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, time_ms, value in await connection.fetch(_STORED, METRIC, str(writer.number)):
            stored[number].append((time_ms, value))
        for series in range(writer.n_series):
            difference.compare(stored.pop(str(series), []), writer.expected(series))
        difference.invented += sum(map(len, stored.values()))
    return difference


async def compare_rows_of(url: str, writers: Sequence[Writer]) -> Difference:
    """The same over a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await compare_rows(connection, writers)
    finally:
        await connection.close()
