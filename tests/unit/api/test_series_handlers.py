"""`series`, `labels`, `label/<name>/values`, `metadata`."""

from typing import Any

import pytest
import yarl

from promcompat.core.model import Labels, MetricMetadata
from tests.support.factories import make_batch, make_labels
from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import Service
from tests.unit.api.conftest import StartService


@pytest.fixture
async def service(start_service: StartService) -> Service:
    store = InMemoryStore()
    series = {
        make_labels("up", job="a"): [(1_000, 1.0)],
        make_labels("up", job="b"): [(5_000, 1.0)],
        Labels.of({"__name__": "x", "foo.bar": "y", "ключ": "ü"}): [(1_000, 1.0)],
    }
    metadata = [
        MetricMetadata("up", "gauge", "Is it up?", ""),
        MetricMetadata("x_total", "counter", "", "seconds"),
    ]
    await store.write_batch("default", make_batch(series, metadata))
    return await start_service(store)


async def data(service: Service, path: str) -> Any:
    response = await service.get(path)
    assert response.status == 200, await response.text()
    answer = await response.json()
    assert answer["status"] == "success"
    return answer["data"]


async def test_series(service: Service) -> None:
    assert await data(service, "/api/v1/series?match[]=up&match[]=x") == [
        {"__name__": "up", "job": "a"},
        {"__name__": "up", "job": "b"},
        {"__name__": "x", "foo.bar": "y", "ключ": "ü"},
    ]
    assert await data(service, "/api/v1/series?match[]=up&start=2&end=9") == [
        {"__name__": "up", "job": "b"}
    ]
    assert await data(service, "/api/v1/series?match[]=up&start=9&end=2") == []


async def test_match_of_body_and_url_are_put_together(service: Service) -> None:
    response = await service.post("/api/v1/series?match[]=x", data={"match[]": 'up{job="a"}'})
    assert len((await response.json())["data"]) == 2


async def test_labels(service: Service) -> None:
    assert await data(service, "/api/v1/labels") == ["__name__", "foo.bar", "job", "ключ"]
    assert await data(service, "/api/v1/labels?match[]=up") == ["__name__", "job"]
    response = await service.post("/api/v1/labels", data={"match[]": "up", "limit": "1"})
    answer = await response.json()
    assert answer["data"] == ["__name__"]
    assert answer["warnings"] == ["results truncated due to limit"]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("job/values", ["a", "b"]),
        ("__name__/values", ["up", "x"]),
        ("nothing/values", []),
        ("U__foo_2e_bar/values", ["y"]),
        ("foo.bar/values", ["y"]),
        ("%D0%BA%D0%BB%D1%8E%D1%87/values", ["ü"]),
        ("a%20b/values", []),
        ("a%00b/values", []),
        ("job/values?match[]=up&start=2", ["b"]),
    ],
)
async def test_label_values(service: Service, path: str, values: list[str]) -> None:
    assert await data(service, f"/api/v1/label/{path}") == values


async def test_label_values_take_post(service: Service) -> None:
    """Grafana sends it, with its parameters in the URL and an empty body."""
    response = await service.post("/api/v1/label/job/values?limit=1")
    assert (await response.json())["data"] == ["a"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("series", "no match[] parameter provided"),
        ("series?match[]=%zz", 'error parsing form values: invalid URL escape "%zz"'),
        (
            "series?match[]={",
            'invalid parameter "match[]": 1:2: parse error: unexpected end of input inside braces',
        ),
        (
            'series?match[]={a=""}',
            'invalid parameter "match[]": match[] must contain at least one non-empty matcher',
        ),
        ("labels?match[]={", "1:2: parse error: unexpected end of input inside braces"),
        (
            'labels?match[]={job=~".*"}',
            "match[] must contain at least one non-empty matcher",
        ),
        (
            "labels?start=x",
            "invalid parameter \"start\": invalid time value for 'start': "
            'cannot parse "x" to a valid timestamp',
        ),
        ("label/U__/values", 'invalid label name: ""'),
        ("label/%ff/values", 'invalid label name: "\\xff"'),
        ("metadata?limit=x", "limit must be a number"),
        ("metadata?limit_per_metric=x", "limit_per_metric must be a number"),
    ],
)
async def test_bad_data(service: Service, path: str, error: str) -> None:
    url = yarl.URL(str(service.client.make_url("/api/v1/")) + path, encoded=True)
    async with service.client.session.get(url) as response:
        assert response.status == 400
        answer = await response.json()
    assert answer == {"status": "error", "errorType": "bad_data", "error": error}


async def test_metadata(service: Service) -> None:
    up = [{"type": "gauge", "help": "Is it up?", "unit": ""}]
    x_total = [{"type": "counter", "help": "", "unit": "seconds"}]
    assert await data(service, "/api/v1/metadata") == {"up": up, "x_total": x_total}
    assert await data(service, "/api/v1/metadata?metric=up") == {"up": up}
    assert await data(service, "/api/v1/metadata?limit=1") == {"up": up}
    assert await data(service, "/api/v1/metadata?limit=0") == {}
    assert await data(service, "/api/v1/metadata?metric=nothing") == {}
