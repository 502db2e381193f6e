"""Requests end within the time of a query, also if the database never answers."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import running_service


async def _never(*_arguments: Any, **_named: Any) -> None:
    await asyncio.Event().wait()


class SilentStore(InMemoryStore):
    """No statement of it ends, as those of a database that was stopped."""

    select: Callable[..., Any] = _never
    series: Callable[..., Any] = _never
    label_names: Callable[..., Any] = _never
    label_values: Callable[..., Any] = _never
    metadata: Callable[..., Any] = _never
    sample_bounds: Callable[..., Any] = _never


@pytest.mark.parametrize(
    "path",
    [
        "query?query=up",
        "query_range?query=up&start=0&end=1&step=1",
        "series?match[]=up",
        "labels",
        "label/job/values",
        "metadata",
        "status/tsdb",
        "cardinality/label_names",
        "cardinality/active_series?selector=up",
    ],
)
async def test_a_request_ends_within_the_time_of_a_query(path: str) -> None:
    async with running_service(SilentStore(), query_timeout="100ms") as service:
        response = await service.get(f"/api/v1/{path}")
        body = await response.json()
    assert response.status == 503
    assert body["errorType"] == "timeout"
