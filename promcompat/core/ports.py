"""What the inner layers ask of the outside, as Protocols. A tenant is named by its `str` name."""

from collections.abc import Container, Sequence
from typing import Protocol

from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import (
    Labels,
    MetricMetadata,
    SampleBlock,
    SeriesSelection,
    WriteBatch,
)

MatcherSets = Sequence[tuple[LabelMatcher, ...]]
"""Series that satisfy all matchers of any one set; no set at all means every series."""


class SampleReader(Protocol):
    """Where the query engine reads samples."""

    async def select(self, tenant: str, selections: Sequence[SeriesSelection]) -> list[SampleBlock]:
        """One block for each selection, in their order; an unknown tenant has no series.

        Raises StorageUnavailableError when the database cannot answer.
        """


class MetricRepository(SampleReader, Protocol):
    """Where samples and what is known of their series are kept."""

    def known_series(self, tenant: str) -> Container[bytes]:
        """The series keys (see `WriteBatch`) whose labels need not be decoded again."""

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        """Store a batch; returns only after its rows are committed.

        The tenant is created on its first write. A sample equal to a stored one (time and bits)
        is accepted. One with the same time and other bits is not stored, every other row is, and
        WriteRejectedError is raised in Prometheus' words. Raises OverloadedError when the queue
        is full and StorageUnavailableError when the database fails; then nothing is acknowledged.
        """

    async def series(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int, limit: int
    ) -> list[Labels]:
        """Label sets, sorted, of matching series with a sample in `[start_ms, end_ms]`.

        `limit` bounds the list (0: no limit); callers ask one more to learn of a truncation.
        """

    async def label_names(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int, limit: int
    ) -> list[str]:
        """Sorted label names of such series."""

    async def label_values(
        self,
        tenant: str,
        name: str,
        matcher_sets: MatcherSets,
        start_ms: int,
        end_ms: int,
        limit: int,
    ) -> list[str]:
        """Sorted values of one label among such series."""

    async def metadata(self, tenant: str, family: str | None) -> list[MetricMetadata]:
        """What senders said of one family, or of all, sorted by family."""

    async def ping(self) -> None:
        """Returns when the database answers; raises StorageUnavailableError otherwise."""
