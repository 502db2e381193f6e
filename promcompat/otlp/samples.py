"""The samples of a request as rows, and how many of its data points were rejected."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from promcompat.core.model import FloatArray, IntArray, MetricMetadata
from promcompat.otlp.native_points import NativeHistograms
from promcompat.remote_write.series_key import MAX_KEYS_BYTES, check_keys_bytes


@dataclass(frozen=True, slots=True)
class PointRows:
    """Rows of data points that a kernel read.

    Row i is a sample of the series with key `keys[i]`, and belongs to the data point with the
    number `points[i]`, of which there are `n_points`; `starts_ms` is as that of `Samples`, but of
    rows. `places` has, for each row of `Samples.keys`, the number of the row here that follows it.
    """

    keys: list[bytes]
    timestamps: IntArray
    values: FloatArray
    points: IntArray
    starts_ms: IntArray
    n_points: int
    places: IntArray


@dataclass(frozen=True, slots=True)
class PointExemplar:
    """An exemplar of the series with a key."""

    key: bytes
    labels: Sequence[tuple[str, str]]
    value: float
    timestamp_ms: int


class TranslatedMetric(NamedTuple):
    """The metadata of a metric, None if it is rejected, and what there is after it."""

    metadata: MetricMetadata | None
    n_rows: int
    n_exemplars: int


@dataclass(slots=True)
class Samples:
    """What a request becomes: rows of a batch, and what was not translated.

    Row i is a sample of the series with key `keys[i]`, a stale marker if it is in `stale_rows`, and
    belongs to the data point with the number `points[i]` (-1: to none). Those in `histogram_rows`
    are `histograms`, in this order. `n_points` are translated; `rejected` counts the other data
    points by the reason for which they are not. `starts_ms` has for each that is translated since
    when its series counts (Unix ms), or 0. `metrics` are those of the request, in order. The rows
    that a kernel read are in `read`, and not in the lists. `n_early_target_info` counts the samples
    of `target_info` besides the last one of each resource.
    """

    keys: list[bytes] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    stale_rows: list[int] = field(default_factory=list)
    histogram_rows: list[int] = field(default_factory=list)
    histograms: NativeHistograms = field(default_factory=NativeHistograms)
    points: list[int] = field(default_factory=list)
    exemplars: list[PointExemplar] = field(default_factory=list)
    metadata: dict[str, MetricMetadata] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    n_points: int = 0
    starts_ms: list[int] = field(default_factory=list)
    metrics: list[TranslatedMetric] = field(default_factory=list)
    read: PointRows | None = None
    n_key_bytes: int = 0
    n_early_target_info: int = 0

    def add(self, key: bytes, timestamp_ms: int, value: float, *, is_stale: bool = False) -> None:
        """Add a row of the data point at hand. Raises as `check_room`."""
        if not self.keys or key is not self.keys[-1]:
            self.check_room(len(key))
            self.n_key_bytes += len(key)
        if is_stale:
            self.stale_rows.append(len(self.keys))
        self.keys.append(key)
        self.timestamps.append(timestamp_ms)
        self.values.append(value)
        self.points.append(self.n_points)

    def add_key_bytes(self, keys: list[bytes]) -> None:
        """Count the bytes of the keys of rows that a kernel read. Raises as `check_room`."""
        n_bytes = sum(map(len, keys))
        if n_bytes > MAX_KEYS_BYTES:
            n_bytes = sum(len(key) for key, _ in groupby(keys))
        self.check_room(n_bytes)
        self.n_key_bytes += n_bytes

    def check_room(self, n_bytes: int) -> None:
        """Raises BadDataError when keys with so many more bytes would be too long together.

        Each data point has the labels of its resource, and each bucket those of its point.
        """
        check_keys_bytes(self.n_key_bytes + n_bytes)

    def add_histogram(self, key: bytes, timestamp_ms: int) -> None:
        """Add a row for the histogram that is added to `histograms` next."""
        self.histogram_rows.append(len(self.keys))
        self.add(key, timestamp_ms, 0.0)

    def add_to_no_point(self, key: bytes, timestamp_ms: int, value: float) -> None:
        """Add a row that no data point stands for."""
        self.add(key, timestamp_ms, value)
        self.points[-1] = -1

    def __len__(self) -> int:
        return len(self.keys) + (0 if self.read is None else len(self.read.keys))

    @property
    def n_translated(self) -> int:
        """How many data points are translated, or were read by a kernel."""
        return self.n_points + (0 if self.read is None else self.read.n_points)
