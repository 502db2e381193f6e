"""What is known of a target's series from scrape to scrape, and the samples of one scrape."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from promcompat.core.exemplars import Exemplar, SeriesExemplar
from promcompat.core.model import METRIC_NAME, STALE_NAN_BITS, Labels, MetricMetadata
from promcompat.core.ports import ALL_TIME_MS
from promcompat.core.strconv import quote
from promcompat.imports.columns import NORMAL_NAN_BITS, Faults, ImportedColumns
from promcompat.remote_write.series_key import encode_series_key
from promcompat.scraping.configuration import ScrapeLimits
from promcompat.scraping.targets import LabelMerge, Target

MAX_FUTURE_MS: Final = 600_000
"""How far ahead of now a sample's own time may be, as in Prometheus."""
_KEPT_SCRAPES: Final = 10
"""Metadata stays for so many scrapes after its metric has gone."""
_SPARE_TEXTS: Final = 1_000
_SHOWN: Final = 50
_LEGACY_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LEGACY_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ScrapedExemplar = tuple[Labels, float, int | None]
"""Labels, value and, if the target says one, time."""


class ScrapeError(Exception):
    """The scrape fails; the text is the target's last error."""


class SampleLimitError(ScrapeError):
    """More samples than `sample_limit`."""


class LabelLimitError(ScrapeError):
    """Labels that exceed a limit."""


@dataclass(slots=True, eq=False)
class ScrapedSeries:
    """A series of a target. `key` are the wire bytes of its labels; empty: relabelling drops it.

    `seen_in` and `tracked_in` are numbers of scrapes: the last one that had it, and the last one
    after which it gets a stale marker when it is gone.
    """

    key: bytes
    labels: Labels
    seen_in: int = 0
    tracked_in: int = 0
    last_ms: int = ALL_TIME_MS[0]
    last_value: float = 0.0
    exemplar: _ScrapedExemplar | None = None


@dataclass(frozen=True, slots=True)
class ScrapedBatch:
    """Samples on their way to where they are stored."""

    columns: ImportedColumns
    exemplars: Sequence[SeriesExemplar] = ()

    @property
    def n_rows(self) -> int:
        """How many samples it has, at least 1 for the memory that metadata needs."""
        return max(1, len(self.columns.series))


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

    def add(self, series: ScrapedSeries, time_ms: int, value: float) -> None:
        """Add a sample."""
        self.series.append(series)
        self.times.append(time_ms)
        self.values.append(value)

    def extend(self, rows: "Rows") -> None:
        """Add the samples of another one."""
        self.series += rows.series
        self.times += rows.times
        self.values += rows.values


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
        self._by_key: dict[bytes, ScrapedSeries] = {}
        self._tracked: list[ScrapedSeries] = []
        self._described_in: dict[str, int] = {}
        self._sent: dict[str, MetricMetadata] = {}
        self._n_texts = 0
        self._reports: dict[str, ScrapedSeries] = {}

    @property
    def tracked_keys(self) -> Iterable[bytes]:
        """The keys of the series that the last scrape had, and of those about the scrapes."""
        series = [*self._tracked, *self._reports.values()]
        return (found.key for found in series)

    def begin(self, time_ms: int, now_ms: int) -> "Scrape":
        """A new scrape, whose samples have this time unless they have one of their own."""
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
        """Note that the current scrape describes a family."""
        self._described_in[described.family] = self.scrape

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
        self._n_texts = len(self.by_text)
        for family, scrape in list(self._described_in.items()):
            if now - scrape > _KEPT_SCRAPES:
                del self._described_in[family]
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
        self._exemplars: list[tuple[ScrapedSeries, _ScrapedExemplar, int]] = []
        self._limits = known.job.limits
        self._honors_times = known.job.honor_timestamps
        self._tracks_all = known.job.tracks_timestamps_staleness
        self._is_over_limit = False

    def new_series(self, text: str, labels: dict[str, str]) -> ScrapedSeries:
        """See the port. Raises ScrapeError for labels that fail the scrape."""
        merged = self._known.merge.of_sample(labels)
        if merged is None or not merged.pairs:
            # The sample is counted as scraped, and nothing else happens to it.
            found = ScrapedSeries(b"", Labels())
        else:
            self._check_labels(merged)
            found = self._known.series_of(merged)
        self.by_text[text] = found
        return found

    def add(self, series: ScrapedSeries, time_ms: int | None, value: float) -> None:
        """See the port."""
        counts, number = self.counts, self._number
        counts.n_scraped += 1
        if not series.key:
            series.seen_in = number
            return
        counts.n_kept += 1
        is_again, is_new = series.seen_in == number, not series.seen_in
        series.seen_in = number
        has_time = time_ms is not None and self._honors_times
        if is_again and not has_time:
            counts.n_duplicates += 1
            return
        at_ms = time_ms if has_time and time_ms is not None else self._time_ms
        if not self._is_in_order(series, at_ms, value):
            return
        if self._limits.samples and len(self._rows.series) >= self._limits.samples:
            # The rest is still read, so that the numbers of samples are right.
            self._is_over_limit = True
            return
        series.last_ms, series.last_value = at_ms, value
        self._rows.add(series, at_ms, value)
        counts.n_series_added += is_new
        if (not has_time or self._tracks_all) and series.tracked_in != number:
            series.tracked_in = number
            self._tracked.append(series)

    def _check_labels(self, labels: Labels) -> None:
        try:
            check_labels(labels, self._limits)
            if self._known.job.legacy_names:
                check_legacy_names(labels)
        except ScrapeError:
            # The scrape fails at a sample that it has read.
            self.counts.n_scraped += 1
            raise

    def _is_in_order(self, series: ScrapedSeries, at_ms: int, value: float) -> bool:
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
        found = (Labels.of(labels), value, time_ms)
        if series.key and series.exemplar != found:
            self._exemplars.append((series, found, self._time_ms if time_ms is None else time_ms))

    def complete(self) -> tuple[Rows, list[ScrapedSeries], Sequence[SeriesExemplar]]:
        """The samples, the series that have gone, and exemplars. Raises SampleLimitError."""
        if self._is_over_limit:
            raise SampleLimitError("sample limit exceeded")
        exemplars = []
        for series, found, at_ms in self._exemplars:
            series.exemplar = found
            exemplars.append(SeriesExemplar(series.labels, Exemplar(found[0], found[1], at_ms)))
        stale = self._known.end(self._tracked, is_complete=True)
        return self._rows, stale, exemplars


