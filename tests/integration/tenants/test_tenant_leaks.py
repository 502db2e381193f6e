"""Two tenants with tokens: nothing of one is seen or changed by the other, by any route or in SQL.

Everything that the tenant `red` stores has a mark in its names and texts. Every reading route of
the table of roles is asked by red, so that caches have the answers, and then the same by blue.
"""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import asyncpg
import pytest
from aiohttp import ClientResponse

from promcompat.core.access import Role
from promcompat.http.route_roles import NEED_OF_ROUTE
from tests.support.formats.remote_read import encode_read_request
from tests.support.formats.remote_write import encode_metadata, encode_request, encode_series
from tests.support.programs.servers import DatabaseServer
from tests.support.services.native_service import (
    OPERATOR,
    AccessService,
    NativeClient,
    running_native_service,
)
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration

MARK: Final = "crimson"
NOW_MS: Final = time.time_ns() // 1_000_000
NATIVE: Final = "/api/v1/metrics"
EVERYTHING: Final = '{__name__=~".+"}'
REMOTE_WRITE: Final = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
}
RANGE: Final = {"start": str(NOW_MS / 1000 - 60), "end": str(NOW_MS / 1000 + 60)}
RULES: Final = (
    f"name: {MARK}_group\nrules:\n  - alert: {MARK}Alert\n    expr: {MARK}_total > 0\n"
    f"    labels: {{of: {MARK}}}\n"
)
PARTS: Final = {
    "{name}": f"{MARK}_total",
    "{namespace}": f"{MARK}_space",
    "{group}": f"{MARK}_group",
    "{uid}": f"{MARK}_board",
    "{version}": "1",
}
PARAMETERS: Final[dict[str, dict[str, str]]] = {
    "/api/v1/query": {"query": EVERYTHING},
    "/api/v1/query_range": {"query": EVERYTHING, "step": "15", **RANGE},
    "/api/v1/query_exemplars": {"query": EVERYTHING, **RANGE},
    "/api/v1/format_query": {"query": "up"},
    "/api/v1/parse_query": {"query": "up"},
    "/api/v1/explain": {"query": EVERYTHING, "analyze": "true"},
    "/api/v1/series": {"match[]": EVERYTHING},
    "/api/v1/export": {"match[]": EVERYTHING},
    "/api/v1/export/csv": {"match[]": EVERYTHING, "format": "__name__,__value__,of"},
    "/api/v1/export/native": {"match[]": EVERYTHING},
    "/federate": {"match[]": EVERYTHING},
}
SHOWING: Final = 30
"""Fewer routes than show red their mark would mean that the probe asks nothing."""


