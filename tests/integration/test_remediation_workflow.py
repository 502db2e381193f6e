"""The reference workflow on a real Temporal, a real database and a real HTTP receiver."""

from collections.abc import AsyncIterator

import pytest

from promcompat.core.remediation import RemediationState, StepState
from tests.remediation import (
    Receiver,
    Stage,
    make_launcher,
    make_plan,
    make_request,
    new_task_queue,
    opened_stage,
    running_receiver,
    running_worker,
)
from tests.temporal import TemporalServer

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(plain_database_url: str) -> AsyncIterator[Stage]:
    async with opened_stage(plain_database_url) as stage:
        yield stage


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as receiver:
        yield receiver


async def test_action_that_clears_the_condition_succeeds(
    stage: Stage, receiver: Receiver, temporal_server: TemporalServer
) -> None:
    async def cool(_path: str) -> None:
        await stage.set_temperature(20.0)

    receiver.on_effect = cool
    request = make_request(make_plan(receiver), queue := new_task_queue())
    async with running_worker(stage, temporal_server.address, queue):
        await make_launcher(stage, temporal_server.address).start(request)
        record = await stage.wait_until_final(request.workflow_id)

    assert record.state is RemediationState.SUCCEEDED
    assert record.outcome == "the condition cleared in attempt 1"
    assert record.run_id
    assert receiver.requests == [("/fix", f"{request.workflow_id}:action:1", {"path": "/fix"})]
    action, verify = await stage.steps(request.workflow_id)
    assert (action.step, action.state, action.tries) == ("action", StepState.SUCCEEDED, 1)
    assert action.detail == {"status": 200, "body": "/fix done"}
    assert (verify.step, verify.state) == ("verify", StepState.SUCCEEDED)
    assert verify.detail["elements"] == 0
