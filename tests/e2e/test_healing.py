"""From a breach to its repair: the service, a worker and a Temporal as processes of their own.

What the actions call is an HTTP server of the test, which repairs by posting a good sample.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time_ns
from typing import Any

import aiohttp
import pytest
from temporalio.client import Client

from conformance.processes import (
    RunningProgram,
    find_free_port,
    running_promcompat,
    start_program,
    start_promcompat,
)
from conformance.prometheus_api import PrometheusApi, open_session
from tests.support.factories import make_labels
from tests.support.programs.components import require_component
from tests.support.programs.servers import DatabaseServer
from tests.support.programs.temporal import TemporalServer
from tests.support.services.remediation import Receiver, new_task_queue, running_receiver
from tests.support.storage.repositories import connected
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

Json = dict[str, Any]
LIMIT, BAD, GOOD = 90.0, 97.5, 20.0
HOST = {"host": "db-1"}
_HOLD_DISPATCH = "SELECT pg_advisory_lock(hashtextextended('promcompat.thresholds', 0))"
"""As another replica would that is busy with breaches: nobody else turns them into alerts."""


@dataclass(frozen=True, slots=True)
class Api:
    """What an application speaks with the service."""

    session: aiohttp.ClientSession
    url: str

    async def call(self, method: str, path: str, body: Json | None = None) -> Any:
        """The JSON of an answer below `/api/v1/metrics`, which must be 2xx."""
        address = f"{self.url}/api/v1/metrics{path}"
        async with self.session.request(method, address, json=body) as response:
            text = await response.text()
            assert response.status // 100 == 2, text
            return await response.json()

    async def ingest(self, metric: str, value: float) -> None:
        """Post one sample as JSON."""
        await self.call("POST", "/ingest", {"name": metric, "value": value, "labels": HOST})

    async def remote_write(self, metric: str, value: float) -> None:
        """Send one sample as a Prometheus does."""
        points = [(time_ns() // 1_000_000, value)]
        await PrometheusApi(self.session, self.url).write({make_labels(metric, **HOST): points})

    async def alerts(self, rule: str) -> list[Json]:
        """The alerts of a rule, or of a metric's threshold."""
        found: list[Json] = (await self.call("GET", f"/alerts?rule={rule}"))["alerts"]
        return found

    async def remediations(self, rule: str) -> list[Json]:
        """The remediations of a rule, or of a metric's threshold."""
        found = await self.call("GET", f"/remediations?rule={rule}")
        records: list[Json] = found["remediations"]
        return records

    async def healed(self, rule: str) -> Json:
        """The only remediation, with its steps, once it has ended and the alert is resolved."""

        async def ask() -> Json | None:
            alerts, records = await self.alerts(rule), await self.remediations(rule)
            if [alert["state"] for alert in alerts] != ["resolved"] or not records:
                return None
            (record,) = records
            return record if record["finished_at"] else None

        record = await eventually(ask)
        detail: Json = await self.call("GET", f"/remediations/{record['id']}")
        return detail


@asynccontextmanager
async def open_api(url: str) -> AsyncIterator[Api]:
    async with open_session(limit=16) as session:
        yield Api(session, url)


@contextmanager
def running_worker(
    database_url: str, temporal_address: str, queue: str, log: Path
) -> Iterator[RunningProgram]:
    """`promcompat worker` as a process."""
    environment = {
        "PROMCOMPAT_DATABASE_URL": database_url,
        "PROMCOMPAT_TEMPORAL_ADDRESS": temporal_address,
        "PROMCOMPAT_TASK_QUEUE": queue,
        "PROMCOMPAT_SHUTDOWN_TIMEOUT": "1s",
    }
    worker = start_program([sys.executable, "-m", "promcompat", "worker"], 0, log, environment)
    try:
        yield worker
    finally:
        worker.stop()


@asynccontextmanager
async def running_temporal(folder: Path, port: int) -> AsyncIterator[TemporalServer]:
    """A Temporal of the test's own, on the port where it was missed."""
    server = TemporalServer(require_component("Temporal"), folder, port)
    try:
        await asyncio.to_thread(server.start)
        yield server
    finally:
        await asyncio.to_thread(server.stop)


def make_remediation(receiver: Receiver, queue: str, **parts: Any) -> Json:
    """A call of the receiver that says what is wrong, and one look whether it helped."""
    return {
        "workflow_type": "RemediationWorkflow",
        "task_queue": queue,
        "input": {
            "action": {
                "type": "http",
                "url": receiver.url("/fix"),
                "body": {"host": "{{ $labels.host }}", "value": "{{ $value }}"},
            },
            "verify": {"wait": "0s", "checks": 5, "interval": "100ms"},
        },
        **parts,
    }


async def define(api: Api, metric: str, remediation: Json) -> None:
    """Give the metric a threshold that heals."""
    threshold = {"critical": LIMIT, "direction": "above", "remediation": remediation}
    await api.call("PUT", f"/definitions/{metric}", {"alert_threshold": threshold})


