"""Recognises samples of known series, which need little further validation.

The identity of a series was validated when it first occurred, and an equal identity is valid too.
So for an item of a known series, only its fields and the types of value and time remain to be
checked, column by column.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from native_api.ingest.payloads import SamplePayload
from promcompat.core.bounded_caches import GenerationalCache, texts_bytes

Identity = tuple[Any, ...]
"""The identity of an item's series: name, source, label names in their given order, values."""
_MAX_BYTES = 128 << 20
_BYTES_PER_IDENTITY = 250
_NO_LABELS: Mapping[str, str] = {}
_NEEDED = {"name", "value"}
_FIELDS = _NEEDED | {"labels", "source", "timestamp"}
# Types are compared exactly, so that a bool is not an int.
_VALUE_TYPES = {int, float}
_TIME_TYPES = {int, float, str, type(None)}
_LABEL_TYPES = {dict, type(None)}


class KeyCache(GenerationalCache[Identity, bytes]):
    """Maps valid identities to series keys."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_MAX_BYTES)

    def remember(self, identity: Identity, key: bytes) -> None:
        """Store the key of a valid identity."""
        self.add(identity, key, _entry_bytes(identity, key))

    def recognise(self, items: Sequence[Any]) -> list[bytes | None]:
        """The key of each item of a known series; None for items still to be validated.

        All are None if any item does not have the form of a sample without special values.
        """
        unknown: list[bytes | None] = [None] * len(items)
        if not _are_plain(items):
            return unknown
        try:
            return self.get_recent(identities_of(items))
        except TypeError:
            # A list or an object in place of a string is not hashable.
            return unknown


def identities_of(items: Sequence[SamplePayload]) -> list[Identity]:
    """The identity of each item, a flat tuple: nested tuples would take 50 % longer."""
    return [
        (item["name"], item.get("source"), *labels, *labels.values())
        for item in items
        for labels in (item.get("labels") or _NO_LABELS,)
    ]


def labels_of(identity: Identity) -> dict[str, str]:
    """The labels of an identity."""
    n_labels = (len(identity) - 2) // 2
    return dict(zip(identity[2 : 2 + n_labels], identity[2 + n_labels :], strict=True))


def _entry_bytes(identity: Identity, key: bytes) -> int:
    texts = texts_bytes(text for text in identity if text is not None)
    return _BYTES_PER_IDENTITY + len(key) + texts


def _are_plain(items: Sequence[Any]) -> bool:
    """Whether all items have the fields of a sample with values of the usual types."""
    if set(map(type, items)) != {dict}:
        return False
    if not all(_NEEDED <= set(shape) <= _FIELDS for shape in set(map(tuple, items))):
        return False
    return (
        {type(item["value"]) for item in items} <= _VALUE_TYPES
        and {type(item.get("timestamp")) for item in items} <= _TIME_TYPES
        and {type(item.get("labels")) for item in items} <= _LABEL_TYPES
    )
