"""Export requests as they arrive, protobuf or JSON, in pieces that are stored one after another.

The protobuf library decodes a message in one call, during which nothing else runs, and needs up to
a hundred times its size. So a large request is split first, down to its data points.
"""

import base64
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import orjson
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from promcompat.core.errors import BadDataError, PayloadTooLargeError
from promcompat.core.texts.json_sizes import JSON_TOKENS_TEXT, has_many_tokens
from promcompat.otlp.export_pb2 import Request
from promcompat.remote_write.wire_fields import encoded_varint, read_fields

MessageT = TypeVar("MessageT", bound=Message)
PIECE_BYTES: Final = 1 << 20
_Fields = frozenset[int]
_PATH: Final = tuple(map(frozenset, ((1,), (2,), (2,), (5, 7, 9, 10, 11), (1,))))
"""The fields that lead from a request to its data points: those of the resources, scopes, metrics,
kinds of metrics, and points."""
_MAX_DEPTH: Final = 60
_IDS: Final = frozenset(("traceId", "spanId"))


def split_request(body: bytes) -> Iterator[bytes]:
    """A request as several of about a megabyte, each with the resource and scope of its points.

    Raises BadDataError for a malformed one, and for a data point of more than a megabyte.
    """
    if len(body) <= PIECE_BYTES:
        yield body
    else:
        yield from _split(body, _PATH)


def _split(message: bytes, path: tuple[_Fields, ...]) -> Iterator[bytes]:
    """Messages that share out the parts of a message in order: the fields that the path names.

    Every message has all other fields. A part that is too large is split by the rest of the path.
    """
    if not path:
        raise BadDataError(f"a data point takes more than {PIECE_BYTES} bytes")
    parts, *rest = path
    fields = list(read_fields(message))
    head = b"".join(message[start:end] for number, start, _, end in fields if number not in parts)
    held: list[bytes] = []
    n_bytes = 0
    for number, start, first, end in fields:
        if number not in parts:
            continue
        is_large = end - start > PIECE_BYTES
        if held and (is_large or n_bytes >= PIECE_BYTES):
            yield head + b"".join(held)
            held, n_bytes = [], 0
        if is_large:
            for piece in _split(message[first:end], tuple(rest)):
                yield head + encoded_varint(number << 3 | 2) + encoded_varint(len(piece)) + piece
            continue
        held.append(message[start:end])
        n_bytes += end - start
    if held:
        yield head + b"".join(held)


def parse_protobuf(message: bytes) -> Request:
    """Raises BadDataError if the message is malformed; its attributes are not looked at."""
    return parse_part(Request, message)


def parse_part(kind: type[MessageT], message: bytes) -> MessageT:
    """The same for a part of a request."""
    try:
        return kind.FromString(message)
    except DecodeError as exc:
        raise BadDataError("cannot decode the ExportMetricsServiceRequest") from exc


def parse_json(body: bytes) -> Request:
    """Ids are hexadecimal in OTLP's JSON.

    Raises BadDataError if the document is not a request, and PayloadTooLargeError.
    """
    if has_many_tokens(body):
        raise PayloadTooLargeError(f"the body has {JSON_TOKENS_TEXT}; send smaller requests")
    try:
        document = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as exc:
        raise BadDataError(f"the body is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise BadDataError("the body is not a JSON object")
    try:
        _ids_to_base64(document, 0)
        parsed = ParseDict(document, ExportMetricsServiceRequest(), ignore_unknown_fields=True)
    except (ParseError, ValueError) as exc:
        text = str(exc)[:300]
        raise BadDataError(f"the body is not an ExportMetricsServiceRequest: {text}") from exc
    return parse_protobuf(parsed.SerializeToString())


def _ids_to_base64(node: Any, depth: int) -> None:
    """Change trace and span ids to what protobuf's JSON has for bytes."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(node, dict):
        for name, value in node.items():
            if name in _IDS and isinstance(value, str):
                node[name] = base64.b64encode(bytes.fromhex(value)).decode()
            else:
                _ids_to_base64(value, depth + 1)
    elif isinstance(node, list):
        for item in node:
            _ids_to_base64(item, depth + 1)
