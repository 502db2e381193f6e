"""The whole HTTP application over the in-memory repository."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import AppRunner

from promcompat.api.context import ServiceState
from promcompat.api.routes import build_application
from promcompat.api.server import make_runner
from promcompat.app import engine_options
from promcompat.core.ports import MetricRepository
from promcompat.services.metric_service import MetricService
from promcompat.settings import Settings
from promcompat.telemetry import Telemetry
from promql.engine import Engine
from tests.fakes import InMemoryMetricRepository

NOW_MS = 1_700_000_000_000


class ServiceServer(TestServer):
    """Reads requests with the options of the real server."""

    async def _make_runner(self, **_options: Any) -> AppRunner:
        return make_runner(self.app, stop_seconds=1.0)


@dataclass
class Service:
    """A running application and what stands behind it."""

    client: TestClient[Any, Any]
    repository: MetricRepository
    state: ServiceState
    telemetry: Telemetry

    async def get(self, path: str, **options: Any) -> ClientResponse:
        return await self.client.get(path, **options)

    async def post(self, path: str, **options: Any) -> ClientResponse:
        return await self.client.post(path, **options)

    async def ask(self, path: str, **parameters: str) -> tuple[int, Any]:
        """Status and JSON of a GET below /api/v1."""
        response = await self.get(f"/api/v1/{path}", params=parameters)
        return response.status, await response.json()


StartService = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start_service() -> AsyncIterator[StartService]:
    """Starts applications with chosen settings and repositories."""
    clients: list[TestClient[Any, Any]] = []

    async def start(
        repository: MetricRepository | None = None, *, is_ready: bool = True, **settings: Any
    ) -> Service:
        chosen = Settings(**settings)
        stored = InMemoryMetricRepository() if repository is None else repository
        state, telemetry = ServiceState(), Telemetry()
        if is_ready:
            engine = Engine(stored, engine_options(chosen))
            service = MetricService(
                stored, engine, max_future_ms=chosen.max_future, now_ms=lambda: NOW_MS
            )
            state.open(service, "memory")
        client = TestClient(ServiceServer(build_application(chosen, state, telemetry)))
        await client.start_server()
        clients.append(client)
        return Service(client, stored, state, telemetry)

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
async def service(start_service: StartService) -> Service:
    """One application with the default settings."""
    return await start_service()
