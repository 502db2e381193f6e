"""Samples of series met before are recognised by their text, and need no further check.

What tells a series was validated when it was first met, and an equal one is valid for that reason:
only texts (and the absent source) equal those that are remembered. So of an item whose series is
known just its fields and the types of value and time are left to look at, by column.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from native_api.ingest.payloads import SamplePayload
from promcompat.core.bounded_caches import GenerationalCache, texts_bytes

Identity = tuple[Any, ...]
"""What tells the series of an item: name, source, names of its labels as they came, values."""
_MAX_BYTES = 128 << 20
_BYTES_PER_IDENTITY = 250
_NO_LABELS: Mapping[str, str] = {}
_NEEDED = {"name", "value"}
_FIELDS = _NEEDED | {"labels", "source", "timestamp"}
# A bool is no int here: types are compared, not classes.
_VALUE_TYPES = {int, float}
_TIME_TYPES = {int, float, str, type(None)}
_LABEL_TYPES = {dict, type(None)}


class KeyCache(GenerationalCache[Identity, bytes]):
    """Valid identities to series keys."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_entry_bytes, _MAX_BYTES)

    def recognise(self, items: Sequence[Any]) -> list[bytes | None]:
        """The key of each item of a known series; None for one that is yet to be validated.

        All are None when any has another shape than a sample without special values has.
        """
        unknown: list[bytes | None] = [None] * len(items)
        if not _are_plain(items):
            return unknown
        try:
            return self.get_recent(identities_of(items))
        except TypeError:
            # A list or an object where a text belongs has no hash.
            return unknown


def identities_of(items: Sequence[SamplePayload]) -> list[Identity]:
    """The identity of each item. A flat tuple: one for each label would take half as long again."""
    return [
        (item["name"], item.get("source"), *labels, *labels.values())
        for item in items
        for labels in (item.get("labels") or _NO_LABELS,)
    ]


def labels_of(identity: Identity) -> dict[str, str]:
    """The labels an identity was made of."""
    n_labels = (len(identity) - 2) // 2
    return dict(zip(identity[2 : 2 + n_labels], identity[2 + n_labels :], strict=True))


def _entry_bytes(identity: Identity, key: bytes) -> int:
    texts = texts_bytes(text for text in identity if text is not None)
    return _BYTES_PER_IDENTITY + len(key) + texts


def _are_plain(items: Sequence[Any]) -> bool:
    """Whether all items have a sample's fields with values of the types of most samples."""
    if set(map(type, items)) != {dict}:
        return False
    if not all(_NEEDED <= set(shape) <= _FIELDS for shape in set(map(tuple, items))):
        return False
    return (
        {type(item["value"]) for item in items} <= _VALUE_TYPES
        and {type(item.get("timestamp")) for item in items} <= _TIME_TYPES
        and {type(item.get("labels")) for item in items} <= _LABEL_TYPES
    )
