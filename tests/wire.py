"""Remote-write 1.0 requests as senders make them, byte by byte."""

import struct
from collections.abc import Iterable, Sequence

import snappy

from promcompat.remote_write.remote_pb2 import MetricMetadata
from tests.factories import encode_field, encode_labels, encode_varint

Pairs = Sequence[tuple[str, str]]


def bits_of(value: float | int) -> int:
    """The bits of a value; an int is bits already."""
    return value if isinstance(value, int) else struct.unpack("<Q", struct.pack("<d", value))[0]


def encode_sample(timestamp_ms: int, value: float | int) -> bytes:
    """A sample field as gogo-protobuf writes it: zeros are left out; an int is the value's bits."""
    bits = bits_of(value)
    payload = b""
    if bits:
        payload += b"\x09" + struct.pack("<Q", bits)
    if timestamp_ms:
        payload += b"\x10" + encode_varint(timestamp_ms & (1 << 64) - 1)
    return encode_field(2, payload)


def encode_series(pairs: Pairs, *samples: tuple[int, float | int]) -> bytes:
    """A TimeSeries message: labels, then samples."""
    return encode_labels(pairs) + b"".join(encode_sample(*sample) for sample in samples)


def encode_metadata(family: str, kind: int = 1, help_text: str = "", unit: str = "") -> bytes:
    """A MetricMetadata message."""
    message = MetricMetadata(
        type=kind,  # type: ignore[arg-type]
        metric_family_name=family.encode(),
        help=help_text.encode(),
        unit=unit.encode(),
    )
    return message.SerializeToString()


def encode_request(series: Iterable[bytes] = (), metadata: Iterable[bytes] = ()) -> bytes:
    """A compressed WriteRequest."""
    fields = [encode_field(1, message) for message in series]
    fields += [encode_field(3, message) for message in metadata]
    return bytes(snappy.compress(b"".join(fields)))
