"""The ports: Protocols that outer layers implement. A tenant is identified by its name."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeVar

from promcompat.core.alerting.thresholds import AlertThreshold
from promcompat.core.definitions import MetricDefinition
from promcompat.core.explanations import ExplanationDepth, SelectionExplanation
from promcompat.core.label_counts import LabelCounts
from promcompat.core.limits.tenant_limits import StoredAmount
from promcompat.core.maintenance import MaintenanceTask, StepNotes
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import (
    IntArray,
    Labels,
    MetricMetadata,
    SampleBlock,
    SeriesSelection,
    WriteBatch,
)
from promcompat.core.native_queries import SamplePageQuery, SampleRow
from promcompat.core.series_table import KnownSeries

ResultT = TypeVar("ResultT")

MatcherSets = Sequence[tuple[LabelMatcher, ...]]
"""Series that satisfy all matchers of any one set; no set at all means every series."""

ALL_TIME_MS = (-(1 << 62), 1 << 62)
"""Bounds that no time of a sample exceeds."""

CheckBytes = Callable[[int], None]
"""Called with the bytes that the selections of a query use so far; raises if these are too many."""


def any_bytes(n_bytes: int) -> None:
    """A CheckBytes without a limit."""


class LongParsing(Protocol):
    """Parses long texts where that delays the requests of other tenants least."""

    async def __call__(
        self, tenant: str, n_characters: int, function: Callable[[], ResultT], /
    ) -> ResultT:
        """The result of `function`, which parses `n_characters` of text.

        The function does no I/O and can be pickled. Raises what it raises, and QueryTimeoutError.
        """


async def work_in_thread(
    tenant: str, n_characters: int, function: Callable[[], ResultT], /
) -> ResultT:
    """The `LongParsing` of a process that serves nobody else, such as a command."""
    return await asyncio.to_thread(function)


class SampleReader(Protocol):
    """Where the query engine reads samples."""

    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
        *,
        asked_at: float | None = None,
    ) -> list[SampleBlock]:
        """One block for each selection, in their order; an unknown tenant has no series.

        They have every write that was acknowledged before `asked_at`, a time of `time.monotonic`
        (None: the time of the call). Questions with the same `asked_at` may share one read.
        Raises StorageUnavailableError when the database is not available, and whatever
        `check_bytes` raises, which is called while samples arrive.
        """


class SampleWriter(Protocol):
    """Where the service writes samples of its own, such as those of recording rules."""

    async def write(self, tenant: str, batch: WriteBatch) -> None:
        """Store a batch; returns when its rows are committed. Raises as `Store.write_batch`."""


class Store(SampleReader, Protocol):
    """Where samples are kept."""

    async def ask_ahead(self, tenant: str) -> float:
        """Begin to ask for what was written until now; the time to pass to `select` as `asked_at`.

        The answer is then under way while the query is parsed and planned. Raises nothing: `select`
        asks again if necessary.
        """

    def known_series(self, tenant: str) -> KnownSeries:
        """The series whose ids are at hand, for the decoder of one batch; see `WriteBatch`."""

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        """Store a batch and its metadata; returns only after its rows are committed.

        The tenant is created on its first write. A sample equal to a stored one (time and bits)
        is accepted. A sample with the same time and other bits is not stored; all other rows are,
        and WriteRejectedError is raised with Prometheus' text. A row timed by the server never
        conflicts: it is stored at the next free millisecond of its series, in the order of the
        batch. Raises StaleKnowledgeError when known ids in the batch may be gone: decode it again.
        Raises OverloadedError when the queue is full and StorageUnavailableError when the
        database fails; then nothing is acknowledged.
        """

    async def count_unseen(self, tenant: str, timestamps: IntArray) -> int:
        """How many samples of a tenant with these times nobody sees: they are past its retention.

        Raises StorageUnavailableError.
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
    """The series of a tenant, and the metadata of its metrics.

    Lists are sorted, and cover series with a sample in `[start_ms, end_ms]`. `limit` bounds them
    (0: no limit); callers pass one more to detect a truncation.
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

    async def label_counts(self, tenant: str) -> LabelCounts:
        """How many series have each label; of all series, with samples or without."""

    async def metadata(self, tenant: str, family: str | None) -> list[MetricMetadata]:
        """The metadata that senders reported for one family, or for all, sorted by family."""


TimeRange = tuple[int, int]
"""First and last Unix ms, both inclusive."""
ALL_TIME: Final[TimeRange] = ALL_TIME_MS


class SampleState(Protocol):
    """Which changes of a tenant's samples a store had made at some moment."""

    @property
    def settled_ms(self) -> int:
        """What is read of samples after this time may change without a trace (Unix ms)."""

    def changed_since(self, earlier: "SampleState") -> Sequence[TimeRange]:
        """The times whose samples have changed since an earlier state of the same store and tenant.

        The ranges ascend and are apart. They may cover more than what changed, and mean nothing for
        times that one of the states was not asked for.
        """


