"""What is known of a target's series from scrape to scrape, and the samples of one scrape."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from promcompat.core.exemplars import Exemplar, SeriesExemplar
from promcompat.core.histograms.columns import Histograms, is_histogram
from promcompat.core.model import (
    STALE_NAN_BITS,
    BoolArray,
    FloatArray,
    Labels,
    MetricMetadata,
    is_stale,
)
from promcompat.core.ports import ALL_TIME_MS
from promcompat.imports.columns import NORMAL_NAN_BITS, Faults, ImportedColumns
from promcompat.remote_write.series_key import encode_series_key
from promcompat.scraping.classic_histograms import (
    ClassicHistograms,
    ClassicPart,
    family_of_part,
    part_of,
)
from promcompat.scraping.native_histograms import HistogramError, read_histograms
from promcompat.scraping.scrape_limits import (
    BucketLimitError,
    SampleLimitError,
    ScrapeError,
    check_labels,
    check_legacy_names,
)
from promcompat.scraping.targets import LabelMerge, Target

MAX_FUTURE_MS: Final = 600_000
"""How far ahead of now a sample's own time may be, as in Prometheus."""
_KEPT_SCRAPES: Final = 10
"""Metadata stays for so many scrapes after its metric has gone."""
_SPARE_TEXTS: Final = 1_000
_BYTES_PER_SAMPLE: Final = 150
"""Of a float that waits, with its key."""
ScrapedExemplar = tuple[dict[str, str], float, int | None]
"""Labels, value and, if the target says one, time."""


@dataclass(slots=True, eq=False)
class ScrapedSeries:
    """A series of a target. `key` are the wire bytes of its labels; empty: relabelling drops it.

    `seen_in` and `tracked_in` are numbers of scrapes: the last one that had it, and the last one
    after which it gets a stale marker when it is gone. The value of a native histogram is its
    message.
    """

    key: bytes
    labels: Labels
    seen_in: int = 0
    tracked_in: int = 0
    last_ms: int = ALL_TIME_MS[0]
    last_value: float | bytes = 0.0
    exemplar: ScrapedExemplar | None = None
    part: ClassicPart | None = None
    """Of which classic histogram it is a part, if this is converted."""


