"""Cardinality of labels, and the queries that run or ran."""

import asyncio
from collections.abc import Sequence

from promcompat.core.model import SampleBlock, SeriesSelection
from promcompat.core.ports import CheckBytes, any_bytes
from tests.support.factories import make_batch, make_labels
from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import NOW_MS, Service
from tests.unit.api.conftest import StartService

SERIES = {
    make_labels("up", job="api", instance="a"): [(0, 1.0)],
    make_labels("up", job="api", instance="b"): [(0, 1.0)],
    make_labels("up", job="db", instance="a"): [(0, 1.0)],
    make_labels("lag", job="db"): [(0, 3.0)],
}


async def with_series(start_service: StartService) -> Service:
    store = InMemoryStore()
    await store.write_batch("default", make_batch(SERIES))
    return await start_service(store)


async def test_label_names_by_their_number_of_values(start_service: StartService) -> None:
    service = await with_series(start_service)
    status, answer = await service.ask("cardinality/label_names", limit="2")
    assert status == 200
    assert answer == {
        "label_values_count_total": 6,
        "label_names_count": 3,
        "cardinality": [
            {"label_name": "__name__", "label_values_count": 2},
            {"label_name": "instance", "label_values_count": 2},
        ],
    }
    _, of_lag = await service.ask("cardinality/label_names", selector="lag")
    assert of_lag["label_names_count"] == 2


async def test_label_values_by_their_number_of_series(start_service: StartService) -> None:
    service = await with_series(start_service)
    response = await service.get(
        "/api/v1/cardinality/label_values?label_names[]=instance&label_names[]=job&label_names[]=no"
    )
    assert await response.json() == {
        "series_count_total": 4,
        "labels": [
            {
                "label_name": "job",
                "label_values_count": 2,
                "series_count": 4,
                "cardinality": [
                    {"label_value": "api", "series_count": 2},
                    {"label_value": "db", "series_count": 2},
                ],
            },
            {
                "label_name": "instance",
                "label_values_count": 2,
                "series_count": 3,
                "cardinality": [
                    {"label_value": "a", "series_count": 2},
                    {"label_value": "b", "series_count": 1},
                ],
            },
            {"label_name": "no", "label_values_count": 0, "series_count": 0, "cardinality": []},
        ],
    }


async def test_active_series_have_a_recent_sample(start_service: StartService) -> None:
    store = InMemoryStore()
    service = await start_service(store)
    series = {
        make_labels("up", job="new"): [(NOW_MS - 60_000, 1.0)],
        make_labels("up", job="old"): [(NOW_MS - 3_600_000, 1.0)],
    }
    await store.write_batch("default", make_batch(series))
    assert await service.ask("cardinality/active_series", selector="up") == (
        200,
        {"data": [{"__name__": "up", "job": "new"}]},
    )
    _, counted = await service.ask("cardinality/label_names", count_method="active")
    assert counted["label_values_count_total"] == 2


async def test_wrong_parameters_are_refused_in_mimirs_words(service: Service) -> None:
    for path, error in (
        ("label_values", "'label_names[]' param is required"),
        ("active_series", "missing 'selector' parameter"),
        ("label_names?limit=501", "'limit' param cannot be greater than '500'"),
        ("label_names?selector=a&selector=b", "multiple 'selector' params are not allowed"),
        (
            "label_names?count_method=x",
            "invalid 'count_method' param 'x'. valid options are: [active,inmemory]",
        ),
    ):
        response = await service.get(f"/api/v1/cardinality/{path}")
        assert response.status == 400, path
        assert (await response.json())["error"] == error
    response = await service.get("/api/v1/cardinality/label_names?selector={")
    assert (await response.json())["error"].startswith("failed to parse selector: ")


class WaitingStore(InMemoryStore):
    """A store whose reads wait until they are cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = asyncio.Event()

    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
        *,
        asked_at: float | None = None,
    ) -> list[SampleBlock]:
        self.is_asked.set()
        await asyncio.Event().wait()
        return []


async def test_a_running_query_is_listed_and_cancelled(start_service: StartService) -> None:
    store = WaitingStore()
    service = await start_service(store)
    asked = asyncio.create_task(service.ask("query", query="sum(up)"))
    await store.is_asked.wait()
    running = (await service.ask("status/active_queries"))[1]["data"]
    assert [entry["query"] for entry in running] == ["sum(up)"]
    path = f"/api/v1/status/active_queries/{running[0]['id']}"
    assert (await service.client.delete(path)).status == 200
    status, answer = await asked
    assert (status, answer["errorType"]) == (499, "canceled")
    assert (await service.client.delete(path)).status == 404
    assert (await service.ask("status/active_queries"))[1]["data"] == []
    _, top = await service.ask("status/top_queries", topN="1", maxLifetime="1h")
    assert top["topByCount"] == [{"query": "sum(up)", "timeRangeSeconds": 0, "count": 1}]
    assert set(top["topBySumDuration"][0]) == {
        "query",
        "timeRangeSeconds",
        "sumDurationSeconds",
        "count",
    }
