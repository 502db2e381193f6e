"""The contract: every example of the OpenAPI document is sent and answered as it says."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import TypeAdapter

from native_api.contract.problem import CONTENT_TYPE, Problem
from native_api.contract.route import Example, Route
from native_api.routes import ROUTES
from tests.support.services.native_service import NativeClient, running_native_service

pytestmark = pytest.mark.integration


@pytest.fixture
async def native(timescaledb_database_url: str) -> AsyncIterator[NativeClient]:
    async with running_native_service(timescaledb_database_url) as client:
        yield client


async def send_example(native: NativeClient, route: Route, example: Example) -> None:
    path = route.full_path
    for part, value in example.path.items():
        path = path.replace(f"{{{part}}}", quote(value, safe=""))
    pairs = [
        (name, item)
        for name, value in example.query.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    options: dict[str, Any] = {"params": pairs, "headers": dict(example.headers)}
    if example.body is not None:
        options["json"] = example.body
    response = await native.client.request(route.method, path, **options)
    where = f"{route.method} {route.path}: {example.name}"
    assert response.status == example.status, f"{where}: {await response.text()}"
    if response.status in route.replies:
        model = route.replies[response.status].model
        assert response.content_type == "application/json", where
        TypeAdapter(model).validate_json(await response.read())
    else:
        assert response.status in route.all_problems, where
        assert response.content_type == CONTENT_TYPE, where
        Problem.model_validate_json(await response.read())
    if example.answer is not None:
        assert await response.json(content_type=None) == example.answer, where


async def test_every_example_is_answered_as_documented(native: NativeClient) -> None:
    for route in ROUTES:
        for example in route.examples:
            await send_example(native, route, example)


def test_every_route_has_an_example() -> None:
    assert [route.path for route in ROUTES if not route.examples] == []
