"""Lists of label sets on their way to another process, and those of an answer back again.

What one query reads the next one reads too, so a list that the other process has is not sent again.
Most label sets of an answer are those of the samples, with or without their metadata: they go back
as numbers. Texts are packed in pieces, because packing holds the interpreter.
"""

import marshal
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from promcompat.core.model import IntArray, Labels, PartialLabelSets

_PIECE = 500
_MARSHAL_VERSION = 2
"""Later protocols look for equal texts, which takes longer than writing them again."""
_MAX_KNOWN = 50_000
"""Label sets of the lists that one process keeps, about 50 MB."""
_Key = tuple[bool, int, int, int]
_BY_TEXT = -1
_WITHOUT_METADATA = 1


@dataclass(frozen=True, slots=True)
class PackedLabels:
    """Label sets as bytes, in pieces; with `are_partial`, they unpack to a `PartialLabelSets`."""

    pieces: tuple[bytes, ...]
    are_partial: bool = False

    @classmethod
    def of(cls, labels: Sequence[Labels]) -> "PackedLabels":
        """Pack label sets."""
        return cls(
            tuple(
                marshal.dumps(
                    [one.pairs for one in labels[first : first + _PIECE]], _MARSHAL_VERSION
                )
                for first in range(0, len(labels), _PIECE)
            ),
            isinstance(labels, PartialLabelSets),
        )

    def unpacked(self) -> tuple[Labels, ...]:
        """The label sets."""
        rows = (pairs for piece in self.pieces for pairs in marshal.loads(piece))
        if not self.are_partial:
            return tuple(Labels.of_sorted(pairs) for pairs in rows)
        # Most of them are equal.
        made: dict[tuple[tuple[str, str], ...], Labels] = {}
        return PartialLabelSets([made.setdefault(pairs, Labels.of_sorted(pairs)) for pairs in rows])


@dataclass(frozen=True, slots=True)
class LabelList:
    """A list and its number; `packed` is set unless the other process has the list."""

    number: int
    packed: PackedLabels | None


class SentLists:
    """The lists that one other process has: those that were used last."""

    def __init__(self) -> None:
        self._known = OrderedDict[_Key, tuple[int, Sequence[Labels]]]()
        self._n_known = 0
        self._next = 0
        self._forgotten: list[int] = []

    def of(self, labels: Sequence[Labels]) -> LabelList:
        """How to send a list."""
        # The objects are those of caches, and live as long as they are known here.
        ends = (id(labels[0]), id(labels[-1])) if labels else (0, 0)
        key = (isinstance(labels, PartialLabelSets), len(labels), *ends)
        if (known := self._known.get(key)) is not None:
            if known[1] == labels:
                self._known.move_to_end(key)
                return LabelList(known[0], None)
            self._forget(key)
        number, self._next = self._next, self._next + 1
        self._known[key] = number, labels
        self._n_known += len(labels)
        return LabelList(number, PackedLabels.of(labels))

    def _forget(self, key: _Key) -> None:
        number, labels = self._known.pop(key)
        self._n_known -= len(labels)
        self._forgotten.append(number)

    def take_forgotten(self) -> tuple[int, ...]:
        """The numbers of the lists beyond what is kept, which the other process has to forget."""
        while self._n_known > _MAX_KNOWN:
            self._forget(next(iter(self._known)))
        forgotten, self._forgotten = tuple(self._forgotten), []
        return forgotten


class ReceivedLists:
    """The lists of the other process, by their numbers."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Labels, ...]] = {}

    def of(self, received: LabelList) -> tuple[Labels, ...]:
        """The list, whether it came with this request or an earlier one."""
        if received.packed is not None:
            self._known[received.number] = received.packed.unpacked()
        return self._known[received.number]

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget lists, once the request that told so is answered."""
        for number in numbers:
            del self._known[number]


@dataclass(frozen=True, slots=True)
class AnswerLabels:
    """`numbers` int64 [n_series]: 2 i + w for label set i of the samples, without metadata if w is
    1, and -1 for the next one of `others`."""

    numbers: IntArray
    others: PackedLabels

    @classmethod
    def of(cls, labels: Sequence[Labels], given: Iterable[Sequence[Labels]]) -> "AnswerLabels":
        """Refer to the label sets of the samples, block by block, where they are the same."""
        number_of: dict[int, int] = {}
        number = 0
        for one in (one for of_block in given for one in of_block):
            number_of[id(one)] = number
            number_of.setdefault(id(one.without_metadata()), number + _WITHOUT_METADATA)
            number += 2
        numbers = [number_of.get(id(one), _BY_TEXT) for one in labels]
        others = [one for one, known in zip(labels, numbers, strict=True) if known == _BY_TEXT]
        return cls(np.array(numbers, np.int64), PackedLabels.of(others))

    def resolved(self, given: Iterable[Sequence[Labels]]) -> tuple[Labels, ...]:
        """The label sets, by those of the samples, block by block."""
        known = [one for of_block in given for one in of_block]
        others = iter(self.others.unpacked())
        return tuple(
            next(others)
            if number == _BY_TEXT
            else known[number >> 1].without_metadata()
            if number & _WITHOUT_METADATA
            else known[number >> 1]
            for number in self.numbers.tolist()
        )
