"""A database that was filled before blocks had slots (migration 0023) answers as before."""

import asyncpg
import pytest

from sql.migrate import migrate
from sql.query_loader import load_migrations
from sql.samples.codec.page_encoding import encode_pages
from sql.samples.tables.slots import FAR_SLOT, slot_of
from sql.times import YEARS_1_TO_9999
from tests.support.storage.repositories import connected, discard
from tests.support.storage.stored_blocks import (
    DAY_MS,
    NOW_MS,
    TODAY,
    Key,
    StoredBlocks,
    samples_of,
    stored_blocks,
)

pytestmark = pytest.mark.integration

SLOTS = 23
FAR_DAY = -(2**31)
"""The `day` of everything far from now, before slots."""
OLD_ROUTINES = """
CREATE VIEW visible_block AS
SELECT tenant_id, series_id, day AS block_day, last_arrival, replaces, first_ms, last_ms, payload
FROM sample_block
UNION ALL
SELECT tenant_id, series_id, NULL, last_arrival, replaces, first_ms, last_ms, payload
FROM sample_block_far;
CREATE FUNCTION block_partition_name(unix_day integer) RETURNS text LANGUAGE sql IMMUTABLE
RETURN 'sample_block_' || to_char(date '1970-01-01' + unix_day, 'YYYYMMDD');
CREATE FUNCTION create_block_chunk(unix_day integer) RETURNS boolean LANGUAGE sql RETURN false;
CREATE FUNCTION create_block_partition(unix_day integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TABLE %I PARTITION OF sample_block FOR VALUES FROM (%L) TO (%L)',
        block_partition_name(unix_day), unix_day, unix_day + 1
    );
    RETURN true;
END
$$;
CREATE FUNCTION drop_block_partition(unix_day integer) RETURNS void LANGUAGE sql
RETURN NULL::void;
"""
CATALOGUE = """
INSERT INTO tenant (id, name) OVERRIDING SYSTEM VALUE VALUES (1, 'red'), (2, 'blue');
INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint) OVERRIDING SYSTEM VALUE
SELECT n, 1 + (n = 4)::integer, 'm', jsonb_build_object('n', n::text), decode(md5(n::text), 'hex')
FROM generate_series(1, 4) AS n;
UPDATE installation SET store = 'blocks';
"""
PAGE = (
    "first_arrival, last_arrival, deleted_through, tenant_id, day, n_samples, level, replaces,"
    " first_ms, last_ms, payload"
)
LONG_AGO = 5 * DAY_MS
BEFORE = NOW_MS - DAY_MS
# Later migrations add a column to the marks.
ROLLUPS = (
    "SELECT d.*, m.tenant_id, m.day, m.first_series, m.last_series, m.first_ms, m.last_ms, h.*, r.*"
    " FROM rollup_day AS d, rollup_mark AS m, sample_hour AS h, sample_rollup AS r"
)


async def insert_page(
    connection: asyncpg.Connection,
    table: str,
    arrivals: tuple[int, int],
    day: int,
    samples: dict[Key, int],
    *,
    tenant_id: int = 1,
    level: int = 0,
    replaces: bool = False,
) -> None:
    (page,) = encode_pages(samples_of(samples), len(samples), 1 << 30)
    series = "series_id"
    values = [page.first_series]
    if table == "sample_run":
        series, values = "n_series, first_series, last_series", [1, *values, page.last_series]
    columns = (*arrivals, arrivals[1], tenant_id, day, page.n_samples, level, replaces)
    values = [*values, *columns, page.first_ms, page.last_ms, page.payload]
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await connection.execute(
        f"INSERT INTO {table} ({series}, {PAGE}) VALUES ({places})",  # noqa: S608
        *values,
    )
    times = page.first_ms, page.last_ms
    await connection.execute(
        "INSERT INTO drained_extent AS e (tenant_id, day, first_ms, last_ms)"
        " VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, day) DO UPDATE SET"
        " first_ms = least(e.first_ms, excluded.first_ms),"
        " last_ms = greatest(e.last_ms, excluded.last_ms)",
        *(tenant_id, day, *times),
    )
    if table == "sample_block" or level >= 100:
        await connection.execute(
            "UPDATE drained_extent SET final_level = 100 WHERE tenant_id = $1 AND day = $2",
            *(tenant_id, day),
        )


async def insert_arrival(
    connection: asyncpg.Connection, number: int, samples: dict[Key, int], *, is_aside: bool
) -> None:
    (page,) = encode_pages(samples_of(samples), len(samples), 1 << 30)
    bounds = page.first_series, page.last_series, page.first_ms, page.last_ms
    await connection.execute(
        "INSERT INTO arrival (id, tenant_id, kind, n_samples, first_series, last_series, first_ms,"
        " last_ms, payload, is_aside) VALUES ($1, 1, 1, $2, $3, $4, $5, $6, $7, $8)",
        *(number, page.n_samples, *bounds, page.payload, is_aside),
    )


