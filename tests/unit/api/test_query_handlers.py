"""The query endpoints over the in-memory store; texts were asked of a Prometheus 3.5.3."""

import gzip
import json
from collections.abc import Sequence

import aiohttp
import pytest

from promcompat.core.errors import (
    OverloadedError,
    PromcompatError,
    QueryCanceledError,
    StorageUnavailableError,
)
from promcompat.core.model import SampleBlock, SeriesSelection
from promcompat.core.ports import CheckBytes, any_bytes
from tests.support.factories import make_batch, make_labels
from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import Service
from tests.unit.api.conftest import StartService

UNCLOSED = "1:2: parse error: unclosed left parenthesis"


@pytest.fixture
async def service(start_service: StartService) -> Service:
    store = InMemoryStore()
    series = {
        make_labels("up", job=job): [(time, value) for time in (0, 15_000, 30_000)]
        for job, value in (("a", 1.0), ("b", 0.0), ("c", 1e21))
    }
    await store.write_batch("default", make_batch(series))
    return await start_service(store)


async def test_instant_vector(service: Service) -> None:
    response = await service.get("/api/v1/query", params={"query": "up", "time": "30.5"})
    assert response.status == 200
    assert response.content_type == "application/json"
    assert await response.text() == (
        '{"status":"success","data":{"resultType":"vector","result":['
        '{"metric":{"__name__":"up","job":"a"},"value":[30.500,"1"]},'
        '{"metric":{"__name__":"up","job":"b"},"value":[30.500,"0"]},'
        '{"metric":{"__name__":"up","job":"c"},"value":[30.500,"1e+21"]}]}}'
    )


async def test_bytes_that_are_no_utf8_are_replaced_in_answers(service: Service) -> None:
    query = r'label_replace(up{job="a"}, "x", "\xff", "job", "a")'
    _, answer = await service.ask("query", query=query, time="30")
    assert answer["data"]["result"][0]["metric"] == {"__name__": "up", "job": "a", "x": "�"}
    _, answer = await service.ask("parse_query", query=r'count_values("\xff", up)')
    assert answer["data"]["param"] == {"type": "stringLiteral", "val": "�"}
    _, answer = await service.ask("query", query=r'label_join(up, "\xff", "-", "job")', time="30")
    assert answer["error"] == "invalid destination label name in label_join(): �"


async def test_range_query(service: Service) -> None:
    status, answer = await service.ask(
        "query_range", query='up{job="a"} * 2', start="0", end="30", step="15"
    )
    assert status == 200
    assert answer["data"] == {
        "resultType": "matrix",
        "result": [{"metric": {"job": "a"}, "values": [[0, "2"], [15, "2"], [30, "2"]]}],
    }


async def test_range_query_of_a_scalar_is_a_matrix(service: Service) -> None:
    _, answer = await service.ask("query_range", query="1", start="0", end="2", step="1")
    assert answer["data"]["result"] == [{"metric": {}, "values": [[0, "1"], [1, "1"], [2, "1"]]}]


@pytest.mark.parametrize(
    ("query", "data"),
    [
        ("1e21", '{"resultType":"scalar","result":[1.5,"1000000000000000000000"]}'),
        ('"a<b"', '{"resultType":"string","result":[1.5,"a\\u003cb"]}'),
        (r'"\xe2\x82\377"', '{"resultType":"string","result":[1.5,"���"]}'),
        (
            "vector(1e21)",
            '{"resultType":"vector","result":[{"metric":{},"value":[1.500,"1e+21"]}]}',
        ),
        ("nothing", '{"resultType":"vector","result":[]}'),
        ("nothing[5m]", '{"resultType":"matrix","result":[]}'),
    ],
)
async def test_results_of_other_types(service: Service, query: str, data: str) -> None:
    response = await service.get("/api/v1/query", params={"query": query, "time": "1.5"})
    assert await response.text() == f'{{"status":"success","data":{data}}}'


async def test_instant_query_of_a_range_gives_raw_samples(service: Service) -> None:
    _, answer = await service.ask("query", query='up{job="a"}[20s]', time="30")
    assert answer["data"]["resultType"] == "matrix"
    assert answer["data"]["result"][0]["values"] == [[15, "1"], [30, "1"]]


@pytest.mark.parametrize(
    ("path", "parameters", "error"),
    [
        ("query", {"query": "("}, f'invalid parameter "query": {UNCLOSED}'),
        (
            "query",
            {},
            'invalid parameter "query": unknown position: parse error: '
            "no expression found in input",
        ),
        (
            "query",
            {"query": "1", "limit": "-1"},
            'invalid parameter "limit": limit must be non-negative',
        ),
        (
            "query",
            {"query": "1", "timeout": "x"},
            'invalid parameter "timeout": cannot parse "x" to a valid duration',
        ),
        (
            "query_range",
            {"query": "up[5m]", "start": "0", "end": "1", "step": "1"},
            'invalid parameter "query": invalid expression type "range vector" for range query, '
            "must be Scalar or instant Vector",
        ),
        (
            "query_range",
            {"query": '"s"', "start": "0", "end": "1", "step": "1"},
            'invalid parameter "query": invalid expression type "string" for range query, '
            "must be Scalar or instant Vector",
        ),
        ("query_exemplars", {"query": "("}, UNCLOSED),
        (
            "query_exemplars",
            {"query": "up", "start": "3", "end": "1"},
            "end timestamp must not be before start timestamp",
        ),
        ("format_query", {"query": "("}, f'invalid parameter "query": {UNCLOSED}'),
    ],
)
async def test_bad_data(
    service: Service, path: str, parameters: dict[str, str], error: str
) -> None:
    status, answer = await service.ask(path, **parameters)
    assert (status, answer) == (400, {"status": "error", "errorType": "bad_data", "error": error})


