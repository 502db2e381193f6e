"""Data points that become native histograms: exponential ones, and explicit ones by a setting.

The rules are those of Prometheus' OTLP receiver. An exponential histogram of scale 0 to 8 has this
schema, finer ones are reduced to 8; the bucket with the number k of OTLP has the index k + 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple

import numpy as np

from promcompat.core.histograms.columns import CUSTOM_BUCKETS, Histograms, Ragged
from promcompat.core.histograms.layout import merged
from promcompat.core.histograms.validation import LAST_SCHEMA, find_faults
from promcompat.core.model import IntArray
from promcompat.otlp.export_pb2 import Buckets, ExponentialHistogramDataPoint

FIRST_SCALE: Final = -4
_ZERO_THRESHOLD: Final = 1e-128
"""Of every exponential histogram, as in Prometheus, which does not read OTLP's threshold."""
_MAX_BUCKETS_OF_TOTAL: Final = 1_280
_COUNT_BITS: Final = (1 << 64) - 1


class CountedBuckets(NamedTuple):
    """Populated buckets of a side by ascending numbers; both columns are int64."""

    numbers: IntArray
    counts: IntArray

    @classmethod
    def of(cls, wire: Buckets) -> "CountedBuckets":
        """The buckets of a data point; counts keep the bits of unsigned numbers."""
        counts = np.array(wire.bucket_counts, np.uint64).view(np.int64)
        kept = np.flatnonzero(counts)
        return cls(wire.offset + kept, counts[kept])

    def coarser(self, n_scales: int) -> "CountedBuckets":
        """The same at a scale that is lower."""
        if not n_scales:
            return self
        return CountedBuckets(self.numbers >> min(n_scales, 63), self.counts).merged()

    def plus(self, other: "CountedBuckets") -> "CountedBuckets":
        """The sum with buckets of the same scale."""
        numbers = np.concatenate((self.numbers, other.numbers))
        order = np.argsort(numbers, kind="stable")
        counts = np.concatenate((self.counts, other.counts))
        return CountedBuckets(numbers[order], counts[order]).merged()

    def merged(self) -> "CountedBuckets":
        """The same buckets, with the counts of equal numbers (which are neighbours) added up."""
        if not len(self.numbers):
            return self
        starts = np.flatnonzero(np.concatenate(([True], np.diff(self.numbers) != 0)))
        return CountedBuckets(self.numbers[starts], np.add.reduceat(self.counts, starts))


def check_scale(scale: int) -> None:
    """Raises ValueError for a scale below -4."""
    if scale < FIRST_SCALE:
        raise ValueError(
            f"cannot convert exponential to native histogram. Scale must be >= -4, was {scale}"
        )


@dataclass(frozen=True, slots=True)
class ExponentialCounts:
    """What an exponential data point counts: `scale` as in OTLP, from -4 to 8."""

    scale: int
    count: int
    total: float
    zero_count: int
    positive: CountedBuckets
    negative: CountedBuckets

    @classmethod
    def of(cls, point: ExponentialHistogramDataPoint) -> "ExponentialCounts":
        """The counts of a data point. Raises as `check_scale`."""
        check_scale(point.scale)
        found = cls(
            point.scale,
            point.count,
            point.sum,
            point.zero_count,
            CountedBuckets.of(point.positive),
            CountedBuckets.of(point.negative),
        )
        return found.at_scale(min(point.scale, LAST_SCHEMA))

    def at_scale(self, scale: int) -> "ExponentialCounts":
        """The same at a scale that is not higher."""
        n_scales = self.scale - scale
        return ExponentialCounts(
            scale,
            self.count,
            self.total,
            self.zero_count,
            self.positive.coarser(n_scales),
            self.negative.coarser(n_scales),
        )

    def plus(self, other: "ExponentialCounts") -> "ExponentialCounts":
        """The sum, at the lower one of the scales, `bounded`."""
        scale = min(self.scale, other.scale)
        mine, theirs = self.at_scale(scale), other.at_scale(scale)
        found = ExponentialCounts(
            scale,
            mine.count + theirs.count,
            mine.total + theirs.total,
            mine.zero_count + theirs.zero_count,
            mine.positive.plus(theirs.positive),
            mine.negative.plus(theirs.negative),
        )
        return found.bounded()

    def bounded(self) -> "ExponentialCounts":
        """The same, at a lower scale if there are many buckets."""
        found = self
        while found.n_buckets > _MAX_BUCKETS_OF_TOTAL and found.scale > FIRST_SCALE:
            found = found.at_scale(found.scale - 1)
        return found

    def check(self) -> None:
        """Raises ValueError if they are no valid histogram: no sum with it would be one either."""
        counts = [*self.positive.counts.tolist(), *self.negative.counts.tolist()]
        if min(counts, default=0) < 0 or self.zero_count + sum(counts) != self.count:
            alone = NativeHistograms()
            alone.add_exponential(self)
            alone.check()

    @property
    def n_bytes(self) -> int:
        """The size of the arrays."""
        return sum(column.nbytes for side in (self.positive, self.negative) for column in side)

    @property
    def n_buckets(self) -> int:
        """The number of populated buckets, without the zero bucket."""
        return len(self.positive.numbers) + len(self.negative.numbers)


