"""Remediations while parts are away: nothing is lost, and each effect is there once."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.client import Client

from promcompat.core.alerting.remediation import RemediationState
from promcompat.core.errors import StorageUnavailableError
from promcompat.remediation.temporal import UnconfiguredRemediationLauncher
from tests.support.programs.temporal import TemporalServer, running_temporal
from tests.support.services.remediation import (
    TENANT,
    Receiver,
    Stage,
    make_launcher,
    make_plan,
    make_request,
    make_service,
    new_task_queue,
    running_receiver,
    running_worker,
)

pytestmark = pytest.mark.integration

STATES = RemediationState


@pytest.fixture
async def receiver(stage: Stage) -> AsyncIterator[Receiver]:
    """Its `/fix` cools the sensor."""

    async def cool(_path: str) -> None:
        await stage.set_temperature(20.0)

    async with running_receiver() as receiver:
        receiver.on_effect = cool
        yield receiver


@pytest.fixture
def own_temporal(temporal_server: TemporalServer, tmp_path: Path) -> Iterator[TemporalServer]:
    """A Temporal that the test may stop."""
    assert temporal_server.address, "asked for first, as it skips where there is no Temporal"
    with running_temporal(tmp_path) as server:
        yield server


async def test_same_request_a_thousand_times_is_one_workflow_and_one_effect(
    stage: Stage, receiver: Receiver, temporal_server: TemporalServer
) -> None:
    request = make_request(make_plan(receiver), queue := new_task_queue())
    launchers = [make_launcher(stage, temporal_server.address, 60.0) for _ in range(4)]
    async with running_worker(stage, temporal_server.address, queue):
        await asyncio.gather(*(launchers[n % 4].start(request) for n in range(1000)))
        record = await stage.wait_until_final(request.workflow_id)
    assert record.state is STATES.SUCCEEDED
    assert len(receiver.requests) == 1
    assert sum(launcher.stats.started for launcher in launchers) == 1
    assert sum(launcher.stats.already_started for launcher in launchers) == 999
    client = await Client.connect(temporal_server.address)
    found = client.list_workflows(f'WorkflowId = "{request.workflow_id}"')
    assert {run.run_id async for run in found} <= {record.run_id}


async def test_crash_between_start_and_record_heals_by_asking_again(
    stage: Stage, receiver: Receiver, temporal_server: TemporalServer
) -> None:
    request = make_request(make_plan(receiver), queue := new_task_queue())
    launcher = make_launcher(stage, temporal_server.address)
    await stage.remediations.request(request)
    await launcher._start_workflow(request)  # The process died before it recorded the start.
    assert (await stage.recorded(request.workflow_id)).state is STATES.REQUESTED
    await make_launcher(stage, temporal_server.address).start(request)
    assert (await stage.recorded(request.workflow_id)).state is STATES.STARTED
    async with running_worker(stage, temporal_server.address, queue):
        assert (await stage.wait_until_final(request.workflow_id)).state is STATES.SUCCEEDED
    assert len(receiver.requests) == 1


async def test_temporal_that_is_away_delays_and_loses_nothing(
    stage: Stage, receiver: Receiver, own_temporal: TemporalServer
) -> None:
    queue, server = new_task_queue(), own_temporal
    before = make_request(make_plan(receiver), queue, needs_approval=True)
    during = make_request(make_plan(receiver), queue)
    launcher = make_launcher(stage, server.address)
    async with running_worker(stage, server.address, queue):
        await launcher.start(before)
        await stage.wait_for(
            before.workflow_id, lambda record: record.state is STATES.WAITING_FOR_APPROVAL
        )
        await asyncio.to_thread(server.stop)
        with pytest.raises(StorageUnavailableError):
            await launcher.start(during)
        assert launcher.stats.is_reachable == 0
        waiting = await stage.recorded(during.workflow_id)
        assert (waiting.state, waiting.start_failures) == (STATES.REQUESTED, 1)
        assert "Temporal" in waiting.last_error
        await asyncio.to_thread(server.start)
        await make_launcher(stage, server.address).start(during)
        assert (await stage.wait_until_final(during.workflow_id)).state is STATES.SUCCEEDED
        record = await stage.recorded(before.workflow_id)
        assert record.state is STATES.WAITING_FOR_APPROVAL
    assert len(receiver.requests) == 1


async def test_silent_temporal_is_given_up_on_and_then_not_waited_for(stage: Stage) -> None:
    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    launcher = make_launcher(stage, f"127.0.0.1:{port}", timeout_seconds=0.2)
    for _ in range(2):
        with pytest.raises(StorageUnavailableError, match="in time"):
            await launcher.start(make_request({}, "nobody"))
    assert launcher.stats.unavailable == 2
    server.close()


async def test_without_temporal_requests_are_recorded_and_can_be_cancelled(stage: Stage) -> None:
    launcher = UnconfiguredRemediationLauncher(stage.remediations)
    request = make_request({}, "nobody")
    with pytest.raises(StorageUnavailableError, match="not configured"):
        await launcher.start(request)
    record = await stage.recorded(request.workflow_id)
    assert record.state is STATES.REQUESTED
    service = make_service(stage, make_launcher(stage, "127.0.0.1:1"))
    ended = await service.cancel(TENANT, record.id, "ann", "not needed")
    assert (ended.state, ended.outcome) == (STATES.CANCELLED, "cancelled before it started")
    await launcher.start(request)  # Settled: whoever asks again need not wait for anything.


async def test_cancelled_while_it_was_started_never_acts(
    stage: Stage, receiver: Receiver, temporal_server: TemporalServer
) -> None:
    request = make_request(make_plan(receiver), queue := new_task_queue())
    launcher = make_launcher(stage, temporal_server.address)
    await stage.remediations.request(request)
    await launcher._start_workflow(request)
    record = await stage.recorded(request.workflow_id)
    await make_service(stage, launcher).cancel(TENANT, record.id, "ann", "")
    client = await Client.connect(temporal_server.address)
    async with running_worker(stage, temporal_server.address, queue):
        await client.get_workflow_handle(request.workflow_id).result()
    assert receiver.requests == []
    assert (await stage.recorded(request.workflow_id)).state is STATES.CANCELLED


async def test_workflow_that_temporal_cannot_take_is_failed_and_not_asked_for_again(
    stage: Stage, temporal_server: TemporalServer
) -> None:
    request = make_request({}, task_queue="q" * 2000)
    launcher = make_launcher(stage, temporal_server.address)
    await launcher.start(request)
    record = await stage.recorded(request.workflow_id)
    assert record.state is STATES.FAILED
    assert "Temporal rejected the request" in record.outcome
    assert launcher.stats.refused == 1


async def test_input_that_is_too_large_is_refused_and_keeps_no_other_waiting(
    stage: Stage, temporal_server: TemporalServer
) -> None:
    launcher = make_launcher(stage, temporal_server.address)
    large = make_request({"text": "ü" * 1_000_000}, queue := new_task_queue())
    await launcher.start(large)
    record = await stage.recorded(large.workflow_id)
    assert record.state is STATES.FAILED
    assert "bytes; Temporal takes at most" in record.outcome
    other = make_request({}, queue)
    await launcher.start(other)
    assert (await stage.recorded(other.workflow_id)).state is STATES.STARTED


@asynccontextmanager
async def worker_process(
    stage: Stage, address: str, queue: str, log: Path, **settings: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`promcompat worker` as a process of its own; killed at the end if it still runs."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PROMCOMPAT_")}
    environment = {
        **kept,
        "PROMCOMPAT_DATABASE_URL": stage.url,
        "PROMCOMPAT_TEMPORAL_ADDRESS": address,
        **{f"PROMCOMPAT_{name.upper()}": text for name, text in settings.items()},
    }
    command = [sys.executable, "-m", "promcompat", "worker", "--task-queue", queue]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_worker_killed_while_acting_leaves_one_effect(
    stage: Stage, receiver: Receiver, temporal_server: TemporalServer, tmp_path: Path
) -> None:
    receiver.hold = asyncio.Event()
    request = make_request(make_plan(receiver), queue := new_task_queue())
    address, log = temporal_server.address, tmp_path / "worker.log"
    await make_launcher(stage, address).start(request)
    async with worker_process(stage, address, queue, log) as first:
        async with asyncio.timeout(60):
            await receiver.was_called.wait()
        first.send_signal(signal.SIGKILL)
        await first.wait()
    receiver.hold.set()
    async with worker_process(stage, address, queue, log) as second:
        record = await stage.wait_until_final(request.workflow_id)
        second.send_signal(signal.SIGTERM)
        assert await second.wait() == 0, log.read_text()
    assert record.state is STATES.SUCCEEDED
    assert [key for _, key, _ in receiver.requests] == [f"{request.workflow_id}:action:1"] * 2
    assert list(receiver.effects.values()) == [1]
    action = (await stage.steps(request.workflow_id))[0]
    assert (action.state, action.tries) == ("succeeded", 2)


USER_PACKAGE = """
from datetime import timedelta

