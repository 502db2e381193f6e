"""When counters began, as senders say: what is stored of it, and when nothing is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from promcompat.core.maintenance import StepNotes
from promcompat.metrics.maintenance_service import MaintenanceService
from sql.database.database import Database, DatabaseOptions
from sql.samples.storage_options import StoreKind
from sql.series.starts import SeriesStartStep
from tests.support.factories import select_name
from tests.support.formats.remote_write import V2_HEADERS, RequestV2
from tests.support.services.http_service import NOW_MS, Service, running_service
from tests.support.storage.repositories import (
    connected,
    delete_samples,
    drain_and_compact,
    drained_storage,
    opened_storage,
)

pytestmark = pytest.mark.integration

COUNTER = (("__name__", "c_total"), ("job", "a"))
STARTS_IN_PROMQL = ("promql-experimental-functions", "use-start-timestamps")
FAILURE = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER fail BEFORE INSERT ON series_start FOR EACH STATEMENT EXECUTE FUNCTION fail();
"""


@asynccontextmanager
async def opened_service(url: str) -> AsyncIterator[Service]:
    """What a process is: nothing of it is shared with another one but the database."""
    async with opened_storage(url) as storage, running_service(storage.store) as running:
        yield running


async def write(service: Service, time_ms: int, start_ms: int, *names: str) -> int:
    """Write a sample of the counter, and of gauges that have no start; returns the status."""
    request = RequestV2()
    request.add(COUNTER, (time_ms, 1.0), start_ms=start_ms)
    for name in names:
        request.add([("__name__", name)], (time_ms, 1.0))
    response = await service.post("/api/v1/write", data=request.body(), headers=V2_HEADERS)
    return response.status


async def starts(owner: asyncpg.Connection) -> list[tuple[str, int, int]]:
    """The name of each series, its starts, and their first samples, in ms before now."""
    rows = await owner.fetch(
        "SELECT name, extract(epoch FROM start_time) * 1000,"
        " extract(epoch FROM first_sample) * 1000 FROM metrics_start ORDER BY 1, 2"
    )
    return [(name, NOW_MS - int(start), NOW_MS - int(first)) for name, start, first in rows]


async def test_processes_store_each_start_once_and_the_same_again_never(database_url: str) -> None:
    async with (
        connected(database_url) as owner,
        opened_service(database_url) as one,
        opened_service(database_url) as two,
    ):
        began, again = NOW_MS - 9_000, NOW_MS - 2_000
        assert await write(one, NOW_MS - 5_000, began, "gauge") == 204
        assert await starts(owner) == [("c_total", 9_000, 5_000)]
        await owner.execute(FAILURE)
        # The same start makes no statement, which would fail. Another one is not acknowledged.
        assert await write(one, NOW_MS - 4_000, began) == 204
        assert await write(one, NOW_MS - 1_500, again) == 503
        await owner.execute("DROP TRIGGER fail ON series_start")
        versions = await owner.fetch("SELECT xmin FROM series_start")
        assert await write(two, NOW_MS - 3_000, began) == 204
        assert await owner.fetch("SELECT xmin FROM series_start") == versions
        # The other process is the first that stores the new start; the sender retries here.
        assert await write(two, NOW_MS - 1_000, again) == 204
        assert await write(one, NOW_MS - 1_500, again) == 204
        assert await write(one, NOW_MS - 1_500, again) == 204
        # A start after its sample is none, nor is one before the first year.
        assert await write(one, NOW_MS, NOW_MS + 1) == 204
        assert await write(two, NOW_MS, -(1 << 62)) == 204
        expected = [("c_total", 9_000, 5_000), ("c_total", 2_000, 1_500)]
        assert await starts(owner) == expected
        async with opened_service(database_url) as restarted:
            assert await write(restarted, NOW_MS, again) == 204
        assert await starts(owner) == expected
        await owner.execute("DELETE FROM series WHERE metric_name = 'c_total'")
        assert await owner.fetchval("SELECT count(*) FROM series_start") == 0
        assert await write(one, NOW_MS, again) == 204
        assert await starts(owner) == [("c_total", 2_000, 0)]


@pytest.mark.parametrize("store", StoreKind)
async def test_queries_know_when_drained_counters_began(
    database_url: str, store: StoreKind
) -> None:
    async with (
        drained_storage(database_url, store=store) as storage,
        running_service(storage.store, promql_features=STARTS_IN_PROMQL) as service,
    ):
        for ago_ms, began_ms in ((240_000, 270_000), (180_000, 270_000), (120_000, 120_600)):
            assert await write(service, NOW_MS - ago_ms, NOW_MS - began_ms) == 204
        assert await write(service, NOW_MS - 60_000, NOW_MS - 120_600) == 204

        async def ask(expr: str) -> float:
            response = await service.get(
                "/api/v1/query", params={"query": expr, "time": NOW_MS / 1000}
            )
            (row,) = (await response.json())["data"]["result"]
            return float(row["value"][1])

        # All values are 1: only the starts tell that it rose to that twice, in 3.5 minutes, after
        # which nothing is known for one more.
        assert await ask("resets(c_total[5m])") == 1
        assert await ask("increase(c_total[5m])") == pytest.approx(2 * 4.5 / 3.5)
        assert await ask("start_timestamp(c_total)") == (NOW_MS - 120_600) / 1000


