"""Queries made to hurt are refused in Prometheus' words, and the service goes on."""

import pytest

from promcompat.processes.explanation.text import render_explanation
from promql.budget import TOO_MANY_SAMPLES
from tests.support.factories import make_batch, make_labels
from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import NOW_MS, running_service

TOO_LONG = "query has more than 500000 tokens"
HOSTILE = {
    "subquery of everything": ('{__name__=~".+"}[1y:1s]', 422, TOO_MANY_SAMPLES),
    "subquery": ("max_over_time(up[1y:1s])", 422, TOO_MANY_SAMPLES),
    "nested subqueries": (
        "sum_over_time(sum_over_time(up[30d:1s])[30d:1s])",
        422,
        TOO_MANY_SAMPLES,
    ),
    "huge regular expression": (
        'up{job=~"(((a{1,100}){1,100}){1,100})"}',
        400,
        "error parsing regexp",
    ),
    "parentheses": ("(" * 200_000, 400, "unclosed left parenthesis"),
    "signs": ("-" * 500_001, 400, TOO_LONG),
    "deep durations": (f"up[{'-' * 1_000}(1m+1m)]", 400, "nests deeper than 250 levels"),
    "a range beyond time": ("up[1000y]", 400, "duration out of range"),
}


CHAIN = "+".join(["up"] * 2_000)


@pytest.mark.parametrize(
    ("endpoint", "parameters", "status"),
    [
        ("query", {}, 200),
        ("query", {"stats": "all"}, 200),
        ("query", {"timeout": "1ms"}, 503),
        ("query_range", {"start": "1699999990", "end": "1700000000", "step": "5"}, 200),
        ("query_exemplars", {}, 200),
        ("parse_query", {}, 200),
        ("format_query", {}, 200),
        ("explain", {"analyze": "true"}, 200),
    ],
)
@pytest.mark.parametrize("query", [CHAIN, "abs(" * 1_500 + "up" + ")" * 1_500])
async def test_deep_query_is_answered(
    endpoint: str, parameters: dict[str, str], status: int, query: str
) -> None:
    store = InMemoryStore()
    await store.write_batch("default", make_batch({make_labels("up"): [(NOW_MS, 1.0)]}))
    async with running_service(store) as service:
        form = {"query": query, **parameters}
        response = await service.post(f"/api/v1/{endpoint}", data=form)
        assert response.status == status, await response.text()


async def test_explanation_of_a_deep_query_is_cut() -> None:
    async with running_service(InMemoryStore()) as service:
        response = await service.post("/api/v1/explain", data={"query": CHAIN})
        explanation = (await response.json())["data"]
    assert explanation["formatted"].startswith("up + up + up")
    node = explanation["tree"]
    assert node["text"].endswith("…")
    depth = 1
    while node["children"]:
        node, depth = node["children"][0], depth + 1
    assert depth == 100
    assert node["omitted"] == 2 * (2_000 - 100)
    assert "3,800 deeper parts not shown" in render_explanation(explanation)


@pytest.mark.parametrize(("query", "status", "text"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_query_is_refused(query: str, status: int, text: str) -> None:
    store = InMemoryStore()
    series = {make_labels("up", job=f"j{job}"): [(NOW_MS, 1.0)] for job in range(50)}
    await store.write_batch("default", make_batch(series))
    async with running_service(store, query_timeout="2m") as service:
        response = await service.post("/api/v1/query", data={"query": query})
        assert response.status == status
        assert text in (await response.json())["error"]
        assert (await service.ask("query", query="count(up)"))[0] == 200