async def test_execution_errors_are_422(service: Service) -> None:
    status, answer = await service.ask("query", query="up + on() up", time="30")
    assert (status, answer["errorType"]) == (422, "execution")
    assert "data" not in answer


async def test_limit_cuts_vectors_with_a_warning(service: Service) -> None:
    _, answer = await service.ask("query", query="up", time="30", limit="2")
    assert len(answer["data"]["result"]) == 2
    assert answer["warnings"] == ["results truncated due to limit"]
    _, scalar = await service.ask("query", query="1", limit="1")
    assert "warnings" not in scalar


async def test_annotations_are_infos_and_never_null(service: Service) -> None:
    _, answer = await service.ask("query", query="rate(up[1m])", time="30")
    assert answer["infos"]
    assert "warnings" not in answer


async def test_stats(service: Service) -> None:
    _, answer = await service.ask("query", query="up", time="30", stats="all")
    stats = answer["data"]["stats"]
    assert set(stats["timings"]) == {
        "evalTotalTime", "resultSortTime", "queryPreparationTime",
        "innerEvalTime", "execQueueTime", "execTotalTime",
    }  # fmt: skip
    assert stats["samples"]["totalQueryableSamples"] == 3
    assert stats["samples"]["totalQueryableSamplesPerStep"] == [[30, 3]]
    _, answer = await service.ask("query", query="up", time="30", stats="true")
    assert set(answer["data"]["stats"]["samples"]) == {"totalQueryableSamples", "peakSamples"}


async def test_lookback_and_timeout(service: Service) -> None:
    _, found = await service.ask("query", query="up", time="90", lookback_delta="1m1s")
    assert len(found["data"]["result"]) == 3
    _, none = await service.ask("query", query="up", time="90", lookback_delta="1m")
    assert none["data"]["result"] == []
    status, answer = await service.ask("query", query="up", timeout="0")
    assert (status, answer["errorType"]) == (503, "timeout")


async def test_body_wins_over_url(service: Service) -> None:
    response = await service.post("/api/v1/query?query=2&time=1", data={"query": "1"})
    assert (await response.json())["data"]["result"] == [1, "1"]