@asynccontextmanager
async def repairing(repair: Callable[[], Awaitable[None]]) -> AsyncIterator[Receiver]:
    """A receiver whose calls repair."""

    async def on_effect(_path: str) -> None:
        await repair()

    async with running_receiver() as receiver:
        receiver.on_effect = on_effect
        yield receiver


def check_healed(record: Json, receiver: Receiver) -> None:
    """One call with the rendered input, verified, and recorded with its steps."""
    assert record["state"] == "succeeded", record
    workflow_id = record["workflow_id"]
    body = {"host": HOST["host"], "value": f"{BAD:g}"}
    assert receiver.requests == [("/fix", f"{workflow_id}:action:1", body)]
    assert record["input"]["action"]["body"] == body
    assert record["run_id"]
    assert record["outcome"] == "the condition cleared in attempt 1"
    steps = [
        (step["step"], step["attempt"], step["state"], step["tries"]) for step in record["steps"]
    ]
    assert steps[0] == ("action", 1, "succeeded", 1)
    assert steps[-1][:3] == ("verify", 1, "succeeded")


async def workflow_runs(temporal: TemporalServer, workflow_id: str) -> list[str]:
    """The run ids that Temporal has of a workflow."""
    client = await Client.connect(temporal.address)

    async def ask() -> list[str]:
        found = client.list_workflows(f'WorkflowId = "{workflow_id}"')
        return [run.run_id async for run in found]

    return await eventually(ask)


@dataclass(frozen=True, slots=True)
class World:
    """What runs for the whole file."""

    url: str
    queue: str
    temporal: TemporalServer


@pytest.fixture(scope="module")
def world(
    timescaledb_server: DatabaseServer,
    temporal_server: TemporalServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """A service and a worker."""
    folder, queue = tmp_path_factory.mktemp("healing"), new_task_queue()
    database_url = timescaledb_server.create_database()
    with (
        running_promcompat(
            database_url, folder / "service.log", temporal_address=temporal_server.address
        ) as service,
        running_worker(database_url, temporal_server.address, queue, folder / "worker.log"),
    ):
        yield World(service.url, queue, temporal_server)


@pytest.mark.parametrize("way", ["ingest", "remote_write"])
async def test_breach_is_repaired_verified_and_recorded(world: World, way: str) -> None:
    metric = f"disk_used_{way}"
    async with open_api(world.url) as api:
        post = api.ingest if way == "ingest" else api.remote_write
        async with repairing(lambda: post(metric, GOOD)) as receiver:
            await define(api, metric, make_remediation(receiver, world.queue))
            await post(metric, BAD)
            record = await api.healed(metric)
        check_healed(record, receiver)
        assert record["query"] == f"{metric} >= {LIMIT}"
        assert await workflow_runs(world.temporal, record["workflow_id"]) == [record["run_id"]]
        (alert,) = await api.alerts(metric)
        assert (alert["id"], alert["severity"]) == (record["alert_id"], "critical")
        history = await api.call("GET", f"/alerts/{alert['id']}/history")
        notes = [step["note"] for step in history["transitions"] if step["note"]]
        assert notes == [f"remediation requested: {record['workflow_id']}"]


async def test_alert_of_a_rule_is_repaired_verified_and_recorded(world: World) -> None:
    async with (
        open_api(world.url) as api,
        repairing(lambda: api.ingest("load", GOOD)) as receiver,
    ):
        rule = {
            "name": "LoadHigh",
            "expr": f"load > {LIMIT}",
            "interval": "1s",
            "remediation": make_remediation(receiver, world.queue),
        }
        await api.call("POST", "/rules", rule)
        await api.ingest("load", BAD)
        record = await api.healed("LoadHigh")
        check_healed(record, receiver)
        assert record["query"] == f"load > {LIMIT}"


async def test_repair_that_does_not_help_is_not_verified_by_silence(world: World) -> None:
    """The last sample is older than PromQL looks back, and its threshold still holds."""

    async def in_state(wanted: str) -> Json | None:
        found = [
            record for record in await api.remediations("disk_full") if record["state"] == wanted
        ]
        return found[0] if found else None

    async def repair() -> None:
        """Does nothing."""

    async with open_api(world.url) as api, repairing(repair) as receiver:
        await define(api, "disk_full", make_remediation(receiver, world.queue))
        at = datetime.now(UTC) - timedelta(minutes=6)
        sample = {"name": "disk_full", "value": BAD, "labels": HOST, "timestamp": at.isoformat()}
        await api.call("POST", "/ingest", sample)
        record = await eventually(lambda: in_state("escalated"))
        assert record["outcome"] == "the condition did not clear"
        detail = await api.call("GET", f"/remediations/{record['id']}")
        assert detail["steps"][-1]["detail"]["level"] == "critical"
        (alert,) = await api.alerts("disk_full")
        assert alert["state"] == "firing"
        assert len(receiver.requests) == 1


async def test_breach_a_thousand_times_is_one_action(world: World) -> None:
    async with open_api(world.url) as api:
        # Repaired when every breach is in: the last of them must not come after the repair.
        all_in = asyncio.Event()

        async def repair() -> None:
            await all_in.wait()
            await api.ingest("queue_length", GOOD)

        async with repairing(repair) as receiver:
            await define(api, "queue_length", make_remediation(receiver, world.queue))
            await asyncio.gather(*(api.ingest("queue_length", BAD) for _ in range(1000)))
            all_in.set()
            check_healed(await api.healed("queue_length"), receiver)


@pytest.mark.parametrize(
    ("decision", "state"), [("approve", "succeeded"), ("deny", "denied"), (None, "expired")]
)
async def test_approval_of_a_breach(world: World, decision: str | None, state: str) -> None:
    metric = f"temperature_{state}"

    async def in_state(wanted: str) -> Json | None:
        found = [record for record in await api.remediations(metric) if record["state"] == wanted]
        return found[0] if found else None

    async with (
        open_api(world.url) as api,
        repairing(lambda: api.ingest(metric, GOOD)) as receiver,
    ):
        timeout = "1h" if decision else "100ms"
        remediation = make_remediation(
            receiver, world.queue, needs_approval=True, approval_timeout=timeout
        )
        await define(api, metric, remediation)
        await api.ingest(metric, BAD)
        if decision:
            waiting = await eventually(lambda: in_state("waiting_for_approval"))
            assert receiver.requests == []
            ruling = {"actor": "ann", "reason": "as the test has it"}
            await api.call("POST", f"/remediations/{waiting['id']}/{decision}", ruling)
        await eventually(lambda: in_state(state))
        assert len(receiver.requests) == (state == "succeeded")


async def outbox(database_url: str) -> tuple[int, int]:
    """How many breaches, and how many remediations of alerts, wait to be dispatched."""
    async with connected(database_url) as connection:
        row = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM breach_outbox), "
            "(SELECT count(*) FROM alert_delivery WHERE receiver = 'remediation')"
        )
        return row[0], row[1]