class Probe:
    """A service whose tenant red has stored something of each kind."""

    def __init__(self, native: NativeClient) -> None:
        self.access = AccessService(native.client, native.services)
        self.storage = native.storage
        self.services = native.services
        self.ids: dict[str, int] = {}

    async def send(self, tenant: str, method: str, path: str, **options: Any) -> ClientResponse:
        """A request with the token of a tenant, which need not name it."""
        return await self.access.send(method, path, tenant, **options)

    async def fill(self) -> None:
        """Store something of each kind for red."""
        labels = (("__name__", f"{MARK}_total"), ("of", MARK))
        body = encode_request(
            [encode_series(labels, (NOW_MS, 9.0))], [encode_metadata(f"{MARK}_total", 1, MARK)]
        )
        await self._store("POST", "/api/v1/write", data=body, headers=REMOTE_WRITE)
        await self._store("POST", "/config/v1/rules/" + PARTS["{namespace}"], data=RULES)
        remediation = {"workflow_type": MARK, "task_queue": MARK, "needs_approval": True}
        threshold = {"critical": 8, "remediation": remediation}
        definition = {"name": f"{MARK}_queue", "unit": MARK, "alert_threshold": threshold}
        await self._store("POST", f"{NATIVE}/definitions", json=definition)
        sample = {"metrics": [{"name": f"{MARK}_queue", "value": 9, "labels": {"of": MARK}}]}
        await self._store("POST", f"{NATIVE}/ingest/batch", json=sample)
        await self.services.thresholds.dispatch_breaches()
        await self.services.remediation_starts.start_due()
        await self._remember("alerts", await self._first("alerts"))
        await self._remember("remediations", await self._first("remediations"))
        rule = {"name": f"{MARK}Rule", "expr": f"{MARK}_total > 1"}
        await self._remember("rules", await self._made("rules", rule))
        silence = {"labels": {"of": MARK}, "reason": MARK}
        await self._remember("silences", await self._made("silences", silence))
        await self._remember("tokens", await self._made("tokens", _token(f"{MARK}-reader")))
        board = {"uid": PARTS["{uid}"], "dashboard": {"title": MARK}}
        await self._store("POST", f"{NATIVE}/dashboards", json=board)
        gone = {"name": f"{MARK}_gone", "reason": MARK}
        await self._remember("corrections", await self._made("corrections/delete", gone))

    async def _store(self, method: str, path: str, **options: Any) -> ClientResponse:
        response = await self.send("red", method, path, **options)
        assert response.status < 300, await response.text()
        return response

    async def _made(self, kind: str, body: dict[str, Any]) -> Any:
        made = await (await self._store("POST", f"{NATIVE}/{kind}", json=body)).json()
        return made.get("about", made)

    async def _first(self, kind: str) -> Any:
        listed = await (await self._store("GET", f"{NATIVE}/{kind}")).json()
        return listed[kind][0]

    async def _remember(self, kind: str, made: Any) -> None:
        self.ids[kind] = int(made["id"])

    def path_of(self, route_path: str) -> str:
        """The path of a route, with the names and ids of what red has."""
        for part, name in PARTS.items():
            route_path = route_path.replace(part, name)
        kind = route_path.removeprefix(f"{NATIVE}/").partition("/")[0]
        return route_path.replace("{id}", str(self.ids.get(kind, 1)))

    async def read(self, tenant: str, route: str) -> ClientResponse:
        """What a tenant gets of a reading route."""
        method, _, path = route.partition(" ")
        if path == "/api/v1/read":
            matchers = [(0, NOW_MS + 60_000, [("__name__", "=~", ".+")])]
            return await self.send(tenant, method, path, data=encode_read_request(matchers, []))
        parameters = PARAMETERS.get(path, {})
        options = {"params" if method == "GET" else "data": parameters}
        return await self.send(tenant, method, self.path_of(path), **options)


def _token(name: str) -> dict[str, Any]:
    return {"name": name, "roles": ["read"], "tenants": ["red"]}


def _reading_routes() -> Iterator[str]:
    """Those of the role `read`, and what an administrator reads, for one tenant."""
    for route, need in NEED_OF_ROUTE.items():
        is_reading = need.role is Role.READ or (need.role is Role.ADMIN and route[:4] == "GET ")
        if is_reading and not need.is_service_wide:
            yield route


@pytest.fixture
async def probe(timescaledb_database_url: str) -> AsyncIterator[Probe]:
    async with running_native_service(
        timescaledb_database_url, access="tokens", tenancy="header"
    ) as native:
        probe = Probe(native)
        for tenant in ("red", "blue"):
            await probe.access.make(tenant, *Role, tenants=[tenant])
        await probe.fill()
        yield probe


async def _content(response: ClientResponse) -> str:
    return (await response.read()).decode(errors="replace")


async def assert_nothing_leaks(probe: Probe) -> int:
    """Ask every reading route as red, then as blue; how many of them show red their mark."""
    leaks, n_showing = [], 0
    for route in _reading_routes():
        of_red = await probe.read("red", route)
        assert of_red.status < 500, route
        assert of_red.status not in (401, 403), route
        n_showing += MARK in await _content(of_red)
        of_blue = await probe.read("blue", route)
        assert of_blue.status < 500, route
        assert of_blue.status not in (401, 403), route
        text = (await _content(of_blue)).replace(probe.path_of(route.partition(" ")[2]), "")
        # What a request names may be repeated by its answer, when that says there is no such thing.
        if of_blue.status != 404 and MARK in text:
            leaks.append(route)
    assert leaks == []
    return n_showing


async def test_no_route_shows_what_another_tenant_has(probe: Probe) -> None:
    assert await assert_nothing_leaks(probe) >= SHOWING
    await probe.storage.drains.drainer.drain_all()
    assert await assert_nothing_leaks(probe) >= SHOWING
    for route in _reading_routes():
        method, _, path = route.partition(" ")
        answer = await probe.access.send(method, probe.path_of(path), "blue", tenant="red")
        assert answer.status == 403, route