async def test_multipart_bodies_are_read(service: Service) -> None:
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("query", "1")
    response = await service.post("/api/v1/query?time=1", data=form)
    assert (await response.json())["data"]["result"] == [1, "1"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
async def test_bodies_of_other_types_are_ignored(service: Service, content_type: str) -> None:
    response = await service.post(
        "/api/v1/query?query=2&time=1", data=b"query=1", headers={"Content-Type": content_type}
    )
    assert (await response.json())["data"]["result"] == [1, "2"]


async def test_malformed_multipart_is_ignored(service: Service) -> None:
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        response = await service.post(
            "/api/v1/query?query=2&time=1", data=b"junk", headers={"Content-Type": content_type}
        )
        assert (await response.json())["data"]["result"] == [1, "2"]


async def test_long_queries_in_the_url(service: Service) -> None:
    query = '"' + "x" * 100_000 + '"'
    response = await service.get("/api/v1/query", params={"query": query, "time": "1"})
    assert (await response.json())["data"]["result"] == [1, query.strip('"')]


async def test_exemplars_are_empty(service: Service) -> None:
    """Grafana's probe sends times in milliseconds."""
    status, answer = await service.ask(
        "query_exemplars", query="test", start="1700000000000", end="1700000900000"
    )
    assert (status, answer) == (200, {"status": "success", "data": []})
    response = await service.get("/api/v1/query_exemplars", params={"query": "1"})
    assert (response.status, await response.read()) == (204, b"")


async def test_format_query(service: Service) -> None:
    _, answer = await service.ask("format_query", query="sum(up)by(job)")
    assert answer == {"status": "success", "data": "sum by (job) (up)"}


@pytest.mark.parametrize("encodings", ["gzip", "deflate, gzip", "br, gzip;q=0.5"])
async def test_gzip_is_the_only_compression(service: Service, encodings: str) -> None:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        url = service.client.make_url("/api/v1/query_range?query=up&start=0&end=900&step=1")
        async with session.get(url, headers={"Accept-Encoding": encodings}) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            answer = json.loads(gzip.decompress(await response.read()))
    assert len(answer["data"]["result"]) == 3


@pytest.mark.parametrize("encodings", ["deflate", "identity", "gzip;q=0"])
async def test_answers_are_plain_when_gzip_is_not_taken(service: Service, encodings: str) -> None:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        url = service.client.make_url("/api/v1/query_range?query=up&start=0&end=900&step=1")
        async with session.get(url, headers={"Accept-Encoding": encodings}) as response:
            assert "Content-Encoding" not in response.headers
            assert len((await response.json())["data"]["result"]) == 3


class FailingRepository(InMemoryStore):
    """Fails every selection with one error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
        *,
        asked_at: float | None = None,
    ) -> list[SampleBlock]:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status", "error_type", "retry_after"),
    [
        (StorageUnavailableError("the database is not available"), 503, "unavailable", "1"),
        (OverloadedError("too much", 7), 503, "unavailable", "7"),
        (QueryCanceledError("query was canceled in x"), 499, "canceled", None),
        (PromcompatError("the database refused a statement"), 500, "internal", None),
    ],
)
async def test_errors_of_storage(
    start_service: StartService,
    error: PromcompatError,
    status: int,
    error_type: str,
    retry_after: str | None,
) -> None:
    service = await start_service(FailingRepository(error))
    response = await service.get("/api/v1/query", params={"query": "up"})
    assert response.status == status
    assert response.headers.get("Retry-After") == retry_after
    answer = await response.json()
    assert answer == {"status": "error", "errorType": error_type, "error": str(error)}


async def test_unexpected_errors_tell_nothing(
    start_service: StartService, caplog: pytest.LogCaptureFixture
) -> None:
    service = await start_service(FailingRepository(KeyError("secret detail")))
    response = await service.get("/api/v1/query", params={"query": "up"})
    assert response.status == 500
    assert "secret" not in await response.text()
    assert (await response.json())["errorType"] == "internal"
    assert "secret detail" in caplog.text


async def test_everything_is_served_below_prometheus_too(service: Service) -> None:
    response = await service.get("/prometheus/api/v1/query", params={"query": "1", "time": "1"})
    assert (await response.json())["data"]["result"] == [1, "1"]


async def test_parse_query(service: Service) -> None:
    """The answer of a Prometheus 3.5.3 to the same question."""
    _, answer = await service.ask("parse_query", query="sum by (a) (rate(x[5m] offset 1m @ 12.5))")
    name = {"name": "__name__", "type": "=", "value": "x"}
    selector = {
        "type": "matrixSelector", "name": "x", "matchers": [name], "range": 300_000,
        "offset": 60_000, "timestamp": 12_500, "startOrEnd": None,
    }  # fmt: skip
    function = {"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"}
    assert answer["data"] == {
        "type": "aggregation", "op": "sum", "param": None, "grouping": ["a"], "without": False,
        "expr": {"type": "call", "func": function, "args": [selector]},
    }  # fmt: skip


def _duration(op: str, lhs: object, rhs: object, *, wrapped: bool = False) -> dict[str, object]:
    return {"type": "durationExpr", "op": op, "lhs": lhs, "rhs": rhs, "wrapped": wrapped}


def _literal(value: str, *, duration: bool = True) -> dict[str, object]:
    return {"type": "numberLiteral", "val": value, "duration": duration}


@pytest.mark.parametrize(
    ("query", "place", "fields"),
    [
        ("x anchored", (), {"anchored": True}),
        ("x[5m] smoothed", (), {"smoothed": True, "range": 300_000}),
        ("a + fill_left(2) b", ("matching",), {"fillValues": {"lhs": 2, "rhs": None}}),
        ("a * fill(0) b", ("matching",), {"fillValues": {"lhs": 0, "rhs": 0}}),
        (
            "x[5m + step()]",
            (),
            {
                "range": 0,
                "rangeExpr": _duration("+", _literal("300"), _duration("step", None, None)),
            },
        ),
        (
            "x offset (1h * 2)",
            (),
            {
                "offset": 0,
                "offsetExpr": _duration(
                    "*", _literal("3600"), _literal("2", duration=False), wrapped=True
                ),
            },
        ),
        (
            "x[1h:min_of(2m, range())]",
            (),
            {
                "range": 3_600_000,
                "step": 0,
                "stepExpr": _duration("min_of", _literal("120"), _duration("range", None, None)),
            },
        ),
    ],
)
async def test_parse_query_shows_what_prometheus_has_added_since_3_5(
    start_service: StartService, query: str, place: Sequence[str], fields: dict[str, object]
) -> None:
    """The names and values of a Prometheus 3.14, in the nodes that have them."""
    features = "promql-binop-fill-modifiers,promql-extended-range-selectors"
    service = await start_service(promql_features=features)
    _, answer = await service.ask("parse_query", query=query)
    node = answer["data"]
    for name in place:
        node = node[name]
    assert node == node | fields


async def test_parse_query_of_durations_as_deep_as_queries_may_have_them(service: Service) -> None:
    status, answer = await service.ask("parse_query", query=f"x[{'+'.join(['1m'] * 250)}]")
    assert status == 200
    node, depth = answer["data"]["rangeExpr"], 0
    while node["type"] == "durationExpr":
        node, depth = node["lhs"], depth + 1
    assert depth == 249
