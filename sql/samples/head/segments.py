"""The segments of the head: what is in memory of the undrained arrivals of one tenant.

A segment holds the folded samples of arrivals of one kind. Segments that follow each other are
merged in the background, small ones into large ones, so that a query looks into few of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sql.samples.columns.fold import Deletion, Piece, fold

_SMALLEST_CLASS: Final = 4_096
_CLASS_RATIO: Final = 4
_MAX_SMALLEST: Final = 8
_SAMPLE_BYTES: Final = 16
LARGEST_SAMPLES: Final = 1 << 21
"""Samples of the largest result, 32 MiB: for a moment, a merge needs its size in memory again, and
a segment stays until all of it is drained. See `size_of` for histograms."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece in memory, with bounds of its times in Unix ms, both inclusive."""

    piece: Piece
    first_ms: int
    last_ms: int

    @property
    def n_bytes(self) -> int:
        """The size of the arrays."""
        return self.piece.samples.n_bytes


@dataclass(frozen=True, slots=True)
class TenantHead:
    """The undrained arrivals of a tenant: segments and deletions, each ascending by last arrival.

    Arrivals up to `held_after` are not in memory, for there is no room for them; their deletions
    are.
    """

    segments: tuple[Segment, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    held_after: int = 0

    def appended(
        self, segments: Iterable[Segment], deletions: Iterable[Deletion] = ()
    ) -> "TenantHead":
        """The head after these arrivals, all later than those it has."""
        return replace(
            self,
            segments=_by_arrival((*self.segments, *segments)),
            deletions=tuple(sorted((*self.deletions, *deletions), key=_arrival_id)),
        )

    def drained(self, through: int) -> "TenantHead":
        """Without the arrivals up to this id.

        A segment that also has later ones stays whole: seeing an arrival in it and in the blocks
        changes nothing.
        """
        return replace(
            self,
            segments=tuple(one for one in self.segments if one.piece.last_arrival > through),
            deletions=tuple(one for one in self.deletions if one.arrival_id > through),
        )

    def evicted(self) -> "TenantHead":
        """Without the oldest segment."""
        held_after = max(self.held_after, self.segments[0].piece.last_arrival)
        left = [one for one in self.segments if one.piece.last_arrival > held_after]
        return replace(self, segments=tuple(left), held_after=held_after)

    def merged(self, sources: Sequence[Segment], result: Segment) -> "TenantHead | None":
        """With a segment in place of those that it was merged from; None if one of them is gone."""
        gone = {id(one) for one in sources}
        left = [one for one in self.segments if id(one) not in gone]
        if len(left) + len(sources) != len(self.segments):
            return None
        return replace(self, segments=_by_arrival((*left, result)))

    @property
    def n_bytes(self) -> int:
        """The size of all segments."""
        return sum(segment.n_bytes for segment in self.segments)


def _arrival_id(deletion: Deletion) -> int:
    return deletion.arrival_id


def _by_arrival(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    return tuple(sorted(segments, key=lambda segment: segment.piece.last_arrival))


def merge_segments(sources: Sequence[Segment], deletions: Sequence[Deletion]) -> Segment:
    """One segment in place of several of one kind, which follow each other.

    It is as if it had come with the last of them, so deletions before that are applied now.
    """
    first, last = sources[0].piece, sources[-1].piece
    between = [one for one in deletions if one.arrival_id < last.last_arrival]
    samples = fold([segment.piece for segment in sources], between)
    return Segment(
        Piece(samples, first.first_arrival, last.last_arrival, last.replaces),
        min(segment.first_ms for segment in sources),
        max(segment.last_ms for segment in sources),
    )


def size_of(segment: Segment) -> int:
    """Its samples; a histogram counts as so many floats as take its memory."""
    histograms = segment.piece.samples.histograms
    more = 0 if histograms is None else histograms.n_bytes // _SAMPLE_BYTES
    return len(segment.piece.samples) + more


def next_merge(segments: Sequence[Segment]) -> Sequence[Segment]:
    """The segments that are to be merged next; empty if none are.

    Sizes are in classes, each `_CLASS_RATIO` times the one before. Segments in a row up to some
    class are merged once they make one of a higher class. So a sample is copied at most once for
    each class, and only a few segments of each class are left. Of the smallest ones, which may be
    of one sample each, a small number is merged whatever they make.
    """
    for replaces in (False, True):
        same = [one for one in segments if one.piece.replaces == replaces]
        if len(same) < 2:
            continue
        limit = _SMALLEST_CLASS
        while limit <= LARGEST_SAMPLES:
            for row in map(_together, _rows_below(same, limit)):
                n_samples = sum(map(size_of, row))
                is_many = limit == _SMALLEST_CLASS and len(row) >= _MAX_SMALLEST
                if len(row) > 1 and (is_many or n_samples >= limit):
                    return row
            limit *= _CLASS_RATIO
    return ()


def _rows_below(segments: Sequence[Segment], limit: int) -> list[list[Segment]]:
    """The longest rows of neighbouring segments that have less than `limit` samples each."""
    rows: list[list[Segment]] = [[]]
    for segment in segments:
        if size_of(segment) < limit:
            rows[-1].append(segment)
        elif rows[-1]:
            rows.append([])
    return rows


def _together(row: list[Segment]) -> list[Segment]:
    """The first segments of a row, as many as one segment may hold."""
    n_samples = 0
    for index, segment in enumerate(row):
        n_samples += size_of(segment)
        if n_samples > LARGEST_SAMPLES:
            return row[:index]
    return row
