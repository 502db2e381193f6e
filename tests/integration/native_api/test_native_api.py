"""The native API on both editions: what is posted is what PromQL, statistics and lists show."""

import asyncio
import gzip
import json
import threading
import time
from urllib.parse import quote

import numpy as np
import pytest
from yarl import URL

from native_api.query import handlers
from promcompat.core.errors import StaleKnowledgeError
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import WriteBatch
from promcompat.metrics.maintenance_service import MaintenanceService
from sql.database.connection_pool import acquired
from tests.support.services.native_service import BASE, NativeClient, running_native_service

pytestmark = pytest.mark.integration

START = 1_700_000_100  # A multiple of five minutes.
RANGE = {"start": START - 300, "end": START + 3600}


def sample(name: str, value: object, offset: float = 0, **labels: str) -> dict[str, object]:
    return {"name": name, "value": value, "timestamp": START + offset, "labels": labels}


async def test_posted_samples_are_visible_to_promql_and_lists(native: NativeClient) -> None:
    await native.ingest(
        sample("a ünïcode.name", 1.5, host="x"),
        {"name": "m", "value": "-Infinity", "timestamp": "2023-11-14T23:15:00.5+01:00"},
        {"name": "m", "value": "NaN", "timestamp": START + 1, "source": "s"},
    )
    found = await native.prometheus("query", query='{"a ünïcode.name"}', time=str(START))
    assert found["result"][0]["value"] == [START, "1.5"]
    page = await native.get("/", name="m", order="asc", **RANGE)
    assert [
        (sample["timestamp"], sample["value"], sample["labels"]) for sample in page["samples"]
    ] == [
        ("2023-11-14T22:15:00.500Z", "-Infinity", {}),
        ("2023-11-14T22:15:01.000Z", "NaN", {"source": "s"}),
    ]
    assert (await native.get("/", source="s", **RANGE))["samples"][0]["name"] == "m"


async def test_nothing_of_an_invalid_batch_is_stored(native: NativeClient) -> None:
    batch = [
        sample("good", 1),
        sample("", 1),
        sample("m", "warm"),
        sample("m", True),
        sample("m", 1, __name__="x"),
        {"name": "m", "value": 1, "timestamp": 1_700_000_000_000},
        {"name": "m", "value": 1, "timestamp": "yesterday"},
        {"name": "m", "value": 1, "extra": 1},
        {"name": "m", "value": 1, "labels": {"source": "a"}, "source": "b"},
        {"name": "m", "value": 1, "timestamp": 4_000_000_000},
        {"name": "nul\0", "value": 1},
    ]
    problem = await native.ingest(*batch, status=400)
    fields = [fault["field"] for fault in problem["errors"]]
    assert fields == [
        "metrics[1].name",
        "metrics[2].value",
        "metrics[3].value",
        "metrics[4].labels.__name__",
        "metrics[5].timestamp",
        "metrics[6].timestamp",
        "metrics[7].extra",
        "metrics[8].source",
        "metrics[9].timestamp",
        "metrics[10].name",
    ]
    assert "milliseconds" in problem["errors"][4]["reason"]
    assert await native.get("/names") == {"names": [], "next_cursor": None}
    reply = await native.ingest(*batch, params={"partial": "true"})
    assert (reply["accepted"], reply["rejected"]) == (1, 10)
    assert [fault["index"] for fault in reply["errors"]] == list(range(1, 11))
    assert (await native.get("/names"))["names"] == ["good"]


