"""Turns pydantic's errors into faults: the place, what is wrong and what is expected.

The expectation is derived from the JSON schema that `/openapi.json` shows for the same place, so
both always agree. The reasons are our own: no text of pydantic reaches a client.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from native_api.contract.problem import (
    MAX_FAULTS,
    Fault,
    FieldError,
    InvalidRequestError,
    fault,
)

Json = Mapping[str, Any]
Location = tuple[int | str, ...]

JSON_TEXT = "JSON in UTF-8 (RFC 8259)"
_MAX_SHOWN = 60
_MAX_NAMES = 40
_POSITION = re.compile(r"line (\d+) column (\d+)")


class Expectations:
    """Texts that describe what a JSON schema accepts at each place."""

    def __init__(self, schema: Json) -> None:
        self._schema = schema

    @classmethod
    def of(cls, model: Any) -> "Expectations":
        """The expectations of a type as input."""
        return cls(TypeAdapter(model).json_schema(mode="validation"))

    def at(self, loc: Location) -> str:
        """What is expected at a place, for example `an integer from 1 to 1000`."""
        schema = self._find(loc)
        return "" if schema is None else self._describe(schema)

    def names_at(self, loc: Location) -> str:
        """The fields of the object at a place."""
        schema = self._find(loc)
        names = sorted(self._properties(schema)) if schema is not None else []
        listed = ", ".join(names[:_MAX_NAMES])
        return f"one of these: {listed}" if names else "no other fields"

    def _find(self, loc: Location) -> Json | None:
        schema: Json | None = self._schema
        for part in loc:
            if schema is None:
                return None
            schema = self._child(self._resolve(schema), part)
        return schema

    def _child(self, schema: Json, part: int | str) -> Json | None:
        for option in self._options(schema):
            if isinstance(part, int) and isinstance(option.get("items"), Mapping):
                return self._resolve(option["items"])
            properties = option.get("properties", {})
            if part in properties:
                return self._resolve(properties[part])
            if isinstance(option.get("additionalProperties"), Mapping):
                return self._resolve(option["additionalProperties"])
        return None

    def _properties(self, schema: Json) -> set[str]:
        return {name for option in self._options(schema) for name in option.get("properties", {})}

    def _options(self, schema: Json) -> list[Json]:
        """The schema itself, or the branches of a union."""
        schema = self._resolve(schema)
        if "anyOf" not in schema:
            return [schema]
        return [self._resolve(option) for option in schema["anyOf"]]

    def _resolve(self, schema: Json) -> Json:
        while "$ref" in schema:
            schema = self._schema["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        return schema

    def _describe(self, schema: Json) -> str:
        # Null means absent, and a URL has no null.
        options = [option for option in self._options(schema) if option.get("type") != "null"]
        texts = [_describe_plain(option) for option in options]
        return " or ".join(dict.fromkeys(text for text in texts if text))


def _describe_plain(schema: Json) -> str:
    """What a schema without references and unions accepts."""
    match schema:
        case {"enum": list(values)}:
            text = "one of " + ", ".join(map(str, values))
        case {"const": value}:
            text = str(value)
        case {"type": "string"}:
            text = "a string" + _sized(schema, "Length", ("of", "character", "characters"))
            text += f" that matches {schema['pattern']}" if "pattern" in schema else ""
        case {"type": "integer"}:
            text = "an integer" + _between(
                schema.get("minimum"), schema.get("maximum"), "of ", "from "
            )
        case {"type": "number"}:
            text = "a number" + _between(
                schema.get("minimum"), schema.get("maximum"), "of ", "from "
            )
        case {"type": "boolean"}:
            text = "true or false"
        case {"type": "array"}:
            text = "a list" + _sized(schema, "Items", ("of", "item", "items"))
        case {"type": "object"}:
            text = "an object" + _sized(schema, "Properties", ("with", "entry", "entries"))
        case _:
            text = ""
    return text + _such_as(schema)


def _sized(schema: Json, suffix: str, words: tuple[str, str, str]) -> str:
    """The bounds of a size: ` of 1 to 200 characters` for `minLength` and `maxLength`."""
    least, most = schema.get(f"min{suffix}") or None, schema.get(f"max{suffix}")
    bounds = _between(least, most)
    preposition, singular, plural = words
    unit = singular if (most or least) == 1 else plural
    return f" {preposition}{bounds} {unit}" if bounds else ""


def _between(
    least: int | None, most: int | None, before_one: str = "", before_two: str = ""
) -> str:
    """One or two bounds, each form with its preposition: ` of at least 1`, ` from 1 to 9`."""
    if least is None and most is None:
        return ""
    if least is not None and most is not None:
        return f" {before_two}{least} to {most}"
    return f" {before_one}at most {most}" if least is None else f" {before_one}at least {least}"


def counted(count: int, singular: str, plural: str) -> str:
    """A number with its unit: `1 item`, `2 items`."""
    return f"{count} {singular if count == 1 else plural}"


def _such_as(schema: Json) -> str:
    examples = schema.get("examples", ())
    return f", such as {' or '.join(map(str, examples))}" if examples else ""


def refusal_of(
    error: ValidationError, location: Literal["body", "query"], expectations: Expectations
) -> InvalidRequestError:
    """What is refused: one fault for each invalid field, the first if it has several.

    Only those that are listed are described: a megabyte may have a hundred thousand of them.
    """
    faults: list[Fault] = []
    fields: set[str] = set()
    for found in error.errors(include_url=False):
        own = found.get("ctx", {}).get("error")
        named = own.field if isinstance(own, FieldError) else ""
        field = ".".join(filter(None, (field_path(found["loc"]), named))) or location
        if field not in fields and len(faults) < MAX_FAULTS:
            faults.append(
                fault(location, field, reason_of(found), expected_of(found, expectations))
            )
        fields.add(field)
    return InvalidRequestError(faults, n_faults=len(fields))


def field_path(loc: Location) -> str:
    """A place in JSON as text: `metrics[3].labels.host`."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def reason_of(found: Any) -> str:
    """What is wrong, for an entry of `ValidationError.errors()`."""
    reason = _REASONS.get(found["type"])
    return _not_valid(found) if reason is None else reason(found)


