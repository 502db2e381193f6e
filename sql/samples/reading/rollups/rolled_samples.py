"""What is read from rollups, as samples that stand for others: pure, on numpy columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from promcompat.core.model import BoolArray, IntArray
from sql.pushdown.window_grid import WindowGrid
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples, joined_samples
from sql.samples.reading.rollups.choice import RollupUse, Stand
from sql.samples.reading.rollups.days import Span
from sql.samples.rollups.rollup_kernels import NO_ABSOLUTE
from sql.samples.rollups.rollup_pages import Column, Columns, marked_samples, without_marked
from sql.times import MS_PER_DAY


@dataclass(frozen=True, slots=True)
class Rolled:
    """Samples that stand for others, and the magnitudes of these (see `rollup_kernels.GRAIN`).

    `magnitudes` is None where nothing is summed. `marked` says of which series and buckets there
    are histograms.
    """

    samples: SeriesSamples
    magnitudes: IntArray | None = None
    marked: SeriesSamples = field(default_factory=lambda: NO_SAMPLES)

    @classmethod
    def of_parts(cls, parts: Sequence["Rolled"]) -> "Rolled":
        """Some parts as one; the series of each come after those of the one before it."""
        if len(parts) == 1:
            return parts[0]
        magnitudes = [one.magnitudes for one in parts if one.magnitudes is not None]
        return cls(
            _one_behind_the_other([one.samples for one in parts]),
            np.concatenate(magnitudes) if magnitudes else None,
            _one_behind_the_other([one.marked for one in parts]),
        )

    @property
    def n_bytes(self) -> int:
        """The size of the arrays."""
        parts = self.samples.counts, self.magnitudes
        more = sum(part.nbytes for part in parts if part is not None)
        return self.samples.n_bytes + self.marked.n_bytes + more

    def count_between(self, start_ms: int, end_ms: int) -> int:
        """How many there are in `(start_ms, end_ms]`."""
        times = self.samples.timestamps
        return int(np.count_nonzero((times > start_ms) & (times <= end_ms)))

    def within(self, start_ms: int, end_ms: int, span: Span) -> "Rolled":
        """A copy of those in `(start_ms, end_ms]`, on days that were rolled up and not changed."""
        times = self.samples.timestamps
        is_kept = np.zeros(len(times), np.bool_)
        for first, last in span.days:
            first_ms = max(first * MS_PER_DAY, start_ms + 1)
            last_ms = min((last + 1) * MS_PER_DAY - 1, end_ms)
            is_kept |= (times >= first_ms) & (times <= last_ms)
        is_kept &= ~span.changed.holds(self.samples)
        first_ms = max(start_ms, span.days[0][0] * MS_PER_DAY - 1)
        last_ms = min(end_ms, (span.days[-1][1] + 1) * MS_PER_DAY - 1)
        return replace(self._where(is_kept), marked=self.marked.between(first_ms, last_ms))

    def in_windows(self, grid: WindowGrid) -> "Rolled":
        """Those that lie within a window: a few, where windows of 5 minutes are an hour apart."""
        if not grid.has_gaps or not len(self.samples):
            return self
        until_next_ms = (grid.first_ms - self.samples.timestamps) % grid.step_ms
        return self._where(until_next_ms < grid.reach_ms)

    def _where(self, is_kept: BoolArray) -> "Rolled":
        magnitudes = None if self.magnitudes is None else self.magnitudes[is_kept]
        samples = self.samples.where(is_kept) if is_kept.any() else NO_SAMPLES
        return Rolled(samples, magnitudes, self.marked)


def _one_behind_the_other(parts: Sequence[SeriesSamples]) -> SeriesSamples:
    parts = [part for part in parts if len(part)]
    if len(parts) < 2:
        return parts[0] if parts else NO_SAMPLES
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    counts = [part.counts for part in parts if part.counts is not None]
    return SeriesSamples(
        np.concatenate([part.ids for part in parts]),
        np.append(0, np.cumsum(lengths)),
        np.concatenate([part.timestamps for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate(counts) if counts else None,
    )


def rolled_samples(columns: Columns, use: RollupUse) -> Rolled:
    """The columns of a payload as samples that stand for others, as far as windows need them."""
    marked = marked_samples(columns)
    rolled = _standing(without_marked(columns) if len(marked) else columns, use.stand)
    return replace(rolled.in_windows(use.grid), marked=marked)


def _standing(columns: Columns, stand: Stand) -> Rolled:
    match stand:
        case Stand.SOME:
            return Rolled(columns[Column.ENDS])
        case Stand.ENDS | Stand.RESETS:
            counts = columns[Column.STANDS_FOR].values.astype(np.int64)
            return Rolled(replace(columns[Column.ENDS], counts=counts))
        case Stand.MINIMUM:
            return Rolled(_single(columns[Column.MINIMUM]))
        case Stand.MAXIMUM:
            return Rolled(_single(columns[Column.MAXIMUM]))
        case Stand.COUNT:
            count = columns[Column.COUNT]
            return Rolled(replace(count, counts=count.values.astype(np.int64)))
        case Stand.SUM | Stand.MEAN:
            return _sums(columns)


def _single(samples: SeriesSamples) -> SeriesSamples:
    return replace(samples, counts=np.ones(len(samples), np.int64))


def _sums(columns: Columns) -> Rolled:
    """Each sum, and a millisecond before it the rounding error of it, which counts no sample."""
    total, lost = columns[Column.SUM], columns[Column.LOST]
    counts = columns[Column.COUNT].values.astype(np.int64)
    magnitudes = columns[Column.MAGNITUDE].values.astype(np.int64)
    sums = replace(total, counts=counts)
    if not len(lost):
        return Rolled(sums, magnitudes)
    before = replace(lost, timestamps=lost.timestamps - 1, counts=np.zeros(len(lost), np.int64))
    joined = joined_samples([sums, before])
    spread = np.full(len(joined), NO_ABSOLUTE, np.int64)
    # A sum counts for at least one sample, and what was lost for none.
    assert joined.counts is not None
    spread[joined.counts > 0] = magnitudes
    return Rolled(joined, spread)
