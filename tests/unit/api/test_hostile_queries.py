"""Queries made to hurt are refused in Prometheus' words, and the service goes on."""

import pytest

from promql.budget import TOO_MANY_SAMPLES
from tests.factories import make_batch, make_labels
from tests.fakes import InMemoryMetricRepository
from tests.http_service import NOW_MS, running_service

TOO_DEEP = "expression nests deeper than 250 levels"
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
    "parentheses": ("(" * 20_000 + "1" + ")" * 20_000, 400, TOO_DEEP),
    "signs": ("-" * 50_000 + "up", 400, TOO_DEEP),
    "calls": ("abs(" * 3_000 + "up" + ")" * 3_000, 400, TOO_DEEP),
    "a chain of operators": ("+".join(["up"] * 100_000), 400, TOO_DEEP),
    "a range beyond time": ("up[1000y]", 400, "duration out of range"),
}


@pytest.mark.parametrize(("query", "status", "text"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_query_is_refused(query: str, status: int, text: str) -> None:
    repository = InMemoryMetricRepository()
    series = {make_labels("up", job=f"j{job}"): [(NOW_MS, 1.0)] for job in range(50)}
    await repository.write_batch("default", make_batch(series))
    async with running_service(repository, query_timeout="10s") as service:
        response = await service.post("/api/v1/query", data={"query": query})
        assert response.status == status
        assert text in (await response.json())["error"]
        assert (await service.ask("query", query="count(up)"))[0] == 200
