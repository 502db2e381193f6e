"""What the inner layers ask of the outside, as Protocols. A tenant is named by its `str` name."""

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from promcompat.core.definitions import MetricDefinition
from promcompat.core.explanations import ExplanationDepth, SelectionExplanation
from promcompat.core.maintenance import OrphanSeries, RetainedMetric, SampleChunk, StaleHours
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import (
    Labels,
    MetricMetadata,
    SampleBlock,
    SeriesSelection,
    WriteBatch,
)
from promcompat.core.native_queries import SamplePageQuery, SampleRow
from promcompat.core.thresholds import AlertThreshold

MatcherSets = Sequence[tuple[LabelMatcher, ...]]
"""Series that satisfy all matchers of any one set; no set at all means every series."""


CheckBytes = Callable[[int], None]
"""Told how many bytes the selections of a query take so far; raises when these are too many."""


def any_bytes(n_bytes: int) -> None:
    """Lets selections take as many bytes as they will."""


class SampleReader(Protocol):
    """Where the query engine reads samples."""

    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
    ) -> list[SampleBlock]:
        """One block for each selection, in their order; an unknown tenant has no series.

        Raises StorageUnavailableError when the database cannot answer, and what `check_bytes`
        raises, which is asked while samples arrive.
        """


class Store(SampleReader, Protocol):
    """Where samples are kept."""

    def known_series(self, tenant: str) -> Container[bytes]:
        """The series keys (see `WriteBatch`) whose labels need not be decoded again."""

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        """Store a batch and its metadata; returns only after its rows are committed.

        The tenant is created on its first write. A sample equal to a stored one (time and bits)
        is accepted. One with the same time and other bits is not stored, every other row is, and
        WriteRejectedError is raised in Prometheus' words. A row timed by the server never
        conflicts and equals no stored one: it is stored at the next free millisecond of its
        series, in the order of the batch. Raises OverloadedError when the queue
        is full and StorageUnavailableError when the database fails; then nothing is acknowledged.
        """

    async def explain_select(
        self, tenant: str, selections: Sequence[SeriesSelection], depth: ExplanationDepth
    ) -> list[SelectionExplanation]:
        """How `select` reads each selection, in their order; `depth` may say to read it too.

        Raises as `select` does.
        """

    async def sample_bounds(self, tenant: str) -> tuple[int, int] | None:
        """The times of the tenant's first and last sample, Unix ms; None without samples."""

    async def ping(self) -> None:
        """Returns when the database answers; raises StorageUnavailableError otherwise."""


class Catalogue(Protocol):
    """What is known of series and metrics.

    Lists are sorted, and of series with a sample in `[start_ms, end_ms]`. `limit` bounds them
    (0: no limit); callers ask for one more to learn of a truncation.
    """

    async def series(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int, limit: int
    ) -> list[Labels]:
        """The label sets of matching series."""

    async def label_names(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int, limit: int
    ) -> list[str]:
        """The label names of matching series."""

    async def label_values(
        self,
        tenant: str,
        name: str,
        matcher_sets: MatcherSets,
        start_ms: int,
        end_ms: int,
        limit: int,
    ) -> list[str]:
        """The values of one label among matching series."""

    async def metadata(self, tenant: str, family: str | None) -> list[MetricMetadata]:
        """What senders said of one family, or of all, sorted by family."""


class LateWriteReader(Protocol):
    """What a cache of results asks for before it uses or makes an entry."""

    async def late_writes(self, tenant: str, first_day: int, last_day: int) -> Mapping[int, int]:
        """How often each day's samples were changed late (see `promcompat.core.caching`).

        Days are counted from 1970-01-01, both bounds included; a day that never was is left out.
        Whoever sees a late sample sees its count.
        """


