"""What one snapshot of the database says about the undrained arrivals, answered from memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Final, NamedTuple

import numpy as np

from promcompat.core.histograms.columns import HistogramCells
from promcompat.core.model import BoolArray, IntArray
from promcompat.core.ports import ALL_TIME_MS, TimeRange
from promcompat.core.value_classes import value_class
from sql.samples.arrivals.arrival_log import DrainState
from sql.samples.columns.fold import (
    Deletion,
    Piece,
    first_of,
    gathered,
    in_order,
    rows_between,
    without_deleted,
    writable,
)
from sql.samples.columns.histogram_pools import HistogramPools, raise_numbers
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.head.lookup_kernels import find_samples
from sql.samples.head.segments import Segment, TenantHead

_NO_HEAD: Final = TenantHead()


class ArrivalRange(NamedTuple):
    """Arrivals with an id above `after`, up to `through`."""

    after: int
    through: int


@value_class(frozen=True, slots=True)
class HeadView:
    """The undrained arrivals of a snapshot, or of a later one that drained no more.

    Nothing of it ever changes. Its methods run for as long as their answers are large, and most of
    that without the GIL. `version` is that of the `ChangeLog`: what is read by this view is valid
    until samples change under a later version. `generations` has those of the series of tenants
    that were asked for: while one stays the same, so do the tenant's series. `last_change` is the
    newest row of `sample_change` in the snapshot. `drained_bounds` are the first and last time of
    what is drained of tenants that were asked for, as far as they came with the snapshot.
    """

    epoch: str
    drained_through: int
    last_id: int
    version: int
    held_after: int
    tenants: Mapping[int, TenantHead]
    generations: Mapping[int, int] = field(default_factory=dict)
    last_change: int = 0
    drained_bounds: Mapping[int, TimeRange | None] = field(default_factory=dict)

    @property
    def drain_state(self) -> DrainState:
        """What was drained in the snapshot."""
        return DrainState(self.epoch, self.drained_through, self.last_change)

    def deletions(self, tenant_id: int) -> Sequence[Deletion]:
        """The undrained deletions, for folding them with pieces of the head and of blocks."""
        return self._head(tenant_id).deletions

    def not_held(self, tenant_id: int) -> ArrivalRange | None:
        """Undrained arrivals that are not in memory, and have to be read in this snapshot."""
        through = max(self.held_after, self._head(tenant_id).held_after)
        return (
            ArrivalRange(self.drained_through, through) if through > self.drained_through else None
        )

    def with_pieces(self, tenant_id: int, pieces: Sequence[Piece]) -> "HeadView":
        """The view with arrivals that were not in memory, as far as an answer needs them."""
        return self.with_arrivals(tenant_id, [_segment(one) for one in pieces], ())

    def with_arrivals(
        self, tenant_id: int, segments: Sequence[Segment], deletions: Sequence[Deletion]
    ) -> "HeadView":
        """The view with arrivals of a tenant that the head does not have."""
        head = self._head(tenant_id).appended(segments, deletions)
        return replace(self, tenants={**self.tenants, tenant_id: head})

    def bounds(self, tenant_id: int) -> tuple[int, int] | None:
        """Bounds of the times in memory, Unix ms; they may be wider where samples were deleted."""
        segments = self._head(tenant_id).segments
        if not segments:
            return None
        return min(one.first_ms for one in segments), max(one.last_ms for one in segments)

    def expected_samples(
        self, tenant_id: int, wanted: IntArray, start_ms: int, end_ms: int
    ) -> float:
        """About how many samples `samples` will find, if they are spread evenly."""
        expected = 0.0
        for one in _between(self._head(tenant_id).segments, start_ms + 1, end_ms):
            n_ms = min(one.last_ms, end_ms) - max(one.first_ms, start_ms + 1) + 1
            part = min(1.0, len(wanted) / len(one.piece.samples.ids))
            expected += len(one.piece.samples) * part * n_ms / (one.last_ms - one.first_ms + 1)
        return expected

    def samples(self, tenant_id: int, wanted: IntArray, start_ms: int, end_ms: int) -> list[Piece]:
        """The samples of wanted series (ascending) in `(start_ms, end_ms]`.

        Their fold with `deletions` is the answer of the head; pieces of blocks may be added.
        """
        head, wanted = self._head(tenant_id), writable(wanted)
        segments = list(_between(head.segments, start_ms + 1, end_ms))
        pieces = []
        for replaces in (False, True):
            same = [one.piece for one in segments if one.piece.replaces == replaces]
            groups = _undivided(same, head.deletions)
            pieces += [_gathered(group, wanted, start_ms, end_ms) for group in groups]
        return [piece for piece in pieces if len(piece.samples)]

    def newest(
        self,
        tenant_id: int,
        wanted: IntArray,
        start_ms: int = ALL_TIME_MS[0],
        end_ms: int = ALL_TIME_MS[1],
    ) -> SeriesSamples:
        """The newest sample in `(start_ms, end_ms]` of wanted series (ascending) that have one."""
        head = self._head(tenant_id)
        pieces = [one.piece for one in _between(head.segments, start_ms + 1, end_ms)]
        parts = []
        for piece in in_order(pieces):
            later = _later_deletions(piece, head.deletions)
            kept = without_deleted(piece, later).samples
            parts.append(_last_rows(kept, wanted, start_ms, end_ms))
        joined = first_of([part for part in parts if len(part)])
        return _last_rows(joined, joined.ids, *ALL_TIME_MS)

    def stored_cells(
        self, tenant_id: int, series_ids: IntArray, timestamps: IntArray
    ) -> tuple[BoolArray, HistogramCells]:
        """Which of these samples are in memory, and their values; 0 for a sample that is not."""
        is_found = np.zeros(len(series_ids), np.bool_)
        cells, pools = np.zeros(len(series_ids)), HistogramPools()
        if not len(series_ids):
            return is_found, HistogramCells(cells, None)
        head, columns = self._head(tenant_id), (writable(series_ids), writable(timestamps))
        bounds = int(timestamps.min()), int(timestamps.max())
        pieces = [one.piece for one in _between(head.segments, *bounds)]
        for piece in in_order(pieces):
            is_here, bits_here = _stored_in(piece, *columns)
            for deletion in _later_deletions(piece, head.deletions):
                is_here &= ~_is_deleted(deletion, *columns)
            is_new = is_here & ~is_found
            found = bits_here[is_new].view(np.float64)
            raise_numbers(found, pools.add(piece.samples.histograms))
            cells[is_new] = found
            is_found |= is_here
        return is_found, HistogramCells(cells, pools.settled(cells))

    def _head(self, tenant_id: int) -> TenantHead:
        return self.tenants.get(tenant_id, _NO_HEAD)


def _segment(piece: Piece) -> Segment:
    times = piece.samples.timestamps
    return Segment(piece, int(times.min()), int(times.max()))


def _between(segments: Sequence[Segment], first_ms: int, last_ms: int) -> Iterator[Segment]:
    """The segments that may have samples of these times, both inclusive."""
    return (one for one in segments if one.first_ms <= last_ms and one.last_ms >= first_ms)


def _later_deletions(piece: Piece, deletions: Sequence[Deletion]) -> list[Deletion]:
    return [one for one in deletions if piece.last_arrival < one.arrival_id]


def _undivided(pieces: Sequence[Piece], deletions: Sequence[Deletion]) -> Iterator[list[Piece]]:
    """Rows of pieces without a deletion between the last arrivals of two; none is empty."""
    row: list[Piece] = []
    for piece in pieces:
        if row and any(
            row[-1].last_arrival < one.arrival_id <= piece.last_arrival for one in deletions
        ):
            yield row
            row = []
        row.append(piece)
    if row:
        yield row


def _gathered(pieces: Sequence[Piece], wanted: IntArray, start_ms: int, end_ms: int) -> Piece:
    """One piece of several of one kind; their last arrivals ascend."""
    parts = [piece.samples for piece in in_order(pieces)]
    samples = gathered(parts, wanted, start_ms, end_ms)
    first = min(piece.first_arrival for piece in pieces)
    return Piece(samples, first, pieces[-1].last_arrival, pieces[-1].replaces)


def _last_rows(samples: SeriesSamples, ids: IntArray, start_ms: int, end_ms: int) -> SeriesSamples:
    """The last sample of each of these series in `(start_ms, end_ms]`."""
    first, lengths = np.empty((2, len(ids)), np.int64)
    rows_between(samples, writable(ids), start_ms, end_ms, first, lengths)
    has_rows = lengths > 0
    rows = (first + lengths)[has_rows] - 1
    offsets = np.arange(len(rows) + 1, dtype=np.int64)
    columns = samples.timestamps[rows], samples.values[rows]
    return SeriesSamples(ids[has_rows], offsets, *columns, histograms=samples.histograms)


def _stored_in(
    piece: Piece, series_ids: IntArray, timestamps: IntArray
) -> tuple[BoolArray, IntArray]:
    samples = piece.samples
    is_found, bits = np.empty(len(series_ids), np.bool_), np.empty(len(series_ids), np.int64)
    columns = samples.ids, samples.offsets, samples.timestamps, samples.values.view(np.int64)
    find_samples(*columns, series_ids, timestamps, is_found, bits)
    return is_found, bits


def _is_deleted(deletion: Deletion, series_ids: IntArray, timestamps: IntArray) -> BoolArray:
    """Which of these samples a deletion removes if they came before it."""
    is_within = (timestamps >= deletion.first_ms) & (timestamps <= deletion.last_ms)
    if deletion.series_ids is not None:
        is_within &= np.isin(series_ids, deletion.series_ids)
    return is_within
