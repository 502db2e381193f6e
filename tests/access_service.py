"""A service with restricted access on a real database, and clients with tokens of it."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from promcompat.access.token_service import TokenRequest
from promcompat.core.access import ALL_ROLES, Principal, Role, Token
from promcompat.services import Services
from tests.native_service import running_native_service

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