async def test_bodies_that_cannot_be_read_are_problems(native: NativeClient) -> None:
    packed = gzip.compress(json.dumps({"metrics": [sample("m", 1)]}).encode())
    headers = {"Content-Encoding": "gzip"}
    json_type = {"Content-Type": "application/json"}
    path = "/ingest/batch"
    await native.send("POST", path, status=200, data=packed, headers=headers | json_type)
    for body in (packed[:-9], b"no gzip"):
        await native.send("POST", path, status=400, data=body, headers=headers | json_type)
    await native.send("POST", path, status=400, data=b"{", headers=json_type)
    await native.send("POST", path, status=400, data=b'{"metrics": 1}', headers=json_type)
    huge = b'{"metrics": [{"name": "m", "value": 1e400}]}'
    problem = await native.send("POST", path, status=400, data=huge, headers=json_type)
    assert problem["errors"][0]["reason"] == (
        "contains a number beyond the range of a double at line 1 column 37"
    )
    await native.send("POST", path, status=415, data=b"x", headers={"Content-Type": "text/plain"})
    problem = await native.send(
        "POST", path, status=415, data=b"x", headers=json_type | {"Content-Encoding": "br"}
    )
    assert problem["errors"][0]["field"] == "Content-Encoding"
    for value in ("NaN", "Infinity", "-Infinity"):
        body = json.dumps({"metrics": [{"name": "m", "value": float(value)}]}).encode()
        problem = await native.send("POST", path, status=400, data=body, headers=json_type)
        reason = problem["errors"][0]["reason"]
        assert reason.startswith("has NaN or an infinity without quotes, which JSON does not know")
    too_many = [sample("m", 1, offset) for offset in range(10_001)]
    await native.ingest(*too_many, status=400)
    await native.send("DELETE", "/ingest", status=405)
    await native.send("GET", "/no/such/path", status=404)
    # What was refused left nothing behind.
    assert (await native.get("/names"))["names"] == ["m"]
    assert len((await native.get("/", name="m", **RANGE))["samples"]) == 1


async def test_samples_without_a_timestamp_are_all_kept(native: NativeClient) -> None:
    """Of one request, of many at the same moment, and of equal values."""
    reply = await native.ingest({"name": "req_ms", "value": 12}, {"name": "req_ms", "value": 15})
    assert reply == {"accepted": 2, "rejected": 0, "errors": []}
    body = {"name": "req_ms", "value": 15, "timestamp": None}
    await asyncio.gather(
        *(native.send("POST", "/ingest", status=200, body=body) for _ in range(20))
    )
    # Each has a millisecond of its own, so the last ones may be ahead of the clock.
    page = await native.get("/", name="req_ms", order="asc", limit=100, end=time.time() + 60)
    assert [sample["value"] for sample in page["samples"]] == [12, *[15] * 21]
    assert len({sample["timestamp"] for sample in page["samples"]}) == 22


async def test_every_level_of_one_millisecond_is_noticed(native: NativeClient) -> None:
    threshold = {"alert_threshold": {"critical": 8}}
    await native.send("PUT", "/definitions/q", status=201, body=threshold)
    await native.ingest({"name": "q", "value": 1}, {"name": "q", "value": 9})
    async with acquired(native.storage.database.read_pool) as connection:
        levels = await connection.fetchval("SELECT array_agg(level) FROM breach_outbox")
    assert levels == [2]


async def test_conflicts_keep_the_first_value_unless_the_last_wins(native: NativeClient) -> None:
    await native.ingest(sample("m", 1), sample("n", 1))
    partly = await native.ingest(sample("m", 2), sample("m", 3, 60), status=207)
    assert (partly["accepted"], partly["rejected"]) == (1, 1)
    assert [(fault["field"], fault["index"]) for fault in partly["errors"]] == [
        ("metrics[0].value", 0)
    ]
    assert await values_of(native, "m") == [1, 3]
    problem = await native.ingest(sample("m", 2), status=409)
    assert problem["detail"].startswith("nothing was stored: metrics[0].value")
    assert problem["errors"] == partly["errors"]
    reply = await native.ingest(sample("m", 2), sample("m", 3, 60), params={"partial": "true"})
    assert reply == partly
    assert await values_of(native, "m") == [1, 3]
    body = {"duplicate_policy": "last"}
    await native.send("PUT", "/definitions/n", status=201, body=body)
    reply = await native.ingest(
        sample("n", 2), sample("n", 5, 60), sample("n", "NaN", 60), sample("n", 4)
    )
    assert reply == {"accepted": 4, "rejected": 0, "errors": []}
    assert await values_of(native, "n") == [4, "NaN"]
    await native.ingest(sample("n", 4), sample("n", 9), sample("n", 4), sample("m", 1))
    assert await values_of(native, "n") == [4, "NaN"]
    await native.send("DELETE", "/definitions/n", status=200)
    await native.ingest(sample("n", 5), status=409)


