"""`samples()` and `metrics` fold rows, arrivals, runs and blocks as the reader in Python does."""

import asyncio
import itertools
import json
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sql.query_loader import load_queries
from sql.samples.codec.page_encoding import encode_pages
from sql.samples.columns.fold import Deletion, Piece, fold
from sql.samples.tables.slots import FAR_SLOT, slot_of
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import connected
from tests.support.storage.sample_columns import STALE_BITS, T0, samples_of

pytestmark = pytest.mark.integration

TENANT, OTHER = 1, 2
IDS = (11, 12, 13)
DAY_MS = 86_400_000
INSERT_BLOCK = (
    "INSERT INTO sample_block (series_id, first_ms, last_ms, first_arrival, last_arrival,"
    " deleted_through, tenant_id, slot, n_samples, level, replaces, payload)"
    " VALUES ($1, $2, $3, $4, $4, 0, $5, $6, $7, 0, $8, $9)"
)
PLACES = ("row", "far block", "block", "run", "arrival")

SLOW = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@dataclass(frozen=True, slots=True)
class Write:
    """An arrival: values by series and time, or the deletion of a range."""

    values: dict[tuple[int, int], float]
    replaces: bool = False
    deletes: tuple[tuple[int, ...] | None, int, int] | None = None


@pytest.fixture
def session(
    database_url: str, database_server: DatabaseServer
) -> Iterator[tuple[Run, asyncpg.Connection]]:
    """An event loop, and a connection of the owner to a database with the series of two tenants."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url))
        try:
            runner.run(_prepare(connection))
            yield runner.run, connection
        finally:
            runner.run(connection.close())


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE installation SET store = 'blocks'")
    await connection.execute("INSERT INTO tenant (id, name) VALUES (1, 'mine'), (2, 'theirs')")
    await connection.executemany(
        "INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint)"
        " VALUES ($1::bigint, $2, $3, jsonb_build_object('n', $1::bigint::text),"
        " decode(md5($1::bigint::text), 'hex'))",
        [(11, TENANT, "m"), (12, TENANT, "m"), (13, TENANT, "other"), (21, OTHER, "m")],
    )
    for day in (T0 // DAY_MS, T0 // DAY_MS - 1, T0 // DAY_MS + 1):
        await connection.execute("SELECT create_block_partition($1)", slot_of(day))
    if await connection.fetchval("SELECT relkind = 'p' FROM pg_class WHERE relname = 'sample'"):
        await connection.execute("SELECT create_sample_partitions(ARRAY[$1::bigint])", T0 // DAY_MS)


def _piece(number: int, write: Write) -> Piece:
    rows = {
        series: [
            (t, int(np.float64(v).view(np.int64)) if v < 90 else STALE_BITS)
            for (s, t), v in sorted(write.values.items())
            if s == series
        ]
        for series in IDS
    }
    return Piece(samples_of(rows.items()), number, number, write.replaces)


async def _store(
    connection: asyncpg.Connection, number: int, write: Write, place: str, tenant: int = TENANT
) -> None:
    if write.deletes is not None:
        series, first_ms, last_ms = write.deletes
        if place == "arrival":
            payload = b"".join(s.to_bytes(8, "big") for s in series or ())
            await connection.execute(
                "INSERT INTO arrival VALUES ($1, $2, 3, 0, 0, 0, $3, $4, false, now(), $5)",
                number, tenant, first_ms, last_ms, payload,
            )  # fmt: skip
        elif place != "row":
            await connection.execute(
                "INSERT INTO sample_deletion VALUES ($1, $2, $3, $4, $5)",
                number, tenant, series and list(series), first_ms, last_ms,
            )  # fmt: skip
        return
    samples = _piece(number, write).samples
    if place == "row":
        ids = np.repeat(samples.ids, np.diff(samples.offsets)).tolist()
        rows = zip(ids, samples.timestamps.tolist(), samples.values.tolist(), strict=True)
        await connection.executemany(
            "INSERT INTO sample (series_id, ts, value) VALUES ($1, from_unix_ms($2), $3)",
            list(rows),
        )
        return
    for page in encode_pages(samples, 100, 1 << 16, per_series=place.endswith("block")):
        bounds = (page.first_series, page.last_series, page.first_ms, page.last_ms)
        if place == "arrival":
            await connection.execute(
                "INSERT INTO arrival VALUES ($1, $2, $3, $4, $5, $6, $7, $8, false, now(), $9)",
                number, tenant, 2 if write.replaces else 1, page.n_samples, *bounds, page.payload,
            )  # fmt: skip
        elif place == "run":
            await connection.execute(
                "INSERT INTO sample_run (tenant_id, slot, level, replaces, first_arrival,"
                " last_arrival, deleted_through, n_samples, n_series, first_series, last_series,"
                " first_ms, last_ms, payload)"
                " VALUES ($1, $2, 0, $3, $4, $4, 0, $5, 1, $6, $7, $8, $9, $10)",
                tenant, FAR_SLOT, write.replaces, number, page.n_samples, *bounds, page.payload,
            )  # fmt: skip
        else:
            await connection.execute(
                INSERT_BLOCK, page.first_series, page.first_ms, page.last_ms, number, tenant,
                slot_of(page.first_ms // DAY_MS) if place == "block" else FAR_SLOT,
                page.n_samples, write.replaces, page.payload,
            )  # fmt: skip
        if place != "arrival":
            await connection.execute(
                "INSERT INTO drained_extent (tenant_id, slot, first_ms, last_ms)"
                " VALUES ($1, $2, 0, 0) ON CONFLICT DO NOTHING",
                tenant, FAR_SLOT,
            )  # fmt: skip


TIMES = st.builds(lambda minute, k: T0 + minute * 60_000 + k, st.integers(0, 2), st.integers(0, 3))
"""Some pages share times, and some do not."""
MANY_IDS = [11, 12, *range(1000, 1600)]
SAMPLES = st.builds(
    Write,
    st.dictionaries(
        st.tuples(st.sampled_from(IDS), TIMES), st.integers(0, 99).map(float), min_size=1
    ),
    st.booleans(),
)
DELETIONS = st.builds(
    lambda series, a, b: Write({}, False, (series, min(a, b), max(a, b))),
    st.none() | st.sets(st.sampled_from(IDS), min_size=1).map(lambda s: tuple(sorted(s))),
    TIMES,
    TIMES,
)


def _expected(writes: list[Write], first_ms: int, end_ms: int) -> dict[tuple[int, int], float]:
    pieces = [_piece(k, w) for k, w in enumerate(writes, 1) if w.deletes is None]
    deletions = [
        Deletion(k, None if w.deletes[0] is None else np.array(w.deletes[0]), *w.deletes[1:])
        for k, w in enumerate(writes, 1)
        if w.deletes is not None
    ]
    found = fold(pieces, deletions)
    ids = np.repeat(found.ids, np.diff(found.offsets)).tolist()
    return {
        (series, t): value
        for series, t, value in zip(
            ids, found.timestamps.tolist(), found.values.tolist(), strict=True
        )
        if first_ms <= t < end_ms and not np.isnan(value)
    }


@settings(max_examples=60, suppress_health_check=SLOW)
@given(
    writes=st.lists(SAMPLES | DELETIONS, min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 6), min_size=3, max_size=3).map(sorted),
    first_ms=TIMES,
    end_ms=TIMES.map(lambda t: t + 1),
)
def test_samples_are_those_of_the_fold(
    session: tuple[Run, asyncpg.Connection],
    writes: list[Write],
    cuts: list[int],
    first_ms: int,
    end_ms: int,
) -> None:
    run, connection = session
    run(_check(connection, writes, cuts, first_ms, end_ms))


async def _check(
    connection: asyncpg.Connection, writes: list[Write], cuts: list[int], first_ms: int, end_ms: int
) -> None:
    """Store older writes in blocks, then in runs and arrivals; compare what SQL reads."""
    transaction = connection.transaction()
    await transaction.start()
    for k, write in enumerate(writes):
        place = PLACES[1 + sum(k >= cut for cut in cuts)]
        await _store(connection, k + 1, write, place)
    theirs = Write({(11, T0): 5.0})
    await _store(connection, 50, theirs, "run", tenant=OTHER)
    read = await connection.fetch(
        "SELECT (labels ->> 'n')::bigint AS id, timestamp, value, name FROM samples('m',"
        " from_unix_ms($1), from_unix_ms($2)) WHERE tenant_id = 1",
        first_ms,
        end_ms,
    )
    of_all_names = await connection.fetch(
        "SELECT (labels ->> 'n')::bigint AS id, timestamp, value FROM samples(NULL,"
        " from_unix_ms($1), from_unix_ms($2)) WHERE tenant_id = 1",
        first_ms,
        end_ms,
    )
    of_many = await connection.fetch(
        "SELECT series_id AS id, from_unix_ms(unix_ms) AS timestamp, value"
        " FROM stored_samples(1, $1, $2, $3) WHERE nan_bits IS NULL",
        MANY_IDS,
        first_ms,
        end_ms - 1,
    )
    viewed = await connection.fetch(
        "SELECT (labels ->> 'n')::bigint AS id, timestamp, value, name FROM metrics"
        " WHERE tenant_id = 1"
    )
    await transaction.rollback()
    expected = _expected(writes, first_ms, end_ms)
    of_name = {key: v for key, v in expected.items() if key[0] in (11, 12)}
    assert _found(read) == _found(of_many) == of_name
    assert _found(of_all_names) == expected
    assert _found(viewed) == _expected(writes, 0, 2**62)


def _found(rows: list[asyncpg.Record]) -> dict[tuple[int, int], float]:
    found = {(row["id"], round(row["timestamp"].timestamp() * 1000)): row["value"] for row in rows}
    assert len(found) == len(rows)
    return found


async def test_rows_and_pages_are_read_together(database_url: str) -> None:
    """The rows of an installation that is moving its samples count as the first ones."""
    async with connected(database_url) as connection:
        await _prepare(connection)
        await _store(connection, 0, Write({(11, T0): 1.0, (12, T0): 2.0}), "row")
        query = "SELECT value FROM samples('m', '-infinity', 'infinity', $1) ORDER BY value"
        everything = "SELECT value FROM metrics WHERE name = 'm' ORDER BY value"
        assert [row[0] for row in await connection.fetch(query, "{}")] == [1.0, 2.0]
        assert [row[0] for row in await connection.fetch(everything)] == [1.0, 2.0]
        await _store(connection, 1, Write({(11, T0): 3.0, (11, T0 + 1): 4.0}), "block")
        assert [row[0] for row in await connection.fetch(query, "{}")] == [1.0, 2.0, 4.0]
        assert [row[0] for row in await connection.fetch(everything)] == [1.0, 2.0, 4.0]
        await _store(connection, 2, Write({(11, T0): 7.0}, replaces=True), "arrival")
        assert [row[0] for row in await connection.fetch(query, '{"n": "11"}')] == [4.0, 7.0]


@pytest.mark.parametrize("place", ["block", "far block", "run", "arrival"])
async def test_a_block_within_the_times_of_a_longer_page_is_folded_with_it(
    database_url: str, place: str
) -> None:
    times = [T0 + 10 * k for k in range(5)]
    long = Write({(11, t): 1.0 for t in times})
    async with connected(database_url) as connection:
        await _prepare(connection)
        await _store(connection, 1, Write({(11, times[1]): 2.0}), "block")
        await _store(connection, 2, long, place)
        await _store(connection, 3, Write({(11, times[3]): 3.0}), "block")
        await _store(connection, 4, Write({(11, times[4] + 1): 4.0}), "block")
        rows = await connection.fetch(
            "SELECT value FROM samples('m', '-infinity') ORDER BY timestamp"
        )
        assert [row[0] for row in rows] == [1.0, 2.0, 1.0, 1.0, 1.0, 4.0]


@pytest.mark.parametrize("place", ["run", "arrival"])
async def test_deletions_of_many_series_take_no_longer_for_each_sample(
    database_url: str, place: str
) -> None:
    many = tuple(range(100_000, 108_192))
    values = {(11, T0 + k): 1.0 for k in range(20_000)}
    async with connected(database_url) as connection:
        await _prepare(connection)
        await _store(connection, 1, Write(values), "run")
        for number in range(2, 10):
            await _store(connection, number, Write({}, False, (many, T0, T0 + 20_000)), place)
        await _store(connection, 10, Write({}, False, ((11, *many), T0, T0)), place)
        await connection.execute("SET statement_timeout = '5s'")
        for query in (
            "SELECT count(*) FROM samples('m', '-infinity')",
            "SELECT count(*) FROM samples(NULL, '-infinity')",
            "SELECT sum(count) FROM hours('m', '-infinity')",
        ):
            assert await connection.fetchval(query) == 19_999


async def test_hours_are_those_of_rows_and_pages(database_url: str) -> None:
    hour = T0 // 3_600_000 * 3_600_000
    async with connected(database_url) as connection:
        await _prepare(connection)
        await connection.execute("UPDATE installation SET store = 'blocks'")
        await connection.execute("SELECT ensure_metrics_hourly()")
        await _store(connection, 0, Write({(11, T0): 1.0}), "row")
        for number, place in enumerate(PLACES[1:], 1):
            await _store(connection, number, Write({(12, T0 + number): 2.0 * number}), place)
        await _store(connection, 9, Write({(12, T0 + 9): 99.0, (13, hour): 5.0}), "arrival")
        query = (
            "SELECT name, bucket = from_unix_ms($1), count, min, max, sum FROM metrics_hourly"
            " ORDER BY name"
        )
        expected = [("m", True, 5, 1.0, 8.0, 21.0), ("other", True, 1, 5.0, 5.0, 5.0)]
        assert [tuple(row) for row in await connection.fetch(query, hour)] == expected
        insert = load_queries("samples")["insert_hours"]
        await connection.execute(insert, hour, hour + 3_600_000, TENANT, None)
        assert await connection.fetchval("SELECT sum(count) FROM hourly_rollup") == 6


@pytest.mark.parametrize("name", [None, "m"])
@pytest.mark.parametrize("labels", [{}, {"n": "11"}])
async def test_hours_of_times_and_labels_are_those_of_the_view(
    database_url: str, name: str | None, labels: dict[str, str]
) -> None:
    hour = T0 // 3_600_000 * 3_600_000
    async with connected(database_url) as connection:
        await _prepare(connection)
        for number, place in enumerate(PLACES[1:], 1):
            values = {(n, hour + 3_600_000 * number + k): float(k) for n in IDS for k in range(3)}
            await _store(connection, number, Write(values), place)
        found = set()
        starts, ends = (-1, 0, 1, 3_600_000, 7_200_001), (1, 14_400_000, 2**40)
        for start, end in itertools.product(starts, ends):
            bounds = hour + 3_600_000 + start, hour + 3_600_000 + end
            rows = await connection.fetch(
                "SELECT * FROM hours($1, from_unix_ms($2), from_unix_ms($3), $4)"
                " ORDER BY bucket, series_id",
                name, *bounds, json.dumps(labels),
            )  # fmt: skip
            of_view = await connection.fetch(
                "SELECT * FROM metrics_hourly_by_series WHERE ($1::text IS NULL OR name = $1)"
                " AND bucket >= from_unix_ms($2) AND bucket < from_unix_ms($3) AND labels @> $4"
                " ORDER BY bucket, series_id",
                name, *bounds, json.dumps(labels),
            )  # fmt: skip
            assert rows == of_view
            found.add(len(rows))
        assert len(found) > 3


@pytest.mark.parametrize("function", ["samples", "hours"])
@pytest.mark.parametrize("name", [None, "m"])
async def test_null_is_no_bound_and_any_labels(
    database_url: str, function: str, name: str | None
) -> None:
    async with connected(database_url) as connection:
        await _prepare(connection)
        await _store(connection, 1, Write({(11, T0): 1.0}), "run")
        query = f"SELECT count(*) FROM {function}($1, $2, $3, $4)"  # noqa: S608
        assert await connection.fetchval(query, name, None, None, None) == 1


@pytest.mark.parametrize("place", ["run", "block", "far block"])
async def test_name_and_times_reach_the_indexes(
    database_url: str, database_server: DatabaseServer, place: str
) -> None:
    index = {"run": "tenant", "block": "series", "far block": "series"}[place]
    async with connected(database_url) as connection:
        await _prepare(connection)
        for number in range(1, 200):
            await _store(connection, number, Write({(11, T0 + number): 1.0}), place)
        await connection.execute("ANALYZE")
        await connection.execute("SET enable_seqscan = off")
        count = "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname LIKE $1"
        pattern = f"%sample_{place.split()[-1]}%{index}%"
        before = await _flushed(connection, count, pattern)
        rows = await connection.fetch(
            "SELECT * FROM samples('m', from_unix_ms($1), from_unix_ms($2))", T0 + 50, T0 + 60
        )
        assert len(rows) == 10
        assert await _flushed(connection, count, pattern) > before


async def _flushed(connection: asyncpg.Connection, query: str, *arguments: object) -> int:
    """The answer of a query on statistics, once those of this session have been added."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    return int(await connection.fetchval(query, *arguments) or 0)


