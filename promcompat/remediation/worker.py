"""Polls Temporal for remediations and runs them, until asked to end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from promcompat.remediation.activities import RemediationActivities
from promcompat.remediation.launcher import client_fault, connect
from promcompat.remediation.recording import RecordingInterceptor
from promcompat.remediation.registry import Registered
from promcompat.remediation.temporal import TemporalOptions
from promcompat.remediation.workflows import RemediationWorkflow

_LOGGER = logging.getLogger(__name__)
_RETRY_SECONDS = 2.0
# Values and pure functions: the same objects inside and outside of a workflow's sandbox.
_PASSED_THROUGH = (
    "promcompat.core",
    "promcompat.remediation.payloads",
    "promcompat.remediation.plans",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """`stop_seconds` is how long running activities may take to end when the worker is to stop."""

    temporal: TemporalOptions
    task_queue: str
    stop_seconds: float


async def run_worker(
    options: WorkerOptions,
    activities: RemediationActivities,
    registered: Registered,
    ended: Callable[[], Awaitable[None]],
) -> None:
    """Work until `ended` returns.

    Connects as soon as Temporal answers, and again when the worker fails. Temporal's client itself
    restores a connection that breaks in between.
    """
    ending = asyncio.ensure_future(ended())
    working = asyncio.create_task(_work(options, activities, registered, ending))
    try:
        await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            # The loop sees the end itself and stops gracefully; connecting is cut short.
            await asyncio.wait({working}, timeout=options.stop_seconds + _RETRY_SECONDS)
    finally:
        working.cancel()
        ending.cancel()
        await asyncio.gather(working, ending, return_exceptions=True)


async def _work(
    options: WorkerOptions,
    activities: RemediationActivities,
    registered: Registered,
    ending: "asyncio.Future[None]",
) -> None:
    while not ending.done():
        try:
            async with asyncio.timeout(options.temporal.timeout_seconds):
                client = await connect(options.temporal, lazy=False)
            worker = _make_worker(client, options, activities, registered)
            await _run_until(worker, ending, options.task_queue)
        except (RuntimeError, OSError, RPCError) as exc:
            fields = {"address": options.temporal.address, "reason": client_fault(exc)}
            _LOGGER.warning("waiting for Temporal", extra=fields)
            await asyncio.wait({ending}, timeout=_RETRY_SECONDS)


async def _run_until(worker: Worker, ending: "asyncio.Future[None]", task_queue: str) -> None:
    """Run until `ending`, then let running activities end. Raises what made the worker fail."""
    running = asyncio.create_task(worker.run())
    _LOGGER.info("worker polls", extra={"task_queue": task_queue})
    try:
        await asyncio.wait({running, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await worker.shutdown()
        await running
    finally:
        running.cancel()


def _make_worker(
    client: Client,
    options: WorkerOptions,
    activities: RemediationActivities,
    registered: Registered,
) -> Worker:
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*_PASSED_THROUGH)
    return Worker(
        client,
        task_queue=options.task_queue,
        workflows=[RemediationWorkflow, *registered.workflows],
        activities=[*activities.all(), *registered.activities],
        workflow_runner=SandboxedWorkflowRunner(restrictions=restrictions),
        interceptors=[RecordingInterceptor()],
        graceful_shutdown_timeout=timedelta(seconds=options.stop_seconds),
        # Heartbeats carry cancellations; the default would hold them back for up to a minute.
        max_heartbeat_throttle_interval=timedelta(seconds=2),
        default_heartbeat_throttle_interval=timedelta(seconds=2),
    )
