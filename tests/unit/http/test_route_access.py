"""Every route x every role x no token x another tenant's token: who gets in, and who does not.

The routes are those that the application has; each handler is replaced by one that says it was
reached. So a route that is registered without the check of its role fails here.
"""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

import native_api.routes
import promcompat.api.routes
from promcompat.access.access import Access
from promcompat.access.authenticator import Authenticator
from promcompat.access.token_service import TokenRequest, TokenService
from promcompat.access.token_table import TokenTable, TokenUses
from promcompat.access.token_text import new_token_text
from promcompat.core.access import ALL_ROLES, Principal, Role, roles_with_included
from promcompat.http.context import ServiceState
from promcompat.http.guard import guarded
from promcompat.http.route_roles import NEED_OF_ROUTE, Need
from promcompat.telemetry.telemetry import Telemetry
from tests.support.fakes import InMemoryAudit, InMemoryTokens
from tests.support.services.http_service import (
    GivenSettings,
    InstalledRoute,
    ServiceServer,
    routes_of,
)

REACHED, SHOWN_METHOD = 299, {"*": "POST"}
OWN_SECRET = "what the service shows itself"
OPERATOR = Principal("operator", ALL_ROLES, None)
_PART = re.compile(r"\{[^}]*\}")


class Application:
    """The application with marked handlers, and a way to ask all of its routes."""

    def __init__(self, app: web.Application, client: TestClient[Any, Any], access: Access) -> None:
        self.all_routes = list(routes_of(app))
        # Those below the prefix are the same, and asked by one test only.
        self.routes = [route for route in self.all_routes if not route.has_prefix]
        self.access = access
        self._client = client

    async def token(self, *roles: Role, tenants: tuple[str, ...] | None) -> str:
        """The text of a new token."""
        n_tokens = len(await self.access.tokens.list(OPERATOR))
        request = TokenRequest(
            name=f"token-{n_tokens}",
            roles=frozenset(roles),
            tenants=None if tenants is None else frozenset(tenants),
        )
        _, text = await self.access.tokens.create(request, OPERATOR)
        return text

    async def statuses(self, token: str | None, tenant: str | None) -> dict[InstalledRoute, int]:
        """What each route answers to somebody with this token, who asks for this tenant."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if tenant is not None:
            headers["X-Scope-OrgID"] = tenant
        return {route: await self._status(route, headers) for route in self.routes}

    async def _status(self, route: InstalledRoute, headers: dict[str, str]) -> int:
        path = ("/prometheus" if route.has_prefix else "") + _PART.sub("1", route.path)
        method = SHOWN_METHOD.get(route.method, route.method)
        response = await self._client.request(method, path, headers=headers, allow_redirects=False)
        return response.status

    def expected(self, status_of: Callable[[Need], int]) -> dict[InstalledRoute, int]:
        """The status of each route, by what the table says it needs."""
        return {
            route: REACHED if (need := NEED_OF_ROUTE[route.key]).role is None else status_of(need)
            for route in self.routes
        }


def _access(repository: InMemoryTokens) -> Access:
    table, uses = TokenTable(repository), TokenUses(repository)
    return Access(
        authenticator=Authenticator(table, uses, own_secret=OWN_SECRET),
        tokens=TokenService(repository, table, max_tokens=100),
        audit=InMemoryAudit(),
        table=table,
        uses=uses,
        refresh_issuer=None,
    )


@asynccontextmanager
async def running(
    monkeypatch: pytest.MonkeyPatch, repository: InMemoryTokens, **settings: Any
) -> AsyncIterator[Application]:
    async def reached(request: web.Request) -> web.Response:
        return web.Response(status=REACHED)

    def marked(method: str, path: str, handler: object) -> Any:
        return guarded(method, path, reached)

    monkeypatch.setattr(promcompat.api.routes, "guarded", marked)
    monkeypatch.setattr(native_api.routes, "guarded", marked)
    state, access = ServiceState(), _access(repository)
    services: Any = SimpleNamespace(access=access)
    state.open(services)
    app = promcompat.api.routes.build_application(GivenSettings(**settings), state, Telemetry())
    native_api.routes.install_native_api(app)
    async with TestClient(ServiceServer(app)) as client:
        yield Application(app, client, access)


@pytest.fixture
async def many_tenants(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    async with running(
        monkeypatch, InMemoryTokens(), access="tokens", tenancy="header"
    ) as application:
        yield application


@pytest.fixture
async def one_tenant(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    async with running(monkeypatch, InMemoryTokens(), access="tokens") as application:
        yield application


@pytest.mark.parametrize("role", Role)
async def test_a_role_opens_its_routes_for_its_tenant_only(
    role: Role, many_tenants: Application
) -> None:
    text = await many_tenants.token(role, tenants=("a",))
    included = roles_with_included((role,))
    for tenant in ("a", None):
        assert await many_tenants.statuses(text, tenant) == many_tenants.expected(
            lambda need: REACHED if need.role in included and not need.is_service_wide else 403
        )
    assert await many_tenants.statuses(text, "b") == many_tenants.expected(lambda need: 403)


@pytest.mark.parametrize("role", Role)
async def test_a_role_for_all_tenants_opens_what_is_about_all_of_them(
    role: Role, many_tenants: Application
) -> None:
    text = await many_tenants.token(role, tenants=None)
    included = roles_with_included((role,))
    assert await many_tenants.statuses(text, "b") == many_tenants.expected(
        lambda need: REACHED if need.role in included else 403
    )


async def test_the_service_reads_its_own_metrics_and_does_nothing_else(
    many_tenants: Application,
) -> None:
    assert await many_tenants.statuses(OWN_SECRET, "b") == many_tenants.expected(
        lambda need: REACHED if need.role is Role.READ else 403
    )


async def test_without_a_valid_token_only_public_routes_answer(many_tenants: Application) -> None:
    many_tenants.routes = many_tenants.all_routes
    unauthorized = many_tenants.expected(lambda need: 401)
    assert await many_tenants.statuses(None, "a") == unauthorized
    assert await many_tenants.statuses(new_token_text(), "a") == unauthorized


@pytest.mark.parametrize("role", Role)
async def test_with_one_tenant_its_tokens_open_everything_of_their_role(
    role: Role, one_tenant: Application
) -> None:
    text = await one_tenant.token(role, tenants=("default",))
    included = roles_with_included((role,))
    assert await one_tenant.statuses(text, None) == one_tenant.expected(
        lambda need: REACHED if need.role in included else 403
    )
    others = await one_tenant.token(*Role, tenants=("b",))
    assert await one_tenant.statuses(others, None) == one_tenant.expected(lambda need: 403)


async def test_what_cannot_be_checked_is_answered_503_by_every_route(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = InMemoryTokens()
    async with running(monkeypatch, repository, access="tokens") as application:
        repository.is_away = True
        assert await application.statuses(new_token_text(), None) == application.expected(
            lambda need: 503
        )


@pytest.mark.parametrize("access", ["off", "gateway"])
async def test_everybody_gets_in_where_access_is_not_restricted(
    access: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch, InMemoryTokens(), access=access) as application:
        assert await application.statuses(None, None) == application.expected(lambda need: REACHED)