async def test_the_series_of_a_name_are_found_by_an_index_whoever_asks(
    database_url: str, database_server: DatabaseServer
) -> None:
    database = database_url.rpartition("/")[2]
    role = f"reader_of_{database}"
    database_server.run_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'test'")
    async with connected(database_url) as owner:
        await _prepare(owner)
        await owner.execute(
            "INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint)"
            " SELECT n, 1 + n % 2, 'm' || n % 1000, '{}', decode(md5(n::text), 'hex')"
            " FROM generate_series(100, 5100) AS n;"
            "ANALYZE series"
        )
        await owner.execute("SELECT grant_tenant_reader($1, 'mine')", role)
        owners = await _plan(owner)
    async with connected(database_server.url(database, role)) as reader:
        readers = await _plan(reader)
    for plan in (owners, readers):
        assert re.search(
            r"Index Cond: \(\(tenant_id = ANY \(.*\)\) AND \(metric_name = 'm7'::text\)\)", plan
        ), plan
        assert not re.search(r"Seq Scan on series\b", plan), plan


async def test_the_tenants_of_the_caller_are_listed_once_for_all_names(
    database_url: str, database_server: DatabaseServer
) -> None:
    """What is asked for each tenant and name again lists no tenants."""
    async with connected(database_url) as owner:
        await _prepare(owner)
        await owner.execute(
            "INSERT INTO tenant (id, name) SELECT n, 't' || n FROM generate_series(100, 119) AS n;"
            "INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint)"
            " SELECT n, n, 'm', '{}', decode(md5(n::text), 'hex')"
            " FROM generate_series(100, 119) AS n"
        )
    async with (
        connected(database_server.superuser_url(database_url)) as superuser,
        superuser.transaction(),
    ):
        await superuser.execute("SET LOCAL track_functions = 'all'")
        await superuser.fetch("SELECT * FROM promcompat.metrics")
        rows = await superuser.fetch("SELECT funcname, calls FROM pg_stat_xact_user_functions")
    calls = dict(map(tuple, rows))
    assert calls["stored_samples"] > 20
    assert calls["readable_tenants"] < 10


