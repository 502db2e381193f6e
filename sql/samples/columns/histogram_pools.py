"""Joins the histograms of several columns of samples, and leaves out those of no sample."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from promcompat.core.histograms.columns import (
    Histograms,
    histogram_cells,
    histogram_numbers,
    is_histogram,
    usual_nans,
)
from promcompat.core.model import FloatArray, IntArray


@dataclass(slots=True)
class HistogramPools:
    """The histograms of columns that become one, in the order of the columns.

    A column keeps the numbers in its cells, plus what `add` returns.
    """

    pools: list[Histograms] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    n_histograms: int = 0

    def add(self, pool: Histograms | None) -> int:
        """What the numbers of the next column are raised by, whose histograms these are."""
        first = self.n_histograms
        if pool is not None and len(pool):
            self.pools.append(pool)
            self.firsts.append(first)
            self.n_histograms += len(pool)
        return first

    def settled(self, values: FloatArray) -> Histograms | None:
        """The histograms that cells refer to, each for one cell; changes the cells' numbers."""
        if not self.pools:
            return None
        places = np.flatnonzero(is_histogram(values))
        if not len(places):
            return None
        numbers = histogram_numbers(values[places])
        if numbers.max() >= self.n_histograms:
            # Earlier releases stored any NaN; with these bits it refers to nothing.
            is_stray = numbers >= self.n_histograms
            values[places[is_stray]] = usual_nans(int(is_stray.sum()))
            places, numbers = places[~is_stray], numbers[~is_stray]
        return self._taken(values, places, numbers)

    def _taken(self, values: FloatArray, places: IntArray, numbers: IntArray) -> Histograms | None:
        if not len(places):
            return None
        if self._are_all(numbers):
            return Histograms.joined(self.pools) if len(self.pools) > 1 else self.pools[0]
        if len(self.pools) == 1:
            values[places] = histogram_cells(np.arange(len(places)))
            return self.pools[0].take(numbers)
        of_pool = np.searchsorted(self.firsts, numbers, "right") - 1
        order = np.argsort(of_pool, kind="stable")
        bounds = np.searchsorted(of_pool[order], np.arange(len(self.pools) + 1))
        values[places[order]] = histogram_cells(np.arange(len(places)))
        parts = [
            pool.take(numbers[order[begin:end]] - first)
            for pool, first, begin, end in zip(
                self.pools, self.firsts, bounds[:-1], bounds[1:], strict=True
            )
            if end > begin
        ]
        return Histograms.joined(parts) if len(parts) > 1 else parts[0]

    def _are_all(self, numbers: IntArray) -> bool:
        """Whether each histogram has one cell, as nearly always: then no cell changes."""
        if len(numbers) != self.n_histograms:
            return False
        has_cell = np.zeros(self.n_histograms, np.bool_)
        has_cell[numbers] = True
        return bool(has_cell.all())


def raise_numbers(cells: FloatArray, by: int) -> None:
    """Raise the numbers of those cells that refer to histograms, in place."""
    if by:
        # Numbers are the low bits, which no sum carries out of.
        cells.view(np.int64)[is_histogram(cells)] += by


def joined_values(
    columns: Sequence[FloatArray], pools: Sequence[Histograms | None]
) -> tuple[FloatArray, HistogramPools]:
    """The columns one behind the other, with numbers for the joined pools; not settled yet."""
    values, joined, begin = np.concatenate(columns), HistogramPools(), 0
    for column, pool in zip(columns, pools, strict=True):
        first = joined.add(pool)
        if pool is not None:
            raise_numbers(values[begin : begin + len(column)], first)
        begin += len(column)
    return values, joined
