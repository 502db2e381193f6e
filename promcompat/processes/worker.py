"""`promcompat worker`: does remediations that Temporal hands out, until it is asked to end."""

import uvloop

from promcompat.composition.options import action_policy, temporal_options
from promcompat.composition.remediation import build_condition_checker
from promcompat.composition.services import build_query_service
from promcompat.composition.storage import connect_storage
from promcompat.configuration.settings import Settings
from promcompat.core.errors import PromcompatError
from promcompat.outgoing.client import GuardedClient
from promcompat.processes.termination import Termination
from promcompat.remediation.actions import ActionRunner
from promcompat.remediation.activities import RemediationActivities
from promcompat.remediation.registry import Registered, load_registered
from promcompat.remediation.worker import WorkerOptions, run_worker
from sql.repositories.remediation_repository import PostgresRemediationRepository
from sql.samples.metric_storage import MetricStorage


class WorkerSettingsError(PromcompatError):
    """The worker cannot run with these settings."""


def run_work(settings: Settings) -> int:
    """Do remediations until asked to end; the exit code of the process.

    Waits for the database and for Temporal as long as it takes. Raises PromcompatError for
    settings with which it can never work.
    """
    return uvloop.run(_work(settings))


async def _work(settings: Settings) -> int:
    options = worker_options(settings)
    registered = load_registered(settings.remediation_package)
    termination = Termination()
    storage = await termination.unless_asked(connect_storage(settings))
    if storage is None:
        return termination.exit_code
    try:
        await _work_on(settings, storage, options, registered, termination)
    finally:
        await storage.close()
    return termination.exit_code


def worker_options(settings: Settings) -> WorkerOptions:
    """The options of the worker. Raises WorkerSettingsError without a Temporal."""
    if settings.temporal_address is None:
        raise WorkerSettingsError(
            "a worker needs a Temporal server; set PROMCOMPAT_TEMPORAL_ADDRESS"
        )
    return WorkerOptions(
        temporal=temporal_options(settings, settings.temporal_address),
        task_queue=settings.task_queue,
        stop_seconds=settings.shutdown_timeout / 1000,
    )


async def _work_on(
    settings: Settings,
    storage: MetricStorage,
    options: WorkerOptions,
    registered: Registered,
    termination: Termination,
) -> None:
    journal = PostgresRemediationRepository(storage.database)
    checker = build_condition_checker(build_query_service(settings, storage), storage)
    policy = action_policy(settings)
    async with GuardedClient(policy.outgoing) as client:
        runner = ActionRunner(client, policy, journal)
        activities = RemediationActivities(journal, runner, checker)
        await run_worker(options, activities, registered, termination.wait)
