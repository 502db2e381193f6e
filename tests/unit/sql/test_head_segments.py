"""Which segments of the head are merged: into few, none of which is large."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from sql.samples.columns.fold import Piece
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.head.segments import LARGEST_SAMPLES, Segment, TenantHead, next_merge
from tests.support.formats.remote_write import WireHistogram, columns_of

MILLION = 1_000_000


def segment(first_arrival: int, last_arrival: int, n_samples: int, *, replaces: bool) -> Segment:
    """A segment of so many samples, which are all the same and take no memory."""
    times, values = np.broadcast_to(np.int64(0), n_samples), np.broadcast_to(0.0, n_samples)
    samples = SeriesSamples(np.zeros(1, np.int64), np.array([0, n_samples]), times, values)
    return Segment(Piece(samples, first_arrival, last_arrival, replaces), 0, 0)


def arrived(sizes: Sequence[int], *, replaces: bool = False) -> Iterator[Segment]:
    for number, n_samples in enumerate(sizes):
        yield segment(number, number, n_samples, replaces=replaces)


def sizes_of(head: TenantHead) -> list[int]:
    return [len(one.piece.samples) for one in head.segments]


def merged(head: TenantHead) -> TenantHead:
    """The head once nothing is left to merge."""
    while sources := next_merge(head.segments):
        first, last = sources[0].piece, sources[-1].piece
        n_samples = sum(len(one.piece.samples) for one in sources)
        assert n_samples <= LARGEST_SAMPLES
        assert len(sources) > 1
        assert len({one.piece.replaces for one in sources}) == 1
        result = segment(first.first_arrival, last.last_arrival, n_samples, replaces=first.replaces)
        merged_head = head.merged(sources, result)
        assert merged_head is not None
        head = merged_head
    return head


@pytest.mark.parametrize("n_samples", [10_000, 100_000, 900_000])
@pytest.mark.parametrize("replaces", [False, True])
def test_few_segments_are_left_whether_merges_keep_up_or_not(
    n_samples: int, *, replaces: bool
) -> None:
    sizes = [n_samples] * (20 * MILLION // n_samples)
    at_once = merged(TenantHead().appended(arrived(sizes, replaces=replaces)))
    one_by_one = TenantHead()
    for one in arrived(sizes, replaces=replaces):
        one_by_one = merged(one_by_one.appended([one]))
    for head in (at_once, one_by_one):
        assert sum(sizes_of(head)) == sum(sizes)
        assert max(sizes_of(head)) <= LARGEST_SAMPLES
        assert len(head.segments) <= 2 * sum(sizes) // LARGEST_SAMPLES + 20


def test_segments_with_histograms_are_as_large_in_memory_as_those_with_floats() -> None:
    n_cells = 1_600_000
    empty = WireHistogram(positive_spans=[(0, n_cells)], positive=[0] * n_cells)
    large = replace(segment(0, 0, 1, replaces=False).piece.samples, histograms=columns_of([empty]))
    head = TenantHead().appended(
        Segment(Piece(large, number, number, replaces=False), 0, 0) for number in range(8)
    )
    sources = next_merge(head.segments)
    assert len(sources) == 2
    assert sum(one.n_bytes for one in sources) < 16 * LARGEST_SAMPLES


def test_a_segment_that_came_large_stays_as_it_is() -> None:
    sizes = [3 * MILLION, 100, 3 * MILLION]
    assert sizes_of(merged(TenantHead().appended(arrived(sizes)))) == sizes


def test_what_is_drained_leaves_memory_but_for_one_segment() -> None:
    """A segment goes once all of it is drained, so its size bounds what is kept in vain."""
    head = TenantHead()
    for one in arrived([100_000] * 100):
        head = merged(head.appended([one]))
    for through in range(99):
        left = head.drained(through)
        assert sum(sizes_of(left)) - 100_000 * (99 - through) < LARGEST_SAMPLES