@dataclass(slots=True)
class NativeHistograms:
    """The histograms of a request, to be made columns of.

    Buckets are numbered as in the columns, or those of a data point, whose scale is lowered by
    `shifts`.
    """

    schemas: list[int] = field(default_factory=list)
    zero_counts: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)
    positive: list[CountedBuckets | Buckets] = field(default_factory=list)
    negative: list[CountedBuckets | Buckets] = field(default_factory=list)
    shifts: list[int] = field(default_factory=list)
    bounds: list[Sequence[float]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.schemas)

    def add_point(self, point: ExponentialHistogramDataPoint) -> None:
        """Add the histogram of an exponential data point. Raises as `check_scale`."""
        check_scale(point.scale)
        schema = min(point.scale, LAST_SCHEMA)
        self._add(schema, point.zero_count, point.count, point.sum, point.scale - schema)
        self.positive.append(point.positive)
        self.negative.append(point.negative)
        self.bounds.append(())

    def add_exponential(self, found: ExponentialCounts) -> None:
        """Add the histogram of counts that are added up."""
        self._add(found.scale, found.zero_count, found.count, found.total)
        self.positive.append(CountedBuckets(found.positive.numbers + 1, found.positive.counts))
        self.negative.append(CountedBuckets(found.negative.numbers + 1, found.negative.counts))
        self.bounds.append(())

    def add_explicit(
        self, bounds: Sequence[float], buckets: Sequence[int], count: int, total: float
    ) -> None:
        """Add a histogram with custom buckets; of larger counts the lower 64 bits are kept."""
        bits = [count & _COUNT_BITS for count in buckets]
        counts = np.array(bits, np.uint64).view(np.int64)
        kept = np.flatnonzero(counts)
        self._add(CUSTOM_BUCKETS, 0, count, total)
        self.positive.append(CountedBuckets(kept, counts[kept]))
        self.negative.append(CountedBuckets(kept[:0], counts[:0]))
        self.bounds.append(bounds)

    def _add(self, schema: int, zero_count: int, count: int, total: float, shift: int = 0) -> None:
        self.schemas.append(schema)
        self.zero_counts.append(zero_count & _COUNT_BITS)
        self.counts.append(count & _COUNT_BITS)
        self.sums.append(total)
        self.shifts.append(shift)

    def check(self) -> None:
        """Raises ValueError for the first one that is not valid."""
        for fault in find_faults(self.columns()).values():
            raise ValueError(fault)

    def columns(self) -> Histograms:
        """All histograms in the order in which they were added."""
        n = len(self)
        schemas, is_float = np.array(self.schemas, np.int8), np.zeros(n, bool)
        positive_spans, positive = merged(*_joined(self.positive, self.shifts), is_float)
        negative_spans, negative = merged(*_joined(self.negative, self.shifts), is_float)
        return Histograms(
            schemas,
            np.zeros(n, np.uint8),
            is_float,
            np.where(schemas == CUSTOM_BUCKETS, 0.0, _ZERO_THRESHOLD),
            np.array(self.zero_counts, np.uint64).view(np.int64),
            np.array(self.counts, np.uint64).view(np.int64),
            np.array(self.sums, np.float64),
            positive_spans,
            negative_spans,
            positive,
            negative,
            Ragged.of_lengths(
                np.array([len(bounds) for bounds in self.bounds], np.int64),
                np.array([bound for bounds in self.bounds for bound in bounds], np.float64),
            ),
        )


def _joined(
    sides: Sequence[CountedBuckets | Buckets], shifts: Sequence[int]
) -> tuple[Ragged[np.int64], IntArray]:
    """The indexes and counts of all buckets that have counts; equal indexes are neighbours."""
    points = [side for side in sides if isinstance(side, Buckets)]
    if len(points) == len(sides):
        return _joined_points(points, np.array(shifts, np.int64))
    counted = [
        _indexed(side, shift) if isinstance(side, Buckets) else side
        for side, shift in zip(sides, shifts, strict=True)
    ]
    lengths = np.array([len(side.numbers) for side in counted], np.int64)
    numbers = np.concatenate([side.numbers for side in counted])
    counts = np.concatenate([side.counts for side in counted])
    return Ragged.of_lengths(lengths, numbers), counts


def _indexed(side: Buckets, shift: int) -> CountedBuckets:
    found = CountedBuckets.of(side).coarser(shift)
    return CountedBuckets(found.numbers + 1, found.counts)


def _joined_points(
    points: Sequence[Buckets], shifts: IntArray
) -> tuple[Ragged[np.int64], IntArray]:
    """The same of data points alone: arrays for each would take most of the time."""
    ends = np.cumsum(np.array([len(point.bucket_counts) for point in points], np.int64))
    offsets = np.array([point.offset for point in points], np.int64)
    every = chain.from_iterable(point.bucket_counts for point in points)
    counts = np.fromiter(every, np.uint64, ends[-1] if len(ends) else 0).view(np.int64)
    kept = np.flatnonzero(counts)
    rows = np.searchsorted(ends, kept, "right")
    places = kept - np.append(0, ends)[rows]
    numbers = (offsets[rows] + places >> np.minimum(shifts, 63)[rows]) + 1
    return Ragged.of_lengths(np.bincount(rows, minlength=len(points)), numbers), counts[kept]