def check_labels(labels: Labels, limits: ScrapeLimits) -> None:
    """Raises ScrapeError for a missing name, and LabelLimitError, with the texts of Prometheus."""
    metric = labels.get(METRIC_NAME)
    if not metric:
        raise ScrapeError("missing metric name (__name__ label)")
    shown = metric[:_SHOWN]
    if limits.labels and len(labels) > limits.labels:
        raise LabelLimitError(
            f"label_limit exceeded (metric: {shown}, number of labels: {len(labels)}, "
            f"limit: {limits.labels})"
        )
    if not (limits.label_name_bytes or limits.label_value_bytes):
        return
    for name, value in labels:
        n_name, n_value = len(name.encode()), len(value.encode())
        if 0 < limits.label_name_bytes < n_name:
            raise LabelLimitError(
                f"label_name_length_limit exceeded (metric: {shown}, label name: {name[:_SHOWN]}, "
                f"length: {n_name}, limit: {limits.label_name_bytes})"
            )
        if 0 < limits.label_value_bytes < n_value:
            raise LabelLimitError(
                f"label_value_length_limit exceeded (metric: {shown}, label name: {name[:_SHOWN]}, "
                f"value: {quote(value[:_SHOWN])}, length: {n_value}, "
                f"limit: {limits.label_value_bytes})"
            )


def check_legacy_names(labels: Labels) -> None:
    """Raises ScrapeError, with Prometheus' text, for names that only UTF-8 allows."""
    if not _LEGACY_METRIC.fullmatch(labels.get(METRIC_NAME)) or not all(
        _LEGACY_LABEL.fullmatch(name) for name, _ in labels
    ):
        raise ScrapeError(f"invalid metric name or label names: {labels}")


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
    bits[np.isnan(values)] = NORMAL_NAN_BITS
    bits[n_rows:] = STALE_NAN_BITS
    times = np.fromiter((*rows.times, *(time_ms for _, time_ms in markers)), np.int64, n_all)
    keys = [series.key for series in (*rows.series, *(series for series, _ in markers))]
    columns = ImportedColumns(keys, np.arange(n_all), times, values, Faults(), metadata=metadata)
    return ScrapedBatch(columns, exemplars)
