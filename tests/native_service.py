"""The native API on a real database, in the process of the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.test_utils import TestClient

from native_api.routes import install_native_api
from promcompat.api.routes import build_application
from promcompat.composition.services import Backend, open_backend
from promcompat.configuration.settings import Settings
from promcompat.http.context import ServiceState
from promcompat.telemetry.telemetry import Telemetry
from sql.migrate import migrate
from tests.http_service import ServiceServer
from tests.repositories import discard

BASE = "/api/v1/metrics"


class NativeClient:
    """Speaks JSON with a running service."""

    def __init__(
        self,
        client: TestClient[Any, Any],
        backend: Backend,
    ) -> None:
        self.client = client
        self.storage = backend.storage.metrics
        self.alerts = backend.storage.alerts
        self.services = backend.services

    async def send(
        self, method: str, path: str, *, status: int, body: object = None, **options: Any
    ) -> Any:
        """The JSON of the answer (None for none), which must have this status."""
        if body is not None:
            options["json"] = body
        response = await self.client.request(method, BASE + path, **options)
        text = await response.text()
        assert response.status == status, text
        return await response.json(content_type=None) if text else None

    async def get(self, path: str, status: int = 200, **parameters: Any) -> Any:
        """A GET with parameters; a list repeats one."""
        pairs = [
            (name, str(item))
            for name, value in parameters.items()
            for item in (value if isinstance(value, list) else [value])
        ]
        return await self.send("GET", path, status=status, params=pairs)

    async def ingest(self, *metrics: dict[str, Any], status: int = 200, **options: Any) -> Any:
        """Post a batch."""
        return await self.send(
            "POST", "/ingest/batch", status=status, body={"metrics": list(metrics)}, **options
        )

    async def prometheus(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the Prometheus API."""
        response = await self.client.get(f"/api/v1/{path}", params=parameters)
        answer = await response.json()
        assert response.status == 200, answer
        return answer["data"]


@asynccontextmanager
async def running_native_service(url: str, **settings: Any) -> AsyncIterator[NativeClient]:
    """Serve a database with these settings."""
    await migrate(url, discard)
    chosen, state, telemetry = Settings(database_url=url, **settings), ServiceState(), Telemetry()
    app = build_application(chosen, state, telemetry)
    install_native_api(app)
    async with open_backend(chosen, telemetry, "http://here") as backend:
        state.open(backend.services)
        async with TestClient(ServiceServer(app)) as client:
            yield NativeClient(client, backend)
