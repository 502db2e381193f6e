"""The HTTP API on real databases of both editions: from the bytes of a sender to the answer."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from promcompat.core.model import STALE_NAN_BITS
from promcompat.metrics.maintenance_service import MaintenanceService
from sql.pushdown.rule_choice import PushdownMode
from tests.support.factories import select_name
from tests.support.formats.remote_write import (
    V2_HEADERS,
    RequestV2,
    encode_metadata,
    encode_request,
    encode_series,
)
from tests.support.services.http_service import NOW_MS, Service, running_service
from tests.support.storage.repositories import delete_samples, drain_and_compact, opened_storage

pytestmark = pytest.mark.integration

NOW = NOW_MS // 1000


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    async with (
        opened_storage(database_url, pushdown=PushdownMode.AUTO) as storage,
        running_service(storage.store, storage.catalogue, tenancy="header") as running,
    ):
        yield running


async def write(service: Service, *series: bytes, tenant: str = "t") -> tuple[int, str]:
    headers = {"Content-Type": "application/x-protobuf", "X-Scope-OrgID": tenant}
    response = await service.post("/api/v1/write", data=encode_request(series), headers=headers)
    return response.status, await response.text()


async def ask(service: Service, path: str, tenant: str = "t", **parameters: str) -> Any:
    response = await service.get(
        f"/api/v1/{path}", params=parameters, headers={"X-Scope-OrgID": tenant}
    )
    answer = await response.json()
    assert response.status == 200, answer
    return answer["data"]


async def test_samples_come_back_as_they_were_sent(service: Service) -> None:
    name, value = "a name.with dots", 'quotes " back\\slash \n and ünïcode 😀'
    pairs = [("zeta", "1"), ("__name__", name), ("label", value), ("empty", "")]
    values = [1.5, float("inf"), -0.0, 5e-324, float("nan")]
    samples = [(NOW_MS + step, number) for step, number in enumerate(values)]
    assert await write(service, encode_series(pairs, *samples)) == (204, "")
    data = await ask(service, "query", query='{"a name.with dots"}[1m]', time=str(NOW + 1))
    assert data["result"] == [
        {
            "metric": {"__name__": name, "label": value, "zeta": "1"},
            "values": [
                [NOW, "1.5"],
                [NOW + 0.001, "+Inf"],
                [NOW + 0.002, "-0"],
                [NOW + 0.003, "5e-324"],
                [NOW + 0.004, "NaN"],
            ],
        }
    ]
    assert await ask(service, "label/label/values") == [value]
    assert await ask(service, "labels") == ["__name__", "label", "zeta"]


async def test_stale_markers_end_a_series(service: Service) -> None:
    up = [("__name__", "up")]
    await write(service, encode_series(up, (NOW_MS, 1.0), (NOW_MS + 1000, STALE_NAN_BITS)))
    assert len((await ask(service, "query", query="up", time=str(NOW)))["result"]) == 1
    assert (await ask(service, "query", query="up", time=str(NOW + 1)))["result"] == []


async def test_what_the_database_cannot_hold_is_400_and_the_rest_stored(service: Service) -> None:
    good = encode_series([("__name__", "good")], (NOW_MS, 1.0))
    for bad in (
        encode_series([("__name__", "m"), ("a", "nul \x00")], (NOW_MS, 1.0)),
        encode_series([("__name__", "m" * 3_000)], (NOW_MS, 1.0)),
        encode_series([("__name__", "m")], (-(1 << 63), 1.0)),
    ):
        status, text = await write(service, bad, good)
        assert (status, text.endswith("\n")) == (400, True)
        assert len((await ask(service, "query", query="good", time=str(NOW)))["result"]) == 1


async def test_conflicts_and_repetitions(service: Service) -> None:
    up = [("__name__", "up")]
    assert (await write(service, encode_series(up, (NOW_MS, 1.0))))[0] == 204
    assert (await write(service, encode_series(up, (NOW_MS, 1.0))))[0] == 204
    assert await write(service, encode_series(up, (NOW_MS, 2.0))) == (
        400,
        f"duplicate sample for timestamp {NOW_MS}; overrides not allowed: "
        "existing 1, new value 2\n",
    )


async def test_samples_of_any_age_are_accepted(service: Service) -> None:
    up = [("__name__", "up")]
    times = [-86_400_000, 0, 86_400_000 * 365, NOW_MS]
    assert (await write(service, encode_series(up, *[(time, 1.0) for time in times])))[0] == 204
    for time in times:
        assert (await ask(service, "query", query="up", time=str(time / 1000)))["result"]


async def test_times_beyond_the_database_do_no_harm(service: Service) -> None:
    await write(service, encode_series([("__name__", "up")], (NOW_MS, 1.0)))
    for time in ("1e300", "-1e300", "NaN", "292277025-08-18T07:12:54.999999999Z"):
        data = await ask(service, "query", query="up", time=time)
        assert data["result"] == []
        data = await ask(service, "query", query="rate(up[1y] offset -1y)", time=time)
        assert data["result"] == []
    everything = {
        "start": "-292273086-05-16T16:47:06Z",
        "end": "292277025-08-18T07:12:54.999999999Z",
    }
    assert len(await ask(service, "series", **{"match[]": "up"}, **everything)) == 1
    milliseconds = {"start": str(NOW_MS - 1), "end": str(NOW_MS)}
    assert await ask(service, "series", **{"match[]": "up"}, **milliseconds) == []


async def test_tenants_are_apart(service: Service) -> None:
    for tenant in ("one", "two"):
        message = encode_series([("__name__", "up"), ("who", tenant)], (NOW_MS, 1.0))
        assert await write(service, message, tenant=tenant) == (204, "")
    for tenant in ("one", "two"):
        assert await ask(service, "label/who/values", tenant) == [tenant]
        (series,) = (await ask(service, "query", tenant, query="up", time=str(NOW)))["result"]
        assert series["metric"]["who"] == tenant
    assert await ask(service, "labels", "nobody") == []
    assert (await ask(service, "status/tsdb", "one"))["headStats"]["numSeries"] == 1


async def test_metadata(service: Service) -> None:
    body = encode_request(metadata=[encode_metadata("up", 2, "Is it up?", "none")])
    response = await service.post("/api/v1/write", data=body, headers={"X-Scope-OrgID": "t"})
    assert response.status == 415, "aiohttp's client names a content type of its own"
    headers = {"X-Scope-OrgID": "t", "Content-Type": "application/x-protobuf"}
    assert (await service.post("/api/v1/write", data=body, headers=headers)).status == 204
    expected = {"up": [{"type": "gauge", "help": "Is it up?", "unit": "none"}]}
    assert await ask(service, "metadata") == expected
    assert await ask(service, "metadata", "other") == {}


@pytest.mark.parametrize("version", [1, 2])
async def test_series_that_maintenance_removed_are_made_again(
    database_url: str, version: int
) -> None:
    """Their sender pauses for longer than their samples are kept, and goes on then."""
    names = ["removed", *(f"kept_{number}" for number in range(300))]

    async def send(service: Service, time_ms: int) -> int:
        request, headers = RequestV2(), V2_HEADERS
        for name in names:
            request.add([("__name__", name)], (time_ms, 1.0))
        body = request.body()
        if version == 1:
            headers = {"Content-Type": "application/x-protobuf"}
            body = encode_request(
                encode_series([("__name__", name)], (time_ms, 1.0)) for name in names
            )
        return (await service.post("/api/v1/write", data=body, headers=headers)).status

    async with opened_storage(database_url) as storage, running_service(storage.store) as service:
        assert await send(service, NOW_MS - 3) == 204
        assert await send(service, NOW_MS - 2) == 204
        await drain_and_compact(storage)
        await delete_samples(storage, "default", select_name("removed", 0, NOW_MS))
        await drain_and_compact(storage)
        maintenance = MaintenanceService(storage.maintenance, 0, lambda: NOW_MS)
        assert (await maintenance.run_once()).n_series_removed == 1
        assert await send(service, NOW_MS - 1) == 204
        for name, n_samples in (("removed", "1"), ("kept_7", "3")):
            query = f"count_over_time({name}[1h])"
            _, answer = await service.ask("query", query=query, time=str(NOW_MS / 1000))
            assert answer["data"]["result"][0]["value"][1] == n_samples
