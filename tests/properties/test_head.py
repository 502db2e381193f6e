"""Whatever is appended, deleted, merged, drained and evicted, a view answers like a dictionary."""

import math
from dataclasses import dataclass, field

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from promcompat.core.ports import ALL_TIME_MS
from sql.samples.columns.fold import Deletion, Piece, fold
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.head.memory import HeadMemory, HeadStats, Merge
from sql.samples.head.segments import Segment, TenantHead, next_merge
from sql.samples.head.view import HeadView
from tests.support.numbered_histograms import model_bits
from tests.support.storage.sample_model import (
    BITS,
    SERIES,
    TIMES,
    Rows,
    folded,
    rows_of,
    samples_of,
)

TENANT = 7
ALL_SERIES = np.arange(0, 8, dtype=np.int64)


@dataclass
class Log:
    """Every arrival ever, what of it is drained, and a memory that follows it."""

    stats: HeadStats = field(default_factory=HeadStats)
    pieces: list[Piece] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    last_id: int = 0
    drained: int = 0
    memory: HeadMemory = field(init=False)

    def __post_init__(self) -> None:
        self.memory = HeadMemory(self.stats)

    def append(self, rows: Rows, replaces: bool) -> None:
        self.last_id += 1
        piece = Piece(samples_of(rows), self.last_id, self.last_id, replaces)
        self.pieces.append(piece)
        times = [time_ms for _, time_ms in rows]
        self.memory.append(TENANT, [Segment(piece, min(times), max(times))], [])

    def delete(self, series: set[int] | None, first_ms: int, n_ms: int) -> None:
        self.last_id += 1
        ids = None if series is None else np.array(sorted(series), np.int64)
        deletion = Deletion(self.last_id, ids, first_ms, first_ms + n_ms)
        self.deletions.append(deletion)
        self.memory.append(TENANT, [], [deletion])

    def merge(self, begin: int, n_segments: int, replaces: bool) -> None:
        head = self.memory.tenants.get(TENANT, TenantHead())
        same = [one for one in head.segments if one.piece.replaces == replaces]
        sources = same[begin : begin + n_segments]
        if len(sources) > 1:
            merge = Merge(TENANT, sources, head.deletions)
            self.memory.replace(merge, merge.result())

    def drain(self, n_arrivals: int) -> None:
        self.drained = min(self.last_id, self.drained + n_arrivals)
        self.memory.drain(self.drained)

    def evict(self) -> None:
        head = self.memory.tenants.get(TENANT)
        if head is not None and head.segments:
            self.memory.evict(head.n_bytes - 1)

    def view(self) -> HeadView:
        view = HeadView("epoch", self.drained, self.last_id, 0, 0, self.memory.tenants)
        missing = view.not_held(TENANT)
        if missing is None:
            return view
        return view.with_pieces(
            TENANT,
            [one for one in self.pieces if missing.after < one.last_arrival <= missing.through],
        )

    def blocks(self) -> list[Piece]:
        return [piece for piece in self.pieces if piece.last_arrival <= self.drained]


MERGE = st.tuples(st.just("merge"), st.integers(0, 3), st.integers(2, 4), st.booleans())
DRAIN = st.tuples(st.just("drain"), st.integers(1, 3))
EVICT = st.tuples(st.just("evict"))
FEW_SERIES = st.integers(1, 2)
FEW_TIMES = st.integers(0, 2)
FEW_POINTS = [(series, time_ms) for series in (1, 2) for time_ms in range(3)]
Step = tuple[object, ...]


