"""Rollups of samples as columns, and columns as the rows of `sample_rollup`.

A column has a number for each bucket of a series. Columns are kept as samples of the codec: the
time of a bucket is its last millisecond, or its start for a sample that is exactly there. In pages
that start is moved to the middle of the bucket: of samples at whole minutes, times are as regular
then as those of others. Pages of earlier versions have it where it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np

from promcompat.core.histograms.columns import HISTOGRAM_BITS, is_histogram
from promcompat.core.model import BoolArray, FloatArray, IntArray, is_stale
from sql.samples.codec.page_decoding import decode_joined
from sql.samples.codec.page_encoding import encode_cut
from sql.samples.columns.fold import writable
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples
from sql.samples.rollups import rollup_kernels as kernels
from sql.times import MS_PER_DAY

_MS_PER_SECOND: Final = 1_000
_LARGEST_SUMMABLE: Final = 1e290
COLUMNS: Final = 8
"""The ids in pages are those of series, times 8, plus the number of the column."""


class Column(IntEnum):
    """The columns of rollups, see the table."""

    ENDS = 0
    STANDS_FOR = 1
    MINIMUM = 2
    MAXIMUM = 3
    COUNT = 4
    SUM = 5
    LOST = 6
    MAGNITUDE = 7


PAYLOADS: Final[Mapping[str, Sequence[Column]]] = {
    "ends": (Column.ENDS, Column.STANDS_FOR),
    "extremes": (Column.MINIMUM, Column.MAXIMUM),
    "sums": (Column.COUNT, Column.SUM, Column.LOST, Column.MAGNITUDE),
}
"""The columns of each payload of a row."""

_OF_SAMPLES: Final = frozenset(PAYLOADS["ends"])
"""Columns whose times are those of samples, and not of buckets."""
Columns = Mapping[Column, SeriesSamples]


@dataclass(frozen=True, slots=True)
class Level:
    """Rollups of one width, in rows that cover `period_days` each."""

    name: str
    bucket_seconds: int
    period_days: int

    @property
    def width_ms(self) -> int:
        """How long a bucket is."""
        return self.bucket_seconds * _MS_PER_SECOND

    @property
    def period_ms(self) -> int:
        """How much time a row covers."""
        return self.period_days * MS_PER_DAY


FIVE_MINUTES: Final = Level("5 minutes", 300, 1)
HOUR: Final = Level("an hour", 3_600, 16)
DAY: Final = Level("a day", 86_400, 128)
LEVELS: Final = (FIVE_MINUTES, HOUR, DAY)


@dataclass(frozen=True, slots=True)
class RollupRow:
    """A row of `sample_rollup`; a payload without buckets is empty."""

    series_id: int
    period: int
    payloads: Sequence[bytes]


class HourRow(NamedTuple):
    """A row of `sample_hour`."""

    hour: int
    series_id: int
    n_samples: int
    low: float
    high: float
    total: float
    first: float
    last: float
    increase: float


@dataclass(frozen=True, slots=True)
class _Reduced:
    """What the kernel `roll_up` found."""

    whole: IntArray
    other: FloatArray
    kept: IntArray

    @classmethod
    def of(cls, samples: SeriesSamples, width_ms: int, *, splits_starts: bool) -> "_Reduced":
        n_samples = len(samples)
        whole, kept = np.empty((n_samples, 6), np.int64), np.empty((n_samples, 2), np.int64)
        other, sizes = np.empty((n_samples, 5)), np.zeros(2, np.int64)
        values = np.ascontiguousarray(samples.values)
        kernels.roll_up(
            np.ascontiguousarray(samples.offsets), np.ascontiguousarray(samples.timestamps),
            values, values.view(np.int64), width_ms, splits_starts, whole, other, kept, sizes,
        )  # fmt: skip
        n_pieces, n_kept = sizes.tolist()
        return cls(whole[:n_pieces].copy(), other[:n_pieces].copy(), kept[:n_kept].copy())


_HAS_HISTOGRAMS: Final = float(np.array(HISTOGRAM_BITS).view(np.float64))
"""In place of a number: the samples have to be read, as some of the series are histograms."""


def rolled_up(samples: SeriesSamples, level: Level) -> Columns:
    """The columns of a level, of folded samples.

    Of series with histograms among them only numbers of samples are kept, and what says so.
    """
    found = _Reduced.of(samples, level.width_ms, splits_starts=True)
    ids = samples.ids[found.whole[:, kernels.ROW]]
    times = found.whole[:, kernels.TIME_MS]
    count, magnitude = (found.whole[:, one] for one in (kernels.COUNT, kernels.MAGNITUDE))
    lost = found.other[:, kernels.LOST]
    columns = {
        Column.MINIMUM: _column(ids, times, found.other[:, kernels.MINIMUM]),
        Column.MAXIMUM: _column(ids, times, found.other[:, kernels.MAXIMUM]),
        Column.COUNT: _column(ids, times, count.astype(np.float64)),
        Column.SUM: _column(ids, times, found.other[:, kernels.SUM]),
        Column.MAGNITUDE: _column(ids, times, magnitude.astype(np.float64)),
        Column.LOST: _column(ids[lost != 0], times[lost != 0], lost[lost != 0]),
    }
    at, stands_for = found.kept[:, 0], found.kept[:, 1]
    ids = np.repeat(samples.ids, np.diff(samples.offsets))[at]
    times = samples.timestamps[at]
    columns[Column.ENDS] = _column(ids, times, samples.values[at])
    columns[Column.STANDS_FOR] = _column(ids, times, stands_for.astype(np.float64))
    if samples.histograms is None or not len(samples):
        return columns
    is_marked = np.logical_or.reduceat(is_histogram(samples.values), samples.offsets[:-1])
    return _marked(columns, samples.ids[is_marked])


def _marked(columns: Columns, ids: IntArray) -> Columns:
    """The columns with the values of some series replaced by marks; their counts stay."""
    marked = dict(columns)
    for name in (Column.ENDS, Column.MINIMUM, Column.MAXIMUM, Column.SUM):
        column = columns[name]
        is_marked = np.repeat(np.isin(column.ids, ids), np.diff(column.offsets))
        values = np.where(is_marked, _HAS_HISTOGRAMS, column.values)
        marked[name] = replace(column, values=values)
    lost = columns[Column.LOST]
    marked[Column.LOST] = lost.where_series(~np.isin(lost.ids, ids))
    return marked


def marked_samples(columns: Columns) -> SeriesSamples:
    """The marked values of a payload's columns; nothing where no series has histograms."""
    for column in columns.values():
        is_marked = is_histogram(column.values)
        if is_marked.any():
            return column.where(is_marked)
    return NO_SAMPLES


