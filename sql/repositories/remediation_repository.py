"""The PostgreSQL side of `promcompat.core.alerting.remediation`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import orjson

from promcompat.core.alerting.remediation import (
    Decision,
    Remediation,
    RemediationFilter,
    RemediationJournal,
    RemediationRepository,
    RemediationRequest,
    RemediationState,
    RemediationStep,
    StepKey,
    StepState,
    Verdict,
)
from promcompat.core.errors import ExecutionError, PromcompatError, QueryTimeoutError
from promcompat.core.texts.storable_text import is_storable_text, storable_text
from sql.database.connection_pool import acquired, read_again
from sql.database.database import Database
from sql.database.rows import fetch_page, read_rows, row_reader
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("remediation")
_GRACE_SECONDS: Final = 10.0
"""How much longer than the server the driver waits for a function call."""
_MAX_ANSWER_CHARACTERS: Final = 4_000
"""Of what a function returns or raises. A step goes through Temporal, which takes two megabytes."""

_remediation_of_row: Final = row_reader(Remediation, json=("input",))
_step_of_row: Final = row_reader(RemediationStep, json=("detail",))


class PostgresRemediationRepository(RemediationJournal, RemediationRepository):
    """Remediations and their steps in PostgreSQL.

    Every statement may be repeated, as an activity whose answer was lost records the same again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(self, request: RemediationRequest) -> RemediationState:
        """Record what is asked for, once; see the port."""
        tenant_id = await self._database.tenants.find_or_create(request.tenant)
        values = (
            request.workflow_id,
            request.spec.workflow_type,
            request.spec.task_queue,
            request.alert_id,
            request.rule_name,
            request.query,
            _encode(request.workflow_input),
        )
        async with acquired(self._database.write_pool) as connection:
            await connection.execute(_QUERIES["insert_remediation"], tenant_id, *values)
            state = await connection.fetchval(_QUERIES["remediation_state"], request.workflow_id)
        return RemediationState(state)

    async def mark_started(self, workflow_id: str, run_id: str) -> RemediationState:
        """The workflow exists; see the port."""
        return await self._move("mark_started", workflow_id, run_id)

    async def mark_start_failed(self, workflow_id: str, error: str, *, is_final: bool) -> None:
        """The workflow could not be started; see the port."""
        async with acquired(self._database.write_pool) as connection:
            await connection.execute(
                _QUERIES["mark_start_failed"], workflow_id, storable_text(error), is_final
            )

    async def withdraw(self, workflow_id: str, reason: str) -> None:
        """Cancel a request that was not started; see the port."""
        async with acquired(self._database.write_pool) as connection:
            await connection.execute(_QUERIES["withdraw"], workflow_id, reason)

    async def mark_state(
        self, workflow_id: str, state: RemediationState, outcome: str = ""
    ) -> RemediationState:
        """Move on unless finished; see the port."""
        return await self._move(
            "mark_state", workflow_id, state.value, storable_text(outcome), state.is_final
        )

    async def await_approval(self, workflow_id: str, expires_at_ms: int) -> RemediationState:
        """The workflow waits for a decision; see the port."""
        return await self._move("await_approval", workflow_id, _moment(expires_at_ms))

    async def _move(self, statement: str, *values: object) -> RemediationState:
        async with acquired(self._database.write_pool) as connection:
            state = await connection.fetchval(_QUERIES[statement], *values)
        if state is None:
            raise PromcompatError(f"no remediation is recorded for workflow {values[0]}")
        return RemediationState(state)

    async def settle(self, workflow_id: str, proposed: Decision) -> Decision:
        """The first decision recorded; see the port."""
        async with acquired(self._database.write_pool) as connection:
            row = await connection.fetchrow(
                _QUERIES["settle"], workflow_id, *_decision_values(proposed)
            )
        if row is None:
            raise PromcompatError(f"no remediation is recorded for workflow {workflow_id}")
        return Decision(Verdict(row["decision"]), row["decided_by"], row["decision_reason"])

    async def begin_step(self, key: StepKey) -> RemediationStep:
        """A step begins, or begins again; see the port."""
        async with acquired(self._database.write_pool) as connection:
            row = await connection.fetchrow(_QUERIES["begin_step"], *_key_values(key))
        if row is None:
            raise PromcompatError(f"no remediation is recorded for workflow {key.workflow_id}")
        return _step_of_row(row)

    async def finish_step(self, key: StepKey, state: StepState, detail: Mapping[str, Any]) -> None:
        """A step ended; see the port."""
        async with acquired(self._database.write_pool) as connection:
            await connection.execute(
                _QUERIES["finish_step"], *_key_values(key), state.value, _encode(detail)
            )

    async def call_function(
        self, key: StepKey, name: str, argument: object, timeout_seconds: float
    ) -> RemediationStep:
        """Call a function and finish its step in one transaction; see the port."""
        try:
            return await self._call_function(key, name, argument, timeout_seconds)
        except QueryTimeoutError as exc:
            raise ExecutionError(f"{name} took longer than {timeout_seconds:g} s") from exc
        except PromcompatError as exc:
            # This class itself means a refusal by the database; its subclasses explain themselves.
            # The text comes from a function of the operator, who must learn why it failed.
            if type(exc) is PromcompatError:
                reason = f"the call was rejected: {exc.__cause__ or exc}"
                raise ExecutionError(reason[:_MAX_ANSWER_CHARACTERS]) from exc
            raise

    async def _call_function(
        self, key: StepKey, name: str, argument: object, timeout_seconds: float
    ) -> RemediationStep:
        async with acquired(self._database.write_pool) as connection, connection.transaction():
            row = await connection.fetchrow(_QUERIES["lock_step"], *_key_values(key))
            if row is None:
                raise ExecutionError("the step was never started")
            if row["state"] == StepState.SUCCEEDED:
                return _step_of_row(row)
            limit = str(max(1, round(timeout_seconds * 1000)))
            await connection.fetchval(_QUERIES["limit_statement_time"], limit)
            answer: str | None = await connection.fetchval(
                _QUERIES["call_function"],
                name,
                _encode(argument),
                timeout=timeout_seconds + _GRACE_SECONDS,
            )
            kept = None if answer is None else answer[:_MAX_ANSWER_CHARACTERS]
            detail = _encode({"function": name, "answer": kept})
            await connection.execute(
                _QUERIES["finish_step"], *_key_values(key), StepState.SUCCEEDED.value, detail
            )
            row = await connection.fetchrow(_QUERIES["lock_step"], *_key_values(key))
        assert row is not None, "locked by this transaction"
        return _step_of_row(row)

    async def find(self, tenant: str, remediation_id: int) -> Remediation | None:
        """One remediation; see the port."""
        row = await self._database.row_of(tenant, _QUERIES["find_remediation"], remediation_id)
        return None if row is None else _remediation_of(row)

    async def list(self, tenant: str, wanted: RemediationFilter) -> tuple[list[Remediation], bool]:
        """Remediations, newest first; see the port."""
        if not is_storable_text(wanted.rule_name or ""):
            return [], False
        state = wanted.state.value if wanted.state else None
        conditions = state, wanted.rule_name, wanted.alert_id

        async def ask(before_id: int, n_rows: int) -> Sequence[asyncpg.Record]:
            statement = _QUERIES["list_remediations"]
            return await self._database.rows_of(tenant, statement, *conditions, before_id, n_rows)

        rows, has_more = await fetch_page(ask, wanted.before_id, wanted.limit)
        return await read_rows(rows, _remediation_of), has_more

    @read_again
    async def steps(self, remediation_id: int) -> Sequence[RemediationStep]:
        """The steps of a remediation; see the port."""
        async with acquired(self._database.read_pool) as connection:
            rows = await connection.fetch(_QUERIES["steps_of_remediation"], remediation_id)
        return [_step_of_row(row) for row in rows]

    async def decide(
        self, tenant: str, remediation_id: int, decision: Decision
    ) -> Remediation | None:
        """Record a decision if one is waited for; see the port."""
        return await self._change("decide", tenant, remediation_id, *_decision_values(decision))

    async def record_cancel(
        self, tenant: str, remediation_id: int, actor: str, reason: str
    ) -> Remediation | None:
        """Record who cancels; see the port."""
        return await self._change(
            "record_cancel", tenant, remediation_id, storable_text(actor), storable_text(reason)
        )

    async def _change(
        self, statement: str, tenant: str, remediation_id: int, *values: object
    ) -> Remediation | None:
        row = await self._database.change_of(tenant, _QUERIES[statement], remediation_id, *values)
        return None if row is None else _remediation_of(row)

    @read_again
    async def count_open(self) -> Mapping[RemediationState, int]:
        """Open remediations by state; see the port."""
        async with acquired(self._database.read_pool) as connection:
            rows = await connection.fetch(_QUERIES["count_open"])
        return {RemediationState(row["state"]): row["n"] for row in rows}


def _remediation_of(row: asyncpg.Record) -> Remediation:
    decision = None
    if row["decision"] is not None:
        decision = Decision(Verdict(row["decision"]), row["decided_by"], row["decision_reason"])
    return _remediation_of_row({**row, "decision": decision})


def _key_values(key: StepKey) -> tuple[str, str, int]:
    return key.workflow_id, key.step, key.attempt


def _decision_values(decision: Decision) -> tuple[str, str, str]:
    return decision.verdict.value, storable_text(decision.actor), storable_text(decision.reason)


def _encode(value: object) -> str:
    return orjson.dumps(_storable_json(value), default=dict).decode()


def _storable_json(value: object) -> object:
    """JSON as jsonb can hold it: a text from outside may have any characters."""
    match value:
        case str():
            return storable_text(value)
        case Mapping():
            return {storable_text(str(key)): _storable_json(item) for key, item in value.items()}
        case list() | tuple():
            return [_storable_json(item) for item in value]
        case _:
            return value


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC)
