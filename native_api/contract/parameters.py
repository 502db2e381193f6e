"""Types of parameters and fields: validated by pydantic, described in the OpenAPI document."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from native_api.contract.names import METRIC_NAME_TEXT, label_name_fault, metric_name_fault
from native_api.contract.problem import FieldError, InvalidRequestError, fault
from native_api.contract.route import Call, PathPart
from native_api.contract.times import TIME_TEXT, parse_time_ms, parse_time_parameter
from native_api.contract.validation import quoted_value
from promcompat.core.errors import BadDataError
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.texts.durations import parse_duration_ms
from promcompat.core.texts.storable_text import UNICODE_TEXT, text_fault

ValueT = TypeVar("ValueT")

_FILTER = re.compile(r"(.+?)(=~|!~|!=|=)(.*)", re.DOTALL)
_A_FILTER = "LABEL=VALUE, LABEL!=VALUE, LABEL=~REGEX or LABEL!~REGEX"
_A_DURATION = "a duration of at least 1ms, such as 30s, 5m or 1h30m"
_OPERATORS = {op.value: op for op in MatchOp}
_MAX_PATTERN_LENGTH = 10_000
MAX_PATTERN_COST = 1_000
"""Approximate microseconds to compile a pattern: a request has up to a hundred filters."""
MAX_ID = (1 << 63) - 1
"""The largest id in the database (bigint)."""


def _time(value: object) -> object:
    return parse_time_parameter(value) if isinstance(value, str) else value


def _body_time(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise FieldError("is not a time", TIME_TEXT)
    return parse_time_ms(value)


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        duration_ms = parse_duration_ms(value)
    except ValueError as exc:
        raise FieldError(str(exc), _A_DURATION) from exc
    if duration_ms < 1:
        raise FieldError("is zero", _A_DURATION)
    return duration_ms


def _stored_text(value: str) -> str:
    if found := text_fault(value):
        raise FieldError(found, UNICODE_TEXT)
    return value


def _label_filter(text: str) -> str:
    parse_filter(text)
    return text


def _label_names(value: list[str]) -> list[str]:
    names = [name.strip() for part in value for name in part.split(",")]
    for name in names:
        if found := label_name_fault(name):
            raise FieldError(f"the label name {quoted_value(name)} {found}", "label names")
    return list(dict.fromkeys(names))


TimeParameter = Annotated[
    int,
    BeforeValidator(_time),
    WithJsonSchema({"type": "string", "examples": ["2026-11-24T05:00:00Z", "1795496400"]}),
]
"""ISO 8601 with a zone or Unix seconds; kept as int Unix milliseconds."""

TimeField = Annotated[
    int,
    BeforeValidator(_body_time),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "number"}],
            "examples": ["2026-11-24T05:00:00Z", 1795496400.5],
        }
    ),
]
"""The same in a JSON body, where Unix seconds are a number."""

DurationParameter = Annotated[
    int,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "examples": ["30s", "5m", "1h"]}),
]
"""A duration like `5m`; kept as int milliseconds."""

StoredText = Annotated[str, AfterValidator(_stored_text)]
"""Text that the database can hold."""

LabelFilter = Annotated[
    str,
    AfterValidator(_label_filter),
    WithJsonSchema({"type": "string", "examples": ["host=web-1", "code!=200", "path=~/api/.*"]}),
]
"""A condition on a label: `host=web-1`, `host!=web-1`, `host=~web-.*` or `host!~web-.*`."""

LabelFilters = Annotated[
    list[LabelFilter],
    Field(
        description="Label matchers, all of which must match: `host=web-1`, `host!=web-1`, "
        "`host=~web-.*`, `host!~web-.*` (RE2, anchored). May be repeated.",
        max_length=100,
    ),
]

GroupBy = Annotated[
    list[str],
    Field(description="Labels to group by, repeated or comma-separated.", max_length=100),
    AfterValidator(_label_names),
]

PersonName = Annotated[
    StoredText,
    Field(min_length=1, max_length=200, description="Who does this; recorded in the history."),
]
ActorField = Annotated[
    PersonName | None,
    Field(
        description="Who does this; recorded in the history. Required, unless access is "
        "restricted: then the name of the token is recorded instead."
    ),
]
Reason = Annotated[StoredText, Field(max_length=2000)]

ID_PART = PathPart(
    description="The id of the resource.",
    schema={"type": "integer", "minimum": 1, "maximum": MAX_ID},
)
METRIC_NAME_PART = PathPart(description="The metric name, percent-encoded.")


def _split_filter(text: str) -> LabelMatcher:
    match = _FILTER.fullmatch(text)
    if match is None:
        raise FieldError("is not a label name followed by an operator and a value", _A_FILTER)
    name, operator, value = match.groups()
    return LabelMatcher(name, _OPERATORS[operator], value)


def parse_filter(text: str) -> LabelMatcher:
    """The matcher of a filter. Raises ValueError."""
    matcher = _split_filter(text)
    value = matcher.value
    found = label_name_fault(matcher.name) or text_fault(value)
    if found:
        raise FieldError(found, _A_FILTER)
    if matcher.has_pattern and len(value) > _MAX_PATTERN_LENGTH:
        expected = f"at most {_MAX_PATTERN_LENGTH} characters"
        raise FieldError(f"the regular expression has {len(value)} characters", expected)
    try:
        matcher.check_pattern(MAX_PATTERN_COST)
    except BadDataError as exc:
        raise FieldError(str(exc), "a regular expression in RE2 syntax") from exc
    return matcher


def matchers_of(filters: list[str], source: str | None = None) -> tuple[LabelMatcher, ...]:
    """The matchers of validated filters, and of a source; their patterns are not checked again."""
    matchers = [_split_filter(text) for text in filters]
    if source is not None:
        matchers.append(LabelMatcher("source", MatchOp.EQUAL, source))
    return tuple(matchers)


def metric_name_of(path: str) -> str:
    """The metric name in the path. Raises InvalidRequestError."""
    if found := metric_name_fault(path):
        raise InvalidRequestError([fault("path", "name", found, METRIC_NAME_TEXT)])
    return path


def id_of(call: Call[Any, Any], name: str = "id") -> int:
    """The id in the path, or what else is numbered so. Raises InvalidRequestError."""
    text = call.path[name]
    if not re.fullmatch(r"[1-9][0-9]{0,18}", text, re.ASCII) or int(text) > MAX_ID:
        raise InvalidRequestError(
            [fault("path", name, f"is {quoted_value(text)}", f"a positive integer {name}")]
        )
    return int(text)


def stored_json(name: str) -> AfterValidator:
    """Accepts JSON that the database can give back unchanged; `name` begins the paths of faults."""

    def check(value: ValueT) -> ValueT:
        _check_json(value, name)
        return value

    return AfterValidator(check)


def _check_json(value: object, path: str) -> None:
    """Raises FieldError for JSON that the database cannot give back unchanged."""
    match value:
        case str():
            if found := text_fault(value):
                raise FieldError(f"{path} {found}", UNICODE_TEXT)
        case int() if not -(1 << 63) <= value < 1 << 63:
            raise FieldError(
                f"{path} is an integer of more than 64 bits", "integers of at most 64 bits"
            )
        case float() if not math.isfinite(value):
            raise FieldError(f"{path} is not a finite number", "finite numbers")
        case Mapping():
            for key, item in value.items():
                _check_json(key, path)
                _check_json(item, f"{path}.{key}")
        case list():
            for index, item in enumerate(value):
                _check_json(item, f"{path}[{index}]")


def check_repeated(name: str, given: object, in_path: int | str) -> None:
    """A field of the body may only repeat its part of the path. Raises InvalidRequestError."""
    if given is not None and given != in_path:
        reason = f"is {quoted_value(given)}, but the path names {quoted_value(in_path)}"
        raise InvalidRequestError(
            [fault("body", name, reason, f"the {name} in the path, or no {name}")]
        )
