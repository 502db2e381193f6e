"""Status, rules, targets, operations, and what becomes of wrong requests."""

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest

from promcompat.api.routes import ROUTES
from promcompat.core.errors import StorageUnavailableError
from promcompat.core.model import SampleBlock, SeriesSelection
from promcompat.core.ports import CheckBytes, any_bytes
from promcompat.http.context import Phase
from tests.support.factories import make_batch, make_labels
from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import Service
from tests.unit.api.conftest import StartService


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("rules", {"groups": []}),
        ("rules?type=alert&match[]=up&file[]=x&exclude_alerts=true&group_limit=5", {"groups": []}),
        ("alerts", {"alerts": []}),
        ("alertmanagers", {"activeAlertmanagers": [], "droppedAlertmanagers": []}),
        ("targets", {"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}}),
        ("targets/metadata", []),
        ("scrape_pools", {"scrapePools": []}),
        ("status/walreplay", {"min": 0, "max": 0, "current": 0}),
        ("notifications", []),
    ],
)
async def test_what_is_always_empty(service: Service, path: str, data: Any) -> None:
    response = await service.get(f"/api/v1/{path}")
    assert (response.status, await response.json()) == (200, {"status": "success", "data": data})


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("rules?type=foo", 'invalid parameter "type": not supported value "foo"'),
        (
            "rules?group_limit=0",
            'invalid parameter "group_limit": group_limit needs to be greater than 0',
        ),
        (
            "rules?group_limit=9223372036854775808",
            'invalid parameter "group_limit": group_limit needs to be a valid number: '
            'strconv.ParseInt: parsing "9223372036854775808": value out of range',
        ),
        (
            "rules?group_limit=x",
            'invalid parameter "group_limit": group_limit needs to be a valid number: '
            'strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (
            "rules?group_next_token=x",
            'invalid parameter "group_next_token": group_limit needs to be present in order to '
            "paginate over the groups",
        ),
        (
            "rules?group_limit=1&group_next_token=x",
            "invalid parameter \"group_next_token\": invalid group_next_token 'x'. "
            "were rule groups changed?",
        ),
        (
            "rules?exclude_alerts=foo",
            'invalid parameter "exclude_alerts": error converting exclude_alerts: '
            'strconv.ParseBool: parsing "foo": invalid syntax',
        ),
        ("targets/metadata?limit=x", "limit must be a number"),
        ("status/tsdb?limit=0", "limit must be a positive number"),
        ("status/tsdb?limit=x", "limit must be a positive number"),
    ],
)
async def test_bad_data(service: Service, path: str, error: str) -> None:
    response = await service.get(f"/api/v1/{path}")
    assert response.status == 400
    assert await response.json() == {"status": "error", "errorType": "bad_data", "error": error}


async def test_build_information_is_all_strings(service: Service) -> None:
    _, answer = await service.ask("status/buildinfo")
    assert set(answer["data"]) == {
        "version", "revision", "branch", "buildUser", "buildDate", "goVersion",
    }  # fmt: skip
    assert all(isinstance(value, str) for value in answer["data"].values())
    assert answer["data"]["version"] == "3.14.0"


async def test_features_say_what_the_language_has(start_service: StartService) -> None:
    service = await start_service(promql_features=("promql-binop-fill-modifiers",))
    _, answer = await service.ask("features")
    language, functions = answer["data"]["promql"], answer["data"]["promql_functions"]
    assert (language["fill_left"], language["smoothed"], language["duration_expr"]) == (
        True,
        False,
        True,
    )
    assert (functions["rate"], functions["info"]) == (True, False)
    assert answer["data"]["promql_operators"]["limitk"] is False
    assert answer["data"]["promql_operators"]["</"] is True


async def test_flags_and_config_hide_the_password(start_service: StartService) -> None:
    service = await start_service(database_url="postgresql://me:pa55word@h/db")
    _, flags = await service.ask("status/flags")
    _, config = await service.ask("status/config")
    assert "pa55word" not in str(flags) + str(config)
    assert flags["data"]["query.timeout"] == "2m"
    assert all(isinstance(value, str) for value in flags["data"].values())
    assert isinstance(config["data"]["yaml"], str)


async def test_runtime_information(service: Service) -> None:
    _, answer = await service.ask("status/runtimeinfo")
    assert answer["data"]["startTime"].endswith("Z")
    assert answer["data"]["reloadConfigSuccess"] is True


async def test_cardinality(start_service: StartService) -> None:
    store = InMemoryStore()
    series = {make_labels("up", job=str(i)): [(i + 1, 1.0)] for i in range(3)}
    service = await start_service(store)
    _, answer = await service.ask("status/tsdb", limit="1")
    head = answer["data"]["headStats"]
    assert (head["minTime"], head["maxTime"]) == ((1 << 63) - 1, -(1 << 63))
    await store.write_batch("default", make_batch(series))
    _, answer = await service.ask("status/tsdb", limit="1")
    head = answer["data"]["headStats"]
    assert (head["numSeries"], head["minTime"], head["maxTime"]) == (3, 1, 3)
    assert answer["data"]["seriesCountByMetricName"] == [{"name": "up", "value": 3}]
    assert answer["data"]["labelValueCountByLabelName"] == [{"name": "job", "value": 3}]