from temporalio import activity, workflow

from promcompat.remediation.payloads import RemediationJob


@activity.defn
async def write_down(text: str) -> None:
    with open(activity.info().workflow_id.join(["{folder}/", ".txt"]), "a") as file:
        file.write(text)


@workflow.defn
class MyWorkflow:
    @workflow.run
    async def run(self, job: RemediationJob) -> None:
        await workflow.execute_activity(
            write_down, job.rule_name, start_to_close_timeout=timedelta(seconds=30)
        )


WORKFLOWS = [MyWorkflow]
ACTIVITIES = [write_down]
"""


async def test_workflow_of_a_users_package_runs_and_is_recorded(
    stage: Stage, temporal_server: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_remediations.py").write_text(
        USER_PACKAGE.replace("{folder}", json.dumps(str(tmp_path))[1:-1])
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    request = make_request({}, queue := new_task_queue(), workflow_type="MyWorkflow")
    address, log = temporal_server.address, tmp_path / "worker.log"
    await make_launcher(stage, address).start(request)
    async with worker_process(stage, address, queue, log, remediation_package="my_remediations"):
        record = await stage.wait_until_final(request.workflow_id)
    assert record.state is STATES.SUCCEEDED, log.read_text()
    assert (tmp_path / f"{request.workflow_id}.txt").read_text() == "SensorHot"


async def test_terminated_workflow_is_closed_by_a_cancellation(
    stage: Stage, temporal_server: TemporalServer
) -> None:
    request = make_request({}, new_task_queue())
    launcher = make_launcher(stage, temporal_server.address)
    await launcher.start(request)
    client = await Client.connect(temporal_server.address)
    await client.get_workflow_handle(request.workflow_id).terminate()
    record = await stage.recorded(request.workflow_id)
    ended = await make_service(stage, launcher).cancel(TENANT, record.id, "ann", "")
    assert (ended.state, ended.outcome) == (STATES.CANCELLED, "the workflow no longer existed")
