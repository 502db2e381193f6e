"""Every route of the application is behind the check of its role."""

import pytest
from aiohttp import web

from native_api.routes import ROUTES as NATIVE_ROUTES
from native_api.routes import install_native_api
from promcompat.api.routes import PREFIXES, build_application
from promcompat.http.context import ServiceState
from promcompat.http.guard import guarded
from promcompat.http.route_roles import NEED_OF_ROUTE
from promcompat.telemetry.telemetry import Telemetry
from tests.support.services.http_service import GivenSettings, routes_of


def application() -> web.Application:
    app = build_application(GivenSettings(), ServiceState(), Telemetry())
    install_native_api(app)
    return app


def test_every_route_of_the_application_has_a_role_and_every_role_a_route() -> None:
    assert {route.key for route in routes_of(application())} == set(NEED_OF_ROUTE)


def test_paths_below_the_prefix_have_the_same_routes() -> None:
    routes = list(routes_of(application()))
    without, below = (
        {route.key for route in routes if route.has_prefix == bool(prefix)} for prefix in PREFIXES
    )
    native = {f"{route.method} {route.full_path}" for route in NATIVE_ROUTES}
    pages = {key for key in without if key.split()[1] in ("/docs", "/openapi.json")}
    assert without - native - pages == below


def test_a_route_without_a_role_is_refused_when_the_application_is_built() -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(LookupError, match=r"the route GET /api/v1/secrets has no role"):
        guarded("GET", "/api/v1/secrets", handle)


def test_every_operation_of_the_native_api_names_its_role() -> None:
    for route in NATIVE_ROUTES:
        assert route.role is NEED_OF_ROUTE[f"{route.method} {route.full_path}"].role
