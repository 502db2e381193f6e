"""The native API on a real database in the process of the test, with or without tokens."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from native_api.routes import install_native_api
from promcompat.access.token_service import TokenRequest
from promcompat.api.routes import build_application
from promcompat.composition.network import ServiceAddress
from promcompat.composition.services import Backend, open_backend
from promcompat.configuration.settings import Settings
from promcompat.core.access import ALL_ROLES, Principal, Role, Token
from promcompat.http.context import ServiceState
from promcompat.services import Services
from promcompat.telemetry.telemetry import Telemetry
from sql.migrate import migrate
from tests.support.services.http_service import ServiceServer
from tests.support.storage.repositories import discard

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


def unix_time(text: str) -> float:
    """A time of an answer in Unix seconds."""
    return datetime.fromisoformat(text).timestamp()


@asynccontextmanager
async def running_native_service(url: str, **settings: Any) -> AsyncIterator[NativeClient]:
    """Serve a database with these settings."""
    await migrate(url, discard)
    chosen, state, telemetry = Settings(database_url=url, **settings), ServiceState(), Telemetry()
    app = build_application(chosen, state, telemetry)
    install_native_api(app)
    async with open_backend(
        chosen, telemetry, ServiceAddress(external_url="http://here")
    ) as backend:
        state.open(backend.services)
        async with TestClient(ServiceServer(app)) as client:
            yield NativeClient(client, backend)


OPERATOR = Principal("operator", ALL_ROLES, None)


@dataclass
class AccessService:
    """A running service, and the texts of its tokens by their names."""

    client: TestClient[Any, Any]
    services: Services
    texts: dict[str, str] = field(default_factory=dict)

    async def make(
        self,
        name: str,
        *roles: Role,
        tenants: Iterable[str] | None = ("default",),
        expires_at_ms: int | None = None,
    ) -> Token:
        """A token with these roles and tenants."""
        request = TokenRequest(
            name=name,
            roles=frozenset(roles),
            tenants=None if tenants is None else frozenset(tenants),
            expires_at_ms=expires_at_ms,
        )
        token, self.texts[name] = await self.services.access.tokens.create(request, OPERATOR)
        return token

    async def send(
        self,
        method: str,
        path: str,
        token: str | None,
        *,
        tenant: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ClientResponse:
        """A request with the token of this name (None: without one), for a tenant if given."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {self.texts[token]}"
        if tenant is not None:
            sent["X-Scope-OrgID"] = tenant
        return await self.client.request(
            method, path, headers=sent, allow_redirects=False, **options
        )


@asynccontextmanager
async def running_access_service(url: str, **settings: Any) -> AsyncIterator[AccessService]:
    """Serve a database to those who have a token."""
    async with running_native_service(url, access="tokens", **settings) as native:
        yield AccessService(native.client, native.services)
