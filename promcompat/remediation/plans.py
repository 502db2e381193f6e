"""The input of the reference workflow: what to do, how to see that it helped, and what else.

Pure: the workflow reads its input with this code, and the same code runs again in a replay.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
)

from promcompat.core.durations import format_duration_ms, parse_duration_ms
from promcompat.core.errors import BadDataError


def _to_milliseconds(value: object) -> object:
    return parse_duration_ms(value) if isinstance(value, str) else value


DurationMs = Annotated[
    int,
    BeforeValidator(_to_milliseconds),
    PlainSerializer(format_duration_ms, return_type=str),
    Field(ge=0, le=30 * 86_400_000),
]
"""Written as `30s`, kept as int milliseconds."""

PositiveDurationMs = Annotated[DurationMs, Field(gt=0)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _ActionFields(_Value):
    """`tries` bounds how often an action that fails, or whose worker died, is begun."""

    tries: Annotated[int, Field(ge=1, le=100)] = 3


class HttpAction(_ActionFields):
    """An HTTP request; any 2xx is success, 5xx, 429, 408 and no answer are tried again.

    `body` goes out as JSON. Redirects are not followed.
    """

    type: Literal["http"]
    url: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    headers: dict[str, str] = {}
    body: JsonValue = None
    timeout: PositiveDurationMs = 10_000


class CommandAction(_ActionFields):
    """A command the operator allowed, by its name; `arguments` fill its template."""

    type: Literal["command"]
    name: str
    arguments: dict[str, str] = {}
    timeout: PositiveDurationMs = 60_000


class SqlAction(_ActionFields):
    """A function of the database the operator allowed, called with one jsonb argument."""

    type: Literal["sql"]
    function: str
    argument: JsonValue = None
    timeout: PositiveDurationMs = 30_000


Action: TypeAlias = Annotated[HttpAction | CommandAction | SqlAction, Field(discriminator="type")]


class Verification(_Value):
    """How to see that the condition cleared: wait, then ask up to `checks` times.

    `query` None asks the alert's own.
    """

    query: str | None = None
    wait: DurationMs = 30_000
    checks: Annotated[int, Field(ge=1, le=1000)] = 3
    interval: PositiveDurationMs = 15_000


class Plan(_Value):
    """The whole input. `cleanup` runs when it is cancelled (None: `rollback` does)."""

    action: Action
    verify: Verification = Verification()
    rollback: Action | None = None
    cleanup: Action | None = None
    escalate: Action | None = None


_ACTION: TypeAdapter[HttpAction | CommandAction | SqlAction] = TypeAdapter(Action)


def parse_plan(workflow_input: Mapping[str, Any]) -> Plan:
    """Read a workflow's input. Raises BadDataError that names the first wrong field."""
    try:
        return Plan.model_validate(workflow_input)
    except ValidationError as exc:
        raise BadDataError(f"invalid remediation input: {_first_fault(exc)}") from exc


def parse_action(action: Mapping[str, Any]) -> HttpAction | CommandAction | SqlAction:
    """Read one action. Raises BadDataError that names the first wrong field."""
    try:
        return _ACTION.validate_python(action)
    except ValidationError as exc:
        raise BadDataError(f"invalid action: {_first_fault(exc)}") from exc


def encode_action(action: HttpAction | CommandAction | SqlAction) -> dict[str, Any]:
    """An action as JSON values; `parse_action` reads it."""
    return action.model_dump(mode="json")


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(str(part) for part in fault["loc"])
    return f"{path}: {fault['msg']}" if path else fault["msg"]