async def test_samples_beyond_a_limit_are_no_conflict(native: NativeClient) -> None:
    overrides = {"overrides": {"past_grace_period": "1h"}}
    answer = await native.client.patch("/api/v1/limits", json=overrides)
    assert answer.status == 200
    now = time.time()
    old, new = ({"name": "m", "value": 1, "timestamp": now - age} for age in (7_200, 0))
    problem = await native.ingest(old, status=400)
    assert "the sample is older than 1h (limit past_grace_period" in problem["detail"]
    assert (await native.ingest(old, new, status=207))["accepted"] == 1


@pytest.mark.parametrize("body", [b"", b" \n"])
async def test_an_empty_body_is_called_empty(native: NativeClient, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    for method, path in (
        ("POST", "/ingest"),
        ("POST", "/ingest/batch"),
        ("PUT", "/definitions/m"),
        ("POST", "/rules"),
        ("POST", "/alerts/1/acknowledge"),
    ):
        problem = await native.send(method, path, status=400, data=body, headers=headers)
        assert problem["detail"] == "body: is empty; expected a JSON document"


async def test_a_repeated_batch_may_hold_samples_without_a_timestamp(
    native: NativeClient,
) -> None:
    batch = [sample("m", 1), {"name": "now", "value": 2}]
    for _ in range(3):
        assert (await native.ingest(*batch))["accepted"] == 2
    partly = await native.ingest(sample("m", 5), {"name": "now", "value": 3}, status=207)
    assert [fault["index"] for fault in partly["errors"]] == [0]
    assert await values_of(native, "m") == [1]
    found = await native.get("/", name="now")
    assert [sample["value"] for sample in found["samples"]] == [3, 2, 2, 2]


async def values_of(native: NativeClient, name: str) -> list[object]:
    page = await native.get("/", name=name, order="asc", **RANGE)
    return [sample["value"] for sample in page["samples"]]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_neither_repeat_nor_skip_while_others_write(
    native: NativeClient, order: str
) -> None:
    batch = [
        sample("m", index, index // 3, series=str(series))
        for series in range(4)
        for index in range(0, 30, 3)
    ]
    await native.ingest(*batch)
    expected = sorted((sample["timestamp"], sample["labels"]["series"]) for sample in batch)  # type: ignore[index]
    seen: list[tuple[float, str]] = []
    cursor: dict[str, str] = {}
    for page_number in range(100):
        bounds = {"start": START, "end": START + 100}
        page = await native.get("/", name="m", order=order, limit=7, **bounds, **cursor)
        seen += [
            (START + int(sample["timestamp"][17:19]) - 0, sample["labels"]["series"])
            for sample in page["samples"]
            if sample["labels"]["series"] != "new"
        ]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
        await native.ingest(sample("m", page_number, 50 + page_number, series="new"))
    assert sorted(seen) == expected
    assert len(seen) == len(set(seen))
    await native.get("/", 400, name="other", **cursor)
    await native.get("/", 400, name="m", cursor="nonsense")


async def test_a_cursor_carries_its_range_and_belongs_to_its_filters(
    native: NativeClient,
) -> None:
    now = time.time()
    rows = [{"name": "m", "value": n, "timestamp": now - 3590 + n} for n in range(3)]
    await native.ingest(*rows)
    page = await native.get("/", name="m", order="asc", limit=1)
    cursor = page["next_cursor"]
    # The range of the first page was "the last hour" then, and stays that.
    values = [page["samples"][0]["value"]]
    while cursor:
        await native.ingest({"name": "m", "value": 9, "timestamp": now - 3600 * 2})
        page = await native.get("/", name="m", order="asc", limit=1, cursor=cursor)
        values += [sample["value"] for sample in page["samples"]]
        cursor = page["next_cursor"]
    assert values == [0, 1, 2]
    bounds = {"start": now - 3600, "end": now + 1}
    cursor = (await native.get("/", name="m", limit=1, **bounds))["next_cursor"]
    for same in ({}, bounds, {"start": bounds["start"]}):
        found = await native.get("/", name="m", limit=1, cursor=cursor, **same)
        assert found["samples"][0]["value"] == 1
    for other in ({"start": now - 60}, {"end": now}, {"label": "a=b"}, {"order": "asc"}):
        problem = await native.get("/", 400, **{"name": "m", "cursor": cursor, **other})
        assert problem["errors"][0]["field"] == "cursor"
    for path in ("/names", "/definitions", "/alerts", "/silences", "/remediations"):
        await native.get(path, 400, cursor=cursor)


async def test_filters_select_series(native: NativeClient) -> None:
    await native.ingest(*(sample("m", 1, host=host, dc="e") for host in ("a1", "a2", "b1")))

    async def hosts(*filters: str) -> list[str]:
        found = await native.get("/latest/m", label=list(filters))
        return [series["labels"]["host"] for series in found["series"]]

    assert await hosts("host=a1") == ["a1"]
    assert await hosts("host!=a1", "dc=e") == ["a2", "b1"]
    assert await hosts("host=~a.*") == ["a1", "a2"]
    assert await hosts("host!~a.*") == ["b1"]
    assert await hosts("host=") == []
    assert (await native.get("/latest/m", limit=2))["truncated"] is True
    await native.get("/latest/unheard_of", 404)


async def test_names_are_paged_by_prefix(native: NativeClient) -> None:
    await native.ingest(*(sample(name, 1) for name in ("b", "a%_1", "a_2", "a_1", "ä")))
    first = await native.get("/names", prefix="a", limit=2)
    assert first["names"] == ["a%_1", "a_1"]
    rest = await native.get("/names", prefix="a", limit=2, cursor=first["next_cursor"])
    assert rest == {"names": ["a_2"], "next_cursor": None}


async def test_statistics_are_those_of_numpy(native: NativeClient) -> None:
    random = np.random.default_rng(7)
    values = {"a": random.lognormal(3, 2, 501), "b": random.normal(0, 1e9, 2)}
    await native.ingest(
        *(
            sample("m", float(value), index, host=host)
            for host, column in values.items()
            for index, value in enumerate(column)
        )
    )
    answer = await native.get("/aggregate/m", group_by="host", **RANGE)
    assert [group["labels"] for group in answer["groups"]] == [{"host": "a"}, {"host": "b"}]
    whole = await native.get("/aggregate/m", **RANGE)
    everything = np.concatenate(list(values.values()))
    for group, column in zip(
        [*answer["groups"], *whole["groups"]], [*values.values(), everything], strict=True
    ):
        assert group["count"] == len(column)
        numpy_answers = [
            column.mean(), column.min(), column.max(), column.sum(),
            *np.percentile(column, [50, 95, 99]),
        ]  # fmt: skip
        ours = [group[name] for name in ("avg", "min", "max", "sum", "p50", "p95", "p99")]
        assert np.allclose(ours, numpy_answers, rtol=1e-13, atol=0)
    empty = await native.get("/aggregate/m", start=0, end=1)
    assert (empty["groups"][0]["count"], empty["groups"][0]["avg"]) == (0, None)


async def test_buckets_are_filled_and_grouped(native: NativeClient) -> None:
    await native.ingest(
        sample("g", 1, 60, host="a", dc="e"),
        sample("g", 2, 120, host="b", dc="e"),
        sample("g", 30, 130, host="b", dc="e"),
        sample("g", 7, 700, host="a", dc="w"),
    )
    span = {"bucket": "5m", "start": START, "end": START + 900}

    async def points(**parameters: object) -> list[object]:
        answer = await native.get("/series/g", **span, **parameters)
        return [[point["value"] for point in series["points"]] for series in answer["series"]]

    assert await points(group_by="dc") == [[11.0], [7.0]]
    assert await points(group_by="dc", fill="null") == [[11.0, None, None], [None, None, 7.0]]
    previous = [[11.0, 11.0, 11.0], [None, None, 7.0]]
    assert await points(group_by="dc", fill="previous") == previous
    assert await points(all_series="true", aggregation="p50") == [[2.0, 7.0]]
    assert await points(all_series="true", aggregation="count") == [[3.0, 1.0]]
    assert await points(aggregation="max") == [[1.0], [30.0], [7.0]]
    await native.get("/series/g", 400, bucket="1ms", start=0, end=START)
    await native.get("/series/unheard_of", 404)


async def test_definitions_change_under_preconditions(native: NativeClient) -> None:
    path = "/definitions/m%2Fslash"
    threshold = {"warning": 1, "critical": 2, "for": "5m"}
    body = {"unit": "s", "description": "d", "alert_threshold": threshold}
    made = await native.send("PUT", path, status=201, body=body, headers={"If-None-Match": "*"})
    assert made["name"] == "m/slash"
    tag = f'"{made["version"]}"'
    problem = await native.send("PUT", path, status=412, body=body, headers={"If-None-Match": "*"})
    assert problem["errors"][0]["field"] == "If-None-Match"
    await native.send("GET", path, status=304, headers={"If-None-Match": tag})
    patch = {"alert_threshold": {"critical": 3}, "description": None}
    changed = await native.send("PATCH", path, status=200, body=patch, headers={"If-Match": tag})
    assert (changed["alert_threshold"]["warning"], changed["description"]) == (1, "")
    assert (changed["alert_threshold"]["critical"], changed["unit"]) == (3, "s")
    await native.send("PATCH", path, status=412, body=patch, headers={"If-Match": tag})
    await native.send("DELETE", path, status=412, headers={"If-Match": tag})
    problem = await native.send(
        "PATCH", path, status=400, body={"alert_threshold": {"critical": 0}}
    )
    assert problem["errors"][0]["field"] == "alert_threshold"
    await native.send("DELETE", path, status=200)
    await native.send("GET", path, status=404)


SEED_DEFINITION = {
    "name": "api_latency",
    "display_name": "API latency",
    "description": "How long the API takes to answer.",
    "unit": "ms",
    "type": "histogram",
    "aggregation": "percentile",
    "retention_days": 30,
    "alert_threshold": {"warning": 500, "critical": 1000},
}


async def test_a_definition_goes_through_every_method_unchanged(native: NativeClient) -> None:
    path = "/definitions/api_latency"
    response = await native.client.post(BASE + "/definitions", json=SEED_DEFINITION)
    made = await response.json()
    assert response.status == 201
    assert response.headers["Location"] == BASE + path
    assert response.headers["ETag"] == f'"{made["version"]}"'
    assert (
        SEED_DEFINITION.items()
        <= {**made, "alert_threshold": {"warning": 500, "critical": 1000}}.items()
    )
    read = await native.get(path)
    assert read == made
    for method in ("PUT", "PATCH"):
        again = await native.send(method, path, status=200, body=read)
        assert {**again, "version": 0, "updated_at": ""} == {**read, "version": 0, "updated_at": ""}
        assert again["version"] > read["version"]
    await native.send("PUT", path, status=200, body=SEED_DEFINITION)
    problem = await native.send("POST", "/definitions", status=409, body=SEED_DEFINITION)
    assert "already has a definition" in problem["errors"][0]["reason"]
    await native.send("DELETE", path, status=200)
    await native.send("POST", "/definitions", status=201, body=SEED_DEFINITION)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_the_name_in_the_body_agrees_with_the_path(native: NativeClient, method: str) -> None:
    await native.send("PUT", "/definitions/m", status=201, body={"unit": "s"})
    problem = await native.send(method, "/definitions/m", status=400, body={"name": "n"})
    assert problem["errors"] == [
        {
            "in": "body",
            "field": "name",
            "reason": 'is "n", but the path names "m"',
            "expected": "the name in the path, or no name",
        }
    ]
    assert (await native.get("/definitions/m"))["unit"] == "s"
    for body in ({}, {"name": ""}, {"name": "x" * 3000}, {"name": "a", "unit": 1}):
        await native.send("POST", "/definitions", status=400, body=body)


@pytest.mark.parametrize(
    "name", ["a{b}", "{}", "a/b", "100%", "ä b", "a%2Fb", "a?b#c", "a+b", "..."]
)
async def test_a_metric_of_any_name_is_read_through_its_path(
    native: NativeClient, name: str
) -> None:
    await native.ingest(sample(name, 4))
    await native.send("POST", "/definitions", status=201, body={"name": name})
    part = quote(name, safe="")
    for path in ("/latest", "/aggregate", "/series", "/definitions"):
        url = URL(f"{BASE}{path}/{part}", encoded=True)
        response = await native.client.get(url)
        assert response.status == 200, path
        assert (await response.json())["name"] == name


async def test_a_path_that_is_not_utf_8_names_nothing(native: NativeClient) -> None:
    for part in ("M%FCnchen", "%ff", "%ED%A0%80", "%C3"):
        for method, path in (("PUT", f"/definitions/{part}"), ("GET", f"/latest/{part}")):
            url = URL(f"/api/v1/metrics{path}", encoded=True)
            response = await native.client.request(method, url, json={})
            problem = await response.json(content_type=None)
            assert (response.status, problem["errors"][0]["reason"]) == (400, "is not UTF-8")
    assert (await native.get("/definitions"))["definitions"] == []
    url = URL("/api/v1/metrics/definitions/M%C3%BCnchen%25FF", encoded=True)
    made = await (await native.client.put(url, json={})).json()
    assert made["name"] == "München%FF"


async def test_a_tenant_has_a_bounded_number_of_definitions(database_url: str) -> None:
    async with running_native_service(database_url, max_definitions=2) as native:
        for name in ("a", "b"):
            await native.send("PUT", f"/definitions/{name}", status=201, body={})
        for method, path in (("PUT", "/definitions/c"), ("POST", "/definitions")):
            problem = await native.send(method, path, status=409, body={"name": "c"})
            assert "PROMCOMPAT_MAX_DEFINITIONS" in problem["errors"][0]["reason"]
        await native.send("PUT", "/definitions/a", status=200, body={"unit": "s"})
        await native.send("DELETE", "/definitions/a", status=200)
        await native.send("PUT", "/definitions/c", status=201, body={})


async def test_a_definition_wins_in_the_metadata_of_prometheus(native: NativeClient) -> None:
    body = {"type": "counter", "unit": "jobs", "description": "Jobs done."}
    await native.send("PUT", "/definitions/jobs", status=201, body=body)
    assert await native.prometheus("metadata") == {
        "jobs": [{"type": "counter", "help": "Jobs done.", "unit": "jobs"}]
    }


async def test_maintenance_deletes_what_a_definition_does_not_retain(
    native: NativeClient,
) -> None:
    day, now = 86_400, int(time.time())
    ages = [n * day + 3_600 for n in range(5)]
    await native.ingest(
        *(sample(name, 1, now - START - age) for name in ("m", "n") for age in ages)
    )
    await native.send("PUT", "/definitions/m", status=201, body={"retention_days": 2})
    repository = native.storage.maintenance
    service = MaintenanceService(repository, 0, now_ms=lambda: now * 1000)
    async with repository.lock() as steps:
        assert steps is not None
        assert (await service.run_once()).is_skipped
    assert (await service.run_once()).failures == []
    span = {"start": now - 9 * day, "end": now + 1}
    assert len((await native.get("/", name="m", **span))["samples"]) == 2
    assert len((await native.get("/", name="n", **span))["samples"]) == 5


async def test_tenants_do_not_see_each_other(database_url: str) -> None:
    async with running_native_service(database_url, tenancy="header") as native:
        a, b = {"X-Scope-OrgID": "a"}, {"X-Scope-OrgID": "b"}
        await native.ingest(sample("m", 1), headers=a)
        await native.send("PUT", "/definitions/m", status=201, body={}, headers=a)
        await native.send("GET", "/names", status=401)
        for path in ("/latest/m", "/definitions/m", "/series/m"):
            await native.send("GET", path, status=404, headers=b)
        names = await native.send("GET", "/names", status=200, headers=b)
        assert names["names"] == []


async def test_what_becomes_of_samples_is_counted(native: NativeClient) -> None:
    bad = {"name": "", "value": "x"}
    await native.ingest(sample("m", 1), sample("m", 2, 60))
    await native.ingest(sample("m", 1, 120), bad, status=400)
    await native.ingest(sample("m", 1, 120), bad, params={"partial": "true"})
    await native.ingest(sample("m", 9), sample("m", 1, 180), status=207)
    await native.send("POST", "/ingest", status=200, body=sample("m", 1, 240))
    await native.send("POST", "/ingest", status=400, body=[])
    text = await (await native.client.get("/metrics")).text()
    counts = dict(
        line.removeprefix("promcompat_native_ingest_").rsplit(" ", 1)
        for line in text.splitlines()
        if line.startswith("promcompat_native_ingest_")
    )
    assert {name: float(count) for name, count in counts.items()} == {
        "requests_total": 5,
        "samples_accepted_total": 5,
        'samples_refused_total{reason="invalid"}': 2,
        'samples_refused_total{reason="withheld"}': 1,
        'samples_refused_total{reason="conflict"}': 1,
        'samples_refused_total{reason="failed"}': 0,
    }


@pytest.mark.parametrize(("n_stale", "status"), [(2, 200), (3, 503)])
async def test_a_batch_is_read_again_when_series_were_removed_meanwhile(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch, n_stale: int, status: int
) -> None:
    async with running_native_service(plain_database_url) as native:
        store, batches = native.storage.store, []
        real = store.write_batch

        async def write_batch(tenant: str, batch: WriteBatch) -> None:
            batches.append(batch)
            if len(batches) <= n_stale:
                raise StaleKnowledgeError("series were removed")
            await real(tenant, batch)

        monkeypatch.setattr(store, "write_batch", write_batch)
        await native.ingest(sample("m", 1), status=status)
        assert len(set(map(id, batches))) == 3
        found = await native.prometheus("query", query="m", time=str(START))
        assert len(found["result"]) == (status == 200)


async def test_a_tenant_says_how_long_its_samples_are_kept(native: NativeClient) -> None:
    day = 86_400
    await native.ingest(*(sample("m", 1, -n * day) for n in range(5)))
    span = {"start": START - 9 * day, "end": START + 1}
    found = await native.get("/retention")
    assert found == {"retention_days": None, "service_retention_days": 0}
    saved = await native.send("PUT", "/retention", status=200, body={"retention_days": 2})
    assert saved == {"retention_days": 2, "service_retention_days": 0}
    assert await native.get("/retention") == saved
    assert (await native.get("/", name="m", **span))["samples"] == []
    await native.send("PUT", "/definitions/m", status=201, body={"retention_days": 36_500})
    assert len((await native.get("/", name="m", **span))["samples"]) == 5
    for wrong in ({"retention_days": -1}, {"retention_days": 1.5}, {}):
        await native.send("PUT", "/retention", status=400, body=wrong)
    await native.send("PUT", "/retention", status=200, body={"retention_days": None})
    await native.send("DELETE", "/definitions/m", status=200)
    assert len((await native.get("/", name="m", **span))["samples"]) == 5


async def test_expressions_of_filters_are_checked_in_a_thread(
    native: NativeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    check = LabelMatcher.check_pattern

    def noted(matcher: LabelMatcher, max_cost: int) -> None:
        threads.add(threading.get_ident())
        check(matcher, max_cost)

    monkeypatch.setattr(LabelMatcher, "check_pattern", noted)
    await native.ingest(sample("m", 4))
    assert (await native.get("/latest/m", label="host=~(a|b)+c"))["series"] == []
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("path", ["/", "/latest/m", "/aggregate/m", "/series/m"])
async def test_long_answers_are_made_in_a_thread(
    native: NativeClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    await native.ingest(*(sample("m", number, host=f"h{number}") for number in range(200)))
    names = ("_row_documents", "_statistics_document", "render_buckets")
    threads: list[threading.Thread] = []
    for name in names:
        original = getattr(handlers, name)

        def noting(*args, original=original):  # type: ignore[no-untyped-def]
            threads.append(threading.current_thread())
            return original(*args)

        monkeypatch.setattr(handlers, name, noting)
    options = {
        "/": {"name": "m", "limit": 1000, **RANGE},
        "/latest/m": {},
        "/aggregate/m": {"group_by": "host", **RANGE},
        "/series/m": {"bucket": "5m", "group_by": "host", "limit": 1000, **RANGE},
    }[path]
    page = await native.get(path, **options)
    found = next(page[name] for name in ("samples", "groups", "series") if name in page)
    assert len(found) == 200
    assert threads
    assert threading.main_thread() not in threads
