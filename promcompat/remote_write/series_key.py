"""The wire bytes of a series' labels, from and to a label set, by the rules of version 1.0."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from google.protobuf.message import DecodeError

from promcompat.core.errors import BadDataError
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.remote_write.remote_pb2 import Label, SeriesKey

_MAX_DESCRIPTION_LENGTH = 500
_REMEMBERED: Final = 1 << 15
_MAX_REMEMBERED_CHARACTERS: Final = 200
"""What is longer is not remembered, so that what is has a bound."""
MAX_KEYS_BYTES: Final = 128 << 20


class InvalidLabelsError(ValueError):
    """The labels are not valid for a series; Prometheus skips it and still answers 204."""


def check_keys_bytes(n_bytes: int) -> None:
    """Raises BadDataError when the keys of a request's samples take too many bytes together."""
    if n_bytes > MAX_KEYS_BYTES:
        raise BadDataError(
            f"the labels of the samples take more than {MAX_KEYS_BYTES} bytes together; send "
            "fewer samples in one request"
        )


def decode_series_key(key: bytes) -> Labels:
    """The label set that a series key stands for, sorted, without empty values.

    Raises InvalidLabelsError without a metric name, for a name that is empty or comes twice (even
    if its value is empty), and for text that is not UTF-8; BadDataError for malformed protobuf.
    """
    try:
        message = SeriesKey.FromString(key)
    except DecodeError as exc:
        raise BadDataError(f"proto: cannot decode the labels of a series: {exc}") from exc
    try:
        pairs = [(label.name.decode(), label.value.decode()) for label in message.labels]
    except UnicodeDecodeError as exc:
        raise InvalidLabelsError("a label is not valid UTF-8") from exc
    by_name = dict(pairs)
    if len(by_name) != len(pairs):
        raise InvalidLabelsError(f"duplicate label name in {_describe(pairs)}")
    if not by_name.get(METRIC_NAME) or "" in by_name:
        raise InvalidLabelsError(f"invalid metric name or labels, got {_describe(pairs)}")
    return Labels(pairs)


def encode_series_key(labels: Iterable[tuple[str, str]]) -> bytes:
    """The wire bytes of labels in the order given; most senders sort them by name.

    Labels are few beside the series that have them. Those that were encoded before are not encoded
    again: that takes a fifth of the time that the protobuf library takes for all of them.
    """
    return b"".join(
        [
            (_remembered if len(name) + len(value) <= _MAX_REMEMBERED_CHARACTERS else _encode)(
                name, value
            )
            for name, value in labels
        ]
    )


def _encode(name: str, value: str) -> bytes:
    label = Label(name=name.encode(), value=value.encode())
    return SeriesKey(labels=[label]).SerializeToString()


_remembered = lru_cache(_REMEMBERED)(_encode)


def _describe(pairs: Iterable[tuple[str, str]]) -> str:
    text = ", ".join(f'{name}="{value}"' for name, value in pairs)
    shortened = text[:_MAX_DESCRIPTION_LENGTH]
    return "{" + shortened + ("…" if len(text) > len(shortened) else "") + "}"