class ChangeReader(Protocol):
    """Tells caches of answers whether these are still valid."""

    async def sample_state(
        self, tenant: str, start_ms: int, end_ms: int, *, asked_at: float | None = None
    ) -> SampleState:
        """The state of samples in `[start_ms, end_ms]`; what is read afterwards is not older.

        It includes what was acknowledged before `asked_at`, as in `SampleReader`. Raises
        StorageUnavailableError.
        """


class DefinitionRepository(Protocol):
    """The store of metric definitions."""

    async def find(self, tenant: str, name: str) -> MetricDefinition | None:
        """The definition of a metric, if it has one."""

    async def list(
        self, tenant: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[MetricDefinition]:
        """Definitions in order of name: those that start with `prefix` and come after `after`."""

    async def amount(self, tenant: str) -> StoredAmount:
        """How many definitions the tenant has, and how large they are."""

    def n_bytes(self, definition: MetricDefinition) -> int:
        """How large a definition is when it is stored."""

    async def list_thresholds(
        self, tenant: str, names: Collection[str] | None = None
    ) -> Mapping[str, AlertThreshold]:
        """The thresholds of these metrics, or (None) of all, by metric name."""

    async def save(
        self, tenant: str, definition: MetricDefinition, expected_version: int
    ) -> MetricDefinition | None:
        """Store a definition in place of the one of `expected_version` (0: there is none yet).

        Returns it with its new version and times; None when the stored one has another version.
        """

    async def delete(self, tenant: str, name: str, expected_version: int) -> bool:
        """Delete the definition if it has this version; returns whether it was deleted."""


class SampleListReader(Protocol):
    """Reads individual samples and metric names for the native API."""

    async def sample_page(self, tenant: str, query: SamplePageQuery) -> list[SampleRow]:
        """The samples of a page in order of (time, series), at most `query.limit`."""

    async def latest_samples(
        self, tenant: str, matchers: tuple[LabelMatcher, ...], limit: int
    ) -> list[SampleRow]:
        """The newest sample, not a stale marker, of each matching series, sorted by labels."""

    async def sample_of_newest_series(
        self, tenant: str, matchers: tuple[LabelMatcher, ...]
    ) -> SampleRow | None:
        """The newest sample, not a stale marker, of the matching series that came last."""

    async def metric_names(self, tenant: str, prefix: str, after: str, limit: int) -> list[str]:
        """Names of metrics ever written that start with `prefix` and come after `after`, sorted."""


class MaintenanceStep(Protocol):
    """A step of maintenance: it may be stopped at any moment, and the next run finishes it."""

    @property
    def name(self) -> str:
        """What it does, in a word or two."""

    @property
    def unit(self) -> str:
        """What its amounts count."""

    async def plan(self) -> int:
        """How much `run` would do now, as far as that can be known without doing it."""

    async def run(self, notes: StepNotes) -> int:
        """Do what is due; returns how much. What fails by itself goes to the notes.

        Raises StorageUnavailableError and QueryTimeoutError; a later run may succeed.
        """


class MaintenanceSteps(Protocol):
    """The maintenance that a process may do while it holds the maintenance lock."""

    def ordered(self, task: MaintenanceTask) -> Sequence[MaintenanceStep]:
        """The steps of the store in their order: each finds what those before it have left."""


class MaintenanceRepository(Protocol):
    """Gives access to maintenance."""

    def lock(self) -> AbstractAsyncContextManager[MaintenanceSteps | None]:
        """Hold the maintenance lock; None when another process holds it."""