@pytest.mark.parametrize("view", ["metrics", "metrics_hourly", "metrics_hourly_by_series"])
async def test_only_the_samples_of_a_name_are_read_when_it_is_asked_for(
    database_url: str, database_server: DatabaseServer, view: str
) -> None:
    async with connected(database_url) as owner:
        await _prepare(owner)
        await owner.execute("SELECT ensure_metrics_hourly()")
        await owner.execute(
            "INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint)"
            " SELECT n, 1, 'm' || n, '{}', decode(md5(n::text), 'hex')"
            " FROM generate_series(100, 119) AS n"
        )
        await _store(owner, 1, Write({(11, T0): 1.0}), "arrival")
    async with (
        connected(database_server.superuser_url(database_url)) as superuser,
        superuser.transaction(),
    ):
        await superuser.execute("SET LOCAL track_functions = 'all'")
        found = f"SELECT * FROM promcompat.{view} WHERE tenant_id = 1 AND name = 'm'"  # noqa: S608
        assert len(await superuser.fetch(found)) == 1
        rows = await superuser.fetch("SELECT funcname, calls FROM pg_stat_xact_user_functions")
    assert dict(map(tuple, rows))["stored_samples"] == 1


@pytest.mark.parametrize("view", ["metrics", "metrics_hourly", "metrics_hourly_by_series"])
@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
async def test_the_samples_of_a_name_are_read_once_whatever_series_it_has(
    database_url: str, database_server: DatabaseServer, view: str, names: list[str]
) -> None:
    found = f"SELECT * FROM promcompat.{view} WHERE name = ANY ($1::text[])"  # noqa: S608
    calls = await _reads_of_many_series(database_url, database_server, found, names)
    assert calls == len(names)