@dataclass(frozen=True, slots=True)
class ScrapedBatch:
    """Samples on their way to where they are stored."""

    columns: ImportedColumns
    exemplars: Sequence[SeriesExemplar] = ()

    @property
    def weight(self) -> int:
        """What it takes in memory, in samples: of a histogram, as many as are as large.

        At least 1 for the memory that metadata needs.
        """
        histograms = self.columns.histograms
        n_bytes = 0 if histograms is None else histograms.n_bytes
        return max(1, len(self.columns.series) + n_bytes // _BYTES_PER_SAMPLE)


@dataclass(slots=True)
class ScrapeCounts:
    """What one scrape had, by the words of Prometheus' own series and counters."""

    n_scraped: int = 0
    n_kept: int = 0
    n_series_added: int = 0
    n_duplicates: int = 0
    n_out_of_order: int = 0
    n_out_of_bounds: int = 0


@dataclass(slots=True)
class Rows:
    """Samples as they are collected."""

    series: list[ScrapedSeries] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    histograms: Histograms | None = None
    """What the values of native histograms refer to."""

    def add(self, series: ScrapedSeries, time_ms: int, value: float) -> None:
        """Add a sample."""
        self.series.append(series)
        self.times.append(time_ms)
        self.values.append(value)


class TargetSeries:
    """The series of a target, by the text that it exposes for them."""

    def __init__(self, target: Target, extra_labels: Labels) -> None:
        self.merge = LabelMerge(target, extra_labels)
        self.job = target.job
        self.by_text: dict[str, ScrapedSeries] = {}
        self.metadata: dict[str, MetricMetadata] = {}
        self.metadata_changes = 0
        """Grows when `metadata` is another one after a scrape."""
        self.scrape = 0
        self._time_ms = ALL_TIME_MS[0]
        self._by_key: dict[bytes, ScrapedSeries] = {}
        self._tracked: list[ScrapedSeries] = []
        self._described_in: dict[str, int] = {}
        self._types: dict[str, str] = {}
        self._texts_of: dict[str, list[str]] = {}
        self._sent: dict[str, MetricMetadata] = {}
        self._n_texts = 0
        self._reports: dict[str, ScrapedSeries] = {}

    @property
    def tracked_keys(self) -> Iterable[bytes]:
        """The keys of the series that the last scrape had, and of those about the scrapes."""
        series = [*self._tracked, *self._reports.values()]
        return (found.key for found in series)

    def begin(self, time_ms: int, now_ms: int) -> "Scrape":
        """A new scrape, whose samples have this time unless they have one of their own.

        If it is before that of the scrape before, the clock has been set back: otherwise no sample
        would be in order until the clock is there again.
        """
        if time_ms < self._time_ms:
            for series in self._by_key.values():
                series.last_ms = ALL_TIME_MS[0]
        self._time_ms = time_ms
        self.scrape += 1
        return Scrape(self, time_ms, now_ms + MAX_FUTURE_MS)

    def series_of(self, labels: Labels) -> ScrapedSeries:
        """The series with these labels; two texts may stand for one."""
        key = encode_series_key(labels.pairs)
        return self._by_key.setdefault(key, ScrapedSeries(key, labels))

    def report_series(self, name: str) -> ScrapedSeries:
        """A series about the scrapes."""
        found = self._reports.get(name)
        if found is None:
            labels = self.merge.of_report(name)
            found = ScrapedSeries(encode_series_key(labels.pairs), labels)
            self._reports[name] = found
        return found

    def note_family(self, described: MetricMetadata) -> None:
        """Note that the current scrape describes a family.

        Texts whose series are a part of a histogram, or may be, are read again if its type changes.
        """
        self._described_in[described.family] = self.scrape
        if self._types.get(described.family) != described.type:
            self._types[described.family] = described.type
            for text in self._texts_of.pop(described.family, ()):
                self.by_text.pop(text, None)

    def note_part(self, family: str, text: str) -> None:
        """Note that a text is a part of a family if this is a classic histogram."""
        self._texts_of.setdefault(family, []).append(text)

    def end(self, tracked: list[ScrapedSeries], *, is_complete: bool) -> list[ScrapedSeries]:
        """Finish the scrape; returns the series that have gone and get a stale marker."""
        stale = [series for series in self._tracked if series.tracked_in != self.scrape]
        self._tracked = tracked
        if is_complete or len(self.by_text) > 2 * self._n_texts + _SPARE_TEXTS:
            self._forget()
        return stale

    def fail(self) -> list[ScrapedSeries]:
        """Finish a scrape that failed; returns the series that get a stale marker.

        The series before the line or sample that made the scrape fail get none. As in Prometheus
        3.5.3, they get one after a later scrape that does not have them.
        """
        seen = [series for series in self._tracked if series.tracked_in == self.scrape]
        return self.end(seen, is_complete=False)

    def _forget(self) -> None:
        """Forget the texts that the current scrape does not have, and old metadata."""
        now = self.scrape
        if any(series.seen_in != now for series in self.by_text.values()):
            self.by_text = {
                text: series for text, series in self.by_text.items() if series.seen_in == now
            }
            self._by_key = {series.key: series for series in self.by_text.values() if series.key}
            kept = (
                (family, [text for text in texts if text in self.by_text])
                for family, texts in self._texts_of.items()
            )
            self._texts_of = {family: texts for family, texts in kept if texts}
        self._n_texts = len(self.by_text)
        for family, scrape in list(self._described_in.items()):
            if now - scrape > _KEPT_SCRAPES:
                del self._described_in[family]
                self._types.pop(family, None)
                self.metadata.pop(family, None)
                self._sent.pop(family, None)
                self.metadata_changes += 1

    def take_changed_metadata(self) -> tuple[MetricMetadata, ...]:
        """The metadata that was not taken yet."""
        if self._sent == self.metadata:
            return ()
        changed = tuple(m for name, m in self.metadata.items() if self._sent.get(name) != m)
        self._sent = dict(self.metadata)
        self.metadata_changes += 1
        return changed


class Scrape:
    """The samples of one scrape; what `promcompat.imports.strict_exposition` reads lines into."""

    def __init__(self, known: TargetSeries, time_ms: int, latest_ms: int) -> None:
        self.by_text = known.by_text
        self.metadata = known.metadata
        self.note_family = known.note_family
        self.counts = ScrapeCounts()
        self._known = known
        self._number = known.scrape
        self._time_ms = time_ms
        self._latest_ms = latest_ms
        self._rows = Rows()
        self._tracked: list[ScrapedSeries] = []
        self._exemplars: list[tuple[ScrapedSeries, ScrapedExemplar, int]] = []
        self._messages: dict[int, tuple[bytes, ScrapeCounts, int]] = {}
        """Native histograms by the numbers of their rows, with what was there before them."""
        self._histograms = known.job.histograms
        self._native: set[bytes] = set()
        """The keys of native histograms."""
        self._classic = ClassicHistograms() if self._histograms.converts_classic else None
        self._limits = known.job.limits
        self._honors_times = known.job.honor_timestamps
        self._tracks_all = known.job.tracks_timestamps_staleness
        self._is_over_limit = False

    def new_series(self, text: str, labels: dict[str, str]) -> ScrapedSeries:
        """See the port. Raises ScrapeError for labels that fail the scrape."""
        part = None
        if self._classic is not None:
            part = part_of(labels, self.metadata)
            family = family_of_part(labels)
            if family:
                self._known.note_part(family, text)
        if part is not None and not self._histograms.keeps_classic:
            found = self.by_text[text] = ScrapedSeries(b"", Labels(), part=part)
            return found
        merged = self._known.merge.of_sample(labels)
        if merged is None or not merged.pairs:
            # The sample is counted as scraped, and nothing else happens to it.
            found = ScrapedSeries(b"", Labels())
        else:
            self._check_labels(merged)
            found = self._known.series_of(merged)
            found.part = part
        self.by_text[text] = found
        return found

    def add(self, series: ScrapedSeries, time_ms: int | None, value: float) -> None:
        """See the port."""
        if series.part is not None and self._classic is not None:
            self._classic.add(series.part, time_ms, value)
            if not self._histograms.keeps_classic:
                series.seen_in = self._number
                return
        at_ms = self._accept(series, time_ms, value)
        if at_ms is not None:
            self._rows.add(series, at_ms, value)

    def add_histogram(self, series: ScrapedSeries, time_ms: int | None, message: bytes) -> None:
        """Add a native histogram, as a message of remote write; times are as those of `add`."""
        before = replace(self.counts, n_scraped=self.counts.n_scraped + 1), len(self._tracked)
        at_ms = self._accept(series, time_ms, message)
        self._native.add(series.key)
        if at_ms is not None:
            self._messages[len(self._rows.series)] = message, *before
            self._rows.add(series, at_ms, 0.0)

    def _accept(
        self, series: ScrapedSeries, time_ms: int | None, value: float | bytes
    ) -> int | None:
        """Count a sample; the time at which it is to be stored, or None."""
        counts, number = self.counts, self._number
        counts.n_scraped += 1
        if not series.key:
            series.seen_in = number
            return None
        counts.n_kept += 1
        is_again, is_new = series.seen_in == number, not series.seen_in
        series.seen_in = number
        has_time = time_ms is not None and self._honors_times
        if is_again and not has_time:
            counts.n_duplicates += 1
            return None
        at_ms = time_ms if has_time and time_ms is not None else self._time_ms
        if not self._is_in_order(series, at_ms, value):
            return None
        if self._limits.samples and len(self._rows.series) >= self._limits.samples:
            # The rest is still read, so that the numbers of samples are right.
            self._is_over_limit = True
            return None
        series.last_ms, series.last_value = at_ms, value
        counts.n_series_added += is_new
        if (not has_time or self._tracks_all) and series.tracked_in != number:
            series.tracked_in = number
            self._tracked.append(series)
        return at_ms

    def _check_labels(self, labels: Labels) -> None:
        try:
            check_labels(labels, self._limits)
            if self._known.job.legacy_names:
                check_legacy_names(labels)
        except ScrapeError:
            # The scrape fails at a sample that it has read.
            self.counts.n_scraped += 1
            raise

    def _is_in_order(self, series: ScrapedSeries, at_ms: int, value: float | bytes) -> bool:
        """Whether a sample may be stored by the rules of Prometheus; counts it if not."""
        if at_ms > self._latest_ms:
            self.counts.n_out_of_bounds += 1
        elif at_ms < series.last_ms:
            self.counts.n_out_of_order += 1
        elif at_ms == series.last_ms and value != series.last_value and value == value:
            self.counts.n_duplicates += 1
        else:
            return True
        return False

    def add_exemplar(
        self, series: ScrapedSeries, labels: dict[str, str], value: float, time_ms: int | None
    ) -> None:
        """See the port; one that was there before is the same one."""
        found = (labels, value, time_ms)
        if series.part is not None and self._classic is not None:
            self._classic.add_exemplar(series.part, found)
        if series.key and series.exemplar != found:
            self._exemplars.append((series, found, self._time_ms if time_ms is None else time_ms))

    def add_timed_exemplars(
        self, series: ScrapedSeries, exemplars: Iterable[ScrapedExemplar]
    ) -> None:
        """Add those of a native histogram: what has no time, or was there before, is left out."""
        last_ms = series.exemplar[2] if series.exemplar else None
        timed = [(at, found) for found in exemplars if (at := found[2]) is not None]
        for at_ms, found in sorted(timed, key=lambda item: item[0]):
            if series.key and (last_ms is None or at_ms > last_ms):
                self._exemplars.append((series, found, at_ms))

    def complete(self) -> tuple[Rows, list[ScrapedSeries], Sequence[SeriesExemplar]]:
        """The samples, the series that have gone, and exemplars.

        Raises SampleLimitError, BucketLimitError, and ScrapeError for an invalid histogram.
        """
        if self._classic is not None:
            self._convert(self._classic)
        if self._is_over_limit:
            raise SampleLimitError("sample limit exceeded")
        if self._messages:
            self._read_histograms()
        exemplars = []
        for series, found, at_ms in self._exemplars:
            series.exemplar = found
            exemplar = Exemplar(Labels.of(found[0]), found[1], at_ms)
            exemplars.append(SeriesExemplar(series.labels, exemplar))
        stale = self._known.end(self._tracked, is_complete=True)
        return self._rows, stale, exemplars

    def _convert(self, classic: ClassicHistograms) -> None:
        """Add classic histograms as native ones, unless there is a native one already."""
        for found in classic.converted():
            series = self.by_text.get(found.text)
            if series is None:
                series = self.new_series(found.text, dict(found.labels))
            if not series.key or series.key not in self._native:
                self.add_histogram(series, found.time_ms, found.message)
                self.add_timed_exemplars(series, found.exemplars)

    def _read_histograms(self) -> None:
        added = list(self._messages.values())
        try:
            found = read_histograms(
                [message for message, _, _ in added], self._known.job.histograms
            )
        except HistogramError as exc:
            self._fail_at(*added[exc.number][1:])
            kind = BucketLimitError if exc.is_too_large else ScrapeError
            raise kind(str(exc)) from exc
        self._rows.histograms = found.histograms
        for row, cell in zip(self._messages, found.cells.tolist(), strict=True):
            self._rows.values[row] = cell

    def _fail_at(self, counts: ScrapeCounts, n_tracked: int) -> None:
        """Forget what was read after a sample, as if the reading had ended there."""
        self.counts = counts
        for series in self._tracked[n_tracked:]:
            series.tracked_in = 0
            series.last_ms = min(series.last_ms, self._time_ms - 1)


def batch_of(
    rows: Rows,
    stale: Mapping[int, Iterable[ScrapedSeries]],
    metadata: tuple[MetricMetadata, ...] = (),
    exemplars: Sequence[SeriesExemplar] = (),
) -> ScrapedBatch:
    """The samples, and a stale marker at each time of `stale` for each of its series."""
    markers = [(series, time_ms) for time_ms, gone in stale.items() for series in gone]
    n_rows, n_all = len(rows.series), len(rows.series) + len(markers)
    values = np.fromiter((*rows.values, *[0.0] * len(markers)), np.float64, n_all)
    bits = values.view(np.uint64)
    bits[np.isnan(values) & ~_is_kept_nan(values)] = NORMAL_NAN_BITS
    bits[n_rows:] = STALE_NAN_BITS
    times = np.fromiter((*rows.times, *(time_ms for _, time_ms in markers)), np.int64, n_all)
    keys = [series.key for series in (*rows.series, *(series for series, _ in markers))]
    columns = ImportedColumns(
        keys,
        np.arange(n_all),
        times,
        values,
        Faults(),
        metadata=metadata,
        histograms=rows.histograms,
    )
    return ScrapedBatch(columns, exemplars)


def _is_kept_nan(values: FloatArray) -> BoolArray:
    """Cells of native histograms, and their stale markers."""
    return is_histogram(values) | is_stale(values)