async def test_otlp_points_say_when_they_began(database_url: str) -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="requests").sum
    metric.aggregation_temporality, metric.is_monotonic = 2, True
    metric.data_points.add(
        time_unix_nano=NOW_MS * 10**6, start_time_unix_nano=(NOW_MS - 7) * 10**6 + 999_999
    )
    async with connected(database_url) as owner, opened_service(database_url) as service:
        response = await service.post(
            "/api/v1/otlp/v1/metrics",
            data=request.SerializeToString(),
            headers={"Content-Type": "application/x-protobuf"},
        )
        assert response.status == 200
        assert await starts(owner) == [("requests_total", 7, 0)]


async def test_otlp_points_of_series_that_were_removed_make_them_again(database_url: str) -> None:
    """What is remembered of the points themselves is not what is known of their series."""

    def body(time_ms: int) -> bytes:
        request = ExportMetricsServiceRequest()
        group = request.resource_metrics.add().scope_metrics.add()
        for name in ("kept", "removed"):
            counter = group.metrics.add(name=name).sum
            counter.aggregation_temporality = 2
            counter.data_points.add(time_unix_nano=time_ms * 10**6, as_int=time_ms)
        return request.SerializeToString()

    async with opened_storage(database_url) as storage, running_service(storage.store) as service:
        for number, time_ms in enumerate(range(NOW_MS - 5, NOW_MS)):
            if number == 3:
                await drain_and_compact(storage)
                await delete_samples(storage, "default", select_name("removed", 0, NOW_MS))
                await drain_and_compact(storage)
                maintenance = MaintenanceService(storage.maintenance, 0, lambda: NOW_MS)
                assert (await maintenance.run_once()).n_series_removed == 1
            response = await service.post(
                "/api/v1/otlp/v1/metrics",
                data=body(time_ms),
                headers={"Content-Type": "application/x-protobuf"},
            )
            assert (response.status, await response.read()) == (200, b"")
        _, answer = await service.ask("query", query="removed[1h]", time=str(NOW_MS / 1000))
        (series,) = answer["data"]["result"]
        assert [int(value) for _, value in series["values"]] == [NOW_MS - 2, NOW_MS - 1]
        _, answer = await service.ask(
            "query", query="count_over_time(kept[1h])", time=str(NOW_MS / 1000)
        )
        assert answer["data"]["result"][0]["value"][1] == "5"


async def test_maintenance_deletes_starts_that_no_kept_sample_has(database_url: str) -> None:
    database = await Database.open(database_url)
    step = SeriesStartStep(database.write_pool)
    try:
        async with connected(database_url) as owner:
            await owner.execute(
                "UPDATE service_retention SET days = 10;"
                "INSERT INTO tenant (name) VALUES ('t');"
                "INSERT INTO series (tenant_id, metric_name, labels, fingerprint)"
                " SELECT t.id, n, '{}', decode(md5(n), 'hex')"
                " FROM tenant AS t, unnest(ARRAY['old', 'many', 'one']) AS n;"
                # Days ago: that of 30 holds until the one of 20, which holds for kept samples.
                "INSERT INTO series_start SELECT s.id, ms, ms FROM series AS s, LATERAL (SELECT"
                " floor(extract(epoch FROM now() - d * interval '1 day') * 1000)::bigint"
                " FROM unnest(ARRAY[30, 20, 5]) AS d) AS b (ms) WHERE s.metric_name = 'old';"
                "INSERT INTO series_start SELECT s.id, 0, 0 FROM series AS s"
                " WHERE s.metric_name = 'one';"
                "INSERT INTO series_start SELECT s.id, ms, ms FROM series AS s, LATERAL (SELECT"
                " floor(extract(epoch FROM now()) * 1000)::bigint - d"
                " FROM generate_series(1, 105) AS d) AS b (ms) WHERE s.metric_name = 'many';"
                "INSERT INTO series_start VALUES (1, 0, 0)"
            )
            assert await step.plan() == 7
            assert await step.run(StepNotes(step.name)) == 7
            assert await step.plan() == 0
            kept = await owner.fetch("SELECT name, count(*) FROM metrics_start GROUP BY 1")
            assert dict(map(tuple, kept)) == {"old": 2, "many": 100, "one": 1}
    finally:
        await database.close()


async def test_maintenance_deletes_any_number_of_starts_in_short_transactions(
    database_url: str,
) -> None:
    async with connected(database_url) as owner:
        await owner.execute(
            "INSERT INTO series_start SELECT s, n, n FROM generate_series(1, 50) AS s,"
            " generate_series(1, 10) AS n;"
            "CREATE FUNCTION delay() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_sleep(0.01); RETURN OLD; END';"
            "CREATE TRIGGER delay BEFORE DELETE ON series_start FOR EACH ROW"
            " EXECUTE FUNCTION delay()"
        )
    database = await Database.open(database_url, DatabaseOptions(write_timeout_seconds=2.0))
    try:
        step = SeriesStartStep(database.write_pool, looked_at=25)
        assert await step.plan() == 500
        assert await step.run(StepNotes(step.name)) == 500
        assert await step.plan() == 0
    finally:
        await database.close()