@pytest.mark.parametrize(
    "arguments",
    ["NULL, '-infinity'", "'a', '-infinity'", "NULL, '-infinity', labels => '{\"job\": \"j\"}'"],
)
@pytest.mark.parametrize("function", ["samples", "hours"])
async def test_samples_are_read_once_whatever_names_and_series_there_are(
    database_url: str, database_server: DatabaseServer, function: str, arguments: str
) -> None:
    found = f"SELECT * FROM promcompat.{function}({arguments})"  # noqa: S608
    assert await _reads_of_many_series(database_url, database_server, found) == 1


async def _reads_of_many_series(
    url: str, server: DatabaseServer, query: str, *arguments: object
) -> int:
    """How often a query reads samples where names have 40 series each."""
    async with connected(url) as owner:
        await _prepare(owner)
        await owner.execute("SELECT ensure_metrics_hourly()")
        await owner.execute("DELETE FROM series WHERE tenant_id = 2")
        await owner.execute(
            "INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint)"
            " SELECT n, 1, (ARRAY['a', 'b', 'c'])[1 + n % 3],"
            " jsonb_build_object('job', 'j', 'n', n), decode(md5(n::text), 'hex')"
            " FROM generate_series(100, 219) AS n"
        )
        rows = [(T0 + 1000 * k, 0) for k in range(10)]
        samples = samples_of([(n, rows) for n in range(100, 220)])
        for page in encode_pages(samples, 10_000, 1 << 20):
            bounds = (page.first_series, page.last_series, page.first_ms, page.last_ms)
            await owner.execute(
                "INSERT INTO arrival VALUES (1, 1, 1, $1, $2, $3, $4, $5, false, now(), $6)",
                page.n_samples, *bounds, page.payload,
            )  # fmt: skip
        await owner.execute("ANALYZE")
    async with connected(server.superuser_url(url)) as superuser, superuser.transaction():
        await superuser.execute("SET LOCAL track_functions = 'all'")
        assert await superuser.fetch(query, *arguments)
        rows = await superuser.fetch("SELECT funcname, calls FROM pg_stat_xact_user_functions")
    return int(dict(map(tuple, rows))["stored_samples"])


