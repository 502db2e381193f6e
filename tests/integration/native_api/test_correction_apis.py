"""Corrections over HTTP: the native API, the admin API of Prometheus, and alerts."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from native_api.corrections import payloads
from promcompat.core.model import Labels, SampleBlock
from tests.support.services.native_service import NativeClient, running_native_service
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration

T0 = 1_700_000_000
ADMIN = "/api/v1/admin/tsdb"


@pytest.fixture
async def native(database_url: str, tmp_path: Path) -> AsyncIterator[NativeClient]:
    async with running_native_service(
        database_url, admin_api=True, data_dir=tmp_path, store="blocks"
    ) as client:
        yield client


def sample(value: float, at: float = T0, host: str = "a", name: str = "m") -> dict[str, Any]:
    return {"name": name, "labels": {"host": host}, "timestamp": at, "value": value}


async def values(native: NativeClient, query: str, at: float = T0) -> dict[str, float]:
    """The values of an instant query by host."""
    answer = await native.prometheus("query", query=query, time=str(at))
    return {one["metric"].get("host", ""): float(one["value"][1]) for one in answer["result"]}


async def admin(native: NativeClient, path: str, method: str = "POST", **form: Any) -> Any:
    return await native.client.request(method, f"{ADMIN}/{path}", data=form)


async def correct(native: NativeClient, kind: str, status: int = 200, **body: Any) -> Any:
    return await native.send("POST", f"/corrections/{kind}", status=status, body=body)


async def test_the_samples_of_a_replacement_are_read_in_a_thread(
    native: NativeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    read = payloads._block_of

    def noted(columns: Mapping[Labels, Mapping[int, float]]) -> SampleBlock:
        threads.append(threading.current_thread())
        return read(columns)

    monkeypatch.setattr(payloads, "_block_of", noted)
    series = [{"name": "m", "samples": [[T0, 1]]}]
    await correct(native, "replace", name="m", series=series)
    assert len(threads) == 1
    assert threading.main_thread() not in threads


async def test_native_corrections_are_seen_at_once_and_recorded(native: NativeClient) -> None:
    await native.ingest(sample(1), sample(2, T0 + 60), sample(3, host="b"))
    query, span = "m", {"start": T0, "end": T0 + 60}
    assert await values(native, query) == {"a": 1, "b": 3}
    counted = await correct(native, "delete", name="m", **span, dry_run=True)
    assert counted["affected"] == {"series": 2, "samples": 2, "is_complete": True}
    assert (counted["state"], counted["id"]) == ("dry_run", None)
    assert await values(native, query) == {"a": 1, "b": 3}
    replaced = await correct(
        native,
        "replace",
        name="m",
        labels=["host=a"],
        **span,
        series=[{"name": "m", "labels": {"host": "a"}, "samples": [[T0 + 1, 7], [T0, "NaN"]]}],
    )
    assert replaced["affected"]["samples"] == 1
    assert await values(native, query, T0 + 1) == {"a": 7, "b": 3}
    scaled = await correct(native, "scale", name="m", factor=10, offset=1, requested_by="ana")
    assert (scaled["state"], scaled["affected"]["samples"]) == ("done", 3)
    assert await values(native, query, T0 + 60) == {"a": 21, "b": 31}
    deleted = await correct(native, "delete", name="m", labels=["host=b"], reason="a test")
    assert await values(native, query, T0 + 60) == {"a": 21}
    assert deleted["is_hidden_only"] is True
    listed = (await native.get("/corrections"))["corrections"]
    assert [one["kind"] for one in listed] == ["delete", "scale", "replace"]
    assert (listed[0]["reason"], listed[1]["requested_by"]) == ("a test", "ana")
    assert listed[2]["requested_by"] == "127.0.0.1"
    assert await native.get(f"/corrections/{scaled['id']}") == scaled


async def test_results_of_earlier_queries_are_not_repeated(native: NativeClient) -> None:
    await native.ingest(*(sample(at, T0 + 60 * at) for at in range(60)))
    grid = {"query": "m", "start": str(T0), "end": str(T0 + 3540), "step": "60"}
    for _ in range(2):
        before = await native.prometheus("query_range", **grid)
    assert len(before["result"][0]["values"]) == 60
    await correct(native, "scale", name="m", factor=2, start=T0 + 600, end=T0 + 660)
    await correct(native, "delete", name="m", start=T0 + 1200, end=T0 + 1800)
    for _ in range(2):
        after = await native.prometheus("query_range", **grid)
        found = {int(at) - T0: float(value) for at, value in after["result"][0]["values"]}
        assert (found[600], found[540]) == (20.0, 9.0)
        assert found[1200] == 19.0, "the lookback finds the last sample before the gap"
        assert 1500 not in found
    await correct(native, "rename", name="m", new_name="n")
    assert (await native.prometheus("query_range", **grid))["result"] == []
    span = {"start": str(T0), "end": str(T0 + 3540)}
    series = await native.prometheus("series", **{"match[]": '{host="a"}'}, **span)
    assert series == [{"__name__": "n", "host": "a"}]


async def test_definition_stays_where_it_is_and_alerts_follow_the_samples(
    native: NativeClient,
) -> None:
    """The threshold of the old name loses its alert; one of the new name finds the moved sample."""
    threshold = {"alert_threshold": {"warning": 10, "critical": 20}}
    for name in ("m", "n"):
        await native.send("PUT", f"/definitions/{name}", status=201, body=threshold)
    await native.services.thresholds.dispatch_breaches()
    now = native.services.metrics.now_ms() / 1000
    await native.ingest(sample(15, now))

    async def open_alerts() -> list[str]:
        await native.services.thresholds.dispatch_breaches()
        await native.services.thresholds.verify()
        found = (await native.get("/alerts", state="firing"))["alerts"]
        return sorted(alert["labels"]["alertname"] for alert in found)

    assert await open_alerts() == ["m"]
    renamed = await correct(native, "rename", name="m", new_name="n")
    assert "the definition of 'm'" in renamed["warnings"][0]
    assert await open_alerts() == ["n"]
    await correct(native, "scale", name="n", factor=0.1)
    assert await open_alerts() == []
    await correct(native, "scale", name="n", factor=100)
    assert await open_alerts() == ["n"]
    await correct(native, "delete", name="n")
    assert await open_alerts() == []


async def test_requests_that_cannot_be_meant(native: NativeClient) -> None:
    for kind, body, field in (
        ("delete", {}, "name"),
        ("delete", {"name": "m", "start": 2, "end": 1}, "start"),
        ("rename", {"name": "m"}, "new_name"),
        ("rename", {"name": "m", "set_labels": {"__name__": "x"}}, "set_labels"),
        ("scale", {"name": "m", "factor": "2"}, "factor"),
        ("replace", {"name": "m", "series": []}, "series"),
        (
            "replace",
            {"name": "m", "series": [{"name": "n", "samples": [[T0, 1]]}]},
            "series[0]",
        ),
        (
            "replace",
            {"name": "m", "series": [{"name": "m", "samples": [[T0, 1], [T0, 2]]}]},
            "series[0].samples[1]",
        ),
    ):
        problem = await correct(native, kind, 400, **body)
        assert [fault["field"] for fault in problem["errors"]] == [field], problem
    assert (await native.get("/corrections"))["corrections"] == []


async def test_admin_api_answers_as_prometheus(native: NativeClient, database_url: str) -> None:
    await native.ingest(sample(1), sample(2, T0 + 60), sample(3, host="b"))
    for form, text in (
        ({}, "no match[] parameter provided"),
        (
            {"match[]": "m", "start": "abc"},
            'invalid parameter "start": invalid time value for \'start\': cannot parse "abc" to '
            "a valid timestamp",
        ),
        ({"match[]": "m["}, 'invalid parameter "match[]": 1:2: parse error: unexpected "["'),
    ):
        response = await admin(native, "delete_series", **form)
        answer = await response.json()
        assert (response.status, answer["errorType"]) == (400, "bad_data")
        assert answer["error"].startswith(text), answer
    response = await admin(native, "delete_series", "PUT", **{"match[]": "m", "start": T0 + 60})
    assert (response.status, await response.read()) == (204, b"")
    assert await values(native, "m", T0 + 60) == {"a": 1, "b": 3}
    response = await admin(native, "delete_series", **{"match[]": "m", "end": T0 - 1})
    assert response.status == 204
    assert await values(native, "m") == {"a": 1, "b": 3}
    async with connected(database_url) as owner:
        hidden = "SELECT count(*) FROM arrival WHERE kind = 3"
        assert await owner.fetchval(hidden) == 2
        assert (await admin(native, "clean_tombstones")).status == 204
        assert await owner.fetchval(hidden) == 0
        assert await owner.fetchval("SELECT count(*) FROM sample_deletion") == 0
    # A selector without matchers selects nothing; one that any series matches selects all.
    for selector, left in (("{}", {"a": 1, "b": 3}), ('{nope=""}', {})):
        response = await admin(native, "delete_series", **{"match[]": selector})
        assert response.status == 204
        assert await values(native, "m") == left
    flags = await native.prometheus("status/flags")
    assert flags["web.enable-admin-api"] == "true"


async def test_snapshot_is_a_backup_in_the_data_folder(
    native: NativeClient, tmp_path: Path
) -> None:
    await native.ingest(sample(1))
    response = await admin(native, "snapshot", skip_head="abc")
    assert (await response.json())["error"] == (
        'invalid parameter "skip_head": unable to parse boolean: strconv.ParseBool: parsing "abc": '
        "invalid syntax"
    )
    sizes = []
    for skip_head in ("", "true"):
        response = await admin(native, "snapshot", skip_head=skip_head)
        answer = await response.json()
        assert response.status == 200, answer
        file = tmp_path / "snapshots" / f"{answer['data']['name']}.dump"
        assert file.stat().st_mode & 0o777 == 0o600
        with file.open("rb") as opened:
            assert await asyncio.to_thread(opened.read, 5) == b"PGDMP"
        sizes.append(file.stat().st_size)
    assert sizes[0] > sizes[1], "without the head it has no arrivals"
    assert len(list((tmp_path / "snapshots").iterdir())) == 2
