"""`usage`: how much each tenant stores, from what is written beside the samples."""

import asyncio
from collections.abc import Mapping
from dataclasses import astuple
from datetime import UTC, date, datetime, timedelta
from hashlib import sha512

import asyncpg
import orjson
import pytest

from promcompat.core.errors import PromcompatError
from promcompat.core.tenants import TenantUsage
from sql.migrate import migrate
from sql.repositories.tenant_usage import PostgresTenantUsages
from sql.samples.storage_options import StoreKind
from tests.support.factories import make_batch, make_labels
from tests.support.programs.community import community_connection
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import connected, discard, drain_and_compact, opened_storage

pytestmark = pytest.mark.integration

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
FAR_MS, FAR_DAY = 1_000_000_000, date(1970, 1, 12)
N_TIMES = 300
"""Enough for a block of each series and day."""
DAYS = range(1, 5)
N_SERIES = {"blue": {"m": 3, "n": 1}, "red": {"m": 9, "o": 12}}


def times_of(day: int) -> list[int]:
    """Times of the day that is `day` days ago, in Unix ms."""
    start = int((TODAY - timedelta(days=day)).timestamp()) * 1000
    return [start + minute * 60_000 for minute in range(N_TIMES)]


async def write_tenants(url: str, store: StoreKind) -> None:
    """Samples of each series and day, drained but for those of the last day; one of 1970."""
    async with opened_storage(url, store=store) as storage:
        for day in reversed(DAYS):
            for tenant, metrics in N_SERIES.items():
                batch = make_batch(
                    {
                        make_labels(name, i=str(i)): [(at, 1.5 * i) for at in times_of(day)]
                        for name, count in metrics.items()
                        for i in range(count)
                    }
                )
                await storage.store.write_batch(tenant, batch)
            if day > 1:
                await drain_and_compact(storage)
        far = make_batch({make_labels("m", i="0"): [(FAR_MS, 1.0)]})
        await storage.store.write_batch("red", far)


@pytest.mark.parametrize("store", list(StoreKind))
async def test_usage_counts_what_is_stored_wherever_it_is(
    database_url: str, database_server: DatabaseServer, store: StoreKind
) -> None:
    await write_tenants(database_url, store)
    role = f"reader_of_{database_url.rpartition('/')[2]}"
    database_server.run_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'test'")
    async with connected(database_url) as owner:
        rows = {row["tenant"]: row for row in await owner.fetch("SELECT * FROM usage")}
        assert set(rows) == set(N_SERIES)
        for tenant, metrics in N_SERIES.items():
            row, n_series = rows[tenant], sum(metrics.values())
            assert row["series"] == n_series
            assert row["samples"] == N_TIMES * len(DAYS) * n_series + (tenant == "red")
            assert row["samples_per_day"] == N_TIMES * n_series
            assert row["bytes"] > row["samples"] / 100
            first, last = TODAY - timedelta(days=DAYS[-1]), TODAY - timedelta(days=DAYS[0])
            assert row["first_day"] == FAR_DAY if tenant == "red" else first.date()
            assert row["last_day"] == last.date()
            top = sorted(metrics.items(), key=lambda item: -item[1])
            shown = [(one["metric"], one["series"]) for one in orjson.loads(row["top_metrics"])]
            assert shown == top
        days = await owner.fetch("SELECT * FROM usage_by_day WHERE tenant = 'blue' ORDER BY day")
        assert [(row["day"], row["samples"]) for row in days] == [
            ((TODAY - timedelta(days=day)).date(), 4 * N_TIMES) for day in reversed(DAYS)
        ]
        async with opened_storage(database_url, store=store) as storage:
            usages = PostgresTenantUsages(storage.database)
            assert await usages.find("nobody") == TenantUsage()
            blue_usage = await usages.find("blue")
        assert blue_usage.top_metrics == [("m", 3), ("n", 1)]
        assert astuple(blue_usage)[:-1] == tuple(rows["blue"])[2:-1]
        await owner.execute("SELECT grant_tenant_reader($1, 'blue')", role)
        blue = [tuple(row) for row in days]
    async with connected(database_server.url(database_url.rpartition("/")[2], role)) as reader:
        await reader.execute("SET search_path = promcompat")
        assert await reader.fetch("SELECT * FROM usage") == [rows["blue"]]
        found = await reader.fetch("SELECT * FROM usage_by_day ORDER BY day")
        assert [tuple(row) for row in found] == blue
        assert {row[0] for row in await reader.fetch("SELECT tenant_id FROM stored_days()")} == {
            rows["blue"]["tenant_id"]
        }