CHANGES: Final = (
    ("DELETE", "/config/v1/rules/{namespace}", None),
    ("DELETE", "/config/v1/rules/{namespace}/{group}", None),
    ("PATCH", f"{NATIVE}/definitions/{MARK}_queue", {"unit": "s"}),
    ("DELETE", f"{NATIVE}/definitions/{MARK}_queue", None),
    ("PUT", f"{NATIVE}/rules/{{id}}", {"name": "mine", "expr": "up"}),
    ("PATCH", f"{NATIVE}/rules/{{id}}", {"expr": "up"}),
    ("POST", f"{NATIVE}/rules/{{id}}/disable", None),
    ("DELETE", f"{NATIVE}/rules/{{id}}", None),
    ("POST", f"{NATIVE}/alerts/{{id}}/acknowledge", {}),
    ("POST", f"{NATIVE}/alerts/{{id}}/resolve", {"reason": "over"}),
    ("DELETE", f"{NATIVE}/silences/{{id}}", None),
    ("POST", f"{NATIVE}/remediations/{{id}}/approve", {}),
    ("POST", f"{NATIVE}/remediations/{{id}}/deny", {}),
    ("POST", f"{NATIVE}/remediations/{{id}}/cancel", {}),
    ("DELETE", f"{NATIVE}/tokens/{{id}}", None),
    ("DELETE", f"{NATIVE}/dashboards/{{uid}}", None),
    ("POST", f"{NATIVE}/dashboards/{{uid}}/versions/{{version}}/restore", None),
)


async def test_no_route_changes_what_another_tenant_has(probe: Probe) -> None:
    kinds = (
        "dashboards",
        "alerts",
        "rules",
        "silences",
        "remediations",
        "definitions",
        "corrections",
    )
    paths = [f"{NATIVE}/{kind}" for kind in kinds] + ["/config/v1/rules", "/api/v1/export"]

    async def everything_of_red() -> list[str]:
        asked = [await probe.send("red", "GET", path, params=_selector(path)) for path in paths]
        return [await _content(answer) for answer in asked]

    before = await everything_of_red()
    for method, path, body in CHANGES:
        options = {} if body is None else {"json": body}
        answer = await probe.send("blue", method, probe.path_of(path), **options)
        assert answer.status == 404, (method, path, await answer.text())
    deletion = {"name": f"{MARK}_total", "reason": "mine"}
    deleted = await probe.send("blue", "POST", f"{NATIVE}/corrections/delete", json=deletion)
    assert (await deleted.json())["affected"]["series"] == 0
    assert await everything_of_red() == before
    tokens = await probe.services.access.tokens.list(OPERATOR)
    assert f"{MARK}-reader" in {token.name for token in tokens}


def _selector(path: str) -> dict[str, str]:
    return {"match[]": EVERYTHING} if path == "/api/v1/export" else {}


READABLE: Final = """
SELECT c.oid::regclass::text FROM pg_class AS c
WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND has_table_privilege(c.oid, 'SELECT')
    AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
ORDER BY 1
"""


async def test_no_table_or_view_shows_what_another_tenant_has(
    probe: Probe, timescaledb_database_url: str, timescaledb_server: DatabaseServer
) -> None:
    sample = {"name": "of_blue", "value": 1}
    assert (await probe.send("blue", "POST", f"{NATIVE}/ingest", json=sample)).status == 200
    await probe.storage.drains.drainer.drain_all()
    database = timescaledb_database_url.rpartition("/")[2]
    for tenant in ("red", "blue"):
        role = f"{tenant}_of_{database}"
        timescaledb_server.run_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'test'")
        async with connected(timescaledb_database_url) as owner:
            await owner.execute("SELECT grant_tenant_reader($1, $2)", role, tenant)
        async with connected(timescaledb_server.url(database, role)) as reader:
            showing = await _showing(reader)
        assert bool(showing) == (tenant == "red"), showing


async def _showing(reader: asyncpg.Connection) -> list[str]:
    """The tables and views in which the role finds the mark."""
    found = []
    for row in await reader.fetch(READABLE):
        statement = f"SELECT EXISTS (SELECT FROM {row[0]} AS r WHERE r::text LIKE $1)"  # noqa: S608
        if await reader.fetchval(statement, f"%{MARK}%"):
            found.append(row[0])
    return found
