"""No page acts in a user's name: other origins, content types of browsers, and headers of pages."""

import base64
import hashlib
import re
import socket
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, make_mocked_request

from native_api.routes import install_native_api
from promcompat.api.routes import build_application
from promcompat.core.access import Role
from promcompat.core.errors import ForbiddenError
from promcompat.http.browsers import BrowserRules
from promcompat.http.context import ServiceState
from promcompat.http.route_roles import NEED_OF_ROUTE
from promcompat.telemetry import Telemetry
from tests.fakes import InMemoryStore
from tests.http_service import GivenSettings, Service, ServiceServer, running_service

HOST = "metrics.example:9201"
SAFE = ("GET", "HEAD", "OPTIONS")
OTHER_PAGES = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://metrics.example:3000"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://[", "Sec-Fetch-Site": "same-origin"},
    {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "cross-site"},
)
CHANGING = [
    (route, need)
    for route, need in NEED_OF_ROUTE.items()
    if need.role is not None and route.split()[0] not in SAFE
]


def rules(**settings: Any) -> BrowserRules:
    return BrowserRules.of(GivenSettings(**settings))


def check(rules: BrowserRules, route: str, headers: dict[str, str], host: str = HOST) -> None:
    method, path = route.split()
    method = "POST" if method == "*" else method
    request = make_mocked_request(method, path, headers={"Host": host, **headers})
    rules.check(request, NEED_OF_ROUTE[route])


def test_no_page_of_another_origin_changes_anything() -> None:
    for of in (rules(), rules(access="tokens"), rules(access="tokens", cors_origin=".*")):
        for headers in OTHER_PAGES:
            for route, need in CHANGING:
                if need.role is Role.READ:
                    continue
                with pytest.raises(ForbiddenError, match="another origin"):
                    check(of, route, headers)


def test_pages_that_may_read_may_query() -> None:
    queries = [route for route, need in CHANGING if need.role is Role.READ]
    page = {"Origin": "https://grafana.example", "Sec-Fetch-Site": "cross-site"}
    for route in queries:
        check(rules(), route, page)
        check(rules(access="tokens", cors_origin="https://grafana.example"), route, page)
        with pytest.raises(ForbiddenError):
            check(rules(access="tokens"), route, page)


@pytest.mark.parametrize(
    ("settings", "origin", "host", "is_own"),
    [
        ({}, "http://127.0.0.1:9201", "127.0.0.1:9201", True),
        ({}, "http://[::1]:9201", "[::1]:9201", True),
        ({}, "http://localhost:9201", "localhost:9201", True),
        ({}, f"http://{socket.gethostname()}", socket.gethostname(), True),
        ({}, "http://localhost:3000", "localhost:9201", False),
        # A name of a stranger that leads here: only access, which such a page has not, tells.
        ({}, "http://evil.example", "evil.example", False),
        ({"access": "tokens"}, "https://m.example", "m.example", True),
        ({"access": "tokens"}, "https://m.example:1", "m.example", False),
        ({"external_url": "https://m.example/metrics"}, "https://m.example", "127.0.0.1", True),
        ({"external_url": "https://m.example/metrics"}, "https://n.example", "127.0.0.1", False),
    ],
)
def test_own_pages_may_change_things(
    settings: dict[str, Any], origin: str, host: str, is_own: bool
) -> None:
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    try:
        check(rules(**settings), "POST /api/v1/metrics/rules", headers, host)
    except ForbiddenError:
        assert not is_own
    else:
        assert is_own


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("text/plain", 415), ("", 415), ("application/json", 204), ("application/x-protobuf", 204)],
)
async def test_a_page_sends_only_types_that_browsers_ask_about(
    content_type: str, status: int
) -> None:
    async with running_service(InMemoryStore()) as service:
        headers = {"Content-Type": content_type, "Origin": str(service.client.make_url("/"))[:-1]}
        path = "/api/v1/import/prometheus"
        assert (await service.post(path, data=b"a 1\n", headers=headers)).status == status
        # Programs send no Origin, and whatever type they like.
        del headers["Origin"]
        assert (await service.post(path, data=b"a 1\n", headers=headers)).status == 204


CORS = "Access-Control-Allow-Origin"


async def allowed(service: Service, method: str, path: str, asked: str = "") -> str | None:
    headers = {"Origin": "https://page.example"}
    if asked:
        headers["Access-Control-Request-Method"] = asked
    response = await service.client.request(method, path, headers=headers)
    assert response.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in response.headers
    return response.headers.get(CORS)


@pytest.mark.parametrize("prefix", ["", "/prometheus"])
async def test_pages_read_the_query_api_and_nothing_else(prefix: str) -> None:
    async with running_service(InMemoryStore()) as service:
        origin = "https://page.example"
        assert await allowed(service, "GET", f"{prefix}/api/v1/labels") == origin
        assert await allowed(service, "GET", f"{prefix}/api/v1/label/x/values") == origin
        assert await allowed(service, "OPTIONS", f"{prefix}/api/v1/query", "POST") == origin
        for path in ("/metrics", "/api/v1/status/config", "/-/healthy", "/nowhere"):
            assert await allowed(service, "GET", prefix + path) is None
        for path in ("write", "admin/tsdb/delete_series", "import/prometheus", "nowhere"):
            assert await allowed(service, "OPTIONS", f"{prefix}/api/v1/{path}", "POST") is None


def test_with_access_pages_read_by_a_list() -> None:
    need = NEED_OF_ROUTE["GET /api/v1/query"]
    listed = rules(access="tokens", cors_origin="https://(a|b).example")
    for of, origin, is_allowed in (
        (rules(), "https://any.example", True),
        (rules(access="tokens"), "https://any.example", False),
        (rules(access="gateway"), "https://any.example", False),
        (listed, "https://b.example", True),
        (listed, "https://b.example.evil", False),
    ):
        assert of.may_read(origin, need) is is_allowed


async def test_pages_run_no_script_and_are_not_framed() -> None:
    settings = GivenSettings()
    app = build_application(settings, ServiceState(), Telemetry())
    install_native_api(app)
    async with TestClient(ServiceServer(app)) as client:
        for path in ("/", "/docs"):
            response = await client.get(path)
            policy, page = response.headers["Content-Security-Policy"], await response.text()
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "script" not in policy
            styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
            assert styles
            for style in styles:
                digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
                assert f"'sha256-{digest}'" in policy
            assert not re.search(r"<script|\son\w+=|\sstyle=", page)
            assert response.headers["X-Frame-Options"] == "DENY"
            assert response.headers["Referrer-Policy"] == "no-referrer"
        for path in ("/", "/-/healthy", "/nowhere", "/openapi.json"):
            assert (await client.get(path)).headers["X-Content-Type-Options"] == "nosniff"