async def _plan(connection: asyncpg.Connection) -> str:
    rows = await connection.fetch("EXPLAIN SELECT * FROM promcompat.metrics WHERE name = 'm7'")
    return "\n".join(row[0] for row in rows)


async def test_one_statement_reads_one_snapshot(database_url: str) -> None:
    """A volatile function would see what was committed since the statement began."""
    counts = "(SELECT count(*) FROM samples('m', '-infinity', 'infinity'))"
    statement = f"SELECT {counts}, pg_advisory_xact_lock(7)::text, {counts}"
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event = 'advisory' AND datname = current_database()"
    )
    async with (
        connected(database_url) as owner,
        connected(database_url) as reader,
        connected(database_url) as writer,
    ):
        await _prepare(owner)
        await _store(owner, 1, Write({(11, T0): 1.0}), "arrival")
        await owner.execute("SELECT pg_advisory_lock(7)")
        asked = asyncio.create_task(reader.fetchrow(statement))
        async with asyncio.timeout(60):
            while not await owner.fetchval(waiting):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        # Meanwhile a sample arrives, and a drain moves the one from before.
        await _store(writer, 2, Write({(12, T0): 2.0}), "arrival")
        async with writer.transaction():
            await writer.execute("DELETE FROM arrival WHERE id = 1")
            await _store(writer, 1, Write({(11, T0): 1.0}), "run")
        await owner.execute("SELECT pg_advisory_unlock(7)")
        first, _, second = await asked
        assert (first, second) == (1, 1)
        assert await owner.fetchval(f"SELECT {counts}") == 2


async def test_functions_that_readers_call_see_the_snapshot_of_their_statement(
    database_url: str,
) -> None:
    readers = ["samples", "hours", "series_matching"]
    readers += ["stored_samples", "stored_hours", "decode_page"]
    async with connected(database_url) as owner:
        rows = await owner.fetch(
            "SELECT proname, provolatile FROM pg_proc"
            " WHERE pronamespace = 'promcompat'::regnamespace AND proname = ANY ($1::text[])",
            readers,
        )
    assert {row["proname"] for row in rows} == set(readers)
    assert {row["provolatile"] for row in rows} <= {b"s", b"i"}
