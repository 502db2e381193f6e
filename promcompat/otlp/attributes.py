"""Attributes as they were sent, and as labels; those that are known are not decoded again."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from promcompat.core.errors import BadDataError
from promcompat.otlp.attribute_text import text_of
from promcompat.otlp.names import TranslationStrategy, label_name
from promcompat.otlp.point_keys import encode_label

_REMEMBERED: Final = 1 << 15
_MAX_REMEMBERED_BYTES: Final = 200


class Attribute(NamedTuple):
    """An attribute, and the label that it becomes, as remote write encodes it."""

    key: str
    text: str
    label_name: str
    label: bytes


def _decode(wire: bytes, strategy: TranslationStrategy) -> Attribute:
    try:
        found = KeyValue.FromString(wire)
    except DecodeError as exc:
        raise BadDataError("cannot decode the attributes of the request") from exc
    text, name = text_of(found.value), label_name(found.key, strategy)
    return Attribute(found.key, text, name, encode_label(name, text))


_remembered = lru_cache(_REMEMBERED)(_decode)


def decode_attributes(wires: Sequence[bytes], strategy: TranslationStrategy) -> list[Attribute]:
    """The attributes of KeyValue messages. Raises BadDataError for a malformed one.

    A sender repeats attributes in every request, and there are few in comparison with the points.
    """
    return [
        (_remembered if len(wire) <= _MAX_REMEMBERED_BYTES else _decode)(wire, strategy)
        for wire in wires
    ]


def label_fields(attributes: Sequence[Attribute]) -> dict[str, bytes]:
    """The labels that attributes become, as remote write encodes them, by name; none is empty."""
    fields = {attribute.label_name: attribute.label for attribute in attributes}
    if len(fields) == len(attributes):
        return {name: label for name, label in fields.items() if label}
    return {name: encode_label(name, text) for name, text in joined_labels(attributes).items()}


def joined_labels(attributes: Sequence[Attribute]) -> dict[str, str]:
    """Attributes as labels; values of attributes with one name are joined in order of the keys.

    An empty value is no label.
    """
    labels: dict[str, str] = {}
    for _, text, name, _ in sorted(attributes):
        before = labels.get(name)
        labels[name] = f"{before};{text}" if before else text
    return {name: text for name, text in labels.items() if text}
