"""How many series have each label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from promcompat.core.model import IntArray

_BYTES_OF_ROW: Final = 40
"""Of three columns, and of the bounds of the value."""


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """The labels of `n_series` series, a row for each different name and value.

    Row i is the label `names[name_of[i]]` with the value `values[i]`, which has `value_bytes[i]`
    bytes; `series_with[i]` series have it. `values` may make its texts when they are asked for.
    """

    n_series: int
    names: Sequence[str]
    name_of: IntArray
    values: Sequence[str]
    value_bytes: IntArray
    series_with: IntArray

    @classmethod
    def of(cls, n_series: int, series_with: Mapping[tuple[str, str], int]) -> "LabelCounts":
        """The counts of a mapping of name and value to the number of series."""
        names = list(dict.fromkeys(name for name, _ in series_with))
        values = [value for _, value in series_with]
        return cls(
            n_series,
            names,
            np.array([names.index(name) for name, _ in series_with], np.int64),
            values,
            np.array([len(value.encode()) for value in values], np.int64),
            np.array(list(series_with.values()), np.int64),
        )

    @property
    def n_bytes(self) -> int:
        """About what they take in memory, if `values` makes its texts when they are asked for."""
        return _BYTES_OF_ROW * len(self.values) + int(self.value_bytes.sum())

    def by_label(self) -> dict[tuple[str, str], int]:
        """The number of series with each name and value."""
        labels = [
            (self.names[name], value)
            for name, value in zip(self.name_of.tolist(), self.values, strict=True)
        ]
        return dict(zip(labels, self.series_with.tolist(), strict=True))
