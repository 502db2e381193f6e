"""Generated requests against `/openapi.json`: no 5xx, no status that is not documented."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import APIOperation
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from native_api.contract.openapi import build_openapi
from native_api.routes import ROUTES
from tests.support.programs.servers import DatabaseServer
from tests.support.services.native_service import running_native_service

pytestmark = pytest.mark.integration

DOCUMENT = build_openapi(ROUTES, "test")
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
_schema = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [found.ok() for found in _schema.get_all_operations()]


@pytest.fixture(scope="module")
def base_url(timescaledb_server: DatabaseServer) -> Iterator[str]:
    """A service in a thread with a loop of its own: schemathesis is synchronous."""
    url = timescaledb_server.create_database()
    ready, ended = threading.Event(), asyncio.Event()
    found: list[str] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with running_native_service(url) as native:
            found.append(str(native.client.make_url("/")))
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(60)
    yield found[0].rstrip("/")
    loop.call_soon_threadsafe(ended.set)
    thread.join(30)
    loop.close()
    timescaledb_server.drop_database(url)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_generated_requests(operation: APIOperation[Any, Any, Any, Any], base_url: str) -> None:
    # A dashboard has hundreds of fields, so that making one takes a third of a second.
    n_examples = 6 if "/dashboards" in operation.label else 25

    @given(case=operation.as_strategy())
    @settings(
        max_examples=n_examples,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=base_url, checks=_CHECKS)

    check()
