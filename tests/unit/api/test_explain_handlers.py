"""`/api/v1/explain` over the in-memory store, which has no SQL to show."""

from typing import Any

import pytest

from tests.support.factories import make_batch, make_labels
from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import NOW_MS, Service
from tests.unit.api.conftest import StartService

T0 = 1_700_000_000


@pytest.fixture
async def service(start_service: StartService) -> Service:
    store = InMemoryStore()
    points = [(T0 * 1000 + offset, 1.0) for offset in (0, 15_000, 30_000)]
    series = {make_labels("up", job=job): points for job in ("a", "b")}
    await store.write_batch("default", make_batch(series))
    return await start_service(store)


async def explain(service: Service, **parameters: str) -> Any:
    status, answer = await service.ask("explain", **parameters)
    assert (status, answer["status"]) == (200, "success"), answer
    return answer["data"]


async def test_instant_query_is_explained_without_running(service: Service) -> None:
    data = await explain(service, query="sum by(job)(rate(up[1m]))", time=str(T0 + 30))
    assert data == {
        "query": "sum by(job)(rate(up[1m]))",
        "formatted": "sum by (job) (rate(up[1m]))",
        "tree": {
            "type": "aggregation",
            "text": "sum by (job) (rate(up[1m]))",
            "children": [
                {
                    "type": "call",
                    "text": "rate(up[1m])",
                    "children": [
                        {
                            "type": "matrixSelector",
                            "text": "up[1m]",
                            "children": [
                                {
                                    "type": "vectorSelector",
                                    "text": "up",
                                    "leaf": 0,
                                    "children": [],
                                }
                            ],
                        }
                    ],
                }
            ],
        },
        "result_type": "vector",
        "steps": 1,
        "leaves": [
            {
                "matchers": [{"name": "__name__", "type": "=", "value": "up"}],
                "start": T0 - 30,
                "end": T0 + 30,
                "series": 2,
                "rules": [],
                "sql": "",
                "parameters": [],
                "estimated_rows": None,
                "actual_rows": None,
                "seconds": None,
                "database_plan": None,
            }
        ],
        "stages": None,
    }


@pytest.mark.parametrize("flag", ["analyze", "buffers"])
async def test_analyze_runs_the_query(service: Service, flag: str) -> None:
    query = {"query": "up + 1", "start": str(T0), "end": str(T0 + 30), "step": "15"}
    data = await explain(service, **query, **{flag: "true"})
    assert data["steps"] == 3
    assert [leaf["actual_rows"] for leaf in data["leaves"]] == [6]
    assert {"execTotalTime", "innerEvalTime"} <= data["stages"].keys()
    assert all(seconds >= 0 for seconds in data["stages"].values())


async def test_time_is_now_unless_given(service: Service) -> None:
    (leaf,) = (await explain(service, query="up"))["leaves"]
    assert leaf["end"] == NOW_MS / 1000


async def test_parameters_may_come_in_a_form(service: Service) -> None:
    response = await service.post("/prometheus/api/v1/explain", data={"query": "up offset 1m"})
    assert (await response.json())["data"]["formatted"] == "up offset 1m"


async def test_parts_without_samples_have_no_leaf(service: Service) -> None:
    data = await explain(service, query='label_replace(vector(1), "a", "$1", "b", "(.*)") and up')
    assert len(data["leaves"]) == 1
    assert (await explain(service, query="1 + 2"))["leaves"] == []
    assert (await explain(service, query='"text"', analyze="1"))["result_type"] == "string"
    named = await explain(service, query='info(up, {version="1"})')
    assert named["tree"]["type"] == "call"


async def test_faults_are_those_of_the_query(service: Service) -> None:
    times = {"start": "0", "end": "10", "step": "1"}
    for path, parameters in (
        ("query", {"query": "up("}),
        ("query", {"query": ""}),
        ("query", {"query": "up", "time": "noon"}),
        ("query_range", {"query": "up[5m]", **times}),
        ("query_range", {"query": "up", **times, "step": "0"}),
    ):
        expected = await service.ask(path, **parameters)
        assert expected[0] == 400
        assert await service.ask("explain", **parameters) == expected


async def test_half_a_range_is_refused(service: Service) -> None:
    status, answer = await service.ask("explain", query="up", start="0")
    assert (status, answer["errorType"]) == (400, "bad_data")
    assert answer["error"].startswith('invalid parameter "end"')


async def test_flag_that_is_no_boolean_is_refused(service: Service) -> None:
    status, answer = await service.ask("explain", query="up", analyze="maybe")
    assert status == 400
    assert answer["error"] == "invalid parameter \"analyze\": cannot parse 'maybe' to a boolean"
