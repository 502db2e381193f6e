"""Scrapes one target again and again."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from promcompat.core.clock import wall_clock_ms
from promcompat.core.exemplars import SeriesExemplar
from promcompat.core.model import Labels
from promcompat.core.texts.strconv import format_decimal
from promcompat.imports.strict_exposition import ExpositionError, read_open_metrics, read_text
from promcompat.outgoing.policy import ANYWHERE, OutgoingPolicy
from promcompat.scraping.configuration import JobConfig, ScrapeProtocol
from promcompat.scraping.fetching import Answer, BodyTooLargeError, FetchError, HttpFetcher
from promcompat.scraping.protobuf_exposition import read_protobuf
from promcompat.scraping.scrape_limits import (
    BucketLimitError,
    LabelLimitError,
    SampleLimitError,
    ScrapeError,
)
from promcompat.scraping.series_cache import (
    Rows,
    Scrape,
    ScrapedBatch,
    ScrapedSeries,
    TargetSeries,
    batch_of,
)
from promcompat.scraping.targets import Target
from promcompat.telemetry.scraping import ScrapeMetrics
from promcompat.version import promcompat_version

_LOGGER = logging.getLogger(__name__)
_TOLERANCE_MS: Final = 2.0
_THREAD_BYTES: Final = 1 << 15
"""Larger bodies are read in a thread, so that the service's other work does not wait."""
_MEDIA_TYPE: Final = re.compile(r"[^\s/;,]+(/[^\s/;,]+)?")
_FIRST_WEIGHT: Final = 6
_OPEN_METRICS: Final = "application/openmetrics-text"
_TEXT: Final = "text/plain"
_PROTOBUF: Final = "application/vnd.google.protobuf"
_MEDIA: Final = {
    ScrapeProtocol.PROTOBUF: f"{_PROTOBUF};proto=io.prometheus.client.MetricFamily;"
    "encoding=delimited",
    ScrapeProtocol.OPEN_METRICS_0: f"{_OPEN_METRICS};version=0.0.1",
    ScrapeProtocol.OPEN_METRICS_1: f"{_OPEN_METRICS};version=1.0.0;escaping={{}}",
    ScrapeProtocol.TEXT_0: f"{_TEXT};version=0.0.4",
    ScrapeProtocol.TEXT_1: f"{_TEXT};version=1.0.0;escaping={{}}",
}


@dataclass(frozen=True, slots=True)
class LoopSurroundings:
    """What the loops of a scraper share. `extra_labels` are set on every series without them."""

    deliver: Callable[[ScrapedBatch], None]
    metrics: ScrapeMetrics
    live_keys: Callable[[], Awaitable[Collection[bytes]]]
    """The keys of the series that some loop has now."""
    extra_labels: Labels = field(default_factory=Labels)
    seed: int = 0
    policy: OutgoingPolicy = ANYWHERE


@dataclass(slots=True)
class LastScrape:
    """How the last scrape went; health is `unknown` before the first one."""

    health: str = "unknown"
    error: str = ""
    at_ms: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Outcome:
    rows: Rows
    stale: list[ScrapedSeries]
    error: str = ""
    body_bytes: int = 0