def without_marked(columns: Columns) -> Columns:
    """The columns of a payload of which some value is marked, without what is marked."""
    is_marked = next(found for one in columns.values() if (found := is_histogram(one.values)).any())
    return {
        name: one.where(~is_marked) if len(one) == len(is_marked) else one
        for name, one in columns.items()
    }


def hours_of(samples: SeriesSamples) -> list[HourRow]:
    """The hours `[hour, hour + 1)` of folded samples without histograms, since 1970-01-01."""
    if samples.histograms is not None and len(samples):
        samples = samples.where(~is_histogram(samples.values))
    found = _Reduced.of(samples, HOUR.width_ms, splits_starts=False)
    whole, other = found.whole, found.other
    if not len(whole):
        return []
    first, last = whole[:, kernels.FIRST], whole[:, kernels.LAST]
    # As in SQL, NaN is the largest number.
    is_nan = np.isnan(samples.values) & ~is_stale(samples.values)
    has_nan = np.logical_or.reduceat(is_nan, first)
    columns = (
        whole[:, kernels.TIME_MS] // HOUR.width_ms,
        samples.ids[whole[:, kernels.ROW]],
        whole[:, kernels.COUNT],
        other[:, kernels.MINIMUM],
        np.where(has_nan, np.nan, other[:, kernels.MAXIMUM]),
        _summable(other[:, kernels.SUM]),
        samples.values[first],
        samples.values[last],
        _increase(other[:, kernels.INCREASE], samples.values[first], samples.values[last]),
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [HourRow(*row) for row in rows]


def _summable(values: FloatArray) -> FloatArray:
    """As the function `summable` in SQL: an overflow in a sum of sums would be an error there."""
    is_small = ~(np.abs(values) >= _LARGEST_SUMMABLE)
    return np.asarray(np.where(is_small, values, np.copysign(np.inf, values)))


def _increase(rise: FloatArray, first: FloatArray, last: FloatArray) -> FloatArray:
    """Without what would overflow in SQL, which is NaN there too."""
    is_small = np.maximum(np.abs(first), np.abs(last)) < _LARGEST_SUMMABLE
    return _summable(np.where(is_small, rise, np.nan))


def _column(ids: IntArray, times: IntArray, values: FloatArray) -> SeriesSamples:
    """A column of rows that are sorted by series and time."""
    if not len(ids):
        return NO_SAMPLES
    starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))
    return SeriesSamples(
        ids[starts],
        np.append(starts, len(ids)),
        np.ascontiguousarray(times),
        np.ascontiguousarray(values),
    )


