"""The whole HTTP application in the process of the test, over any repository."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import AppRunner
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from promcompat.api.routes import build_application
from promcompat.composition.limits import same_limits
from promcompat.composition.options import engine_options, otlp_options
from promcompat.configuration.settings import Settings
from promcompat.core.exemplars import ExemplarLimits
from promcompat.core.limits.tenant_limits import DEFAULT_TENANT_LIMITS, NO_LIMITS, Limits
from promcompat.core.ports import Catalogue, Store
from promcompat.http.context import ServiceState
from promcompat.http.route_roles import NEED_OF_ROUTE
from promcompat.http.server import make_runner
from promcompat.limits.current_limits import CurrentLimits
from promcompat.limits.limit_service import LimitService
from promcompat.metrics.exemplar_service import ExemplarService
from promcompat.metrics.metric_service import MetricService
from promcompat.otlp.reader import OtlpReader
from promcompat.querying.query_service import QueryService
from promcompat.scraping.target_documents import MetadataDocument, TargetsDocument
from promcompat.services import Services
from promcompat.telemetry.telemetry import Telemetry
from promql.engine import Engine
from tests.support.fakes import InMemoryAudit, InMemoryExemplars

NOW_MS = 1_700_000_000_000


class GivenSettings(Settings):
    """Settings that the environment of a developer does not change."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class NoRules:
    """Stands for the services of rules and alerts, which need a database."""

    async def groups(self, tenant: str) -> list[Any]:
        return []

    async def active(self, tenant: str) -> list[Any]:
        return []

    async def silenced_by(self, tenant: str, alerts: list[Any]) -> dict[int, Any]:
        return {}


class NoScraping:
    """A service that scrapes nothing."""

    fault = ""

    async def targets(self) -> TargetsDocument:
        return TargetsDocument()

    async def metadata(self) -> MetadataDocument:
        return MetadataDocument()


def services_over(
    metrics: MetricService,
    queries: QueryService,
    otlp: OtlpReader | None = None,
    scraping: Any = None,
    limits: Limits = NO_LIMITS,
) -> Services:
    """What the Prometheus API needs; the native API needs a database."""
    unused: Any = None
    return Services(
        database="a database of a test",
        access=SimpleNamespace(audit=InMemoryAudit()),
        metrics=metrics,
        queries=queries,
        native_queries=unused,
        definitions=unused,
        corrections=unused,
        snapshots=unused,
        otlp=OtlpReader() if otlp is None else otlp,
        exemplars=ExemplarService(
            InMemoryExemplars(),
            ExemplarLimits(max_per_series=1_000, max_per_tenant=100_000, retention_ms=1 << 60),
            limits,
            metrics.now_ms,
            metrics.latest_ms,
        ),
        rules=NoRules(),
        rule_groups=unused,
        rule_files=SimpleNamespace(warnings_of=lambda _: ()),
        alerts=NoRules(),
        silences=NoRules(),
        remediations=unused,
        rule_evaluator=unused,
        thresholds=unused,
        receivers=SimpleNamespace(alertmanagers=()),
        remediation_starts=unused,
        maintenance=unused,
        dashboards=unused,
        dashboard_folder=unused,
        scraping=NoScraping() if scraping is None else scraping,
        retention=unused,
        limits=LimitService(CurrentLimits(DEFAULT_TENANT_LIMITS), unused, limits),
        usage=unused,
        alerting_stats=unused,
        launcher_stats=unused,
    )


class ServiceServer(TestServer):
    """Reads requests with the options of the real server."""

    async def _make_runner(self, **_options: Any) -> AppRunner:
        return make_runner(self.app, stop_seconds=1.0)


@dataclass
class Service:
    """A running application and what stands behind it."""

    client: TestClient[Any, Any]
    store: Store
    catalogue: Catalogue
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


@asynccontextmanager
async def running_service(
    store: Store,
    catalogue: Catalogue | None = None,
    *,
    is_ready: bool = True,
    scraping: Any = None,
    **settings: Any,
) -> AsyncIterator[Service]:
    """Serve a store with these settings and a clock that stands still.

    Without a catalogue the store is one too, as the one in memory is.
    """
    chosen, listed = GivenSettings(**settings), catalogue or store
    state, telemetry = ServiceState(), Telemetry()
    if is_ready:
        limits = same_limits(chosen)
        metrics = MetricService(
            store,
            listed,
            limits=limits,
            now_ms=lambda: NOW_MS,
        )
        engine = Engine(store, engine_options(chosen))
        queries = QueryService(store, engine, now_ms=lambda: NOW_MS)
        otlp = OtlpReader(otlp_options(chosen))
        state.open(services_over(metrics, queries, otlp, scraping, limits))
    app = build_application(chosen, state, telemetry)
    async with TestClient(ServiceServer(app)) as client:
        yield Service(client, store, listed, state, telemetry)


_PREFIX = "/prometheus"
_ANY_PART = re.compile(r"\{(\w+):\[\^/\]\+\}")


@dataclass(frozen=True, slots=True)
class InstalledRoute:
    """A route: its key in the table of roles, and its path as the router has it."""

    method: str
    path: str
    has_prefix: bool

    @property
    def key(self) -> str:
        path = _ANY_PART.sub(r"{\1}", self.path)
        key = f"{self.method} {path}"
        # The native API serves its first route with and without the final slash.
        return f"{key}/" if f"{key}/" in NEED_OF_ROUTE else key


def routes_of(app: web.Application) -> Iterator[InstalledRoute]:
    """Every route of the router."""
    for route in app.router.routes():
        assert route.resource is not None
        path = _path_of(route.resource)
        has_prefix = path.startswith(_PREFIX)
        yield InstalledRoute(route.method, path.removeprefix(_PREFIX), has_prefix)


def _path_of(resource: web.AbstractResource) -> str:
    """With the patterns of its parts, which `canonical` leaves out."""
    return str(getattr(resource, "_orig_path", resource.canonical))
