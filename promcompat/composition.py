"""The composition root: settings become a pool, repositories, services and an HTTP application."""

import asyncio
import dataclasses
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from promcompat.alert_composition import Alerting
from promcompat.core.errors import PromcompatError, StorageUnavailableError
from promcompat.core.label_limits import LabelLimits
from promcompat.core.remediation import (
    OPEN_STATES,
    RemediationCheck,
    RemediationJournal,
    RemediationLauncher,
)
from promcompat.metrics.definition_service import DefinitionService
from promcompat.querying.metric_service import MetricService
from promcompat.querying.native_query_service import NativeQueryService
from promcompat.querying.result_cache import RangeResultCache
from promcompat.remediation.actions import ActionPolicy
from promcompat.remediation.payloads import REMEDIATION_WORKFLOW
from promcompat.remediation.registry import RegistryError, load_registered
from promcompat.remediation.service import RemediationService
from promcompat.remediation.spec_check import SpecChecker
from promcompat.remediation.temporal import (
    LauncherStats,
    TemporalOptions,
    UnconfiguredRemediationLauncher,
)
from promcompat.services import Services
from promcompat.settings import DAY_MS, Settings
from promcompat.telemetry import Telemetry
from promql.engine import Engine, EngineOptions
from sql.database.connecting import describe_place
from sql.database.database import DatabaseOptions
from sql.database.database_check import check_database
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.embedded.data_folder import read_database_url
from sql.embedded.database import EmbeddedDatabase
from sql.migrate import MigrationError, migrate
from sql.pushdown.choice import PushdownMode
from sql.remediations.remediation_repository import PostgresRemediationRepository
from sql.samples.metric_repository import PostgresMetricRepository, StorageOptions

if TYPE_CHECKING:
    from promcompat.remediation.launcher import TemporalRemediationLauncher

ResultT = TypeVar("ResultT")

_LOGGER = logging.getLogger(__name__)
_RETRY_SECONDS = 2.0
_PUBLISH_SECONDS = 5.0
_USE_TIMESCALEDB = {"auto": None, "require": True, "off": False}


def engine_options(settings: Settings) -> EngineOptions:
    """The limits of queries."""
    return EngineOptions(
        lookback_delta_ms=settings.query_lookback_delta,
        max_samples=settings.query_max_samples,
        max_memory_bytes=settings.query_max_memory_bytes,
        max_shared_memory_bytes=settings.queries_max_memory_bytes
        or 2 * settings.query_max_memory_bytes,
        timeout_seconds=settings.query_timeout / 1000,
        delayed_name_removal=settings.delayed_name_removal,
        default_subquery_step_ms=settings.query_default_step,
        max_concurrency=settings.query_max_concurrency,
    )


def database_options(settings: Settings) -> DatabaseOptions:
    """The limits of connections."""
    return DatabaseOptions(
        query_timeout_seconds=settings.query_timeout / 1000,
        is_own_server=_is_own_server(settings),
        max_tenants=settings.max_tenants,
    )


def storage_options(settings: Settings) -> StorageOptions:
    """The limits of what is kept and remembered."""
    return StorageOptions(
        max_samples=settings.query_max_samples,
        max_memory_bytes=settings.query_max_memory_bytes,
        sample_cache_bytes=settings.query_sample_cache_bytes,
        series_cache_bytes=settings.series_cache_bytes,
        label_limits=label_limits(settings),
        pushdown=PushdownMode.AUTO if settings.pushdown else PushdownMode.OFF,
        alert_max_sample_age_ms=settings.alert_max_sample_age,
    )


def label_limits(settings: Settings) -> LabelLimits:
    """How large a series may be."""
    return LabelLimits(
        max_names=settings.max_label_names_per_series,
        max_names_of_info=settings.max_label_names_per_info_series,
        max_name_bytes=settings.max_label_name_bytes,
        max_value_bytes=settings.max_label_value_bytes,
        max_metadata_bytes=settings.max_metadata_bytes,
    )


def _is_own_server(settings: Settings) -> bool:
    """Whether the database is the one that comes along; workers are told its address."""
    given = settings.database_url
    return given is None or given.get_secret_value() == read_database_url(settings.data_dir)


