"""The reference workflow on a real Temporal, a real database and a real HTTP receiver."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client, WorkflowFailureError

from promcompat.core.alerting.remediation import (
    Decision,
    RemediationRequest,
    RemediationState,
    StepState,
    Verdict,
)
from promcompat.core.errors import ConflictError
from promcompat.remediation.actions import ActionPolicy
from promcompat.remediation.launcher import TemporalRemediationLauncher
from promcompat.remediation.payloads import STATUS_QUERY, RemediationStatus
from tests.support.programs.temporal import TemporalServer
from tests.support.services.remediation import (
    TENANT,
    Receiver,
    Stage,
    http_action,
    make_launcher,
    make_plan,
    make_request,
    make_service,
    new_task_queue,
    running_receiver,
    running_worker,
)
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration

STATES = RemediationState


@pytest.fixture
async def receiver(stage: Stage) -> AsyncIterator[Receiver]:
    """Its `/fix` cools the sensor."""

    async def cool(path: str) -> None:
        if path == "/fix":
            await stage.set_temperature(20.0)

    async with running_receiver() as receiver:
        receiver.on_effect = cool
        yield receiver


@pytest.fixture
def launcher(stage: Stage, temporal_server: TemporalServer) -> TemporalRemediationLauncher:
    return make_launcher(stage, temporal_server.address)


@pytest.fixture
async def task_queue(stage: Stage, temporal_server: TemporalServer) -> AsyncIterator[str]:
    """A queue that a worker polls."""
    policy = ActionPolicy(
        commands={"say": ("/bin/echo", "{word}"), "fail": ("/bin/false",)},
        sql_functions=frozenset({"repair", "recite", "complain"}),
    )
    queue = new_task_queue()
    async with running_worker(stage, temporal_server.address, queue, policy=policy):
        yield queue


async def step_states(stage: Stage, request: RemediationRequest) -> list[tuple[str, int, str]]:
    return [
        (step.step, step.attempt, step.state.value)
        for step in await stage.steps(request.workflow_id)
    ]


async def test_action_that_clears_the_condition_succeeds(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    request = make_request(make_plan(receiver), task_queue)
    await launcher.start(request)
    record = await stage.wait_until_final(request.workflow_id)

    assert record.state is STATES.SUCCEEDED
    assert record.outcome == "the condition cleared in attempt 1"
    assert record.run_id
    assert receiver.requests == [("/fix", f"{request.workflow_id}:action:1", {"path": "/fix"})]
    action, verify = await stage.steps(request.workflow_id)
    assert (action.step, action.state, action.tries) == ("action", StepState.SUCCEEDED, 1)
    assert action.detail == {"status": 200, "body": "/fix done"}
    assert (verify.step, verify.state) == ("verify", StepState.SUCCEEDED)
    assert verify.detail["elements"] == 0


async def test_status_query_tells_every_step(
    stage: Stage,
    receiver: Receiver,
    launcher: TemporalRemediationLauncher,
    task_queue: str,
    temporal_server: TemporalServer,
) -> None:
    request = make_request(make_plan(receiver), task_queue)
    await launcher.start(request)
    await stage.wait_until_final(request.workflow_id)
    client = await Client.connect(temporal_server.address)
    handle = client.get_workflow_handle(request.workflow_id)
    status = await handle.query(STATUS_QUERY, result_type=RemediationStatus)
    assert status.state == "succeeded"
    assert [(step.step, step.state) for step in status.steps] == [
        ("action", "succeeded"),
        ("verify", "succeeded"),
    ]


async def test_condition_that_stays_is_tried_again_and_then_escalated(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    plan = make_plan(
        receiver,
        action=http_action(receiver, "/useless"),
        escalate=http_action(receiver, "/page"),
    )
    request = make_request(plan, task_queue, max_attempts=2)
    await launcher.start(request)
    record = await stage.wait_until_final(request.workflow_id)
    assert (record.state, record.outcome) == (STATES.ESCALATED, "the condition did not clear")
    assert receiver.paths() == ["/useless", "/useless", "/page"]
    assert set(receiver.effects.values()) == {1}
    assert len(receiver.effects) == 3
    assert await step_states(stage, request) == [
        ("action", 1, "succeeded"),
        ("verify", 1, "failed"),
        ("action", 2, "succeeded"),
        ("verify", 2, "failed"),
        ("escalate", 1, "succeeded"),
    ]


async def test_condition_that_stays_is_rolled_back(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    plan = make_plan(
        receiver,
        action=http_action(receiver, "/useless"),
        rollback=http_action(receiver, "/undo"),
    )
    request = make_request(plan, task_queue)
    await launcher.start(request)
    record = await stage.wait_until_final(request.workflow_id)
    assert record.state is STATES.ROLLED_BACK
    assert receiver.paths() == ["/useless", "/undo"]


async def test_only_the_series_of_the_alert_must_clear(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    await stage.set_temperature(99.0, sensor="b")
    request = make_request(make_plan(receiver), task_queue)
    await launcher.start(request)
    assert (await stage.wait_until_final(request.workflow_id)).state is STATES.SUCCEEDED


async def test_action_is_tried_as_often_as_it_says_and_refusals_once(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    receiver.statuses = {"/down": 503, "/refused": 403}
    plan = make_plan(
        receiver,
        action=http_action(receiver, "/down", tries=2),
        rollback=http_action(receiver, "/refused", tries=5),
    )
    request = make_request(plan, task_queue)
    await launcher.start(request)
    record = await stage.wait_until_final(request.workflow_id)
    assert record.state is STATES.ESCALATED
    assert record.outcome == "the condition did not clear; the rollback failed"
    assert receiver.paths() == ["/down", "/down", "/refused"]
    action, rollback = await stage.steps(request.workflow_id)
    assert (action.state, action.tries) == (StepState.FAILED, 2)
    assert action.detail == {"error": "answered 503: /down done"}
    assert (rollback.state, rollback.tries) == (StepState.FAILED, 1)


async def test_invalid_input_fails_without_a_step(
    stage: Stage,
    launcher: TemporalRemediationLauncher,
    task_queue: str,
    temporal_server: TemporalServer,
) -> None:
    request = make_request({"action": {"type": "http"}}, task_queue)
    await launcher.start(request)
    record = await stage.wait_until_final(request.workflow_id)
    assert record.state is STATES.FAILED
    assert record.outcome == ("invalid remediation input: action.url: is missing; expected a value")
    assert await stage.steps(request.workflow_id) == []
    client = await Client.connect(temporal_server.address)
    with pytest.raises(WorkflowFailureError):
        await client.get_workflow_handle(request.workflow_id).result()


async def test_commands_and_functions_run_from_the_allow_lists_alone(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    plan = make_plan(
        receiver,
        action={"type": "command", "name": "say", "arguments": {"word": "cool; down"}},
        rollback={"type": "sql", "function": "pg_sleep"},
        escalate={"type": "command", "name": "rm"},
    )
    request = make_request(plan, task_queue)
    await launcher.start(request)
    record = await stage.wait_until_final(request.workflow_id)
    assert record.outcome == (
        "the condition did not clear; the rollback failed; the escalation failed"
    )
    steps = {step.step: step.detail for step in await stage.steps(request.workflow_id)}
    assert steps["action"] == {"command": "say", "exit_code": 0, "output": "cool; down\n"}
    assert steps["rollback"] == {"error": "the SQL function pg_sleep is not allowed"}
    assert steps["escalate"] == {"error": "the command rm is not allowed"}


async def test_what_a_function_says_at_length_is_cut(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    async with connected(stage.url) as connection:
        await connection.execute(
            """
            CREATE FUNCTION recite(jsonb) RETURNS text LANGUAGE sql
            AS $$ SELECT repeat('la ', 1000000) $$;
            CREATE FUNCTION complain(jsonb) RETURNS text LANGUAGE plpgsql
            AS $$ BEGIN RAISE '%', repeat('no ', 1000000); END $$;
            """
        )
    plan = make_plan(
        receiver,
        action={"type": "sql", "function": "recite"},
        rollback={"type": "sql", "function": "complain", "tries": 1},
    )
    request = make_request(plan, task_queue)
    await launcher.start(request)
    record = await stage.wait_until_final(request.workflow_id)
    assert record.outcome == "the condition did not clear; the rollback failed"
    steps = {step.step: step.detail for step in await stage.steps(request.workflow_id)}
    assert steps["action"] == {"function": "recite", "answer": ("la " * 2000)[:4000]}
    assert steps["rollback"]["error"].startswith("the call was rejected: no no no")
    assert len(steps["rollback"]["error"]) == 4000


async def test_approved_remediation_acts_and_says_who_approved(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    request = make_request(make_plan(receiver), task_queue, needs_approval=True)
    await launcher.start(request)
    waiting = await stage.wait_for(
        request.workflow_id, lambda record: record.state is STATES.WAITING_FOR_APPROVAL
    )
    assert waiting.approval_expires_at_ms > waiting.requested_at_ms
    assert receiver.requests == []
    service = make_service(stage, launcher)
    approval = Decision(Verdict.APPROVED, "ann", "looks right")
    await service.decide(TENANT, waiting.id, approval)
    record = await stage.wait_until_final(request.workflow_id)
    assert (record.state, record.decision) == (STATES.SUCCEEDED, approval)
    assert await service.decide(TENANT, record.id, Decision(Verdict.APPROVED, "bob")) == record
    with pytest.raises(ConflictError, match="has already been approved"):
        await service.decide(TENANT, record.id, Decision(Verdict.DENIED, "bob"))


async def test_denied_remediation_does_nothing(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    request = make_request(make_plan(receiver), task_queue, needs_approval=True)
    await launcher.start(request)
    waiting = await stage.wait_for(
        request.workflow_id, lambda record: record.state is STATES.WAITING_FOR_APPROVAL
    )
    denial = Decision(Verdict.DENIED, "ann", "not now")
    await make_service(stage, launcher).decide(TENANT, waiting.id, denial)
    record = await stage.wait_until_final(request.workflow_id)
    assert (record.state, record.decision) == (STATES.DENIED, denial)
    assert receiver.requests == []


async def test_approval_that_expires_escalates_and_does_nothing_else(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    plan = make_plan(receiver, escalate=http_action(receiver, "/page"))
    request = make_request(plan, task_queue, needs_approval=True, approval_timeout_ms=50)
    await launcher.start(request)
    record = await stage.wait_until_final(request.workflow_id)
    assert record.state is STATES.EXPIRED
    assert receiver.paths() == ["/page"]
    with pytest.raises(ConflictError, match="has already been expired"):
        await make_service(stage, launcher).decide(
            TENANT, record.id, Decision(Verdict.APPROVED, "late")
        )


async def test_recorded_approval_counts_even_if_its_signal_never_came(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    request = make_request(
        make_plan(receiver), task_queue, needs_approval=True, approval_timeout_ms=2_000
    )
    await launcher.start(request)
    waiting = await stage.wait_for(
        request.workflow_id, lambda record: record.state is STATES.WAITING_FOR_APPROVAL
    )
    await stage.remediations.decide(TENANT, waiting.id, Decision(Verdict.APPROVED, "ann"))
    assert (await stage.wait_until_final(request.workflow_id)).state is STATES.SUCCEEDED


async def test_cancelled_remediation_cleans_up(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    plan = make_plan(receiver, verify={"wait": "1h"}, cleanup=http_action(receiver, "/tidy"))
    request = make_request(plan, task_queue)
    await launcher.start(request)
    await stage.wait_for_step(request.workflow_id, "action", StepState.SUCCEEDED)
    service = make_service(stage, launcher)
    running = await stage.recorded(request.workflow_id)
    await service.cancel(TENANT, running.id, "ann", "maintenance")
    record = await stage.wait_until_final(request.workflow_id)
    assert (record.state, record.outcome) == (STATES.CANCELLED, "cancelled; cleaned up")
    assert (record.cancelled_by, record.cancel_reason) == ("ann", "maintenance")
    assert receiver.paths() == ["/fix", "/tidy"]
    assert await service.cancel(TENANT, record.id, "bob", "again") == record


async def test_cancelled_while_acting_ends_the_action_first(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    receiver.hold = asyncio.Event()
    plan = make_plan(
        receiver,
        action=http_action(receiver, "/fix", timeout="1h"),
        rollback={"type": "command", "name": "say", "arguments": {"word": "undone"}},
    )
    request = make_request(plan, task_queue)
    await launcher.start(request)
    await receiver.was_called.wait()
    running = await stage.recorded(request.workflow_id)
    await make_service(stage, launcher).cancel(TENANT, running.id, "ann", "")
    record = await stage.wait_until_final(request.workflow_id)
    receiver.hold.set()
    assert record.outcome == "cancelled; cleaned up"
    assert await step_states(stage, request) == [
        ("action", 1, "cancelled"),
        ("cleanup", 1, "succeeded"),
    ]


async def test_cancelled_while_waiting_for_approval_has_nothing_to_clean_up(
    stage: Stage, receiver: Receiver, launcher: TemporalRemediationLauncher, task_queue: str
) -> None:
    plan = make_plan(receiver, cleanup=http_action(receiver, "/tidy"))
    request = make_request(plan, task_queue, needs_approval=True)
    await launcher.start(request)
    waiting = await stage.wait_for(
        request.workflow_id, lambda record: record.state is STATES.WAITING_FOR_APPROVAL
    )
    service = make_service(stage, launcher)
    await service.cancel(TENANT, waiting.id, "ann", "")
    record = await stage.wait_until_final(request.workflow_id)
    assert (record.state, record.outcome) == (STATES.CANCELLED, "cancelled")
    assert receiver.requests == []
    with pytest.raises(ConflictError, match="is not waiting for a decision"):
        await service.decide(TENANT, record.id, Decision(Verdict.APPROVED, "late"))
