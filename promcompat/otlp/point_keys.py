"""The keys of the series that data points become: those that remote write knows them by."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from promcompat.core.model import METRIC_NAME
from promcompat.core.texts.strconv import format_decimal
from promcompat.remote_write.wire_fields import encoded_field

_REMEMBERED: Final = 1 << 16
_MAX_REMEMBERED_CHARACTERS: Final = 200
"""Longer texts are not remembered, so that what is has a bound."""
_MAX_KNOWN_BYTES: Final = 32 << 20
_BYTES_OF_ENTRY: Final = 500
"""Tuples, the objects of attributes, and the place in a table."""
_BYTES_OF_KEY: Final = 100
"""Its object, and the bound that it was made of."""
_LAYOUTS: Final = 1 << 12
_MAX_LAYOUT_CHARACTERS: Final = 2_000
_Names = tuple[str, ...]


def _encode(name: str, value: str) -> bytes:
    texts = name.encode(errors="surrogatepass"), value.encode(errors="surrogatepass")
    return encoded_field(0x0A, encoded_field(0x0A, texts[0]) + encoded_field(0x12, texts[1]))


_remembered = lru_cache(_REMEMBERED)(_encode)
bound_text = lru_cache(4_096)(format_decimal)


def encode_label(name: str, value: str) -> bytes:
    """A label as remote write encodes it; nothing for an empty value, which is no label."""
    if not value:
        return b""
    is_short = len(name) + len(value) < _MAX_REMEMBERED_CHARACTERS
    return _remembered(name, value) if is_short else _encode(name, value)


def encode_labels(labels: Mapping[str, str]) -> dict[str, bytes]:
    """Labels as remote write encodes them, by name."""
    return {name: encode_label(name, value) for name, value in labels.items()}


def _layout(names: _Names, label_name: str) -> tuple[_Names, ...]:
    """The names before, between and after those that are filled in, in order."""
    filled_in = {METRIC_NAME, label_name} if label_name else {METRIC_NAME}
    parts: list[list[str]] = [[]]
    for name in sorted({*names, *filled_in}):
        if name in filled_in:
            parts.append([])
        else:
            parts[-1].append(name)
    return tuple(map(tuple, parts))


_remembered_layout = lru_cache(_LAYOUTS)(_layout)


class PointKeys:
    """Makes the keys of a data point's series, which differ in name and at most one label."""

    __slots__ = ("_label_name", "_own_label", "_parts")

    def __init__(self, fields: Mapping[str, bytes], label_name: str = "") -> None:
        """`fields` are labels as `encode_labels` gives them, without the metric's name.

        `label_name` is the label that differs, `le` say.
        """
        self._label_name = label_name
        self._own_label = fields.get(label_name, b"")
        names = tuple(fields)
        is_short = len("".join(names)) < _MAX_LAYOUT_CHARACTERS
        layout = (_remembered_layout if is_short else _layout)(names, label_name)
        self._parts = [b"".join([fields[name] for name in part]) for part in layout]

    def key(self, metric: str, label_value: str = "") -> bytes:
        """The key of a series; without a value the label that differs is that of the fields."""
        name = encode_label(METRIC_NAME, metric)
        if not self._label_name:
            first, last = self._parts
            return first + name + last
        label = encode_label(self._label_name, label_value) or self._own_label
        inserted = (name, label) if self._label_name > METRIC_NAME else (label, name)
        first, middle, last = self._parts
        return b"".join((first, inserted[0], middle, inserted[1], last))


def histogram_keys(
    name: str,
    labels: dict[str, bytes],
    bounds: Sequence[float],
    check_room: Callable[[int], None],
) -> tuple[bytes, ...]:
    """The keys of a histogram: of all of it, its sum, its count, each bound, and `+Inf`.

    `check_room` is given the bytes that they take at least, and may refuse them.
    """
    keys = PointKeys(labels, "le")
    of_all = keys.key(name)
    check_room(len(of_all) * len(bounds))
    texts = [*map(bound_text, bounds), "+Inf"]
    return (
        of_all,
        keys.key(f"{name}_sum"),
        keys.key(f"{name}_count"),
        *(keys.key(f"{name}_bucket", text) for text in texts),
    )


class KnownKeys:
    """The keys that data points have become, by what made them: senders repeat it.

    Making a key of nine labels takes four times as long as finding it here. When there are many,
    all are forgotten, so that what is remembered has a bound.
    """

    def __init__(self) -> None:
        self._by_origin: dict[Hashable, KeysOfOrigin] = {}
        self._n_bytes = 0

    def of(self, origin: Hashable, n_bytes: int) -> "KeysOfOrigin":
        """Those of a resource and a scope, which take so many bytes."""
        found = self._by_origin.get(origin)
        if found is None:
            # Counted even if no key is ever remembered for it, as of one that has only summaries.
            self.count(n_bytes + _BYTES_OF_ENTRY)
            found = self._by_origin[origin] = KeysOfOrigin(self)
        return found

    def count(self, n_bytes: int) -> None:
        """Count what is remembered."""
        self._n_bytes += n_bytes
        if self._n_bytes > _MAX_KNOWN_BYTES:
            self._by_origin, self._n_bytes = {}, 0


class KeysOfOrigin:
    """The keys of the points of a resource and a scope; each entry is a tuple of keys."""

    __slots__ = ("_all", "_keys")

    def __init__(self, every: KnownKeys) -> None:
        self._all = every
        self._keys: dict[Hashable, tuple[bytes, ...]] = {}

    def find(self, what: Hashable) -> tuple[bytes, ...] | None:
        """The keys that were remembered for something."""
        return self._keys.get(what)

    def remember(self, what: Hashable, n_bytes: int, keys: tuple[bytes, ...]) -> None:
        """Remember keys, and what made them, which takes so many bytes."""
        self._keys[what] = keys
        n_bytes_of_keys = sum(len(key) + _BYTES_OF_KEY for key in keys)
        self._all.count(n_bytes + n_bytes_of_keys + _BYTES_OF_ENTRY)
