"""The bodies of answers to exporters, in the encoding of their requests."""

from collections import Counter
from typing import Final

import orjson
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from promcompat.remote_write.wire_fields import encoded_field

_REASONS_SHOWN: Final = 10
_INVALID_ARGUMENT, _RESOURCE_EXHAUSTED, _INTERNAL, _UNAVAILABLE = 3, 8, 13, 14
_CODES: Final = {
    400: _INVALID_ARGUMENT,
    413: _RESOURCE_EXHAUSTED,
    415: _INVALID_ARGUMENT,
    429: _RESOURCE_EXHAUSTED,
}
"""Codes of gRPC by status of HTTP."""


def success_body(rejected: Counter[str], *, is_json: bool) -> bytes:
    """An ExportMetricsServiceResponse; with a partial success if data points were rejected."""
    response = ExportMetricsServiceResponse()
    if rejected:
        response.partial_success.rejected_data_points = rejected.total()
        shown = [f"{reason} ({n})" for reason, n in rejected.most_common(_REASONS_SHOWN)]
        response.partial_success.error_message = "; ".join(shown)
    return orjson.dumps(MessageToDict(response)) if is_json else response.SerializeToString()


def failure_body(status: int, text: str, *, is_json: bool) -> bytes:
    """A `google.rpc.Status`, which exporters log."""
    code = _CODES.get(status, _UNAVAILABLE if status >= 502 else _INTERNAL)
    if is_json:
        return orjson.dumps({"code": code, "message": text})
    return bytes((0x08, code)) + encoded_field(0x12, text.encode(errors="replace"))