class TargetLoop:
    """The scrapes of a target; `forced_error` fails all of them until it is empty again."""

    def __init__(self, target: Target, fetcher: HttpFetcher, around: LoopSurroundings) -> None:
        self.target = target
        self.last = LastScrape()
        self.forced_error = ""
        self.series = TargetSeries(target, around.extra_labels)
        self._fetcher = fetcher
        self._around = around
        self._next_at = 0.0
        self._headers = request_headers(target.job, target.timeout_ms)
        self._task = asyncio.create_task(self._run(), name=f"scrape {target.url}")

    async def stop(self) -> None:
        """Stop at once, without stale markers."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def end(self) -> None:
        """Stop for good: two intervals later, series that nobody else scrapes get stale markers.

        Their time is that of the first scrape that was missed, as in Prometheus.
        """
        await self.stop()
        if self.last.at_ms is None:
            return
        loop, interval = asyncio.get_running_loop(), self.target.interval_ms / 1000
        await asyncio.sleep(max(0.0, self._next_at - loop.time()))
        missed_ms = wall_clock_ms()
        await asyncio.sleep(1.1 * interval)
        live = await self._around.live_keys()
        gone = [key for key in self.series.tracked_keys if key not in live]
        series = [ScrapedSeries(key, Labels()) for key in gone]
        if series:
            self._around.deliver(batch_of(Rows(), {missed_ms: series}))

    async def _run(self) -> None:
        loop, interval = asyncio.get_running_loop(), self.target.interval_ms / 1000
        await asyncio.sleep(self.target.offset_seconds(time.time(), self._around.seed))
        self._next_at, aligned_ms = loop.time(), time.time() * 1000
        while True:
            now_ms = time.time() * 1000
            aligned_ms += (now_ms - aligned_ms) // self.target.interval_ms * self.target.interval_ms
            is_close = now_ms - aligned_ms <= min(_TOLERANCE_MS, self.target.interval_ms / 100)
            self._next_at += interval
            await self._scrape_safely(int(aligned_ms if is_close else now_ms))
            late = loop.time() - self._next_at
            if late > 0:
                self._next_at += late // interval * interval
            await asyncio.sleep(max(0.0, self._next_at - loop.time()))

    async def _scrape_safely(self, time_ms: int) -> None:
        try:
            await self.scrape(time_ms)
        except Exception:
            # The boundary of a scrape: what fails must not prevent later ones.
            _LOGGER.exception("scrape failed", extra={"target": self.target.url})

    async def scrape(self, time_ms: int) -> None:
        """Scrape once, and deliver samples, stale markers and the series about the scrape."""
        started = time.perf_counter()
        scrape = self.series.begin(time_ms, wall_clock_ms())
        outcome, exemplars = await self._attempt(scrape)
        seconds = time.perf_counter() - started
        self._report(outcome, scrape, time_ms, seconds)
        self.last = LastScrape(
            "down" if outcome.error else "up", outcome.error, wall_clock_ms(), seconds
        )
        stale = [series for series in outcome.stale if series.last_ms < time_ms]
        metadata = self.series.take_changed_metadata()
        self._around.deliver(batch_of(outcome.rows, {time_ms: stale}, metadata, exemplars))
        self._count(scrape, outcome)

    async def _attempt(self, scrape: Scrape) -> tuple[_Outcome, list[SeriesExemplar]]:
        n_bytes = 0
        try:
            answer = await self._fetch()
            n_bytes = len(answer.body)
            if not n_bytes:
                return _Outcome(Rows(), self.series.fail()), []
            read = self._read
            if n_bytes > _THREAD_BYTES:
                await asyncio.to_thread(read, answer, scrape)
            else:
                read(answer, scrape)
            rows, stale, exemplars = scrape.complete()
            return _Outcome(rows, stale, body_bytes=n_bytes), list(exemplars)
        except (FetchError, ExpositionError, ScrapeError) as exc:
            self._count_failure(exc)
            n_bytes = -1 if isinstance(exc, BodyTooLargeError) else n_bytes
            return _Outcome(Rows(), self.series.fail(), str(exc), n_bytes), []

    async def _fetch(self) -> Answer:
        if self.forced_error:
            raise ScrapeError(self.forced_error)
        target = self.target
        return await self._fetcher.get(
            target.url, self._headers, target.job.limits.body_bytes, target.timeout_ms / 1000
        )

    def _read(self, answer: Answer, scrape: Scrape) -> None:
        job = self.target.job
        media = media_type_of(answer.content_type, job.fallback_protocol)
        if media == _PROTOBUF:
            kinds = job.histograms
            read_protobuf(
                answer.body, scrape, has_native=kinds.has_native, has_classic=kinds.keeps_classic
            )
            return
        try:
            body = answer.body.decode()
        except UnicodeDecodeError as exc:
            line = answer.body.count(b"\n", 0, exc.start) + 1
            raise ExpositionError(f"line {line}: invalid UTF-8") from exc
        (read_open_metrics if media == _OPEN_METRICS else read_text)(body, scrape)

    def _report(self, outcome: _Outcome, scrape: Scrape, time_ms: int, seconds: float) -> None:
        counts, job = scrape.counts, self.target.job
        values: dict[str, float] = {
            "up": 0.0 if outcome.error else 1.0,
            "scrape_duration_seconds": seconds,
            "scrape_samples_scraped": counts.n_scraped,
            "scrape_samples_post_metric_relabeling": counts.n_kept,
            "scrape_series_added": counts.n_series_added,
        }
        if job.extra_metrics:
            values["scrape_timeout_seconds"] = self.target.timeout_ms / 1000
            values["scrape_sample_limit"] = job.limits.samples
            values["scrape_body_size_bytes"] = outcome.body_bytes
        for name, value in values.items():
            outcome.rows.add(self.series.report_series(name), time_ms, value)

    def _count(self, scrape: Scrape, outcome: _Outcome) -> None:
        metrics, counts = self._around.metrics, scrape.counts
        metrics.scrapes.labels("down" if outcome.error else "up").inc()
        metrics.count("duplicates", counts.n_duplicates)
        metrics.count("out_of_order", counts.n_out_of_order)
        metrics.count("out_of_bounds", counts.n_out_of_bounds)

    def _count_failure(self, error: Exception) -> None:
        metrics = self._around.metrics
        match error:
            case SampleLimitError():
                metrics.count("over_sample_limit")
            case BucketLimitError():
                metrics.count("over_bucket_limit")
            case LabelLimitError():
                metrics.count("over_label_limits")
            case BodyTooLargeError():
                metrics.count("over_body_limit")


def request_headers(job: JobConfig, timeout_ms: int) -> dict[str, str]:
    """The headers of a scrape: formats in the order in which they are preferred, and so on."""
    accepted = [_MEDIA[protocol].format(job.escaping) for protocol in job.protocols]
    weighted = [
        f"{media};q=0.{_FIRST_WEIGHT - place}" for place, media in enumerate([*accepted, "*/*"])
    ]
    return {
        "Accept": ",".join(weighted),
        "Accept-Encoding": "gzip" if job.enable_compression else "identity",
        "User-Agent": f"promcompat/{promcompat_version()}",
        "X-Prometheus-Scrape-Timeout-Seconds": format_decimal(timeout_ms / 1000),
    }


def media_type_of(content_type: str, fallback: ScrapeProtocol | None) -> str:
    """The media type of a body that can be read. Raises ScrapeError for other formats."""
    media = content_type.partition(";")[0].strip().lower()
    if not _MEDIA_TYPE.fullmatch(media):
        media = ""
    if media in (_OPEN_METRICS, _TEXT, _PROTOBUF):
        return media
    if fallback is not None:
        return _MEDIA[fallback].partition(";")[0]
    without = "and no fallback_scrape_protocol specified for target"
    if not content_type:
        raise ScrapeError(f"non-compliant scrape target sending blank Content-Type {without}")
    if not media:
        raise ScrapeError(
            "non-compliant scrape target sending unparsable Content-Type "
            f'"{content_type}" {without}'
        )
    raise ScrapeError(f'received unsupported Content-Type "{media}" {without}')