def expected_of(found: Any, expectations: Expectations) -> str:
    """What is expected at the place of an entry of `ValidationError.errors()`."""
    own = found.get("ctx", {}).get("error")
    if isinstance(own, FieldError) and own.expected:
        return own.expected
    match found["type"]:
        case "json_invalid":
            return JSON_TEXT
        case "extra_forbidden":
            return expectations.names_at(found["loc"][:-1])
        case _:
            return expectations.at(found["loc"]) or "a value as described in /docs"


def quoted_value(value: object) -> str:
    """A value of a request for use in a sentence; long values are truncated."""
    match value:
        case str():
            text = orjson.dumps(value.encode(errors="replace").decode()).decode()
        case bool() | None:
            text = orjson.dumps(value).decode()
        case int() if value.bit_length() > 64:
            return "an integer of more than 64 bits"
        case int() | float():
            text = str(value)
        case _:
            return _kind(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _kind(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "null"


def _is_value(found: Any) -> str:
    return f"is {quoted_value(found['input'])}"


def _is_kind(found: Any) -> str:
    return f"is {_kind(found['input'])}"


def _has_length(found: Any) -> str:
    match found["input"]:
        case str(text):
            return f"has {counted(len(text), 'character', 'characters')}"
        case dict(entries):
            return f"has {counted(len(entries), 'entry', 'entries')}"
        case items:
            return f"has {counted(len(items), 'item', 'items')}"


def _not_json(found: Any) -> str:
    where = _POSITION.search(found["ctx"]["error"])
    return "is not valid JSON" + (f" at line {where[1]} column {where[2]}" if where else "")


def _not_valid(_found: Any) -> str:
    return "is not valid"


_REASONS: dict[str, Callable[[Any], str]] = {
    "value_error": lambda found: str(found["ctx"]["error"]),
    "extra_forbidden": lambda _found: "is not recognized",
    "missing": lambda _found: "is missing",
    "json_invalid": _not_json,
    "finite_number": lambda _found: "is not a finite number",
    "string_pattern_mismatch": _is_value,
    "string_too_long": _has_length,
    "string_too_short": _has_length,
    "too_long": _has_length,
    "too_short": _has_length,
    "int_from_float": _is_value,
    "int_parsing": _is_value,
    "int_parsing_size": _is_value,
    "float_parsing": _is_value,
    "bool_parsing": _is_value,
    "enum": _is_value,
    "literal_error": _is_value,
    "greater_than": _is_value,
    "greater_than_equal": _is_value,
    "less_than": _is_value,
    "less_than_equal": _is_value,
    "int_type": _is_value,
    "float_type": _is_kind,
    "bool_type": _is_kind,
    "string_type": _is_kind,
    "list_type": _is_kind,
    "dict_type": _is_kind,
    "model_type": _is_kind,
    "model_attributes_type": _is_kind,
}
