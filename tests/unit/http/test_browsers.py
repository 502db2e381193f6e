"""No page acts in a user's name: other origins, content types of browsers, and headers of pages."""

import base64
import hashlib
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, make_mocked_request
from yarl import URL

from native_api.routes import install_native_api
from promcompat.api import page_handlers
from promcompat.api.routes import build_application
from promcompat.core.access import Role
from promcompat.core.errors import ForbiddenError
from promcompat.http.browsers import BrowserRules
from promcompat.http.context import ServiceState
from promcompat.http.route_roles import NEED_OF_ROUTE
from promcompat.telemetry.telemetry import Telemetry
from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import (
    GivenSettings,
    Service,
    ServiceServer,
    running_service,
)

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


def test_an_origin_that_no_header_can_name_may_not_read() -> None:
    need = next(need for _, need in CHANGING if need.role is Role.READ)
    assert rules().may_read("https://grafana.example", need)
    for origin in ("https://gräfana.example", "\udced\udca0\udc80"):
        assert not rules().may_read(origin, need)


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
        ({"external_url": "https://m.example:443/"}, "https://m.example", "127.0.0.1", True),
        ({"external_url": "http://M.example:80"}, "http://m.example", "127.0.0.1", True),
        ({"external_url": "http://m.example:443"}, "http://m.example", "127.0.0.1", False),
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


async def test_pages_without_script_run_none_and_are_not_framed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where nothing is built, there is a page without script.
    monkeypatch.setattr(page_handlers, "PAGE_FOLDER", tmp_path)
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
        # What to do without the page.
        fallback = await (await client.get("/graph")).text()
        assert f"{client.make_url('/api/v1/write')}" in fallback
        assert "make page" in fallback
        for path in ("/", "/-/healthy", "/nowhere", "/openapi.json"):
            assert (await client.get(path)).headers["X-Content-Type-Options"] == "nosniff"


async def test_the_page_runs_the_files_of_its_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "index-1.js").write_text("run()")
    (tmp_path / "index.html").write_text(
        '<html data-access="__ACCESS__" data-tenancy="__TENANCY__" data-root="__ROOT__">'
        '<script src="./assets/index-1.js" nonce="__CSP_NONCE__"></script>'
    )
    monkeypatch.setattr(page_handlers, "PAGE_FOLDER", tmp_path)
    app = build_application(GivenSettings(), ServiceState(), Telemetry())
    nonces = set()
    async with TestClient(ServiceServer(app)) as client:
        for path, root in (("/", "."), ("/graph", "."), ("/prometheus/graph", "..")):
            response = await client.get(path)
            policy, page = response.headers["Content-Security-Policy"], await response.text()
            (nonce,) = re.findall(r'nonce="([\w-]{20,})"', page)
            nonces.add(nonce)
            assert f"script-src 'self'; style-src 'self' 'nonce-{nonce}'" in policy
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert f'data-access="off" data-tenancy="single" data-root="{root}"' in page
        assert len(nonces) == 3
        asset = await client.get("/assets/index-1.js")
        assert asset.status == 200
        assert asset.content_type in ("text/javascript", "application/javascript")
        for name in ("missing.js", "..%2Findex.html", ".hidden", "%2Fetc%2Fpasswd"):
            assert (await client.get(URL(f"/assets/{name}", encoded=True))).status == 404
