"""Limits of tenants through the HTTP service, and their overrides: API, file, other replicas."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse

from promcompat.configuration.settings import TENANT_HEADER
from promcompat.core.limits.limit_definitions import LIMITS
from promcompat.http.context import TELEMETRY
from tests.support.formats.remote_write import encode_request, encode_series
from tests.support.services.native_service import NativeClient, running_native_service
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration

NOW_MS = int(time.time() * 1000)
WRITE = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}


def series(name: str, count: int, first: int = 0, at_ms: int = NOW_MS) -> list[bytes]:
    return [
        encode_series([("__name__", name), ("i", str(i))], (at_ms, 1.0))
        for i in range(first, first + count)
    ]


async def write(service: NativeClient, *messages: bytes, tenant: str = "a") -> ClientResponse:
    return await service.client.post(
        "/api/v1/write", data=encode_request(messages), headers={**WRITE, TENANT_HEADER: tenant}
    )


async def set_limits(service: NativeClient, tenant: str = "a", **overrides: object) -> Any:
    response = await service.client.put(
        "/api/v1/limits", json={"overrides": overrides}, headers={TENANT_HEADER: tenant}
    )
    assert response.status == 200, await response.text()
    return await response.json()


async def count(service: NativeClient, selector: str, tenant: str = "a") -> int:
    response = await service.client.get(
        "/api/v1/query",
        params={"query": f"count({selector}) or vector(0)", "time": str(NOW_MS / 1000)},
        headers={TENANT_HEADER: tenant},
    )
    return int((await response.json())["data"]["result"][0]["value"][1])


def refusals(service: NativeClient, reason: str, tenant: str = "a") -> float:
    telemetry = service.client.app[TELEMETRY]  # type: ignore[union-attr]
    labels = {"tenant": tenant, "reason": reason}
    counts = (
        telemetry.registry.get_sample_value(name, labels)
        for name in ("promcompat_discarded_samples_total", "promcompat_refused_requests_total")
    )
    return sum(found or 0.0 for found in counts)


async def test_known_series_go_on_where_new_ones_are_refused(database_url: str) -> None:
    async with running_native_service(database_url, tenancy="header") as service:
        assert (await write(service, *series("up", 5))).status == 204
        await set_limits(service, max_global_series_per_user=8)
        assert (await write(service, *series("up", 3, 5))).status == 204
        for _ in range(2):  # the second time, the refusal is remembered
            later = NOW_MS + 1_000
            refused = await write(service, *series("up", 4, 6, later))
            assert refused.status == 400
            assert "per-user series limit of 8 exceeded" in await refused.text()
            assert await count(service, "up offset -2s") == 8
        assert refusals(service, "per_user_series_limit") == 4
        assert (await write(service, *series("up", 9), tenant="b")).status == 204
        await set_limits(service)
        assert (await write(service, *series("up", 4, 6, NOW_MS + 1_000))).status == 204


async def test_a_metric_has_a_bounded_number_of_series(database_url: str) -> None:
    async with running_native_service(
        database_url, tenancy="header", max_global_series_per_metric=3
    ) as service:
        mixed = await write(service, *series("up", 5), *series("down", 2))
        assert mixed.status == 400
        assert "per-metric series limit of 3 exceeded" in await mixed.text()
        assert [await count(service, name) for name in ("up", "down")] == [3, 2]
        assert refusals(service, "per_metric_series_limit") == 2


async def test_the_number_of_series_is_counted_as_they_come_and_go(database_url: str) -> None:
    async with running_native_service(database_url, tenancy="header") as service:
        await asyncio.gather(*(write(service, *series("up", 5, 3 * i)) for i in range(4)))
        assert await service.services.limits.usage("a")
        async with connected(database_url) as connection:

            async def counted() -> tuple[int, int]:
                row = await connection.fetchrow(
                    "SELECT (SELECT sum(n_series) FROM promcompat.series_generation),"
                    " (SELECT count(*) FROM promcompat.series)"
                )
                return row[0], row[1]

            assert await counted() == (14, 14)
            await connection.execute("DELETE FROM promcompat.series WHERE labels ->> 'i' < '2'")
            n_counted, n_stored = await counted()
            assert n_counted == n_stored < 14


@pytest.mark.parametrize(
    ("limit", "value", "labels", "reason"),
    [
        ("max_label_names_per_series", 2, [("x", "1"), ("y", "1")], "max_label_names_per_series"),
        ("max_label_name_length", 8, [("long_name_", "1")], "label_name_too_long"),
        ("max_label_value_length", 8, [("x", "long value")], "label_value_too_long"),
    ],
)
async def test_a_tenant_has_its_own_limits_of_labels(
    database_url: str, limit: str, value: int, labels: list[tuple[str, str]], reason: str
) -> None:
    large = encode_series([("__name__", "m"), *labels], (NOW_MS, 1.0))
    async with running_native_service(database_url, tenancy="header") as service:
        await set_limits(service, **{limit: value})
        refused = await write(service, large, *series("ok", 1))
        assert refused.status == 400
        assert [await count(service, name) for name in ("m", "ok")] == [0, 1]
        assert refusals(service, reason) == 1
        sample = {"name": "m", "value": 1, "labels": dict(labels)}
        await service.send("POST", "/ingest", status=400, body=sample, headers={TENANT_HEADER: "a"})
        assert refusals(service, reason) == 2
        assert (await write(service, large, tenant="b")).status == 204


async def test_samples_of_other_times_are_refused_by_the_periods_of_the_tenant(
    database_url: str,
) -> None:
    async with running_native_service(database_url, tenancy="header") as service:
        week_ago, ahead = NOW_MS - 7 * 86_400_000, NOW_MS + 1_800_000
        assert (await write(service, *series("old", 1, 0, week_ago))).status == 204
        await set_limits(service, past_grace_period="1d", creation_grace_period="1h")
        refused = await write(service, *series("old", 1, 1, week_ago), *series("up", 1))
        assert refused.status == 400
        assert "the sample is older than 1d" in await refused.text()
        assert await count(service, "up") == 1
        assert (await write(service, *series("up", 1, 1, ahead))).status == 204
        assert (await write(service, *series("up", 1, 1, ahead), tenant="b")).status == 400
        assert refusals(service, "too_far_in_past") == 1
        assert refusals(service, "too_far_in_future", "b") == 1


async def test_more_overrides_than_limits_are_refused_at_once(database_url: str) -> None:
    async with running_native_service(database_url) as service:
        overrides = {f"limit_{number}": 1 for number in range(1_000)}
        refused = await service.client.put("/api/v1/limits", json={"overrides": overrides})
        (found,) = (await refused.json())["errors"]
        assert (refused.status, found["reason"]) == (400, "has 1000 entries")


async def test_durations_have_a_unit(database_url: str) -> None:
    async with running_native_service(database_url) as service:
        overrides = {"past_grace_period": 600, "creation_grace_period": "10m"}
        refused = await service.client.put("/api/v1/limits", json={"overrides": overrides})
        (found,) = (await refused.json())["errors"]
        assert (refused.status, found["field"]) == (400, "overrides.past_grace_period")
        overrides["past_grace_period"] = "10m"
        assert (await service.client.put("/api/v1/limits", json={"overrides": overrides})).ok
        patch = {"overrides": {"past_grace_period": "1h", "max_rules": 3}}
        patched = await service.client.patch("/api/v1/limits", json=patch)
        assert (await patched.json())["overrides"] == {
            "past_grace_period": "1h",
            "creation_grace_period": "10m",
            "max_rules": 3,
        }


async def test_a_tenant_writes_no_faster_than_its_rate(database_url: str) -> None:
    async with running_native_service(database_url, tenancy="header") as service:
        await set_limits(service, ingestion_rate=1, ingestion_burst_size=10)
        assert (await write(service, *series("up", 9))).status == 204
        too_fast = await write(service, *series("up", 9))
        assert too_fast.status == 429
        assert 1 <= int(too_fast.headers["Retry-After"]) <= 60
        assert "ingestion rate limit of 1 samples/s" in await too_fast.text()
        too_many = await write(service, *series("up", 11))
        assert too_many.status == 400
        assert "burst size limit of 10" in await too_many.text()
        sample = {"metrics": [{"name": "m", "value": 1}] * 9}
        native = await service.client.post(
            "/api/v1/metrics/ingest/batch", json=sample, headers={TENANT_HEADER: "a"}
        )
        assert (native.status, "Retry-After" in native.headers) == (429, True)
        assert refusals(service, "rate_limited") == 18
        assert refusals(service, "burst_exceeded") == 11
        assert (await write(service, *series("up", 100), tenant="b")).status == 204


async def test_replicas_admit_the_rate_together(database_url: str) -> None:
    async with AsyncExitStack() as opened:
        services = [
            await opened.enter_async_context(running_native_service(database_url, tenancy="header"))
            for _ in range(2)
        ]
        await set_limits(services[0], ingestion_rate=1, ingestion_burst_size=1000)

        async def exchange() -> None:
            for service in (*services, *services):
                await service.services.limits.refresh()

        await exchange()
        for service in services:
            assert (await write(service, *series("up", 1))).status == 204
        await exchange()
        assert (await write(services[0], *series("up", 900))).status == 204
        await exchange()
        assert (await write(services[1], *series("up", 900))).status == 429


async def test_another_replica_follows_an_override_within_seconds(
    database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "limits.yml"
    file.write_text("overrides: {a: {max_rules: 7, max_definitions: 5}}")
    settings = {"tenancy": "header", "limits_file": file}
    async with AsyncExitStack() as opened:
        first, second = [
            await opened.enter_async_context(running_native_service(database_url, **settings))
            for _ in range(2)
        ]
        await set_limits(first, max_rules=3)

        async def refreshed(name: str) -> tuple[int, str]:
            await second.services.limits.refresh()
            found = second.services.limits.values("a")[name]
            return found.value, found.source.value

        assert await refreshed("max_rules") == (3, "override")
        assert await refreshed("max_definitions") == (5, "file")
        await first.client.delete("/api/v1/limits", headers={TENANT_HEADER: "a"})
        assert await refreshed("max_rules") == (7, "file")
        file.write_text("overrides: {a: {max_magic: 1}}")
        assert await refreshed("max_rules") == (7, "file")
        assert "max_magic" in second.services.limits.file_fault
        file.write_text("overrides: {}")
        assert await refreshed("max_rules") == (10_000, "setting")


async def test_whoever_has_an_earlier_version_is_told_what_the_file_changed(
    plain_database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "limits.yml"
    file.write_text("overrides: {a: {max_rules: 7}}")
    settings = {"tenancy": "header", "limits_file": file}
    async with running_native_service(plain_database_url, **settings) as service:
        headers = {TENANT_HEADER: "a"}
        before = await service.client.get("/api/v1/limits", headers=headers)
        file.write_text("overrides: {a: {max_rules: 11}}")
        await service.services.limits.refresh()
        known = {**headers, "If-None-Match": before.headers["ETag"]}
        after = await service.client.get("/api/v1/limits", headers=known)
        assert after.status == 200
        assert {one["name"]: one for one in (await after.json())["limits"]}["max_rules"][
            "value"
        ] == 11


async def test_the_api_has_every_limit_and_changes_it_by_version(database_url: str) -> None:
    async with running_native_service(database_url, tenancy="header") as service:
        headers = {TENANT_HEADER: "a"}
        before = await service.client.get("/api/v1/limits", headers=headers)
        assert [one["name"] for one in (await before.json())["limits"]] == [
            limit.name for limit in LIMITS
        ]
        tag = before.headers["ETag"]
        body = {"overrides": {"past_grace_period": "2h", "weight": 4}}
        for status in (200, 412):
            changed = await service.client.put(
                "/api/v1/limits", json=body, headers={**headers, "If-Match": tag}
            )
            assert changed.status == status
        patch = {"overrides": {"weight": None, "max_rules": 2}}
        patched = await service.client.patch("/api/v1/limits", json=patch, headers=headers)
        found = await patched.json()
        assert found["overrides"] == {"past_grace_period": "2h", "max_rules": 2}
        assert found["version"] == 3
        wrong = await service.client.put(
            "/api/v1/limits", json={"overrides": {"weight": 0, "x": 1}}, headers=headers
        )
        assert wrong.status == 400
        assert {one["field"] for one in (await wrong.json())["errors"]} == {
            "overrides.weight",
            "overrides.x",
        }


async def test_usage_says_how_near_the_limits_are(database_url: str) -> None:
    async with running_native_service(database_url, tenancy="header", max_rules=4) as service:
        await write(service, *series("up", 3))
        await set_limits(service, max_global_series_per_user=12)
        headers = {TENANT_HEADER: "a"}
        usage = await (await service.client.get("/api/v1/usage", headers=headers)).json()
        near = {one["name"]: one for one in usage["limits"]}
        assert near["max_global_series_per_user"] == {
            "name": "max_global_series_per_user",
            "used": 3,
            "limit": 12,
            "share": 0.25,
        }
        assert near["max_rules"]["limit"] == 4
        mimir = await (await service.client.get("/api/v1/user_limits", headers=headers)).json()
        assert mimir["max_global_series_per_user"] == 12


async def ask(service: NativeClient, path: str, **parameters: str) -> tuple[int, str]:
    response = await service.client.get(
        f"/api/v1/{path}", params=parameters, headers={TENANT_HEADER: "a"}
    )
    return response.status, await response.text()


@pytest.mark.parametrize(
    ("limit", "value", "status", "text", "reason"),
    [
        ("max_total_query_length", "1h", 400, "exceeds the limit of 1h", "max_total_query_length"),
        ("max_fetched_series_per_query", 2, 422, "limit: 2 series", "max_series_per_query"),
        ("max_samples_per_query", 2, 422, "too many samples", "max_samples_per_query"),
        (
            "max_estimated_memory_consumption_per_query",
            100,
            422,
            "more than 100 bytes",
            "max_memory_per_query",
        ),
    ],
)
async def test_a_query_is_bounded_by_the_limits_of_its_tenant(
    plain_database_url: str, limit: str, value: object, status: int, text: str, reason: str
) -> None:
    async with running_native_service(plain_database_url, tenancy="header") as service:
        await write(service, *series("up", 3))
        times = {"start": str(NOW_MS / 1000 - 7200), "end": str(NOW_MS / 1000), "step": "60"}
        assert (await ask(service, "query_range", query="up + 1", **times))[0] == 200
        await set_limits(service, **{limit: value})
        answered, content = await ask(service, "query_range", query="up + 2", **times)
        assert (answered, text in content) == (status, True), content
        assert refusals(service, reason) == 1


async def test_native_ranges_are_bounded_by_the_limit_of_the_length_of_queries(
    plain_database_url: str,
) -> None:
    async with running_native_service(plain_database_url, max_total_query_length="1h") as service:
        hour_ms = NOW_MS - NOW_MS % 3_600_000
        one = {"name": "m", "value": 7, "timestamp": (hour_ms - 7_000_000) / 1000}
        await service.ingest(one, {**one, "value": 8, "timestamp": hour_ms / 1000 - 5000})
        end = str(hour_ms / 1000)
        long, short = ({"start": str(hour_ms / 1000 - n), "end": end} for n in (3600.001, 3600))
        for path, asked in [
            ("/aggregate/m", {}),
            ("/series/m", {"bucket": "5m", "aggregation": "avg"}),
            ("/series/m", {"bucket": "5m", "aggregation": "p50"}),
            ("/series/m", {"bucket": "52w", "aggregation": "avg"}),
        ]:
            problem = await service.get(path, 400, **asked, **long)
            (fault,) = problem["errors"]
            assert fault["field"] == "start"
            assert "exceeds the limit of 1h" in fault["reason"]
            await service.get(path, **asked, **short)
        # The value before the range is searched no further back than a query may.
        carried = await service.get("/series/m", bucket="5m", fill="previous", **short)
        assert {point["value"] for point in carried["series"][0]["points"]} == {8.0}


@pytest.mark.parametrize(
    ("limit", "path", "bodies", "status", "reason"),
    [
        (
            "ruler_max_rule_groups_per_tenant",
            "rules",
            [{"name": "R", "group": group, "expr": "up > 0"} for group in "gh"],
            409,
            "max_rule_groups",
        ),
        (
            "max_rules",
            "rules",
            [{"name": name, "group": "g", "expr": "up > 0"} for name in "RS"],
            409,
            "max_rules",
        ),
        ("max_definitions", "definitions", [{"name": "m"}, {"name": "n"}], 409, "max_definitions"),
        (
            "alertmanager_max_silences_count",
            "silences",
            [
                {
                    "labels": {"a": value},
                    "reason": "r",
                    "actor": "me",
                    "ends_at": "2099-01-01T00:00:00Z",
                }
                for value in "xy"
            ],
            409,
            "max_silences",
        ),
    ],
)
async def test_what_a_tenant_may_have_is_bounded(
    plain_database_url: str,
    limit: str,
    path: str,
    bodies: list[dict[str, Any]],
    status: int,
    reason: str,
) -> None:
    headers = {TENANT_HEADER: "a"}
    async with running_native_service(plain_database_url, tenancy="header") as service:
        await set_limits(service, **{limit: 1})
        await service.send("POST", f"/{path}", status=201, body=bodies[0], headers=headers)
        refused = await service.send(
            "POST", f"/{path}", status=status, body=bodies[1], headers=headers
        )
        assert limit in refused["detail"]
        assert refusals(service, reason) == 1
        await service.send(
            "POST", f"/{path}", status=201, body=bodies[1], headers={TENANT_HEADER: "b"}
        )


TEXT = "x" * 1000


@pytest.mark.parametrize(
    ("limit", "path", "small", "large"),
    [
        (
            "max_rules_bytes",
            "rules",
            {"name": "R", "expr": "up > 0"},
            {"name": "R", "expr": "up > 0", "annotations": {"a": TEXT}},
        ),
        (
            "max_definitions_bytes",
            "definitions",
            {"name": "m"},
            {"name": "m", "alert_threshold": {"warning": 1, "overrides": [
                {"labels": {"a": TEXT}, "warning": 2}
            ]}},
        ),
        (
            "max_dashboards_bytes",
            "dashboards",
            {"uid": "u", "dashboard": {"title": "T"}},
            {"uid": "u", "dashboard": {"title": "T", "description": TEXT}},
        ),
    ],
)  # fmt: skip
async def test_what_a_tenant_has_is_bounded_in_bytes(
    plain_database_url: str,
    limit: str,
    path: str,
    small: dict[str, Any],
    large: dict[str, Any],
) -> None:
    """Neither a new thing nor a change may add to more than the limit; what shrinks is let in."""
    headers = {TENANT_HEADER: "a"}
    async with running_native_service(plain_database_url, tenancy="header") as service:
        await set_limits(service, **{limit: 900})
        refused = await service.send("POST", f"/{path}", status=409, body=large, headers=headers)
        assert limit in refused["detail"]
        made = await service.send("POST", f"/{path}", status=201, body=small, headers=headers)
        one = f"/{path}/{made.get('id') or made.get('name') or made.get('uid')}"
        await service.send("PUT", one, status=409, body=large, headers=headers)
        assert refusals(service, limit) == 2
        await set_limits(service, **{limit: 5000})
        await service.send("PUT", one, status=200, body=large, headers=headers)
        usage = await (await service.client.get("/api/v1/usage", headers=headers)).json()
        used = {one["name"]: one["used"] for one in usage["limits"]}
        assert (used[limit.removesuffix("_bytes")], used[limit] > 1000) == (1, True)
        await set_limits(service, **{limit: 500})
        kept = limit == "max_dashboards_bytes"
        await service.send("PUT", one, status=409 if kept else 200, body=small, headers=headers)
        await service.send("DELETE", one, status=200, headers=headers)
        await service.send("POST", f"/{path}", status=201, body=small, headers=headers)


async def test_groups_of_rules_are_bounded_in_bytes(plain_database_url: str) -> None:
    async with running_native_service(plain_database_url, tenancy="header") as service:
        await set_limits(service, max_rules_bytes=900)

        async def store(*texts: str) -> tuple[int, str]:
            rules = [{"alert": "R", "expr": "up", "annotations": {"a": text}} for text in texts]
            answer = await service.client.post(
                "/api/v1/rules/n",
                json={"name": "g", "rules": rules},
                headers={TENANT_HEADER: "a", "Content-Type": "application/yaml"},
            )
            return answer.status, await answer.text()

        assert (await store("x" * 300, "y" * 300))[0] == 202
        assert (await store("x" * 500))[0] == 202
        assert (await store("z" * 600))[0] == 202
        status, text = await store("x" * 300, "z" * 600)
        assert (status, "max_rules_bytes" in text) == (400, True)
