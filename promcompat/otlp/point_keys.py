"""The keys of the series that data points become: those that remote write knows them by."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from promcompat.core.model import METRIC_NAME

_REMEMBERED: Final = 1 << 16


def _field(tag: int, content: bytes) -> bytes:
    length, head = len(content), bytearray((tag,))
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + content


def _encode(name: str, value: str) -> bytes:
    texts = name.encode(errors="surrogatepass"), value.encode(errors="surrogatepass")
    return _field(0x0A, _field(0x0A, texts[0]) + _field(0x12, texts[1]))


_remembered = lru_cache(_REMEMBERED)(_encode)


def _label(name: str, value: str) -> bytes:
    """A label as remote write encodes it; long ones are not remembered."""
    return _remembered(name, value) if len(name) + len(value) < 200 else _encode(name, value)


class PointKeys:
    """Makes the keys of a data point's series, which differ in name and at most one label."""

    __slots__ = ("_label_name", "_parts")

    def __init__(self, labels: Mapping[str, str], label_name: str = "") -> None:
        """`labels` without the metric's name; `label_name` is the label that differs, `le` say."""
        self._label_name = label_name
        names = sorted({*labels, METRIC_NAME, *filter(None, (label_name,))})
        # Bytes before, between and after the labels that are filled in for each series.
        parts: list[list[bytes]] = [[]]
        filled_in = {METRIC_NAME, label_name} if label_name else {METRIC_NAME}
        for name in names:
            if name in filled_in:
                parts.append([])
            elif value := labels[name]:
                parts[-1].append(_label(name, value))
        self._parts = [b"".join(part) for part in parts]

    def key(self, metric: str, label_value: str = "") -> bytes:
        """The key of a series; without a value it does not have the label that differs."""
        name = _label(METRIC_NAME, metric)
        if not self._label_name:
            first, last = self._parts
            return first + name + last
        label = _label(self._label_name, label_value) if label_value else b""
        inserted = (name, label) if self._label_name > METRIC_NAME else (label, name)
        first, middle, last = self._parts
        return b"".join((first, inserted[0], middle, inserted[1], last))