async def test_a_tenant_without_samples_has_no_usage(database_url: str) -> None:
    async with connected(database_url) as owner:
        await owner.execute("INSERT INTO tenant (id, name) VALUES (1, 'new')")
        row = await owner.fetchrow("SELECT * FROM usage")
        assert tuple(row) == (1, "new", 0, 0, 0, 0, None, None, "[]")


class CountedUsages(PostgresTenantUsages):
    """Counts the questions to the database."""

    n_questions = 0

    async def _read(self) -> Mapping[str, asyncpg.Record]:
        self.n_questions += 1
        return await super()._read()


async def test_all_tenants_share_the_question_of_a_minute(database_url: str) -> None:
    now, batch = 0.0, make_batch({make_labels("m"): [(FAR_MS, 1.0)]})
    async with opened_storage(database_url) as storage:
        usages = CountedUsages(storage.database, lambda: now)
        await storage.store.write_batch("blue", batch)
        asked = [asyncio.create_task(usages.find(name)) for name in ("red", "blue", "blue")]
        await asyncio.sleep(0)
        asked[0].cancel()
        assert [(await one).n_samples for one in asked[1:]] == [1, 1]
        await storage.store.write_batch("red", batch)
        now = 59.0
        assert (await usages.find("red")).n_samples == 0
        assert usages.n_questions == 1
        now = 60.0
        assert (await usages.find("red")).n_samples == 1
        assert usages.n_questions == 2


async def test_a_question_that_fails_is_asked_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_storage(database_url) as storage, connected(database_url) as owner:
        await storage.store.write_batch("blue", make_batch({make_labels("m"): [(FAR_MS, 1.0)]}))
        usages = PostgresTenantUsages(storage.database)
        await owner.execute("ALTER VIEW usage RENAME TO usage_of_later")
        with pytest.raises(PromcompatError):
            await usages.find("blue")
        await owner.execute("ALTER VIEW usage_of_later RENAME TO usage")
        assert (await usages.find("blue")).n_samples == 1


async def test_usage_reads_no_payload(database_url: str) -> None:
    """Payloads of pages are beside their rows (TOAST), and only their sizes are of interest."""
    read = (
        "SELECT sum(toast_blks_read + toast_blks_hit)::bigint FROM pg_statio_all_tables"
        " WHERE relname IN ('arrival', 'sample_run_early')"
    )
    payload = b"".join(sha512(b"%d" % n).digest() for n in range(1_000))
    async with connected(database_url) as owner:
        await owner.execute("INSERT INTO tenant (id, name) VALUES (1, 'blue')")
        await owner.execute(
            "INSERT INTO arrival VALUES (1, 1, 1, 7, 1, 1, 0, 0, false, now(), $1)", payload
        )
        await owner.execute(
            "INSERT INTO sample_run (tenant_id, slot, level, replaces, first_arrival, last_arrival,"
            " deleted_through, n_samples, n_series, first_series, last_series, first_ms, last_ms,"
            " payload) VALUES (1, 0, 0, false, 2, 2, 0, 5, 1, 1, 1, 0, 0, $1)",
            payload,
        )
        before = await statistic(owner, read)
        row = await owner.fetchrow("SELECT samples, bytes FROM usage")
        assert await statistic(owner, read) == before
        assert row["samples"] == 12
        assert 2 * len(payload) <= row["bytes"] <= 2 * len(payload) + 400


async def statistic(connection: asyncpg.Connection, query: str) -> int:
    """The answer of a query on statistics, once those of this session have been added."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    return int(await connection.fetchval(query))


async def test_usage_counts_rows_on_the_community_edition(community_url: str) -> None:
    """Also those of compressed chunks, whose rows are elsewhere."""
    await migrate(community_url, discard)
    async with community_connection(community_url) as session:
        await session.execute(
            "UPDATE installation SET store = 'rows'; SELECT ensure_metrics_hourly();"
            "INSERT INTO tenant (id, name) VALUES (1, 'blue'), (2, 'red');"
            "INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint)"
            " SELECT s, s, 'm', '{}', decode(md5(s::text), 'hex') FROM generate_series(1, 2) AS s;"
            "INSERT INTO sample"
            " SELECT 1 + n % 2, timestamptz '2024-01-01' + n * interval '1 minute', n"
            " FROM generate_series(0, 1199) AS n"
        )
        whole = "SELECT total_bytes FROM chunks_detailed_size('promcompat.sample')"
        for _ in range(2):
            rows = await session.fetch("SELECT tenant, samples, bytes FROM usage_by_day ORDER BY 1")
            assert [(row["tenant"], row["samples"]) for row in rows] == [
                ("blue", 600),
                ("red", 600),
            ]
            assert sum(row["bytes"] for row in rows) == await session.fetchval(whole)
            await session.execute("SELECT compress_chunk(c) FROM show_chunks('sample') AS c")
