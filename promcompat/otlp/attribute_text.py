"""The values of attributes as texts of labels, as the OpenTelemetry Collector writes them."""

import base64
import json
import math
import re
from collections.abc import Sequence
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from promcompat.core.texts.strconv import format_decimal, format_exponent

_EXPONENT_ZERO: Final = re.compile("(e[+-])0")


def text_of(value: AnyValue) -> str:
    """The text of a value; "" if it has none, which means that the label is absent."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "int_value":
        return str(value.int_value)
    if kind == "double_value":
        return _double_text(value.double_value)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return "" if kind is None else _json(value)


def sorted_pairs(attributes: Sequence[KeyValue]) -> list[tuple[str, str]]:
    """Keys and texts, by key."""
    return sorted((attribute.key, text_of(attribute.value)) for attribute in attributes)


def _double_text(number: float) -> str:
    """As JavaScript writes it."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    if number == 0 or 1e-6 <= abs(number) < 1e21:
        return format_decimal(number)
    return _EXPONENT_ZERO.sub(r"\1", format_exponent(number))


def _json(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return f"[{','.join(map(_json, value.array_value.values))}]"
    if kind == "kvlist_value":
        members = {item.key: item.value for item in value.kvlist_value.values}
        parts = (f"{_quoted(key)}:{_json(members[key])}" for key in sorted(members))
        return "{" + ",".join(parts) + "}"
    if kind is None:
        return "null"
    text = text_of(value)
    return _quoted(text) if kind in ("string_value", "bytes_value") else text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