def rollup_rows(columns: Columns, level: Level) -> list[RollupRow]:
    """The rows that hold these columns, sorted by series and period."""
    pages: dict[tuple[int, int], list[bytes]] = {}
    for number, names in enumerate(PAYLOADS.values()):
        moved = {
            name: columns[name]
            if name in _OF_SAMPLES
            else _to_middle(columns[name], level.width_ms)
            for name in names
        }
        for series_id, period, payload in _encoded(moved, names, level):
            row = pages.setdefault((series_id, period), [b""] * len(PAYLOADS))
            row[number] = payload
    return [RollupRow(*key, payloads) for key, payloads in sorted(pages.items())]


def _encoded(
    columns: Columns, names: Sequence[Column], level: Level
) -> Iterator[tuple[int, int, bytes]]:
    """The pages of some columns, each of a series and period."""
    parts = [columns[name] for name in names]
    series = np.concatenate([np.repeat(part.ids, np.diff(part.offsets)) for part in parts])
    times = np.concatenate([part.timestamps for part in parts])
    values = np.concatenate([part.values for part in parts])
    numbers = np.repeat([int(name) for name in names], [len(part) for part in parts])
    if not len(series):
        return
    periods = times // level.period_ms
    order = np.lexsort((times, numbers, periods, series))
    series, periods, ids = series[order], periods[order], (series * COLUMNS + numbers)[order]
    is_page = _changes(series) | _changes(periods)
    starts = np.flatnonzero(is_page | _changes(ids))
    samples = SeriesSamples(ids[starts], np.append(starts, len(ids)), times[order], values[order])
    cuts = np.append(np.flatnonzero(is_page), len(ids))
    pages = encode_cut(samples, cuts)
    for at, page in zip(cuts[:-1].tolist(), pages, strict=True):
        yield int(series[at]), int(periods[at]), page.payload


def _to_middle(column: SeriesSamples, width_ms: int) -> SeriesSamples:
    """A column of buckets as pages have it."""
    is_start = column.timestamps % width_ms == 0
    return replace(column, timestamps=column.timestamps + is_start * _middle(width_ms))


def _to_start(times: IntArray, width_ms: int) -> IntArray:
    """The times of a column of pages, of this version or an earlier one."""
    middle = _middle(width_ms)
    return np.asarray(times - (times % width_ms == middle) * middle)


def _middle(width_ms: int) -> int:
    """So long after its start; no bucket has another time like it."""
    return width_ms // 2 - 1


def _changes(column: IntArray) -> BoolArray:
    """Whether each number differs from the one before it; the first one does."""
    return np.asarray(np.diff(column, prepend=column[:1] - 1) != 0)


def decoded(
    payloads: Sequence[bytes],
    wanted: IntArray,
    names: Sequence[Column],
    level: Level,
    periods: tuple[int, int],
) -> Columns:
    """Some columns of wanted series (ascending ids) in some periods of a level, both inclusive.

    The payloads are those of rows in the order of series and period. Raises CorruptPageError.
    """
    start_ms, end_ms = periods[0] * level.period_ms - 1, (periods[1] + 1) * level.period_ms - 1
    filled = [payload for payload in payloads if payload]
    found = {}
    for name in names:
        ids = writable(wanted * COLUMNS + int(name))
        samples = decode_joined(filled, ids, start_ms, end_ms) if filled else NO_SAMPLES
        times = samples.timestamps
        if name not in _OF_SAMPLES:
            times = _to_start(times, level.width_ms)
        found[name] = SeriesSamples(samples.ids // COLUMNS, samples.offsets, times, samples.values)
    return found
