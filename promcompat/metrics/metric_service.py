"""Writes samples, and lists series, labels and metadata."""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from promcompat.core.clock import wall_clock_ms
from promcompat.core.errors import WriteRejectedError
from promcompat.core.label_counts import LabelCounts
from promcompat.core.limits.label_limits import LabelFault, LabelLimits
from promcompat.core.limits.limit_definitions import LIMIT_OF
from promcompat.core.limits.tenant_limits import NO_LIMITS, Limits
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import IntArray, Labels, MetricMetadata, SampleBlock, WriteBatch
from promcompat.core.ports import Catalogue, MatcherSets, Store
from promcompat.core.series_table import KnownSeries
from promcompat.metrics.sample_stream import sample_portions
from promcompat.querying.query_service import TRUNCATION_WARNING

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Listing(Generic[ItemT]):
    """The start of a sorted list, with a warning when it was cut."""

    items: list[ItemT]
    warnings: tuple[str, ...] = ()

    @classmethod
    def cut(cls, items: list[ItemT], limit: int) -> "Listing[ItemT]":
        """The first `limit` items (0: all) of a list that was read with one more."""
        if limit and len(items) > limit:
            return cls(items[:limit], (TRUNCATION_WARNING,))
        return cls(items)


class MetricService:
    """Writes and listings, each for one tenant."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        *,
        limits: Limits = NO_LIMITS,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """`limits` are those of the store; request readers report what is too long by them."""
        self._store = store
        self._catalogue = catalogue
        self._limits = limits
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """The current time, Unix milliseconds."""
        return self._now_ms()

    def label_limits(self, tenant: str) -> LabelLimits:
        """How large the series of a tenant may be."""
        return self._limits.of(tenant).labels

    def count_refused(self, tenant: str, limit: str, n_samples: int) -> None:
        """Count samples that a limit refused before `write` was called."""
        self._limits.refusals.count(tenant, limit, n_samples)

    def count_faults(self, tenant: str, reasons: Iterable[str]) -> None:
        """Count those of the reasons, why series were refused, that are limits."""
        for reason in reasons:
            if isinstance(reason, LabelFault):
                self._limits.refusals.count(tenant, reason.limit)

    def latest_ms(self, tenant: str) -> int | None:
        """The latest time that a sample of a tenant may have now, None without a bound."""
        ahead_ms = self._limits.of(tenant).creation_grace_period
        return self._now_ms() + ahead_ms if ahead_ms else None

    def earliest_ms(self, tenant: str) -> int | None:
        """The earliest time that a sample of a tenant may have now, None without a bound."""
        age_ms = self._limits.of(tenant).past_grace_period
        return self._now_ms() - age_ms if age_ms else None

    def known_series(self, tenant: str) -> KnownSeries:
        """The series whose labels a decoder may skip; see the port."""
        return self._store.known_series(tenant)

    async def write(self, tenant: str, batch: WriteBatch) -> None:
        """Store a batch; returns only when its rows are committed.

        A sample too far in the future, or older than the tenant may write, is not stored; all
        others are, and WriteRejectedError is raised with Prometheus' text. Other errors are those
        of `Store.write_batch`.
        """
        refused = self._untimely(tenant, batch)
        if not refused:
            await self._store.write_batch(tenant, batch)
            return
        is_kept = np.ones(len(batch), np.bool_)
        is_kept[list(refused)] = False
        kept = batch.rows(is_kept)
        try:
            if len(kept) or kept.metadata:
                await self._store.write_batch(tenant, kept)
        except WriteRejectedError as exc:
            raise exc.of_larger_batch(np.flatnonzero(is_kept).tolist(), refused) from exc
        raise WriteRejectedError(next(iter(refused.values())), refused=refused)

    async def count_unseen(self, tenant: str, timestamps: IntArray) -> int:
        """How many samples of a tenant with these times nobody sees; see the port."""
        return await self._store.count_unseen(tenant, timestamps)

    def _untimely(self, tenant: str, batch: WriteBatch) -> dict[int, str]:
        """The rows whose time is out of bounds, and why."""
        latest_ms, earliest_ms = self.latest_ms(tenant), self.earliest_ms(tenant)
        refused: dict[int, str] = {}
        if latest_ms is not None and (too_late := batch.timestamps > latest_ms).any():
            rows = np.flatnonzero(too_late).tolist()
            self._limits.refusals.count(tenant, "creation_grace_period", len(rows))
            refused |= dict.fromkeys(rows, LIMIT_OF["creation_grace_period"].text)
        if earliest_ms is not None and (too_old := batch.timestamps < earliest_ms).any():
            rows = np.flatnonzero(too_old).tolist()
            text = self._limits.refuse(tenant, "past_grace_period", number=len(rows))
            refused |= dict.fromkeys(rows, text)
        return refused

    def portions(
        self, tenant: str, matchers: tuple[LabelMatcher, ...], start_ms: int, end_ms: int
    ) -> AsyncIterator[SampleBlock]:
        """All samples of matching series in `[start_ms, end_ms]`, by window of time."""
        return sample_portions(self._store, tenant, matchers, start_ms, end_ms)

    async def series(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int, limit: int
    ) -> Listing[Labels]:
        """The label sets of matching series with samples in `[start_ms, end_ms]`."""
        found = await self._catalogue.series(
            tenant, matcher_sets, start_ms, end_ms, _plus_one(limit)
        )
        return Listing.cut(found, limit)

    async def label_names(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int, limit: int
    ) -> Listing[str]:
        """The label names of such series."""
        found = await self._catalogue.label_names(
            tenant, matcher_sets, start_ms, end_ms, _plus_one(limit)
        )
        return Listing.cut(found, limit)

    async def label_values(
        self,
        tenant: str,
        name: str,
        matcher_sets: MatcherSets,
        start_ms: int,
        end_ms: int,
        limit: int,
    ) -> Listing[str]:
        """The values of one label among such series."""
        found = await self._catalogue.label_values(
            tenant, name, matcher_sets, start_ms, end_ms, _plus_one(limit)
        )
        return Listing.cut(found, limit)

    async def metadata(self, tenant: str, family: str | None) -> list[MetricMetadata]:
        """The metadata that senders reported for one family, or for all, sorted by family."""
        return await self._catalogue.metadata(tenant, family)

    async def label_counts(self, tenant: str) -> LabelCounts:
        """How many series have each label, of all series of a tenant."""
        return await self._catalogue.label_counts(tenant)

    async def sample_bounds(self, tenant: str) -> tuple[int, int] | None:
        """The times of a tenant's first and last samples (Unix ms); None if it has none."""
        return await self._store.sample_bounds(tenant)

    async def check_ready(self) -> None:
        """Returns when the database answers; raises StorageUnavailableError otherwise."""
        await self._store.ping()


def _plus_one(limit: int) -> int:
    return limit + 1 if limit else 0
