"""What is recorded of remediations, on both editions, and the API that shows it."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from promcompat.core.alerting.remediation import (
    Decision,
    RemediationFilter,
    RemediationState,
    StepKey,
    StepState,
    Verdict,
)
from promcompat.core.errors import ExecutionError
from sql.repositories.remediation_repository import PostgresRemediationRepository
from tests.support.services.native_service import running_native_service
from tests.support.services.remediation import TENANT, Stage, make_request, opened_stage
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration

STATES = RemediationState
NOW_MS = 1_795_000_000_000
FUNCTIONS = """
CREATE TABLE called (argument jsonb);
CREATE FUNCTION repair(argument jsonb) RETURNS void LANGUAGE sql
AS 'INSERT INTO called VALUES ($1)';
CREATE FUNCTION broken(argument jsonb) RETURNS integer LANGUAGE sql
AS 'INSERT INTO called VALUES ($1); SELECT 1 / 0';
CREATE FUNCTION slow(argument jsonb) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(60)';
"""


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    async with opened_stage(database_url) as stage:
        yield stage


async def waiting_remediation(records: PostgresRemediationRepository) -> tuple[str, int]:
    """Workflow id and id of a new remediation that waits for approval."""
    request = make_request({"text": "NUL\0 here"}, "queue")
    await records.request(request)
    await records.mark_started(request.workflow_id, "run")
    await records.await_approval(request.workflow_id, NOW_MS)
    [found], _ = await records.list(TENANT, RemediationFilter(limit=1))
    assert found.workflow_id == request.workflow_id
    return request.workflow_id, found.id


async def test_life_of_a_record(stage: Stage) -> None:
    records = stage.remediations
    workflow_id, number = await waiting_remediation(records)
    found = await records.find(TENANT, number)
    assert found is not None
    assert (found.state, found.run_id) == (STATES.WAITING_FOR_APPROVAL, "run")
    assert (found.input, found.approval_expires_at_ms) == ({"text": "NUL\ufffd here"}, NOW_MS)
    assert found.finished_at_ms == 0
    assert await records.count_open() == {STATES.WAITING_FOR_APPROVAL: 1}
    assert await records.mark_state(workflow_id, STATES.SUCCEEDED, "done") is STATES.SUCCEEDED
    assert await records.mark_state(workflow_id, STATES.CANCELLED, "late") is STATES.SUCCEEDED
    assert await records.mark_started(workflow_id, "run") is STATES.SUCCEEDED
    assert await records.record_cancel(TENANT, number, "ann", "") is None
    ended = await records.find(TENANT, number)
    assert ended is not None
    assert (ended.outcome, ended.finished_at_ms > 0) == ("done", True)
    assert await records.count_open() == {}


async def test_only_what_was_not_started_can_be_withdrawn(stage: Stage) -> None:
    records = stage.remediations
    running, _ = await waiting_remediation(records)
    request = make_request({}, "queue")
    await records.request(request)
    for workflow_id in (running, request.workflow_id, "never requested"):
        await records.withdraw(workflow_id, "not wanted")
    assert await records.count_open() == {STATES.WAITING_FOR_APPROVAL: 1}
    found = await stage.recorded(request.workflow_id)
    assert (found.state, found.outcome) == (STATES.CANCELLED, "not wanted")
    assert found.finished_at_ms > 0
    assert await records.mark_started(request.workflow_id, "run") is STATES.CANCELLED


async def test_first_decision_counts_whoever_comes(stage: Stage) -> None:
    records = stage.remediations
    workflow_id, number = await waiting_remediation(records)
    answers = await asyncio.gather(
        records.decide(TENANT, number, Decision(Verdict.APPROVED, "ann")),
        records.decide(TENANT, number, Decision(Verdict.DENIED, "bob")),
    )
    assert [answer is None for answer in answers].count(True) == 1
    settled = await records.settle(workflow_id, Decision(Verdict.EXPIRED, ""))
    winner = next(answer for answer in answers if answer is not None)
    assert settled == winner.decision


async def test_step_that_succeeded_stays(stage: Stage) -> None:
    records = stage.remediations
    workflow_id, number = await waiting_remediation(records)
    key = StepKey(workflow_id, "action", 1)
    assert (await records.begin_step(key)).tries == 1
    await records.finish_step(key, StepState.FAILED, {"error": "no\0"})
    again = await records.begin_step(key)
    assert (again.tries, again.state, again.finished_at_ms) == (2, StepState.RUNNING, 0)
    await records.finish_step(key, StepState.SUCCEEDED, {"status": 200})
    await records.finish_step(key, StepState.FAILED, {})
    (step,) = [await records.begin_step(key)]
    assert (step.state, step.tries, step.detail) == (StepState.SUCCEEDED, 2, {"status": 200})
    assert await records.steps(number) == [step]


async def test_function_is_called_once_for_a_step(stage: Stage) -> None:
    records = stage.remediations
    workflow_id, _ = await waiting_remediation(records)
    key = StepKey(workflow_id, "action", 1)
    async with connected(stage.url) as connection:
        await connection.execute(FUNCTIONS)
        await records.begin_step(key)
        steps = await asyncio.gather(
            *(records.call_function(key, "repair", {"disk": 1}, 10.0) for _ in range(5))
        )
        assert {step.state for step in steps} == {StepState.SUCCEEDED}
        assert await connection.fetchval("SELECT count(*) FROM called") == 1


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("broken", "division by zero"),
        ("slow", "slow took longer than 0.2 s"),
        ("no_such_function", r"no function no_such_function\(jsonb\)"),
        ("repair(jsonb); DROP TABLE called; --", "rejected"),
    ],
)
async def test_function_that_fails_leaves_nothing(stage: Stage, function: str, reason: str) -> None:
    records = stage.remediations
    workflow_id, _ = await waiting_remediation(records)
    key = StepKey(workflow_id, "action", 1)
    async with connected(stage.url) as connection:
        await connection.execute(FUNCTIONS)
        await records.begin_step(key)
        with pytest.raises(ExecutionError, match=reason):
            await records.call_function(key, function, None, 0.2)
        assert await connection.fetchval("SELECT count(*) FROM called") == 0
    assert (await records.begin_step(key)).state is StepState.RUNNING


async def test_api_shows_and_decides_as_recorded(plain_database_url: str) -> None:
    """Without a Temporal: a decision is recorded and 503 says that nobody could be told."""
    ui = "http://temporal.example"
    async with running_native_service(plain_database_url, temporal_ui_url=ui) as native:
        records = PostgresRemediationRepository(native.storage.database)
        numbers = [(await waiting_remediation(records))[1] for _ in range(3)]
        first = await native.get("/remediations", limit=2, state="waiting_for_approval")
        again = {"state": "waiting_for_approval", "cursor": first["next_cursor"]}
        rest = await native.get("/remediations", limit=2, **again)
        shown = [record["id"] for record in first["remediations"] + rest["remediations"]]
        assert shown == sorted(numbers, reverse=True)
        assert rest["next_cursor"] is None
        path, ruling = f"/remediations/{numbers[0]}", {"actor": "ann", "reason": "yes"}
        assert (await native.get(path))["steps"] == []
        await native.send("POST", f"{path}/approve", status=503, body=ruling)
        approved = await native.get(path)
        workflow, run = quote(approved["workflow_id"], safe=""), approved["run_id"]
        address = f"{ui}/namespaces/default/workflows/{workflow}/{run}/history"
        assert approved["run_url"] == address
        assert approved["decision"] == {"verdict": "approved", "actor": "ann", "reason": "yes"}
        await native.send("POST", f"{path}/deny", status=409, body=ruling)
        await native.get("/remediations", rule="other")
        await native.get("/remediations/0", status=400)
        await native.get("/remediations/999", status=404)
