"""Rows of a commit, sorted; which of them are stored, and which ones conflict."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from promcompat.core.histograms.columns import HistogramCells, Histograms, is_histogram
from promcompat.core.model import BoolArray, IntArray
from sql.database.copy_format import BitsArray, SampleRows
from sql.samples.columns.equal_samples import differ
from sql.samples.columns.series_samples import SeriesSamples


@dataclass(frozen=True, slots=True)
class Conflict:
    """A row that was not stored: its number among the committed rows and the value that stays.

    `existing` is None where that is a histogram.
    """

    row: int
    existing: float | None


@dataclass(frozen=True, slots=True)
class SortedRows:
    """Rows by tenant, series and time; those of one key (series and time) in order of arrival.

    `order` has the number of each row before sorting. Key `i` has the rows `starts[i]` to
    `starts[i + 1]`; `starts` is one longer than the number of keys.
    """

    rows: SampleRows
    order: IntArray
    starts: IntArray

    @classmethod
    def of(cls, rows: SampleRows) -> "SortedRows":
        """The rows, sorted; `rows` must have `tenant_ids`."""
        if _are_sorted_keys(rows):
            numbers = np.arange(len(rows) + 1)
            return cls(rows, numbers[:-1], numbers)
        order = _sort_order(rows)
        ordered = rows.take(order)
        is_first = np.ones(len(ordered), np.bool_)
        is_first[1:] = (ordered.series_ids[1:] != ordered.series_ids[:-1]) | (
            ordered.timestamps[1:] != ordered.timestamps[:-1]
        )
        return cls(ordered, order, np.append(np.flatnonzero(is_first), len(ordered)))

    @property
    def n_keys(self) -> int:
        """How many distinct keys there are."""
        return len(self.starts) - 1

    def first_of_keys(self) -> SampleRows:
        """The first row of each key."""
        return self.rows if self.n_keys == len(self.rows) else self.rows.take(self.starts[:-1])

    def kept(self, keeps_last: BoolArray, is_stored: BoolArray) -> SampleRows:
        """One row of each key that is to be stored: the last one with `keeps_last`, else the first.

        Keys that are stored already are left out, unless they keep the last.
        """
        chosen = np.where(keeps_last, self.starts[1:] - 1, self.starts[:-1])
        is_kept = keeps_last | ~is_stored
        if self.n_keys == len(self.rows) and is_kept.all():
            return self.rows
        return self.rows.take(chosen[is_kept])

    def conflicts(
        self,
        keeps_last: BoolArray,
        is_stored: BoolArray,
        stored: BitsArray,
        stored_histograms: Histograms | None = None,
    ) -> list[Conflict]:
        """Rows with other samples than what counts, numbered as before sorting.

        What counts for a key is `stored` where `is_stored`, and the first row elsewhere. Bits of
        `stored` that are no floats refer to `stored_histograms`. A key that keeps the last sample
        has no conflicts.
        """
        if self.n_keys == len(self.rows) and not is_stored.any():
            return []
        bits, stored, histograms = self._joined(stored, stored_histograms)
        counting = np.where(is_stored, stored, bits[self.starts[:-1]])
        lengths = np.diff(self.starts)
        of_rows = np.repeat(counting, lengths)
        differs = differ(bits.view(np.float64), of_rows.view(np.float64), histograms)
        at = np.flatnonzero(differs & ~np.repeat(keeps_last, lengths))
        values = of_rows[at].view(np.float64)
        of_histograms = is_histogram(values) if histograms is not None else np.zeros(len(at), bool)
        rows = zip(self.order[at].tolist(), values.tolist(), of_histograms.tolist(), strict=True)
        return [Conflict(row, None if is_one else value) for row, value, is_one in rows]

    def _joined(
        self, stored: BitsArray, stored_histograms: Histograms | None
    ) -> tuple[BitsArray, BitsArray, Histograms | None]:
        """The bits of the rows and the stored ones, and the histograms that both refer to."""
        if stored_histograms is None:
            return self.rows.bits, stored, self.rows.histograms
        cells = HistogramCells.joined(
            [
                HistogramCells(self.rows.bits.view(np.float64), self.rows.histograms),
                HistogramCells(stored.view(np.float64), stored_histograms),
            ]
        )
        bits = cells.values.view(np.uint64)
        return bits[: len(self.rows)], bits[len(self.rows) :], cells.histograms


def _are_sorted_keys(rows: SampleRows) -> bool:
    """Whether the rows are of one tenant, and each has a later key, as in most requests."""
    assert rows.tenant_ids is not None
    ids, times, tenants = rows.series_ids, rows.timestamps, rows.tenant_ids
    is_later = ids[1:] > ids[:-1]
    if not is_later.all():
        is_later |= (ids[1:] == ids[:-1]) & (times[1:] > times[:-1])
    return bool(is_later.all() and (tenants == tenants[:1]).all())


def _sort_order(rows: SampleRows) -> IntArray:
    """The stable order by tenant, series and time.

    Writes come sorted by series, and in order of time. A stable sort merges such runs in 5 ns a
    row; `lexsort`, which does not see them, takes 250.
    """
    assert rows.tenant_ids is not None
    tenants, ids, times = rows.tenant_ids, rows.series_ids, rows.timestamps
    order = np.argsort(ids, kind="stable")
    if len(rows) and (tenants != tenants[0]).any():
        order = order[np.argsort(tenants[order], kind="stable")]
    goes_back = np.diff(times[order]) < 0
    goes_back &= np.diff(ids[order]) == 0
    return np.lexsort((times, ids, tenants)) if goes_back.any() else order


def of_tenants(rows: SampleRows) -> Iterator[tuple[int, SampleRows]]:
    """Each tenant with its rows; `rows` are sorted by tenant."""
    assert rows.tenant_ids is not None
    tenants = rows.tenant_ids
    if len(rows) and tenants[0] == tenants[-1]:
        yield int(tenants[0]), rows
        return
    bounds = [0, *(np.flatnonzero(np.diff(tenants)) + 1).tolist(), len(rows)]
    for start, end in pairwise(bounds if len(rows) else ()):
        yield int(tenants[start]), rows.take(slice(start, end))


def as_series(rows: SampleRows) -> SeriesSamples:
    """Rows of one tenant, sorted by key and with no key twice, as samples by series."""
    is_first = np.ones(len(rows), np.bool_)
    is_first[1:] = rows.series_ids[1:] != rows.series_ids[:-1]
    starts = np.flatnonzero(is_first)
    offsets = np.append(starts, len(rows))
    return SeriesSamples(
        rows.series_ids[starts],
        offsets,
        rows.timestamps,
        rows.bits.view(np.float64),
        histograms=rows.histograms,
    )
