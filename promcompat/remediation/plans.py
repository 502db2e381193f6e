"""The input of the reference workflow: what to do, how to verify it, and what to do otherwise.

Pure: the workflow reads its input with this code, and the same code runs again in a replay.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

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

from promcompat.core.errors import BadDataError, FieldFault
from promcompat.core.texts.durations import format_duration_ms, to_milliseconds

DurationMs = Annotated[
    int,
    BeforeValidator(to_milliseconds),
    PlainSerializer(format_duration_ms, return_type=str),
    Field(ge=0, le=30 * 86_400_000),
]
"""Written as `30s`, kept as int milliseconds."""

PositiveDurationMs = Annotated[DurationMs, Field(gt=0)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _ActionFields(_Value):
    """`tries` bounds how often an action that fails, or whose worker dies, is started."""

    tries: Annotated[int, Field(ge=1, le=100)] = 3


class HttpAction(_ActionFields):
    """An HTTP request. 2xx is success; 5xx, 408, 425, 429 and no answer are tried again.

    `body` is sent as JSON. The values of `secret_headers` are names of secrets that the operator
    lets this host have. Redirects are not followed.
    """

    type: Literal["http"]
    url: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    headers: dict[str, str] = {}
    secret_headers: dict[str, str] = {}
    body: JsonValue = None
    timeout: PositiveDurationMs = 10_000


class CommandAction(_ActionFields):
    """A command that the operator allows, by its name; `arguments` fill its template."""

    type: Literal["command"]
    name: str
    arguments: dict[str, str] = {}
    timeout: PositiveDurationMs = 60_000


class SqlAction(_ActionFields):
    """A function of the database that the operator allows, called with one jsonb argument."""

    type: Literal["sql"]
    function: str
    argument: JsonValue = None
    timeout: PositiveDurationMs = 30_000


Action: TypeAlias = Annotated[HttpAction | CommandAction | SqlAction, Field(discriminator="type")]


class Verification(_Value):
    """How to verify that the condition has cleared: wait, then check up to `checks` times.

    Without a `query` the alert's own condition is checked.
    """

    query: str | None = None
    wait: DurationMs = 30_000
    checks: Annotated[int, Field(ge=1, le=1000)] = 3
    interval: PositiveDurationMs = 15_000


class Plan(_Value):
    """The whole input. After a cancellation `cleanup` runs, or `rollback` if there is none."""

    action: Action
    verify: Verification = Verification()
    rollback: Action | None = None
    cleanup: Action | None = None
    escalate: Action | None = None


_ACTION: TypeAdapter[HttpAction | CommandAction | SqlAction] = TypeAdapter(Action)


def parse_plan(workflow_input: Mapping[str, Any]) -> Plan:
    """Read a workflow's input. Raises BadDataError, which names the first invalid field."""
    try:
        return Plan.model_validate(workflow_input)
    except ValidationError as exc:
        raise BadDataError(f"invalid remediation input: {_first_fault(exc)}") from exc


def read_plan(input_template: Mapping[str, Any]) -> tuple[Plan | None, list[FieldFault]]:
    """The plan of an input whose templates are not expanded, and the faults that no alert changes.

    There is no plan when there are faults, or when a template is in place of a number or object.
    """
    try:
        return Plan.model_validate(input_template), []
    except ValidationError as exc:
        return None, [_fault(found) for found in _errors(exc) if not is_template(found["input"])]


def parse_action(action: Mapping[str, Any]) -> HttpAction | CommandAction | SqlAction:
    """Read one action. Raises BadDataError, which names the first invalid field."""
    try:
        return _ACTION.validate_python(action)
    except ValidationError as exc:
        raise BadDataError(f"invalid action: {_first_fault(exc)}") from exc


def encode_action(action: HttpAction | CommandAction | SqlAction) -> dict[str, Any]:
    """An action as JSON values; `parse_action` reads it."""
    return action.model_dump(mode="json")


def is_template(value: object) -> bool:
    """Whether the value depends on the alert."""
    return isinstance(value, str) and "{{" in value


def _errors(error: ValidationError) -> list[Any]:
    return list(error.errors(include_url=False))


def _first_fault(error: ValidationError) -> str:
    first = _fault(_errors(error)[0])
    return f"{first.field}: {first.reason}; expected {first.expected}"


_ACTION_TYPES: Final[Mapping[str, type[BaseModel]]] = {
    "http": HttpAction,
    "command": CommandAction,
    "sql": SqlAction,
}
_EXPECTED: Final[Mapping[str, str]] = {
    "missing": "a value",
    "union_tag_invalid": "a `type` of http, command or sql",
    "union_tag_not_found": "a `type` of http, command or sql",
    "literal_error": "{expected}",
    "string_type": "a string",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "value_error": "a duration such as 30s or 5m",
}


def _fault(found: Any) -> FieldFault:
    """One entry of `ValidationError.errors()` in our words."""
    kind, loc = found["type"], found["loc"]
    path = ".".join(str(part) for part in loc if part not in _ACTION_TYPES)
    match kind:
        case "extra_forbidden":
            return FieldFault(path, "is not recognized", f"one of {', '.join(_fields_at(loc))}")
        case "missing":
            reason = "is missing"
        case "union_tag_not_found":
            reason = "has no type"
        case "union_tag_invalid":
            reason = f"has the type {found['ctx']['tag']!r}"
        case "value_error":
            reason = str(found["ctx"]["error"])
        case _:
            reason = f"is {str(found['input'])[:100]!r}"
    expected = _EXPECTED.get(kind, "a value as described in docs/remediation.md")
    return FieldFault(path, reason, expected.format(**found.get("ctx", {})))


def _fields_at(loc: Sequence[object]) -> list[str]:
    """The fields of the object that has the field at `loc`."""
    outer = loc[-2] if len(loc) > 1 else None
    if outer in _ACTION_TYPES:
        return list(_ACTION_TYPES[str(outer)].model_fields)
    return list((Verification if outer == "verify" else Plan).model_fields)