def build_metric_service(
    settings: Settings,
    repository: PostgresMetricRepository,
    large_query_ended: Callable[[], None] = lambda: None,
) -> MetricService:
    """The use cases over one repository; `large_query_ended` as in Engine."""
    engine = Engine(repository, engine_options(settings), large_query_ended)
    return MetricService(
        repository,
        engine,
        max_future_ms=settings.max_future,
        label_limits=label_limits(settings),
        range_cache=build_range_cache(settings, engine, repository),
    )


def build_range_cache(
    settings: Settings, engine: Engine, repository: PostgresMetricRepository
) -> RangeResultCache | None:
    """What keeps answers of range queries; None when there is nothing to keep them in.

    With delayed name removal label sets are compared over all steps at once, so that no step
    stands for itself.
    """
    if not settings.query_cache_bytes or settings.delayed_name_removal:
        return None
    cache = RangeResultCache(engine, repository, max_bytes=settings.query_cache_bytes)
    repository.database.guard.on_step_back(cache.forget)
    return cache


def build_services(
    settings: Settings,
    repository: PostgresMetricRepository,
    metrics: MetricService,
    remediations: "Remediations",
    alerting: Alerting,
) -> Services:
    """The use cases that both HTTP APIs serve."""
    definitions = PostgresDefinitionRepository(repository.database)
    return Services(
        database=repository.database.capabilities.describe(),
        metrics=metrics,
        native_queries=NativeQueryService(
            repository.sample_list_reader(), repository, definitions, metrics
        ),
        definitions=DefinitionService(
            definitions,
            repository.threshold_watch.catch_up,
            settings.max_definitions,
            remediations.check,
        ),
        rules=alerting.rules,
        alerts=alerting.alerts,
        remediations=remediations.service,
        alertmanager_urls=alerting.alertmanager_urls,
    )


@dataclass(frozen=True, slots=True)
class Remediations:
    """What a serving process has for remediations."""

    repository: PostgresRemediationRepository
    launcher: RemediationLauncher
    service: RemediationService
    stats: LauncherStats
    check: RemediationCheck


def build_remediations(settings: Settings, repository: PostgresMetricRepository) -> Remediations:
    """The use cases of remediations, and what starts them. Temporal is reached when needed."""
    records = build_remediation_repository(repository)
    launcher = _build_launcher(settings, records)
    service = RemediationService(records, records, launcher)
    check = build_remediation_check(settings)
    return Remediations(records, launcher, service, launcher.stats, check)


def action_policy(settings: Settings) -> ActionPolicy:
    """What the operator lets remediations touch."""
    return ActionPolicy(
        commands=settings.remediation_commands,
        http_hosts=frozenset(settings.remediation_http_hosts),
        sql_functions=frozenset(settings.remediation_sql_functions),
    )


def build_remediation_check(settings: Settings) -> SpecChecker:
    """What checks remediations when they are defined."""
    workflow_types: frozenset[str] | None
    try:
        registered = load_registered(settings.remediation_package)
    except RegistryError as exc:
        # The worker needs the package and says so; the service only checks less without it.
        _LOGGER.warning("workflow types are not checked", extra={"reason": str(exc)})
        workflow_types = None
    else:
        workflow_types = frozenset({REMEDIATION_WORKFLOW, *registered.workflow_types})
    return SpecChecker(settings.task_queue, action_policy(settings), workflow_types)


def _build_launcher(
    settings: Settings, journal: RemediationJournal
) -> "TemporalRemediationLauncher | UnconfiguredRemediationLauncher":
    if settings.temporal_address is None:
        return UnconfiguredRemediationLauncher(journal)
    # Here, as Temporal's client costs 0.3 s and 30 MB that most services need not pay.
    from promcompat.remediation.launcher import TemporalRemediationLauncher

    return TemporalRemediationLauncher(
        temporal_options(settings, settings.temporal_address), journal
    )


def build_remediation_repository(
    repository: PostgresMetricRepository,
) -> PostgresRemediationRepository:
    """What is recorded of remediations, on the connections of the metric repository."""
    return PostgresRemediationRepository(repository.database)


