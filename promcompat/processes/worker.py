"""One remediation worker process from start to clean end."""

import asyncio
from contextlib import suppress

import aiohttp

from promcompat.composition import (
    action_policy,
    build_metric_service,
    build_remediation_repository,
    open_repository,
    temporal_options,
)
from promcompat.core.errors import PromcompatError
from promcompat.processes.termination import Termination
from promcompat.querying.metric_service import MetricService
from promcompat.remediation.actions import ActionRunner
from promcompat.remediation.activities import RemediationActivities
from promcompat.remediation.conditions import AlertConditionChecker
from promcompat.remediation.registry import Registered, load_registered
from promcompat.remediation.worker import WorkerOptions, run_worker
from promcompat.settings import Settings
from sql.alerting.alert_repository import PostgresAlertRepository
from sql.alerting.rule_repository import PostgresRuleRepository
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.embedded.data_folder import read_database_url
from sql.samples.metric_repository import PostgresMetricRepository


class WorkerSettingsError(PromcompatError):
    """The worker cannot run with these settings."""


async def work(settings: Settings) -> int:
    """Do remediations until asked to end; the exit code of the process.

    Waits for the database and for Temporal as long as it takes. Raises PromcompatError for
    settings with which it can never work.
    """
    options = worker_options(settings)
    registered = load_registered(settings.remediation_package)
    url = _database_url(settings)
    termination = Termination()
    repository = await _open_unless_ended(settings, url, termination)
    if repository is None:
        return termination.exit_code
    try:
        await _work_on(settings, repository, options, registered, termination)
    finally:
        await repository.close()
    return termination.exit_code


def worker_options(settings: Settings) -> WorkerOptions:
    """How the worker is set. Raises WorkerSettingsError without a Temporal."""
    if settings.temporal_address is None:
        raise WorkerSettingsError("a worker needs a Temporal: set PROMCOMPAT_TEMPORAL_ADDRESS")
    return WorkerOptions(
        temporal=temporal_options(settings, settings.temporal_address),
        task_queue=settings.task_queue,
        stop_seconds=settings.shutdown_timeout / 1000,
    )


async def _work_on(
    settings: Settings,
    repository: PostgresMetricRepository,
    options: WorkerOptions,
    registered: Registered,
    termination: Termination,
) -> None:
    journal = build_remediation_repository(repository)
    checker = build_condition_checker(build_metric_service(settings, repository), repository)
    async with aiohttp.ClientSession() as session:
        runner = ActionRunner(session, action_policy(settings), journal)
        activities = RemediationActivities(journal, runner, checker)
        await run_worker(options, activities, registered, termination.wait)


def build_condition_checker(
    metrics: MetricService, repository: PostgresMetricRepository
) -> AlertConditionChecker:
    """What verifies on the database of the service."""
    database = repository.database
    return AlertConditionChecker(
        metrics,
        PostgresAlertRepository(database, database.read_pool, (), metrics.now_ms),
        PostgresRuleRepository(database),
        PostgresDefinitionRepository(database),
    )


async def _open_unless_ended(
    settings: Settings, url: str, termination: Termination
) -> PostgresMetricRepository | None:
    opening = asyncio.create_task(open_repository(settings, url))
    ending = asyncio.create_task(termination.wait())
    await asyncio.wait({opening, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if opening.done():
        return await opening
    opening.cancel()
    with suppress(asyncio.CancelledError):
        await opening
    return None


def _database_url(settings: Settings) -> str:
    """The database that is set, or the one that `promcompat serve` runs in the data folder."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    url = read_database_url(settings.data_dir)
    if url is None:
        raise WorkerSettingsError(
            f"a worker needs the database of a service: set PROMCOMPAT_DATABASE_URL, or start "
            f"promcompat serve, whose own database would be in {settings.data_dir}"
        )
    return url