async def fill(connection: asyncpg.Connection) -> dict[Key, int]:
    """Something of everything that can be stored; returns what counts of tenant 1."""
    await connection.execute(OLD_ROUTINES + CATALOGUE)
    near = [TODAY - 1, TODAY]
    if await connection.fetchval("SELECT relkind = 'p' FROM pg_class WHERE relname='sample_block'"):
        for day in near:
            await connection.fetchval("SELECT create_block_partition($1)", day)
    # Days whose slots are days that others have had: 8 * 1 is 8.
    for day in (*near, 1, 8, 64):
        await connection.execute("INSERT INTO block_day VALUES ($1)", day)
    for day in (1, 8, 64):
        await connection.execute("INSERT INTO drained_extent VALUES (2, $1, 0, 0)", day)
    many = {(1, NOW_MS + number): 7 for number in range(300)}
    pages = (
        ("sample_block", (1, 2), TODAY - 1, {(1, BEFORE): 1, (1, BEFORE + 1): 2}, 100),
        ("sample_block_far", (1, 2), FAR_DAY, {(1, LONG_AGO): 3, (1, LONG_AGO + 1): 4}, 100),
        ("sample_run", (3, 3), TODAY - 1, {(1, BEFORE): 50, (2, BEFORE): 5}, 0),
        ("sample_run", (3, 3), FAR_DAY, {(2, LONG_AGO): 6, (3, LONG_AGO + DAY_MS): 8}, 0),
        ("sample_run", (4, 4), TODAY, many, 0),
    )
    for table, arrivals, day, samples, level in pages:
        await insert_page(connection, table, arrivals, day, samples, level=level)
    replaced = {(1, BEFORE + 1): 9}
    await insert_page(connection, "sample_run", (5, 5), TODAY - 1, replaced, replaces=True)
    await insert_page(connection, "sample_run", (5, 5), TODAY, {(4, NOW_MS): 9}, tenant_id=2)
    await connection.execute(
        "INSERT INTO sample_deletion VALUES (6, 1, ARRAY[2::bigint], $1, $2)", LONG_AGO, BEFORE
    )
    await insert_arrival(connection, 7, {(3, NOW_MS): 10, (1, LONG_AGO): 51}, is_aside=True)
    await insert_arrival(connection, 8, {(2, BEFORE): 11, (3, NOW_MS): 52}, is_aside=False)
    await connection.execute("UPDATE drain_state SET drained_through = 7")
    await connection.execute(
        "INSERT INTO rollup_day VALUES (1, $1, 9223372036854775807), (2, $1, 0);",
        TODAY - 1,
    )
    await connection.execute(
        "INSERT INTO sample_hour VALUES (now(), 1, 1, 1, 1, 1, 1, 1, 1, 0);"
        "INSERT INTO sample_rollup VALUES (1, 300, 5, 1, '', '', '');"
        "INSERT INTO rollup_mark (tenant_id, day, first_series, last_series, first_ms, last_ms)"
        " VALUES (1, 5, 1, 1, 0, 1)"
    )
    return many | {
        (1, BEFORE): 1,
        (1, BEFORE + 1): 9,
        (1, LONG_AGO): 3,
        (1, LONG_AGO + 1): 4,
        (2, BEFORE): 11,
        (3, LONG_AGO + DAY_MS): 8,
        (3, NOW_MS): 10,
    }


async def answers_agree(blocks: StoredBlocks, expected: dict[Key, int]) -> None:
    """The service and SQL see what counts, and nothing else."""
    assert await blocks.read(1, [1, 2, 3]) == expected
    assert await blocks.read(2, [4]) == {(4, NOW_MS): 9}
    async with blocks.connection() as connection:
        rows = await connection.fetch(
            "SELECT series_id, unix_ms, ('x' || encode(float8send(value), 'hex'))::bit(64)::bigint"
            " FROM stored_samples(1, NULL, $1, $2)",
            *(YEARS_1_TO_9999.start_ms, YEARS_1_TO_9999.end_ms),
        )
    assert {(row[0], row[1]): row[2] for row in rows} == expected


async def rollups(connection: asyncpg.Connection) -> list[tuple[object, ...]]:
    return sorted((tuple(row) for row in await connection.fetch(ROLLUPS)), key=str)


async def test_a_filled_database_without_slots_answers_the_same_with_them(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = [step for step in load_migrations() if step.version < SLOTS]
    with monkeypatch.context() as patched:
        # Those of today are for tables with slots.
        patched.setattr("sql.migrate.load_routines", list)
        await migrate(empty_database_url, discard, migrations=older)
    async with connected(empty_database_url) as connection:
        expected = await fill(connection)
        before = await rollups(connection)
    await migrate(empty_database_url, discard)
    async with connected(empty_database_url) as connection:
        assert await rollups(connection) == before
        slots = {row[0] for row in await connection.fetch("SELECT slot FROM block_slot")}
        assert slots == {slot_of(day) for day in (TODAY - 1, TODAY, 1, 8, 64)}
        found = await connection.fetch(
            "SELECT tenant_id, slot, final_level FROM drained_extent ORDER BY 1, 2"
        )
        assert [tuple(row) for row in found] == [
            (1, FAR_SLOT, 100),
            (1, slot_of(TODAY - 1), 100),
            (1, slot_of(TODAY), 99),
            *((2, slot_of(day), 99) for day in (1, 8, 64, TODAY)),
        ]
    async with stored_blocks(empty_database_url) as blocks:
        await answers_agree(blocks, expected)
        await blocks.drainer.drain_all()
        await answers_agree(blocks, expected)
        assert (await blocks.aside.retry()).n_left == 0
        blocks.clock.now_ms += 2 * DAY_MS
        await blocks.compact_all()
        await answers_agree(blocks, expected)
        assert await blocks.fetchval("SELECT count(*) FROM sample_deletion") == 0