class DefinitionRepository(Protocol):
    """Where metric definitions are kept."""

    async def find(self, tenant: str, name: str) -> MetricDefinition | None:
        """The definition of a metric, if it has one."""

    async def list(
        self, tenant: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[MetricDefinition]:
        """Definitions in order of name: those that start with `prefix` and come after `after`."""

    async def count(self, tenant: str) -> int:
        """How many definitions the tenant has."""

    async def list_thresholds(self, tenant: str) -> Mapping[str, AlertThreshold]:
        """The threshold of each metric that has one, by metric name."""

    async def version(self, tenant: str) -> int:
        """How often the tenant's definitions were changed: what a cache compares."""

    async def save(
        self, tenant: str, definition: MetricDefinition, expected_version: int
    ) -> MetricDefinition | None:
        """Store a definition in place of the one of `expected_version` (0: there is none yet).

        Returns it with its new version and times; None when the stored one has another version.
        """

    async def delete(self, tenant: str, name: str, expected_version: int) -> bool:
        """Delete the definition of this version; False when there is none of it."""


class SampleListReader(Protocol):
    """Where the native API reads single samples and metric names."""

    async def sample_page(self, tenant: str, query: SamplePageQuery) -> list[SampleRow]:
        """The samples of a page in order of (time, series), at most `query.limit`."""

    async def latest_samples(
        self, tenant: str, matchers: tuple[LabelMatcher, ...], limit: int
    ) -> list[SampleRow]:
        """The newest sample of each matching series that is no stale marker, sorted by labels."""

    async def metric_names(self, tenant: str, prefix: str, after: str, limit: int) -> list[str]:
        """Names of metrics ever written that start with `prefix` and come after `after`, sorted."""


class MaintenanceSteps(Protocol):
    """What one process may do to the database while it holds the lock of maintenance.

    Each call is one bounded step, or several, and is all done or not at all unless it says so. All
    raise StorageUnavailableError and QueryTimeoutError; another call may succeed afterwards.
    """

    async def fit_edition(self) -> None:
        """Make rollups and policies fit what the database can do today."""

    async def retained_metrics(self) -> list[RetainedMetric]:
        """Every metric with a retention, of all tenants."""

    async def chunks(self) -> list[SampleChunk]:
        """Every chunk of samples, the oldest first."""

    async def empty_chunks(self, ends_before_ms: int) -> list[SampleChunk]:
        """Those that end before a time and hold no sample."""

    async def drop_chunk(self, chunk: SampleChunk, *, only_empty: bool) -> bool:
        """Drop a chunk, with `only_empty` unless it holds a sample by now; whether it went."""

    async def delete_expired(
        self, metric: RetainedMetric, chunk: SampleChunk, before_ms: int
    ) -> int:
        """Delete the metric's samples of a chunk before a time; returns how many.

        What was deleted until a failure stays deleted.
        """

    async def orphan_series(self, after_id: int) -> OrphanSeries | None:
        """Look at some series in the order of their ids; None when there are none after that id."""

    async def remove_series(self, series_ids: Sequence[int]) -> int:
        """Remove those that still have no sample and no open alert; returns how many.

        A sample that is written under a removed id at the same time is not lost: its writer is told
        and makes the series anew.
        """

    async def collect_stale_hours(self, first_ms: int | None) -> list[StaleHours]:
        """Hours that were computed before their samples changed, none before `first_ms`."""

    async def compute_again(self, stale: StaleHours) -> None:
        """Compute hours again from the samples there are."""

    async def hours_computed_before(self) -> int | None:
        """The Unix ms up to which hours are computed; None when none was."""

    async def compute_hours(self, start_ms: int, end_ms: int) -> None:
        """Compute the hours of a time, whose start and end are whole hours."""

    async def hours_are_computed(self, before_ms: int) -> None:
        """There is no sample in hours before this time that are not computed."""


class MaintenanceRepository(Protocol):
    """Where maintenance is done."""

    def lock(self) -> AbstractAsyncContextManager[MaintenanceSteps | None]:
        """Hold the lock of maintenance; None when another process holds it."""