def temporal_options(settings: Settings, address: str) -> TemporalOptions:
    """How to reach the Temporal at an address."""
    api_key = settings.temporal_api_key
    return TemporalOptions(
        address=address,
        namespace=settings.temporal_namespace,
        api_key=api_key.get_secret_value() if api_key else None,
        uses_tls=settings.temporal_tls,
        timeout_seconds=settings.temporal_timeout / 1000,
    )


def start_database(settings: Settings) -> EmbeddedDatabase | None:
    """Start the service's own database, None when the settings name one. Blocks.

    Raises EmbeddedDatabaseError.
    """
    if settings.database_url is not None:
        return None
    return EmbeddedDatabase.start(settings.data_dir, report=_LOGGER.info)


async def migrate_database(settings: Settings, url: str) -> int:
    """Bring the database to the schema of this code and return its version.

    Raises MigrationError, and StorageUnavailableError when the database does not answer.
    """
    try:
        return await migrate(
            url,
            _LOGGER.info,
            use_timescaledb=_USE_TIMESCALEDB[settings.timescaledb],
            chunk_days=settings.chunk_interval // DAY_MS,
        )
    except MigrationError as exc:
        raise MigrationError(f"cannot use {describe_place(url)}: {exc}") from exc


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a start waits for a database that does not answer yet, and who is told of it."""

    seconds: float = math.inf
    tell: Callable[[str], None] = lambda _reason: None


ENDLESS = Patience()
"""Of a service: a database that starts later is no reason to exit, as senders keep samples."""
SHORT = Patience(30.0)
"""Of a command that somebody waits for."""


async def migrate_when_answering(settings: Settings, url: str, patience: Patience = ENDLESS) -> int:
    """Migrate as soon as the database answers; returns the schema version.

    Raises MigrationError, DatabaseRefusedError when the database can never be used as it is set,
    and StorageUnavailableError when patience ends.
    """

    async def attempt() -> int:
        await check_database(url)
        return await migrate_database(settings, url)

    return await _try_until_answered(attempt, patience)


async def open_repository(
    settings: Settings, url: str, patience: Patience = ENDLESS, *, is_checked: bool = False
) -> PostgresMetricRepository:
    """Connect to a migrated database as soon as it answers; errors as above.

    `is_checked`: this process has looked already whether the database can be used.
    """

    async def attempt() -> PostgresMetricRepository:
        if not is_checked:
            await check_database(url)
        return await PostgresMetricRepository.open(
            url, storage_options(settings), database_options(settings)
        )

    return await _try_until_answered(attempt, patience)


async def _try_until_answered(
    attempt: Callable[[], Awaitable[ResultT]], patience: Patience
) -> ResultT:
    deadline = time.monotonic() + patience.seconds
    while True:
        try:
            return await attempt()
        except StorageUnavailableError as exc:
            if time.monotonic() + _RETRY_SECONDS > deadline:
                raise
            _LOGGER.warning("waiting for the database", extra={"reason": str(exc)})
            patience.tell(str(exc))
            await asyncio.sleep(_RETRY_SECONDS)


async def publish_storage_stats(telemetry: Telemetry, repository: PostgresMetricRepository) -> None:
    """Bring the adapter's totals into our metrics, until cancelled."""
    publish = storage_publisher(telemetry, repository)
    while True:
        publish()
        await asyncio.sleep(_PUBLISH_SECONDS)


def storage_publisher(
    telemetry: Telemetry, repository: PostgresMetricRepository
) -> Callable[[], None]:
    """What brings the adapter's totals into our metrics once."""
    return lambda: telemetry.storage.update(dataclasses.asdict(repository.stats))


async def publish_remediation_stats(telemetry: Telemetry, remediations: Remediations) -> None:
    """Bring the launcher's totals and the open remediations into our metrics, until cancelled."""
    while True:
        try:
            n_open = await remediations.repository.count_open()
        except PromcompatError as exc:
            _LOGGER.debug("open remediations not counted", extra={"reason": str(exc)})
        else:
            counts = {state.value: n_open.get(state, 0) for state in OPEN_STATES}
            telemetry.remediation.update(dataclasses.asdict(remediations.stats), counts)
        await asyncio.sleep(_PUBLISH_SECONDS)
