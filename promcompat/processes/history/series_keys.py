"""Label sets of series as they are sent, and what is the same for two forms of one of them."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import orjson

from promcompat.remote_write.remote_pb2 import SeriesKey, WriteRequest

DIGEST_BYTES: Final = 8
_LABEL_TAG: Final = 0x0A
_METRIC: Final = b'{"metric":'
_VALUES: Final = b'},"values"'


def keys_of_request(request: bytes) -> Iterator[bytes]:
    """The label fields of each series of a remote-write request."""
    return map(label_fields, WriteRequest.FromString(request).timeseries)


def label_fields(series: bytes) -> bytes:
    """The label fields of a series of remote write, with which it begins."""
    at = 0
    while at < len(series) and series[at] == _LABEL_TAG:
        at += 1
        size = shift = 0
        while (byte := series[at]) >= 0x80:
            size |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
        at += 1 + (size | byte << shift)
    return series[:at]


def keys_of_lines(lines: bytes) -> Iterator[bytes]:
    """The JSON object of the labels of each line of JSON lines."""
    for line in lines.splitlines():
        end = line.find(_VALUES)
        if end > 0 and line.startswith(_METRIC):
            yield line[len(_METRIC) : end + 1]
        elif line.strip():
            yield orjson.dumps(orjson.loads(line)["metric"])


def digest_of(key: bytes) -> bytes:
    """The same for every form and order of the same labels; one without a value is none."""
    if key.startswith(b"{"):
        pairs = [(name.encode(), value.encode()) for name, value in orjson.loads(key).items()]
    else:
        pairs = [(label.name, label.value) for label in SeriesKey.FromString(key).labels]
    hashed = blake2b(digest_size=DIGEST_BYTES)
    for name, value in sorted(pairs):
        if value:
            hashed.update(b"%d:%b%d:%b" % (len(name), name, len(value), value))
    return hashed.digest()
