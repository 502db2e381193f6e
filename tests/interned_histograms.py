"""Histograms of a store in memory, each kept once."""

from dataclasses import dataclass, field

import numpy as np

from promcompat.core.histograms import (
    Histograms,
    Ragged,
    histogram_cells,
    histogram_numbers,
    is_histogram,
)
from promcompat.core.model import FloatArray


@dataclass(slots=True)
class InternedHistograms:
    """`all` are those that cells of the store refer to; equal cells are equal histograms."""

    all: Histograms | None = None
    _numbers: dict[bytes, int] = field(default_factory=dict)

    def interned(self, values: FloatArray, histograms: Histograms | None) -> FloatArray:
        """The values with cells that refer to the store's histograms, which get the new ones."""
        if histograms is None:
            return values
        places = np.flatnonzero(is_histogram(values))
        found, numbers = histograms.take(histogram_numbers(values[places])), []
        for row in range(len(places)):
            one = found.take(np.array([row]))
            key = columns_bytes(one)
            if key not in self._numbers:
                self._numbers[key] = len(self._numbers)
                self.all = one if self.all is None else Histograms.joined([self.all, one])
            numbers.append(self._numbers[key])
        renumbered = values.copy()
        renumbered[places] = histogram_cells(np.array(numbers, np.int64))
        return renumbered


def columns_bytes(histograms: Histograms) -> bytes:
    """All columns with their types: equal if the histograms are, to the bit."""
    parts = []
    for name in Histograms.__dataclass_fields__:
        column = getattr(histograms, name)
        arrays = (column.offsets, column.cells) if isinstance(column, Ragged) else (column,)
        parts += [f"{name} {array.dtype}".encode() + array.tobytes() for array in arrays]
    return b"\0".join(parts)
