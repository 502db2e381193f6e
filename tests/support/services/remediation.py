"""What tests of remediations share: a store with a hot sensor, a worker, and who is called."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from promcompat.composition.options import engine_options
from promcompat.composition.remediation import build_condition_checker
from promcompat.configuration.settings import Settings
from promcompat.core.alerting.remediation import (
    Remediation,
    RemediationFilter,
    RemediationRequest,
    RemediationSpec,
    RemediationStep,
    StepState,
)
from promcompat.outgoing.client import GuardedClient
from promcompat.querying.query_service import QueryService
from promcompat.remediation.actions import ActionPolicy, ActionRunner
from promcompat.remediation.activities import RemediationActivities
from promcompat.remediation.conditions import ConditionChecker
from promcompat.remediation.launcher import TemporalRemediationLauncher
from promcompat.remediation.payloads import REMEDIATION_WORKFLOW
from promcompat.remediation.registry import Registered
from promcompat.remediation.service import RemediationService
from promcompat.remediation.temporal import TemporalOptions
from promcompat.remediation.worker import WorkerOptions, run_worker
from promql.engine import Engine
from sql.repositories.remediation_repository import PostgresRemediationRepository
from sql.samples.metric_storage import MetricStorage
from tests.support.factories import make_batch, make_labels
from tests.support.storage.repositories import opened_storage
from tests.support.waiting import eventually

TENANT = "default"
HOT = "temperature > 90"
_NUMBERS = itertools.count(1)


@dataclass(slots=True)
class Stage:
    """A store whose sensor is hot, and what asks and records there."""

    url: str
    metrics: MetricStorage
    remediations: PostgresRemediationRepository

    @property
    def checker(self) -> ConditionChecker:
        engine = Engine(self.metrics.store, engine_options(Settings()))
        queries = QueryService(self.metrics.store, engine)
        return build_condition_checker(queries, self.metrics)

    async def set_temperature(self, celsius: float, sensor: str = "a") -> None:
        """The sensor's newest sample."""
        labels = make_labels("temperature", sensor=sensor)
        now_ms = time.time_ns() // 1_000_000
        await self.metrics.store.write_batch(TENANT, make_batch({labels: [(now_ms, celsius)]}))

    async def recorded(self, workflow_id: str) -> Remediation:
        """The record of a workflow."""
        found, _ = await self.remediations.list(TENANT, RemediationFilter(limit=1000))
        return next(record for record in found if record.workflow_id == workflow_id)

    async def steps(self, workflow_id: str) -> list[RemediationStep]:
        """The recorded steps of a workflow."""
        return list(await self.remediations.steps((await self.recorded(workflow_id)).id))

    async def wait_for(
        self, workflow_id: str, matches: Callable[[Remediation], bool]
    ) -> Remediation:
        """The record, as soon as it is as wanted."""

        async def matching() -> Remediation | None:
            record = await self.recorded(workflow_id)
            return record if matches(record) else None

        return await eventually(matching)

    async def wait_for_step(self, workflow_id: str, step: str, state: StepState) -> None:
        """Return when a step is recorded in a state."""

        async def is_recorded() -> bool:
            steps = await self.steps(workflow_id)
            return any((done.step, done.state) == (step, state) for done in steps)

        await eventually(is_recorded)

    async def wait_until_final(self, workflow_id: str) -> Remediation:
        """The record of a workflow that has ended."""
        return await self.wait_for(workflow_id, lambda record: record.state.is_final)


@asynccontextmanager
async def opened_stage(url: str) -> AsyncIterator[Stage]:
    """A stage on a fresh database, with one hot sensor."""
    async with opened_storage(url) as metrics:
        stage = Stage(url, metrics, PostgresRemediationRepository(metrics.database))
        await stage.set_temperature(99.0)
        yield stage


@dataclass(slots=True)
class Receiver:
    """An HTTP service that actions call. It does nothing twice for one idempotency key."""

    server: TestServer
    effects: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    on_effect: Callable[[str], Awaitable[None]] | None = None
    hold: asyncio.Event | None = None
    was_called: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str) -> str:
        return str(self.server.make_url(path))

    def paths(self) -> list[str]:
        """The paths called, in order."""
        return [path for path, _, _ in self.requests]

    async def handle(self, request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        self.requests.append((request.path, key, await request.json()))
        self.was_called.set()
        if self.hold is not None:
            await self.hold.wait()
        status = self.statuses.get(request.path, 200)
        if status == 200 and key not in self.effects:
            self.effects[key] += 1
            if self.on_effect is not None:
                await self.on_effect(request.path)
        return web.Response(status=status, text=f"{request.path} done")


@asynccontextmanager
async def running_receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    app = web.Application()
    receiver = Receiver(TestServer(app))
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    async with receiver.server:
        yield receiver


def make_plan(receiver: Receiver, **parts: Any) -> dict[str, Any]:
    """An input of the reference workflow that calls `/fix` and looks at once."""
    verify = {"wait": "0s", "checks": 1, "interval": "10ms"}
    return {"action": http_action(receiver, "/fix"), "verify": verify, **parts}


def http_action(receiver: Receiver, path: str, **fields: Any) -> dict[str, Any]:
    """An action that calls the receiver."""
    return {"type": "http", "url": receiver.url(path), "body": {"path": path}, **fields}


def make_request(
    workflow_input: Mapping[str, Any],
    task_queue: str,
    workflow_type: str = REMEDIATION_WORKFLOW,
    **spec: Any,
) -> RemediationRequest:
    """A request for a workflow with a new id."""
    return RemediationRequest(
        tenant=TENANT,
        workflow_id=f"remediation-test-{time.time_ns()}-{next(_NUMBERS)}",
        spec=RemediationSpec(
            workflow_type=workflow_type, task_queue=task_queue, input_template={}, **spec
        ),
        workflow_input=workflow_input,
        alert_id=7,
        rule_name="SensorHot",
        query=HOT,
        series_labels={"sensor": "a"},
    )


def new_task_queue() -> str:
    """A task queue that nobody else polls."""
    return f"queue-{time.time_ns()}-{next(_NUMBERS)}"


def make_launcher(
    stage: Stage, address: str, timeout_seconds: float = 10.0
) -> TemporalRemediationLauncher:
    """A launcher that records on the stage."""
    options = TemporalOptions(address=address, timeout_seconds=timeout_seconds)
    return TemporalRemediationLauncher(options, stage.remediations)


def make_service(stage: Stage, launcher: TemporalRemediationLauncher) -> RemediationService:
    """What people approve and cancel with."""
    return RemediationService(stage.remediations, stage.remediations, launcher)


@asynccontextmanager
async def running_worker(
    stage: Stage,
    address: str,
    task_queue: str,
    *,
    policy: ActionPolicy | None = None,
    registered: Registered | None = None,
) -> AsyncIterator[None]:
    """A worker in the process of the test."""
    ended = asyncio.Event()

    async def wait_for_end() -> None:
        await ended.wait()

    used = policy or ActionPolicy()
    async with GuardedClient(used.outgoing) as client:
        runner = ActionRunner(client, used, stage.remediations)
        activities = RemediationActivities(stage.remediations, runner, stage.checker)
        options = WorkerOptions(
            temporal=TemporalOptions(address=address), task_queue=task_queue, stop_seconds=1.0
        )
        working = asyncio.create_task(
            run_worker(options, activities, registered or Registered(), wait_for_end)
        )
        try:
            yield
        finally:
            ended.set()
            await working