async def test_admin_api_is_off(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    response = await service.post("/api/v1/admin/tsdb/delete_series")
    assert response.status == 500
    assert await response.json() == {
        "status": "error",
        "errorType": "unavailable",
        "error": "admin APIs disabled",
    }
    assert not caplog.records


async def test_unknown_paths_are_404(service: Service) -> None:
    for path in ("/nosuch", "/api/v1/nosuch", "/api/v1/label//values", "/prometheus/nosuch"):
        response = await service.get(path)
        assert (response.status, await response.text()) == (404, "404 page not found\n"), path


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/api/v1/query", "GET, OPTIONS, POST"),
        ("PUT", "/api/v1/series", "GET, OPTIONS, POST"),
        ("POST", "/api/v1/metadata", "GET, OPTIONS"),
        ("GET", "/api/v1/write", "OPTIONS, POST"),
        ("GET", "/api/v1/admin/tsdb/snapshot", "OPTIONS, POST, PUT"),
    ],
)
async def test_wrong_methods_are_405(service: Service, method: str, path: str, allow: str) -> None:
    response = await service.client.request(method, path)
    assert (response.status, await response.text()) == (405, "Method Not Allowed\n")
    assert response.headers["Allow"] == allow


async def test_head_is_405_on_queries(service: Service) -> None:
    assert (await service.client.head("/api/v1/query?query=1")).status == 405
    assert (await service.client.head("/-/healthy")).status == 200


async def test_options_and_cors(service: Service) -> None:
    response = await service.client.options("/api/v1/query", headers={"Origin": "http://x"})
    assert (response.status, await response.read()) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == "http://x"
    assert response.headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    assert response.headers["Access-Control-Expose-Headers"] == "Date"
    assert response.headers["Vary"] == "Origin"
    without = await service.get("/api/v1/labels")
    assert without.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Origin" not in without.headers


async def test_cors_origin_is_anchored(start_service: StartService) -> None:
    service = await start_service(cors_origin="https?://ours")
    for origin, allowed in (("http://ours", True), ("http://ours.evil", False)):
        response = await service.get("/api/v1/labels", headers={"Origin": origin})
        assert ("Access-Control-Allow-Origin" in response.headers) is allowed


async def test_health_and_readiness(start_service: StartService) -> None:
    service = await start_service(is_ready=False)
    healthy = await service.get("/-/healthy")
    assert (healthy.status, await healthy.text()) == (200, "Prometheus Server is Healthy.\n")
    waiting = await service.get("/-/ready")
    assert (waiting.status, await waiting.text()) == (
        503,
        "Service Unavailable: the service is starting\n",
    )
    assert waiting.headers["X-Prometheus-Stopping"] == "false"
    assert (await service.get("/api/v1/query?query=1")).status == 503


async def test_ready_and_stopping(service: Service) -> None:
    ready = await service.get("/-/ready")
    assert (ready.status, await ready.text()) == (200, "Prometheus Server is Ready.\n")
    service.state.phase = Phase.STOPPING
    stopping = await service.get("/-/ready")
    assert stopping.status == 503
    assert stopping.headers["X-Prometheus-Stopping"] == "true"


class SilentRepository(InMemoryStore):
    """Its database does not answer."""

    async def ping(self) -> None:
        raise StorageUnavailableError("no answer")


async def test_not_ready_when_the_database_does_not_answer(start_service: StartService) -> None:
    service = await start_service(SilentRepository())
    assert (await service.get("/-/ready")).status == 503


async def test_version_and_lifecycle(service: Service) -> None:
    version = await service.get("/version")
    assert '"version":"3.14.0"' in await version.text()
    reload = await service.post("/-/reload")
    assert (reload.status, await reload.text()) == (403, "Lifecycle API is not enabled.")
    assert (await service.get("/-/quit")).status == 405


async def test_own_metrics(service: Service) -> None:
    await service.get("/api/v1/query?query=1")
    text = await (await service.get("/metrics")).text()
    labels = '{code="200",handler="/api/v1/query"}'
    assert f"promcompat_http_request_duration_seconds_count{labels} 1.0" in text
    assert "promcompat_build_info{" in text
    assert "promcompat_http_requests_in_flight 1.0" in text


class SlowRepository(InMemoryStore):
    """Answers selections never, and remembers being cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
        *,
        asked_at: float | None = None,
    ) -> list[SampleBlock]:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError("unreachable")


async def test_a_client_that_goes_away_cancels_its_query(start_service: StartService) -> None:
    store = SlowRepository()
    service = await start_service(store)
    async with aiohttp.ClientSession() as session:
        url = service.client.make_url("/api/v1/query?query=up")
        asking = asyncio.create_task(session.get(url))
        await store.started.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    async with asyncio.timeout(60):
        await store.cancelled.wait()
    # Closing the server waits for the handler to end.
    await service.client.close()
    labels = {"handler": "/api/v1/query", "code": "499"}
    name = "promcompat_http_request_duration_seconds_count"
    assert service.telemetry.registry.get_sample_value(name, labels) == 1


def test_every_path_has_one_handler_for_a_method() -> None:
    pairs = [(path, method) for path, methods, _ in ROUTES for method in methods]
    assert len(pairs) == len(set(pairs))