async def test_service_killed_between_commit_and_dispatch(
    timescaledb_server: DatabaseServer, temporal_server: TemporalServer, tmp_path: Path
) -> None:
    database_url, port = timescaledb_server.create_database(), find_free_port()
    queue, log = new_task_queue(), tmp_path / "service.log"

    def start() -> RunningProgram:
        address = temporal_server.address
        return start_promcompat(database_url, log, port=port, temporal_address=address)

    first = start()
    try:
        first.wait_ready("/-/ready")
        async with (
            open_api(first.url) as api,
            repairing(lambda: api.ingest("disk_used", GOOD)) as receiver,
        ):
            await define(api, "disk_used", make_remediation(receiver, queue))
            async with connected(database_url) as other_replica:
                await other_replica.execute(_HOLD_DISPATCH)
                await api.ingest("disk_used", BAD)
                first.kill()
            assert await outbox(database_url) == (1, 0)
            second = start()
            try:
                with running_worker(
                    database_url, temporal_server.address, queue, tmp_path / "worker.log"
                ):
                    second.wait_ready("/-/ready")
                    record = await api.healed("disk_used")
                check_healed(record, receiver)
                runs = await workflow_runs(temporal_server, record["workflow_id"])
                assert runs == [record["run_id"]]
            finally:
                assert second.stop() == 0
    finally:
        first.stop()


async def test_temporal_that_is_away_and_a_service_that_is_killed_meanwhile(
    timescaledb_server: DatabaseServer, temporal_server: TemporalServer, tmp_path: Path
) -> None:
    assert temporal_server.address, "asked for first, as it skips where there is no Temporal"
    database_url, port, queue = timescaledb_server.create_database(), find_free_port(), "healing"
    log, temporal_port = tmp_path / "service.log", find_free_port()
    address = f"127.0.0.1:{temporal_port}"

    def start() -> RunningProgram:
        return start_promcompat(database_url, log, port=port, temporal_address=address)

    first = start()
    try:
        first.wait_ready("/-/ready")
        async with (
            open_api(first.url) as api,
            repairing(lambda: api.ingest("disk_used", GOOD)) as receiver,
        ):
            await define(api, "disk_used", make_remediation(receiver, queue))
            await api.ingest("disk_used", BAD)

            async def waits() -> bool:
                records = await api.remediations("disk_used")
                # The loop of levels may open the alert before the breach is dispatched.
                return await outbox(database_url) == (0, 1) and any(
                    record["state"] == "requested" and record["last_error"] for record in records
                )

            await eventually(waits)
            first.kill()
            assert await outbox(database_url) == (0, 1)
            second = start()
            try:
                # Both wait for Temporal; the service answers meanwhile.
                with running_worker(database_url, address, queue, tmp_path / "worker.log"):
                    second.wait_ready("/-/ready")
                    assert [alert["state"] for alert in await api.alerts("disk_used")] == ["firing"]
                    async with running_temporal(tmp_path, temporal_port) as server:
                        record = await api.healed("disk_used")
                        runs = await workflow_runs(server, record["workflow_id"])
                check_healed(record, receiver)
                assert record["start_failures"] >= 1
                assert runs == [record["run_id"]]
            finally:
                assert second.stop() == 0
    finally:
        first.stop()