def stories(*others: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    """Appends, deletions and `others`: of many samples, or of few that meet each other often.

    With few samples, almost every deletion lies between two samples of the same series and time.
    """
    return st.one_of(
        _stories(SERIES, TIMES, st.integers(0, 8), others),
        _stories(FEW_SERIES, FEW_TIMES, st.integers(0, 1), others),
    )


def _stories(
    series: st.SearchStrategy[int],
    times: st.SearchStrategy[int],
    lengths: st.SearchStrategy[int],
    others: tuple[st.SearchStrategy[Step], ...],
) -> st.SearchStrategy[list[Step]]:
    rows = st.dictionaries(st.tuples(series, times), BITS, min_size=1, max_size=8)
    append = st.tuples(st.just("append"), rows, st.booleans())
    some_series = st.none() | st.sets(series, max_size=3)
    delete = st.tuples(st.just("delete"), some_series, times, lengths)
    return st.lists(st.one_of(append, append, delete, *others), min_size=3, max_size=14)


STEPS = stories(MERGE, MERGE, DRAIN, EVICT)
UNDRAINED = stories(MERGE)


DELETED_BETWEEN: list[Step] = [
    ("append", {(1, 1): 1, (2, 2): 2}, False),
    ("append", {(1, 1): 3, (2, 3): 4}, True),
    ("delete", {1}, 0, 5),
    ("append", {(2, 2): 5, (3, 3): 6}, False),
    ("append", {(3, 3): 7}, True),
    ("delete", None, 3, 0),
    ("append", {(3, 3): 8}, False),
    ("append", {(2, 3): 9}, True),
]
"""Deletions that a merge and a look-up in several segments have to apply."""
MERGED: list[Step] = [
    *DELETED_BETWEEN,
    ("merge", 0, 3, False),
    ("merge", 0, 2, True),
]


def played(steps: list[Step]) -> Log:
    log = Log()
    for name, *arguments in steps:
        getattr(log, str(name))(*arguments)
    return log


@given(STEPS, TIMES, TIMES)
@example(DELETED_BETWEEN, -9, 99)
@example(MERGED, -9, 99)
@example([*MERGED, ("drain", 4)], -9, 99)
@example([*MERGED, ("evict",)], -9, 99)
def test_a_view_and_the_blocks_of_its_snapshot_have_every_sample_once(
    steps: list[Step], start_ms: int, end_ms: int
) -> None:
    log = played(steps)
    view = log.view()
    pieces = [*log.blocks(), *view.samples(TENANT, ALL_SERIES, start_ms, end_ms)]
    drained = [one for one in log.deletions if one.arrival_id <= log.drained]
    answer = fold(pieces, [*drained, *view.deletions(TENANT)]).between(start_ms, end_ms)
    expected = folded(log.pieces, log.deletions)
    assert rows_of(answer) == {
        key: bits for key, bits in expected.items() if start_ms < key[1] <= end_ms
    }


@given(STEPS, st.lists(st.tuples(*[st.integers(1, 4)] * 2), max_size=3))
def test_a_view_never_changes(steps: list[Step], later: list[tuple[int, int]]) -> None:
    log = played(steps)
    view = log.view()
    before = _answers(view)
    log.append({(1, 1): 7, (2, 9): 8}, True)
    for begin, n_segments in later:
        log.merge(begin, n_segments + 1, False)
        log.drain(begin)
    log.evict()
    assert _answers(view) == before


def _answers(view: HeadView) -> list[Rows]:
    pieces = view.samples(TENANT, ALL_SERIES, *ALL_TIME_MS)
    return [rows_of(piece.samples) for piece in pieces]


@given(UNDRAINED, st.sets(SERIES), TIMES, TIMES)
@example(DELETED_BETWEEN, {1, 2, 3}, -4, 12)
@example(MERGED, {1, 2, 3}, -4, 12)
@example(MERGED, {1, 2, 3}, 0, 3)
def test_the_newest_samples_are_those_of_the_fold(
    steps: list[Step], wanted: set[int], start_ms: int, end_ms: int
) -> None:
    log = played(steps)
    rows = {
        key: bits
        for key, bits in folded(log.pieces, log.deletions).items()
        if key[0] in wanted and start_ms < key[1] <= end_ms
    }
    newest = {
        series: max(time_ms for one, time_ms in rows if one == series)
        for series in {series for series, _ in rows}
    }
    found = log.view().newest(TENANT, np.array(sorted(wanted), np.int64), start_ms, end_ms)
    assert rows_of(found) == {
        (series, time_ms): rows[series, time_ms] for series, time_ms in newest.items()
    }


@given(UNDRAINED, TIMES, TIMES)
@example(DELETED_BETWEEN, 0, 9)
@example(MERGED, 0, 9)
def test_the_newest_samples_are_within_the_bounds(
    steps: list[Step], first_ms: int, last_ms: int
) -> None:
    log = played(steps)
    expected: dict[int, int] = {}
    for series, time_ms in folded(log.pieces, log.deletions):
        if first_ms <= time_ms <= last_ms:
            expected[series] = max(time_ms, expected.get(series, time_ms))
    found = log.view().newest(TENANT, ALL_SERIES, first_ms - 1, last_ms)
    assert dict(zip(found.ids.tolist(), found.timestamps.tolist(), strict=True)) == expected


@given(UNDRAINED, st.lists(st.tuples(SERIES, TIMES), max_size=12))
@example(DELETED_BETWEEN, [(1, 1), (2, 2), (2, 3), (3, 3)])
@example(MERGED, [(1, 1), (2, 2), (2, 3), (3, 3)])
def test_stored_samples_are_those_of_the_fold(
    steps: list[Step], points: list[tuple[int, int]]
) -> None:
    log = played(steps)
    rows = folded(log.pieces, log.deletions)
    points = [*points, *FEW_POINTS]
    series, times = (np.array(column, np.int64) for column in zip(*points, strict=True))
    is_found, cells = log.view().stored_cells(TENANT, series, times)
    assert is_found.tolist() == [point in rows for point in points]
    bits = model_bits(cells.values, cells.histograms)
    assert bits.tolist() == [rows.get(point, 0) for point in points]


@given(UNDRAINED)
def test_bounds_cover_all_samples(steps: list[Step]) -> None:
    log = played(steps)
    bounds = log.view().bounds(TENANT)
    for _, time_ms in folded(log.pieces, log.deletions):
        assert bounds is not None
        assert bounds[0] <= time_ms <= bounds[1]


def _sized(n_samples: int, arrival: int) -> Segment:
    """A segment of one series with that many samples."""
    times = np.arange(n_samples, dtype=np.int64) + arrival * 100_000_000
    samples = SeriesSamples(
        np.array([1], np.int64), np.array([0, n_samples], np.int64), times, np.zeros(n_samples)
    )
    return Segment(Piece(samples, arrival, arrival, False), int(times[0]), int(times[-1]))


@given(
    st.lists(
        st.one_of(st.integers(1, 20), st.integers(1_000, 9_000), st.integers(20_000, 60_000)),
        min_size=1,
        max_size=60,
    )
)
def test_few_segments_are_left_and_each_sample_is_copied_seldom(sizes: list[int]) -> None:
    stats = HeadStats()
    memory = HeadMemory(stats)
    n_copied = 0
    for arrival, n_samples in enumerate(sizes, 1):
        memory.append(TENANT, [_sized(n_samples, arrival)], [])
        while (merge := memory.next_merge()) is not None:
            n_copied += sum(len(one.piece.samples) for one in merge.sources)
            memory.replace(merge, merge.result())
    n_classes = 2 + max(0, math.ceil(math.log(sum(sizes) / 4_096, 4)))
    small = sum(size for size in sizes if size < 4_096)
    assert stats.segments <= 8 + 4 * n_classes
    assert n_copied <= sum(sizes) * (n_classes + 1) + small * 8
    assert stats.samples == sum(sizes)
    assert not next_merge(memory.tenants[TENANT].segments)


def test_a_memory_keeps_to_its_bound_and_names_what_it_gave_up() -> None:
    stats = HeadStats()
    memory = HeadMemory(stats)
    for arrival in range(1, 40):
        memory.append(arrival % 3, [_sized(1_000, arrival)], [])
        memory.evict(100_000)
        assert stats.bytes_held <= 100_000
    assert stats.evictions > 0
    view = HeadView("epoch", 0, 39, 0, 0, memory.tenants)
    for tenant_id, head in memory.tenants.items():
        held = {one.piece.last_arrival for one in head.segments}
        missing = view.not_held(tenant_id)
        assert missing is not None
        gone = {arrival for arrival in range(1, 40) if arrival % 3 == tenant_id} - held
        assert all(missing.after < arrival <= missing.through for arrival in gone)
